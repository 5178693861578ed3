"""Robust aggregation of weights: median, trimmed mean, Krum; and the distances between updates.

The weighted mean is `lanfit.models.mean.Mean`. These rules are unweighted, as in the papers and in Flower: weighting by
rows would let a client with many rows dominate, and these rules are for untrusted updates.

An update is all weights of a client after its training, name → array; it may be memory-mapped: every array is read
slice by slice, so that memory is that of a slice of all clients and not of all their weights. All floating point arrays
take part, statistics of a batch normalization too; the others (counters, seeds) are those of `start`. NaN and infinity
are not looked for: leave such updates out before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median as middle_of

import numpy as np
from numpy.typing import NDArray

from lanfit.core.text import pluralize
from lanfit.errors import lanfit_error
from lanfit.models.mean import CHUNK, Mean, check_same_model, chunks, is_float
from lanfit.wire.arrays import AnyArray

Weights = Mapping[str, AnyArray]


def median(start: Weights, updates: Sequence[Weights]) -> dict[str, AnyArray]:
    """Return the median of each coordinate (Yin et al. 2018, definition 1), the mean of the middle two if even.

    Unweighted. New arrays in the order and the dtypes of `start`; the order of the updates makes no difference.

    Raises:
        InputError: there is no update, or one is not of the model.
    """
    return _middle(start, updates, (len(updates) - 1) // 2)


def trimmed_mean(start: Weights, updates: Sequence[Weights], trim: float) -> dict[str, AnyArray]:
    """Return the mean of each coordinate without its lowest and highest values (Yin et al. 2018, definition 2).

    `trim` is the share of the updates that is cut at each end; `trimmed` says how many. Unweighted.
    New arrays in the order and the dtypes of `start`; the order of the updates makes no difference.

    Raises:
        InputError: the trim leaves nothing, there is no update, or one is not of the model.
    """
    return _middle(start, updates, trimmed(len(updates), trim))


def trimmed(updates: int, trim: float) -> int:
    """Return how many of this many updates a trim removes at each end: rounded down, as in SciPy and Flower.

    0 for a trim that is too small for so few: the trimmed mean is then the mean.

    Raises:
        InputError: it leaves nothing.
    """
    if not 0 <= trim < 0.5:
        raise lanfit_error("aggregation.trim", trim=trim, updates=pluralize(updates, "update"))
    return int(trim * updates)


def krum(start: Weights, updates: Sequence[Weights], byzantine: int, keep: int = 1) -> dict[str, AnyArray]:
    """Return the update that Krum chooses (Blanchard et al. 2017), or with `keep` > 1 the mean of multi-Krum's choice.

    Unweighted; Flower weights the mean of multi-Krum by rows. New arrays in the order and the dtypes of `start`.

    Raises:
        InputError: as `krum_choice`.
    """
    mean = Mean(start)
    for index in krum_choice(start, updates, byzantine, keep):
        mean.add(updates[index], 1)
    return mean.result()


def krum_choice(start: Weights, updates: Sequence[Weights], byzantine: int, keep: int = 1) -> tuple[int, ...]:
    """Return the indices of the `keep` updates that are closest to their neighbours, in order of the updates.

    The score of an update is the sum of its squared distances, over all its floating point arrays, to the n - f - 2
    updates closest to it, where f is the number of `byzantine` ones that are reckoned with (Blanchard et al. 2017,
    section 4). The lowest scores are chosen, of equal ones the first.

    Raises:
        InputError: there are fewer than 2f + 3 updates, `keep` is more than there are, or one is not of the model.
    """
    check_krum(len(updates), byzantine)
    if not 1 <= keep <= len(updates):
        raise lanfit_error("aggregation.krum-keep", keep=keep, updates=len(updates))
    _check(start, updates)
    distances = _squared_distances(start, updates)
    closest = len(updates) - byzantine - 2
    # Sorted, so that mutual closest neighbours have bit-identical sums. Column 0 is the update itself.
    scores = np.sort(distances, axis=1)[:, 1 : closest + 1].sum(axis=1)
    return tuple(sorted(np.argsort(scores, kind="stable")[:keep].tolist()))


def check_krum(updates: int, byzantine: int) -> None:
    """Raise an InputError if Krum does not tolerate this many byzantine updates among the given number."""
    needed = 2 * byzantine + 3
    if updates < needed:
        most = (updates - 3) // 2
        lower = f"Lower --byzantine to {most}. " if most >= 0 else ""
        raise lanfit_error("aggregation.krum", updates=updates, byzantine=byzantine, needed=needed, lower=lower)


def update_norm(start: Weights, update: Weights) -> float:
    """Return the L2 norm of `update - start` over all floating point arrays, in float64."""
    total = 0.0
    for (differences,) in _differences(start, update):
        total += _inner(differences, differences)
    return math.sqrt(total)


def drift(start: Weights, mean: Weights, update: Weights) -> tuple[float, float]:
    """Return the norm of an update, and the cosine of its angle to the mean update.

    Both are seen from `start`, over all floating point arrays, in float64. The cosine is 0 where there is no
    direction, because one of them is `start`.
    """
    own = common = usual = 0.0
    for one, other in _differences(start, update, mean):
        own += _inner(one, one)
        common += _inner(one, other)
        usual += _inner(other, other)
    norm, length = math.sqrt(own), math.sqrt(usual)
    # Rounding can make it slightly larger than 1.
    return norm, min(1.0, max(-1.0, common / norm / length)) if norm and length else 0.0


def outliers(norms: Sequence[float], limit: float) -> tuple[int, ...]:
    """Return the indices of the norms that are more than `limit` times their median.

    None where the median is 0: when most clients moved nothing there is no measure for the others.
    """
    usual = middle_of(norms) if norms else 0.0
    return tuple(index for index, norm in enumerate(norms) if usual and norm > limit * usual)


def _middle(start: Weights, updates: Sequence[Weights], cut: int) -> dict[str, AnyArray]:
    """Return the mean of each coordinate, in float64, without `cut` values at each end."""
    _check(start, updates)
    result: dict[str, AnyArray] = {}
    for name, array in start.items():
        if not is_float(array):
            result[name] = array.copy()
            continue
        result[name] = np.empty(array.shape, array.dtype)
        flat = result[name].reshape(-1)
        for slice_, values in _slices([update[name] for update in updates]):
            # The values of a coordinate are contiguous: NumPy sorts such rows about ten times faster than columns. A
            # full sort instead of a partition makes the sum independent of the order of the updates.
            rows = np.ascontiguousarray(values.T)
            rows.sort(axis=1)
            flat[slice_] = rows[:, cut : len(updates) - cut].mean(axis=1, dtype=np.float64).astype(array.dtype)
    return result


def _squared_distances(start: Weights, updates: Sequence[Weights]) -> NDArray[np.float64]:
    """Return the distances, shape (n, n), exactly symmetric. |x|² + |y|² - 2xy would lose digits."""
    distances = np.zeros((len(updates), len(updates)))
    for name in start:
        if not is_float(start[name]):
            continue
        for _, values in _slices([update[name] for update in updates]):
            numbers = values.astype(np.float64)
            for index in range(len(updates) - 1):
                differences = numbers[index + 1 :] - numbers[index]
                distances[index, index + 1 :] += np.einsum("us,us->u", differences, differences)
    return distances + distances.T


def _slices(arrays: Sequence[AnyArray]) -> Iterator[tuple[slice, AnyArray]]:
    """Iterate over one array of all clients: yield a slice of the flat array and its values (clients, CHUNK)."""
    flat = [array.reshape(-1) for array in arrays]
    size = max(1, CHUNK // len(flat))
    for begin in range(0, flat[0].size, size):
        slice_ = slice(begin, begin + size)
        yield slice_, np.stack([array[slice_] for array in flat])


def _differences(start: Weights, *others: Weights) -> Iterator[list[NDArray[np.float64]]]:
    """Iterate over the differences from `start` in chunks, which reuse the same memory."""
    origin, *memory = np.empty((1 + len(others), CHUNK))
    for name, array in start.items():
        if not is_float(array):
            continue
        for begun, *there in chunks(array, *(other[name] for other in others)):
            size = begun.size
            np.copyto(origin[:size], begun)
            for differences, values in zip(memory, there, strict=True):
                np.copyto(differences[:size], values)
                differences[:size] -= origin[:size]
            yield [differences[:size] for differences in memory]


def _inner(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return one · other, summed by NumPy: a BLAS gives other bits with another number of threads."""
    return float(np.einsum("i,i->", one, other))


def _check(start: Weights, updates: Sequence[Weights]) -> None:
    if not updates:
        raise lanfit_error("weights.no-average", sets=0, counts=[])
    for number, update in enumerate(updates, 1):
        check_same_model(start, update, number)
