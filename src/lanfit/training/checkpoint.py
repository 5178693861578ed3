"""Checkpoints: how far a fit is, in a file, so that a trainer that was killed goes on and ends with the same bits.

A checkpoint is taken after an epoch: the state is copied out between two epochs, and a thread writes it while training
goes on. At most one is being written, and one is taken at most every `INTERVAL_SECONDS`: where epochs are long, a
trainer that is killed repeats the epoch that it was in, and the finished one before only if that was still being
written; where epochs are short, what it trained in the last two seconds and while the last checkpoint was being
written. There is none after the last epoch: what is left to do then takes no time.

One file, replaced whole each time, so that the last one is there until the next one is: a line that says what it is,
the length of a msgpack header, the header, two blocks of arrays (the state, and the best weights so far), and a SHA-256
of all that. What is read is held against that hash, and against a key that says what it was trained for.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
import numpy as np

from lanfit.durable import written_whole
from lanfit.errors import LanfitError
from lanfit.wire.arrays import ALIGNMENT, AnyArray, ArraySpec, block_size, pieces, spec_of, views

#: Between two checkpoints, so that short epochs are not spent on writing them. Tests have less time.
INTERVAL_SECONDS: Final = float(os.environ.get("LANFIT_CHECKPOINT_SECONDS", "2"))
_MAGIC = b"lanfit checkpoint 1\n"
_LENGTH = struct.Struct("<I")
_HASH_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Snapshot:
    """Everything that a fit needs to go on after an epoch. No array in it changes any more."""

    history: list[dict[str, float]]
    """A line for each epoch that is done."""
    best_epoch: int
    """From 0."""
    best: Mapping[str, AnyArray]
    """The weights of the best epoch; empty if that is the last one, whose weights are in the state."""
    state: Mapping[str, AnyArray]
    """What the backend goes on from."""
    seconds: dict[str, float]
    """What it took so far."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: bytes
    history: list[dict[str, float]]
    best_epoch: int
    seconds: dict[str, float]
    best: tuple[ArraySpec, ...]
    state: tuple[ArraySpec, ...]


class Damaged(Exception):
    """A file is no whole checkpoint."""


def write_checkpoint(path: Path, key: bytes, snapshot: Snapshot) -> None:
    """Replace a checkpoint; on return the new one is on disk. Raises OSError where the system refuses."""
    digest = hashlib.sha256()
    with written_whole(path) as temporary, temporary.open("wb") as file:
        for piece in _file_of(key, snapshot):
            digest.update(piece)
            file.write(piece)
        file.write(digest.digest())


def _file_of(key: bytes, snapshot: Snapshot) -> Iterator[bytes | memoryview]:
    best, state = (
        tuple(spec_of(name, array) for name, array in each.items()) for each in (snapshot.best, snapshot.state)
    )
    header = msgspec.msgpack.encode(_Header(key, snapshot.history, snapshot.best_epoch, snapshot.seconds, best, state))
    head = _MAGIC + _LENGTH.pack(len(header)) + header
    yield head + bytes(-len(head) % ALIGNMENT)
    yield from chain(pieces(snapshot.best), pieces(snapshot.state))


def read_checkpoint(path: Path, key: bytes) -> Snapshot | None:
    """Read a checkpoint, if there is one and it was made for the same.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        content = np.fromfile(path, np.uint8).data  # memory of our own, which arrays may be views of
    except FileNotFoundError:
        return None
    except OSError as wrong:
        raise Damaged(str(wrong)) from wrong
    body, digest = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise Damaged("its hash is another")
    start = len(_MAGIC) + _LENGTH.size
    try:
        if body[: len(_MAGIC)] != _MAGIC:
            raise Damaged("it has another format")
        (length,) = _LENGTH.unpack(body[len(_MAGIC) : start])
        header = msgspec.msgpack.decode(body[start : start + length], type=_Header)
        if header.key != key:
            return None
        blocks = body[start + length + -(start + length) % ALIGNMENT :]
        best = views(blocks, header.best)
        state = views(blocks[block_size(header.best) :], header.state)
    except (ValueError, TypeError, struct.error, LanfitError) as wrong:
        raise Damaged(str(wrong)) from wrong
    return Snapshot(header.history, header.best_epoch, best, state, header.seconds)


def epochs_kept(path: Path) -> int:
    """How many epochs are done in a checkpoint, as its header says; 0 if there is none. The arrays are not read."""
    start = len(_MAGIC) + _LENGTH.size
    try:
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(start)[len(_MAGIC) :])
            return len(msgspec.msgpack.decode(file.read(length), type=_Header).history)
    except (OSError, ValueError, struct.error):
        return 0


class Keeper:
    """Keeps the last checkpoint of one fit in a file. Its folder is another's: without it nothing is written any more.

    Args:
        key: what the fit is for; a checkpoint with another key is not used.
        say: called, perhaps from a thread, with what the user should know.
    """

    def __init__(self, path: Path, key: bytes, say: Callable[[str], None]) -> None:
        self._path = path
        self._key = key
        self.written = 0
        """How many checkpoints there were."""
        self._say = say
        self._writing: threading.Thread | None = None
        self._taken = perf_counter()
        self._complained = False
        for left in path.parent.glob(f".{path.stem}.*"):
            left.unlink(missing_ok=True)  # by a process that was killed while it wrote

    def last(self) -> Snapshot | None:
        """What to go on from; a damaged checkpoint is removed, and said."""
        try:
            return read_checkpoint(self._path, self._key)
        except Damaged as damaged:
            self.refuse(str(damaged))
            return None

    def refuse(self, reason: str) -> None:
        """What `last` returned is of no use."""
        self._say(f"The checkpoint of this task can't be used ({reason}); it is trained from the start.")
        self._path.unlink(missing_ok=True)

    def offer(self, take: Callable[[], Snapshot]) -> None:
        """An epoch is done: take a checkpoint, unless it is too early for one or one is still being written."""
        now = perf_counter()
        if now - self._taken < INTERVAL_SECONDS or (self._writing is not None and self._writing.is_alive()):
            return
        self._taken = now
        try:
            snapshot = take()
        except MemoryError:
            self._complain("there is not enough memory")
            return
        self._writing = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._writing.start()

    def _write(self, snapshot: Snapshot) -> None:
        if not self._path.parent.is_dir():
            return
        try:
            write_checkpoint(self._path, self._key, snapshot)
        except (OSError, ValueError) as wrong:  # ValueError: a dtype that has no bytes
            if self._path.parent.is_dir():  # else the task was cancelled meanwhile
                self._complain(getattr(wrong, "strerror", None) or str(wrong))
        else:
            self.written += 1

    def _complain(self, reason: str) -> None:
        """Training goes on without; it is tried again after another epoch, but not said again."""
        if not self._complained:
            self._complained = True
            self._say(f"No checkpoint could be written: {reason}. Training goes on; if it is killed, it starts over.")

    def close(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            self._writing.join()
