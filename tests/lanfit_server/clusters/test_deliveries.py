"""A played client delivers to a real cluster: broken off, repeated, twice at a time, and to a disk without room."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.results import WEIGHTS, record
from memory_links import memory_links

from lanfit.core import durable
from lanfit.core.workspace import Workspace
from lanfit.models.trained_model import TrainedModel
from lanfit.net.link import Link
from lanfit.settings.timeouts import Timeouts
from lanfit.transfer.blocks import BlockFile
from lanfit.transfer.partial import CHUNK
from lanfit.wire.arrays import AnyArray, ArraySpec, block_of, block_size, buffers
from lanfit.wire.messages import Ack, Commit, Fetch, Join, Later, Message, Offer, Reject, Result, Status, Welcome
from lanfit_server.clusters.events import ClientSeen, ClientSilent, Event, ResultCommitted, TaskFailed
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.store.ledger import Ledger, OwnedTask, StoredResult
from lanfit_server.store.result_store import OpenRun, ResultStore

LARGE = ArraySpec("large/kernel", "float32", (5 * (1 << 20),))


def arrays(seed: int = 0) -> dict[str, AnyArray]:
    random = np.random.default_rng(seed)
    weights = {spec.name: random.random(spec.shape).astype(np.float32) for spec in (*WEIGHTS, LARGE)}
    return {**weights, **TrainedModel({}).constants(), "history": np.array([[0.5]])}


def result(values: dict[str, AnyArray], attempt: int = 1) -> Result:
    return Result("run-1", "shard-1", attempt, block_of(values), ("loss",), 0, {}, {}, "tensorflow", "cpu", 1)


def drained(events: asyncio.Queue[Event]) -> list[Event]:
    return [events.get_nowait() for _ in range(events.qsize())]


def id_of(name: str) -> bytes:
    return name.encode().ljust(16, b"0")


class Scenario:
    """A cluster with one run of one task, which lab-1 and lab-2 have, and clients whose lines the test speaks."""

    def __init__(self, folder: Path) -> None:
        place = Workspace(folder)
        ledger = Ledger(place.run_folder("run-1"))
        large = msgspec.structs.replace(record("run-1"), weights=(*WEIGHTS, LARGE))
        ledger.open_run(large)
        ledger.add_tasks([OwnedTask("shard-1", "lab-1")])
        self.attempts = 0
        self.store = ResultStore(place, large.server_id)
        self.run = OpenRun(place, "run-1", ledger, large)
        self.store.open(self.run)
        self.store.disk_usage = lambda path: (100 << 30, 0, 50 << 30)
        self.cluster = LanCluster(self.store)
        self.cluster.later_seconds = 0.0
        for name in ("lab-1", "lab-2"):
            self.gave(name, id_of(name))
        self.messages: list[str] = []
        self.cluster.log = self.messages.append

    def gave(self, name: str, client_id: bytes) -> int:
        """Lease the task to a client; returns which attempt that is."""
        self.attempts += 1
        self.run.ledger.remember(name, client_id)
        self.run.ledger.lease("shard-1", self.attempts, name)
        return self.attempts

    @contextlib.asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[Link]:
        client, server = memory_links()
        serving = asyncio.create_task(self.cluster._serve(server, id_of(name), "127.0.0.1"))
        await client.send(Join(name, "0", "tensorflow", "cpu", 1, 0))
        assert isinstance(await client.receive(), Welcome)
        assert isinstance(await client.receive(), Status)
        try:
            yield client
        finally:
            await client.close("gone")
            await serving

    @property
    def parts(self) -> list[str]:
        return sorted(path.name for path in (self.run.folder / "results").glob("*") if path.suffix != ".block")

    @property
    def returned(self) -> int:
        found = 0
        while not self.cluster.events.empty():
            found += isinstance(self.cluster.events.get_nowait(), ResultCommitted)
        return found


async def offer(link: Link, values: dict[str, AnyArray], attempt: int = 1) -> Message:
    await link.send(Offer(result(values, attempt)))
    return await link.receive()


async def deliver(link: Link, values: dict[str, AnyArray], attempt: int = 1) -> Message:
    fetch = await offer(link, values, attempt)
    assert isinstance(fetch, Fetch)
    await link.send_block(fetch, buffers(values))
    await link.send(Commit(fetch.block))
    return await link.receive()


def run_script(folder: Path, act: Callable[[Scenario], Awaitable[None]]) -> Scenario:
    async def go() -> Scenario:
        scenario = Scenario(folder)
        async with asyncio.timeout(120):
            await act(scenario)
        assert scenario.run.ledger.result("shard-1") is not None
        scenario.store.close()
        return scenario

    return asyncio.run(go())


async def broken_off(scenario: Scenario, values: dict[str, AnyArray], came: int) -> None:
    """A client uploads so many bytes, then its link ends."""
    async with scenario.client("lab-1") as link:
        fetch = await offer(link, values)
        assert isinstance(fetch, Fetch)
        data = memoryview(b"".join(bytes(buffer) for buffer in buffers(values)))
        await link.send_block(fetch, [data[:came]])


def scene_result(scenario: Scenario) -> StoredResult:
    found = scenario.run.ledger.result("shard-1")
    assert found is not None
    return found


def test_an_upload_continues_where_it_broke_off_and_another_attempts_does_not(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        await broken_off(scenario, arrays(), 2 * CHUNK + 999)
        assert len(scenario.parts) == 2
        async with scenario.client("lab-1") as link:
            fetch = await offer(link, arrays())
            assert isinstance(fetch, Fetch)
            assert fetch.offset == 2 * CHUNK
        # The client trained it anew: other bytes, which must not go on in these.
        async with scenario.client("lab-1") as link:
            fetch = await offer(link, arrays(1))
            assert isinstance(fetch, Fetch)
            assert fetch.offset == 0
            assert all(block_of(arrays(1)).id in name for name in scenario.parts)
            await link.send_block(fetch, buffers(arrays(1)))
            await link.send(Commit(fetch.block))
            assert await link.receive() == Ack(fetch.block)
        assert scenario.parts == []
        assert block_of(scenario.run.load(scene_result(scenario))) == block_of(arrays(1))

    run_script(tmp_path, act)


def test_what_continued_is_what_was_sent(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        await broken_off(scenario, arrays(), CHUNK + 1)
        async with scenario.client("lab-1") as link:
            assert isinstance(await deliver(link, arrays()), Ack)
        assert block_of(scenario.run.load(scene_result(scenario))) == block_of(arrays())

    run_script(tmp_path, act)


def test_a_delivery_that_the_disk_corrupted_is_deferred_and_taken_whole_the_next_time(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        await broken_off(scenario, arrays(), CHUNK + 1)
        [path] = [scenario.run.folder / "results" / name for name in scenario.parts if name.endswith(".part")]
        with path.open("r+b") as file:  # what no sum shows
            first, second = file.read(8), file.read(8)
            file.seek(0)
            file.write(second + first)
        async with scenario.client("lab-1") as link:
            later = await deliver(link, arrays())
            assert isinstance(later, Later)
            assert "damaged" in later.reason
            assert scenario.parts == []
            assert isinstance(await deliver(link, arrays()), Ack)
        assert block_of(scenario.run.load(scene_result(scenario))) == block_of(arrays())

    run_script(tmp_path, act)


def test_a_part_that_a_killed_server_left_is_used_and_those_of_finished_tasks_are_removed(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        await broken_off(scenario, arrays(), 2 * CHUNK)
        again = ResultStore(scenario.run.workspace, scenario.run.record.server_id)
        found = again.find("run-1")
        assert found is not None
        assert len(scenario.parts) == 2
        again.close()
        async with scenario.client("lab-2") as link:
            assert isinstance(await deliver(link, arrays(), 2), Ack)
        assert scenario.parts == [], "whoever commits the task, nobody needs the parts any more"
        left = scenario.run.partial_file("shard-1", "lab-9", "0" * 64)
        left.write_bytes(b"1")
        again = ResultStore(scenario.run.workspace, scenario.run.record.server_id)
        again.find("run-1")
        assert not left.exists()
        again.close()

    run_script(tmp_path, act)


def test_a_repeated_commit_is_acknowledged_again_and_counts_once(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        async with scenario.client("lab-1") as link:
            ack = await deliver(link, arrays())
            assert isinstance(ack, Ack)
            await link.send(Commit(ack.block))
            assert await link.receive() == ack
            assert await offer(link, arrays()) == ack
        assert scenario.returned == 1

    run_script(tmp_path, act)


def test_a_result_that_can_never_be_taken_is_rejected_and_its_task_has_failed_there(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        async with scenario.client("lab-1") as link:
            wrong = msgspec.structs.replace(result(arrays()), metrics=("my\u3000metric",))
            await link.send(Offer(wrong))
            rejected = await link.receive()
            assert isinstance(rejected, Reject)
            assert (rejected.block, "invalid names" in rejected.reason) == (wrong.block.id, True)
            failed = [event for event in drained(scenario.cluster.events) if isinstance(event, TaskFailed)]
            assert failed == [TaskFailed("lab-1", "run-1", "shard-1", rejected.reason)]
            assert len(scenario.messages) == 1
            assert scenario.messages[0].startswith(
                "lab-1 offers a result of shard-1 of run run-1 that can't be accepted: "
            )
            # The link is as good as before.
            assert isinstance(await deliver(link, arrays()), Ack)

    run_script(tmp_path, act)


def test_of_two_clients_that_deliver_one_task_at_the_same_time_one_counts_and_its_block_stays(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        async with scenario.client("lab-1") as first, scenario.client("lab-2") as second:
            fetches = [await offer(first, arrays(0)), await offer(second, arrays(1), 2)]
            for link, fetch, seed in zip((first, second), fetches, (0, 1), strict=True):
                assert isinstance(fetch, Fetch)
                await link.send_block(fetch, buffers(arrays(seed)))
                await link.send(Commit(fetch.block))
            assert [type(await link.receive()) for link in (first, second)] == [Ack, Ack]
        kept = scene_result(scenario)
        assert block_of(scenario.run.load(kept)) == kept.result.block
        assert scenario.returned == 1
        assert scenario.parts == []

    run_script(tmp_path, act)


def test_a_block_that_is_being_stored_when_its_client_comes_back_is_not_received_into_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is lost and made again in less time than a slow disk takes to write a large block."""
    storing, written, again = asyncio.Event(), threading.Event(), asyncio.Event()

    async def act(scenario: Scenario) -> None:
        loop, sync = asyncio.get_running_loop(), BlockFile.sync
        taking_in, consider = scenario.store.taking_in, scenario.store.consider

        def slow_sync(block: BlockFile) -> None:
            loop.call_soon_threadsafe(storing.set)
            written.wait()
            sync(block)

        def noticed_lock(offered: Result) -> asyncio.Lock:
            again.set()
            return taking_in(offered)

        def noticed_consider(client_id: bytes, offered: Result) -> Any:
            again.set()
            return consider(client_id, offered)

        monkeypatch.setattr(BlockFile, "sync", slow_sync)
        async with scenario.client("lab-1") as link:
            fetch = await offer(link, arrays())
            assert isinstance(fetch, Fetch)
            await link.send_block(fetch, buffers(arrays()))
            await link.send(Commit(fetch.block))
            await storing.wait()
            monkeypatch.setattr(scenario.store, "taking_in", noticed_lock)
            monkeypatch.setattr(scenario.store, "consider", noticed_consider)
            async with scenario.client("lab-1") as another:
                await another.send(Offer(result(arrays())))
                await again.wait()
                written.set()
                assert await another.receive() == Ack(fetch.block)
        kept = scene_result(scenario)
        assert block_of(scenario.run.load(kept)) == kept.result.block
        assert scenario.returned == 1
        assert scenario.parts == []

    try:
        run_script(tmp_path, act)
    finally:
        written.set()


