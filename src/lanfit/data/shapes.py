"""Whether rows fit a model's input or output, and how they are reshaped when only the number of values fits."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def fit_row(row: Sequence[int], wanted: Sequence[int | None]) -> tuple[int, ...] | None:
    """The shape in which a row of shape `row` is taken by a model that wants `wanted`; None if it can't be.

    Both without the dimension of the rows. A dimension None takes any size in its place. Otherwise the number of
    values must fit: 64 -> (8, 8, 1), (28, 28) -> 784, 784 -> (None, 28); with two open dimensions nothing is guessed.
    """
    if matches(row, wanted):
        return tuple(row)
    size, known = prod(row), prod(n for n in wanted if n is not None)
    gaps = sum(n is None for n in wanted)
    if gaps > 1 or known == 0 or size == 0:
        return None
    if gaps == 0:
        return tuple(n for n in wanted if n is not None) if size == known else None
    return tuple(size // known if n is None else n for n in wanted) if size % known == 0 else None


def matches(row: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether a shape is the wanted one, dimension by dimension; None takes any size."""
    return len(row) == len(wanted) and all(w is None or n == w for n, w in zip(row, wanted, strict=True))


def shown(shape: Sequence[int | None]) -> str:
    """A shape for people: 8×8×1, ? for an open dimension."""
    return "×".join("?" if n is None else str(n) for n in shape) or "1"
