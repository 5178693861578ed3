"""Finished results that no server has acknowledged yet: kept on disk until one does, across restarts."""

from __future__ import annotations

import errno
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lanfit.crash import crash_point
from lanfit.durable import move_whole, replace, sync_file, write_whole
from lanfit.wire.arrays import BlockSpec, block_size
from lanfit.wire.messages import Result

log = logging.getLogger("lanfit.client")


class Entry(msgspec.Struct, frozen=True):
    """A result, and the only server that it is for."""

    server_id: bytes
    result: Result


class Outbox:
    """A folder with two files an entry: `<id>.block`, the arrays, and, written last, `<id>.result`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._entries: dict[str, Entry] = {}
        self._doubtful: set[Path] = set()
        """Blocks that could not be synced: what the system still has of them may not be what was written."""
        for path in sorted(folder.glob("*.result"), key=lambda path: path.stat().st_mtime):
            try:
                entry = msgspec.msgpack.decode(path.read_bytes(), type=Entry)
            except (OSError, msgspec.DecodeError) as wrong:
                log.warning("%s is no result and is left alone: %s", path, wrong)
                continue
            self._entries[entry.result.block.id] = entry
        for path in folder.glob("*.block"):
            # Without its second file it was never finished.
            if not path.with_suffix(".result").exists():
                path.unlink()

    def __len__(self) -> int:
        return len(self._entries)

    def new_block(self, task: str) -> Path:
        """Where a trainer writes a block that is to be added."""
        return self._folder / f"{task}.block"

    def add(self, block: Path, entry: Entry) -> None:
        """Take in a block that was written to `new_block`. When this returns, the result survives a crash.

        Raises:
            OSError: it could not be written; it may be tried again, with what lies at `block`.
        """
        final = self.block(entry.result.block.id)
        if block.exists():
            if block in self._doubtful:
                _renew(block, entry.result.block)
            self._doubtful.add(block)
            sync_file(block)
            move_whole(block, final)
            self._doubtful.discard(block)
        crash_point("client.half-in-outbox")
        write_whole(final.with_suffix(".result"), msgspec.msgpack.encode(entry))
        self._entries[entry.result.block.id] = entry

    def block(self, block_id: str) -> Path:
        """The file of an entry's block."""
        return self._folder / f"{block_id}.block"

    def get(self, block_id: str) -> Entry | None:
        return self._entries.get(block_id)

    def for_server(self, server_id: bytes) -> Iterator[Entry]:
        """The results that this server has not acknowledged, oldest first."""
        return (entry for entry in list(self._entries.values()) if entry.server_id == server_id)

    def find(self, server_id: bytes, run: str, task: str) -> Entry | None:
        """The result of a task, if it waits here."""
        entries = self.for_server(server_id)
        return next((entry for entry in entries if (entry.result.run, entry.result.task) == (run, task)), None)

    def servers(self) -> dict[bytes, int]:
        """How many results wait for which server."""
        return Counter(entry.server_id for entry in self._entries.values())

    def remove(self, block_id: str) -> None:
        """Forget a result that was acknowledged, or refused for good."""
        if self._entries.pop(block_id, None) is not None:
            self.block(block_id).with_suffix(".result").unlink(missing_ok=True)
            self.block(block_id).unlink(missing_ok=True)


def _renew(block: Path, spec: BlockSpec) -> None:
    """Write a block again that could not be synced: that is never tried twice on the same file.

    Raises:
        OSError: there is no room, or what was written is lost.
    """
    copy = block.with_suffix(".again")
    try:
        with block.open("rb") as source, copy.open("wb") as target:
            digest = hashlib.sha256()
            left = block_size(spec.arrays)
            while data := source.read(1 << 20):
                digest.update(data[:left])
                left -= min(left, len(data))
                target.write(data)
        if digest.hexdigest() != spec.id:
            raise OSError(errno.EIO, "the disk lost what was written", str(block))
        replace(copy, block)
    finally:
        copy.unlink(missing_ok=True)
