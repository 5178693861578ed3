"""A client that knows the passphrase and takes more than its share: of the server's disk, its memory, its loop, its
terminal. It is bounded, slowed down or cut, and others are served as if it were not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_links import memory_links
from peer import RUN, AttackedCluster, arrays, made_up, result, run_script

from lanfit.errors import ConnectionFailed
from lanfit.net import link as link_module
from lanfit.net.link import SLICE, Budget, Link
from lanfit.net.transport import MESSAGES_A_TURN
from lanfit.transfer.partial import PartialBlock
from lanfit.wire.arrays import ArraySpec, buffers
from lanfit.wire.messages import Ack, Commit, Epoch, Fetch, Later, Message, Offer, Progress, Reject
from lanfit_server.clusters import event_queue as event_queue_module
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.clusters.events import EpochCompleted, Logged
from lanfit_server.clusters.lan import MOST_COMPLAINTS, MOST_DELIVERIES
from lanfit_server.run import journal as journal_module
from lanfit_server.run.journal import Journal

LARGE = (ArraySpec("dense/kernel", "float32", (512, 512)),)  # 1 MiB


def taken(folder: Path) -> int:
    """Bytes of a disk that the files in a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


async def deliver(link: Link, values: dict[str, Any], task: str) -> Message:
    """Offer a result and hand it over, past what the server says meanwhile."""
    await link.send(Offer(result(values, task)))
    while not isinstance(fetch := await link.receive(), Fetch):
        pass
    await link.send_block(fetch, buffers(values))
    await link.send(Commit(fetch.block))
    return await link.receive()


# --- the disk -----------------------------------------------------------------------------------------------------


def test_200_offers_of_one_task_take_the_room_of_one(tmp_path: Path) -> None:
    async def go() -> None:
        attacked = AttackedCluster(tmp_path, weights=LARGE)
        values = arrays(weights=LARGE)
        async with attacked.client("lab-1") as evil, attacked.client("lab-2") as honest:
            before = open_files()
            for number in range(200):
                await evil.send(Offer(made_up(values, number)))
                fetch = await evil.receive()
                assert isinstance(fetch, Fetch)
                evil._session.end_answer(fetch.stream)  # it never answers; its own side would count that
            assert taken(attacked.run.folder / "results") < 2 * (1 << 20)
            assert open_files() - before < 10
            assert isinstance(await deliver(honest, arrays(2, LARGE), "shard-2"), Ack)
        attacked.close()

    run_script(go())


