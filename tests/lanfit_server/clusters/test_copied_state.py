"""Two machines with one client id, as after cloning a disk image; and a client that only returns. Real agents, a real
cluster, TLS and login over loopback; trainers are never started. See lanfit_server.clusters.same_id."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.results import SERVER
from memory_links import memory_links
from test_deliveries import Scenario, arrays, deliver, result

from lanfit.core.workspace import Workspace
from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import Link
from lanfit.net.tls import Identity
from lanfit.settings.timeouts import Timeouts
from lanfit.transfer.blocks import BlockFile
from lanfit.wire.arrays import block_size, buffers
from lanfit.wire.auth import stretch
from lanfit.wire.messages import MOST_EARLIER, Ack, IdTaken, Join, Offer, Runtime, Welcome
from lanfit_client.agent import Agent, Server
from lanfit_client.store.outbox import Entry, Outbox
from lanfit_client.store.state import ClientState
from lanfit_server.clusters.events import Claimed, DuplicateResult, ResultCommitted
from lanfit_server.clusters.gate import GateShell
from lanfit_server.clusters.same_id import is_same_client

PASSPHRASE = "velvet otter rinse cargo"
ID = b"i" * 16


def join(process: bytes, *earlier: bytes) -> Join:
    return Join("lab", "0", "tensorflow", "cpu", 1, 0, process=process, earlier=earlier)


# --- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newcomer", "same"),
    [
        (b"a", join(b"a"), True),  # a new link of the same process
        (b"a", join(b"b", b"a"), True),  # started again
        (b"a", join(b"d", b"c", b"b", b"a"), True),  # started again and again before the server was there
        (b"a", join(b"b"), False),  # a copy of a folder that was never used
        (b"b", join(b"c", b"a"), False),  # both were started since the copy
        (b"", join(b"b", b"a"), True),  # clients of before do not name their processes
        (b"a", join(b""), False),  # nobody takes another's place by leaving it out
    ],
)
def test_a_restart_is_distinguished_from_a_copy_by_the_processes_before_it(
    older: bytes, newcomer: Join, same: bool
) -> None:
    assert is_same_client(older, newcomer) is same


# --- the client's state -----------------------------------------------------------------------------------------------


def started(folder: Path, times: int = 1) -> ClientState:
    """The state of a client that is started so often; the folder is free again."""
    for _ in range(times):
        state = ClientState.take(Workspace(folder))
        state.lock.release()
    return state


def test_each_start_has_a_process_of_its_own_and_names_those_before_it(tmp_path: Path) -> None:
    states = [started(tmp_path) for _ in range(MOST_EARLIER + 3)]
    processes = [state.process for state in states]
    assert len(set(processes)) == len(processes)
    assert states[0].earlier == ()
    assert states[2].earlier == (processes[1], processes[0])
    assert states[-1].earlier == tuple(reversed(processes[2:-1]))
    assert len({state.client_id for state in states}) == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"abc\n\n../x\n", b"00" * 9])
def test_a_damaged_list_of_processes_is_no_reason_not_to_start(tmp_path: Path, content: bytes) -> None:
    state = started(tmp_path)
    (state.lock.folder / "processes").write_bytes(content)
    assert started(tmp_path).earlier == ()


def test_another_id_is_kept_and_so_is_what_waits_in_the_outbox(tmp_path: Path) -> None:
    state = started(tmp_path)
    before = state.client_id
    fill(state)
    state.choose_another_id()
    assert state.client_id != before
    again = started(tmp_path)
    assert again.client_id == state.client_id
    assert len(Outbox(again.outbox)) == 1


def test_another_id_counts_also_when_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    state = started(tmp_path)
    before = state.client_id
    monkeypatch.setattr("lanfit_client.store.state.atomic_write", full)
    state.choose_another_id()
    assert state.client_id != before


# --- the cluster ------------------------------------------------------------------------------------------------------


def with_scenario(folder: Path, act: Callable[[Scenario], contextlib.AbstractAsyncContextManager[None]]) -> Scenario:
    async def go() -> Scenario:
        scenario = Scenario(folder)
        async with asyncio.timeout(120), act(scenario):
            pass
        scenario.store.close()
        return scenario

    return asyncio.run(go())


@contextlib.asynccontextmanager
async def joined(scenario: Scenario, output: Join, client_id: bytes = ID) -> AsyncIterator[tuple[Link, object]]:
    """A client's end of a link, and what the server answers to its Join."""
    client, server = memory_links()
    serving = asyncio.create_task(scenario.cluster._serve(server, client_id, "10.99.0.11"))
    try:
        await client.send(output)
        yield client, await client.receive()
    finally:
        await client.close("gone")
        await serving


def go_deaf(link: Link) -> None:
    """From now on nothing reaches this end any more: its machine is gone, without a word."""
    transport = link._wire._transport
    assert transport is not None
    transport.pause_reading()


