"""The coordinator over a played cluster and a played clock: silence, stalls, stragglers, own pauses, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from played import PlayedCluster, Said, play
from test_collect import record

from lanfit.job import Job
from lanfit.waits import Waits
from lanfit.wire.messages import Cancel, Progress
from lanfit.workspace import Workspace
from lanfit_server import coordinator as module
from lanfit_server import patience
from lanfit_server.apart import Apart
from lanfit_server.clusters import EpochEnded, Heard, Left, Offered, Repeated, Returned, Silent, TaskFailed
from lanfit_server.collect import OpenRun
from lanfit_server.coordinator import MOST_TELLS, Coordinator
from lanfit_server.course import Course
from lanfit_server.journal import Journal
from lanfit_server.ledger import Ledger
from lanfit_server.live_table import Facts, Held
from lanfit_server.methods.fit import fit
from lanfit_server.patience import Patience
from lanfit_server.tasks import State

#: The heartbeat is in real seconds: how soon the coordinator looks at the played clock.
WAITS = Waits(heartbeat=0.01, suspect=15, lost=60, no_progress=600, grace=60)


class Order(SimpleNamespace):
    """Stands for a lease."""


class Run:
    """A coordinator at work, and the clock that it looks at; with a deadline, in seconds, rows are the clients' own."""

    def __init__(self, folder: Path, owners: list[str], clients: list[str], deadline: float | None = None) -> None:
        self.now = 1000.0
        self.cluster = PlayedCluster(*clients)
        while not self.cluster.events.empty():
            self.cluster.events.get_nowait()  # as who gathers them does
        self.said = Said()
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
        provision: Any = SimpleNamespace(
            data=data, lease=lambda task, owner, attempt: Order(task=task.key, owner=owner, attempt=attempt)
        )
        job, course = Job(clients=len(owners), deadline=(deadline or 600) / 60), Course()
        maker = Apart(job, run, fit(len(owners), 0), course, None)  # type: ignore[arg-type]
        maker.returned = lambda record: None  # type: ignore[method-assign]
        maker.settle = self._settled  # type: ignore[method-assign, assignment]
        self.coordinator = Coordinator(
            job, run, maker, course, self.cluster, self.journal, self.said, provision, owners,
            Patience(self.cluster.roster, deadline), WAITS,
        )  # fmt: skip

    async def _settled(self, *, waiting: bool = True) -> None:
        pass

    @property
    def table(self) -> Any:
        return self.coordinator.course.table

    async def looks(self) -> None:
        """Wait until the coordinator has handled what there was, and has decided what follows."""
        for _ in range(3):
            self.now += 1e-6
            while self.coordinator._looked < self.now or not self.cluster.events.empty():
                await asyncio.sleep(0.001)

    async def passes(self, seconds: float) -> None:
        """Let time pass, in steps that are no pause of the server's own."""
        while seconds > 0:
            self.now += min(4.0, seconds)
            seconds -= 4.0
            await self.looks()

    def leases(self) -> list[tuple[str, str, int]]:
        return [(name, sent.task, sent.attempt) for name, sent in self.cluster.sent if isinstance(sent, Order)]

    def cancels(self) -> list[tuple[str, str]]:
        return [(name, sent.task) for name, sent in self.cluster.sent if isinstance(sent, Cancel)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.folder / "logs" / "run-1" / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


@contextlib.asynccontextmanager
async def at_work(
    folder: Path, owners: list[str], clients: list[str], deadline: float | None = None
) -> AsyncIterator[Run]:
    run = Run(folder, owners, clients, deadline)
    with pytest.MonkeyPatch.context() as patch:
        for each in (module, patience):
            patch.setattr(each, "time", SimpleNamespace(monotonic=lambda: run.now))
        patch.setattr(run.coordinator, "_looked", run.now)
        working = asyncio.create_task(run.coordinator.run())
        try:
            await run.looks()
            yield run
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            run.journal.close()
            run.ledger.close()


def test_who_is_silent_is_named_and_keeps_its_task(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            run.cluster.events.put_nowait(Silent("lab-1", 16.0))
            await run.looks()
            assert "lab-1 has said nothing for 16 s; after 60 s it is lost." in run.said.lines
            assert run.events("silent")[0]["client"] == "lab-1"
            assert run.leases() == [("lab-1", "shard-1", 1)]

    play(script())


def test_a_client_tells_of_the_epochs_that_its_task_has_and_not_endlessly(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1"]) as run:
            told: list[int] = []
            run.said.epoch = lambda *facts: told.append(facts[3])  # type: ignore[method-assign]
            for epoch in [-1, 5, 2**62, *[0, 1] * 500]:
                run.cluster.events.put_nowait(EpochEnded("lab-1", "run-1", "shard-1", epoch, {"loss": 0.5}))
            await run.looks()
            assert set(told) == {0, 1}
            assert len(told) < MOST_TELLS * record("run-1").epochs
            history = (run.folder / "logs" / "run-1" / "clients" / "lab-1" / "history.csv").read_text()
            assert [line.partition(",")[0] for line in history.splitlines()] == ["epoch", "0", "1"]

    play(script())


def test_who_was_silent_and_is_heard_of_again_is_said_to_be_back(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1"]) as run:
            run.cluster.events.put_nowait(Silent("lab-1", 16.0))
            run.cluster.events.put_nowait(Heard("lab-1", 21.4))
            await run.looks()
            assert "lab-1 is back: it said nothing for 21 s." in run.said.lines
            assert run.events("heard")[0]["seconds"] == 21.4

    play(script())


def test_the_display_knows_what_is_done_and_who_has_taken_over_what(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"]) as run:
            assert run.said._facts == Facts("run-1", 0, 2, held=OWN, at_work=frozenset({"lab-1", "lab-2"}))
            run.cluster.events.put_nowait(Returned("lab-1", "run-1", "shard-1", 1.0))
            run.cluster.leave("lab-2", run.now)
            await run.looks()
            held = {"lab-1": Held("lab-2")}
            assert run.said._facts == Facts("run-1", 1, 2, held=held, at_work=frozenset({"lab-1"}))

    play(script())


OWN = {"lab-1": Held(), "lab-2": Held()}


def test_who_has_nothing_to_do_for_a_while_is_told_once_what_it_waits_for(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            assert run.cluster.told == []
            await run.passes(1.0)
            assert run.cluster.told == [], "between two rounds nobody is told"
            await run.passes(8.0)
            assert run.cluster.told == [("spare", "run run-1 goes on with other clients; this one stands by")]

    play(script())


def test_a_task_that_does_not_get_on_is_taken_away_and_tried_elsewhere(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            run.cluster.roster.progress("lab-1", Progress("run-1", "shard-1", 1, 5, 3, 9, 0.5, 10.0), run.now + 100)
            await run.passes(690)
            assert run.cancels() == []
            await run.passes(20)
            assert run.cancels() == [("lab-1", "shard-1")]
            assert run.leases() == [("lab-1", "shard-1", 1), ("spare", "shard-1", 2)]
            assert "has not got on for 600 s" in run.events("failed")[0]["error"]
            [first, second] = run.ledger.leases()
            assert (first.ended, second.ended) == ("failed", None)

    play(script())


def test_a_client_that_breaks_the_protocol_at_a_task_again_and_again_ends_the_task_with_the_reason(
    tmp_path: Path,
) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1"]) as run:
            for again in (True, False):
                run.cluster.roster.leave("lab-1", "lost", run.now)
                run.cluster.events.put_nowait(Left("lab-1", "it sent nonsense", lost=True, broken=True))
                if again:
                    await run.looks()
                    run.cluster.join("lab-1")
                    await run.looks()
            while run.table.open:
                await asyncio.sleep(0.001)
            assert run.table["shard-1"].state is State.GIVEN_UP
            assert run.table["shard-1"].failures == ["lab-1: it sent nonsense"] * 2
            assert len(run.leases()) == 2
            assert any("it sent nonsense — it is given up" in line for line in run.said.lines)

    play(script())


def test_a_stragglers_task_is_copied_and_who_is_second_is_told_to_stop(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"]) as run:
            await run.passes(40)
            run.cluster.events.put_nowait(Returned("lab-1", "run-1", "shard-1", 1.0))
            await run.looks()
            await run.passes(32)
            assert len(run.leases()) == 2
            await run.passes(16)
            assert run.leases()[2] == ("lab-1", "shard-2", 2)
            assert any(
                "lab-1 tries shard-2, too: lab-2 takes over twice the median." in line for line in run.said.lines
            )
            run.cluster.events.put_nowait(Offered("lab-1", "run-1", "shard-2"))
            await run.looks()
            assert run.table["shard-2"].state is State.RETURNED
            run.cluster.events.put_nowait(Returned("lab-1", "run-1", "shard-2", 1.0))
            run.cluster.events.put_nowait(Repeated("lab-2", "run-1", "shard-2", 1))
            while not run.cancels():
                await asyncio.sleep(0.001)
            assert run.cancels() == [("lab-2", "shard-2")]

    play(script())


def test_weights_that_are_no_numbers_leave_a_task_out_of_its_round_only_when_nobody_else_has_it(tmp_path: Path) -> None:
    def diverged(name: str) -> TaskFailed:
        return TaskFailed(name, "run-1", "shard-2", "its weights are not finite", not_finite=True)

    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"]) as run:
            record = run.table["shard-2"]
            record.task = replace(record.task, round=1)
            await run.passes(40)
            run.cluster.events.put_nowait(Returned("lab-1", "run-1", "shard-1", 1.0))
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

    play(script())


def test_nothing_is_copied_when_clients_share_their_machine(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"]) as run:
            run.cluster.own_machines = False
            await run.passes(40)
            run.cluster.events.put_nowait(Returned("lab-1", "run-1", "shard-1", 1.0))
            await run.looks()
            await run.passes(200)
            assert len(run.leases()) == 2

    play(script())


def test_a_server_that_stood_still_gives_every_lease_its_full_time_again(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2", "spare"]) as run:
            run.now += 3600
            run.cluster.leave("lab-1", run.now)
            await run.looks()
            assert run.events("stood still")[0]["seconds"] == pytest.approx(3600, abs=1)
            assert run.cancels() == []
            assert "The link to lab-1 ended (it was pulled out); it is expected back." in run.said.lines
            run.cluster.join("lab-1")
            await run.looks()
            assert run.leases()[2:] == [("lab-1", "shard-1", 2)], "it has its own task again"
            # Who does not come back is lost after all.
            run.cluster.leave("lab-2", run.now)
            await run.passes(50)
            assert len(run.leases()) == 3
            await run.passes(20)
            assert run.leases()[3:] == [("spare", "shard-2", 2)]

    play(script())


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

    play(first())
    play(second())


def test_who_leaves_on_purpose_is_not_expected_back(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1"], ["lab-1", "spare"]) as run:
            run.now += 100
            await run.looks()
            run.cluster.leave("lab-1", run.now, lost=False)
            await run.looks()
            assert run.leases() == [("lab-1", "shard-1", 1), ("spare", "shard-1", 2)]

    play(script())


def test_who_alone_has_its_rows_is_waited_for_until_the_deadline_and_given_up_then(tmp_path: Path) -> None:
    async def script() -> None:
        async with at_work(tmp_path, ["lab-1", "lab-2"], ["lab-1", "lab-2"], deadline=120) as run:
            run.cluster.leave("lab-2", run.now, lost=True)
            await run.looks()
            assert "nobody else has its rows; it is waited for 120 s more (--deadline)" in run.said.lines[-1]
            await run.passes(116)
            assert run.table["shard-2"].state is State.WAITING
            await run.passes(8)
            assert run.table["shard-2"].state is State.GIVEN_UP
            reason = "lab-2 was gone for longer than 120 s (--deadline); its rows are its own"
            assert run.said.lines[-1] == f"shard-2 is given up: {reason}."
            assert [(event["task"], event["client"]) for event in run.events("given up")] == [("shard-2", "lab-2")]
            assert run.leases() == [("lab-1", "shard-1", 1), ("lab-2", "shard-2", 1)], "nobody else was asked"

    play(script())
