"""The result store: what a hostile or confused client offers is refused before anything is allocated or written."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from fakes.results import ARRAYS, LAB_1, SERVER, WEIGHTS, record, result, store_in
from hypothesis import given
from hypothesis import strategies as st

from lanfit.core.durable import atomic_write
from lanfit.core.workspace import Workspace
from lanfit.transfer.blocks import BlockFile
from lanfit.wire.arrays import ArraySpec, BlockSpec, block_of, block_size, buffers
from lanfit.wire.messages import Result
from lanfit_server.store.ledger import Ledger, RunRecord
from lanfit_server.store.result_store import Accept, Duplicate, Reject, ResultStore, Stored


def deliver(store: ResultStore, offered: Result, arrays: dict[str, np.ndarray]) -> str | None:
    """What the cluster does with an offer that is taken."""
    take = store.consider(LAB_1, offered)
    assert isinstance(take, Accept)
    assert take.size == block_size(offered.block.arrays)
    block = BlockFile.create(take.path, take.size)
    block.view[: take.size] = b"".join(bytes(buffer) for buffer in buffers(arrays))
    match asyncio.run(store.take_in(take.client, offered, lambda: block)):
        case Stored():
            return None
        case Reject(reason):
            return reason
        case other:
            raise AssertionError(other)


def test_a_result_is_stored_and_known_from_then_on_also_to_a_desk_that_is_opened_later(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert deliver(store, result(), ARRAYS) is None
    assert store.consider(LAB_1, result()) == Duplicate()
    store.close()
    later = ResultStore(Workspace(tmp_path), SERVER)
    assert later.consider(LAB_1, result()) == Duplicate()
    run = later.opened("run-1")
    (stored,) = run.ledger.results()
    np.testing.assert_array_equal(run.load(stored)["dense/kernel"], ARRAYS["dense/kernel"])
    assert run.history(stored) == {"loss": [0.5, 0.4], "val_loss": [0.6, 0.7]}
    assert run.validation_metrics(stored) == {"loss": 0.7}
    assert [found.run for found in later.unfinished()] == ["run-1"]
    run.end("done")
    assert later.unfinished() == []
    assert not (run.folder / "results").exists()
    later.close()


def test_only_the_first_of_two_results_counts(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    deliver(store, result(), ARRAYS)
    second = store.take_in("lab-2", result(best_epoch=0), lambda: pytest.fail("its block is not wanted"))
    assert asyncio.run(second) == Duplicate()
    (stored,) = store.opened("run-1").ledger.results()
    assert (stored.client, stored.result.best_epoch) == ("lab-1", 1)
    store.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_and_leave_nothing(tmp_path: Path, bad: float) -> None:
    store = store_in(tmp_path)
    arrays = {**ARRAYS, "dense/bias": np.array([0, bad], np.float32)}
    reason = deliver(store, result(block=block_of(arrays)), arrays)
    assert reason == "its array 'dense/bias' contains NaN or infinity"
    assert list((tmp_path / "logs" / "run-1" / "results").iterdir()) == []
    assert store.opened("run-1").ledger.results() == []
    store.close()


@pytest.mark.parametrize("run", ["run-2", "../run-1", "", "..", "run-1/", "a" * 65, "run-1\0"])
def test_a_run_that_this_server_does_not_have_is_refused(tmp_path: Path, run: str) -> None:
    store = store_in(tmp_path)
    assert isinstance(store.consider(LAB_1, result(run=run)), Reject)
    store.close()


def test_a_run_of_another_server_is_refused(tmp_path: Path) -> None:
    store_in(tmp_path).close()
    other = ResultStore(Workspace(tmp_path), b"o" * 16)
    assert isinstance(other.consider(LAB_1, result()), Reject)
    assert other.unfinished() == []
    other.close()


def test_a_task_that_the_run_does_not_have_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert isinstance(store.consider(LAB_1, result(task="shard-3")), Reject)
    store.close()


def with_arrays(*arrays: ArraySpec) -> BlockSpec:
    return BlockSpec("0" * 64, arrays)


HISTORY = ArraySpec("history", "float64", (2, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"block": with_arrays()},
        {"block": with_arrays(HISTORY)},
        {"block": with_arrays(*WEIGHTS)},
        {"block": with_arrays(*reversed(WEIGHTS), HISTORY)},
        {"block": with_arrays(WEIGHTS[0], ArraySpec("dense/bias", "float64", (2,)), HISTORY)},
        {"block": with_arrays(WEIGHTS[0], ArraySpec("dense/bias", "float32", (2**40,)), HISTORY)},
        {"block": with_arrays(*WEIGHTS, ArraySpec("history", "float64", (2**40, 2)))},
        {"block": with_arrays(*WEIGHTS, ArraySpec("history", "float64", (6, 2)))},
        {"block": with_arrays(*WEIGHTS, ArraySpec("history", "float64", (0, 2)))},
        {"block": with_arrays(*WEIGHTS, ArraySpec("history", "float32", (2, 2)))},
        {"block": with_arrays(*WEIGHTS, HISTORY, ArraySpec("more", "float64", (2, 2)))},
        {"metrics": ("loss",)},
        {"metrics": ("loss", "x\ny")},
        {"metrics": ("loss", "\x1b[2J")},
        {"metrics": ("loss", "")},
        {"scores": {f"m{i}": 1.0 for i in range(600)}},
        {"best_epoch": 2},
        {"best_epoch": -1},
        {"seconds": {"train": float("nan")}},
        {"seconds": {"train": -1.0}},
        {"seconds": {"\x1b[2J": 1.0}},
        {"seconds": {f"s{i}": 1.0 for i in range(40)}},
    ],
)
def test_what_does_not_fit_the_runs_own_table_is_refused_for_good(tmp_path: Path, changes: dict[str, object]) -> None:
    store = store_in(tmp_path)
    assert isinstance(store.consider(LAB_1, result(**changes)), Reject)
    assert not (tmp_path / "logs" / "run-1" / "results").exists()
    store.close()


@pytest.mark.parametrize("name", ["cross entropy", "Brier score", "précision", "a/b.c@d-e", "=1+1", "x" * 200])
def test_a_metric_may_be_called_whatever_a_line_can_show(tmp_path: Path, name: str) -> None:
    store = store_in(tmp_path)
    offered = result(metrics=(name, f"val_{name}"), scores={name: 0.5})
    assert deliver(store, offered, ARRAYS) is None
    run = store.opened("run-1")
    assert run.history(run.ledger.results()[0]) == {name: [0.5, 0.4], f"val_{name}": [0.6, 0.7]}
    store.close()


specs = st.builds(
    ArraySpec,
    st.sampled_from(["dense/kernel", "dense/bias", "history"]) | st.text(max_size=5),
    st.sampled_from(["float32", "float64", "object", "int8"]),
    st.lists(st.integers(-5, 2**62), max_size=4).map(tuple),
)


@given(
    arrays=st.lists(specs, max_size=5).map(tuple),
    metrics=st.lists(st.text(max_size=5), max_size=4).map(tuple),
    best=st.integers(-(2**40), 2**40),
)
def test_no_offer_makes_the_desk_do_anything_but_answer(
    tmp_path_factory: pytest.TempPathFactory, arrays: tuple[ArraySpec, ...], metrics: tuple[str, ...], best: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = store_in(folder)
    offer = result(block=BlockSpec("0" * 64, arrays), metrics=metrics, best_epoch=best)
    decision = store.consider(LAB_1, offer)
    assert isinstance(decision, Reject) or (isinstance(decision, Accept) and arrays[:2] == WEIGHTS)
    store.close()


def test_a_ledger_keeps_a_record_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.record is None
    ledger.open_run(record("run-9"))
    ledger.close()
    again = Ledger(tmp_path)
    assert again.record == record("run-9")
    assert again.status == "unfinished"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(again.record), type=RunRecord) == record("run-9")
    again.close()


#: Begins a file in each folder, and dies over it as a killed server does.
DIES = """
import os, pathlib, sys
from contextlib import ExitStack
from lanfit.core.durable import atomic_file
with ExitStack() as opened:
    for name in sys.argv[1:]:
        opened.enter_context(atomic_file(pathlib.Path(name))).write_text("half")
    os._exit(9)
