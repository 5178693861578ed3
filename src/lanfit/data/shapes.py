"""Checks whether rows fit a model's input or output, and reshapes them such that no value changes its neighbours.

A row may be flattened, a flat row reshaped to the model's shape, and dimensions of size 1 added or removed. Anything
else, such as channels first for a model that takes them last, is an error: a reshape would scramble the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import prod

from lanfit.errors import LanfitError, lanfit_error

#: Arrays of more dimensions are not checked for permutations: 720 orders are fast, 40,320 are not.
MAX_PERMUTED = 6


def fit_row(row: Sequence[int], wanted: Sequence[int | None]) -> tuple[int, ...] | None:
    """Return the shape to which a row of shape `row` is reshaped to fit `wanted`; None if it does not fit.

    Both are without the dimension of the rows. A dimension None matches any size. Rows are flattened, (28, 28) -> 784,
    flat ones reshaped, 64 -> (8, 8, 1) and 784 -> (None, 28), and dimensions of size 1 added or removed; with two open
    dimensions nothing is guessed.
    """
    if matches(row, wanted):
        return tuple(row)
    real, real_wanted = [n for n in row if n != 1], [n for n in wanted if n != 1]
    if matches(real, real_wanted):
        sizes = iter(real)
        return tuple(1 if n == 1 else next(sizes) for n in wanted)
    size, known = prod(row), prod(n for n in wanted if n is not None)
    gaps = sum(n is None for n in wanted)
    if min(len(real), len(real_wanted)) > 1 or gaps > 1 or known == 0 or size == 0:
        return None
    if gaps == 0:
        return tuple(n for n in wanted if n is not None) if size == known else None
    return tuple(size // known if n is None else n for n in wanted) if size % known == 0 else None


def permuted(name: str, row: Sequence[int], wanted: Sequence[int | None], array: str) -> LanfitError | None:
    """Return the error for rows that have the wanted sizes in another order; None if they have other sizes.

    Args:
        name: the file.
        array: the name of the array in the suggested NumPy code: x or y.
    """
    real, real_wanted = [n for n in row if n != 1], [n for n in wanted if n != 1]
    if len(real) != len(real_wanted) or not 1 < len(real) <= MAX_PERMUTED:
        return None
    if len(row) == len(wanted):
        real, real_wanted = list(row), list(wanted)
    for order in permutations(range(len(real))):
        if matches([real[axis] for axis in order], real_wanted):
            axes = ", ".join(str(axis + 1) for axis in order)
            whole = array if len(real) == len(row) else f"{array}.reshape(-1, {', '.join(map(str, real))})"
            line = f"{array} = {whole}.transpose(0, {axes})"
            return lanfit_error("rows.permuted", file=name, shape=shown(row), wanted=shown(wanted), line=line)
    return None


def matches(row: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Return whether a shape is the wanted one, dimension by dimension; None matches any size."""
    return len(row) == len(wanted) and all(w is None or n == w for n, w in zip(row, wanted, strict=True))


def shown(shape: Sequence[int | None]) -> str:
    """Return a shape for people: 8×8×1, ? for an open dimension."""
    return "×".join("?" if n is None else str(n) for n in shape) or "1"
