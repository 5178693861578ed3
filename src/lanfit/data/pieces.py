"""Rows that lie together, in one file or one array: what is known of them before they are read, and the reading.

Every format makes its own; what is done with the rows is decided in `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.memory import free_memory, readable_size
from lanfit.errors import InputError

AnyArray = NDArray[Any]
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Piece:
    """Rows of numbers: the shape with the rows first, the dtype in which they are read, and how to read them."""

    name: str
    """What messages call it: the path."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Iterator[AnyArray]]
    """Give the rows in order, a few MiB at a time; each call begins anew."""
    notes: tuple[str, ...] = ()
    """What was unusual about it."""
    columns: tuple[str, ...] | None = None
    """The names in the header, if there is one."""

    @classmethod
    def of(cls, name: str, array: AnyArray) -> Piece:
        """An array in memory, which is not copied.

        Raises:
            InputError: no plain numbers, or no rows.
        """
        check_plain(name, array.dtype)
        if array.ndim == 0 or array.size == 0:
            raise InputError(
                f"{name} holds no rows: it has the shape {array.shape}", "The first dimension is the rows."
            )
        return cls(name, array.shape, array.dtype.newbyteorder("="), partial(_slices, array))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """What all rows take in memory."""
        return prod(self.shape) * self.dtype.itemsize

    def blocks(self) -> Iterator[AnyArray]:
        """Yield the rows in order; together they have the shape that was said.

        Raises:
            InputError: it is damaged or holds something else than numbers.
        """
        rows = 0
        for block in self.read():
            rows += len(block)
            if block.shape[1:] != self.shape[1:] or rows > len(self):
                break
            yield block
        if rows != len(self):
            raise rows_differ(self.name, len(self), rows)

    def whole(self) -> AnyArray:
        """Read all rows into memory.

        Raises:
            InputError: as `blocks`, or they take more memory than is free.
        """
        check_memory(f"{self.name} declares an array of shape {self.shape},", self.nbytes)
        array = np.empty(self.shape, self.dtype)
        row = 0
        for block in self.blocks():
            array[row : row + len(block)] = block
            row += len(block)
        return array

    def column(self, index: int) -> str:
        """How a column (from 0) is named in messages: by its header if there is one, else by its number from 1."""
        return f'column "{self.columns[index]}"' if self.columns else f"column {index + 1}"


def unreadable(path: Path, reason: OSError) -> InputError:
    """The error for a file that is not there, or not for us."""
    return InputError(f"{path} can't be read: {reason}", "Check that the file is there, and who may read it.")


def rows_differ(name: str, said: int, read: int) -> InputError:
    """The error for a file in which other rows were found than expected."""
    return InputError(f"{name} looks like {said} rows, but {read} could be read", "Look for line breaks inside quotes.")


def check_plain(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse everything but integers, floats and booleans of at most 8 bytes.

    Raises:
        InputError: another type; it is named.
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{name} holds values of type {dtype}, not plain numbers", "Save integers or floats.")


def check_memory(what: str, size: int, hint: str = "") -> None:
    """Refuse to take more memory than is free.

    Raises:
        InputError: `size` bytes are not free.
    """
    free = free_memory()
    if free and size > free:
        raise InputError(
            f"{what} {readable_size(size)}, but {readable_size(free)} of memory are free",
            hint or "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory.",
        )


def _slices(array: AnyArray) -> Iterator[AnyArray]:
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    return (array[start : start + step] for start in range(0, len(array), step))
