"""Blocks on their way in: a file that fills up over any number of links and processes, and goes on where it was.

Beside the file lies a list of SHA-256 hashes, one for each chunk that has come whole: what is read back from a disk
must fit its hash, or it is fetched again. What arrives over TLS needs no second look.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lanfit.errors import LanfitError
from lanfit.files import BlockFile

#: What is sent again at most, in bytes. A smaller block is simply sent again, and has no hashes.
CHUNK = 8 * 1024 * 1024
_HASH_BYTES = 32
#: What systems say when there is no room: the disk's, the user's, the largest file's.
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def hashes_of(path: Path) -> Path:
    """Where the hashes of a partial file lie."""
    return path.with_suffix(".chunks")


def remove_partial(path: Path) -> None:
    """Remove a partial file and its hashes."""
    for each in (path, hashes_of(path)):
        each.unlink(missing_ok=True)


def is_full(wrong: BaseException) -> bool:
    """Whether an error means that a disk has no room."""
    match wrong:
        case LanfitError():
            return wrong.code == "disk.full"
        case OSError():
            return wrong.errno in _NO_ROOM
        case sqlite3.OperationalError():
            # A write that the system refuses is an error of input and output to SQLite, whatever the reason.
            return "full" in str(wrong) or getattr(wrong, "sqlite_errorname", "") == "SQLITE_IOERR_WRITE"
        case _:
            return False


class PartialBlock:
    """A block that is being received into a file.

    `offset` is where to go on fetching, `damaged` whether some of what lay there did not fit its hash. Chunks are
    hashed in a thread of their own, so that the loop goes on receiving meanwhile.
    """

    def __init__(self, file: BlockFile, size: int, offset: int, *, damaged: bool) -> None:
        self.path = file.path
        self.file = file
        self.size = size
        self.offset = offset
        self.damaged = damaged
        self._noted = offset
        self._closed = False
        # The last chunk is not noted: a fetch has something left to ask for in any case.
        self._notable = max(0, size - 1) // CHUNK * CHUNK
        self._thread = ThreadPoolExecutor(1, "hashes") if self._notable else None

    @classmethod
    def open(cls, path: Path, size: int) -> PartialBlock:
        """Make the file, or open what an earlier link left there, checked chunk by chunk. Reads what is there.

        Raises:
            LanfitError: the disk is full.
        """
        hashes = hashes_of(path)
        if path.is_file() and path.stat().st_size == size > CHUNK and hashes.is_file():
            file = BlockFile.reopen(path)
            noted = hashes.read_bytes()
            kept = noted[: len(noted) // _HASH_BYTES * _HASH_BYTES]
            good = 0
            for number in range(min(len(kept) // _HASH_BYTES, (size - 1) // CHUNK)):
                chunk = file.view[number * CHUNK : (number + 1) * CHUNK]
                if hashlib.sha256(chunk).digest() != kept[number * _HASH_BYTES : (number + 1) * _HASH_BYTES]:
                    break
                good += 1
            hashes.write_bytes(kept[: good * _HASH_BYTES])
            return cls(file, size, good * CHUNK, damaged=good * _HASH_BYTES < len(noted))
        remove_partial(path)
        return cls(BlockFile.create(path, size), size, 0, damaged=False)

    @property
    def view(self) -> memoryview:
        """Where the bytes of the block go."""
        return self.file.view[: self.size]

    @property
    def may_go_on(self) -> bool:
        """Whether what is there is of use to a later link."""
        return self._notable > 0

    def on_progress(self, position: int) -> None:
        """So many bytes are there: what `Link.fetch` tells. Whole chunks are noted."""
        while self._thread is not None and not self._closed and self._noted + CHUNK <= min(position, self._notable):
            self._thread.submit(self._note, self._noted)
            self._noted += CHUNK

    def _note(self, start: int) -> None:
        # A list that can't be written costs a chunk that is sent again, nothing else.
        with contextlib.suppress(OSError), hashes_of(self.path).open("r+b" if start else "wb") as file:
            file.seek(start // CHUNK * _HASH_BYTES)
            file.write(hashlib.sha256(self.file.view[start : start + CHUNK]).digest())

    def settle(self) -> None:
        """Return when every whole chunk is noted."""
        self._closed = True
        if self._thread is not None:
            self._thread.shutdown()

    def close(self) -> None:
        """Let go of the file, which stays for a later link if that can go on from it."""
        self.settle()
        self.file.close()
        if not self.may_go_on:
            remove_partial(self.path)

    def drop(self) -> None:
        """Remove what is there."""
        self.settle()
        self.file.close()
        remove_partial(self.path)

    def finish(self) -> BlockFile:
        """The whole block has come: its hashes are not needed any more."""
        self.settle()
        hashes_of(self.path).unlink(missing_ok=True)
        return self.file
