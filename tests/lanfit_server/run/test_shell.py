"""A run over a played cluster and a played clock: silence, stalls, stragglers, own pauses, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.fake_cluster import FakeCluster, RecordingDisplay, run_script
from fakes.results import record
from only_tasks import TasksOnly, terms_of

from lanfit.core.workspace import Workspace
from lanfit.errors import InputError
from lanfit.settings.timeouts import Timeouts
from lanfit.wire.messages import Cancel, Progress
from lanfit_server.clusters.events import (
    ClientJoined,
    ClientLeft,
    ClientSeen,
    ClientSilent,
    DuplicateResult,
    EpochCompleted,
    InternalEvent,
    ResultCommitted,
    ResultOffered,
    TaskFailed,
)
from lanfit_server.methods.independent import fit_tasks
from lanfit_server.run.engine import MOST_EPOCH_EVENTS, RunEngine
from lanfit_server.run.instructions import Pause, Work, WorkDone
from lanfit_server.run.journal import Journal
from lanfit_server.run.run_stats import RunStats
from lanfit_server.run.shell import Shell
from lanfit_server.run.tasks import State
from lanfit_server.run.wait_for_clients import joined
from lanfit_server.store.ledger import Ledger
from lanfit_server.store.result_store import OpenRun
from lanfit_server.ui.live_table import Facts, Held
from lanfit_server.ui.narrator import Narrator

#: The heartbeat is in real seconds: how soon the shell looks at the played clock.
WAITS = Timeouts(heartbeat=0.01, suspect=15, lost=60, no_progress=600, grace=60)


class SentLease(SimpleNamespace):
    """Stands for a lease."""


class Run:
    """A run, and the clock that it goes by; with a deadline, in seconds, rows are the clients' own."""

    def __init__(
        self, folder: Path, owners: list[str], clients: list[str], deadline: float | None = None, copies: bool = True
    ) -> None:
        self.now = 1000.0
        self.cluster = FakeCluster(*clients)
        while not self.cluster.events.empty():
            self.cluster.events.get_nowait()  # as who gathers them does
        self.output = RecordingDisplay()
        self.folder = folder
        place = Workspace(folder)
        self.ledger = Ledger(place.run_folder("run-1"))
        if self.ledger.record is None:
            self.ledger.open_run(record("run-1"))
        for owner in owners:
            if owner not in clients:
                self.cluster.roster.restore(owner, owner.encode(), self.now)
        self.journal = Journal(place.run_folder("run-1"))
        run = OpenRun(place, "run-1", self.ledger, record("run-1"))
        data = SimpleNamespace(own=deadline, samples=[10] * len(owners), claimed=())
        dispatch: Any = SimpleNamespace(
            data=data, lease=lambda task, owner, attempt: SentLease(task=task.key, owner=owner, attempt=attempt)
        )
        self.stats = RunStats()
        method: Any = TasksOnly(fit_tasks(len(owners), 0), self.stats.table)
        terms = terms_of(
            owners, bound=deadline is not None, deadline=deadline or 600.0, copies=copies, timeouts=WAITS,
            epochs=record("run-1").epochs,
        )  # fmt: skip
        narrator = Narrator(self.output, partial(joined, self.cluster))  # type: ignore[arg-type]
        self.shell = Shell(
            run, RunEngine(terms, method, self.stats.table), method, self.cluster, dispatch, self.journal,  # type: ignore[arg-type]
            self.output, (self.stats, self.journal, narrator), WAITS.heartbeat, lambda: self.now,
        )  # fmt: skip

    @property
    def table(self) -> Any:
        return self.stats.table

    async def looks(self) -> None:
        """Wait until the engine has heard what there was, and that time has passed."""
        for _ in range(3):
            self.now += 1e-6
            while self.shell.looked < self.now or not self.cluster.events.empty():
                await asyncio.sleep(0.001)

    async def passes(self, seconds: float) -> None:
        """Let time pass, in steps that are no pause of the server's own."""
        while seconds > 0:
            self.now += min(4.0, seconds)
            seconds -= 4.0
            await self.looks()

    def leases(self) -> list[tuple[str, str, int]]:
        return [(name, sent.task, sent.attempt) for name, sent in self.cluster.sent if isinstance(sent, SentLease)]

    def cancels(self) -> list[tuple[str, str]]:
        return [(name, sent.task) for name, sent in self.cluster.sent if isinstance(sent, Cancel)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.folder / "logs" / "run-1" / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


@contextlib.asynccontextmanager
async def at_work(
    folder: Path, owners: list[str], clients: list[str], deadline: float | None = None, copies: bool = True
) -> AsyncIterator[Run]:
    run = Run(folder, owners, clients, deadline, copies)
    working = asyncio.create_task(run.shell.run())
    try:
        await run.looks()
        yield run
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        run.journal.close()
        run.ledger.close()


def commits(folder: Path, clients: int) -> int:
    """How often the disk is waited for until all clients have their tasks."""
    names = [f"lab-{number}" for number in range(1, clients + 1)]
    statements: list[str] = []

    async def script() -> None:
        run = Run(folder, names, names)
        run.ledger._db.set_trace_callback(statements.append)
        working = asyncio.create_task(run.shell.run())
        try:
            await run.looks()
            assert sorted(name for name, _, _ in run.leases()) == names
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            run.journal.close()
            run.ledger.close()

    asyncio.run(script())
    return statements.count("COMMIT")


def test_the_disk_is_waited_for_as_often_for_many_clients_as_for_two(tmp_path: Path) -> None:
    few = commits(tmp_path / "few", 2)
    assert few > 0
    assert commits(tmp_path / "many", 9) == few


def test_who_is_silent_is_named_and_keeps_its_task(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            run.cluster.events.put_nowait(ClientSilent("lab-1", 16.0))
            await run.looks()
            assert "lab-1 has been silent for 16 s; after 60 s it is lost." in run.output.lines
            assert run.events("silent")[0]["client"] == "lab-1"
            assert run.leases() == [("lab-1", "shard-1", 1)]

    run_script(script())


def test_a_client_tells_of_the_epochs_that_its_task_has_and_not_endlessly(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1"]) as run:
            reported: list[int] = []
            run.output.epoch = lambda *facts: reported.append(facts[3])  # type: ignore[method-assign]
            for epoch in [-1, 5, 2**62, *[0, 1] * 500]:
                run.cluster.events.put_nowait(EpochCompleted("lab-1", "run-1", "shard-1", epoch, {"loss": 0.5}))
            await run.looks()
            assert set(reported) == {0, 1}
            assert len(reported) < MOST_EPOCH_EVENTS * record("run-1").epochs
            history = (run.folder / "logs" / "run-1" / "clients" / "lab-1" / "history.csv").read_text()
            assert [line.partition(",")[0] for line in history.splitlines()] == ["epoch", "0", "1"]

    run_script(script())


def test_a_silent_client_that_answers_again_is_reported_to_be_back(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1"]) as run:
            run.cluster.events.put_nowait(ClientSilent("lab-1", 16.0))
            run.cluster.events.put_nowait(ClientSeen("lab-1", 21.4))
            await run.looks()
            assert "lab-1 is back after 21 s of silence." in run.output.lines
            assert run.events("heard")[0]["seconds"] == 21.4

    run_script(script())


def test_the_display_knows_what_is_done_and_who_has_taken_over_what(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"]) as run:
            assert run.output._facts == Facts("run-1", 0, 2, held=OWN, at_work=frozenset({"lab-1", "lab-2"}))
            run.cluster.events.put_nowait(ResultCommitted("lab-1", "run-1", "shard-1", 1.0))
            run.cluster.leave("lab-2", run.now)
            await run.looks()
            held = {"lab-1": Held("lab-2")}
            assert run.output._facts == Facts("run-1", 1, 2, held=held, at_work=frozenset({"lab-1"}))

    run_script(script())


OWN = {"lab-1": Held(), "lab-2": Held()}


def test_an_idle_client_learns_once_what_it_waits_for(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            assert run.cluster.messages == []
            await run.passes(1.0)
            assert run.cluster.messages == [], "between two rounds nobody is told"
            await run.passes(8.0)
            assert run.cluster.messages == [("spare", "run run-1 continues with other clients; this one is on standby")]

    run_script(script())


def test_a_task_that_does_not_get_on_is_taken_away_and_tried_elsewhere(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            run.cluster.roster.progress("lab-1", Progress("run-1", "shard-1", 1, 5, 3, 9, 0.5, 10.0), run.now + 100)
            await run.passes(690)
            assert run.cancels() == []
            await run.passes(20)
            assert run.cancels() == [("lab-1", "shard-1")]
            assert run.leases() == [("lab-1", "shard-1", 1), ("spare", "shard-1", 2)]
            assert "made no progress for 600 s" in run.events("failed")[0]["error"]
            [first, second] = run.ledger.leases()
            assert (first.ended, second.ended) == ("failed", None)

    run_script(script())


def test_a_result_that_is_offered_and_does_not_come_is_waited_for_as_long_as_work_that_does_not_get_on(
    tmp_path: Path,
) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            run.cluster.events.put_nowait(ResultOffered("lab-1", "run-1", "shard-1"))
            await run.looks()
            run.cluster.roster["lab-1"].delivered = run.now + 100  # some of it comes
            await run.passes(690)
            assert run.cancels() == []
            # What it says of its work is no delivery.
            run.cluster.roster.progress("lab-1", Progress("run-1", "shard-1", 1, 5, 3, 9, 0.5, 10.0), run.now)
            await run.passes(20)
            assert run.cancels() == [("lab-1", "shard-1")]
            assert run.leases() == [("lab-1", "shard-1", 1), ("spare", "shard-1", 2)]
            # It may still come: whose it is comes first counts.
            run.cluster.events.put_nowait(ResultCommitted("lab-1", "run-1", "shard-1", 1.0))
            while run.table["shard-1"].state is not State.COMMITTED:
                await asyncio.sleep(0.001)

    run_script(script())


def test_a_client_that_breaks_the_protocol_at_a_task_again_and_again_ends_the_task_with_the_reason(
    tmp_path: Path,
) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1"]) as run:
            for again in (True, False):
                run.cluster.roster.leave("lab-1", "lost", run.now)
                run.cluster.events.put_nowait(ClientLeft("lab-1", "it sent nonsense", lost=True, broken=True))
                if again:
                    await run.looks()
                    run.cluster.join("lab-1")
                    await run.looks()
            while run.table.open:
                await asyncio.sleep(0.001)
            assert run.table["shard-1"].state is State.GIVEN_UP
            assert run.table["shard-1"].failures == ["lab-1: it sent nonsense"] * 2
            assert len(run.leases()) == 2
            assert any("it sent nonsense — it is given up" in line for line in run.output.lines)

    run_script(script())


def test_a_stragglers_task_is_copied_and_the_slower_client_is_stopped(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"]) as run:
            await run.passes(40)
            run.cluster.events.put_nowait(ResultCommitted("lab-1", "run-1", "shard-1", 1.0))
            await run.looks()
            await run.passes(32)
            assert len(run.leases()) == 2
            await run.passes(16)
            assert run.leases()[2] == ("lab-1", "shard-2", 2)
            assert any(
                "lab-1 also trains shard-2: lab-2 takes more than twice the median time." in line
                for line in run.output.lines
            )
            run.cluster.events.put_nowait(ResultOffered("lab-1", "run-1", "shard-2"))
            await run.looks()
            assert run.table["shard-2"].state is State.RETURNED
            run.cluster.events.put_nowait(ResultCommitted("lab-1", "run-1", "shard-2", 1.0))
            run.cluster.events.put_nowait(DuplicateResult("lab-2", "run-1", "shard-2", 1))
            while not run.cancels():
                await asyncio.sleep(0.001)
            assert run.cancels() == [("lab-2", "shard-2")]

    run_script(script())


def test_weights_that_are_no_numbers_leave_a_task_out_of_its_round_only_when_nobody_else_has_it(tmp_path: Path) -> None:
    def diverged(name: str) -> TaskFailed:
        return TaskFailed(name, "run-1", "shard-2", "its weights are not finite", not_finite=True)

    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"]) as run:
            record = run.table["shard-2"]
            record.task = replace(record.task, round=1)
            await run.passes(40)
            run.cluster.events.put_nowait(ResultCommitted("lab-1", "run-1", "shard-1", 1.0))
            await run.passes(48)
            assert run.leases()[2] == ("lab-1", "shard-2", 2), "it is copied"
            run.cluster.events.put_nowait(diverged("lab-1"))
            await run.looks()
            assert run.table["shard-2"].state is State.LEASED
            assert not run.events("left out")
            run.cluster.events.put_nowait(diverged("lab-2"))
            while run.table["shard-2"].state is not State.GIVEN_UP:  # the last task: nothing is looked at after it
                await asyncio.sleep(0.001)
            assert [event["client"] for event in run.events("left out")] == ["lab-2"]

    run_script(script())


def test_nothing_is_copied_when_clients_share_their_machine(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"], copies=False) as run:
            await run.passes(40)
            run.cluster.events.put_nowait(ResultCommitted("lab-1", "run-1", "shard-1", 1.0))
            await run.looks()
            await run.passes(200)
            assert len(run.leases()) == 2

    run_script(script())


def test_a_server_that_stood_still_gives_every_lease_its_full_time_again(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2", "spare"]) as run:
            run.now += 3600
            run.cluster.leave("lab-1", run.now)
            await run.looks()
            assert run.events("stood still")[0]["seconds"] == pytest.approx(3600, abs=1)
            assert run.cancels() == []
            assert "The connection to lab-1 ended (it was pulled out); it is expected to reconnect." in run.output.lines
            run.cluster.join("lab-1")
            await run.looks()
            assert run.leases()[2:] == [("lab-1", "shard-1", 2)], "it has its own task again"
            # Who does not come back is lost after all.
            run.cluster.leave("lab-2", run.now)
            await run.passes(50)
            assert len(run.leases()) == 3
            await run.passes(20)
            assert run.leases()[3:] == [("spare", "shard-2", 2)]

    run_script(script())


def test_the_next_server_knows_who_has_what_and_how_often_it_failed(tmp_path: Path) -> None:
    async def first() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-2"]) as run:
            for number in (1, 2):
                run.cluster.events.put_nowait(TaskFailed("lab-2", "run-1", "shard-2", f"killed {number}", died=True))
                await run.looks()
            assert run.leases() == [("lab-2", "shard-2", attempt) for attempt in (1, 2, 3)]

    async def second() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["spare"]) as run:
            assert run.leases() == [], "both are expected back"
            run.cluster.join("lab-2")
            await run.looks()
            assert run.leases() == [("spare", "shard-2", 4)], "where it did not fail yet"
            run.cluster.events.put_nowait(TaskFailed("spare", "run-1", "shard-2", "killed 3", died=True))
            await run.looks()
            assert run.table["shard-2"].state is State.GIVEN_UP
            assert [failure.rpartition(" ")[2] for failure in run.table["shard-2"].failures] == ["1", "2", "3"]
            await run.passes(70)
            assert run.leases()[1:] == [("lab-2", "shard-1", 1)], "lab-1 did not come back"

    run_script(first())
    run_script(second())


def test_who_leaves_on_purpose_is_not_expected_back(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            run.now += 100
            await run.looks()
            run.cluster.leave("lab-1", run.now, lost=False)
            await run.looks()
            assert run.leases() == [("lab-1", "shard-1", 1), ("spare", "shard-1", 2)]

    run_script(script())


def test_who_alone_has_its_rows_is_waited_for_until_the_deadline_and_given_up_then(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"], deadline=120) as run:
            run.cluster.leave("lab-2", run.now, lost=True)
            await run.looks()
            assert "no other client has its rows; waiting 120 s more for it (--deadline)" in run.output.lines[-1]
            await run.passes(116)
            assert run.table["shard-2"].state is State.WAITING
            await run.passes(8)
            assert run.table["shard-2"].state is State.GIVEN_UP
            reason = "lab-2 was away for longer than 120 s (--deadline), and only it has its rows"
            assert run.output.lines[-1] == f"shard-2 is given up: {reason}."
            assert [(event["task"], event["client"]) for event in run.events("given up")] == [("shard-2", "lab-2")]
            assert run.leases() == [("lab-1", "shard-1", 1), ("lab-2", "shard-2", 1)], "nobody else was asked"

    run_script(script())


def test_a_command_that_comes_too_late_is_refused_and_nothing_of_the_run_is_left_for_the_next_one(
    tmp_path: Path,
) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1"]) as run:
            pass  # the run is cancelled
        late = run.shell.command(Pause())
        run.cluster.events.put_nowait(InternalEvent(WorkDone(Work(), None)))
        run.cluster.join("spare")
        await run.shell.close()
        with pytest.raises(InputError, match="run run-1 ended before the command took effect") as refused:
            await late
        assert refused.value.code == "command.run-over"
        assert [type(run.cluster.events.get_nowait()) for _ in range(run.cluster.events.qsize())] == [ClientJoined]

    run_script(script())
