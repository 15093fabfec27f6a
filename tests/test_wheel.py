"""What users install works with nothing but what the wheel names."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*args: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(args, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
    return done.stdout


async def test_the_installed_wheel_migrates_an_empty_database(
    empty_database: str, tmp_path: Path
) -> None:
    named = os.environ.get("UV", "uv")
    uv = shutil.which(named if "/" not in named else str((ROOT / named).resolve()))
    if uv is None:
        pytest.skip("NOT TESTED: THE WHEEL; uv is not here, run make test")
    run(uv, "build", "-q", "--wheel", "-o", str(tmp_path), str(ROOT))
    wheel = next(tmp_path.glob("bough-*.whl"))
    run(uv, "venv", "-q", str(tmp_path / "venv"))
    python = tmp_path / "venv/bin/python"
    constraints = tmp_path / "locked.txt"
    run(
        *(uv, "export", "-q", "--no-dev", "--no-emit-project", "--no-hashes"),
        *("--project", str(ROOT), "-o", str(constraints)),
    )
    run(
        *(uv, "pip", "install", "-q", "--python", str(python)),
        *("-c", str(constraints), str(wheel)),
    )
    # Only the installed files: no checkout on the path, no variables of ours.
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "BOUGH_DATABASE_URL": empty_database}
    bough = str(tmp_path / "venv/bin/bough")
    assert "at version" in run(bough, "db", "migrate", env=env)
    assert "sound" in run(bough, "db", "verify", env=env)
    assert run(bough, "ps", "--json", env=env).strip() == "[]"
