"""Rounds over a played cluster, real ledger, real files: what is summed up, who is left out, what a restart finds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.fake_cluster import FakeCluster, RecordingDisplay, run_script
from fakes.results import ARRAYS, record, result
from only_tasks import terms_of

from lanfit.core.failpoints import ROUND_POINTS
from lanfit.core.workspace import Workspace
from lanfit.data.shard import NO_SAMPLES, Normalizers, Samples, Shard
from lanfit.errors import lanfit_error
from lanfit.models.trained_model import TrainedModel
from lanfit.settings.fields import Value
from lanfit.settings.job import Job, make_job, to_toml
from lanfit.settings.timeouts import Timeouts
from lanfit.transfer.blocks import BlockFile
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import Cancel, ClientData, EvaluateTask, Lease
from lanfit_server.clusters.events import Evaluated, ResultCommitted, TaskFailed
from lanfit_server.data.prepare import RunData
from lanfit_server.methods.federated.global_weights import SMALL, GlobalWeights, RoundWeights
from lanfit_server.methods.federated.rounds import Rounds, Setting
from lanfit_server.methods.federated.schedule import schedule_of, steps_of_epoch
from lanfit_server.methods.federated.workshop import RoundsWorkshop
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.models.handle import Done, Evaluate, Metrics, WriteModel
from lanfit_server.run.dispatch import Dispatch
from lanfit_server.run.engine import RunEngine
from lanfit_server.run.events import RoundCompleted, RunEvent
from lanfit_server.run.journal import Journal
from lanfit_server.run.run_stats import RunStats
from lanfit_server.run.shell import Shell
from lanfit_server.run.tasks import State
from lanfit_server.store.ledger import Ledger, StoredResult
from lanfit_server.store.result_store import OpenRun
from lanfit_server.ui.narrator import Narrator

WAITS = Timeouts(heartbeat=0.01, suspect=15, lost=60, no_progress=600, grace=0.02)
NAMES = ("lab-1", "lab-2", "lab-3")
#: Training rows of the three shards.
ROWS = (100, 50, 10)
START = {"dense/kernel": np.zeros((3, 2), np.float32), "dense/bias": np.zeros(2, np.float32)}


class Models:
    """Stands for the model process: weights are as good as their first number is near to 10."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.written: list[str] = []

    async def ask(self, request: Any, answer: type) -> Any:
        await asyncio.sleep(0)
        if isinstance(request, Evaluate) and not self._rows:
            return Metrics({})
        if isinstance(request, Evaluate):
            arrays = request.members[0].load()
            assert set(arrays) == set(START) | set(TrainedModel({}).constants())
            return Metrics({"loss": abs(10 - float(arrays["dense/kernel"].flat[0]))})
        assert isinstance(request, WriteModel)
        self.written.append(Path(request.path).name)
        Path(request.path).parent.mkdir(parents=True, exist_ok=True)
        Path(request.path).touch()
        return Done()


