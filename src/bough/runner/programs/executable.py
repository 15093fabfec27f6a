"""Which file a command means, and why it cannot be run, in one line that a person can act on.

Looked up before a process is made, in the PATH that the program itself will have and relative to
the directory it will run in. What only the kernel knows (a missing interpreter, a wrong format)
comes back as an errno and is put into words here too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


class CannotStartError(Exception):
    """The program could not be started."""


class ProgramNotFound(CannotStartError):
    """There is no such program, or the interpreter that its first line names is missing."""


class ProgramNotExecutable(CannotStartError):
    """The file is there, but it cannot be run."""


class DirectoryMissing(CannotStartError):
    """The directory to run in cannot be entered."""


def find(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> str:
    """Return the path of the program; raises a CannotStartError that says what is wrong."""
    if not argv or not argv[0]:
        raise CannotStartError("cannot run an empty command; name a program")
    name = argv[0]
    _check_no_nul(argv, env)
    if not cwd.is_dir():
        raise DirectoryMissing(f"cannot run {name!r}: there is no directory {cwd}; make it again")
    if "/" in name:
        candidates = [cwd / name]
    else:
        path = env.get("PATH", os.defpath)
        candidates = [cwd / directory / name for directory in path.split(os.pathsep)]
    files = [candidate for candidate in candidates if candidate.is_file()]
    for file in files:
        if os.access(file, os.X_OK):
            return str(file)
    if files:
        mode = files[0].stat().st_mode & 0o7777
        raise ProgramNotExecutable(
            f"cannot run {name!r}: {files[0]} is not executable (mode {mode:04o}); chmod +x it"
        )
    if "/" in name:
        raise ProgramNotFound(f"cannot run {name!r}: there is no file {candidates[0]}; check it")
    raise ProgramNotFound(
        f"cannot run {name!r}: not found in the {len(candidates)} directories of PATH; "
        "install it or name it by its path"
    )


def refusal(name: str, file: str, cwd: Path, step: str, number: int) -> CannotStartError:
    """Put the errno of a failed chdir or exec into words."""
    why = os.strerror(number)
    if step == "chdir":
        return DirectoryMissing(f"cannot run {name!r}: cannot enter {cwd}: {why}; make it again")
    if number == errno.ENOENT:
        return ProgramNotFound(
            f"cannot run {name!r}: {file} or the interpreter that its first line names is missing; "
            "check the #! line"
        )
    if number == errno.ENOEXEC:
        return ProgramNotExecutable(
            f"cannot run {name!r}: {file} is no program for this machine; is a #! line missing?"
        )
    if number in (errno.EACCES, errno.EPERM):
        return ProgramNotExecutable(f"cannot run {name!r}: {file}: {why}; check its permissions")
    if number == errno.E2BIG:
        return CannotStartError(
            f"cannot run {name!r}: {why}; one argument may have 128 KiB: pass a long text in a file"
        )
    return CannotStartError(f"cannot run {name!r}: {file}: {why}; try again when that is mended")


def _check_no_nul(argv: Sequence[str], env: Mapping[str, str]) -> None:
    for index, word in enumerate(argv):
        if "\0" in word:
            raise CannotStartError(f"cannot run {argv[0]!r}: argument {index} holds a NUL; drop it")
    for key, value in env.items():
        if not key or "\0" in key + value or "=" in key:
            raise CannotStartError(f"cannot run {argv[0]!r}: bad environment variable {key!r}")
