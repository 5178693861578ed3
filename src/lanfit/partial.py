"""Blocks on their way in: a file that fills up over any number of links and processes, and goes on where it was.

Beside the file lies a list of sums, one for each chunk that has come whole: where what is read back from a disk has
another sum, it is fetched again from there on. Sums cost next to nothing, and do not find everything: a block that was
gone on with is held against its id, the SHA-256 of its bytes, before anybody has it. What arrives over TLS on one link
needs no second look (hashing halves the speed of a push on two cores).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import sqlite3
from pathlib import Path

import numpy as np

from lanfit.errors import LanfitError
from lanfit.files import BlockFile

#: What is sent again at most, in bytes. A smaller block is simply sent again, and has no sums.
CHUNK = 8 * 1024 * 1024
_SUM_BYTES = 8
#: What systems say when there is no room: the disk's, the user's, the largest file's.
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def sums_of(path: Path) -> Path:
    """Where the sums of a partial file lie."""
    return path.with_suffix(".chunks")


def remove_partial(path: Path) -> None:
    """Remove a partial file and its sums."""
    for each in (path, sums_of(path)):
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


def _sum(chunk: memoryview) -> bytes:
    return int(np.frombuffer(chunk, np.uint64).sum()).to_bytes(_SUM_BYTES, "little")


class SpoiltBlock(OSError):
    """What had come of a block before is not what was sent."""


class PartialBlock:
    """A block that is being received into a file.

    `offset` is where to go on fetching, `damaged` whether some of what lay there did not have its sum.
    """

    def __init__(self, file: BlockFile, size: int, offset: int, *, damaged: bool) -> None:
        self.path = file.path
        self.file = file
        self.size = size
        self.offset = offset
        self.damaged = damaged
        self._noted = offset
        # The last chunk is not noted: a fetch has something left to ask for in any case.
        self._notable = max(0, size - 1) // CHUNK * CHUNK

    @classmethod
    def open(cls, path: Path, size: int) -> PartialBlock:
        """Make the file, or open what an earlier link left there, checked chunk by chunk. Reads what is there.

        Raises:
            LanfitError: the disk is full.
        """
        sums = sums_of(path)
        if path.is_file() and path.stat().st_size == size > CHUNK and sums.is_file():
            file = BlockFile.reopen(path)
            noted = sums.read_bytes()
            good = 0
            for number in range(min(len(noted) // _SUM_BYTES, (size - 1) // CHUNK)):
                chunk = file.view[number * CHUNK : (number + 1) * CHUNK]
                if _sum(chunk) != noted[number * _SUM_BYTES : (number + 1) * _SUM_BYTES]:
                    break
                good += 1
            sums.write_bytes(noted[: good * _SUM_BYTES])
            return cls(file, size, good * CHUNK, damaged=good * _SUM_BYTES < len(noted))
        remove_partial(path)
        return cls(BlockFile.create(path, size), size, 0, damaged=False)

    @classmethod
    async def opened(cls, path: Path, size: int) -> PartialBlock:
        """As `open`; what may take a while is done in a thread."""
        return cls.open(path, size) if size <= CHUNK else await asyncio.to_thread(cls.open, path, size)

    @property
    def view(self) -> memoryview:
        """Where the bytes of the block go."""
        return self.file.view[: self.size]

    @property
    def may_go_on(self) -> bool:
        """Whether what is there is of use to a later link: not if it has only taken its room on the disk."""
        return self._noted > 0

    def on_progress(self, position: int) -> None:
        """So many bytes are there: what `Link.fetch` tells. Whole chunks are noted."""
        while self._noted + CHUNK <= min(position, self._notable):
            start, self._noted = self._noted, self._noted + CHUNK
            # A list that can't be written costs a chunk that is sent again, nothing else.
            with contextlib.suppress(OSError), sums_of(self.path).open("r+b" if start else "wb") as file:
                file.seek(start // CHUNK * _SUM_BYTES)
                file.write(_sum(self.file.view[start : start + CHUNK]))

    def close(self) -> None:
        """Let go of the file, which stays for a later link if that can go on from it."""
        self.file.close()
        if not self.may_go_on:
            remove_partial(self.path)

    def drop(self) -> None:
        """Remove what is there."""
        self.file.close()
        remove_partial(self.path)

    def finish(self, block_id: str) -> BlockFile:
        """The whole block has come. Reads it if some of it came over another link.

        Raises:
            SpoiltBlock: it is not the block with this id: the disk has spoilt what lay there. Nothing of it is left.
        """
        if self.offset and hashlib.sha256(self.view).hexdigest() != block_id:
            self.drop()
            why = "what had come of it before is damaged; all of it is needed again"
            raise SpoiltBlock(errno.EIO, why, str(self.path))
        sums_of(self.path).unlink(missing_ok=True)
        return self.file