"""


def test_what_a_killed_server_has_half_written_goes_as_its_run_ends(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    run = store.opened("run-1")
    half = (run.collected("lab-1.h5"), run.folder / "clients" / "lab-1" / "history", run.folder / "report.xlsx")
    whole = (run.collected("lab-2.h5"), run.folder / "clients" / "lab-2.7.log", run.folder / ".kept")
    for path in whole:
        atomic_write(path, "whole")
    assert subprocess.run([sys.executable, "-c", DIES, *map(str, half)], check=False).returncode == 9
    left = [path for path in tmp_path.rglob(".*") if path.name != ".kept"]
    assert len(left) == 3
    run.end("done")
    assert not [path for path in left if path.exists()]
    assert [path.read_text() for path in whole] == ["whole"] * 3
    store.close()


def test_a_desk_that_has_closed_its_ledgers_takes_what_was_on_its_way_and_what_comes_later(tmp_path: Path) -> None:
    def opened() -> list[str]:
        return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))]

    store = store_in(tmp_path)
    take = store.consider(LAB_1, result())
    assert isinstance(take, Accept)
    assert opened()
    store.close()
    assert opened() == [], "descriptors would add up with the runs of a server"
    block = BlockFile.create(take.path, take.size)
    block.view[: take.size] = b"".join(bytes(buffer) for buffer in buffers(ARRAYS))
    assert not store.is_duplicate(result())
    assert take.path.exists(), "what is on its way belongs to this server"
    store.close()

    async def take_in_while_it_is_closed() -> object:
        loop, closed = asyncio.get_running_loop(), threading.Event()

        def close() -> None:
            store.close()
            closed.set()

        def received() -> BlockFile:
            loop.call_soon_threadsafe(close)
            closed.wait()
            return block

        return await store.take_in("lab-1", result(), received)

    assert asyncio.run(take_in_while_it_is_closed()) == Stored()
    store.close()
    assert store.consider(LAB_1, result()) == Duplicate()
    store.close()
    assert opened() == []


def test_of_two_deliveries_of_a_task_at_a_time_one_counts_and_nothing_of_them_stays_in_memory(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    offered = result()
    accepted = store.consider(LAB_1, offered)
    assert isinstance(accepted, Accept)

    def received() -> BlockFile:
        block = BlockFile.create(accepted.path, accepted.size)
        block.view[: accepted.size] = b"".join(bytes(buffer) for buffer in buffers(ARRAYS))
        return block

    async def deliver_both() -> list[str]:
        outcomes = await asyncio.gather(*(store.take_in(name, offered, received) for name in ("lab-1", "lab-2")))
        return [type(each).__name__ for each in outcomes]

    assert sorted(asyncio.run(deliver_both())) == ["Duplicate", "Stored"]
    assert not len(store._locks)
    store.close()
