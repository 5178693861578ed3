"""Many steps of a Keras model on PyTorch, in one call. The step is Keras' own, run as `model.fit` runs it: eagerly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lanfit.models.structure import Arrange, Flat
from lanfit.training.backend import Rows
from lanfit.training.keras.host_rows import batches, resident, set_seed
from lanfit.training.keras.proximal import Proximal
from lanfit.wire.arrays import AnyArray

__all__ = ["loops", "random_state", "resident", "set_random_state", "set_seed"]


def loops(
    model: Any, data: Flat, validation: Flat, arrange: Arrange, proximal: Proximal | None
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the loops that train and evaluate a compiled model."""
    import torch

    def train_step(data: Any) -> Any:
        assert proximal is not None
        with proximal.in_scaled_loss(model):
            return model.train_step(data)

    train = _loop(model.train_step if proximal is None else train_step, arrange)
    return train, torch.no_grad()(_loop(model.test_step, arrange))


def _loop(step: Callable[[Any], Any], arrange: Arrange) -> Callable[..., None]:
    import keras

    tensor = keras.ops.convert_to_tensor

    def loop(data: Flat, rows: Rows, batch_size: int) -> None:
        for batch in batches(data, rows, batch_size):
            step(arrange(tuple(tensor(array) for array in batch)))

    return loop


def random_state() -> dict[str, AnyArray]:
    """Return the state of PyTorch's generators, which Keras' dropout uses: PyTorch's dropout takes no other seed."""
    import torch

    states = {"torch/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["torch/cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["torch/mps"] = torch.mps.get_rng_state()
    return {name: state.numpy().copy() for name, state in states.items()}


def set_random_state(state: Mapping[str, AnyArray]) -> None:
    """Restore the state of the generators."""
    import torch

    setters = {
        "torch/cpu": torch.set_rng_state,
        "torch/cuda": torch.cuda.set_rng_state,
        "torch/mps": torch.mps.set_rng_state,
    }
    for name, put_back in setters.items():
        if name in state:
            put_back(torch.from_numpy(state[name].copy()))
