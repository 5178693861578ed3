"""Blocks being received: a file that is filled over any number of connections and processes, and resumed.

Theory of operation. The file has its final size from the start, which reserves the disk space, and bytes are received
directly into its mapped memory, in order. Next to it is a list of checksums, one per complete chunk, which is also the
record of how much was received:

- `open` checks the chunks of an earlier connection against the list, and resumes at the first one that differs or is
  not listed. At most `CHUNK` bytes and the damaged rest are sent again.
- `on_progress` appends the checksum of each complete chunk. The last chunk is never listed, so that a fetch always has
  something left to request.
- `close` keeps the file if any chunk is listed, `drop` removes it, `finish` returns it as a complete block.

Checksums are cheap but do not detect everything, so `finish` compares a resumed block with its id, the SHA-256 of its
bytes. A block that was received over TLS on one connection needs no second check: hashing would halve the speed of a
push on two cores.
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
from lanfit.transfer.blocks import BlockFile

#: The maximum number of bytes that are sent again. A smaller block is sent again completely, and has no checksums.
CHUNK = 8 * 1024 * 1024
_SUM_BYTES = 8
#: The errors of systems without space: on the disk, in the user's quota, in the maximum file size.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def sums_of(path: Path) -> Path:
    """Return the path of the checksums of a partial file."""
    return path.with_suffix(".chunks")


def remove_partial(path: Path) -> None:
    """Remove a partial file and its checksums."""
    for each in (path, sums_of(path)):
        each.unlink(missing_ok=True)


def is_full(wrong: BaseException) -> bool:
    """Return whether an error means that a disk is full."""
    match wrong:
        case LanfitError():
            return wrong.code == "disk.full"
        case OSError():
            return wrong.errno in _FULL
        case sqlite3.OperationalError():
            # SQLite reports a write that the system refuses as an I/O error, for any reason.
            return "full" in str(wrong) or getattr(wrong, "sqlite_errorname", "") == "SQLITE_IOERR_WRITE"
        case _:
            return False


def _sum(chunk: memoryview) -> bytes:
    return int(np.frombuffer(chunk, np.uint64).sum()).to_bytes(_SUM_BYTES, "little")


class CorruptBlock(OSError):
    """The data of a block that was received earlier differs from what was sent."""


class PartialBlock:
    """A block that is being received into a file.

    `offset` is where to resume fetching, `damaged` whether some existing data did not match its checksum.
    """

    def __init__(self, file: BlockFile, size: int, offset: int, *, damaged: bool) -> None:
        self.path = file.path
        self.file = file
        self.size = size
        self.offset = offset
        self.damaged = damaged
        self._noted = offset
        # The last chunk is not recorded, so that a fetch always has something left to request.
        self._notable = max(0, size - 1) // CHUNK * CHUNK

    @classmethod
    def open(cls, path: Path, size: int) -> PartialBlock:
        """Create the file, or open the one of an earlier connection, checked chunk by chunk. Reads the existing data.

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
        """Open the file like `open`, with the slow parts in a thread."""
        return cls.open(path, size) if size <= CHUNK else await asyncio.to_thread(cls.open, path, size)

    @property
    def view(self) -> memoryview:
        """Return the memory for the bytes of the block."""
        return self.file.view[: self.size]

    @property
    def may_go_on(self) -> bool:
        """Return whether the data is useful for a later connection: not if only disk space was reserved."""
        return self._noted > 0

    def on_progress(self, position: int) -> None:
        """Record that this many bytes have been received, as reported by `Link.fetch`. Complete chunks are recorded."""
        while self._noted + CHUNK <= min(position, self._notable):
            start, self._noted = self._noted, self._noted + CHUNK
            # A list that can't be written costs only a chunk that is sent again.
            with contextlib.suppress(OSError), sums_of(self.path).open("r+b" if start else "wb") as file:
                file.seek(start // CHUNK * _SUM_BYTES)
                file.write(_sum(self.file.view[start : start + CHUNK]))

    def close(self) -> None:
        """Close the file; keep it for a later connection if it can be resumed."""
        self.file.close()
        if not self.may_go_on:
            remove_partial(self.path)

    def drop(self) -> None:
        """Remove the received data."""
        self.file.close()
        remove_partial(self.path)

    def finish(self, block_id: str) -> BlockFile:
        """Complete the block. Reads it if some of it was received over another connection.

        Raises:
            CorruptBlock: it is not the block with this id: the data on disk is corrupted. Nothing of it is left.
        """
        if self.offset and hashlib.sha256(self.view).hexdigest() != block_id:
            self.drop()
            why = "the part received earlier is damaged; everything is fetched again"
            raise CorruptBlock(errno.EIO, why, str(self.path))
        sums_of(self.path).unlink(missing_ok=True)
        return self.file
