import asyncio
import contextlib
import mmap
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from memory_links import memory_links

from lanfit.errors import ConnectionFailed
from lanfit.net import link as link_module
from lanfit.net import secure
from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import SLICE, Link
from lanfit.wire.frames import encode_data_header
from lanfit.wire.messages import Ack, Fetch, LogLines, Ping, RunEnded, Status
from lanfit_client.connect import connect

PASSPHRASE = "tiger lamp seven oceans"
BLOCK = "ab" * 32
WAIT = 20.0

Joined = Callable[..., contextlib.AbstractAsyncContextManager[tuple[Link, Link]]]


@pytest.fixture(params=["memory", "tls", "tls of asyncio"])
def joined(request: pytest.FixtureRequest, serve: Any, monkeypatch: pytest.MonkeyPatch) -> Joined:
    """The client's and the server's end of a link, over each way that there is."""
    if request.param == "tls of asyncio":  # as on a loop that can't watch sockets
        monkeypatch.setattr(secure, "can_watch", lambda loop, connection: False)

    @contextlib.asynccontextmanager
    async def join(times: LinkTimes | None = None) -> AsyncIterator[tuple[Link, Link]]:
        if request.param == "memory":
            client, server_link = memory_links(times)
            yield client, server_link
            await client.close()
            return
        async with serve(times=times) as server:
            client, _ = await connect("127.0.0.1", server.port, b"c" * 16, PASSPHRASE, times=times)
            yield client, await server.links.get()
            await client.close()

    return join


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def answer(link: Link, block: bytes) -> None:
    """Answer every fetch with the block, in pieces of odd sizes."""
    view = memoryview(block)
    with contextlib.suppress(ConnectionFailed):
        while True:
            fetch = await link.receive()
            assert isinstance(fetch, Fetch)
            await link.send_block(fetch, [view[:7], view[7:70000], view[70000:]])


def test_messages_travel_both_ways_in_order(joined: Joined) -> None:
    async def test() -> None:
        async with joined() as (client, server):
            for n in range(100):
                await client.send(LogLines("run", (str(n),)))
                await server.send(Status(str(n)))
            assert [await server.receive() for _ in range(100)] == [LogLines("run", (str(n),)) for n in range(100)]
            assert [await client.receive() for _ in range(100)] == [Status(str(n)) for n in range(100)]

    run(test())


@pytest.mark.parametrize("offset", [0, 1, 12345, 5_000_000 - 1])
def test_a_block_arrives_in_its_memory_from_the_offset_on(joined: Joined, offset: int) -> None:
    block = random.Random(1).randbytes(5_000_000)

    async def test() -> None:
        async with joined() as (client, server):
            answering = asyncio.create_task(answer(server, block))
            into, seen = bytearray(offset) + bytearray(5_000_000 - offset), []
            into[:offset] = block[:offset]
            before = client.bytes_received
            await client.fetch(BLOCK, memoryview(into), offset, progress=seen.append)
            assert into == block
            assert seen[-1] == 5_000_000
            assert seen == sorted(seen)
            assert len(block) - offset < client.bytes_received - before < len(block) - offset + 1000
            answering.cancel()

    run(test())


def test_a_client_sends_blocks_as_well(joined: Joined) -> None:
    block = random.Random(2).randbytes(3_000_000)

    async def test() -> None:
        async with joined() as (client, server):
            answering = asyncio.create_task(answer(client, block))
            into = bytearray(len(block))
            await server.fetch(BLOCK, memoryview(into))
            assert into == block
            answering.cancel()

    run(test())


def test_several_blocks_travel_at_once(joined: Joined) -> None:
    blocks = {str(n) * 64: random.Random(n).randbytes(2_500_000 + n) for n in range(4)}

    async def test() -> None:
        async with joined() as (client, server):

            async def answer_all() -> None:
                async with asyncio.TaskGroup() as group:
                    for _ in blocks:
                        fetch = await server.receive()
                        assert isinstance(fetch, Fetch)
                        group.create_task(server.send_block(fetch, [memoryview(blocks[fetch.block])]))

            answering = asyncio.create_task(answer_all())
            into = {name: bytearray(len(block)) for name, block in blocks.items()}
            await asyncio.gather(*(client.fetch(name, memoryview(into[name])) for name in blocks))
            assert into == blocks
            await answering

    run(test())


def test_an_empty_block_needs_no_peer() -> None:
    async def test() -> None:
        client, _ = memory_links()
        await client.fetch(BLOCK, memoryview(bytearray()))
        assert client.bytes_sent == 0

    run(test())


