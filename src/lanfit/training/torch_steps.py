"""Many steps of a Keras model on PyTorch, in one call. The step is Keras' own, run as `model.fit` runs it: eagerly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lanfit.training.backend import Rows
from lanfit.training.host_rows import batches, resident
from lanfit.wire.arrays import AnyArray

__all__ = ["loops", "resident"]


def loops(model: Any, x: AnyArray, y: AnyArray) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the loops that train and that score a compiled model."""
    import torch

    return _loop(model.train_step), torch.no_grad()(_loop(model.test_step))


def _loop(step: Callable[[Any], Any]) -> Callable[..., None]:
    import keras

    tensor = keras.ops.convert_to_tensor

    def loop(x: AnyArray, y: AnyArray, rows: Rows, batch_size: int) -> None:
        for x_batch, y_batch in batches(x, y, rows, batch_size):
            step((tensor(x_batch), tensor(y_batch)))

    return loop
