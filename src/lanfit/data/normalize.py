"""The normalizers: constants from the training rows, and their application to raw rows.

Everything is computed in float64 and cast once to float32, in chunks, so that temporary memory stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lanfit.errors import lanfit_error

AnyArray = NDArray[np.generic]
Float64 = NDArray[np.float64]
NORMALIZERS = ("none", "scale", "minmax", "zscore")
CHUNK_VALUES = 1 << 18


@dataclass(frozen=True)
class Moments:
    """Count, mean, sum of squared distances from the mean (M2), minimum and maximum.

    They are per column for rows of one dimension, shape (columns,); else of the whole array, shape (). `count` is the
    number of values behind each mean.
    """

    ARRAYS: ClassVar = ("mean", "m2", "minimum", "maximum")

    count: int
    mean: Float64
    m2: Float64
    minimum: Float64
    maximum: Float64

    @classmethod
    def of(cls, x: AnyArray) -> Moments:
        """Return the moments of at least one row, in the model's shape: (rows, columns), or (rows, ...)."""
        axis = 0 if x.ndim == 2 else None
        total: Moments | None = None
        for chunk in _chunks(x):
            values = x[chunk].astype(np.float64)
            mean = np.asarray(values.mean(axis=axis))
            moments = cls(
                len(values) if axis == 0 else values.size,
                mean,
                np.asarray(np.square(values - mean).sum(axis=axis)),
                np.asarray(values.min(axis=axis)),
                np.asarray(values.max(axis=axis)),
            )
            total = moments if total is None else total.merge(moments)
        if total is None:
            raise ValueError("no rows have no moments")
        return total

    def to_arrays(self, prefix: str = "") -> dict[str, AnyArray]:
        """Return everything except the count, for transfer."""
        return {prefix + name: getattr(self, name) for name in self.ARRAYS}

    @classmethod
    def from_arrays(cls, count: int, arrays: Mapping[str, AnyArray], prefix: str = "") -> Moments:
        """Return the moments in the arrays that `to_arrays` made."""
        return cls(count, *(np.asarray(arrays[prefix + name], np.float64) for name in cls.ARRAYS))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the union of both sets of rows (Chan, Golub, LeVeque 1979, formulas 2.1)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            count,
            np.asarray(self.mean + delta * (other.count / count)),
            np.asarray(self.m2 + other.m2 + np.square(delta) * (self.count * (other.count / count))),
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )


@dataclass(frozen=True)
class Inverse:
    """`y * multiply + add`: the inverse of a normalizer of targets; shapes as in `Normalizer`."""

    multiply: Float64
    add: Float64

    def apply(self, y: AnyArray) -> NDArray[np.float32]:
        """Return predictions, or normalized targets, in original units, as a new float32 array of the same shape."""
        out = np.empty(y.shape, np.float32)
        for chunk in _chunks(y):
            out[chunk] = y[chunk].astype(np.float64) * self.multiply + self.add
        return out


@dataclass(frozen=True)
class Normalizer:
    """`(x - subtract) * multiply`; both float64 of shape (columns,) for rows of one dimension, else ()."""

    name: str
    subtract: Float64
    multiply: Float64

    @classmethod
    def of(cls, name: str, arrays: Mapping[str, AnyArray], prefix: str = "", behind: str = "") -> Normalizer:
        """Return the normalizer with the constants in the arrays `subtract` and `multiply` of a shard."""
        keys = (f"{prefix}{key}{behind}" for key in ("subtract", "multiply"))
        return cls(name, *(np.asarray(arrays[key], np.float64) for key in keys))

    def constants(self, prefix: str = "", behind: str = "") -> dict[str, AnyArray]:
        """Return the arrays for `of`, with `prefix` and `behind` around their names."""
        return {f"{prefix}subtract{behind}": self.subtract, f"{prefix}multiply{behind}": self.multiply}

    def apply(self, x: AnyArray) -> NDArray[np.float32]:
        """Return normalized rows as a new float32 array of the same shape."""
        out = np.empty(x.shape, np.float32)
        as_is = not self.subtract.any() and bool((self.multiply == 1).all())
        for chunk in _chunks(x):
            if as_is:
                out[chunk] = x[chunk]
            else:
                values = x[chunk].astype(np.float64)
                values -= self.subtract
                values *= self.multiply
                out[chunk] = values
        return out

    def inverse(self) -> Inverse:
        """Return the inverse; a constant column, which becomes 0, gets its value again."""
        back = np.divide(1.0, self.multiply, out=np.zeros_like(self.multiply), where=self.multiply != 0)
        return Inverse(back, self.subtract)


#: The prefix of the constants of target normalizers in transfers.
OF_TARGETS = "target_"
#: Changes nothing.
NO_NORMALIZER = Normalizer("none", np.zeros(()), np.ones(()))


def fit_normalizer(name: str, moments: Moments) -> Normalizer:
    """Return a normalizer with fitted constants; a constant column gets multiply 0, and so becomes zeros.

    `scale` divides by the largest absolute value, `minmax` maps to [0, 1], `zscore` to mean 0 and population standard
    deviation 1, `none` changes nothing.

    Raises:
        InputError: there is no such normalizer.
    """
    if name not in NORMALIZERS:
        raise lanfit_error("normalizer.unknown", name=name, known=", ".join(NORMALIZERS))
    if name == "none":
        return NO_NORMALIZER
    low, high = moments.minimum, moments.maximum
    subtract, divide = {
        "scale": (np.zeros_like(low), np.maximum(np.abs(low), np.abs(high))),
        "minmax": (low, high - low),
        "zscore": (moments.mean, np.sqrt(moments.m2 / moments.count)),
    }[name]
    # A constant is detected by its extremes: its M2 need not be 0, because the mean is rounded.
    constant = (low == high) | (divide < np.finfo(np.float64).tiny)
    multiply = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, divide))
    # Its value is subtracted for any normalizer, so that the inverse restores it.
    return Normalizer(name, np.where(constant, low, subtract), np.asarray(multiply))


def _chunks(x: AnyArray) -> Iterator[slice]:
    step = max(1, CHUNK_VALUES // max(1, x[:1].size))
    return (slice(start, start + step) for start in range(0, len(x), step))
