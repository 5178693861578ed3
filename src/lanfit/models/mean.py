"""The weighted mean of models that arrive one after another, and the traversal of large arrays that it uses.

Memory is that of one model in float64, for any number of models. The caller decides what is averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lanfit.errors import lanfit_error
from lanfit.wire.arrays import AnyArray

#: Numbers at a time: their float64 copy, 1 MiB, stays in a core's cache between the operations on it.
CHUNK = 1 << 17


def is_float(array: AnyArray) -> bool:
    """Return True for weights and the statistics of batch normalization; False for counters, seeds and flags."""
    return array.dtype.kind == "f"


def chunks(*arrays: AnyArray) -> Iterator[tuple[AnyArray, ...]]:
    """Iterate over arrays of one size together: the same flat part of each, at most `CHUNK` numbers.

    The parts of a contiguous array are views of it, and can be written to.
    """
    flat = [array.reshape(-1) for array in arrays]
    for begin in range(0, flat[0].size, CHUNK):
        yield tuple(array[begin : begin + CHUNK] for array in flat)


def check_same_model(start: Mapping[str, AnyArray], update: Mapping[str, AnyArray], number: int) -> None:
    """Compare names, shapes and dtypes; the order of the names does not matter.

    Raises:
        InputError: `update`, which the error calls set `number`, is not of the model that `start` is of.
    """
    if {name: (array.shape, array.dtype) for name, array in update.items()} != {
        name: (array.shape, array.dtype) for name, array in start.items()
    }:
        raise lanfit_error("weights.other-model", number=number)


class Mean:
    """The weighted mean of sets of weights, each weighted by its count of rows (McMahan et al. 2017, algorithm 1).

    Summed in float64 in the order in which they are added: add them in the order of their tasks, and the bits are
    always the same. The statistics of batch normalization are averaged like weights; arrays that are not floating point
    (counters, seeds) are those of `start`. The mean of one set is that set: bit for bit for float16 and float32 with
    less than 2**29 rows, within one rounding for float64.

    NaN and infinity are not checked: one in a set that counts is one in the mean. Exclude such sets before.
    """

    def __init__(self, start: Mapping[str, AnyArray]) -> None:
        """`start`: weights of the same model; it is kept, not copied, and does not count.

        Allocates all memory at once: if created before the clients train, nothing has to wait for it.
        """
        self._buffer = np.empty(CHUNK)
        # Filled, or the system would find the pages only when the first results are there.
        self._sums = {name: np.full(array.shape, 0.0) for name, array in start.items() if is_float(array)}
        self.begin(start)

    def begin(self, start: Mapping[str, AnyArray]) -> None:
        """Begin another mean of weights of the same model, in the same memory."""
        self._start = start
        self._counts: list[int] = []

    def add(self, update: Mapping[str, AnyArray], rows: int) -> None:
        """Add one more set, which may be memory-mapped: it is read once, and not kept. Without rows it is not read.

        Raises:
            InputError: it is not of the same model, or the count is negative; nothing was added.
        """
        check_same_model(self._start, update, len(self._counts) + 1)
        if rows < 0:
            raise lanfit_error("weights.no-average", sets=len(self._counts) + 1, counts=[*self._counts, rows])
        first = not any(self._counts)
        self._counts.append(rows)
        if not rows:
            return
        for name, total in self._sums.items():
            # Cast, multiply, add within the cache: in one expression NumPy would go through memory for each of them.
            for sums, values in chunks(total, update[name]):
                # The first is not added to 0, which would make 0 of -0.
                buffer = sums if first else self._buffer[: values.size]
                np.copyto(buffer, values)
                np.multiply(buffer, rows, out=buffer)
                if not first:
                    np.add(sums, buffer, out=sums)

    def result(self) -> dict[str, AnyArray]:
        """Return the mean so far as new arrays, in the order and the dtypes of `start`.

        Raises:
            InputError: no set with rows was added.
        """
        total = sum(self._counts)
        if not total:
            raise lanfit_error("weights.no-average", sets=len(self._counts), counts=self._counts)
        return {
            name: self._divided(self._sums[name], total, start.dtype) if is_float(start) else start.copy()
            for name, start in self._start.items()
        }

    def _divided(self, total: NDArray[np.float64], rows: int, dtype: np.dtype[np.generic]) -> AnyArray:
        mean: AnyArray = np.empty(total.shape, dtype)
        for sums, values in chunks(total, mean):
            buffer = self._buffer[: values.size]
            np.divide(sums, rows, out=buffer)
            np.copyto(values, buffer, casting="same_kind")
        return mean
