"""The backend protocol: everything that the trainer and the training loop require of a numerical library.

The trainer and the loop decide what is computed and when; a backend only computes. The trainer creates its `Backend`
with the `make` function of an entry in `lanfit.backends`; nothing else is needed to add one. A backend lives as long as
its process: `prepare` is called first, then the methods that each command needs, one command at a time. `Training` is
the part of the protocol that the loop uses.

Calls for one task: `load`, `start`, then for each epoch `train` (several calls), `finish_epoch`, `validate` (several
calls), `finish_validation`, perhaps `predict`; `weights` after a best epoch, `state` when a checkpoint is due; finally
`release`. `restore`, called after `start`, resumes from a saved state, to which a learning rate that was set belongs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lanfit.backends import Device
from lanfit.data.shard import Arrays, Samples
from lanfit.models.custom_files import AllowedFile
from lanfit.models.trained_model import TrainedModel
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model

Rows = NDArray[np.int64]
"""Indices of rows, in the order of use."""


class Training(Protocol):
    """Trains one model at a time; keeps a compiled model for the next task of the same model."""

    def load(self, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
        """Load the model of the next task. Raise InputError if it is not accepted."""
        ...

    def start(
        self,
        seed: int,
        batch_size: int,
        train: Samples,
        validation: Samples,
        proximal: float = 0.0,
        first_step: int = 0,
    ) -> None:
        """Reset to the loaded weights, a fresh optimizer and the random state of this seed, and set the rows.

        No state of earlier training remains: the same calls give bit-identical weights. The arrays must not change
        until `release`.

        Args:
            train, validation: normalized rows, with arrays in the order of the model's inputs and outputs.
            proximal: mu of the term mu/2 · ||w - w_loaded||² over the trainable variables. It is part of the gradient,
                but not of the reported loss (FedProx: Li et al. 2020, section 3.1).
            first_step: the step at which a learning rate schedule begins.
        """
        ...

    def train(self, rows: Rows) -> float:
        """Train on these rows, in this order, in batches; return the mean loss of the epoch so far.

        The last batch of a call may be smaller, which is allowed in the last call of an epoch only.
        """
        ...

    def finish_epoch(self) -> dict[str, float]:
        """Return `loss` and the metrics of the epoch, and reset them."""
        ...

    def validate(self, rows: Rows) -> float:
        """Evaluate these validation rows without training; return the mean loss so far."""
        ...

    def finish_validation(self) -> dict[str, float]:
        """Return `loss` and the metrics over the validated rows, and reset them."""
        ...

    def weights(self) -> dict[str, AnyArray]:
        """Return copies of the weights, under the names with which they were loaded."""
        ...

    def state(self) -> dict[str, AnyArray]:
        """Return copies of everything that training changes: weights, optimizer, random state.

        Called between epochs.
        """
        ...

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Resume from a state, bit-identically. Called after `start`.

        Raises:
            ValueError: the state does not fit this model and optimizer. Nothing was changed.
        """
        ...

    def release(self) -> None:
        """Release the rows, so that their files can be deleted. The model stays loaded."""
        ...

    @property
    def learning_rate(self) -> float:
        """The current learning rate of the optimizer."""
        ...

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the optimizer, which is a number and not a schedule. Called between epochs."""
        ...


class Backend(Training, Protocol):
    """Everything that a trainer needs. Models are given as architecture and compile options in Keras' JSON."""

    def prepare(self, threads: int, device: str) -> Device:
        """Import the library and configure it, so that results depend on job, `versions`, device and threads alone.

        Called once, before any other method.

        Args:
            threads: the number of cores that one operation may use; 0: no limit.
            device: "cpu", "gpu" or "auto".

        Raises:
            InputError: the library can't be used here, or a GPU was requested and none was found.
        """
        ...

    @property
    def versions(self) -> tuple[str, ...]:
        """Return the versions of all software that results depend on; a checkpoint of other versions is not resumed."""
        ...

    def use_custom(self, files: Sequence[AllowedFile]) -> None:
        """Allow models to use the custom objects of these files, and no others.

        Raises:
            InputError: a file differs from the one that was allowed, or fails.
        """
        ...

    def check_model(self, model: Model, server_keras: str) -> None:
        """Check that a model can be built, before its rows are received.

        Raises:
            InputError: it can't be built; the message names the server's version of Keras.
        """
        ...

    def check_batch(self, model: Model, weights: Mapping[str, AnyArray], batch: Samples) -> None:
        """Check that a model can compute a batch.

        Raises:
            InputError: the shapes do not fit, or the outputs are not finite. The message states the reason.
        """
        ...

    def evaluate(self, model: Model, members: Sequence[TrainedModel], rows: Samples) -> dict[str, float]:
        """Return `loss` and the scores of a model, or of the averaged outputs of several; empty without rows.

        Args:
            rows: raw values. Metrics are in their units.
        """
        ...

    def predict(self, model: Model, inputs: Arrays) -> Mapping[str, AnyArray]:
        """Return the predictions of each output with the current weights; called between epochs.

        Training continues with the same bits as without this call.

        Args:
            model: the loaded one.
            inputs: a few normalized rows, by the name of the input.

        Returns:
            float32 as the model is trained to give them, but with a probability in place of a logit of two classes.
        """
        ...

    def write_model(self, path: Path, model: Model, weights: Mapping[str, AnyArray]) -> None:
        """Write a model to a file atomically.

        Raises:
            OSError: the file can't be written.
            ValueError: this model can't be saved. The message states the reason.
        """
        ...

    def place(self, array: AnyArray) -> AnyArray:
        """Copy rows to the device that trains, for any number of calls of `start`. The result does not map a file.

        The array must not change afterwards.
        """
        ...

    def forget_start(self) -> None:
        """Release the starting weights of the last task."""
        ...
