"""Keras' side of a fit: calls its callbacks at the ends of epochs and rounds, and makes its history."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.core.workspace import Workspace
from lanfit.errors import LanfitError
from lanfit.models.weights import set_weights
from lanfit.transfer.blocks import ArrayFile
from lanfit_server.api.callbacks import warn
from lanfit_server.api.outcome import history_of, load_models, load_weights, outcome_file
from lanfit_server.api.progress import Progress
from lanfit_server.api.service_messages import EpochDone, RoundDone
from lanfit_server.run.resume import summary_of
from lanfit_server.store.summary import ClientFacts, Summary


def make_history(model: Any) -> Any:
    """Return a `keras.callbacks.History` with the results of a run on a cluster."""
    import keras

    class History(keras.callbacks.History):  # type: ignore[misc]
        """Keras' history with `run`, `summary`, `clients`, and the clients' `models`."""

        run: str
        summary: Summary
        clients: tuple[ClientFacts, ...]
        _workspace: Workspace
        _models: list[Any] | None = None
        _known: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)
        """Lets Keras find the custom objects of the model."""

        @property
        def models(self) -> list[Any]:
            """The clients' compiled models (methods fit and kfold), in the order of `clients`; read on access."""
            if self._models is None:
                with self._known():
                    self._models = load_models(self.summary, self._workspace)
            return self._models

    history = History()
    history.set_model(model)
    return history


def fill_history(history: Any, summary: Summary, workspace: Workspace, verbose: int, epochs: int) -> Any:
    """Copy the results of a run to a history."""
    history.history = history_of(summary)
    length = max((len(values) for values in history.history.values()), default=0)
    history.epoch = list(range(length))
    history.set_params({"verbose": verbose, "epochs": epochs, "steps": None})
    history.run, history.summary, history.clients = summary.run, summary, summary.clients
    history._workspace = workspace
    return history


class Watcher:
    """Follows one fit.

    Args:
        method: the job's.
        in_rounds: whether a global model is trained in rounds; else each client trains its own.
        total: epochs, or rounds.
        clients: how many take part.
        unchangeable: settings that can't be changed in its run, and why.
    """

    def __init__(
        self,
        model: Any,
        callbacks: Sequence[Any],
        progress: Progress,
        *,
        method: str,
        in_rounds: bool,
        total: int,
        clients: int,
        verbose: int,
        unchangeable: Mapping[str, LanfitError],
    ) -> None:
        import keras

        self._model = model
        self._progress = progress
        self.method = method
        self.in_rounds = in_rounds
        self._total = total
        self._clients = clients
        self.unchangeable = unchangeable
        self._verbose = verbose
        self._history = make_history(model)
        self.has_callbacks = bool(callbacks)
        warn(callbacks)
        self._callbacks = keras.callbacks.CallbackList(
            [self._history, *callbacks], model=model, verbose=verbose, epochs=total, steps=None
        )
        self._epochs: dict[int, dict[str, Mapping[str, float]]] = {}
        self._done = 0
        self.run: str | None = None
        """The name of the run, as soon as it has started."""

    def begin(self) -> None:
        self._model.stop_training = False
        self._callbacks.on_train_begin()
        self._callbacks.on_epoch_begin(0)

    def expect(self, total: int) -> None:
        """Handle a new number of rounds."""
        self._total = max(total, self._done)

    def epoch(self, message: EpochDone) -> None:
        """Handle a finished epoch of a client; the epoch ends when all clients have finished it."""
        if self.in_rounds or message.fold:
            return
        self._epochs.setdefault(message.epoch, {})[message.client] = message.metrics
        while len(done := self._epochs.get(self._done, {})) >= self._clients:
            lines = list(done.values())
            self._end({name: sum(line.get(name, 0.0) for line in lines) / len(lines) for name in lines[0]})

    def round(self, message: RoundDone) -> bool:
        """Handle the end of a round; return whether to stop."""
        if message.weights is not None:
            self._take(message.weights)
        self._end(message.logs)
        return bool(self._model.stop_training)

    def _take(self, file: ArrayFile) -> None:
        arrays = file.load()
        names = list(arrays)[: len(self._model.weights)]
        set_weights(self._model, {name: arrays[name] for name in names})

    def _end(self, logs: Mapping[str, float]) -> None:
        self._done += 1
        self._progress.step(self._done, logs)
        self._callbacks.on_epoch_end(self._done - 1, dict(logs))
        if self._done < self._total and not (self.in_rounds and self._model.stop_training):
            self._callbacks.on_epoch_begin(self._done)
        if self._model.stop_training and not self.in_rounds:
            self._model.stop_training = False
            warnings.warn(
                "a callback has set model.stop_training, which only ends rounds: use patience= with this method",
                stacklevel=5,
            )

    def interrupted(self, workspace: Workspace) -> str | None:
        """Put the weights of a run that ended early into the model; return a line about it."""
        if self.run is None:
            return None
        try:
            summary = summary_of(workspace, self.run)
            path = outcome_file(summary, workspace)
            if path is None or summary.final is None:
                return f"Run {self.run} was stopped before anything was finished: the model is unchanged."
            load_weights(self._model, path)
        except (OSError, ValueError, LanfitError):
            return f"Run {self.run} was stopped early."
        of = f"round {summary.final.round}" if summary.final.round else str(summary.final.client)
        return f"Run {self.run} was stopped early: the model has the weights of {of}."

    def finish(self, summary: Summary, workspace: Workspace) -> Any:
        """Put the weights of a finished run into the model; return the history."""
        path = outcome_file(summary, workspace)
        if path is not None:
            load_weights(self._model, path)
        history = fill_history(self._history, summary, workspace, self._verbose, self._total)
        lines = history.history
        before = self._model.get_weights()
        self._callbacks.on_train_end({name: values[-1] for name, values in lines.items() if values})
        after = self._model.get_weights()
        if path is not None and not all(map(np.array_equal, before, after)):
            warnings.warn(
                f"a callback changed the model at the end of the run: {summary.final and summary.final.model} has "
                "other weights",
                stacklevel=4,
            )
        return history


def final_path(summary: Summary, workspace: Workspace) -> Path | None:
    """`final.keras`, which takes raw rows; None without a model."""
    return workspace.root / summary.final.model if summary.final else None
