"""What a run gave, for a Python program: its summary as a history of Keras, and its models. Reads files of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lanfit.models.weights import fit_shapes, get_weights, set_weights
from lanfit.workspace import Workspace
from lanfit_server.round_facts import as_logs, evaluated
from lanfit_server.summary import ClientFacts, RoundFacts, Summary


def best_client(summary: Summary) -> ClientFacts | None:
    """The client whose model is the outcome; None where it is that of all, or there is none."""
    name = summary.final.client if summary.final else None
    return next((client for client in summary.clients if client.name == name), None)


def outcome_file(summary: Summary, workspace: Workspace) -> Path | None:
    """The model file with the weights of the outcome, without a normalizer in front; None when there is none."""
    if summary.final is None:
        return None
    if (best := best_client(summary)) is not None:
        return _file(workspace, best.model)
    return _file(workspace, next((r.model for r in summary.rounds if r.round == summary.final.round), None))


def _file(workspace: Workspace, name: str | None) -> Path | None:
    return workspace.root / name if name else None


def history_of(summary: Summary) -> dict[str, list[float]]:
    """As Keras has it: a list for each metric, one number an epoch of the best client, or a round of all."""
    if summary.rounds:
        return columns([logs_of(each, summary.clients) for each in summary.rounds])
    best = best_client(summary)
    return dict(best.history) if best else {}


def columns(lines: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Lines with figures as a list for each of them; NaN where a line has none."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    return {name: [line.get(name, float("nan")) for line in lines] for name in names}


def logs_of(round_: RoundFacts, clients: Sequence[ClientFacts]) -> dict[str, float]:
    """A round's line: figures of training, the mean over the clients, and those of its evaluation, with `val_`.

    Without an evaluation those that clients made on their own validation rows, the mean weighted by samples.
    """
    samples = {client.name: client.samples for client in clients}
    return as_logs(round_.training, evaluated(round_.metrics, round_.validation, samples))


def load_weights(model: Any, path: Path) -> None:
    """Put the weights of a model file into a model of the same architecture."""
    import keras

    found = keras.models.load_model(path, compile=False)
    set_weights(model, fit_shapes(model, get_weights(found)))


def load_models(summary: Summary, workspace: Workspace) -> list[Any]:
    """The clients' models, in the order of `summary.clients`: compiled, None for one that has none."""
    import keras

    files = [_file(workspace, client.model) for client in summary.clients]
    return [keras.models.load_model(path) if path is not None else None for path in files]