class Run:
    """A federated run whose clients are played."""

    def __init__(
        self,
        folder: Path,
        own: bool,
        values: dict[str, Value],
        test: int = 5,
        channel: RoundChannel | None = None,
        received: list[RoundCompleted] | None = None,
    ) -> None:
        """`test`: how many rows the server has to evaluate rounds on; `received` takes in rounds that are over."""
        self.folder = folder
        place = Workspace(folder)
        self.job: Job = make_job({"model": "net.h5", "method": "federated", "clients": 3, "rounds": 3, **values})
        self.cluster = FakeCluster(*NAMES)
        self.served: dict[str, Any] = {}
        self.cluster.serve_block = self._serve  # type: ignore[method-assign]
        self.cluster.withdraw_block = self._withdraw  # type: ignore[method-assign]
        while not self.cluster.events.empty():
            self.cluster.events.get_nowait()
        self.ledger = Ledger(place.run_folder("run-1"))
        shard = Shard(Samples.of(np.zeros((1, 3), np.float32), np.zeros(1)), NO_SAMPLES)
        data = RunData(
            [shard] * 3, tuple(rows + 5 for rows in ROWS), sum(ROWS), 15, test, Normalizers.single(), {},
            ROWS, ClientData(1, 0.0, 0.0, 0, 0, None) if own else None,
        )  # fmt: skip
        if self.ledger.record is None:
            from msgspec.structs import replace

            fitting = replace(
                record("run-1"), rows=ROWS, samples=data.samples, trainable=tuple(START), own=data.own, test=test,
                shards=(block_of(shard.block()),) * 3, job="# A remark.\n" + to_toml(self.job),
            )  # fmt: skip
            self.ledger.open_run(fitting)
            (place.run_folder("run-1") / "job.toml").write_text(fitting.job)
        run_record = self.ledger.record
        assert run_record is not None
        self.run = OpenRun(place, "run-1", self.ledger, run_record)
        self.models, self.output, self.journal = Models(test), RecordingDisplay(), Journal(place.run_folder("run-1"))
        stats = self.stats = RunStats()
        dispatch = Dispatch(self.job, self.run, self.cluster, data, START)
        self.asked: list[str] = []
        self.send, self.cluster.send = self.cluster.send, self._send  # type: ignore[method-assign]
        setting = Setting(
            NAMES, ROWS, data.samples, own, 15, test, self.job.norm_limit, self.job.round_deadline,
            60 * self.job.deadline, received is not None, channel is not None, WAITS.grace, self.job.max_weight,
        )  # fmt: skip
        self.method = Rounds(schedule_of(self.job), setting, stats.table)
        self.weights = GlobalWeights(self.job, START, TrainedModel({}).constants(), tuple(START))
        self.late = 0.0
        self.workshop = RoundsWorkshop(
            self.job, self.run, self.method, stats, self.models, dispatch, self.weights, NAMES,  # type: ignore[arg-type]
            self.output.log, channel, self.clock,
        )  # fmt: skip
        terms = terms_of(NAMES, bound=own, deadline=60 * self.job.deadline, timeouts=WAITS)

        def listen(event: RunEvent, now: float) -> None:
            if isinstance(event, RoundCompleted) and received is not None:
                received.append(event)

        self.shell = Shell(
            self.run, RunEngine(terms, self.method, stats.table), self.workshop, self.cluster, dispatch, self.journal,
            self.output, (stats, self.journal, Narrator(self.output, str), listen), WAITS.heartbeat, self.clock,
        )  # fmt: skip

    def clock(self) -> float:
        """The monotonic clock, put forward by the test."""
        return time.monotonic() + self.late

    async def _send(self, client: str, message: Any) -> None:
        await self.send(client, message)
        if isinstance(message, EvaluateTask):
            self._evaluate(client, message)

    def _evaluate(self, client: str, asked: EvaluateTask) -> None:
        """What clients measure on their validation rows; lab-2 can't."""
        assert asked.rows == "validation"
        value = float(self.served[asked.members[0].id]["dense/kernel"].flat[0])
        assert value == kernel(self)
        if client == "lab-1":
            self.asked.append(asked.task)
        loss = abs(10 - value) + (client == "lab-3")
        answer: Any = Evaluated(client, "run-1", asked.task, 5, {"loss": loss})
        if client == "lab-2":
            answer = TaskFailed(client, "run-1", asked.task, "its rows are gone")
        self.cluster.events.put_nowait(answer)

    def _serve(self, spec: BlockSpec, arrays: Any, on_sent: Any = None) -> None:
        self.served[spec.id] = arrays
        self.cluster.on_sent[spec.id] = on_sent

    def _withdraw(self, block_id: str) -> None:
        self.served.pop(block_id)

    async def leased(self, task: str) -> Lease:
        """Wait until the task is at a client."""
        while True:
            for _, sent in self.cluster.sent:
                if isinstance(sent, Lease) and sent.task == task:
                    return sent
            await asyncio.sleep(0.001)

    async def returns(self, number: int, shard: int, value: float) -> None:
        """The client of a shard hands in an update, all of whose weights are this number."""
        task = f"round-{number}-shard-{shard + 1}"
        await self.leased(task)
        self.commit(task, NAMES[shard], value)
        self.cluster.events.put_nowait(ResultCommitted(NAMES[shard], "run-1", task, 0.1))

    def commit(self, task: str, client: str, value: float) -> None:
        arrays = {name: np.full_like(array, value) if name in START else array for name, array in ARRAYS.items()}
        path = self.run.block(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        spec = BlockFile.write(path, arrays)
        done = result(task=task, block=spec, seconds={"train": 0.0}, scores={"loss": value}, backend="jax")
        self.ledger.commit(StoredResult(task, client, done))

    def records(self) -> list[Any]:
        return self.ledger.rounds()

    def close(self) -> None:
        self.journal.close()
        self.ledger.close()


@contextlib.asynccontextmanager
async def at_work(
    folder: Path,
    own: bool = False,
    test: int = 5,
    channel: RoundChannel | None = None,
    received: list[RoundCompleted] | None = None,
    **values: Value,
) -> AsyncIterator[tuple[Run, asyncio.Task[None]]]:
    run = Run(folder, own, values, test, channel, received)
    working = asyncio.create_task(run.shell.run())
    try:
        yield run, working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await run.shell.close()
        run.close()


async def whole(run: Run, updates: Sequence[Sequence[float]]) -> None:
    for number, values in enumerate(updates, 1):
        for shard, value in enumerate(values):
            await run.returns(number, shard, value)


def kernel(run: Run) -> float:
    array: AnyArray = run.weights.arrays["dense/kernel"]
    assert (array == array.flat[0]).all()
    return float(array.flat[0])


def mean(values: Sequence[float], rows: Sequence[int] = ROWS) -> float:
    return float(np.float32(np.average(np.array(values, np.float64), weights=rows)))


def test_a_rounds_updates_are_averaged_by_training_rows_and_the_next_one_begins_with_that(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path) as (run, working):
            first = await run.leased("round-1-shard-2")
            assert (run.served[first.weights.id]["dense/kernel"] == 0).all()
            assert first.fit.round == 1
            assert first.fit.keep_last
            await whole(run, [[1, 4, 10]])
            lease = await run.leased("round-2-shard-1")
            given = run.served[lease.weights.id]["dense/kernel"]
            assert (given == mean([1, 4, 10])).all()
            for shard in range(3):
                await run.returns(2, shard, 7.0)
            for shard in range(3):
                await run.returns(3, shard, 8.0)
            await working
            assert kernel(run) == 8
            assert run.method.status() == "done"
            assert [each.metrics["loss"] for each in run.records()] == [10 - mean([1, 4, 10]), 3, 2]
            assert len(run.served) <= 3, "earlier weights are still served"
            assert run.models.written == ["round-0001.h5", "round-0002.h5", "round-0003.h5"]
            assert not list((run.run.folder / "results").glob("*.block")), "results of rounds that are over"
            chosen = run.workshop.chosen()
            assert chosen is not None
            assert chosen.round == 3

    run_script(script())


def test_only_what_is_quick_with_all_its_sets_of_weights_is_waited_for_by_the_loop() -> None:
    weights = GlobalWeights(make_job({"method": "federated", "clients": 3}), START, {}, tuple(START))
    numbers = sum(array.size for array in START.values())
    assert weights.is_quick(SMALL // numbers)
    assert not weights.is_quick(SMALL // numbers + 1)


@pytest.mark.parametrize("small", [False, True])
def test_what_a_round_has_given_is_written_once_all_clients_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr("lanfit_server.run.dispatch.SENT_SECONDS", math.inf)
    monkeypatch.setattr("lanfit_server.methods.federated.global_weights.SMALL", 1 << 19 if small else 0)

    async def script() -> None:
        async with at_work(tmp_path, rounds=2) as (run, working):
            run.cluster.fetches = False
            await whole(run, [[1, 4, 10]])
            lease = await run.leased("round-2-shard-3")
            for _ in range(3):
                await asyncio.sleep(0.01)
                assert run.models.written == []
                run.cluster.fetch(lease.weights.id)
            while run.models.written != ["round-0001.h5"]:
                await asyncio.sleep(0.001)
            # After the last round nobody has to get anything.
            for shard in range(3):
                await run.returns(2, shard, 7.0)
            await working
            assert run.models.written == ["round-0001.h5", "round-0002.h5"]

    run_script(script())


def test_where_the_next_round_waits_for_the_evaluation_that_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit_server.run.dispatch.SENT_SECONDS", math.inf)

    async def script() -> None:
        async with at_work(tmp_path, rounds=2, patience=5) as (run, working):
            run.cluster.fetches = False
            await whole(run, [[1, 4, 10], [7, 7, 7]])
            await working
            assert run.models.written == ["round-0001.h5", "round-0002.h5"]

    run_script(script())


@pytest.mark.parametrize("shared", [False, True])
def test_who_never_fetches_or_has_no_need_to_delays_nothing_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr("lanfit_server.run.dispatch.SENT_SECONDS", math.inf if shared else 0.01)

    async def script() -> None:
        async with at_work(tmp_path, rounds=2) as (run, working):
            run.cluster.fetches = False
            run.cluster.own_machines = not shared
            await whole(run, [[1, 4, 10], [7, 7, 7]])
            await working
            assert run.models.written == ["round-0001.h5", "round-0002.h5"]

    run_script(script())


def test_the_weights_of_a_round_lie_there_as_they_are_described(tmp_path: Path) -> None:
    constants = TrainedModel({}).constants()
    weights = GlobalWeights(make_job({"method": "federated", "clients": 3}), START, constants, tuple(START))
    weights.add({name: array + 1 for name, array in START.items()}, 3)
    file = weights.step().write(tmp_path / "1.block")
    assert file.block == block_of(file.load()) == block_of({**weights.arrays, **constants})
    assert weights.block == block_of(weights.arrays)
    earlier = GlobalWeights(make_job({"method": "federated", "clients": 3}), START, constants, tuple(START))
    assert earlier.block == block_of(START)
    earlier.read(tmp_path / "1.block", ())
    assert earlier.block == weights.block


@pytest.mark.parametrize("dies", [False, True])
def test_rounds_do_not_wait_for_the_evaluation_of_earlier_ones_unless_three_are_behind(
    tmp_path: Path, dies: bool
) -> None:
    values = [[value] * 3 for value in (1, 4, 6, 7, 8)]
    job: dict[str, Value] = {"rounds": len(values), "strategy": "fedadam"}

    async def baseline() -> list[dict[str, float]]:
        async with at_work(tmp_path / "calm", **job) as (run, working):
            await whole(run, values)
            await working
            return [record.metrics for record in run.records()]

    async def behind() -> list[dict[str, float]]:
        async with at_work(tmp_path / "behind", **job) as (run, working):
            go_on, ask, asked = asyncio.Event(), run.models.ask, []

            async def late(request: Any, answer: type) -> Any:
                asked.append(request)
                if len(asked) == 1:  # of the first round; the others' come only then
                    await go_on.wait()
                    if dies:
                        raise Died
                return await ask(request, answer)

            run.models.ask = late  # type: ignore[method-assign]
            await whole(run, values[:4])
            await committed(run, *(f"round-4-shard-{shard + 1}" for shard in range(3)))
            await asyncio.sleep(0.02)
            assert len(run.records()) == 3, "the fourth round is not over before the first is evaluated"
            assert not any(record.stored for record in run.records())
            go_on.set()
            if dies:
                with pytest.raises(Died):
                    await working
                return []
            for shard in range(3):
                await run.returns(5, shard, values[4][shard])
            await working
            return [record.metrics for record in run.records()]

    async def again() -> list[dict[str, float]]:
        async with at_work(tmp_path / "behind", **job) as (run, working):
            for shard in range(3):
                await run.returns(5, shard, values[4][shard])
            await working
            return [record.metrics for record in run.records()]

    expected = run_script(baseline())
    found = run_script(behind())
    assert (run_script(again()) if dies else found) == expected
    assert len({line["loss"] for line in expected}) == len(values)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_in_which_updates_come_makes_no_difference(tmp_path: Path, order: tuple[int, ...]) -> None:
    async def script() -> None:
        values = (0.1, 0.2, 0.3)
        async with at_work(tmp_path, rounds=1) as (run, working):
            for shard in order:
                await run.returns(1, shard, values[shard])
            await working
            total = np.zeros((), np.float64)
            for value, rows in zip(values, ROWS, strict=True):
                total += np.float64(np.float32(value)) * rows
            assert kernel(run) == np.float32(total / sum(ROWS))
            assert [client.owner for client in run.records()[0].clients] == list(NAMES)

    run_script(script())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"aggregation": "median"}, 4.0),
        ({"aggregation": "trimmed-mean", "trim": 0.34}, 4.0),
        ({"aggregation": "krum"}, 1.0),
        ({"strategy": "fedavgm", "server_momentum": 0.5, "server_learning_rate": 0.5}, 0.5 * mean([1, 4, 100])),
        ({"norm_limit": 5.0}, mean([1, 4], ROWS[:2])),
    ],
)
def test_the_job_says_what_is_made_of_the_updates(tmp_path: Path, values: dict[str, Value], expected: float) -> None:
    async def script() -> None:
        async with at_work(tmp_path, rounds=1, **values) as (run, working):
            await whole(run, [[1, 4, 100]])
            await working
            assert kernel(run) == pytest.approx(expected, rel=1e-6)
            if "norm_limit" in values:
                [left_out] = [client for client in run.records()[0].clients if client.left_out]
                assert left_out.owner == "lab-3"
                assert "norm" in left_out.left_out

    run_script(script())


