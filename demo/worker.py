"""The workers of the demo: small programs that change a repository and act as their agent.

`contents` puts a list of sections into long Markdown pages; `inventory`, `largest` and `history`
write a page each. No model is asked: each charges what a model would have had to read, a token
for every four characters.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path


def bough(*words: str) -> None:
    """Act as this agent."""
    subprocess.run(["bough", *words], check=True, stdout=subprocess.DEVNULL)


def tracked() -> dict[Path, str]:
    """The text files of the repository."""
    listing = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True)
    found: dict[Path, str] = {}
    for name in filter(None, listing.stdout.decode().split("\0")):
        try:
            found[Path(name)] = Path(name).read_text()
        except (UnicodeDecodeError, OSError):
            continue
    return found


def with_contents(text: str) -> str:
    """A long Markdown page with a list of its sections before the first of them."""
    sections = [line[3:].strip() for line in text.splitlines() if line.startswith("## ")]
    if text.count("\n") < 40 or len(sections) < 3 or "<!-- contents -->" in text:
        return text
    anchors = [re.sub(r"[^\w -]", "", s.lower()).replace(" ", "-") for s in sections]
    rows = [f"- [{s}](#{a})" for s, a in zip(sections, anchors, strict=True)]
    head, rest = text.split("\n## ", 1)
    return "\n".join([head, "<!-- contents -->", *rows, "", "## " + rest])


def contents(files: dict[Path, str]) -> dict[Path, str]:
    """Long pages get a list of their sections."""
    return {path: with_contents(text) for path, text in files.items() if path.suffix == ".md"}


def history(files: dict[Path, str]) -> dict[Path, str]:
    """HISTORY.md: commits of each month, the newest first."""
    del files
    log = subprocess.run(
        ["git", "log", "--format=%ad", "--date=format:%Y-%m"], capture_output=True, check=True
    )
    months = Counter(log.stdout.decode().split())
    rows = [f"- {month}: {months[month]} commits" for month in sorted(months, reverse=True)]
    return {Path("HISTORY.md"): "\n".join(["# History", "", *rows]) + "\n"}


def inventory(files: dict[Path, str]) -> dict[Path, str]:
    """INVENTORY.md: files and lines of each kind."""
    kinds = Counter(path.suffix or path.name for path in files)
    lines = Counter[str]()
    for path, text in files.items():
        lines[path.suffix or path.name] += text.count("\n")
    rows = [f"| {kind} | {count} | {lines[kind]} |" for kind, count in kinds.most_common()]
    table = ["# What is in here", "", "| kind | files | lines |", "|---|---|---|", *rows]
    return {Path("INVENTORY.md"): "\n".join(table) + "\n"}


def largest(files: dict[Path, str]) -> dict[Path, str]:
    """LARGEST.md: the longest files."""
    order = sorted(files, key=lambda p: (-files[p].count("\n"), str(p)))[:20]
    rows = [f"- {path}: {files[path].count(chr(10))} lines" for path in order]
    return {Path("LARGEST.md"): "\n".join(["# The longest files", "", *rows]) + "\n"}


WORK: dict[str, Callable[[dict[Path, str]], dict[Path, str]]] = {
    "contents": contents,
    "history": history,
    "inventory": inventory,
    "largest": largest,
}


def main() -> None:
    """Do the work that the first argument names, and tell what came of it."""
    work = sys.argv[1]
    files = tracked()
    bough("report", "--progress", "0.5", f"read {len(files)} files")
    better = WORK[work](files)
    changed = [path for path, text in better.items() if files.get(path) != text]
    for path in changed:
        path.write_text(better[path])
        print(f"changed {path}", flush=True)
    read = sum(len(files[p]) for p in better if p in files) or len(files) * 40
    bough("charge", str(max(1, min(read // 4, 30_000))))
    bough("send", "parent", f"{work}: {len(changed)} files changed")
    bough("finish", "--result", json.dumps({"work": work, "changed": len(changed)}))


if __name__ == "__main__":
    main()
