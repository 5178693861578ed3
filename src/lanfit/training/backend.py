"""What the training loop asks of whatever computes. The loop decides what and when; a backend only computes.

The life of a task: `load`, `start`, then for each epoch `train` (several calls), `finish_epoch`, `validate` (several
calls), `finish_validation`, and `weights` when they are worth keeping, `state` when a checkpoint is due; at last
`release`. After `start`, `restore` goes on where a state was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lanfit.wire.arrays import AnyArray

Rows = NDArray[np.int64]
"""Indices of rows, in the order in which they are to be used."""
Data = tuple[AnyArray, ...]
"""Inputs and targets of rows, and perhaps the weight of each row in the loss."""


class Backend(Protocol):
    """Trains one model at a time, and stays warm from one task to the next of the same model."""

    def load(self, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
        """Take the model of the next task. Raises InputError if it is refused."""
        ...

    def start(
        self, seed: int, batch_size: int, data: Data, validation: Data, proximal: float = 0.0, first_step: int = 0
    ) -> None:
        """Go back to the loaded weights, a fresh optimizer and the random state of this seed, and take the rows.

        Nothing is left of what was trained before: the same calls give the same weights, to the bit. The arrays must
        not change until `release`.

        Args:
            proximal: mu of the term mu/2 · ||w - w_loaded||² over the trainable variables, which is trained on and
                not reported (FedProx: Li et al. 2020, section 3.1).
            first_step: where a schedule of the learning rate begins.
        """
        ...

    def train(self, rows: Rows) -> float:
        """Train on these rows, in this order, in batches; return the mean loss of the epoch so far.

        The last batch of a call is cut short if it must be: only the last call of an epoch may do that.
        """
        ...

    def finish_epoch(self) -> dict[str, float]:
        """Return `loss` and the metrics of the epoch, and begin the next count."""
        ...

    def validate(self, rows: Rows) -> float:
        """Score these of the validation rows, without training; return the mean loss so far."""
        ...

    def finish_validation(self) -> dict[str, float]:
        """Return `loss` and the metrics over the validated rows, and begin the next count."""
        ...

    def weights(self) -> dict[str, AnyArray]:
        """Return copies of the weights under the names they were loaded with."""
        ...

    def state(self) -> dict[str, AnyArray]:
        """Return copies of all that training changes, between two epochs: weights, optimizer, random state."""
        ...

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """After `start`: go on where a state was taken, to the bit.

        Raises:
            ValueError: it is not of this model and optimizer; nothing was changed.
        """
        ...

    def release(self) -> None:
        """Let go of the rows: their files may be deleted now. The model stays."""
        ...

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate now."""
        ...
