"""The rows of one file or array: their facts before they are read, and how they are read.

Every file format creates these objects; `prepare` decides how the rows are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.core.memory import free_memory, readable_size
from lanfit.data.current_file import reading
from lanfit.errors import LanfitError, lanfit_error

AnyArray = NDArray[Any]
#: Advice by the kind of a dtype.
_WAYS = {
    "V": 'Save them as float32: `x.astype("float32")`',
    "f": 'Save them as float64: `x.astype("float64")`',
    "c": "Save their parts as two columns: `numpy.stack([x.real, x.imag], axis=-1)`",
    "M": 'Save them as numbers: `x.astype("int64")`, such as days since 1970',
    "m": 'Save them as numbers: `x.astype("int64")`',
    "S": "Text is read only as labels, as `y.astype(str)`; inputs must be numbers",
    "U": "Text is read only as labels; inputs must be numbers",
}
BLOCK_BYTES = 8 << 20
#: Integers above this are not exact in float32, which models take.
EXACT = 1 << 24


@dataclass(frozen=True)
class Chunk:
    """Rows of numbers: the shape with the rows first, the dtype in which they are read, and how to read them."""

    name: str
    """Its name in messages: the path."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Iterator[AnyArray]]
    """Returns an iterator over the rows in order, a few MiB at a time; each call starts again."""
    notes: tuple[str, ...] = ()
    """Notes on its peculiarities."""
    columns: tuple[str, ...] | None = None
    """The names in the header, if there is one."""
    numbering: str = ""
    """How a first line 0, 1, … was read: as "names" of columns or as a "row"; empty: there is none."""
    merged: dict[int, tuple[int, int]] = field(default_factory=dict, compare=False)
    """Columns with integers that are equal in float32, with an example pair; known after the rows were read."""

    @classmethod
    def of(cls, name: str, array: AnyArray) -> Chunk:
        """Return an array in memory, which is not copied.

        Raises:
            InputError: the array is not of plain numbers, or has no rows.
        """
        check_plain(name, array.dtype)
        if array.ndim == 0 or array.size == 0:
            raise lanfit_error("file.no-rows", file=name, shape=array.shape)
        return cls(name, array.shape, array.dtype.newbyteorder("="), partial(_slices, array))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """The bytes of all rows in memory."""
        return prod(self.shape) * self.dtype.itemsize

    def blocks(self) -> Iterator[AnyArray]:
        """Yield the rows in order; together they have the declared shape.

        Raises:
            InputError: the file is damaged or contains something other than numbers.
        """
        rows = 0
        with reading(self.name):
            for block in self.read():
                rows += len(block)
                if block.shape[1:] != self.shape[1:] or rows > len(self):
                    break
                yield block
        if rows != len(self):
            raise rows_differ(self.name, len(self), rows)

    def read_all(self) -> AnyArray:
        """Read all rows into memory.

        Raises:
            InputError: as `blocks`, or they take more memory than is free.
        """
        check_fits(self.name, self.shape, self.dtype)
        try:
            array = np.empty(self.shape, self.dtype)
        except MemoryError:  # less memory is free than it seems, or this process may not use it
            raise larger_than_memory(self.name, self.shape, self.dtype, "less") from None
        row = 0
        for block in self.blocks():
            array[row : row + len(block)] = block
            row += len(block)
        return array

    @property
    def notes_on_merged(self) -> tuple[str, ...]:
        """Return a note on integers that are equal in float32, such as ids and time stamps."""
        if not self.merged:
            return ()
        names = [self.column(index) for index in sorted(self.merged)]
        one, other = self.merged[min(self.merged)]
        what = f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        return (
            f"{what}: integers above {EXACT:,} lose their last digits, {one} and {other} become equal; if they are "
            "ids or timestamps, leave the column out",
        )

    def column(self, index: int) -> str:
        """Return the name of a column (from 0) in messages: its header if there is one, else its number from 1."""
        return f'column "{self.columns[index]}"' if self.columns else f"column {index + 1}"


def merged_numbers(block: AnyArray) -> dict[int, tuple[int, int]]:
    """Return the columns with distinct integers that are equal in float32, with two such numbers each."""
    if block.ndim != 2 or not len(block) or block.dtype.kind not in "iuf" or block.dtype.itemsize < 4:
        return {}
    if block.dtype == np.float32:
        return {}
    found = {}
    for column in np.flatnonzero((block.max(axis=0) > EXACT) | (block.min(axis=0) < -EXACT)):
        exact = np.unique(block[:, column])
        if exact.dtype.kind == "f" and not (np.isfinite(exact) & (exact == np.floor(exact))).all():
            continue
        with np.errstate(over="ignore"):
            rounded = exact.astype(np.float32)
        same = np.flatnonzero(rounded[1:] == rounded[:-1])
        if len(same):
            found[int(column)] = int(exact[same[0]]), int(exact[same[0] + 1])
    return found


def unreadable(path: Path, reason: OSError) -> LanfitError:
    """Return the error for a file that does not exist or can't be opened."""
    return lanfit_error("file.unreadable", file=path, reason=reason.strerror or reason)


def rows_differ(name: str, expected: int, read: int) -> LanfitError:
    """Return the error for a file with another number of rows than expected."""
    return lanfit_error("file.rows-differ", file=name, expected=expected, found=read)


def check_plain(name: str, dtype: np.dtype[Any]) -> None:
    """Check that a dtype is an integer, float or boolean of at most 8 bytes.

    Raises:
        InputError: another type; it is named.
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        way = _WAYS.get(dtype.kind, "Save integers or floats")
        if dtype.kind == "V" and dtype.itemsize <= 2:  # NumPy's replacement for an unknown type
            dtype_text = (
                f"{dtype}, as NumPy writes bfloat16" if dtype.itemsize == 2 else f"{dtype}, as NumPy writes float8"
            )
        else:
            dtype_text = str(dtype)
        raise lanfit_error("file.no-plain-numbers", file=name, dtype=dtype_text, way=way)


def check_fits(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that an array fits into the free memory.

    Raises:
        InputError: it does not fit. The message has its name and shape.
    """
    if free := free_if_less(prod(shape) * dtype.itemsize):
        raise larger_than_memory(name, shape, dtype, free)


def larger_than_memory(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], free: str) -> LanfitError:
    """Return the error for an array that does not fit into memory."""
    size = readable_size(prod(shape) * dtype.itemsize)
    return lanfit_error("file.larger-than-memory", file=name, shape=shape, size=size, free=free)


def check_memory(what: str, size: int) -> None:
    """Check that this much memory is free.

    Raises:
        InputError: `size` bytes are not free.
    """
    if free := free_if_less(size):
        raise lanfit_error("rows.larger-than-memory", what=what, size=readable_size(size), free=free)


def free_if_less(size: int) -> str:
    """Return how much memory is free, for people, if it is less than `size` bytes; else an empty text."""
    free = free_memory()
    return readable_size(free) if free and size > free else ""


def _slices(array: AnyArray) -> Iterator[AnyArray]:
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    return (array[start : start + step] for start in range(0, len(array), step))
