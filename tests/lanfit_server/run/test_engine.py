"""The engine alone: orders of events and commands that no cluster could be made to produce."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_field
from only_tasks import TasksOnly, terms_of

from lanfit.errors import InputError, LocalProtocolError
from lanfit.settings.changes import TaskSettings
from lanfit.settings.timeouts import Timeouts
from lanfit_server.clusters.events import (
    ClientJoined,
    ClientLeft,
    ClientUnavailable,
    DuplicateResult,
    EpochCompleted,
    Evaluated,
    ResultCommitted,
    ResultOffered,
    TaskFailed,
)
from lanfit_server.methods.base import Task
from lanfit_server.methods.federated.rounds import (
    CloseRound,
    Made,
    MakeRound,
    RestoreWeights,
    Rounds,
    Setting,
    Stored,
    StoreRound,
)
from lanfit_server.methods.federated.schedule import Schedule
from lanfit_server.methods.independent import Independent, fit_tasks
from lanfit_server.run import events
from lanfit_server.run.engine import Input, Past, RunEngine
from lanfit_server.run.instructions import (
    AssignShards,
    Cancel,
    Change,
    Do,
    Emit,
    EndRun,
    Instruction,
    Lease,
    Pause,
    Persist,
    RecordClient,
    RecordLeases,
    RecordSettings,
    Resume,
    Stop,
    StopClient,
    Tick,
    Work,
    WorkDone,
)
from lanfit_server.run.tasks import State, TaskTable
from lanfit_server.store.leases import StoredLease
from lanfit_server.store.ledger import RoundRecord

OWNERS = ("lab-1", "lab-2")


class Run:
    """An engine, and all that it has wanted."""

    def __init__(
        self, tasks: Sequence[Task] | None = None, here: Sequence[str] = OWNERS, past: Past | None = None, **terms: Any
    ) -> None:
        self.table = TaskTable()
        self.method: Any = TasksOnly(fit_tasks(2, 0) if tasks is None else tasks, self.table)
        self.engine = RunEngine(terms_of(OWNERS, **terms), self.method, self.table)
        self.now = 0.0
        self.done = self.engine.begin([ClientJoined(name) for name in here], {}, past, self.now)

    def happens(self, event: Input, seconds: float = 0.0) -> list[Instruction]:
        self.now += seconds
        following = self.engine.handle(event, self.now)
        self.done += following
        return following

    def leases(self) -> list[tuple[str, str]]:
        return [(each.assignment.client, each.assignment.task.key) for each in self.done if isinstance(each, Lease)]

    def cancels(self) -> list[tuple[str, str]]:
        return [(each.client, each.task) for each in self.done if isinstance(each, Cancel)]

    def events(self, kind: type[Any]) -> list[Any]:
        return [each.event for each in self.done if isinstance(each, Emit) and isinstance(each.event, kind)]

    @property
    def is_over(self) -> bool:
        return any(isinstance(each, EndRun) for each in self.done)


def kinds(instructions: Sequence[Instruction]) -> list[type[Instruction]]:
    return [type(each) for each in instructions if not isinstance(each, Emit)]


def test_nothing_is_leased_before_it_is_written_down_whose_it_is() -> None:
    """A server may be killed between any two instructions: what follows a durable one may rely on it."""
    run = Run()
    assert kinds(run.done) == [
        RecordClient, RecordClient, AssignShards, Persist, RecordClient, RecordClient, RecordLeases, Lease, Lease,
    ]  # fmt: skip


def test_a_client_that_never_comes_ends_the_run_with_the_reason() -> None:
    run = Run()
    with pytest.raises(InputError, match="no such backend"):
        run.happens(ClientUnavailable("lab-1", InputError("no such backend", "", "")))


# --- commands ---------------------------------------------------------------------------------------------------


def test_a_paused_run_gives_out_nothing_and_takes_everything_in() -> None:
    run = Run(here=["lab-1"])
    run.happens(Pause())
    run.happens(ResultCommitted("lab-1", "run-1", "shard-1", 0.1))
    run.happens(ClientJoined("lab-2"))
    run.happens(Tick({}, {}), seconds=60)
    assert run.leases() == [("lab-1", "shard-1")]
    assert run.table["shard-1"].state is State.COMMITTED
    run.happens(Resume())
    assert run.leases() == [("lab-1", "shard-1"), ("lab-2", "shard-2")]
    assert [event.command for event in run.events(events.Commanded)] == ["pause", "resume"]


def test_a_paused_run_with_nothing_left_to_do_ends() -> None:
    run = Run()
    run.happens(Pause())
    for name, task in (("lab-1", "shard-1"), ("lab-2", "shard-2")):
        run.happens(ResultCommitted(name, "run-1", task, 0.1))
    assert run.is_over


def test_a_run_that_is_stopped_takes_its_tasks_back_and_ends_with_what_it_has() -> None:
    run = Run()
    run.happens(ResultCommitted("lab-1", "run-1", "shard-1", 0.1))
    run.happens(Stop())
    assert run.cancels() == [("lab-2", "shard-2")]
    assert run.table["shard-2"].state is State.GIVEN_UP
    assert run.is_over
    assert run.events(events.CutShort)


def test_after_ctrl_c_tasks_stay_leased_for_a_server_that_resumes_the_run() -> None:
    run = Run()
    run.happens(Stop(waiting=False))
    assert run.cancels() == []
    assert run.table["shard-1"].state is State.LEASED
    run.happens(ClientLeft("lab-1", "gone", lost=True))
    assert len(run.leases()) == 2


def test_a_client_that_is_stopped_leaves_its_task_to_others_and_gets_none_until_it_joins_again() -> None:
    run = Run()
    run.happens(StopClient("lab-1"))
    assert run.cancels() == [("lab-1", "shard-1")]
    assert [(event.command, event.value) for event in run.events(events.Commanded)] == [("stop client", "lab-1")]
    [left] = run.events(events.ClientLeft)
    assert (left.client, left.reason, left.task, left.lost) == ("lab-1", "the operator stopped it", "shard-1", False)
    run.happens(Tick({}, {}), 1.0)
    assert len(run.leases()) == 2, "it is still connected, and gets nothing"
    run.happens(ResultCommitted("lab-2", "run-1", "shard-2", 0.1))
    assert run.leases()[2:] == [("lab-2", "shard-1")], "who is free takes its task over"
    run.happens(StopClient("lab-2"))
    assert run.leases()[3:] == []
    run.happens(ClientJoined("lab-1"))
    assert run.leases()[3:] == [("lab-1", "shard-1")], "it was started again"
    run.happens(ResultCommitted("lab-1", "run-1", "shard-1", 0.1))
    assert run.is_over


def test_a_run_waits_as_long_for_a_stopped_client_that_alone_has_its_rows_as_for_one_that_is_gone() -> None:
    run = Run(bound=True)
    run.happens(StopClient("lab-1"))
    [left] = run.events(events.ClientLeft)
    assert left.deadline == run.engine._terms.deadline
    run.happens(ResultCommitted("lab-2", "run-1", "shard-2", 0.1))
    run.happens(Tick({}, {}), seconds=left.deadline - 1)
    assert not run.is_over
    assert run.events(events.WaitingForClient)
    run.happens(Tick({}, {}), seconds=1)
    assert run.events(events.TaskGivenUp)
    assert run.is_over


def test_a_client_that_does_not_take_part_can_not_be_stopped() -> None:
    run = Run(here=["lab-1"])
    for client in ("lab-2", "nobody"):
        with pytest.raises(InputError) as refused:
            run.happens(StopClient(client))
        assert refused.value.code == "command.no-client"
    run.happens(StopClient("lab-1"))
    with pytest.raises(InputError):
        run.happens(StopClient("lab-1"))


def test_a_setting_that_a_method_can_not_change_is_refused_and_the_run_continues() -> None:
    table = TaskTable()
    method = Independent(fit_tasks(2, 0), table)
    engine = RunEngine(terms_of(OWNERS), method, table)
    engine.begin([ClientJoined(name) for name in OWNERS], {}, None, 0.0)
    with pytest.raises(InputError) as refused:
        engine.handle(Change("rounds", 5), 0.0)
    assert refused.value.code == "command.not-of-method"
    assert not any(isinstance(each, EndRun) for each in engine.handle(Tick({}, {}), 1.0))


class RoundsRun:
    """Rounds whose work is done at once."""

    def __init__(self, rounds: int, past: Past | None = None, round_deadline: float | None = None) -> None:
        self.table = TaskTable()
        setting = Setting(OWNERS, (10, 10), (10, 10), False, 0, 5, None, round_deadline, 600.0, False, False, 0.0, 10.0)
        self.method = Rounds(Schedule(2, 0, rounds), setting, self.table)
        self.engine = RunEngine(terms_of(OWNERS, method="federated"), self.method, self.table)
        self.over = False
        self.recorded: dict[str, Any] = {}
        self.messages: list[events.Commanded] = []
        self.leased: list[Task] = []
        self.offered: list[events.ResultDuplicate] = []
        self.now = 0.0
        self.restoring: list[Work] = []
        self.follow(self.engine.begin([ClientJoined(name) for name in OWNERS], {}, past, 0.0))

    def happens(self, event: Input) -> None:
        self.follow(self.engine.handle(event, self.now))

    def follow(self, instructions: Sequence[Instruction]) -> None:
        for each in instructions:
            self.over = self.over or isinstance(each, EndRun)
            match each:
                case Do(RestoreWeights() as work):
                    self.restoring.append(work)
                case Do(CloseRound(number, clients) as work):
                    record = RoundRecord(number, tuple(clients), seconds={"wall": 1.0})
                    self.happens(WorkDone(work, record))
                case Do(MakeRound() as work):
                    self.happens(WorkDone(work, Made({"loss": 1.0}, {})))
                case Do(StoreRound(record) as work):
                    self.happens(WorkDone(work, Stored(replace_field(record, stored=True), stop=False)))
                case RecordSettings(values):
                    self.recorded |= values
                case Emit(events.Commanded() as reported):
                    self.messages.append(reported)
                case Emit(events.ResultDuplicate() as offered):
                    self.offered.append(offered)
                case Lease(assignment):
                    self.leased.append(assignment.task)

    def round(self, number: int) -> None:
        for shard, name in enumerate(OWNERS, 1):
            self.happens(ResultCommitted(name, "run-1", f"round-{number}-shard-{shard}", 0.1))


def test_the_number_of_rounds_can_be_changed_during_a_run() -> None:
    run = RoundsRun(rounds=5)
    run.round(1)
    run.happens(Change("rounds", 2))
    run.round(2)
    assert run.over
    assert run.recorded == {"rounds": 2}
    assert len(run.method.history) == 2
    assert run.method.status() == "done"


def test_rounds_that_are_over_or_open_can_not_be_taken_back() -> None:
    run = RoundsRun(rounds=5)
    run.round(1)
    run.happens(Change("rounds", 1))
    assert run.method.schedule.rounds == 2, "the second has begun"
    run.round(2)
    assert run.over


def test_a_stopped_run_in_rounds_ends_with_the_last_whole_round() -> None:
    run = RoundsRun(rounds=5)
    run.round(1)
    run.happens(ResultCommitted("lab-1", "run-1", "round-2-shard-1", 0.1))
    run.happens(Stop())
    assert run.over
    assert len(run.method.history) == 1
    assert run.method.status() == "partial"


def size_of(root: object) -> int:
    """The number of objects that an object leads to, without code."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, type | ModuleType | FunctionType):
            seen.add(id(each))
            waiting += gc.get_referents(each)
    return len(seen)


