"""Simulated clients over a played pool: what a trainer gives goes the way of every result, and is told alike."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.fake_cluster import run_script
from fakes.results import ARRAYS, SERVER, WEIGHTS, record

from lanfit.core.workspace import Workspace
from lanfit.errors import ChildDied, TrainingError
from lanfit.training import checkpoint, commands
from lanfit.training.checkpoint import Snapshot, write_checkpoint
from lanfit.training.commands import EpochDone, Note, Ready, Step, Trained
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import AnyArray, ArraySpec, block_of, block_size
from lanfit.wire.messages import (
    Cancel,
    ClientData,
    EvaluateTask,
    FitTask,
    Lease,
    Model,
    RunEnded,
    Runtime,
    Survey,
)
from lanfit_server.clusters import simulated
from lanfit_server.clusters.events import (
    DuplicateResult,
    EpochCompleted,
    Evaluated,
    Event,
    Logged,
    ResultCommitted,
    ResultOffered,
    SurveyFailed,
    TaskFailed,
)
from lanfit_server.clusters.pool import WorkItem
from lanfit_server.clusters.simulated import SimulatedCluster, client_id
from lanfit_server.store.ledger import Ledger, OwnedTask, StoredResult
from lanfit_server.store.result_store import OpenRun, ResultStore

READY = Ready("tensorflow", "cpu", 1, 0.5)
MODEL = Model("{}", "{}", (None, 3), (None, 2), "values", "none", "none")
OWN = ClientData(2, 0.2, 0.1, 0, 0, None)
START = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in WEIGHTS}
TASKS = 3


class FakePool:
    """Trainers that the test plays."""

    size = 2

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.is_busy = False
        self.queue: list[WorkItem] = []
        self.withdrawn: list[WorkItem] = []
        self.adjusted: list[WorkItem] = []
        self.closed = False

    def submit(self, item: WorkItem) -> None:
        self.items.append(item)
        if self.is_busy:
            self.queue.append(item)

    async def withdraw(self, item: WorkItem) -> None:
        self.withdrawn.append(item)

    async def adjust(self, item: WorkItem) -> None:
        self.adjusted.append(item)

    def waiting(self) -> list[WorkItem]:
        return self.queue

    async def close(self) -> None:
        self.closed = True


class Scenario:
    """A run with three tasks, and three clients."""

    def __init__(self, folder: Path) -> None:
        place = Workspace(folder)
        self.ledger = Ledger(place.run_folder("run-1"))
        self.ledger.open_run(record("run-1"))
        self.ledger.add_tasks([OwnedTask(f"shard-{number}", f"sim-00{number}") for number in range(1, TASKS + 1)])
        for number in range(1, TASKS + 1):
            self.ledger.remember(f"sim-00{number}", client_id(number))
        self.store = ResultStore(place, SERVER)
        self.run = OpenRun(place, "run-1", self.ledger, record("run-1"))
        self.store.open(self.run)
        self.free = 50 << 30
        self.store.disk_usage = lambda path: (100 << 30, 0, self.free)
        self.pool = FakePool()
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.cluster = SimulatedCluster(self.store, self.pool, self.scratch)
        self.cluster.later_seconds = 0.0
        self.output: list[str] = []
        self.cluster.log = self.output.append
        self.weights = self._serve(START)
        self.shards = [self._serve(shard(number)) for number in range(TASKS)]

    def _serve(self, arrays: Mapping[str, AnyArray]) -> Any:
        spec = block_of(arrays)
        self.cluster.serve_block(spec, arrays)
        return spec

    def lease(self, number: int = 1, attempt: int = 1) -> Lease:
        fit = FitTask(MODEL, 2, 2, number, 0, Runtime("", "", 0), None, None)
        key = f"shard-{number}"
        return Lease("run-1", key, attempt, f"sim-00{number}", fit, self.weights, self.shards[number - 1])

    async def send(self, number: int, task: int, attempt: int = 1) -> None:
        """Lease a task to a client."""
        self.ledger.lease(f"shard-{task}", attempt, f"sim-00{number}")
        await self.cluster.send(f"sim-00{number}", self.lease(task, attempt))

    async def begin(self, number: int = 1) -> tuple[Any, commands.Fit]:
        """Lease a task to its client, and begin it in a trainer."""
        await self.send(number, number)
        item = self.pool.items[-1]
        command = await item.make_command(number)
        assert isinstance(command, commands.Fit)
        return item, command

    def train(self, item: Any, command: commands.Fit, arrays: Mapping[str, AnyArray] = ARRAYS) -> None:
        """What a trainer does at the end."""
        block = ArrayFile.write(Path(command.result), arrays)
        item.on_answer(Trained(command.number, block, ("loss", "val_loss"), 1, {}, {"train": 1.5}), READY)

    async def event(self) -> Event:
        return await self.cluster.events.get()

    async def next_event(self, kind: type[Event]) -> Any:
        """The next event of this kind."""
        while not isinstance(event := await self.event(), kind):
            pass
        return event

    def events(self) -> list[Event]:
        return [self.cluster.events.get_nowait() for _ in range(self.cluster.events.qsize())]

    @property
    def task_files(self) -> list[Path]:
        """What lies in the scratch folder, but for served blocks."""
        return [path for path in self.scratch.rglob("*") if path.is_file() and path.parent.name != "blocks"]


def shard(number: int) -> dict[str, AnyArray]:
    rows = np.full((4, 3), number, np.float32)
    return {"x_train": rows, "y_train": rows[:, :2].copy(), "x_validation": rows[:0], "y_validation": rows[:0, :2]}


def act(folder: Path, script: Callable[[Scenario], Awaitable[None]]) -> Scenario:
    async def go() -> Scenario:
        scenario = Scenario(folder)
        scenario.cluster.join(TASKS, Runtime("tensorflow", "auto", 1))
        try:
            await script(scenario)
        finally:
            await scenario.cluster.close()
            scenario.store.close()
        return scenario

    found: Scenario = run_script(go())
    return found


def test_clients_are_there_at_once_under_names_that_sort(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        assert scenario.cluster.roster.connected == ["sim-001", "sim-002", "sim-003"]
        assert scenario.cluster.events.empty(), "nobody has to be told"
        other = SimulatedCluster(scenario.store, scenario.pool, scenario.scratch / "other")
        other.join(1000, Runtime("jax", "gpu", 2), free_memory=5)
        names = other.roster.connected
        assert (names[0], names[-1], len(set(names))) == ("sim-0001", "sim-1000", 1000)
        member = other.roster["sim-1000"]
        assert (member.backend, member.device, member.threads, member.free_memory) == ("jax", "gpu", 2, 5)
        assert len({each.client_id for each in other.roster.members()}) == 1000
        assert {len(each.client_id) for each in other.roster.members()} == {16}
        await other.close()

    act(tmp_path, script)


def test_a_result_is_on_disk_and_in_the_ledger_before_it_is_reported(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        scenario.train(item, command)
        assert isinstance(await scenario.event(), Logged)
        assert await scenario.event() == ResultOffered("sim-001", "run-1", "shard-1")
        returned = await scenario.event()
        assert isinstance(returned, ResultCommitted)
        assert (returned.client, returned.run, returned.task) == ("sim-001", "run-1", "shard-1")
        stored = scenario.ledger.result("shard-1")
        assert stored is not None
        assert (stored.client, stored.result.block) == ("sim-001", block_of(ARRAYS))
        assert stored.result.seconds == {"join": 0, "receive": 0, "import": 0.5, "train": 1.5}
        np.testing.assert_array_equal(scenario.run.load(stored)["dense/kernel"], ARRAYS["dense/kernel"])
        assert scenario.task_files == [], "a trainer's own files go with the task"
        assert scenario.cluster.roster["sim-001"].state == "waiting"

    act(tmp_path, script)


def test_the_indices_of_a_tasks_rows_are_given_to_its_trainer(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        indices = {"train": np.array([0, 2]), "validation": np.array([1])}
        rows = scenario._serve(indices)
        await scenario.cluster.send("sim-001", msgspec.structs.replace(scenario.lease(), rows=rows))
        command = await scenario.pool.items[-1].make_command(1)
        assert command.rows is not None
        given = command.rows.load()
        assert all((given[name] == array).all() for name, array in indices.items())
        assert (await scenario.begin(2))[1].rows is None

    act(tmp_path, script)


def test_progress_epochs_and_notes_are_reported_as_a_client_tells_them(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin(2)
        member = scenario.cluster.roster["sim-002"]
        assert member.state == "preparing"
        item.on_answer(Step(command.number, "training", 2, 2, 1, 2, 0.25, 100.0), READY)
        assert (member.state, member.epoch, member.progress, member.loss) == ("training", "2/2", 0.75, 0.25)
        item.on_answer(EpochDone(command.number, 0, {"loss": 0.5}), READY)
        item.on_answer(EpochDone(command.number, 1, {"loss": 0.25}, again=True), READY)
        item.on_answer(Note(command.number, "look"), READY)
        assert scenario.events() == [
            EpochCompleted("sim-002", "run-1", "shard-2", 0, {"loss": 0.5}),
            Logged("sim-002", "run-1", ("Epoch 1/2  loss 0.5",)),
            EpochCompleted("sim-002", "run-1", "shard-2", 1, {"loss": 0.25}),
            Logged("sim-002", "run-1", ("Note: look",)),
        ]

    act(tmp_path, script)


def test_a_result_with_nan_is_refused_as_from_anybody(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        scenario.train(item, command, {**ARRAYS, "dense/bias": np.full(2, np.nan, np.float32)})
        failed = await scenario.next_event(TaskFailed)
        assert "'dense/bias' contains NaN" in failed.error
        assert failed.not_finite, "it would be again"
        assert scenario.ledger.result("shard-1") is None
        assert scenario.task_files == []

    act(tmp_path, script)


def test_a_result_that_does_not_fit_the_run_is_refused(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        scenario.train(item, command, {**ARRAYS, "dense/bias": np.zeros(3, np.float32)})
        assert "weights that do not match" in (await scenario.next_event(TaskFailed)).error

    act(tmp_path, script)


def test_another_result_of_a_task_is_not_used(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        await scenario.send(2, 1, attempt=2)
        copy = scenario.pool.items[-1]
        scenario.train(copy, await copy.make_command(7))
        assert (await scenario.next_event(ResultCommitted)).client == "sim-002"
        scenario.train(item, command)
        assert await scenario.next_event(DuplicateResult) == DuplicateResult("sim-001", "run-1", "shard-1", 1)
        stored = scenario.ledger.result("shard-1")
        assert stored is not None
        assert stored.client == "sim-002"

    act(tmp_path, script)


def test_a_task_that_is_leased_again_while_it_is_trained_continues(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        await scenario.send(1, 1, attempt=2)
        assert scenario.pool.items == [item]
        scenario.train(item, command)
        await scenario.next_event(ResultCommitted)
        stored = scenario.ledger.result("shard-1")
        assert stored is not None
        assert stored.result.attempt == 2

    act(tmp_path, script)


def test_a_disk_without_space_only_delays_a_result(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        scenario.free = 0
        scenario.train(item, command)
        while not scenario.output:
            await asyncio.sleep(0)
        assert scenario.ledger.result("shard-1") is None
        scenario.free = 50 << 30
        await scenario.next_event(ResultCommitted)
        assert scenario.ledger.result("shard-1") is not None
        assert len(scenario.output) == 1, "said once, tried often"

    act(tmp_path, script)


def test_a_disk_that_refuses_in_the_middle_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[Path] = []
    sync = BlockFile.sync

    def refuse_once(block: BlockFile) -> None:
        if not refused:
            refused.append(block.path)
            raise OSError(errno.ENOSPC, "No space left on device", str(block.path))
        sync(block)

    monkeypatch.setattr(BlockFile, "sync", refuse_once)

    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        inode = 0
        scenario.train(item, command)
        inode = Path(command.result).stat().st_ino
        await scenario.next_event(ResultCommitted)
        assert len(refused) == 1
        assert "disk is full" in scenario.output[0]
        stored = scenario.ledger.result("shard-1")
        assert stored is not None
        assert scenario.run.block("shard-1").stat().st_ino != inode, "what could not be synced is never synced again"
        np.testing.assert_array_equal(scenario.run.load(stored)["dense/kernel"], ARRAYS["dense/kernel"])

    act(tmp_path, script)


def test_what_a_disk_lost_is_not_taken_for_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Path] = []

    def lose(block: BlockFile) -> None:
        lost.append(block.path)
        raise OSError(errno.EIO, "Input/output error", str(block.path))

    monkeypatch.setattr(BlockFile, "sync", lose)

    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        scenario.train(item, command)
        result = Path(command.result)
        while not lost:
            await asyncio.sleep(0)
        result.write_bytes(bytes(result.stat().st_size))
        for _ in range(3):
            scenario.output.clear()
            await asyncio.sleep(0.01)
        assert len(lost) == 1, "it was synced once, and then known to be lost"
        assert scenario.ledger.result("shard-1") is None

    act(tmp_path, script)


def test_a_cancelled_task_is_withdrawn_and_nothing_is_reported_of_it(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, _ = await scenario.begin()
        await scenario.cluster.send("sim-001", Cancel("run-1", "shard-1", "another finished it"))
        assert scenario.pool.withdrawn == [item]
        assert scenario.task_files == []
        await scenario.cluster.send("sim-001", Cancel("run-1", "shard-1", "again"))
        await scenario.cluster.send("sim-003", Cancel("run-1", "shard-9", "it never had that"))
        assert scenario.pool.withdrawn == [item]
        assert scenario.events() == []

    act(tmp_path, script)


def test_the_end_of_a_run_stops_what_is_still_done_for_it(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, _ = await scenario.begin()
        await scenario.cluster.end_run({"sim-001": RunEnded("run-0", "done", "")})
        assert scenario.pool.withdrawn == []
        await scenario.cluster.end_run({"sim-001": RunEnded("run-1", "interrupted", "")})
        assert scenario.pool.withdrawn == [item]

    act(tmp_path, script)


def test_a_trainer_that_dies_continues_from_a_later_checkpoint_only(tmp_path: Path) -> None:
    died = ChildDied("the trainer was killed by signal 9", "its last lines: …")

    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        assert not item.again(died), "there is no checkpoint"
        snapshot = Snapshot([{"loss": 0.5}], 0, {}, {}, {})
        write_checkpoint(Path(command.checkpoint), b"key", snapshot)
        assert checkpoint.epochs_kept(Path(command.checkpoint)) == 1
        assert item.again(died)
        assert not item.again(died), "it died at the same place again"
        item.fail(died, ["last words"])
        failed = await scenario.next_event(TaskFailed)
        assert failed == TaskFailed("sim-001", "run-1", "shard-1", "the trainer was killed by signal 9", died=True)
        assert scenario.task_files == []

    scenario = act(tmp_path, script)
    assert scenario.pool.closed


def test_a_failure_is_reported_with_what_to_do(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        item, _ = await scenario.begin()
        item.fail(TrainingError("the loss is NaN", "Lower the learning rate."), [])
        output, logged, failed = scenario.events()
        assert output == Logged("sim-001", "run-1", ("shard-1 could not be trained: the loss is NaN",))
        assert logged == Logged("sim-001", "run-1", ("the loss is NaN. Lower the learning rate.",))
        assert isinstance(failed, TaskFailed)
        assert failed.error == "the loss is NaN. Lower the learning rate."
        assert not failed.died

    act(tmp_path, script)


def test_who_waits_for_a_trainer_is_not_blamed_for_standing_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "TICK_SECONDS", 0.001)

    async def script(scenario: Scenario) -> None:
        for number in (1, 2):
            await scenario.send(number, number)
        trains, timeouts = (scenario.cluster.roster[name] for name in ("sim-001", "sim-002"))
        trains.advanced = timeouts.advanced = trains.last_seen = 0.0
        scenario.pool.queue = [scenario.pool.items[1]]
        while not timeouts.advanced:
            await asyncio.sleep(0.001)
        assert trains.last_seen > 0, "it is there"
        assert trains.advanced == 0.0, "it has a trainer, and does not get on"

    act(tmp_path, script)


def test_a_client_is_queued_until_a_trainer_begins_with_its_work(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        roster = scenario.cluster.roster
        await scenario.send(1, 1)
        assert roster["sim-001"].queued_for == 0
        scenario.pool.is_busy = True
        await scenario.send(2, 2)
        await scenario.send(3, 3)
        assert (roster["sim-001"].queued_for, roster["sim-002"].queued_for) == (0, 2)
        await scenario.pool.items[1].make_command(1)
        assert roster["sim-002"].queued_for == 0
        await scenario.cluster.send("sim-003", Cancel("run-1", "shard-3", "it is not needed"))
        assert roster["sim-003"].queued_for == 0
        message = EvaluateTask("run-1", "round-1", MODEL, OWN, scenario.shards[0], (scenario.weights,))
        await scenario.cluster.send("sim-001", message)
        assert roster["sim-001"].queued_for == 2
        await scenario.pool.items[-1].make_command(2)
        assert (roster["sim-001"].queued_for, roster["sim-001"].state) == (0, "scoring")

    act(tmp_path, script)


def test_rows_are_read_where_they_lie_and_weights_are_written_once_for_all(tmp_path: Path) -> None:
    spec = ArraySpec("x", "float32", (10, 3))
    rows = BlockFile.create(tmp_path / "rows.block", block_size([spec])).arrays([spec])["x"]
    rows[:] = np.arange(30).reshape(10, 3)
    constants = np.array([1.0, 2.0])

    async def script(scenario: Scenario) -> None:
        orders_made = [(await scenario.begin(number))[1] for number in (1, 2, 3)]
        assert len({command.weights.path for command in orders_made}) == 1
        np.testing.assert_array_equal(orders_made[0].weights.load()["dense/bias"], START["dense/bias"])
        before = set((scenario.scratch / "blocks").iterdir())
        for start in (0, 4, 7):
            part = {"x_train": rows[start : start + 3], "subtract": constants, "x_validation": rows[:0]}
            part_spec = block_of(part)
            scenario.cluster.serve_block(part_spec, part)
            file = await scenario.cluster.blocks.file(part_spec)
            assert file.block == part_spec
            assert file == msgspec.msgpack.decode(msgspec.msgpack.encode(file), type=ArrayFile)
            loaded = file.load()
            assert list(loaded) == list(part)
            for name, array in part.items():
                np.testing.assert_array_equal(loaded[name], array)
        written = set((scenario.scratch / "blocks").iterdir()) - before
        assert len(written) == 3
        assert all(path.stat().st_size <= 64 for path in written), "only the constants, no row"
        scenario.cluster.withdraw_block(orders_made[0].weights.block.id)
        assert not Path(orders_made[0].weights.path).exists()
        scenario.cluster.forget_blocks()
        assert list((scenario.scratch / "blocks").iterdir()) == []

    act(tmp_path, script)


def test_a_model_can_be_evaluated_and_own_files_can_not_be_requested(tmp_path: Path) -> None:
    async def script(scenario: Scenario) -> None:
        message = EvaluateTask("run-1", "round-1", MODEL, OWN, scenario.shards[0], (scenario.weights,))
        await scenario.cluster.send("sim-001", message)
        item = scenario.pool.items[-1]
        command = await item.make_command(5)
        assert (command.shard.block, command.members[0].block) == (scenario.shards[0], scenario.weights)
        item.on_answer(commands.Evaluated(5, 10, {"loss": 0.5}), READY)
        assert await scenario.event() == Evaluated("sim-001", "run-1", "round-1", 10, {"loss": 0.5})
        await scenario.cluster.send("sim-002", message)
        scenario.pool.items[-1].fail(TrainingError("no rows", ""), [])
        assert await scenario.next_event(TaskFailed) == TaskFailed("sim-002", "run-1", "round-1", "no rows")
        await scenario.cluster.send("sim-002", Survey(MODEL, OWN, scenario.weights))
        failed = await scenario.event()
        assert isinstance(failed, SurveyFailed)
        assert failed.error.code == "simulation.own-data"

    act(tmp_path, script)


def test_a_result_that_was_stored_by_somebody_else_meanwhile_is_dropped(tmp_path: Path) -> None:
    """The store found room for it, and then another one was in the ledger."""

    async def script(scenario: Scenario) -> None:
        item, command = await scenario.begin()
        consider = scenario.store.consider

        def overtaken(client: bytes, result: Any) -> Any:
            decision = consider(client, result)
            scenario.ledger.commit(StoredResult("shard-1", "sim-003", result))
            return decision

        with contextlib.ExitStack() as undoing:
            undoing.enter_context(pytest.MonkeyPatch.context()).setattr(scenario.store, "consider", overtaken)
            scenario.train(item, command)
            assert isinstance(await scenario.next_event(DuplicateResult), DuplicateResult)
        assert not scenario.run.block("shard-1").exists()

    act(tmp_path, script)