def test_an_update_that_is_not_finite_is_left_out_at_once_and_reported(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, rounds=1) as (run, working):
            await run.leased("round-1-shard-3")
            failed = TaskFailed("lab-3", "run-1", "round-1-shard-3", "its array holds NaN", not_finite=True)
            run.cluster.events.put_nowait(failed)
            await whole(run, [[1, 4]])
            await working
            assert kernel(run) == mean([1, 4], ROWS[:2])
            assert run.method.status() == "done"
            assert any("continued without lab-3" in line and "NaN" in line for line in run.output.lines)
            [facts] = run.workshop.rounds()
            assert facts.clients == ("lab-1", "lab-2")
            assert "NaN" in facts.left_out["lab-3"]
            assert sum(isinstance(sent, Lease) and "shard-3" in sent.task for _, sent in run.cluster.sent) == 1

    run_script(script())


async def committed(run: Run, *tasks: str) -> None:
    """Wait until the engine has taken these in."""
    while any(run.stats.table[task].state is not State.COMMITTED for task in tasks):
        await asyncio.sleep(0.001)


def test_a_deadline_ends_a_round_without_those_that_are_late_and_the_job_file_remembers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script() -> None:
        async with at_work(tmp_path, rounds=2, round_deadline=60.0) as (run, working):
            await run.returns(1, 0, 1.0)
            await run.returns(1, 1, 4.0)
            await committed(run, "round-1-shard-1", "round-1-shard-2")
            run.late += 61
            await run.leased("round-2-shard-3")  # the late one takes part in the next round
            for shard in range(3):
                await run.returns(2, shard, 7.0)
            await working
            first, second = run.records()
            assert [client.owner for client in first.clients if client.absent] == ["lab-3"]
            assert not any(client.left_out for client in second.clients)
            assert run.method.status() == "done"
            await run.workshop.finish()
            text = (run.run.folder / "job.toml").read_text()
            assert text.startswith("# A remark.\n")
            assert 'absent = [\n    "1:3",\n]' in text
            cancelled = [sent.task for _, sent in run.cluster.sent if isinstance(sent, Cancel)]
            assert cancelled == ["round-1-shard-3"]

    run_script(script())


