"""Folders that one process at a time uses. The lock is the system's: it goes with the process, however that ended."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

_FILE = "lock"


class FolderLock:
    """A lock on a folder, held until `release` or the end of the process."""

    def __init__(self, folder: Path, file: BinaryIO) -> None:
        self.folder = folder
        self._file = file

    @classmethod
    def take(cls, folder: Path) -> FolderLock | None:
        """Make the folder if there is none and lock it; None when another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _FILE).open("a+b")
        try:
            _lock(file)
        except OSError:
            file.close()
            return None
        return cls(folder, file)

    def release(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Release the lock and remove the folder with all that is in it."""
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)


def take_free(parent: Path) -> FolderLock:
    """Lock the first free of the folders `parent/1`, `parent/2`, …"""
    number = 1
    while (lock := FolderLock.take(parent / str(number))) is None:
        number += 1
    return lock


def scratch_folder(parent: Path) -> FolderLock:
    """Lock a new folder for files that nobody needs after this process, and remove what killed processes left there."""
    for left in parent.glob("*"):
        if (lock := FolderLock.take(left)) is not None:
            lock.remove()
    lock = FolderLock.take(parent / str(os.getpid()))
    assert lock is not None  # only this process has this name
    return lock


def _lock(file: BinaryIO) -> None:
    """Lock a file without waiting; raises OSError when another process has it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
