"""Finished results that no server has acknowledged yet: kept on disk until one does, across restarts."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from lanfit.core.decoding import decode_msgpack
from lanfit.core.durable import atomic_move, atomic_write, private, replace, seal, sync_file, unseal
from lanfit.core.failpoints import failpoint
from lanfit.core.text import pluralize
from lanfit.core.workspace import inside
from lanfit.errors import RemoteProtocolError
from lanfit.wire.arrays import LARGEST, BlockSpec, block_size, check_specs
from lanfit.wire.messages import Result

logger = logging.getLogger("lanfit.client")


class Entry(msgspec.Struct, frozen=True):
    """A result, and the only server that it is for."""

    server_id: bytes
    result: Result
    fingerprint: bytes = b""
    """The SHA-256 of its certificate: the id is public. Empty in entries of versions that did not record it."""


class Outbox:
    """A folder with two files per entry: `<id>.block`, the arrays, and, written last, `<id>.result`.

    Entries of an earlier process are compared with their hash; a corrupted result is dropped, and reported.

    Args:
        log: called with lines for the client's user.
    """

    def __init__(self, folder: Path, log: Callable[[str], None] = lambda line: None) -> None:
        self._folder = folder
        self._log = log
        folder.mkdir(parents=True, exist_ok=True)
        self._entries: dict[str, Entry] = {}
        self._doubtful: set[Path] = set()
        """Blocks that could not be synced: the system's copy may differ from what was written."""
        for path in sorted(folder.glob("*.result"), key=lambda path: path.stat().st_mtime):
            try:
                entry = decode_msgpack(unseal(path.read_bytes()), Entry)
                check_specs(entry.result.block.arrays, LARGEST)
            except (OSError, ValueError, RemoteProtocolError) as error:
                logger.warning("%s is not a result and is ignored: %s", path, error)
                log(
                    f"{path} can't be read and is ignored: {error}. Its task is trained again if the server still "
                    "needs it."
                )
                continue
            self._entries[entry.result.block.id] = entry
            self.drop_if_damaged(entry.result.block.id)
        for path in folder.glob("*.block"):
            # Without its second file it was never complete.
            if not path.with_suffix(".result").exists():
                path.unlink()

    def __len__(self) -> int:
        return len(self._entries)

    def new_block(self, task: str) -> Path:
        """Return where a trainer writes a block to be added."""
        return inside(self._folder, f"{task}.block")

    def add(self, block: Path, entry: Entry) -> None:
        """Add a block that was written to `new_block`. When this returns, the result survives a crash.

        Raises:
            OSError: it could not be written; retry with the file at `block`.
        """
        final = self.block(entry.result.block.id)
        if block.exists():
            if block in self._doubtful:
                _renew(block, entry.result.block)
            self._doubtful.add(block)
            sync_file(block)
            atomic_move(block, final)
            self._doubtful.discard(block)
        failpoint("client.half-in-outbox")
        atomic_write(final.with_suffix(".result"), seal(msgspec.msgpack.encode(entry)))
        self._entries[entry.result.block.id] = entry

    def block(self, block_id: str) -> Path:
        """Return the path of an entry's block."""
        return inside(self._folder, f"{block_id}.block")

    def get(self, block_id: str) -> Entry | None:
        return self._entries.get(block_id)

    def drop_if_damaged(self, block_id: str) -> str:
        """Remove a result whose block is corrupted; return the problem, empty if there is none."""
        entry = self._entries.get(block_id)
        if entry is None or not (why := _damage(self.block(block_id), entry.result.block)):
            return ""
        result = entry.result
        self.remove(block_id)
        self._log(
            f"The finished result of {result.task} of run {result.run} can't be read back from the disk: it {why}. It "
            "is dropped; the task is trained again if the server still needs it."
        )
        return why

    def for_server(self, server_id: bytes) -> Iterator[Entry]:
        """Return the results that this server has not acknowledged, oldest first."""
        return (entry for entry in list(self._entries.values()) if entry.server_id == server_id)

    def find(self, server_id: bytes, fingerprint: bytes, run: str, task: str) -> Entry | None:
        """Return the result of a task that waits here for the server with this id and certificate."""
        entries = (entry for entry in self.for_server(server_id) if entry.fingerprint == fingerprint)
        return next((entry for entry in entries if (entry.result.run, entry.result.task) == (run, task)), None)

    def rebind(self, server_id: bytes, fingerprint: bytes, but: Callable[[Entry], bool]) -> None:
        """Bind the results for the server with this id to the one with this certificate from now on.

        Args:
            but: returns which are excluded.
        """
        for entry in self.for_server(server_id):
            if entry.fingerprint != fingerprint and not but(entry):
                rebound = msgspec.structs.replace(entry, fingerprint=fingerprint)
                block_id = entry.result.block.id
                self._entries[block_id] = rebound
                with contextlib.suppress(OSError):  # a full disk: it is bound again after the next start
                    atomic_write(self.block(block_id).with_suffix(".result"), seal(msgspec.msgpack.encode(rebound)))

    def servers(self) -> dict[bytes, int]:
        """Return how many results wait for which server."""
        return Counter(entry.server_id for entry in self._entries.values())

    def remove(self, block_id: str) -> None:
        """Remove a result that was acknowledged, or rejected permanently."""
        if self._entries.pop(block_id, None) is not None:
            self.block(block_id).with_suffix(".result").unlink(missing_ok=True)
            self.block(block_id).unlink(missing_ok=True)


def _damage(path: Path, spec: BlockSpec) -> str:
    """Return the problem of a block; empty if there is none. Reads it."""
    size, digest, left = max(block_size(spec.arrays), 1), hashlib.sha256(), block_size(spec.arrays)
    try:
        with path.open("rb") as file:
            if (found := path.stat().st_size) != size:
                return f"has {pluralize(found, 'byte', grouped=True)} instead of {size:,}"
            while data := file.read(1 << 20):
                digest.update(data[:left])
                left -= min(left, len(data))
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror or error})"
    return "" if digest.hexdigest() == spec.id else "differs from what was written"


def _renew(block: Path, spec: BlockSpec) -> None:
    """Write a block again that could not be synced: a sync is never tried twice on the same file.

    Raises:
        OSError: the disk is full, or the data is lost.
    """
    copy = block.with_suffix(".again")
    try:
        with block.open("rb") as source, open(copy, "wb", opener=private) as target:
            digest = hashlib.sha256()
            left = block_size(spec.arrays)
            while data := source.read(1 << 20):
                digest.update(data[:left])
                left -= min(left, len(data))
                target.write(data)
        if digest.hexdigest() != spec.id:
            raise OSError(errno.EIO, "the disk lost data that was written", str(block))
        replace(copy, block)
    finally:
        copy.unlink(missing_ok=True)
