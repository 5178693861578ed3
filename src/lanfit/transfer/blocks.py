"""Blocks of arrays in memory-mapped files.

Arrays pass between the processes of a machine through such files, and a received block is written directly into one.
This module does not know what the arrays mean: they may be rows, so no other user of the machine can read them.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import weakref
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import msgspec
import numpy as np

from lanfit.core.durable import private, reserve_space, sync_file
from lanfit.errors import lanfit_error
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, block_of, block_size, buffers, views

#: The files of all blocks that are mapped for writing in this process.
_PATHS: weakref.WeakKeyDictionary[mmap.mmap, Path] = weakref.WeakKeyDictionary()


class BlockFile:
    """A block of arrays in a memory-mapped file. Close it before the file is renamed or removed (Windows insists)."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self._mapped = mapped
        self.view = memoryview(mapped)
        _PATHS[mapped] = path

    @classmethod
    def create(cls, path: Path, size: int) -> BlockFile:
        """Create a file of `size` zero bytes, with its disk space reserved if the system can.

        Raises:
            LanfitError: the disk is full.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        size = max(size, 1)  # an empty file can't be mapped
        with open(path, "w+b", opener=private) as file:
            try:
                file.truncate(size)
                reserve_space(file, size)  # writing to a mapped hole on a full disk would kill the process, not raise
            except OSError as error:
                file.close()
                path.unlink(missing_ok=True)
                if error.errno in (errno.ENOSPC, errno.EFBIG):
                    raise lanfit_error("disk.full", file=path, size=size) from None
                raise
            return cls(path, mmap.mmap(file.fileno(), size))

    @classmethod
    def reopen(cls, path: Path) -> BlockFile:
        """Map an existing file for writing; its disk space was reserved when it was created."""
        with path.open("r+b") as file:
            return cls(path, mmap.mmap(file.fileno(), 0))

    @classmethod
    def open(cls, path: Path) -> BlockFile:
        """Map an existing file for reading."""
        with path.open("rb") as file:
            return cls(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @classmethod
    def write(cls, path: Path, arrays: Mapping[str, AnyArray]) -> BlockSpec:
        """Write arrays as a block and return its description."""
        cls.put(path, arrays)
        return block_of(arrays)

    @staticmethod
    def put(path: Path, arrays: Mapping[str, AnyArray]) -> None:
        """Write arrays as a block whose description is already known."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb", opener=private) as file:
            for buffer in buffers(arrays):
                file.write(buffer)
            if not file.tell():
                file.write(b"\0")  # an empty file can't be mapped

    def arrays(self, specs: Sequence[ArraySpec]) -> dict[str, AnyArray]:
        """Return the arrays as views into the file."""
        return views(self.view[: block_size(specs)], specs)

    def sync(self) -> None:
        """Return when the bytes are on disk."""
        self._mapped.flush()
        sync_file(self.path)

    def close(self) -> None:
        """Unmap the file; a mapping that arrays still use is released with them."""
        with contextlib.suppress(BufferError):
            self.view.release()
            self._mapped.close()


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Return the offset of the bytes of an array."""

    path: str
    offset: int


class ArrayFile(msgspec.Struct, frozen=True):
    """A block of arrays in a file of this machine: processes exchange this instead of arrays."""

    path: str
    block: BlockSpec
    places: tuple[Place, ...] = ()
    """The offset of each array, if they are not consecutive in `path`: rows in a file of all rows."""

    @classmethod
    def write(cls, path: Path, arrays: Mapping[str, AnyArray]) -> ArrayFile:
        return cls(str(path), BlockFile.write(path, arrays))

    def load(self) -> dict[str, AnyArray]:
        """Return the arrays as read-only views into the file."""
        if not self.places:
            return BlockFile.open(Path(self.path)).arrays(self.block.arrays)
        files = {place.path: BlockFile.open(Path(place.path)).view for place in self.places}
        return {
            spec.name: np.frombuffer(files[place.path], spec.dtype, prod(spec.shape), place.offset).reshape(spec.shape)
            for spec, place in zip(self.block.arrays, self.places, strict=True)
        }


def place_of(array: AnyArray) -> Place | None:
    """Return where an array is in a file that is mapped here; None if it is not mapped, or not contiguous."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    mapped = owner.obj if isinstance(owner, memoryview) else owner
    if not isinstance(mapped, mmap.mmap) or mapped not in _PATHS or not array.flags.c_contiguous:
        return None
    start = np.frombuffer(mapped, np.uint8).ctypes.data
    return Place(str(_PATHS[mapped]), array.ctypes.data - start if array.size else 0)
