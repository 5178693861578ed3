"""The outcome of a run for a Python program: its summary as a Keras history, and its models. Reads files of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lanfit.core.workspace import Workspace
from lanfit.models.weights import fit_shapes, get_weights, set_weights
from lanfit_server.methods.federated.facts import as_logs, evaluated
from lanfit_server.store.summary import ClientFacts, RoundFacts, Summary


def best_client(summary: Summary) -> ClientFacts | None:
    """Return the client whose model is the outcome; None for a global model, or without any."""
    name = summary.final.client if summary.final else None
    return next((client for client in summary.clients if client.name == name), None)


def outcome_file(summary: Summary, workspace: Workspace) -> Path | None:
    """Return the model file with the weights of the outcome, without a normalizer; None if there is none."""
    if summary.final is None:
        return None
    if (best := best_client(summary)) is not None:
        return _file(workspace, best.model)
    return _file(workspace, next((r.model for r in summary.rounds if r.round == summary.final.round), None))


def _file(workspace: Workspace, name: str | None) -> Path | None:
    return workspace.root / name if name else None


def history_of(summary: Summary) -> dict[str, list[float]]:
    """Return a history as in Keras: a list for each metric, with one number per epoch of the best client or round."""
    if summary.rounds:
        return columns([logs_of(each, summary.clients) for each in summary.rounds])
    best = best_client(summary)
    return dict(best.history) if best else {}


def columns(lines: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return a list for each metric of some records; NaN where a record does not have it."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    return {name: [line.get(name, float("nan")) for line in lines] for name in names}


def logs_of(round_: RoundFacts, clients: Sequence[ClientFacts]) -> dict[str, float]:
    """Return the logs of a round: the mean training metrics of the clients, and the evaluation with the prefix `val_`.

    Without an evaluation those that clients made on their own validation rows, the mean weighted by samples.
    """
    samples = {client.name: client.samples for client in clients}
    return as_logs(round_.training, evaluated(round_.metrics, round_.validation, samples))


def load_weights(model: Any, path: Path) -> None:
    """Load the weights of a model file into a model of the same architecture."""
    import keras

    found = keras.models.load_model(path, compile=False)
    set_weights(model, fit_shapes(model, get_weights(found)))


def load_models(summary: Summary, workspace: Workspace) -> list[Any]:
    """Return the clients' compiled models, in the order of `summary.clients`; None for a client without one."""
    import keras

    files = [_file(workspace, client.model) for client in summary.clients]
    return [keras.models.load_model(path) if path is not None else None for path in files]
