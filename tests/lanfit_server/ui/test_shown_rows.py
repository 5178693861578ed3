"""Predictions that people follow, in whole runs with the fake backend: they come, they are kept, and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.fake_cluster import run_script
from fakes.places import Place, place_of  # noqa: F401
from only_tasks import TasksOnly, terms_of

from lanfit.data.shown_rows import pack
from lanfit.wire.messages import Lease
from lanfit_server.clusters.events import ClientJoined, EpochCompleted
from lanfit_server.clusters.simulated import SimulatedCluster
from lanfit_server.methods.base import Task
from lanfit_server.models.handle import Evaluate
from lanfit_server.replay.samples import rows_of_run, samples_of_run
from lanfit_server.replay.shown_predictions import FILE
from lanfit_server.run.engine import RunEngine
from lanfit_server.run.events import ConfusionCounted, RowsPredicted, RowsShown, RunBegan, RunEvent
from lanfit_server.run.instructions import Emit
from lanfit_server.run.resume import SIMULATED
from lanfit_server.run.tasks import TaskTable
from lanfit_server.store.result_store import ResultStore
from lanfit_server.watchers import Watcher


class Looking(Watcher):
    """Follows predictions."""

    follows_predictions = True

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def event(self, event: RunEvent, now: float) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[Lease]:
    """The leases that simulated clients get."""
    found, send = [], SimulatedCluster.send

    async def note(self: SimulatedCluster, client: str, message: Any) -> None:
        if isinstance(message, Lease):
            found.append(message)
        await send(self, client, message)

    monkeypatch.setattr(SimulatedCluster, "send", note)
    return found


def run(place: Place, *watchers: Watcher, **values: Any) -> Path:
    """Do a run; return its folder."""
    place.watchers = list(watchers)

    async def script() -> Path:
        async with place.simulation() as session:
            handle = await session.submit(place.request(**{"backend": "fake", **values}))
            assert (await handle.ended()).status == "done"
            return place.workspace.run_folder(handle.run)

    folder: Path = run_script(script())
    return folder


def results(place: Place, folder: Path) -> dict[str, str]:
    """By task, the hash of weights, normalizers and history."""
    found = ResultStore(place.workspace, SIMULATED).find(folder.name)
    assert found is not None
    try:
        return {each.task: each.result.block.id for each in found.ledger.results()}
    finally:
        found.ledger.close()


@pytest.mark.parametrize("method", ["fit", "kfold"])
def test_clients_predict_the_same_rows_after_epochs(place: Place, leases: list[Lease], method: str) -> None:
    looking = Looking()
    more = {"folds": 2} if method == "kfold" else {}
    folder = run(place, looking, method=method, epochs=3, **more)
    kinds = [type(each) for each in looking.events]
    assert kinds.index(RunBegan) < kinds.index(RowsShown) < kinds.index(RowsPredicted)
    [shown] = looking.of(RowsShown)
    ids = [row.id for row in shown.rows]
    assert len(ids) == 8, "these are all test rows"
    assert (shown.target, shown.classes, shown.shape) == ("values", (), (3,))
    assert all(row.values and row.truth == "0, 0, 0" for row in shown.rows)
    for lease in leases:
        assert lease.shown is not None
        assert [(each.name, each.shape) for each in lease.shown.arrays] == [("x", (8, 3))]
    reported = [(each.model, each.fold, each.at) for each in looking.of(RowsPredicted) if not each.final]
    folds = (1, 2) if method == "kfold" else (0,)
    for model in ("sim-001", "sim-002"):
        for fold in folds:
            # Those between may take too long for a backend as fast as this.
            assert {1, 3} <= {at for name, of, at in reported if (name, of) == (model, fold)} <= {1, 2, 3}
    assert all(len(each.outputs) == 24 for each in looking.of(RowsPredicted))
    asked = [each.shown for each in place.models.asked if isinstance(each, Evaluate)]
    assert asked == [tuple(ids)] * len(leases)
    final = [each for each in looking.of(RowsPredicted) if each.final]
    assert len(final) == len(looking.of(ConfusionCounted)) == len(leases)
    # What was seen can be seen again afterwards.
    models = samples_of_run(folder)["samples"]["models"]
    assert len(models) == 2 * len(folds)
    assert [row["id"] for row in rows_of_run(folder, [3, 99, 3, -1])] == [3]


def test_in_rounds_the_server_predicts_with_the_global_model(place: Place, leases: list[Lease]) -> None:
    looking = Looking()
    run(place, looking, method="federated", rounds=3)
    assert [(each.model, each.at, each.final) for each in looking.of(RowsPredicted)] == [
        ("", 1, False),
        ("", 2, False),
        ("", 3, False),
    ]
    assert [each.at for each in looking.of(ConfusionCounted)] == [1, 2, 3]
    assert leases
    assert all(lease.shown is None for lease in leases)


def test_without_somebody_who_looks_nothing_is_predicted_and_results_are_the_same_bits(
    place: Place, leases: list[Lease]
) -> None:
    with_them = results(place, run(place, Looking(), method="fit", epochs=4))
    assert len(with_them) == 2
    leases.clear()
    place.models.asked.clear()
    folder = run(place, Watcher(), method="fit", epochs=4)
    assert results(place, folder) == with_them
    assert all(lease.shown is None for lease in leases)
    assert all(each.shown == () for each in place.models.asked if isinstance(each, Evaluate))
    assert not [path.name for path in folder.iterdir() if path.name == FILE or path.suffix == ".npz"]


def test_without_test_rows_there_is_nothing_to_show(place: Place, leases: list[Lease]) -> None:
    looking = Looking()
    folder = run(place, looking, method="fit", test_split=0.0, validation_split=0.2)
    assert not looking.of(RowsShown)
    assert not looking.of(RowsPredicted)
    assert all(lease.shown is None for lease in leases)
    assert not (folder / FILE).exists()


def test_a_run_does_not_depend_on_rows_that_can_not_be_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*what: object) -> None:
        raise RuntimeError("no such picture")

    monkeypatch.setattr("lanfit_server.ui.shown_rows.choose_rows", fails)
    looking = Looking()
    run(place, looking, method="fit")
    assert not looking.of(RowsShown)
    assert "no such picture" in caplog.text


def engine(values: int) -> RunEngine:
    table = TaskTable()
    terms = terms_of(["lab-1"], epochs=3, shown_values=values)
    found = RunEngine(terms, TasksOnly([Task("shard-1", 0, 1)], table), table)  # type: ignore[arg-type]
    found.begin([ClientJoined("lab-1"), ClientJoined("evil")], {}, None, 0.0)
    return found


GOOD = pack(np.array([0.5, 0.25]))


@pytest.mark.parametrize(
    ("client", "epoch", "predictions", "values", "is_shown"),
    [
        ("lab-1", 0, GOOD, 2, True),
        ("lab-1", 0, GOOD, 0, False),
        ("lab-1", 0, GOOD, 3, False),
        ("lab-1", 0, GOOD[:-1], 2, False),
        ("lab-1", 0, b"", 2, False),
        ("lab-1", 0, pack(np.array([0.5, np.nan])), 2, False),
        ("lab-1", 3, GOOD, 2, False),
        ("lab-1", -1, GOOD, 2, False),
        ("evil", 0, GOOD, 2, False),
    ],
)
def test_what_a_client_predicts_is_shown_only_if_it_was_requested(
    client: str, epoch: int, predictions: bytes, values: int, is_shown: bool
) -> None:
    output = EpochCompleted(client, "run-1", "shard-1", epoch, {"loss": 1.0}, {}, predictions)
    out = engine(values).handle(output, 1.0)
    shown = [each.event for each in out if isinstance(each, Emit) and isinstance(each.event, RowsPredicted)]
    assert shown == ([RowsPredicted("lab-1", epoch + 1, (0.5, 0.25))] if is_shown else [])


def test_the_times_that_a_client_claims_are_known_parts_and_can_be_times() -> None:
    claimed = {"train": 1.23456789, "validate": -1.0, "compile": float("nan"), "score": 1e300, "evil": 2.0}
    [event] = [
        each.event
        for each in engine(0).handle(EpochCompleted("lab-1", "run-1", "shard-1", 0, {"loss": 1.0}, claimed), 1.0)
        if isinstance(each, Emit)
    ]
    assert event.spent == {"train": 1.2346}  # type: ignore[attr-defined]
