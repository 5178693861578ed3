"""Blocks of arrays in memory-mapped files.

Arrays pass between the processes of one machine through such files, and a block that arrives is received straight into
one. Nothing here knows what the arrays mean.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lanfit.durable import sync_file
from lanfit.mistakes import mistake
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, block_of, block_size, pieces, views


class BlockFile:
    """A block of arrays in a memory-mapped file. Close it before the file is renamed or removed (Windows insists)."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self._mapped = mapped
        self.view = memoryview(mapped)

    @classmethod
    def create(cls, path: Path, size: int) -> BlockFile:
        """Make a file of `size` zero bytes, its room on disk already taken where the system can.

        Raises:
            LanfitError: the disk is full.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        size = max(size, 1)  # an empty file can't be mapped
        with path.open("w+b") as file:
            try:
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):
                    # Writing to a mapped hole of a full disk would kill the process instead of raising.
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError as wrong:
                file.close()
                path.unlink(missing_ok=True)
                if wrong.errno in (errno.ENOSPC, errno.EFBIG):
                    raise mistake("disk.full", file=path, size=size) from None
                raise
            return cls(path, mmap.mmap(file.fileno(), size))

    @classmethod
    def reopen(cls, path: Path) -> BlockFile:
        """Map an existing file to write on in it; its room on disk was taken when it was made."""
        with path.open("r+b") as file:
            return cls(path, mmap.mmap(file.fileno(), 0))

    @classmethod
    def open(cls, path: Path) -> BlockFile:
        """Map an existing file for reading."""
        with path.open("rb") as file:
            return cls(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @classmethod
    def write(cls, path: Path, arrays: Mapping[str, AnyArray]) -> BlockSpec:
        """Write arrays as a block, and return its description."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in pieces(arrays):
                file.write(piece)
            if not file.tell():
                file.write(b"\0")  # an empty file can't be mapped
        return block_of(arrays)

    def arrays(self, specs: Sequence[ArraySpec]) -> dict[str, AnyArray]:
        """The arrays as views into the file."""
        return views(self.view[: block_size(specs)], specs)

    def sync(self) -> None:
        """Return when the bytes are on disk."""
        self._mapped.flush()
        sync_file(self.path)

    def close(self) -> None:
        """Unmap the file; a mapping that arrays still look into goes when they do."""
        with contextlib.suppress(BufferError):
            self.view.release()
            self._mapped.close()


class ArrayFile(msgspec.Struct, frozen=True):
    """A block of arrays in a file of this machine: what processes tell each other instead of arrays."""

    path: str
    block: BlockSpec

    @classmethod
    def write(cls, path: Path, arrays: Mapping[str, AnyArray]) -> ArrayFile:
        return cls(str(path), BlockFile.write(path, arrays))

    def load(self) -> dict[str, AnyArray]:
        """The arrays as read-only views into the file."""
        return BlockFile.open(Path(self.path)).arrays(self.block.arrays)