def test_what_a_run_keeps_in_memory_does_not_grow_with_clients_times_rounds() -> None:
    run, sizes = RoundsRun(rounds=100), []
    for number in range(1, 61):
        for name in OWNERS:
            run.happens(EpochCompleted(name, "run-1", f"round-{number}-shard-{OWNERS.index(name) + 1}", 0, {}, {}, b""))
        run.round(number)
        run.leased.clear()
        if number in (20, 60):
            sizes.append(size_of(run.engine))
    assert len(run.method.history) == 60
    assert sizes[1] - sizes[0] < 40 * 3, "of a round, only its loss is left"


def test_a_result_that_comes_after_its_round_is_called_late_and_has_no_effect() -> None:
    run = RoundsRun(rounds=5, round_deadline=10.0)
    run.happens(ResultCommitted("lab-1", "run-1", "round-1-shard-1", 0.1))
    run.now = 11.0
    run.happens(Tick({}, {}))
    assert "round-1-shard-2" not in run.table, "the second round has begun"
    size = size_of(run.engine)
    run.happens(ResultCommitted("lab-2", "run-1", "round-1-shard-2", 0.1))
    assert size_of(run.engine) <= size
    run.happens(DuplicateResult("lab-2", "run-1", "round-1-shard-2", 1))
    run.happens(DuplicateResult("lab-1", "run-1", "round-1-shard-1", 1))
    assert [type(each) for each in run.offered] == [events.ResultLate, events.ResultDuplicate]


