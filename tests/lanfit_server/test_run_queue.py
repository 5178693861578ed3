"""A session: runs that wait for their turn, how far they have got, and what comes of those that are taken back.

Clients are simulated and train with the fake backend, or the test plays them; there is no model process.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.fake_cluster import run_script
from fakes.places import Host, Place, place_of  # noqa: F401

from lanfit.core.loop import LoopThread
from lanfit.errors import InputError, lanfit_error
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.models.handle import LoadModel
from lanfit_server.requests import RunHandle, RunInterrupted, RunRequest, State
from lanfit_server.run.instructions import Change
from lanfit_server.run.resume import job_of_run, status_of
from lanfit_server.session import follow
from lanfit_server.store.summary import Summary

ROUNDS = {"method": "federated", "rounds": 3}


async def states_of(handle: RunHandle) -> list[State]:
    """Every state that a request gets into from now on."""
    found = [handle.state]
    while found[-1] < State.ENDED:
        await handle.reach(State(found[-1] + 1))
        found.append(handle.state)
    return found


# --- runs one after the other -----------------------------------------------------------------------------------


def test_runs_that_are_queued_are_done_one_after_the_other_and_their_states_are_known(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session:
            first, second = await session.submit(place.request(seed=1)), await session.submit(place.request(seed=2))
            assert session.queue() == (first, second)
            seen = [asyncio.create_task(states_of(handle)) for handle in (first, second)]
            summary = await first.ended()
            assert second.state <= State.STARTING
            assert (await second.ended()).seed == 2
            assert (summary.seed, summary.status, first.run) == (1, "done", summary.run)
            assert summary.run != second.run
            assert [await states for states in seen] == [list(State)] * 2
            assert session.queue() == ()
            assert session.current is None
            assert status_of(place.workspace, second.run) == "done"

    run_script(script())


class Reports:
    """Reports that are being written until they may be finished."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, notes: list[str]) -> None:
        self._begun, self._may_end, self._notes = threading.Event(), threading.Event(), notes
        monkeypatch.setattr("lanfit_server.run.finish.write_reports", self._write)

    def _write(self, *what: object) -> list[str]:
        self._begun.set()
        self._may_end.wait(60)
        return self._notes

    async def begun(self) -> None:
        await asyncio.to_thread(self._begun.wait)

    def finish(self) -> None:
        self._may_end.set()


def test_the_outcome_is_there_and_the_run_has_ended_before_a_report_is_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports(monkeypatch, [])

    async def script() -> None:
        async with place.simulation() as session:
            handle = await session.submit(place.request())
            summary = await handle.outcome()
            assert (place.workspace.run_folder(summary.run) / "summary.json").exists()
            await reports.begun()
            assert handle.state == State.FINISHING
            assert status_of(place.workspace, summary.run) == "done"
            reports.finish()
            assert await handle.ended() == summary

    run_script(script())


def test_a_report_that_can_not_be_written_is_a_note_and_the_run_is_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    Reports(monkeypatch, ["report.xlsx was not written: no space."]).finish()

    async def script() -> None:
        async with place.simulation() as session:
            summary = await (await session.submit(place.request())).ended()
            assert summary.status == "done"
            await place.logged("Note: report.xlsx was not written: no space.")

    run_script(script())


def test_an_interrupt_while_reports_are_written_does_not_change_how_the_run_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports(monkeypatch, [])

    async def script() -> None:
        async with place.simulation() as session:
            handle = await session.submit(place.request())
            await reports.begun()
            session.interrupt(handle)
            assert (await handle.ended()).status == "done"
            await place.logged("not all of its reports are written")
            assert status_of(place.workspace, handle.run) == "done"
            reports.finish()

    run_script(script())


