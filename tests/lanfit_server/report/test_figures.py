"""Figures of a run on their way to people and scripts: events, summaries, and the history of a Python program."""

from __future__ import annotations

import json
import math
from pathlib import Path

from lanfit_server.api.outcome import history_of
from lanfit_server.run.events import ModelEvaluated
from lanfit_server.run.journal import Journal
from lanfit_server.store.summary import Bytes, ClientFacts, DataFacts, ModelFacts, RoundFacts, Summary, read_summary

NAN = math.nan


def client(name: str, samples: int = 10, **facts: object) -> ClientFacts:
    fields: dict[str, object] = {
        "name": name, "backend": "tensorflow", "device": "cpu", "threads": 1, "samples": samples, "tasks": 1,
        "status": "done", "model": None, "history": {}, "best_epoch": None, "metrics": {}, "seconds": {"train": 0.0},
        "bytes": Bytes(0, 0),
    }  # fmt: skip
    return ClientFacts(**{**fields, **facts})  # type: ignore[arg-type]


def round_(number: int, **facts: object) -> RoundFacts:
    fields: dict[str, object] = {
        "round": number, "clients": ("lab-1", "lab-2"), "seconds": 1.0, "overhead_seconds": 0.0, "metrics": {},
        "model": None, "training": {"loss": 1.0}, "validation": {}, "drift": {}, "left_out": {}, "parts": {},
    }  # fmt: skip
    return RoundFacts(**{**fields, **facts})  # type: ignore[arg-type]


def summary(*rounds: RoundFacts) -> Summary:
    return Summary(
        run="run-1", status="done", method="federated", seed=0, metrics_from="clients", model=ModelFacts("net.h5", 1),
        data=DataFacts("arrays", 20, 16, 4, 0, "none", None), clients=(client("lab-1"), client("lab-2", 30)),
        rounds=rounds, final=None, seconds={"total": 1.0, "train": 1.0}, error=None,
    )  # fmt: skip


def test_a_metric_that_is_nan_in_training_comes_back_from_the_summary() -> None:
    drift: dict[str, dict[str, float | None]] = {"lab-1": {"norm": 1.0, "cosine": None}}
    reported = summary(
        round_(1, training={"loss": 1.0, "pearson": NAN}, validation={"lab-1": {"loss": NAN}}, drift=drift),
        round_(2, metrics={"loss": 0.5, "r2": NAN}),
    )
    assert b'"pearson": null' in reported.to_json()
    read = read_summary(reported.to_json())
    assert math.isnan(read.rounds[0].training["pearson"])
    assert math.isnan(read.rounds[0].validation["lab-1"]["loss"])
    assert math.isnan(read.rounds[1].metrics["r2"])
    assert read.rounds[0].drift == drift
    history = history_of(read)
    assert history["loss"] == [1.0, 1.0]
    assert math.isnan(history["pearson"][0])


def test_a_metric_that_is_called_like_a_fact_of_an_event_does_not_hide_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    figures = {"cross entropy": 0.5, "time": 1.0, "event": 2.0, "task": 3.0, "kind": 4.0, "self": 5.0}
    journal(ModelEvaluated("shard-1", figures), 0.0)
    journal.close()
    [event] = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (event["event"], event["task"], event["time"] > 5) == ("scored", "shard-1", True)
    assert (event["cross entropy"], event["kind"], event["self"]) == (0.5, 4.0, 5.0)


def test_a_history_has_the_compiled_metrics_under_the_names_that_keras_gives_them() -> None:
    figures = {"loss": 0.5, "accuracy": 0.9, "precision": 0.8, "compiled_precision": 0.6, "sparse categorical": 0.9}
    trained = {"loss": 0.4, "precision": 0.7, "sparse categorical": 0.8, "val_loss": 9.0}
    expected = {
        "loss": [0.4], "precision": [0.7], "sparse categorical": [0.8], "val_loss": [0.5], "val_accuracy": [0.9],
        "val_precision": [0.6], "val_sparse categorical": [0.9],
    }  # fmt: skip
    assert history_of(summary(round_(1, training=trained, metrics=figures))) == expected
    # Where clients have measured on their validation rows: 10 and 30 samples.
    other = {**figures, "loss": 1.5}
    by_client = {"lab-1": figures, "lab-2": other}
    assert history_of(summary(round_(1, training=trained, validation=by_client))) == {**expected, "val_loss": [1.25]}