def test_only_tasks_that_are_over_can_be_forgotten() -> None:
    run = Run()
    with pytest.raises(LocalProtocolError):
        run.table.forget("shard-1")


# --- groups -----------------------------------------------------------------------------------------------------


def group(*shards: int) -> list[Task]:
    return [Task(f"step-1-shard-{shard + 1}", shard, 0, group="step-1") for shard in shards]


def test_a_group_begins_when_there_is_a_client_for_each_of_its_tasks() -> None:
    run = Run(group(0, 1), here=["lab-1"])
    assert run.leases() == []
    run.happens(ClientJoined("spare"))
    assert sorted(run.leases()) == [("lab-1", "step-1-shard-1"), ("spare", "step-1-shard-2")]


def test_when_one_of_a_group_is_lost_the_others_stop_and_all_begin_again() -> None:
    run = Run(group(0, 1))
    assert len(run.leases()) == 2
    run.happens(ClientLeft("lab-2", "gone", lost=True))
    assert run.cancels() == [("lab-1", "step-1-shard-1")]
    assert {record.state for record in run.table.records()} == {State.WAITING}
    run.happens(ClientJoined("lab-2"))
    assert sorted(run.leases()[2:]) == [("lab-1", "step-1-shard-1"), ("lab-2", "step-1-shard-2")]
    assert [record.attempt for record in run.table.records()] == [2, 2]


