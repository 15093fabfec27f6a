"""A lock that is waited for without asking again and again, and that others may stop waiting for.

Guarantees: one holder at a time, on this machine; the lock ends with its holder, however that
ends, and the next in line has it at once; who stops waiting leaves nothing behind. git's children
never inherit it. When it breaks: GitError when the file cannot be opened.
"""

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

from bough.runner.workspaces.git import GitError


class QueueLock:
    """The flock of one file, taken by `take` once; `release` also stops waiting."""

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise GitError(f"cannot open the lock {path}: {error.strerror}") from error
        self._taken: asyncio.Future[None] | None = None
        self._guard = threading.Lock()
        self._waits = False
        self._given_up = False

    def take(self) -> asyncio.Future[None]:
        """A future that is done once the lock is held."""
        if self._taken is None:
            self._taken = asyncio.get_running_loop().create_future()
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._waits = True
                threading.Thread(
                    target=self._wait, args=(asyncio.get_running_loop(),), daemon=True
                ).start()
            else:
                self._taken.set_result(None)
        return self._taken

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        # A daemon: a process that ends does not wait for it, and its lock ends with the process.
        failed: OSError | None = None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        except OSError as error:
            failed = error
        with self._guard:
            self._waits = False
            if self._given_up:
                os.close(self._handle)
                return
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the process with it
            loop.call_soon_threadsafe(self._arrived, failed)

    def _arrived(self, failed: OSError | None) -> None:
        if self._taken is None or self._taken.done():
            return
        if failed:
            self._taken.set_exception(GitError(f"the lock cannot be had: {failed.strerror}"))
        else:
            self._taken.set_result(None)

    def release(self) -> None:
        """Give the lock to the next, or stop waiting for it."""
        with self._guard:
            if self._given_up:
                return
            self._given_up = True
            if not self._waits:
                os.close(self._handle)


@contextlib.asynccontextmanager
async def held(path: Path) -> AsyncGenerator[None]:
    """Hold the lock of a file while the block runs, however long it takes to get."""
    lock = QueueLock(path)
    try:
        await asyncio.shield(lock.take())
        yield
    finally:
        lock.release()
