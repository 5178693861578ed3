"""Reads the one array of an npz file, block by block, so that no more than a block is held beside its destination.

Never unpickles. The header of the .npy member is read before anything is allocated for it; whether what it declares
fits in memory is the caller's to check.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lanfit.errors import InputError

BLOCK_BYTES = 8 << 20
#: What zipfile, its decompressors and NumPy's header reader raise on a damaged file.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, SyntaxError, EOFError,
    ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError, MemoryError,
)  # fmt: skip


def describe_npz(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype that the file's array declares; reads its header only.

    Raises:
        InputError: damaged, not exactly one array, or no plain numbers in it.
    """
    with _damage_named(path), zipfile.ZipFile(path) as archive, _open_array(archive, path) as stream:
        shape, _, dtype = _read_header(stream, path)
        return shape, dtype.newbyteorder("=")


def read_npz_blocks(path: Path) -> Iterator[NDArray[np.generic]]:
    """Yield the rows in order, in blocks of about 8 MiB, in the file's own byte order.

    A column-major array comes as one block, because its rows lie scattered over the whole file.

    Raises:
        InputError: as `describe_npz`; or the bytes are fewer or more than declared, or their checksum is wrong.
    """
    with _damage_named(path), zipfile.ZipFile(path) as archive, _open_array(archive, path) as stream:
        shape, column_major, dtype = _read_header(stream, path)
        if column_major and len(shape) > 1:
            array = np.empty(shape[::-1], dtype)
            _fill(stream, array)
            _expect_end(stream)
            yield _sound(array).transpose()
            return
        row_bytes = prod(shape[1:]) * dtype.itemsize
        step = max(1, BLOCK_BYTES // row_bytes)
        for start in range(0, shape[0], step):
            block = np.empty((min(step, shape[0] - start), *shape[1:]), dtype)
            _fill(stream, block)
            if start + step >= shape[0]:
                _expect_end(stream)  # before the last block is given away: the checksum is compared at the end
            yield _sound(block)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {error}", "Check that the file is there, and who may read it."
        ) from error
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{path} can't be read as an npz file: {reason}",
            "It may be damaged or cut short: copy or save it again (numpy.savez).",
        ) from error


def _open_array(archive: zipfile.ZipFile, path: Path) -> IO[bytes]:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if not names:
        raise InputError(f"{path} holds no array", 'Save one array into it: numpy.savez("x.npz", x).')
    if len(names) > 1:
        arrays = ", ".join(name.removesuffix(".npy") for name in names)
        raise InputError(f"{path} holds {len(names)} arrays: {arrays}", "Keep one array per file.")
    return archive.open(names[0])


def _read_header(stream: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read shape, column-major or not, and dtype of a .npy stream, and leave it at the first byte of the data."""
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:  # version 3 is for field names only
        raise ValueError(f"an array header of version {version}")
    shape, column_major, dtype = readers[version](stream)
    if any(type(n) is not int or n < 0 for n in shape) or len(shape) > 16:
        raise ValueError(f"an array of the impossible shape {shape}")
    if dtype.hasobject:
        raise InputError(
            f"{path} holds pickled Python objects, which lanfit never loads",
            "Save an array of plain numbers; rows of unequal length have to be padded first.",
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{path} holds values of type {dtype}, not plain numbers", "Save integers or floats.")
    if not shape or 0 in shape:
        raise InputError(f"{path} holds no rows: its array has the shape {shape}", "The first dimension is the rows.")
    return shape, column_major, dtype


def _fill(stream: IO[bytes], array: NDArray[np.generic]) -> None:
    buffer = array.reshape(-1).view(np.uint8).data
    position = 0
    while position < len(buffer):
        piece = stream.read(min(1 << 20, len(buffer) - position))
        if not piece:
            raise EOFError(f"{len(buffer) - position} bytes of the array are missing")
        buffer[position : position + len(piece)] = piece
        position += len(piece)


def _expect_end(stream: IO[bytes]) -> None:
    if stream.read(1):
        raise ValueError("there are more bytes than its array declares")


def _sound(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Whatever bytes a file had for booleans, True is 1 from here on."""
    return np.not_equal(array.view(np.uint8), 0) if array.dtype == np.bool_ else array