def test_a_result_gets_on_by_what_comes_of_it_and_not_by_drops_or_by_the_same_again(tmp_path: Path) -> None:
    async def go() -> None:
        attacked = AttackedCluster(tmp_path, weights=LARGE)
        values = arrays(weights=LARGE)
        whole = b"".join(bytes(buffer) for buffer in buffers(values))
        async with attacked.client("lab-1") as client:
            member = attacked.cluster.roster["lab-1"]

            async def comes(number: int, size: int) -> float:
                """So much of another result of the task comes; returns when it last got on."""
                member.delivered = 0.0
                await client.send(Offer(made_up(values, number)))
                fetch = await client.receive()
                assert isinstance(fetch, Fetch)
                client._wire.write([client._session.encode_data_header(fetch.stream, 0, size), whole[:size]])
                client._session.end_answer(fetch.stream)
                await client.send(Offer(made_up(values, 999, "no-such-task")))
                assert isinstance(await client.receive(), Reject), "all that came before was handled"
                return member.delivered

            tenth = -(-len(whole) // 10)
            assert await comes(1, tenth - 1) == 0.0
            assert await comes(2, tenth) > 0.0
            assert await comes(3, tenth) == 0.0, "so much of it came before"
        attacked.close()

    run_script(go())


def test_offers_of_many_tasks_are_taken_a_few_at_a_time_and_the_rest_is_deferred(tmp_path: Path) -> None:
    async def go() -> None:
        attacked = AttackedCluster(tmp_path, tasks=30, holder="lab-1")
        values = arrays()
        async with attacked.client("lab-1") as client:
            answers = []
            for number in range(30):
                await client.send(Offer(made_up(values, number, f"shard-{number + 1}")))
                answers.append(await client.receive())
            assert [type(answer) for answer in answers] == [Fetch] * MOST_DELIVERIES + [Later] * (30 - MOST_DELIVERIES)
        # What was put off is taken in when it is offered again.
        async with attacked.client("lab-1") as client:
            for number in range(MOST_DELIVERIES + 2):
                assert isinstance(await deliver(client, arrays(number), f"shard-{number + 1}"), Ack)
        attacked.close()

    run_script(go())


def test_offers_that_come_at_the_same_time_leave_a_share_of_the_disk_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly(path: Path, size: int) -> PartialBlock:
        for _ in range(50):  # as a thread takes its time
            await asyncio.sleep(0)
        return PartialBlock.open(path, size)

    monkeypatch.setattr(PartialBlock, "opened", slowly)

    async def go() -> None:
        attacked = AttackedCluster(tmp_path, tasks=30, weights=LARGE)
        size, results = 1 << 20, attacked.run.folder / "results"
        attacked.store.disk_usage = lambda path: (10 * size, 0, 10 * size - taken(results))
        values = arrays(weights=LARGE)
        async with contextlib.AsyncExitStack() as stack:
            links = [await stack.enter_async_context(attacked.client(f"lab-{n}")) for n in range(1, 13)]
            for number, link in enumerate(links):
                await link.send(Offer(made_up(values, number, f"shard-{number + 1}")))
            answers = [await link.receive() for link in links]
            assert {type(answer) for answer in answers} == {Fetch, Later}
            assert taken(results) <= 9.5 * size
        attacked.close()

    run_script(go())


# --- the memory, and the loop -------------------------------------------------------------------------------------


def test_a_client_that_tells_endlessly_is_cut_and_others_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queue_module, "MOST_WAITING", 50)
    monkeypatch.setattr(link_module, "WAITING_LIMIT", 100_000)

    async def go() -> None:
        attacked = AttackedCluster(tmp_path)
        async with attacked.client("lab-1") as evil, attacked.client("lab-2") as honest:
            with contextlib.suppress(ConnectionFailed):
                while True:
                    await evil.send(Epoch(RUN, "shard-1", 0, {"loss": 0.5}))
            assert evil.closed.is_set()
            assert attacked.cluster.events.qsize() < 60  # nobody has looked at them yet
            await honest.send(Epoch(RUN, "shard-2", 0, {"loss": 0.5}))
            assert isinstance(await deliver(honest, arrays(2), "shard-2"), Ack)
            received = [attacked.cluster.events.get_nowait() for _ in range(attacked.cluster.events.qsize())]
            assert EpochCompleted("lab-2", RUN, "shard-2", 0, {"loss": 0.5}) in received
        attacked.close()

    run_script(go())


def test_a_client_that_sends_more_than_its_bound_continues_when_its_messages_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queue_module, "MOST_WAITING", 5)

    async def go() -> None:
        attacked = AttackedCluster(tmp_path)
        async with attacked.client("lab-1") as client:
            for epoch in range(40):
                await client.send(Epoch(RUN, "shard-1", epoch, {"loss": 0.5}))
            received = []
            while len(received) < 40:
                event = await attacked.cluster.events.get()
                received += [event.epoch] if isinstance(event, EpochCompleted) else []
            assert received == list(range(40))
        attacked.close()

    run_script(go())


def test_one_peers_messages_are_read_a_few_at_a_time_and_others_have_their_turn() -> None:
    async def go() -> None:
        flooding, server = memory_links()
        handled, at_once, turns = 0, 0, 0

        async def handle() -> None:
            nonlocal handled
            while True:
                await server.receive()
                handled += 1

        async def watch() -> None:
            nonlocal at_once, turns
            before = 0
            while handled < 3000:
                await asyncio.sleep(0)
                waiting = len(server._waiting) + handled
                at_once, before, turns = max(at_once, waiting - before), waiting, turns + 1

        handling = asyncio.create_task(handle())
        for _ in range(3000):  # all in one go, as they lie in a socket
            flooding._wire.write([flooding._session.encode(Progress(RUN, "t", 1, 1, 1, 1, 0.0, 0.0))])
        await watch()
        assert at_once <= 2 * MESSAGES_A_TURN
        assert turns >= 3000 // (2 * MESSAGES_A_TURN)
        handling.cancel()
        await flooding.close()

    run_script(go())


