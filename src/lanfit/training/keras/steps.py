"""The protocol of Keras' own backends: conversion of arrays, and loops that run many steps in one call.

There is one module for each: tensorflow_steps, jax_steps, torch_steps. They import their backend inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lanfit.models.structure import Arrange as Arrange
from lanfit.models.structure import Flat as Flat
from lanfit.training.backend import Rows
from lanfit.training.keras import jax_steps, tensorflow_steps, torch_steps
from lanfit.training.keras.proximal import Proximal
from lanfit.wire.arrays import AnyArray

Loop = Callable[[Flat, Rows, int], None]
"""`loop(data, rows, batch_size)` runs a step on each batch of the rows, in order; metrics accumulate in the model."""


class Steps(Protocol):
    """The interface of such a module."""

    def resident(self, array: AnyArray) -> Any:
        """Return the array in the form for loops, with floats as float32. It must not change while it is used."""
        ...

    def loops(
        self, model: Any, data: Flat, validation: Flat, arrange: Arrange, proximal: Proximal | None
    ) -> tuple[Loop, Loop]:
        """Return the loops that train and evaluate a compiled model, for rows with these shapes."""
        ...

    def set_seed(self, seed: int) -> None:
        """Set the seed as `keras.utils.set_random_seed` does, for a model that stays compiled."""
        ...

    def random_state(self) -> dict[str, AnyArray]:
        """Return the random state of the steps that is not in variables of the model."""
        ...

    def set_random_state(self, state: Mapping[str, AnyArray]) -> None:
        """Restore a random state; other entries of `state` are ignored."""
        ...


def steps_of(backend: str) -> Steps:
    """Return the steps of one of Keras' backends."""
    return {"tensorflow": tensorflow_steps, "jax": jax_steps, "torch": torch_steps}[backend]
