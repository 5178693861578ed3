"""Rows that stay in main memory as NumPy arrays and go to the device a batch at a time: for JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lanfit.training.backend import Data, Rows
from lanfit.wire.arrays import AnyArray


def set_seed(seed: int) -> None:
    """Keras' own way costs nothing here: `prepare_keras` has seen to it that it does not look for TensorFlow."""
    import keras

    keras.utils.set_random_seed(seed)


def resident(array: AnyArray) -> AnyArray:
    """Return an array with every float as float32, as Keras takes them; of a memory-mapped one, the plain array."""
    return np.asarray(array, np.float32 if array.dtype.kind == "f" else None)


def batches(data: Data, rows: Rows, batch_size: int) -> Iterator[Data]:
    """Yield the batches of these rows, in order."""
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        yield tuple(array[batch] for array in data)
