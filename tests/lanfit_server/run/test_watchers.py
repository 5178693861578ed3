"""Watchers: they learn of everything that happens in runs, and can't disturb them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fakes.fake_cluster import run_script
from fakes.places import Place, place_of  # noqa: F401

from lanfit_server.requests import RunHandle, RunInterrupted, State
from lanfit_server.run.events import EpochCompleted, ResultCommitted, RunBegan, RunEvent
from lanfit_server.ui.live_table import Facts
from lanfit_server.watchers import RunFacts, Watcher


class Noting(Watcher):
    """Notes all that it is told."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    def request(self, handle: RunHandle) -> None:
        self.noted.append((handle, handle.state))

    def began(self, facts: RunFacts) -> None:
        self.noted.append(facts)

    def event(self, event: RunEvent, now: float) -> None:
        self.noted.append(event)

    def facts(self, facts: Facts) -> None:
        self.noted.append(facts)

    def waiting(self, text: str) -> None:
        self.noted.append(f"waits: {text}")

    def on_log(self, text: str) -> None:
        self.noted.append(text)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.noted if isinstance(each, kind)]


def test_a_watcher_learns_of_a_run_from_its_request_to_its_end(place: Place) -> None:
    watcher = Noting()
    place.watchers.append(watcher)

    async def script() -> None:
        async with place.simulation() as session:
            handle = await session.submit(place.request(epochs=3))
            await handle.ended()
            states = [state for each, state in watcher.of(tuple) if each is handle]
            assert states == [State.QUEUED, State.STARTING, State.RUNNING, State.FINISHING, State.ENDED]
            [began] = watcher.of(RunFacts)
            assert (began.run, began.job.epochs, len(began.owners)) == (handle.run, 3, 2)
            assert began.record.run == handle.run
            assert began.folder == place.workspace.run_folder(handle.run)
            # The facts come first, then the events in the order in which the journal has them.
            order = [type(each) for each in watcher.noted if isinstance(each, RunFacts | RunBegan | ResultCommitted)]
            assert order == [RunFacts, RunBegan, ResultCommitted, ResultCommitted]
            epochs = [(event.client, event.epoch) for event in watcher.of(EpochCompleted)]
            assert sorted(epochs) == [(owner, epoch) for owner in began.owners for epoch in range(3)]
            assert watcher.of(Facts)[-1].done == 2
            assert any("Reading the data" in text for text in watcher.of(str))

    run_script(script())


def test_a_watcher_learns_of_the_queue_and_of_what_is_taken_back(place: Place) -> None:
    watcher = Noting()
    place.watchers.append(watcher)

    async def script() -> None:
        async with place.with_clients() as session:
            first, second = await session.submit(place.request()), await session.submit(place.request())
            await place.waits_for_clients()
            session.withdraw(second)
            session.interrupt(first)
            with pytest.raises(RunInterrupted):
                await first.ended()
        assert [state for each, state in watcher.of(tuple) if each is second] == [State.QUEUED, State.ENDED]
        assert [state for each, state in watcher.of(tuple) if each is first] == [
            State.QUEUED,
            State.STARTING,
            State.ENDED,
        ]
        assert any(text.startswith("waits: ") and text != "waits: " for text in watcher.of(str))

    run_script(script())


def test_a_watcher_that_fails_is_logged_once_and_disturbs_nobody(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Watcher):
        def event(self, event: RunEvent, now: float) -> None:
            raise RuntimeError("it is broken")

        def request(self, handle: RunHandle) -> None:
            raise RuntimeError("it is broken")

    watcher = Noting()
    place.watchers += [Failing(), watcher]

    async def script() -> None:
        async with place.simulation() as session:
            assert (await (await session.submit(place.request())).ended()).status == "done"
            await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR):
        run_script(script())
    assert len([record for record in caplog.records if "a watcher of the runs failed" in record.message]) == 1
    assert len(watcher.of(ResultCommitted)) == 2
