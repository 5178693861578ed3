"""Small data that can be learned: every example takes a second or two."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def classes(rows: int, shape: tuple[int, ...], count: int, noise: float = 0.5, seed: int = 0) -> tuple[Array, Array]:
    """Rows around one random prototype a class, as float32 in [0, 1], and their labels."""
    rng = np.random.default_rng(seed)
    prototypes = rng.random((count, *shape))
    labels = rng.integers(0, count, rows)
    x = prototypes[labels] + noise * (rng.random((rows, *shape)) - 0.5)
    return np.clip(x, 0, 1).astype("float32"), labels.astype("int64")


def images(rows: int, shape: tuple[int, ...], count: int, seed: int = 0) -> tuple[Array, Array]:
    """The same as `uint8` pixels."""
    x, y = classes(rows, shape, count, seed=seed)
    return (255 * x).astype("uint8"), y


def numbers(rows: int, columns: int, seed: int = 0) -> tuple[Array, Array]:
    """Rows of columns in different units, and a target that depends on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) * np.logspace(0, 2, columns) + np.arange(columns)
    y = (x / np.logspace(0, 2, columns)) @ rng.normal(size=columns) + 0.1 * rng.normal(size=rows)
    return x.astype("float32"), y.astype("float32")


def tokens(rows: int, length: int, vocabulary: int, seed: int = 0) -> tuple[Array, Array]:
    """Sequences of ids; which half of the vocabulary is more frequent is the label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    half = vocabulary // 2
    upper = rng.random((rows, length)) < np.where(y, 0.8, 0.2)[:, None]
    x = 1 + rng.integers(0, half - 1, (rows, length)) + upper * (half - 1)
    return x.astype("int32"), y.astype("int64")


def waves(rows: int, steps: int, channels: int = 1, seed: int = 0) -> tuple[Array, Array]:
    """Noisy sines of two frequencies; which one it is is the label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    t = np.linspace(0, 6.28, steps)[None, :, None]
    phase = rng.random((rows, 1, channels)) * 6.28
    x = np.sin((3 + 5 * y[:, None, None]) * t + phase) + 0.2 * rng.normal(size=(rows, steps, channels))
    return x.astype("float32"), y.astype("int64")