def test_a_message_overtakes_a_long_block(joined: Joined) -> None:
    block = bytes(48 * 1024 * 1024)

    async def test() -> None:
        async with joined() as (client, server):
            into = bytearray(len(block))
            fetching = asyncio.create_task(client.fetch(BLOCK, memoryview(into)))
            fetch = await server.receive()
            assert isinstance(fetch, Fetch)
            sending = asyncio.create_task(server.send_block(fetch, [memoryview(block)]))
            while server.bytes_sent < 4 * SLICE:
                await asyncio.sleep(0)
            await server.send(Status("in between"))
            assert await client.receive() == Status("in between")
            assert not fetching.done()
            await fetching
            await sending

    run(test())


def test_pings_are_answered_and_never_received(joined: Joined) -> None:
    async def test() -> None:
        async with joined(LinkTimes(ping=100, dead=1000)) as (client, server):
            before = client.bytes_received
            await client.send(Ping())
            async with asyncio.timeout(WAIT):
                while client.bytes_received == before:  # until the pong is there
                    await asyncio.sleep(0)
            await client.send(LogLines("run", ("after the ping",)))
            assert await server.receive() == LogLines("run", ("after the ping",))
            await server.send(Status("after the pong"))
            assert await client.receive() == Status("after the pong")

    run(test())


def test_what_was_sent_before_the_close_arrives(joined: Joined) -> None:
    block = random.Random(3).randbytes(6_000_000)

    async def test() -> None:
        async with joined() as (client, server):
            into = bytearray(len(block))
            fetching = asyncio.create_task(client.fetch(BLOCK, memoryview(into)))
            fetch = await server.receive()
            assert isinstance(fetch, Fetch)
            await server.send_block(fetch, [memoryview(block)])
            await server.send(Ack(BLOCK))
            await server.send(RunEnded("run", "done", "that was all"))
            await server.close("the run is over")
            await fetching
            assert into == block
            assert await client.receive() == Ack(BLOCK)
            assert await client.receive() == RunEnded("run", "done", "that was all")
            with pytest.raises(ConnectionFailed, match="the other side closed the connection"):
                await client.receive()
            with pytest.raises(ConnectionFailed, match="closed here: the run is over"):
                await server.receive()

    run(test())


def test_after_the_end_everything_says_why(joined: Joined) -> None:
    async def test() -> None:
        async with joined() as (client, server):
            receiving = asyncio.create_task(client.receive())
            fetching = asyncio.create_task(client.fetch(BLOCK, memoryview(bytearray(10))))
            await server.receive()
            server.abort("enough")
            await asyncio.wait_for(client.closed.wait(), WAIT)
            for waiting in (receiving, fetching):
                with pytest.raises(ConnectionFailed, match="ended"):
                    await waiting
            for call in (client.send(Ping()), client.fetch(BLOCK, memoryview(bytearray(10))), client.receive()):
                with pytest.raises(ConnectionFailed, match="ended"):
                    await call
            with pytest.raises(ConnectionFailed, match="enough"):
                await server.send(Status("?"))
            await client.close()

    run(test())


def test_a_cancelled_fetch_lets_go_of_its_memory_and_the_link_lives_on(joined: Joined) -> None:
    block = random.Random(4).randbytes(8 * SLICE)

    async def test() -> None:
        async with joined() as (client, server):
            first = mmap.mmap(-1, len(block))
            view = memoryview(first)
            progressed = asyncio.Event()
            fetching = asyncio.create_task(client.fetch(BLOCK, view, progress=lambda n: progressed.set()))
            answering = asyncio.create_task(answer(server, block))
            await progressed.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            view.release()
            first.close()  # fails while the link still holds a view of it
            second = bytearray(len(block))
            await client.fetch(BLOCK, memoryview(second))
            assert second == block
            answering.cancel()

    run(test())


def test_a_fetch_lets_go_of_its_memory_when_the_link_ends(joined: Joined) -> None:
    async def test() -> None:
        async with joined() as (client, server):
            memory = mmap.mmap(-1, 3 * SLICE)
            view = memoryview(memory)
            fetching = asyncio.create_task(client.fetch(BLOCK, view))
            fetch = await server.receive()
            assert isinstance(fetch, Fetch)
            server._wire.write([encode_data_header(fetch.stream, 0, SLICE), bytes(1000)])
            await server.send_block(fetch, [])
            await server.close()
            with pytest.raises(ConnectionFailed):
                await fetching
            del fetching
            view.release()
            memory.close()

    run(test())


def test_a_peer_that_breaks_the_protocol_is_cut_off_with_the_reason(joined: Joined) -> None:
    async def test() -> None:
        async with joined() as (client, server):
            client._wire.write([encode_data_header(5, 0, 10), bytes(10)])
            with pytest.raises(ConnectionFailed, match="stream 5, which was not requested"):
                await server.receive()
            await asyncio.wait_for(client.closed.wait(), WAIT)

    run(test())


def test_a_peer_that_sends_more_messages_than_anybody_reads_is_cut_off(joined: Joined) -> None:
    async def test() -> None:
        async with joined() as (client, server):
            lines = LogLines("run", ("x" * 60_000,))

            async def flood() -> None:
                while True:
                    await client.send(lines)

            with pytest.raises(ConnectionFailed):
                await flood()
            await asyncio.wait_for(server.closed.wait(), WAIT)
            assert "faster than they could be handled" in server.reason

    run(test())