def test_a_commit_before_its_bytes_and_a_cut_is_no_result(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        async with scenario.client("lab-1") as link:
            fetch = await offer(link, arrays())
            assert isinstance(fetch, Fetch)
            await link.send(Commit(fetch.block))
        assert scenario.run.ledger.result("shard-1") is None
        async with scenario.client("lab-1") as link:
            assert isinstance(await deliver(link, arrays()), Ack)

    run_script(tmp_path, act)


def test_uploads_are_deferred_while_the_disk_has_little_space_and_that_is_reported_once(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        for total, free in ((100 << 30, 4 << 30), (1 << 30, 35 << 20)):  # under 5 %; under twice the upload
            scenario.store.disk_usage = lambda path, total=total, free=free: (total, 0, free)
            async with scenario.client("lab-1") as link:
                for _ in range(3):
                    later = await offer(link, arrays())
                    assert isinstance(later, Later)
                    assert "the server's disk has" in later.reason
        assert len(scenario.messages) == 1
        assert scenario.messages[0].startswith("Results have to wait: the server's disk has")
        assert scenario.parts == []
        scenario.store.disk_usage = lambda path: (100 << 30, 0, 50 << 30)
        async with scenario.client("lab-1") as link:
            assert isinstance(await deliver(link, arrays()), Ack)
        assert scenario.messages[1:] == ["There is free space again: results are accepted."]

    run_script(tmp_path, act)


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_ledger(*arguments: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize(
    ("where", "name", "fails"),
    [
        pytest.param(os, "posix_fallocate", full, id="before it is received"),
        pytest.param(durable.os, "fsync", full, id="when it is synced"),
        pytest.param(Ledger, "commit", full_ledger, id="when it is written into the ledger"),
    ],
)
def test_a_disk_that_gets_full_costs_no_acknowledged_result_and_the_server_continues(
    tmp_path: Path, where: object, name: str, fails: Callable[..., None]
) -> None:
    async def act(scenario: Scenario) -> None:
        async with scenario.client("lab-1") as link, scenario.client("lab-2") as other:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(where, name, fails)
                fetch = await offer(link, arrays())
                if isinstance(fetch, Fetch):
                    await link.send_block(fetch, buffers(arrays()))
                    await link.send(Commit(fetch.block))
                    later = await link.receive()
                else:
                    later = fetch
                assert isinstance(later, Later)
                assert later.reason == "the server's disk is full"
                assert list((scenario.run.folder / "results").iterdir()) == [], "something half-written stays"
                assert scenario.run.ledger.result("shard-1") is None
                assert scenario.returned == 0
            assert not other.closed.is_set()
            # What could not be synced is fetched anew, from its first byte on.
            fetch = await offer(link, arrays())
            assert isinstance(fetch, Fetch)
            assert fetch.offset == 0
            await link.send_block(fetch, buffers(arrays()))
            await link.send(Commit(fetch.block))
            assert isinstance(await link.receive(), Ack)
        assert scenario.messages[0].startswith("Results have to wait: the server's disk is full.")

    run_script(tmp_path, act)


async def until_event(scenario: Scenario, kind: type[Event]) -> Event:
    """The next event of a kind."""
    async with asyncio.timeout(60):
        while not isinstance(event := await scenario.cluster.events.get(), kind):
            pass
    return event


def test_a_silent_client_and_its_return_are_reported_once_each(tmp_path: Path) -> None:
    """Every heartbeat counts for when it was last seen, not only its messages."""

    async def script() -> None:
        scenario = Scenario(tmp_path)
        scenario.cluster._timeouts = Timeouts(suspect=0.05)
        async with scenario.client("lab-1") as link:
            member, session = scenario.cluster.roster["lab-1"], scenario.cluster._sessions["lab-1"]
            silence = 0.01
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(session.link), "silence", property(lambda _: silence))
                member.last_seen = 0.0
                while not member.last_seen:
                    await asyncio.sleep(0.001)
                silence = 20.0
                assert await until_event(scenario, ClientSilent) == ClientSilent("lab-1", 20.0)
                seen = member.last_seen
                silence = 0.01
                back = await until_event(scenario, ClientSeen)
            assert isinstance(back, ClientSeen)
            assert back.client == "lab-1"
            assert member.last_seen > seen
            assert not member.silent
            assert not [
                event for event in drained(scenario.cluster.events) if isinstance(event, ClientSilent | ClientSeen)
            ]
        assert link.closed

    asyncio.run(script())


def test_what_has_come_of_a_result_is_shown_until_it_is_here(tmp_path: Path) -> None:
    async def script() -> None:
        scenario, values = Scenario(tmp_path), arrays()
        async with scenario.client("lab-1") as link:
            fetch = await offer(link, values)
            assert isinstance(fetch, Fetch)
            sent: list[int] = []
            await link.send_block(fetch, buffers(values), sent.append)
            member = scenario.cluster.roster["lab-1"]
            moved = member.transfer
            assert moved is not None
            while moved.done < moved.total:
                await asyncio.sleep(0.001)
            assert moved.total == block_size(result(values).block.arrays)
            assert member.state == "sending"
            assert sent[-1] == moved.total
            await link.send(Commit(fetch.block))
            while not isinstance(await link.receive(), Ack):
                pass
            assert (member.state, member.transfer) == ("waiting", None)

    asyncio.run(script())