def test_a_round_with_too_few_updates_waits_once_more_says_so_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script() -> None:
        job = {"rounds": 2, "round_deadline": 60.0, "min_clients": 2, "deadline": 5.0}
        async with at_work(tmp_path, **job) as (run, working):
            for shard in range(3):
                await run.returns(1, shard, 7.0)
            await run.returns(2, 0, 1.0)
            await committed(run, "round-2-shard-1")
            run.late += 61
            while not any("did not answer in time" in line for line in run.output.lines):
                await asyncio.sleep(0.001)
            assert not working.done()
            run.late += 301
            await working
            assert run.method.status() == "partial"
            assert "round 2 has 1 of at least 2 updates" in run.method.failure
            assert any("lab-2, lab-3 did not answer in time" in line for line in run.output.lines)
            assert kernel(run) == 7
            chosen = run.workshop.chosen()
            assert chosen is not None
            assert chosen.round == 1

    run_script(script())


def test_with_patience_the_best_round_is_the_outcome_and_its_weights_are_kept(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, rounds=9, patience=2) as (run, working):
            await whole(run, [[3] * 3, [9] * 3, [5] * 3, [1] * 3])
            await working
            assert len(run.records()) == 4
            chosen = run.workshop.chosen()
            assert chosen is not None
            assert chosen.round == 2
            assert chosen.file.load()["dense/kernel"].flat[0] == 9
            await run.workshop.finish()
            left = sorted(path.name for path in run.run.collected("final.keras").parent.glob("*.h5"))
            assert left == ["round-0001.h5", "round-0002.h5", "round-0003.h5", "round-0004.h5"]

    run_script(script())


