"""A server that knows the passphrase and floods a client, or breaks the protocol again and again: a real agent."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import ScriptedServer, scripted_server
from test_hostile_server import lease, welcomed

from lanfit.errors import ConnectionFailed, lanfit_error
from lanfit.net.link import WAITING_LIMIT, Link
from lanfit.wire.auth import stretch
from lanfit.wire.frames import Kind, encode_frame
from lanfit.wire.messages import (
    AskParts,
    Fetch,
    Later,
    Message,
    RunEnded,
    Status,
    TakeParts,
    Welcome,
)
from lanfit_client.agent import MOST_UNANSWERED, Agent
from lanfit_client.pacing import (
    FIRST_WAIT,
    FORGIVEN_AFTER,
    LONGEST_WAIT,
    MOST_A_SECOND,
    MOST_AT_ONCE,
    BackOff,
    Flow,
)

#: What is taken in before the client rests, and what fits into the sockets between the two, beside what waits there.
ON_THE_WAY = 12 << 20


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scrypt of a login is paid once: a client that joins again and again has one passphrase and one salt."""
    monkeypatch.setattr("lanfit_client.connect.stretch", functools.lru_cache(stretch))


class Clock:
    """The clock of an agent: it sleeps for no time, and notes for how long it would have."""

    def __init__(self, agent: Agent) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        agent.monotonic, agent.sleep = lambda: self.now, self._sleep

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def nonsense(link: Link) -> None:
    link._wire.write([encode_frame(Kind.CONTROL, b"\xc1")])


async def broken_by(scripted: ScriptedServer, break_it: Callable[[Link], None]) -> None:
    link = await welcomed(scripted)
    break_it(link)
    await link.closed.wait()


# --- joining again ------------------------------------------------------------------------------------------------


def test_a_server_that_breaks_the_protocol_again_and_again_is_joined_less_and_less_often(tmp_path: Path) -> None:
    output: list[str] = []

    async def run_script() -> None:
        async with scripted_server(tmp_path, output, warm=False) as (scripted, agent, _):
            clock = Clock(agent)
            for _ in range(10):
                await broken_by(scripted, nonsense)
            await welcomed(scripted)
            assert clock.slept == [*(FIRST_WAIT * 2**number for number in range(9)), LONGEST_WAIT]

    asyncio.run(run_script())
    reported = [line for line in output if "violated the protocol: a message came that can't be read" in line]
    assert len(reported) == 10
    for line, seconds in zip(reported, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600], strict=True):
        assert lanfit_error("link.broken", address="", reason="", seconds=seconds).hint in line


def test_a_link_that_lasts_makes_up_for_broken_ones_and_a_short_one_does_not(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with scripted_server(tmp_path, [], warm=False) as (scripted, agent, _):
            clock = Clock(agent)
            for lasts, timeouts in ((FORGIVEN_AFTER - 1, 4 * FIRST_WAIT), (FORGIVEN_AFTER, FIRST_WAIT)):
                await broken_by(scripted, nonsense)
                await broken_by(scripted, nonsense)
                link = await welcomed(scripted)
                clock.now += lasts
                await link.close("the server is started again")
                clock.slept.clear()
                await broken_by(scripted, nonsense)
                link = await welcomed(scripted)
                assert clock.slept == [timeouts]
                clock.now += FORGIVEN_AFTER
                await link.close("and again")

    asyncio.run(run_script())


def test_what_is_not_for_this_client_ends_the_link_and_not_the_client(tmp_path: Path) -> None:
    output: list[str] = []

    async def run_script() -> None:
        async with scripted_server(tmp_path, output, warm=False) as (scripted, agent, running):
            clock = Clock(agent)
            link = await welcomed(scripted)
            await link.send(AskParts(4))  # it has nobody to ask
            await link.closed.wait()
            link = await welcomed(scripted)
            await link.send(Fetch("0" * 64, 0))  # nothing was offered: found out beside what is received
            await link.closed.wait()
            link = await welcomed(scripted)
            await link.send(Welcome("0", "lab", False))
            await link.closed.wait()
            link = await welcomed(scripted)
            assert clock.slept == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
            assert not running.done()
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running

    asyncio.run(run_script())
    assert any("violated the protocol: the server sent AskParts, which is not for a client" in line for line in output)
    assert any("violated the protocol: the server requested a block that it was not offered" in line for line in output)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6)), max_size=60))
def test_the_wait_grows_with_each_break_and_stays_bounded(links: list[tuple[bool, float]]) -> None:
    back_off, last = BackOff(), 0.0
    for broken, lasted in links:
        wait = back_off.ended(broken=broken, lasted=lasted)
        if not broken:
            assert wait == 0
            last = 0.0 if lasted >= FORGIVEN_AFTER else last
            continue
        assert wait == (min(LONGEST_WAIT, 2 * last) if last else FIRST_WAIT)
        last = wait


