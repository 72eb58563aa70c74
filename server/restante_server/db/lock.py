"""The lock of a store directory: only one core process at a time opens it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from restante_server.db.errors import StoreLocked


class StoreLock:
    """Holds `directory/lock` by flock until `release` or the end of the process.

    The file stays. It contains the holder's process id in decimal and a line end. Two holders in one process exclude
    each other too. Child programs do not inherit the lock (the descriptor is closed on exec).
    """

    def __init__(self, directory: Path) -> None:
        """Take the lock. Raises StoreLocked with the holder, and OSError when the process may not open the file."""
        self.path = directory / "lock"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            who = "another process" if holder is None else f"process {holder}"
            raise StoreLocked(f"the store {directory} is in use by {who}; end that process first", holder) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def _holder(descriptor: int) -> int | None:
    """The process id in the lock file, or None while its holder has not written it yet."""
    written = os.pread(descriptor, 32, 0).strip()
    return int(written) if written.isdigit() else None
