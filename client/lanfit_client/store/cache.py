"""The data that a client has received: blocks by content. Blocks in the cache are never sent again.

A block that was interrupted by a kill is resumed. Blocks of an earlier process are compared with their id, the SHA-256
of their bytes, before they are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lanfit.core.durable import replace
from lanfit.core.failpoints import failpoint
from lanfit.core.memory import readable_size
from lanfit.core.workspace import inside
from lanfit.errors import LanfitError, RemoteProtocolError, lanfit_error
from lanfit.net.link import Link
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.transfer.disk_space import AGAIN_SECONDS, RetryWhenFull
from lanfit.transfer.partial import CorruptBlock, PartialBlock, is_full, remove_partial
from lanfit.wire.arrays import BlockSpec, block_size, check_specs

#: The largest block that is accepted from a server; disk space is checked before it is fetched.
LARGEST_BLOCK = 1 << 40
#: The default limit on all blocks together, in bytes.
CACHE_LIMIT = 20 * 10**9
#: A server announces blocks, and their space is reserved before a byte arrives: so this fraction of a disk stays
#: free, or this many bytes of a large one.
LEAST_FREE = 0.05
LEAST_FREE_BYTES = 10**9
_NAME = re.compile(r"[0-9a-f]{64}\.(block|part|chunks)")


class Cache:
    """A folder of blocks.

    Args:
        log: called with lines for the client's user.
        limit: the limit on its blocks, in bytes. A single block that is larger is still accepted for its run.
    """

    def __init__(self, folder: Path, log: Callable[[str], None], limit: int = CACHE_LIMIT) -> None:
        self.folder = folder
        self._log = log
        self._limit = limit
        self.disk_usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage
        self._verified: set[str] = set()
        self._in_use: frozenset[str] = frozenset()
        for path in folder.glob("*"):
            if not _NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)

    async def get(
        self,
        link: Link,
        specs: Sequence[BlockSpec],
        wait: Callable[[str, bool], None],
        coming: Callable[[int, int], None] = lambda came, total: None,
    ) -> list[ArrayFile]:
        """Provide these blocks, for one work item; missing ones are fetched, once the disk has space.

        Args:
            wait: called with the reason for waiting, and whether the wait continues.
            coming: called during a transfer, with the bytes received so far, and the bytes in total.

        Raises:
            ConnectionFailed: the link ended; the next one resumes.
            RemoteProtocolError: a block is invalid.
        """
        for spec in specs:
            check_specs(spec.arrays, LARGEST_BLOCK)
        self._in_use = frozenset(_name(spec) for spec in specs)
        paths = {spec.id: self.folder / f"{_name(spec)}.block" for spec in specs}
        missing = {spec.id: spec for spec in specs if not await self._is_here(paths[spec.id], spec)}
        total, before = sum(block_size(spec.arrays) for spec in missing.values()), 0
        for spec in missing.values():

            def on_progress(came: int, before: int = before) -> None:
                coming(before + came, total)

            await self._fetch(link, paths[spec.id], spec, wait, on_progress)
            self._verified.add(spec.id)
            failpoint("client.block-received")
            before += block_size(spec.arrays)
        for path in paths.values():
            with contextlib.suppress(OSError):
                os.utime(path)  # the least recently used are removed first
        return [ArrayFile(str(paths[spec.id]), spec) for spec in specs]

    async def _is_here(self, path: Path, spec: BlockSpec) -> bool:
        if not path.is_file():
            return False
        if spec.id in self._verified:
            return True
        size = block_size(spec.arrays)
        if path.stat().st_size == max(size, 1) and await asyncio.to_thread(_hash, path, size) == spec.id:
            self._verified.add(spec.id)
            return True
        self._log(f"{path.name} in the cache is damaged and is fetched again.")
        path.unlink()
        return False

    async def _fetch(
        self, link: Link, path: Path, spec: BlockSpec, wait: Callable[[str, bool], None], coming: Callable[[int], None]
    ) -> None:
        size = block_size(spec.arrays)
        while True:
            part = await self._open(path.with_suffix(".part"), size, wait)
            try:
                if part.damaged:
                    self._log(f"{part.path.name} is damaged from byte {part.offset:,} on; the rest is fetched again.")
                if part.offset:
                    self._log(f"{part.offset:,} of {size:,} bytes are here already; receiving the rest.")
                coming(part.offset)
                await link.fetch(spec.id, part.view, part.offset, _both(part.on_progress, coming))
            except BaseException:
                # Even if the caller has stopped waiting for it.
                part.close()
                raise
            try:
                file = await asyncio.to_thread(part.finish, spec.id) if part.offset else part.finish(spec.id)
            except CorruptBlock:
                self._log(f"{part.path.name} is damaged; all of it is fetched again.")
                continue
            file.close()
            replace(part.path, path)
            return

    async def _open(self, path: Path, size: int, wait: Callable[[str, bool], None]) -> PartialBlock:
        """Open a partial block; if the disk is full, remove unused blocks, or wait."""
        self._free_space(self._limit - size)
        retry, waited = RetryWhenFull("Data can't be received", lambda text: wait(text, True)), False
        while True:
            try:
                self._check_share(path, size)
                part = await PartialBlock.opened(path, size)
                break
            except (LanfitError, OSError) as error:
                if not is_full(error):
                    raise
                if self._free_space(0):
                    continue
                retry.is_missing(error)
            waited = True
            await asyncio.sleep(AGAIN_SECONDS)
        if waited:
            wait("The data fits on the disk again.", False)
        return part

    def _check_share(self, path: Path, size: int) -> None:
        """Check that a fraction of the disk stays free with a new block.

        Raises:
            LanfitError: it does not.
        """
        if path.is_file() and path.stat().st_size == size:
            return  # its space is reserved
        self.folder.mkdir(parents=True, exist_ok=True)
        total, _, free = self.disk_usage(self.folder)
        if free - size < min(LEAST_FREE * total, LEAST_FREE_BYTES):
            raise lanfit_error("disk.full", file=path, size=size)

    def _free_space(self, limit: int) -> bool:
        """Remove unused blocks, the oldest first, until all together take at most `limit`."""
        sizes = {path: path.stat().st_size for path in self._blocks()}
        taken, removed = sum(sizes.values()), 0
        for path in sorted(sizes, key=lambda path: path.stat().st_mtime):
            if taken <= limit:
                break
            if path.stem in self._in_use:
                continue
            try:
                _remove(path)
            except OSError:  # Windows: a trainer still has it open
                continue
            self._verified.discard(path.stem)
            taken -= sizes[path]
            removed += sizes[path]
        if removed:
            self._log(f"Removed {readable_size(removed)} of earlier data from the cache to free space.")
        return removed > 0

    def _blocks(self) -> Iterator[Path]:
        for path in self.folder.glob("*"):
            if _NAME.fullmatch(path.name) and path.suffix != ".chunks":
                yield path

    def forget(self, block_id: str) -> None:
        """Remove a block that is no longer needed."""
        self._verified.discard(block_id)
        with contextlib.suppress(OSError):  # Windows: a trainer still has it open; it is removed when space is needed
            inside(self.folder, f"{block_id}.block").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove everything."""
        self._verified.clear()
        self._in_use = frozenset()
        shutil.rmtree(self.folder, ignore_errors=True)


def _name(spec: BlockSpec) -> str:
    """Return the id as a file name; text from a peer never is one."""
    if not re.fullmatch("[0-9a-f]{64}", spec.id):
        raise RemoteProtocolError(f"a block was announced with the impossible id {spec.id[:80]!r}")
    return spec.id


def _both(first: Callable[[int], None], second: Callable[[int], None]) -> Callable[[int], None]:
    def both(position: int) -> None:
        first(position)
        second(position)

    return both


def _remove(path: Path) -> None:
    if path.suffix == ".part":
        remove_partial(path)
    else:
        path.unlink()


def _hash(path: Path, size: int) -> str:
    file = BlockFile.open(path)
    try:
        return hashlib.sha256(file.view[:size]).hexdigest()
    finally:
        file.close()