# --- floods -------------------------------------------------------------------------------------------------------


async def flood(link: Link, message: Callable[[int], Message]) -> None:
    """Say this, each time in other words, until the client has had enough."""
    number = 0
    try:
        while True:
            await link.send(message(number))
            number += 1
    except ConnectionFailed:
        return


@pytest.mark.parametrize(
    "message",
    [
        lambda number: Status(f"{number} " + "wait " * 4_000),
        lambda number: RunEnded("", "failed", f"{number} " + "over " * 4_000),
        lambda number: Later("0" * 64, 0.0, f"{number} " + "full " * 4_000),
    ],
    ids=["status", "ended", "later"],
)
def test_a_flood_is_cut_and_what_it_makes_a_client_say_is_bounded(
    message: Callable[[int], Message], tmp_path: Path
) -> None:
    output: list[str] = []

    async def run_script() -> None:
        async with scripted_server(tmp_path, output, warm=False, once=False) as (scripted, agent, _):
            link = await welcomed(scripted)
            slept: list[float] = []

            async def sleep(seconds: float) -> None:
                slept.append(seconds)
                await link.closed.wait()  # it rests until then

            agent.sleep, agent.monotonic = sleep, lambda: 1000.0
            await flood(link, message)
            assert link.bytes_sent < WAITING_LIMIT + ON_THE_WAY
            link = await welcomed(scripted)
            assert slept[-1] == FIRST_WAIT
            assert len(agent._sending) < 10

    asyncio.run(run_script())
    assert any("messages arrived faster than they could be handled" in line for line in output)
    assert sum(map(len, output)) < 2 * MOST_AT_ONCE


def test_more_leases_than_can_be_taken_at_once_are_taken_one_at_a_time_and_the_last_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit.wire.session.UNANSWERED_FETCHES", 10**6)  # such a server does not count
    output: list[str] = []

    async def run_script() -> None:
        async with scripted_server(tmp_path, output, warm=False) as (scripted, agent, _):
            clock, leases = Clock(agent), MOST_AT_ONCE // 200 + 100
            link, partitioned = await welcomed(scripted), msgspec.structs.replace(lease().fit, own=None)
            for number in range(leases):
                await link.send(msgspec.structs.replace(lease(task=f"shard-{number}"), fit=partitioned))
            last = ("task", "run-1", f"shard-{leases - 1}")
            while (work := agent.worker._work) is None or work.item.key != last:
                await asyncio.sleep(0)
            assert len(agent._sending) < 20
            assert agent.worker.trainer._child is None
            passed = clock.now - 1000.0
            assert passed > 0
            assert sum(map(len, output)) < MOST_AT_ONCE + MOST_A_SECOND * passed

    asyncio.run(run_script())


def test_a_server_that_says_the_same_result_has_no_space_endlessly_leaves_one_wait(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with scripted_server(tmp_path, [], warm=False) as (scripted, agent, _):
            link = await welcomed(scripted)
            while agent._link is None:
                await asyncio.sleep(0)
            agent._offered.add(block := "0" * 64)
            for _ in range(500):
                await link.send(Later(block, 500.0, "it is full"))
            await link.send(Status("that was all"))
            while agent._waited_for != "that was all":
                await asyncio.sleep(0)
            assert len(agent._sending) < 3

    asyncio.run(run_script())


def test_a_server_that_asks_for_parts_again_and_again_is_cut(tmp_path: Path) -> None:
    class Nobody:
        """Somebody who does not answer."""

        asked = 0

        async def answer(self, of: int) -> TakeParts:
            self.asked += 1
            await asyncio.Event().wait()
            raise AssertionError

        def forget(self) -> None:
            pass

    parts = Nobody()

    async def run_script() -> None:
        async with scripted_server(tmp_path, [], warm=False, parts=parts) as (scripted, agent, _):
            clock = Clock(agent)
            await broken_by(
                scripted, lambda link: [asyncio.ensure_future(link.send(AskParts(n + 1))) for n in range(99)]
            )
            await welcomed(scripted)
            assert clock.slept == [FIRST_WAIT]
            assert parts.asked <= MOST_UNANSWERED

    asyncio.run(run_script())


@given(st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 100)), max_size=60))
def test_what_is_taken_in_is_bounded_at_any_time(messages: list[tuple[int, float]]) -> None:
    now = began = 50.0
    flow, taken = Flow(now), 0
    for size, later in messages:
        taken += size
        assert taken <= MOST_AT_ONCE + size + MOST_A_SECOND * (now - began)
        now += flow.wait(size, now) + later
    assert flow.wait(0, now) == 0, "who has waited is not behind"
