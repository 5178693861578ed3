"""A run's event files, of real runs on simulated clients: Keras' layout, and the numbers of the summary."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from event_reader import read
from fakes.fake_cluster import run_script
from fakes.places import Place, place_of  # noqa: F401

from lanfit_server.run.events import Commanded, EpochCompleted, RoundCompleted, TaskLeased
from lanfit_server.store.summary import Summary
from lanfit_server.ui.tensorboard import TensorBoard

pytest.importorskip("tensorboard")


def run(place: Place, **values: object) -> tuple[Summary, Path]:
    async def script() -> Summary:
        async with place.simulation() as session:
            return await (await session.submit(place.request(**values))).ended()

    summary = run_script(script())
    return summary, place.workspace.run_folder(summary.run) / "tensorboard"


def series(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def as_read(values: list[float]) -> list[tuple[int, float]]:
    return [(step, np.float32(value)) for step, value in enumerate(values)]


def test_a_training_has_its_epochs_and_all_have_their_mean(place: Place) -> None:
    summary, folder = run(place, epochs=3)
    assert {path.name for path in (folder / "clients").iterdir()} == {"sim-001", "sim-002"}
    for client in summary.clients:
        own = folder / "clients" / client.name
        assert series(own / "train", "epoch_loss") == as_read(client.history["loss"])
        assert series(own / "validation", "epoch_loss") == as_read(client.history["val_loss"])
    both = [client.history["loss"] for client in summary.clients]
    assert series(folder / "train", "epoch_loss") == as_read([sum(pair) / 2 for pair in zip(*both, strict=True)])


def test_every_fold_has_its_own_folder(place: Place) -> None:
    summary, folder = run(place, method="kfold", folds=2, epochs=2)
    names = {path.name for path in (folder / "clients").iterdir()}
    assert names == {f"sim-00{client}-fold-{fold}" for client in (1, 2) for fold in (1, 2)}
    fold = summary.clients[0].folds[1]
    assert series(folder / "clients" / "sim-001-fold-2" / "train", "epoch_loss") == as_read(fold.history["loss"])


def test_the_global_model_has_its_rounds_and_clients_count_their_epochs_on(place: Place) -> None:
    summary, folder = run(place, method="federated", rounds=3, epochs=2)
    rounds = [each.training["loss"] for each in summary.rounds]
    assert series(folder / "train", "epoch_loss") == as_read(rounds)
    assert series(folder / "validation", "epoch_loss") == as_read([each.metrics["loss"] for each in summary.rounds])
    client = summary.clients[0]
    assert series(folder / "clients" / client.name / "train", "epoch_loss") == as_read(client.history["loss"])
    assert len(client.history["loss"]) == 6


def watched(folder: Path, optimizer: str, **job: Any) -> TensorBoard:
    """A watcher of a run of a model with this optimizer."""
    compiled = f'{{"optimizer": {{"class_name": "SGD", "config": {{"learning_rate": {optimizer}}}}}}}'
    model = SimpleNamespace(compile=compiled)
    found = TensorBoard()
    facts: Any = SimpleNamespace(
        folder=folder,
        record=SimpleNamespace(model=model),
        job=SimpleNamespace(**{"learning_rate": None, "changes": None, **job}),
    )
    found.began(facts)
    return found


RATE = "epoch_learning_rate"


def test_the_learning_rate_of_a_training_is_there_and_follows_the_operator(tmp_path: Path) -> None:
    board = watched(tmp_path, "0.5")
    board.event(EpochCompleted("a", "a", 0, 1, {"loss": 1.0}), 0.0)
    board.event(Commanded("set learning_rate", "0.25", tasks=("shard-2",)), 0.0)
    board.event(TaskLeased("shard-2", "b", 1, owner="b"), 0.0)
    board.event(EpochCompleted("b", "b", 0, 1, {"loss": 1.0}), 0.0)
    folder = tmp_path / "tensorboard" / "clients"
    assert series(folder / "a" / "train", RATE) == [(0, 0.5)]
    assert series(folder / "b" / "train", RATE) == [(0, 0.25)]


def test_the_learning_rate_of_rounds_changes_with_the_round(tmp_path: Path) -> None:
    board = watched(tmp_path, "0.5", learning_rate=0.125, changes=("2:learning_rate=0.25",))
    board.event(Commanded("set learning_rate", "1", round=3), 0.0)
    for number in (1, 2, 3):
        board.event(RoundCompleted(number, 3, 2, 1.0, logs={"loss": 1.0}), 0.0)
    assert series(tmp_path / "tensorboard" / "train", RATE) == [(0, 0.125), (1, 0.25), (2, 1.0)]


def test_a_schedule_or_a_metric_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    board = watched(tmp_path, '{"class_name": "ExponentialDecay", "config": {}}')
    board.event(EpochCompleted("a", "a", 0, 1, {"loss": 1.0}), 0.0)
    board = watched(tmp_path, "0.5")
    board.event(EpochCompleted("b", "b", 0, 1, {"learning_rate": 0.25}), 0.0)
    folder = tmp_path / "tensorboard" / "clients"
    assert read(folder / "a" / "train").Tags()["scalars"] == ["epoch_loss"]
    assert series(folder / "b" / "train", RATE) == [(0, 0.25)]


def test_a_full_disk_leaves_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = watched(tmp_path, "0.5")

    def full(*what: object, **how: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        board.event(EpochCompleted("a", "a", 0, 2, {"loss": 1.0}), 0.0)
    board.event(EpochCompleted("a", "a", 1, 2, {"loss": 0.5}), 0.0)
    assert series(tmp_path / "tensorboard" / "clients" / "a" / "train", "epoch_loss") == [(1, 0.5)]