@pytest.mark.parametrize(
    ("values", "rounds", "best"),
    [({"patience": 2}, 4, 2), ({"keep": "best"}, 5, 5), ({"keep": "last"}, 5, 5), ({}, 5, 5)],
)
def test_without_test_rows_rounds_are_compared_by_what_clients_measure_on_their_validation_rows(
    tmp_path: Path, values: dict[str, Value], rounds: int, best: int
) -> None:
    async def script() -> None:
        async with at_work(tmp_path, test=0, rounds=5, **values) as (run, working):
            await whole(run, [[3] * 3, [8] * 3, [5] * 3, [1] * 3, [9] * 3][:rounds])
            await working
            assert len(run.records()) == rounds
            chosen = run.workshop.chosen()
            assert chosen is not None
            assert chosen.round == best
            compares = "patience" in values or values.get("keep") == "best"
            assert len(run.asked) == (rounds if compares else 1)
            lease = await run.leased("round-2-shard-1")
            assert lease.fit.score_start is not compares, "nobody measures twice"

    run_script(script())


@pytest.mark.parametrize(("keep", "round_"), [("best", 2), ("last", 3), (None, 3)])
def test_the_outcome_is_the_best_round_or_the_last_as_the_job_says(
    tmp_path: Path, keep: str | None, round_: int
) -> None:
    async def script() -> None:
        async with at_work(tmp_path, keep=keep) as (run, working):
            await whole(run, [[3] * 3, [9] * 3, [5] * 3])
            await working
            chosen = run.workshop.chosen()
            assert chosen is not None
            assert chosen.round == round_
            assert chosen.file.load()["dense/kernel"].flat[0] == [3, 9, 5][round_ - 1]

    run_script(script())


