"""One message of a peer, and what it costs at most: a wait, a run, a disk. And who else on a machine can read rows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from memory_links import memory_links
from peer import AttackedCluster, LoginServer, run_script, who

from lanfit.errors import ConnectionFailed
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.transfer.partial import CHUNK
from lanfit.wire.arrays import ArraySpec, BlockSpec, block_of, buffers
from lanfit.wire.auth import Refusal, Refused
from lanfit.wire.messages import Fetch, Join
from lanfit_client.connect import LONGEST_RETRY, TryLater, connect
from lanfit_client.store.cache import LEAST_FREE, LEAST_FREE_BYTES, Cache


@pytest.mark.parametrize("why", [Refusal.BANNED, Refusal.FULL, Refusal.NOT_READY])
def test_whoever_refuses_a_client_makes_it_wait_for_minutes_and_not_for_136_years(tmp_path: Path, why: Refusal) -> None:
    async def go() -> None:
        async with LoginServer(tmp_path).listening() as server:
            server.gate.admit = lambda address, client_id: Refused(why, 2**32 - 1)  # type: ignore[method-assign]
            with pytest.raises(TryLater) as refused:
                await connect("127.0.0.1", server.port, who("10.0.0.1"), "any passphrase")
            assert refused.value.retry_after == LONGEST_RETRY
            assert str(2**32 - 1) not in refused.value.message
            assert "86400 s" in refused.value.message or why is Refusal.NOT_READY

    run_script(go())


def test_a_client_with_less_than_no_memory_is_not_let_in_and_others_are(tmp_path: Path) -> None:
    async def go() -> None:
        attacked = AttackedCluster(tmp_path)
        evil, server = memory_links()
        serving = asyncio.create_task(attacked.cluster._serve(server, b"e" * 16, "10.0.0.9"))
        await evil.send(Join("evil", "0", "tensorflow", "cpu", 1, -1))
        await evil.closed.wait()
        with contextlib.suppress(ConnectionFailed):
            await serving
        assert "free_memory" in server.reason
        async with attacked.client("lab-1", free_memory=0):
            assert attacked.cluster.roster.connected == ["lab-1"]
        attacked.close()

    run_script(go())


def announced(size: int) -> BlockSpec:
    return BlockSpec("ab" * 32, (ArraySpec("x", "uint8", (size,)),))


def test_a_block_that_would_fill_a_clients_disk_waits_and_takes_nothing_of_it(tmp_path: Path) -> None:
    total, size = 100 * CHUNK, 4 * CHUNK

    async def go() -> None:
        output: asyncio.Queue[str] = asyncio.Queue()
        cache = Cache(tmp_path / "cache", lambda line: None)
        client, server = memory_links()
        for free, fits in ((size + int(LEAST_FREE * total) - 1, False), (size + int(LEAST_FREE * total), True)):
            cache.disk_usage = lambda path, free=free: (total, 0, free)  # type: ignore[misc]
            getting = asyncio.create_task(
                cache.get(client, [announced(size)], lambda text, timeouts: output.put_nowait(text))
            )
            if fits:
                assert isinstance(await server.receive(), Fetch)
            else:
                assert "Data can't be received" in await output.get()
                assert list((tmp_path / "cache").iterdir()) == []
            getting.cancel()
            await asyncio.gather(getting, return_exceptions=True)
        await client.close()

    run_script(go())


def test_of_a_large_disk_a_gigabyte_stays_free(tmp_path: Path) -> None:
    cache = Cache(tmp_path, lambda line: None)
    cache.disk_usage = lambda path: (10**13, 0, LEAST_FREE_BYTES + 10)
    cache._check_share(tmp_path / "a.part", 10)
    with pytest.raises(Exception, match="disk is full"):
        cache._check_share(tmp_path / "a.part", 11)


def test_a_block_of_which_nothing_came_leaves_nothing_and_one_that_began_continues(tmp_path: Path) -> None:
    data = memoryview(bytes(3 * CHUNK))

    async def cut_after(came: int) -> list[str]:
        cache = Cache(tmp_path / "cache", lambda line: None)
        client, server = memory_links()
        getting = asyncio.create_task(cache.get(client, [announced(len(data))], lambda text, timeouts: None))
        fetch = await server.receive()
        assert isinstance(fetch, Fetch)
        await server.send_block(fetch, [data[:came]])
        await server.close("gone")
        with pytest.raises(ConnectionFailed):
            await getting
        return sorted(path.suffix for path in (tmp_path / "cache").iterdir())

    async def go() -> None:
        assert await cut_after(0) == []
        assert await cut_after(CHUNK // 2) == []
        assert await cut_after(CHUNK + 5) == [".chunks", ".part"]

    run_script(go())


@pytest.mark.skipif(os.name == "nt", reason="the folder decides there")
def test_rows_and_weights_on_a_disk_are_for_their_user_alone(tmp_path: Path) -> None:
    values = {"x": np.arange(10, dtype=np.float32)}

    async def go() -> None:
        cache = Cache(tmp_path / "cache", lambda line: None)
        client, server = memory_links()
        getting = asyncio.create_task(cache.get(client, [block_of(values)], lambda text, timeouts: None))
        fetch = await server.receive()
        assert isinstance(fetch, Fetch)
        await server.send_block(fetch, buffers(values))
        await getting
        await client.close()

    before = os.umask(0o022)
    try:
        run_script(go())
        BlockFile.create(tmp_path / "created.part", 10).close()
        ArrayFile.write(tmp_path / "written.block", values)
        ArrayFile.write(tmp_path / "written.block", values)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == dict.fromkeys(
        (path.name for path in files), 0o600
    )
