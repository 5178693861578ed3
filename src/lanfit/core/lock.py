"""Folders for exclusive use by one process. The system holds the lock, and releases it when the process ends in any
way."""

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
        """Create the folder if necessary and lock it; return None if another process has it."""
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
        """Release the lock and remove the folder with its contents."""
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)


def take_free(parent: Path) -> FolderLock:
    """Lock the first free of the folders `parent/1`, `parent/2`, …"""
    number = 1
    while (lock := FolderLock.take(parent / str(number))) is None:
        number += 1
    return lock


def scratch_folder(parent: Path) -> FolderLock:
    """Lock a new folder for temporary files of this process, and remove those of killed processes."""
    for left in parent.glob("*"):
        if (lock := FolderLock.take(left)) is not None:
            lock.remove()
    lock = FolderLock.take(parent / str(os.getpid()))
    assert lock is not None  # only this process has this name
    return lock


def _lock(file: BinaryIO) -> None:
    """Lock a file without waiting; raise OSError if another process has it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
