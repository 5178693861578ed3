"""What a client has is never sent again; what is damaged is, and said."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from memory_links import memory_links

from lanfit.errors import ConnectionFailed, RemoteProtocolError, lanfit_error
from lanfit.net.link import Link
from lanfit.transfer.blocks import BlockFile
from lanfit.transfer.partial import CHUNK
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of, block_size, buffers
from lanfit.wire.messages import Fetch
from lanfit_client.store.cache import Cache


def arrays(seed: int, megabytes: float = 0.1) -> dict[str, AnyArray]:
    return {"x": np.random.default_rng(seed).integers(0, 255, int(megabytes * (1 << 20)), np.uint8)}


class Source:
    """A server that sends what it is asked for, and remembers from where on."""

    def __init__(self, *blocks: dict[str, AnyArray]) -> None:
        self.blocks = {block_of(block).id: block for block in blocks}
        self.specs = [block_of(block) for block in blocks]
        self.asked: list[tuple[str, int]] = []

    async def serve(self, link: Link, cut_at: int | None) -> None:
        with contextlib.suppress(ConnectionFailed):
            while True:
                fetch = await link.receive()
                assert isinstance(fetch, Fetch)
                self.asked.append((fetch.block, fetch.offset))
                data = memoryview(b"".join(bytes(buffer) for buffer in buffers(self.blocks[fetch.block])))
                await link.send_block(fetch, [data[:cut_at]])
                if cut_at is not None:
                    await link.close("cut")

    @contextlib.asynccontextmanager
    async def link(self, cut_at: int | None = None) -> AsyncIterator[Link]:
        client, server = memory_links()
        serving = asyncio.create_task(self.serve(server, cut_at))
        try:
            yield client
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await client.close()
            await server.close()

    def fetch(
        self,
        cache: Cache,
        *specs: BlockSpec,
        cut_at: int | None = None,
        wait: Callable[[str, bool], None] = lambda text, still: None,
    ) -> None:
        async def go() -> None:
            async with asyncio.timeout(120), self.link(cut_at) as link:
                for spec, file in zip(specs, await cache.get(link, specs, wait), strict=True):
                    np.testing.assert_array_equal(file.load()["x"], self.blocks[spec.id]["x"])

        asyncio.run(go())


def test_a_block_that_is_here_is_not_sent_again_also_not_to_a_later_process(tmp_path: Path) -> None:
    source, output = Source(arrays(0)), []
    [spec] = source.specs
    for _ in range(2):
        cache = Cache(tmp_path, output.append)
        source.fetch(cache, spec)
        source.fetch(cache, spec)
    assert source.asked == [(spec.id, 0)]
    assert output == []
    cache.clear()
    source.fetch(cache, spec)
    assert len(source.asked) == 2


def test_what_comes_is_counted_over_all_blocks_that_are_not_here_and_from_where_it_broke_off(tmp_path: Path) -> None:
    source = Source(arrays(0), arrays(1, 20), arrays(2))
    here, large, small = source.specs
    counted: list[tuple[int, int]] = []
    cache = Cache(tmp_path, print)
    source.fetch(cache, here)
    with pytest.raises(ConnectionFailed):
        source.fetch(cache, large, cut_at=CHUNK + 5000)

    async def go() -> None:
        async with asyncio.timeout(120), source.link() as link:
            await cache.get(link, [here, large, small], lambda text, still: None, lambda *both: counted.append(both))
            await cache.get(link, [here, large, small], lambda text, still: None, lambda *both: counted.append(both))

    asyncio.run(go())
    total = block_size(large.arrays) + block_size(small.arrays)
    assert counted[0] == (CHUNK, total)
    assert counted[-1] == (total, total)
    assert counted == sorted(counted)


def test_a_block_that_was_damaged_meanwhile_is_fetched_again_and_that_is_reported(tmp_path: Path) -> None:
    source, output = Source(arrays(0)), []
    [spec] = source.specs
    source.fetch(Cache(tmp_path, output.append), spec)
    [path] = tmp_path.iterdir()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(bytes([file.read(1)[0] ^ 1]))
    source.fetch(Cache(tmp_path, output.append), spec)
    assert len(source.asked) == 2
    assert output == [f"{spec.id}.block in the cache is damaged and is fetched again."]


def test_a_download_that_broke_off_continues_over_the_next_link_and_in_the_next_process(tmp_path: Path) -> None:
    source, output = Source(arrays(0, 20)), []
    [spec] = source.specs
    with pytest.raises(ConnectionFailed):
        source.fetch(Cache(tmp_path, output.append), spec, cut_at=CHUNK + 5000)
    source.fetch(Cache(tmp_path, output.append), spec)
    assert source.asked == [(spec.id, 0), (spec.id, CHUNK)]
    assert output == [f"{CHUNK:,} of {20 << 20:,} bytes are here already; receiving the rest."]
    assert [path.suffix for path in tmp_path.iterdir()] == [".block"]


def test_a_flipped_bit_in_a_partial_file_is_fetched_again_and_that_is_reported(tmp_path: Path) -> None:
    source, output = Source(arrays(0, 20)), []
    [spec] = source.specs
    with pytest.raises(ConnectionFailed):
        source.fetch(Cache(tmp_path, output.append), spec, cut_at=2 * CHUNK + 5000)
    part = tmp_path / f"{spec.id}.part"
    with part.open("r+b") as file:
        file.seek(CHUNK + 9)
        value = file.read(1)[0] ^ 4
        file.seek(CHUNK + 9)
        file.write(bytes([value]))
    source.fetch(Cache(tmp_path, output.append), spec)
    assert source.asked[1] == (spec.id, CHUNK)
    assert output[0] == f"{spec.id}.part is damaged from byte {CHUNK:,} on; the rest is fetched again."


def test_damage_that_no_sum_shows_is_found_before_the_block_is_used_and_that_is_reported(tmp_path: Path) -> None:
    source, output = Source(arrays(0, 20)), []
    [spec] = source.specs
    with pytest.raises(ConnectionFailed):
        source.fetch(Cache(tmp_path, output.append), spec, cut_at=2 * CHUNK + 5000)
    with (tmp_path / f"{spec.id}.part").open("r+b") as file:
        first, second = file.read(8), file.read(8)
        file.seek(0)
        file.write(second + first)
    source.fetch(Cache(tmp_path, output.append), spec)
    assert source.asked == [(spec.id, 0), (spec.id, 2 * CHUNK), (spec.id, 0)]
    assert output[1:] == [f"{spec.id}.part is damaged; all of it is fetched again."]


def test_what_was_not_used_for_longest_makes_room_and_never_what_is_in_use(tmp_path: Path) -> None:
    source, output = Source(*(arrays(seed) for seed in range(4))), []
    size = 1 << 17
    cache = Cache(tmp_path, output.append, limit=2 * size)
    for age, spec in enumerate(source.specs[:2]):
        source.fetch(cache, spec)
        os.utime(tmp_path / f"{spec.id}.block", (1000 + age, 1000 + age))
    source.fetch(cache, source.specs[0])  # now the other one is older
    source.fetch(cache, source.specs[2])
    assert {path.stem for path in tmp_path.iterdir()} == {source.specs[0].id, source.specs[2].id}
    assert len(output) == 1
    assert "to free space" in output[0]
    # More than the limit allows, but one piece of work needs it.
    source.fetch(cache, *source.specs[:3])
    assert {path.stem for path in tmp_path.iterdir()} == {spec.id for spec in source.specs[:3]}
    source.fetch(Cache(tmp_path, output.append, limit=1), source.specs[3])
    assert {path.stem for path in tmp_path.iterdir()} == {source.specs[3].id}


def test_a_full_disk_is_made_room_on_and_else_it_is_reported_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = Source(arrays(0), arrays(1)), []
    monkeypatch.setattr("lanfit_client.store.cache.AGAIN_SECONDS", 0.0)
    cache = Cache(tmp_path, output.append)
    source.fetch(cache, source.specs[0])
    create, timeouts, refusals = BlockFile.create, list[bool](), list[Path]()

    def full(path: Path, size: int) -> BlockFile:
        if any(tmp_path.iterdir()) and len(refusals) < 4:
            refusals.append(path)
            raise lanfit_error("disk.full", file=path, size=size)
        return create(path, size)

    monkeypatch.setattr(BlockFile, "create", full)
    source.fetch(cache, source.specs[1])
    assert {path.stem for path in tmp_path.iterdir()} == {source.specs[1].id}
    assert not any("can't be received" in line for line in output)

    # What is in use does not make room: somebody has to.
    def wait(text: str, still: bool) -> None:
        output.append(text)
        timeouts.append(still)

    source.fetch(cache, source.specs[1], source.specs[0], wait=wait)
    assert len(refusals) == 4
    assert {path.stem for path in tmp_path.iterdir()} == {spec.id for spec in source.specs}
    assert timeouts == [True, False], "it is said once, and when it is over"
    assert "Data can't be received: the disk is full" in output[-2]
    assert output[-1] == "The data fits on the disk again."


@pytest.mark.parametrize("name", ["../x", "", "A" * 64, "zz"])
def test_a_block_is_named_by_its_hash_alone(tmp_path: Path, name: str) -> None:
    source = Source(arrays(0))
    with pytest.raises(RemoteProtocolError, match="impossible id"):
        source.fetch(Cache(tmp_path / "cache", print), BlockSpec(name, source.specs[0].arrays))


def test_what_is_no_block_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "survey.block").write_bytes(b"1")
    Cache(tmp_path, print)
    assert list(tmp_path.iterdir()) == []