def test_what_one_of_a_group_has_done_stays_done_when_another_is_lost() -> None:
    run = Run(group(0, 1))
    run.happens(ResultCommitted("lab-1", "run-1", "step-1-shard-1", 0.1))
    run.happens(ClientLeft("lab-2", "gone", lost=True))
    assert run.cancels() == []
    assert run.leases()[2:] == [("lab-1", "step-1-shard-2")], "who is free takes it over"
    run.happens(ResultCommitted("lab-1", "run-1", "step-1-shard-2", 0.1))
    assert run.is_over


# --- any order --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["lab-1", "lab-2", "spare"])
RUNS = st.sampled_from(["run-1", "run-0"])
SETTINGS = st.sampled_from([("learning_rate", 0.5), ("epochs", 2), ("rounds", 2), ("no-such-setting", 1)])


def happenings(*tasks: str) -> st.SearchStrategy[list[tuple[Input, float]]]:
    """What may happen to tasks with these names, and after how many seconds."""
    task = st.sampled_from([*tasks, "no-such-task"])
    event = st.one_of(
        st.builds(ClientJoined, NAMES),
        st.builds(ClientLeft, NAMES, st.just("gone"), st.booleans(), st.booleans()),
        st.builds(ResultOffered, NAMES, RUNS, task),
        st.builds(ResultCommitted, NAMES, RUNS, task, st.just(0.1)),
        st.builds(TaskFailed, NAMES, RUNS, task, st.just("it failed"), st.booleans(), st.booleans()),
        st.builds(EpochCompleted, NAMES, RUNS, task, st.integers(-1, 6), st.just({"loss": 1.0})),
        st.builds(Evaluated, NAMES, RUNS, task, st.just(5), st.just({"loss": 1.0})),
        st.just(Tick({}, {})),
        st.sampled_from([Pause(), Resume(), Stop(), Stop(waiting=False)]),
        st.builds(StopClient, NAMES),
    )
    change = SETTINGS.map(lambda each: Change(*each))
    return st.lists(st.tuples(event | change, st.sampled_from([0.0, 1.0, 70.0, 700.0])), max_size=40)