def test_a_run_that_can_not_start_leaves_the_next_one_its_turn(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session:
            wrong, right = await session.submit(place.request(epochs=1)), await session.submit(place.request())
            place.models.refuses[LoadModel] = lanfit_error("model.out-of-memory")
            with pytest.raises(InputError):
                await wrong.ended()
            place.models.refuses.clear()
            assert (await right.ended()).status == "done"
            assert wrong.error is not None
            assert wrong.summary is None

    run_script(script())


def test_each_run_reads_its_own_model_when_its_turn_comes(place: Place) -> None:
    (place.workspace.models / "other.keras").write_text("7.5")

    async def script() -> None:
        async with place.simulation() as session:
            handles = [await session.submit(place.request(name)) for name in ("net.keras", "other.keras")]
            assert not place.models.asked, "a model that is read now would take the place of one that is in use"
            for handle in handles:
                await handle.ended()
        read = [Path(request.path).name for request in place.models.asked if isinstance(request, LoadModel)]
        assert read == ["net.keras", "other.keras"]

    run_script(script())


# --- runs that are taken back ------------------------------------------------------------------------------------


def test_a_request_that_waits_for_its_turn_can_be_withdrawn(place: Place) -> None:
    async def script() -> None:
        async with place.with_clients() as session:
            first, second, third = [await session.submit(place.request()) for _ in range(3)]
            await place.logged("Reading the data")
            assert session.current is first
            assert session.queue() == (second, third)
            assert session.withdraw(second)
            assert not session.withdraw(second)
            assert not session.withdraw(first), "it has its turn"
            assert session.queue() == (third,)
            with pytest.raises(RunInterrupted, match="withdrawn before it started"):
                await second.ended()
            session.interrupt(third)
            assert third.state == State.ENDED
            assert session.queue() == ()

    run_script(script())


@pytest.mark.parametrize("moment", ["while rows are read", "while clients are waited for"])
def test_a_run_that_is_interrupted_before_it_starts_leaves_nothing_and_its_clients_are_notified(
    place: Place, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = threading.Event()

    def read(*arguments: Any) -> None:
        reading.set()
        arguments[-1].wait()
        raise KeyboardInterrupt

    if moment == "while rows are read":
        monkeypatch.setattr("lanfit_server.run.runner.read_data", read)

    async def script() -> None:
        async with place.with_clients("lab-1") as session:
            handle = await session.submit(place.request())
            if moment == "while rows are read":
                await asyncio.to_thread(reading.wait)
            else:
                await place.waits_for_clients()
            session.interrupt(handle)
            with pytest.raises(RunInterrupted, match=r"^Interrupted before the run started: nothing was trained\.$"):
                await handle.ended()
            (ended,) = place.host.cluster.ended
            assert ended["lab-1"].text == "no run was started: the server was stopped"
            assert not place.workspace.logs.exists()
            # The session goes on.
            assert (await session.submit(place.request())).state == State.QUEUED

    run_script(script())


def test_a_run_that_is_interrupted_later_keeps_what_it_has_and_is_resumed(place: Place) -> None:
    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session:
            handle = await session.submit(place.request(channel=rounds, **ROUNDS))
            await rounds.next()
            session.interrupt(handle)
            rounds.close()
            summary = await handle.ended()
            assert summary.status == "interrupted"
            assert "Resume it with: lanfit simulate --resume" in "\n".join(place.output.lines)
            job = job_of_run(place.workspace, summary.run)
            again = await session.submit(RunRequest(job, None, resumes=summary.run))
            summary = await again.ended()
            assert (summary.status, len(summary.rounds)) == ("done", 3)
            assert again.run == summary.run

    run_script(script())


def test_the_end_of_a_session_withdraws_queued_runs_and_aborts_the_current_one(place: Place) -> None:
    async def script() -> None:
        async with place.with_clients("lab-1") as session:
            handles = [await session.submit(place.request()) for _ in range(2)]
            await place.logged("Reading the data")
        for handle in handles:
            with pytest.raises(RunInterrupted):
                await handle.ended()
        assert place.host.is_closed
        assert place.models.is_stopped
        assert not list((place.workspace.server_state / "scratch").glob("*/*"))
        late = await session.submit(place.request())
        with pytest.raises(RunInterrupted, match="The server has ended"):
            await late.ended()

    run_script(script())


def test_a_run_that_was_interrupted_is_given_up_with_its_session_even_if_its_report_never_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def report(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("lanfit_server.run.finish.Finish.report", report)

    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session:
            handle = await session.submit(place.request(channel=rounds, **ROUNDS))
            await rounds.next()
            session.interrupt(handle)
            rounds.close()
            assert (await handle.outcome()).status == "interrupted"
        assert (await handle.ended()).status == "interrupted"

    run_script(script())


# --- what an operator does ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_enter_starts_a_run_without_missing_clients_only_where_its_request_allows_that(
    place: Place, allowed: bool
) -> None:
    async def script() -> None:
        async with place.with_clients() as session:
            handle = await session.submit(replace(place.request(), enter_starts=allowed))
            await place.waits_for_clients()
            session.start_now()
            if allowed:
                await place.logged("Training can't start yet: no client is ready")
            else:
                assert place.host.cluster.events.empty()
            session.interrupt(handle)
            await handle.reach(State.ENDED)
            session.start_now()
            assert place.host.cluster.events.empty(), "nobody takes it out, and the next run must not start by it"

    run_script(script())


def test_after_every_round_somebody_decides_whether_there_is_a_next_one(place: Place) -> None:
    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session:
            handle = await session.submit(place.request(channel=rounds, **ROUNDS))
            made = []
            for stop in (False, True):
                round_ = await rounds.next()
                made.append((round_.number, "w" in round_.weights.load()))
                rounds.answer(stop)
            assert len((await handle.ended()).rounds) == 2
            assert made == [(1, True), (2, True)]

    run_script(script())


def test_a_command_that_is_given_before_the_answer_about_a_round_holds_for_the_next_one(place: Place) -> None:
    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session:
            handle = await session.submit(place.request(channel=rounds, **ROUNDS))
            await rounds.next()
            commands = [session.command(Change("epochs", epochs)) for epochs in (2, 3)]
            rounds.answer(False)
            await rounds.next()
            assert all(command is not None and command.done() for command in commands)
            rounds.close()
            summary = await handle.ended()
            assert job_of_run(place.workspace, summary.run).changes == ("2:epochs=3",)
            assert session.command(Change("epochs", 4)) is None

    run_script(script())


def test_when_nobody_decides_any_more_a_run_continues_to_its_end(place: Place) -> None:
    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session:
            handle = await session.submit(place.request(channel=rounds, **ROUNDS))
            await rounds.next()
            rounds.close()
            assert len((await handle.ended()).rounds) == 3

    run_script(script())


# --- from another thread -----------------------------------------------------------------------------------------


class Interrupted:
    """A future for whose result a thread waits that Ctrl-C reaches so often."""

    def __init__(self, future: Any, times: int) -> None:
        self._future, self._left = future, times
        self.cancel = future.cancel
        self.result = future.result

    def add_done_callback(self, callback: Any) -> None:
        if self._left:
            self._left -= 1
            raise KeyboardInterrupt
        self._future.add_done_callback(callback)


@pytest.mark.parametrize(
    ("times", "reported"), [(1, "Interrupted before the run started: nothing was trained."), (2, "")]
)
def test_ctrl_c_interrupts_the_run_and_a_second_one_the_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch, times: int, reported: str
) -> None:
    with LoopThread() as loop:
        place.host = Host(place.workspace, "lab-1")
        with loop.within(place._session()) as session:
            handle = loop.call(session.submit(place.request()))
            shown: list[Summary] = []
            loop.call(place.waits_for_clients())
            submit = loop.submit
            with monkeypatch.context() as patch:
                patch.setattr(loop, "submit", lambda work: Interrupted(submit(work), times))
                with pytest.raises(KeyboardInterrupt) as pressed:
                    follow(loop, session, handle, shown.append)
            assert str(pressed.value) == reported
            assert not shown
        assert handle.state == State.ENDED
        assert len(place.host.cluster.ended) == 1, "clients are told once, however often it was pressed"