def short(scenario: Scenario) -> None:
    """Do not wait long for an answer."""
    scenario.cluster._timeouts = Timeouts(suspect=0.03)


def test_a_copy_must_choose_another_id_and_the_original_stays(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def act(scenario: Scenario) -> AsyncIterator[None]:
        async with joined(scenario, join(b"b", b"a")) as (original, answer):
            assert isinstance(answer, Welcome)
            for number in range(3):
                async with joined(scenario, join(b"c%d" % number, b"a")) as (_, answer):
                    assert isinstance(answer, IdTaken)
            assert not original.closed.is_set()
            assert scenario.cluster.roster.connected == ["lab"]
            async with joined(scenario, join(b"c0", b"a"), b"another id 12345") as (_, answer):
                assert isinstance(answer, Welcome)
                assert answer.name == "lab-2"
        yield

    scenario = with_scenario(tmp_path, act)
    [line] = [line for line in scenario.messages if "copied" in line]  # once, however many copies come
    assert line.startswith("lab at 10.99.0.11 has the id of lab, which is connected")


@pytest.mark.parametrize("newcomer", [join(b"b", b"a"), join(b"c", b"b", b"a")])
def test_a_client_that_returns_replaces_its_half_open_link_without_waiting(tmp_path: Path, newcomer: Join) -> None:
    @contextlib.asynccontextmanager
    async def act(scenario: Scenario) -> AsyncIterator[None]:
        scenario.cluster._timeouts = Timeouts(suspect=1e6)  # who is asked waits beyond the end of this test
        async with joined(scenario, join(b"b", b"a")) as (dead, _):
            go_deaf(dead)
            async with joined(scenario, newcomer) as (_, answer):
                assert isinstance(answer, Welcome)
                assert answer.name == "lab"
            await dead.closed.wait()
        yield

    assert not [line for line in with_scenario(tmp_path, act).messages if "copied" in line]


def test_a_client_whose_list_is_lost_replaces_a_link_that_does_not_answer(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def act(scenario: Scenario) -> AsyncIterator[None]:
        short(scenario)
        async with joined(scenario, join(b"b", b"a")) as (dead, _):
            go_deaf(dead)
            async with joined(scenario, join(b"x")) as (_, answer):
                assert isinstance(answer, Welcome)
                assert answer.name == "lab"
            await dead.closed.wait()
        yield

    with_scenario(tmp_path, act)


def test_of_many_copies_that_come_at_once_each_gets_its_place(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def act(scenario: Scenario) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            entering = [stack.enter_async_context(joined(scenario, join(b"%d" % n, b"a"))) for n in range(10)]
            answers = [answer for _, answer in await asyncio.gather(*entering)]
            assert sorted(type(answer).__name__ for answer in answers) == ["IdTaken"] * 9 + ["Welcome"]
            assert scenario.cluster.roster.connected == ["lab"]
        yield

    with_scenario(tmp_path, act)


def test_a_result_that_two_machines_have_counts_once_and_both_may_forget_it(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def act(scenario: Scenario) -> AsyncIterator[None]:
        values = arrays()
        attempt = scenario.gave("lab", b"1" * 16)
        async with (
            joined(scenario, join(b"b"), b"1" * 16) as (one, _),
            joined(scenario, join(b"c"), b"2" * 16) as (other, _),
        ):
            await one.receive()
            await other.receive()
            assert isinstance(await deliver(one, values, attempt), Ack)
            await other.send(Offer(result(values, attempt)))
            assert isinstance(await other.receive(), Ack)
        events = [scenario.cluster.events.get_nowait() for _ in range(scenario.cluster.events.qsize())]
        assert len([event for event in events if isinstance(event, ResultCommitted)]) == 1
        assert not [event for event in events if isinstance(event, DuplicateResult | Claimed)], (
            "no news for the operator"
        )
        yield

    with_scenario(tmp_path, act)


# --- agents and cluster -----------------------------------------------------------------------------------------------


def fill(state: ClientState, attempt: int = 1, fingerprint: bytes = b"") -> None:
    """Put the result of the scene's task into the outbox."""
    outbox, values = Outbox(state.outbox), arrays()
    path = outbox.new_block("shard-1")
    block = BlockFile.create(path, block_size(result(values).block.arrays))
    position = 0
    for buffer in buffers(values):
        block.view[position : position + len(buffer)] = buffer
        position += len(buffer)
    block.close()
    outbox.add(path, Entry(SERVER, result(values, attempt), fingerprint))


class Lab:
    """A scene that listens, and agents of machines of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scenario = Scenario(folder / "server")
        self.output: dict[str, list[str]] = {}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Lab]:
        identity = replace(Identity.load_or_create(self.folder / "state"), server_id=SERVER)
        gate = GateShell(self.folder / "gate.json")
        gate.stretched = stretch(PASSPHRASE, identity.salt)
        self.identity = identity
        self.port = (await self.scenario.cluster.open("127.0.0.1", 0, identity, gate, Timeouts())).port
        try:
            async with asyncio.timeout(120):
                yield self
        finally:
            await self.scenario.cluster.close()
            self.scenario.store.close()

    @contextlib.asynccontextmanager
    async def machine(
        self, folder: str, *, logged_as: str | None = None, fingerprint: str | None = None
    ) -> AsyncIterator[tuple[Agent, ClientState]]:
        """An agent that joins, and comes back for as long as this lasts."""
        place = Workspace(self.folder / folder)
        state = ClientState.take(place)
        output = self.output.setdefault(logged_as or folder, [])
        runtime = Runtime("tensorflow", "cpu", 1)
        agent = Agent(Server("127.0.0.1", self.port, fingerprint), state, place, "image", runtime, output.append)
        running = asyncio.create_task(agent.run(PASSPHRASE, once=False))
        try:
            yield agent, state
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await agent.close()
            state.lock.release()

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            await asyncio.sleep(0.01)

    def joins(self, machine: str) -> int:
        return sum(line.startswith("Joined ") for line in self.output.get(machine, []))


def copy(lab: Lab, source: str, target: str) -> None:
    shutil.copytree(lab.folder / source / "client", lab.folder / target / "client")


def test_machines_with_a_copied_state_work_side_by_side_and_each_says_so_once(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with Lab(tmp_path).open() as lab:
            image = started(tmp_path / "one")
            fill(image, lab.scenario.gave("image", image.client_id), lab.identity.fingerprint)
            copy(lab, "one", "two")
            async with lab.machine("one") as (_, one):
                await lab.until(lambda: lab.joins("one") == 1)
                async with lab.machine("two") as (_, two):
                    await lab.until(lambda: lab.joins("two") == 1)
                    assert lab.scenario.cluster.roster.connected == ["image", "image-2"]
                    assert (one.client_id, two.client_id == one.client_id) == (image.client_id, False)
                    # Both had the result: it is taken once, and neither keeps it.
                    await lab.until(lambda: not list(one.outbox.glob("*")) and not list(two.outbox.glob("*")))
                    assert len(lab.scenario.run.ledger.results()) == 1
                    new_id = two.client_id
                # What it chose was for good: its next process has that id.
                async with lab.machine("two", logged_as="two again") as (_, again):
                    await lab.until(lambda: lab.joins("two again") == 1)
                    assert again.client_id == new_id
                assert lab.joins("one") == 1, "the original was thrown out"
            assert len([line for line in lab.output["two"] if "new id" in line]) == 1
            assert not [line for line in [*lab.output["one"], *lab.output["two again"]] if "new id" in line]
            assert len([line for line in lab.scenario.messages if "client/state/ was copied" in line]) == 1

    asyncio.run(run_script())


def test_a_state_that_was_copied_while_its_client_ran_is_settled_after_one_change_of_places(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with Lab(tmp_path).open() as lab, lab.machine("one") as (_, one):
            await lab.until(lambda: lab.joins("one") == 1)
            copy(lab, "one", "two")
            async with lab.machine("two") as (_, two):
                await lab.until(lambda: lab.joins("one") == 2 and lab.joins("two") == 1)
                assert one.client_id != two.client_id
                assert len(lab.scenario.cluster.roster.connected) == 2
                assert len([line for line in lab.output["one"] if "new id" in line]) == 1

    asyncio.run(run_script())


def test_a_client_that_is_started_again_has_its_id_and_its_name(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with Lab(tmp_path).open() as lab, lab.machine("one") as (agent, one):
            await lab.until(lambda: lab.joins("one") == 1)
            before, link = one.client_id, agent._link
            assert link is not None
            # Killed: its link stays as it is, and nothing answers on it. The lock goes with the process.
            go_deaf(link)
            one.lock.release()
            async with lab.machine("one", logged_as="again") as (_, again):
                await lab.until(lambda: lab.joins("again") == 1)
                assert again.client_id == before
                assert any("Joined" in line and "as image." in line for line in lab.output["again"])

    asyncio.run(run_script())


def test_an_answer_is_distinguished_from_a_link_that_ends(tmp_path: Path) -> None:
    async def run_script() -> None:
        client, server = memory_links(LinkTimes(ping=1e6, dead=1e6))
        assert await server.answers(60)
        go_deaf(client)
        assert not await server.answers(0.01)
        asking = asyncio.create_task(server.answers(60))
        await asyncio.sleep(0)
        client.abort("it is gone")
        assert not await asking
        assert not await server.answers(60)

    asyncio.run(run_script())