@pytest.mark.parametrize("listens", ["a program's callbacks", "a program's progress"])
def test_whoever_hears_of_a_round_hears_what_clients_measured_with_it(tmp_path: Path, listens: str) -> None:
    received: list[tuple[int, dict[str, float]]] = []
    rounds: list[RoundCompleted] = []

    async def decide(channel: RoundChannel) -> None:
        while True:
            made = await channel.next()
            received.append((made.number, dict(made.logs)))
            channel.answer(made.number == 2)

    callbacks = listens == "a program's callbacks"

    async def script() -> None:
        channel = RoundChannel()
        deciding = asyncio.create_task(decide(channel))
        how: dict[str, Any] = {"channel": channel} if callbacks else {"received": rounds}
        async with at_work(tmp_path, test=0, rounds=2, **how) as (run, working):
            await whole(run, [[3] * 3, [8] * 3])
            await working
            received.extend((each.round, each.logs) for each in rounds)
            samples = [rows + 5 for rows in ROWS]
            for (number, logs), loss in zip(received, [7, 2], strict=True):
                mean_loss = np.average([loss, loss + 1], weights=[samples[0], samples[2]])
                assert logs == {"loss": 0.4, "val_loss": pytest.approx(mean_loss)}
                assert run.workshop.rounds()[number - 1].validation["lab-3"] == {"loss": loss + 1}
            assert run.asked == ["round-1", "round-2"]
            assert next(line for line in run.output.lines if line.startswith("Round ")).endswith(": val_loss 7.1250")
        deciding.cancel()

    run_script(script())


