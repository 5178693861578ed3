"""Rows that stay in main memory as NumPy arrays and are copied to the device in batches, for JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lanfit.training.backend import Rows
from lanfit.wire.arrays import AnyArray


def set_seed(seed: int) -> None:
    """Set Keras' seed. This is cheap, because `prepare_keras` prevents Keras from importing TensorFlow."""
    import keras

    keras.utils.set_random_seed(seed)


def resident(array: AnyArray) -> AnyArray:
    """Return an array with floats converted to float32, as Keras does; for a memory-mapped one, the plain array."""
    return np.asarray(array, np.float32 if array.dtype.kind == "f" else None)


def batches(data: tuple[AnyArray, ...], rows: Rows, batch_size: int) -> Iterator[tuple[AnyArray, ...]]:
    """Yield the batches of these rows, in order."""
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        yield tuple(array[batch] for array in data)
