"""What a client's user reads last: what is true at that moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from scripted_server import FakeGate, ScriptedServer

from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit.net.tls import Identity
from lanfit.wire.auth import stretch
from lanfit.wire.messages import Join, RunEnded, Runtime, Status, Welcome
from lanfit_client.agent import Agent, Server
from lanfit_client.closing_messages import SMALL_TRAFFIC, LargePacketLoss, link_ended_message, run_ended_message
from lanfit_client.store.state import ClientState
from lanfit_server.clusters.listen import listen

LOST = lanfit_error("link.ended", peer="10.0.0.1:8470", reason="the other side closed the connection without a message")


@pytest.mark.parametrize(
    ("on_purpose", "at_work", "results", "output"),
    [
        (
            True,
            False,
            0,
            "The server at 10.0.0.1:8470 closed the connection. This client waits for the server to come back; Ctrl-C "
            "stops it.",
        ),
        (
            True,
            False,
            2,
            "The server at 10.0.0.1:8470 closed the connection. 2 finished results are kept here until it has them. "
            "This client waits for the server to come back; Ctrl-C stops it.",
        ),
        (
            False,
            False,
            0,
            "The link to 10.0.0.1:8470 ended: the other side closed the connection without a message. This client is "
            "looking for the server again.",
        ),
        (
            False,
            True,
            0,
            "The link to 10.0.0.1:8470 ended: the other side closed the connection without a message. Training "
            "continues, and the result is kept until the server has it. This client is looking for the server again.",
        ),
        (
            False,
            False,
            1,
            "The link to 10.0.0.1:8470 ended: the other side closed the connection without a message. 1 finished "
            "result is kept here until it has it. This client is looking for the server again.",
        ),
    ],
)
def test_what_is_reported_when_a_link_ends_is_true_at_that_moment(
    on_purpose: bool, at_work: bool, results: int, output: str
) -> None:
    assert lanfit_error("link.ended", peer="x", reason="y").hint in output or on_purpose
    reported = link_ended_message(LOST, "10.0.0.1:8470", on_purpose=on_purpose, at_work=at_work, results=results)
    assert reported == output


def test_a_run_that_is_over_is_reported_with_what_the_client_does_now() -> None:
    text = "run 7 is over: done; your model: accuracy 0.9712"
    assert run_ended_message(text, once=True) == "Run 7 is over: done; your model: accuracy 0.9712."
    stays = " This client waits for the next run; Ctrl-C stops it."
    assert run_ended_message(text, once=False) == "Run 7 is over: done; your model: accuracy 0.9712." + stays


def test_who_stays_reads_last_that_the_run_is_over_and_what_it_waits_for(tmp_path: Path) -> None:
    output: list[str] = []

    async def run_script() -> None:
        identity = Identity.load_or_create(tmp_path / "server")
        scripted = ScriptedServer()
        gate = FakeGate(stretch("a b c d", identity.salt))
        listener = await listen("127.0.0.1", 0, identity, gate, scripted)
        state = ClientState.take(Workspace(tmp_path))
        runtime = Runtime("tensorflow", "auto", 1)
        agent = Agent(Server("127.0.0.1", listener.port), state, Workspace(tmp_path), "lab", runtime, output.append)
        running = asyncio.create_task(agent.run("a b c d", once=False))
        try:
            async with asyncio.timeout(60):
                link = await scripted.links.get()
                assert isinstance(await link.receive(), Join)
                await link.send(Welcome("0", "lab", False))
                await link.send(RunEnded("run-1", "done", "run run-1 is over: done; your model: accuracy 0.9712"))
                while not any("is over" in line for line in output):
                    await asyncio.sleep(0)
                await listener.close()
                while not any("closed the connection" in line for line in output):
                    await asyncio.sleep(0)
                # The server comes again at its port: until then nothing more was said.
                again = await listen("127.0.0.1", listener.port, identity, gate, scripted)
                link = await scripted.links.get()
                assert isinstance(await link.receive(), Join)
                await link.send(Welcome("0", "lab", False))
                await link.send(Status("2 clients are here"))
                while "2 clients are here" not in output[-1]:
                    await asyncio.sleep(0)
                await again.close()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await agent.close()
            state.lock.release()

    asyncio.run(run_script())
    over = next(index for index, line in enumerate(output) if "is over" in line)
    assert output[over : over + 2] == [
        "Run run-1 is over: done; your model: accuracy 0.9712. This client waits for the next run; Ctrl-C stops it.",
        f"The server at 127.0.0.1:{output[over + 1].partition(' closed')[0].rpartition(':')[2]} closed the connection. "
        "This client waits for the server to come back; Ctrl-C stops it.",
    ]
    assert output[over + 2].startswith("Joined "), "tries in between are no news"
    assert not any("another program answers" in line or "Work continues" in line for line in output)


SMALL, LARGE = SMALL_TRAFFIC - 1, SMALL_TRAFFIC


@pytest.mark.parametrize(
    ("links", "output"),
    [
        ([("silent", SMALL)], False),
        ([("silent", SMALL)] * 2, True),
        ([("silent", SMALL), ("stuck", LARGE)], True),
        ([("stuck", SMALL), ("stuck", LARGE)], True),
        ([("silent", LARGE)] * 3, False),  # a cable that is pulled now and then
        ([("", SMALL)] * 3, False),  # a server that is killed now and then
        ([("silent", SMALL), ("", SMALL), ("silent", SMALL)], False),
        ([("stalled", LARGE)] * 2, False),
    ],
)
def test_a_way_that_loses_large_packets_is_named_the_second_time(links: list[tuple[str, int]], output: bool) -> None:
    large = LargePacketLoss()
    *before, last = [large.lost(*link) for link in links]
    assert not any(before)
    assert ("MTU" in last) is output