def test_of_the_models_of_rounds_the_best_three_and_the_last_stay(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, rounds=6) as (run, working):
            await whole(run, [[9] * 3, [8] * 3, [1] * 3, [7] * 3, [2] * 3, [3] * 3])
            await working
            await run.workshop.finish()
            left = sorted(path.name for path in run.run.collected("final.keras").parent.glob("*.h5"))
            assert left == ["round-0001.h5", "round-0002.h5", "round-0004.h5", "round-0006.h5"]

    run_script(script())


def test_rounds_tell_what_clients_measured_and_how_far_they_went(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, rounds=2) as (run, working):
            await whole(run, [[1, 4, -2], [5, 5, 5]])
            await working
            first, second = run.workshop.rounds()
            assert first.validation == {name: {"loss": 5.0} for name in NAMES}, "the next round has measured it"
            assert first.training == {"loss": 0.4, "val_loss": 0.7}
            assert first.drift["lab-1"]["norm"] == pytest.approx(np.sqrt(8))
            assert first.drift["lab-3"]["cosine"] == pytest.approx(-1)
            assert second.drift["lab-1"]["cosine"] == pytest.approx(1)
            assert second.validation == {"lab-1": {"loss": 5.0}, "lab-3": {"loss": 6.0}}
            assert run.asked == ["round-2"], "who begins another round measures as it does"
            [client, *_] = run.workshop.clients(run.cluster.roster, 0.0)
            assert client.tasks == 2
            assert client.backend == "jax", "what it trained with, not what it joined with"
            first_steps = [(await run.leased(f"round-{n}-shard-{s}")).fit.first_step for n in (1, 2) for s in (1, 3)]
            steps = run.job.epochs * steps_of_epoch(run.run.record.rows, run.job.batch_size)
            assert first_steps == [0, 0, steps, steps], "schedules go on, by the same number for all"
            assert client.history == {"loss": [0.5, 0.4] * 2, "val_loss": [0.6, 0.7] * 2}

    run_script(script())


def test_a_disk_without_space_for_a_rounds_weights_only_delays_it_and_that_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit.transfer.disk_space.AGAIN_SECONDS", 0.001)

    async def script() -> None:
        async with at_work(tmp_path, rounds=2) as (run, working):
            write = RoundWeights.write
            failures = [OSError(errno.ENOSPC, "no room"), lanfit_error("disk.full", file="x", size=1)]

            def full_at_first(given: RoundWeights, path: Path) -> Any:
                if failures:
                    raise failures.pop()
                return write(given, path)

            monkeypatch.setattr(RoundWeights, "write", full_at_first)
            await whole(run, [[1] * 3, [7] * 3])
            await working
            assert not failures
            assert kernel(run) == 7
            assert [record.stored for record in run.records()] == [True, True]
            assert sum("can't be written" in line and "free some space" in line for line in run.output.lines) == 1

    run_script(script())


@pytest.mark.parametrize("what", ["put_round", "add_tasks"])
def test_a_ledger_without_space_only_delays_rounds_and_that_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("lanfit.transfer.disk_space.AGAIN_SECONDS", 0.001)
    write, refused = getattr(Ledger, what), []

    def full_at_first(ledger: Ledger, written: Any) -> None:
        if len(refused) < 2:
            refused.append(written)
            raise sqlite3.OperationalError("database or disk is full")
        write(ledger, written)

    async def script() -> None:
        async with at_work(tmp_path, rounds=2) as (run, working):
            await whole(run, [[1] * 3, [7] * 3])
            await working
            assert len(refused) == 2
            assert [record.stored for record in run.records()] == [True, True]
            assert sum("can't be written down" in line and "free some space" in line for line in run.output.lines) == 1

    monkeypatch.setattr(Ledger, what, full_at_first)
    run_script(script())