NAMES = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "aside", "back"]), NAMES), max_size=80), st.integers(1, 6))
def test_each_client_has_room_for_so_much_and_nothing_is_lost_or_turned_around(
    steps: list[tuple[str, str]], most: int
) -> None:
    async def go() -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(event_queue_module, "MOST_WAITING", most)
            queue: EventQueue[Logged] = EventQueue()
            closed, number, got, kept = asyncio.Event(), 0, [], dict.fromkeys("abc", 0)
            closed.set()  # who has no room gives up at once
            for what, name in steps:
                if what == "put":
                    number += 1
                    put = await queue.put_when_free(Logged(name, str(number), ()), closed)
                    assert put == (kept[name] < most)
                    kept[name] += put
                elif what == "back":
                    queue.bring_back()
                elif not queue.empty():
                    event = queue.get_nowait()
                    if what == "aside":
                        queue.set_aside(event)
                    else:
                        kept[event.client] -= 1
                        got.append(event)
            queue.bring_back()
            got += [queue.get_nowait() for _ in range(queue.qsize())]
            assert len({event.run for event in got}) == len(got)
            assert queue._weights.total() == 0

    asyncio.run(go())


def test_clients_that_fetch_and_do_not_read_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "IN_FLIGHT", 4 * SLICE)
    monkeypatch.setattr(link_module, "LEAST_SLICE", SLICE // 16)

    async def go() -> None:
        block, budget = memoryview(bytes(2 * SLICE)), Budget()
        stuck = []
        for _ in range(70):
            client, server = memory_links()
            server._budget = budget
            fetching = asyncio.create_task(client.fetch("ab" * 32, memoryview(bytearray(len(block)))))
            fetch = await server.receive()
            assert isinstance(fetch, Fetch)
            client._wire._transport.pause_reading()  # type: ignore[union-attr]
            stuck.append((client, server, fetching, asyncio.create_task(server.send_block(fetch, [block]))))
        for _ in range(3):
            await asyncio.sleep(0)
        assert sum(server._wire.unsent for _, server, _, _ in stuck) < 4 * 4 * SLICE
        client, server = memory_links()
        server._budget = budget
        fetching = asyncio.create_task(client.fetch("ab" * 32, memoryview(bytearray(len(block)))))
        fetch = await server.receive()
        assert isinstance(fetch, Fetch)
        await server.send_block(fetch, [block])
        await fetching
        for each, _, *tasks in [*stuck, (client, server)]:
            each.abort("the test is over")
            await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.slice_size() == SLICE

    run_script(go())


# --- the operator's terminal and logs -----------------------------------------------------------------------------


def test_the_log_of_a_client_has_an_end_which_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LOG_LIMIT", 10_000)
    path = tmp_path / "clients" / "evil" / "client.log"
    journal = Journal(tmp_path)
    full = [journal.client_log("evil", ["x" * 1000] * 3) for _ in range(50)]
    assert full.count(True) == 1
    assert path.stat().st_size < 11_000
    assert "This log is full" in path.read_text().splitlines()[-1]
    assert not journal.client_log("lab-1", ["all is well"])
    assert "all is well" in (tmp_path / "clients" / "lab-1" / "client.log").read_text()
    journal.close()
    size = path.stat().st_size
    journal = Journal(tmp_path)  # a server that goes on with the run
    for _ in range(50):
        journal.client_log("evil", ["x" * 1000])
    journal.close()
    assert path.stat().st_size <= size + 1100


def test_the_operator_is_not_told_endlessly_of_what_can_not_be_taken(tmp_path: Path) -> None:
    async def go() -> None:
        attacked = AttackedCluster(tmp_path)
        async with attacked.client("evil") as evil:
            for number in range(10 * MOST_COMPLAINTS):
                await evil.send(Offer(made_up(arrays(), number, f"no-{number}")))
                assert isinstance(await evil.receive(), Reject)
            assert len(attacked.messages) == MOST_COMPLAINTS + 1
            assert "No more messages about what evil sends" in attacked.messages[-1]
        attacked.close()

    run_script(go())


def test_what_a_client_says_is_weighed_by_its_length() -> None:
    queue: EventQueue[Logged] = EventQueue()
    queue.put_nowait(Logged("evil", RUN, ("x" * 60_000,)))
    assert queue._weights["evil"] == 61
