"""What a Keras backend must give to train with: arrays as it takes them, and many steps of a model in one call.

One module for each backend, because only the loops differ: tensorflow_steps, jax_steps, torch_steps. They import their
backend inside their functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lanfit.training import jax_steps, tensorflow_steps, torch_steps
from lanfit.training.backend import Rows
from lanfit.training.proximal import Proximal
from lanfit.wire.arrays import AnyArray

Loop = Callable[[tuple[Any, ...], Rows, int], None]
"""`loop(data, rows, batch_size)` runs a step on each batch of the rows, in order; metrics add up in the model."""


class Steps(Protocol):
    """What such a module offers."""

    def resident(self, array: AnyArray) -> Any:
        """Return the array for the loops; every float as float32, as Keras has it. It must not change meanwhile."""
        ...

    def loops(
        self, model: Any, data: tuple[Any, ...], validation: tuple[Any, ...], proximal: Proximal | None
    ) -> tuple[Loop, Loop]:
        """Return the loops that train and that score a compiled model, for rows like these of either."""
        ...

    def set_seed(self, seed: int) -> None:
        """As `keras.utils.set_random_seed`, for a model that is compiled already and stays so."""
        ...

    def random_state(self) -> dict[str, AnyArray]:
        """Return the random state that the steps use and that is no variable of the model."""
        ...

    def set_random_state(self, state: Mapping[str, AnyArray]) -> None:
        """Go back to a random state; what else is in `state` is left alone."""
        ...


def steps_of(backend: str) -> Steps:
    """The steps of the backend that Keras runs on."""
    return {"tensorflow": tensorflow_steps, "jax": jax_steps, "torch": torch_steps}[backend]