def test_what_a_disk_refuses_for_another_reason_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script() -> None:
        async with at_work(tmp_path, rounds=1) as (run, working):

            def forbidden(given: RoundWeights, path: Path) -> Any:
                raise PermissionError(errno.EACCES, "not allowed")

            monkeypatch.setattr(RoundWeights, "write", forbidden)
            await whole(run, [[1] * 3])
            with pytest.raises(PermissionError):
                await working

    run_script(script())


class Died(Exception):
    """The server was killed here."""


def kill_at(point: str) -> Callable[[str], None]:
    def die(name: str) -> None:
        if name == point:
            raise Died

    return die


@pytest.mark.parametrize("point", ROUND_POINTS)
@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_server_that_dies_as_a_round_ends_continues_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, strategy: str
) -> None:
    from lanfit_server.methods.federated import workshop as module

    updates = [[1, 4, 10], [2, 3, 5], [6, 6, 9]]

    async def baseline() -> float:
        async with at_work(tmp_path / "calm", strategy=strategy) as (run, working):
            await whole(run, updates)
            await working
            return kernel(run)

    async def killed() -> None:
        async with at_work(tmp_path / "killed", strategy=strategy) as (run, working):
            monkeypatch.setattr(module, "failpoint", kill_at(point))
            # Later rounds may have begun, or be over: it is noticed when the next one ends.
            clients = asyncio.create_task(whole(run, updates))
            with pytest.raises(Died):
                await working
            clients.cancel()
            await asyncio.gather(clients, return_exceptions=True)

    async def again() -> float:
        monkeypatch.setattr(module, "failpoint", lambda name: None)
        async with at_work(tmp_path / "killed", strategy=strategy) as (run, working):
            begun = len(run.records()) + 1
            assert begun >= 2
            for number in range(begun, 4):
                for shard in range(3):
                    if run.ledger.result(f"round-{number}-shard-{shard + 1}") is None:
                        await run.returns(number, shard, updates[number - 1][shard])
            await working
            assert [record.number for record in run.records() if record.stored] == [1, 2, 3]
            return kernel(run)

    expected = run_script(baseline())
    run_script(killed())
    assert run_script(again()) == expected


def test_the_next_server_removes_the_weights_that_nobody_needs_any_more(tmp_path: Path) -> None:
    def blocks(run: Run) -> list[str]:
        return sorted(path.name for path in (run.run.folder / "rounds").glob("*.block"))

    async def first() -> None:
        async with at_work(tmp_path, rounds=4) as (run, _):
            await whole(run, [[9] * 3, [1] * 3])  # the first round is the best of all
            while not all(record.stored for record in run.records()) or len(run.records()) < 2:
                await asyncio.sleep(0.001)
            assert blocks(run) == ["1.block", "2.block"]

    async def second() -> None:
        async with at_work(tmp_path, rounds=4) as (run, working):
            for shard, name in enumerate(NAMES):  # who was given the third round still has it
                run.commit(f"round-3-shard-{shard + 1}", name, 3.0)
                run.cluster.events.put_nowait(ResultCommitted(name, "run-1", f"round-3-shard-{shard + 1}", 0.1))
            for shard in range(3):
                await run.returns(4, shard, 3.0)
            await working
            assert blocks(run) == ["1.block", "4.block"]

    run_script(first())
    run_script(second())


def test_a_client_with_rows_of_its_own_that_is_gone_is_left_out_until_it_is_back(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, own=True, rounds=3, deadline=0.002) as (run, working):
            await run.leased("round-1-shard-3")
            run.cluster.leave("lab-3", now=-1000.0)
            await whole(run, [[1, 4]])
            await run.leased("round-2-shard-2")
            assert not any(getattr(sent, "task", "") == "round-2-shard-3" for _, sent in run.cluster.sent)
            run.cluster.join("lab-3")
            await run.returns(2, 0, 7.0)
            await run.returns(2, 1, 7.0)
            for shard in range(3):
                await run.returns(3, shard, 8.0)
            await working
            first, second, third = run.records()
            assert [client.owner for client in first.clients if client.absent] == ["lab-3"]
            assert [client.owner for client in second.clients if client.absent] == ["lab-3"]
            assert not any(client.absent for client in third.clients)
            assert run.method.status() == "partial"

    run_script(script())