def test_an_idle_link_stays_alive_by_its_pings(joined: Joined) -> None:
    async def test() -> None:
        async with joined(LinkTimes(ping=0.02, dead=0.4, gap=0.1)) as (client, server):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.closed.wait(), 1.0)
            assert not server.closed.is_set()

    run(test())


@contextlib.asynccontextmanager
async def relay_before(port: int) -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Event]]:
    """A cable that can be cut without a FIN: pass bytes on while the events are set."""
    to_server, to_client = asyncio.Event(), asyncio.Event()
    to_server.set()
    to_client.set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may_pass: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await may_pass.wait()
                writer.write(data)
                await writer.drain()
            writer.close()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        tasks.extend(
            asyncio.create_task(pump(*ends))
            for ends in ((reader, up_writer, to_server), (up_reader, writer, to_client))
        )
        writers.extend((writer, up_writer))

    tasks: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []
    relay = await asyncio.start_server(on_client, "127.0.0.1", 0)
    try:
        yield relay.sockets[0].getsockname()[1], to_server, to_client
    finally:
        relay.close()
        for task in tasks:
            task.cancel()
        for writer in writers:
            writer.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_both_ends_notice_a_cable_cut_without_a_goodbye(serve: Any) -> None:
    times = LinkTimes(ping=0.05, dead=0.5)

    async def test() -> None:
        async with serve(times=times) as server, relay_before(server.port) as (port, to_server, to_client):
            client, _ = await connect("127.0.0.1", port, b"c" * 16, PASSPHRASE, times=times)
            there = await server.links.get()
            to_server.clear()
            to_client.clear()
            for link in (client, there):
                await asyncio.wait_for(link.closed.wait(), WAIT)
                assert "nothing was received for" in link.reason
                assert link.stalled == "silent"

    run(test())


def test_a_peer_that_takes_nothing_of_a_block_is_given_up_though_it_pings(serve: Any) -> None:
    times = LinkTimes(ping=0.05, dead=0.5, gap=0.1)

    async def test() -> None:
        async with serve(times=times) as server, relay_before(server.port) as (port, _, to_client):
            client, _ = await connect("127.0.0.1", port, b"c" * 16, PASSPHRASE, times=LinkTimes(ping=0.05))
            there = await server.links.get()
            block = bytes(64 * 1024 * 1024)
            fetching = asyncio.create_task(client.fetch(BLOCK, memoryview(bytearray(len(block)))))
            fetch = await there.receive()
            to_client.clear()
            with pytest.raises(ConnectionFailed, match="received nothing"):
                await there.send_block(fetch, [memoryview(block)])
            assert there.stalled == "stuck"
            fetching.cancel()

    run(test())


def test_a_block_that_never_comes_is_given_up(joined: Joined) -> None:
    async def test() -> None:
        async with joined(LinkTimes(ping=0.02, dead=5, stall=0.3)) as (client, server):
            fetching = asyncio.create_task(client.fetch(BLOCK, memoryview(bytearray(10))))
            assert isinstance(await server.receive(), Fetch)
            with pytest.raises(ConnectionFailed, match="made no progress"):
                await fetching

    run(test())


def test_slow_clients_hold_only_their_share_of_what_is_in_flight(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight clients that read nothing: the ninth gets its block, and what waits for the eight is bounded."""
    monkeypatch.setattr(link_module, "IN_FLIGHT", 4 * SLICE)  # less than the eight would take

    async def test() -> None:
        block = bytes(32 * 1024 * 1024)
        async with serve() as server:
            slow = []
            async with asyncio.TaskGroup() as group:
                sending = []
                for n in range(9):
                    client, _ = await connect("127.0.0.1", server.port, bytes([n]) * 16, PASSPHRASE)
                    there = await server.links.get()
                    into = memoryview(bytearray(len(block)))
                    fetching = group.create_task(client.fetch(BLOCK, into))
                    fetch = await there.receive()
                    if n < 8:
                        client._wire._transport.pause_reading()
                        slow.append((client, there, fetching))
                    sending.append(group.create_task(there.send_block(fetch, [memoryview(block)])))
                await fetching
                for client, there, fetching in slow:
                    assert there._wire.unsent <= SLICE + 64 * 1024
                    fetching.cancel()
                    client.abort("the test is over")
                for task in sending:
                    task.cancel()

    run(test())


def test_a_sockets_small_writes_are_not_held_back(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server:
            client, _ = await connect("127.0.0.1", server.port, b"c" * 16, PASSPHRASE)
            there = await server.links.get()
            for link in (client, there):
                tls = link._wire._transport.get_extra_info("ssl_object")
                assert tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await client.close()

    run(test())