class FitRun(Run):
    """A run of the real method, whose work is done at once, and whose operator may want what can't be."""

    def __init__(self, tasks: Sequence[Task] | None = None, **terms: Any) -> None:
        self.table = TaskTable()
        self.method = Independent(fit_tasks(2, 0) if tasks is None else tasks, self.table)
        self.engine = RunEngine(terms_of(OWNERS, **terms), self.method, self.table)
        self.now = 0.0
        self.done = self.engine.begin([ClientJoined(name) for name in OWNERS], {}, None, self.now)

    def happens(self, event: Input, seconds: float = 0.0) -> list[Instruction]:
        with refusals(event):
            following = super().happens(event, seconds)
            for each in list(following):
                if isinstance(each, Do):
                    following += self.happens(WorkDone(each.work, {"loss": 0.5}))
            return following
        return []


@contextmanager
def refusals(event: Input) -> Iterator[None]:
    """Only a command can be refused, which the operator is told."""
    try:
        yield
    except InputError:
        assert isinstance(event, Change | StopClient)


def holders(table: TaskTable) -> list[str]:
    return [client for record in table.records() for client in record.leases]


@settings(max_examples=400)
@given(happenings("step-1-shard-1", "step-1-shard-2"))
def test_whatever_happens_a_group_works_together_or_not_at_all(happening: list[tuple[Input, float]]) -> None:
    run = FitRun(group(0, 1), timeouts=Timeouts(grace=60))
    for event, seconds in happening:
        run.happens(event, seconds)
        open_ones = [each for each in run.table.records() if each.state in (State.WAITING, State.LEASED)]
        assert len({each.state for each in open_ones}) <= 1
        assert len(set(holders(run.table))) == len(holders(run.table))
    assert sum(isinstance(each, EndRun) for each in run.done) == run.is_over


@settings(max_examples=400)
@given(happenings(*(f"round-{number}-shard-{shard}" for number in (1, 2, 3) for shard in (1, 2))))
def test_whatever_happens_rounds_follow_each_other_and_come_to_an_end(happening: list[tuple[Input, float]]) -> None:
    run = RoundsRun(rounds=3, round_deadline=60.0)
    for event, seconds in happening:
        run.now += seconds
        with refusals(event):
            run.happens(event)
        assert len(set(holders(run.table))) == len(holders(run.table))
    if any(event == Stop(waiting=False) for event, _ in happening):
        return  # Ctrl-C: what is open stays open
    run.happens(Resume())
    for _ in range(12):
        for name in OWNERS:
            run.happens(ClientJoined(name))
        for record in list(run.table.records()):
            for name in list(record.leases):
                run.happens(ResultCommitted(name, "run-1", record.task.key, 0.1))
        run.now += 61
        run.happens(Tick({}, {}))
    assert run.over
    numbers = [task.key for task in run.leased]
    assert numbers == sorted(numbers, key=lambda key: int(key.split("-")[1])), (
        "a later round is not left for an earlier"
    )


@settings(max_examples=400)
@given(happenings("shard-1", "shard-2"), st.booleans())
def test_whatever_happens_in_whatever_order_the_engine_continues_and_nobody_has_two_tasks(
    happening: list[tuple[Input, float]], bound: bool
) -> None:
    run = FitRun(bound=bound, timeouts=Timeouts(grace=60))
    ended, trained = 0, dict[str, TaskSettings]()
    for event, seconds in happening:
        following = run.happens(event, seconds)
        ended += sum(isinstance(each, EndRun) for each in following)
        holding = holders(run.table)
        assert len(holding) == len(set(holding))
        for each in following:
            if isinstance(each, Lease):
                assert each.assignment.client in run.table.here
                assert not bound or each.assignment.client == each.assignment.owner
                task = each.assignment.task
                assert trained.setdefault(task.key, task.settings) == task.settings, "it would not repeat its result"
    assert ended <= 1
    assert ended == run.is_over


