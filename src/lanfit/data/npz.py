"""Reads one array of an npz or npy file in blocks, so that only a block is held besides the destination.

Never unpickles. The header of the .npy member is read before memory is allocated; the code that allocates it checks
the declared size.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from lanfit.core.parser_lock import PARSER_LOCK
from lanfit.data.chunks import AnyArray, Chunk, check_fits, check_plain, unreadable
from lanfit.data.current_file import reading
from lanfit.data.text_labels import Labels, labels_of_array
from lanfit.errors import lanfit_error

BLOCK_BYTES = 8 << 20
#: Exceptions of zipfile, its decompressors and NumPy's header reader on damaged files.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, SyntaxError, EOFError,
    ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError,
)  # fmt: skip


def open_npz(path: Path, key: str | None = None) -> Chunk:
    """Return the array of an npy file, or of an npz file the only one or the one that `key` names, in its own dtype.

    Reads its header only.

    A column-major array is read as one block, because its rows are scattered over the file.

    Raises:
        InputError: the file is damaged, has not exactly one array and no key is given, or the array is not of plain
            numbers; and, while reading: it has fewer or more bytes than declared, or a wrong checksum.
    """
    return _open(path, key, text=False)


def read_npz_labels(path: Path, key: str | None = None) -> Labels:
    """Read the array of an npz file as labels: plain numbers, or text.

    Raises:
        InputError: as `open_npz`, or the labels mix strings and numbers.
    """
    return labels_of_array(str(path), _open(path, key, text=True).read_all())


def _open(path: Path, key: str | None, *, text: bool) -> Chunk:
    with _damage_named(path), _open_array(path, key) as (stream, _):
        shape, _, dtype = _read_header(stream, path, text)
    return Chunk(str(path), shape, dtype.newbyteorder("="), partial(_blocks, path, key, text))


def _blocks(path: Path, key: str | None, text: bool) -> Iterator[AnyArray]:
    """Yield the rows in order, in blocks of about 8 MiB, in the file's own byte order."""
    with _damage_named(path), _open_array(path, key) as (stream, size):
        shape, column_major, dtype = _read_header(stream, path, text)
        if column_major and len(shape) > 1:
            check_fits(str(path), shape, dtype)
            missing = prod(shape) * dtype.itemsize + stream.tell() - size
            if missing > 0:  # detected before memory is allocated
                raise EOFError(f"{missing} bytes of the array are missing")
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
                _expect_end(stream)  # before the last block is yielded: the checksum is compared at the end
            yield _sound(block)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    with reading(path):
        try:
            yield
        except OSError as error:
            raise unreadable(path, error) from error
        except _DAMAGED as error:
            kind = path.suffix.lower().removeprefix(".")
            raise lanfit_error(
                "npz.damaged", file=path, kind=kind, reason=str(error) or type(error).__name__
            ) from error


def array_names(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in an npz file.

    Raises:
        InputError: it can't be read.
    """
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))


@contextmanager
def _open_array(path: Path, key: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """Open the stream of an array; yield it and the expected number of bytes."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as stream:
            yield stream, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        member = archive.getinfo(f"{_chosen(names, path, key)}.npy")
        with archive.open(member) as stream:
            yield stream, member.file_size


def _chosen(names: list[str], path: Path, key: str | None) -> str:
    if not names:
        raise lanfit_error("npz.no-array", file=path)
    arrays = ", ".join(name[:40] for name in names[:20]) + (", …" if len(names) > 20 else "")
    if {"format", "shape", "data"} <= set(names) and {"indices", "row", "offsets"} & set(names) and key is None:
        raise lanfit_error("npz.sparse", file=path, name=path.name)
    if key is None and len(names) > 1:
        raise lanfit_error("npz.several-arrays", file=path, count=len(names), arrays=arrays)
    if key is not None and names.count(key) != 1:
        raise lanfit_error("npz.no-such-array", file=path, key=key, arrays=arrays)
    return names[0] if key is None else key


def _read_header(stream: IO[bytes], path: Path, text: bool) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, column-major or not, and dtype of a .npy stream, and leave it at the first byte of the data."""
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:  # version 3 is for field names only
        raise ValueError(f"an array header of version {version}")
    with PARSER_LOCK:
        shape, column_major, dtype = readers[version](stream)
    if any(type(n) is not int or n < 0 for n in shape) or len(shape) > 16:
        raise ValueError(f"an array of the impossible shape {shape}")
    if dtype.hasobject:
        raise lanfit_error("npz.pickled", file=path)
    if dtype.names:
        fields = ", ".join(dtype.names[:10]) + (", …" if len(dtype.names) > 10 else "")
        raise lanfit_error("npz.structured", file=path, fields=fields)
    if not (text and dtype.kind == "U" and dtype.itemsize):
        check_plain(str(path), dtype)
    if not shape or 0 in shape:
        raise lanfit_error("npz.no-rows", file=path, shape=shape)
    return shape, column_major, dtype


def _fill(stream: IO[bytes], array: AnyArray) -> None:
    buffer = array.reshape(-1).view(np.uint8).data
    position = 0
    while position < len(buffer):
        chunk = stream.read(min(1 << 20, len(buffer) - position))
        if not chunk:
            raise EOFError(f"{len(buffer) - position} bytes of the array are missing")
        buffer[position : position + len(chunk)] = chunk
        position += len(chunk)


def _expect_end(stream: IO[bytes]) -> None:
    if stream.read(1):
        raise ValueError("there are more bytes than its array declares")


def _sound(array: AnyArray) -> AnyArray:
    """Return the array, with bytes of 0 or 1 for booleans."""
    return np.not_equal(array.view(np.uint8), 0) if array.dtype == np.bool_ else array