@given(st.lists(st.sampled_from(["lost", "failed", "died", "not needed", None]), min_size=1, max_size=5))
def test_a_resumed_run_counts_failures_as_the_one_before(ends: list[str | None]) -> None:
    leases = [
        StoredLease("shard-1", number, "lab-1", ended, "it failed" if ended in ("failed", "died") else None)
        for number, ended in enumerate(ends, 1)
    ]
    run = Run(past=Past(leases=leases))
    record = run.table["shard-1"]
    assert record.attempt >= len(ends)
    assert len(record.failures) <= sum(ended in ("failed", "died") for ended in ends)
    assert record.deaths == min(ends.count("died"), record.deaths)


def test_a_client_that_joins_before_its_lease_is_restored_gets_its_task_again() -> None:
    """Its process may be new, and have nothing; one that still trains the task goes on with it."""
    leases = [StoredLease("shard-1", 1, "lab-1", None, None), StoredLease("shard-2", 1, "lab-2", None, None)]
    run = Run(here=["lab-1"], past=Past(leases=leases))
    assert run.leases() == [("lab-1", "shard-1")]
    assert run.table.held_by("lab-2") == run.table["shard-2"], "it is on its way back"
    run.happens(ClientJoined("lab-2"), 1.0)
    assert run.leases() == [("lab-1", "shard-1"), ("lab-2", "shard-2")]


def test_a_result_that_comes_while_the_last_round_is_restored_counts_in_its_round() -> None:
    """A client that was gone for a moment offers it as soon as it is back, before the new server opens its round."""
    run = RoundsRun(rounds=3, past=Past(rounds=[RoundRecord(1, (), stored=True)]))
    assert run.leased == []
    run.happens(ResultCommitted("lab-2", "run-1", "round-2-shard-2", 0.1))
    [work] = run.restoring
    run.happens(WorkDone(work, None))
    assert [task.key for task in run.leased] == ["round-2-shard-1"], "the other one is done"
    run.happens(ResultCommitted("lab-1", "run-1", "round-2-shard-1", 0.1))
    assert [task.key for task in run.leased[1:]] == ["round-3-shard-1", "round-3-shard-2"]
    run.round(3)
    assert run.over


# --- settings of tasks ------------------------------------------------------------------------------------------


def test_a_changed_setting_is_recorded_before_anything_is_leased_with_it() -> None:
    run = RoundsRun(rounds=3)
    following = run.engine.handle(Change("learning_rate", 0.01), run.now)
    assert [type(each) for each in following] == [RecordSettings, Emit]
    run.follow(following)
    assert run.recorded == {"changes": ("2:learning_rate=0.01",)}
    assert [task.settings.learning_rate for task in run.leased] == [None, None]
    run.round(1)
    assert [task.settings.learning_rate for task in run.leased] == [None, None, 0.01, 0.01]


def test_after_a_restart_a_change_spares_the_round_that_clients_may_have_of_the_earlier_server() -> None:
    """Its weights are restored first; until then no round is open."""
    table = TaskTable()
    setting = Setting(OWNERS, (10, 10), (10, 10), False, 0, 5, None, None, 600.0, False, False, 0.0, 10.0)
    method = Rounds(Schedule(2, 0, 5), setting, table)
    method.begin([RoundRecord(1, (), stored=True)], 0.0)
    [record, _] = method.on_change(Change("epochs", 3))
    assert record == RecordSettings({"changes": ("3:epochs=3",)})


def test_a_task_tells_of_as_many_epochs_as_it_has_of_its_own() -> None:
    one, other = fit_tasks(2, 0)
    tasks = [replace(one, settings=TaskSettings(epochs=7)), replace(other, settings=TaskSettings(epochs=2))]
    run = Run(tasks)
    [persist] = [each for each in run.done if isinstance(each, Persist)]
    assert persist.epochs == 7, "results may have as many"
    for name, task in (("lab-1", "shard-1"), ("lab-2", "shard-2")):
        for epoch in range(9):
            run.happens(EpochCompleted(name, "run-1", task, epoch, {"loss": 1.0}))
    reported = [(event.client, event.epoch, event.epochs) for event in run.events(events.EpochCompleted)]
    assert reported == [("lab-1", epoch, 7) for epoch in range(7)] + [("lab-2", epoch, 2) for epoch in range(2)]
