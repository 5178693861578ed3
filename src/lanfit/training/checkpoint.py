"""Checkpoints: the state of a fit in a file. A fit that is resumed from it gives bit-identical results.

A checkpoint is taken after an epoch: the state is copied between two epochs, and a thread writes it while training
continues. At most one is being written, and one is taken at most every `INTERVAL_SECONDS`. With long epochs, a trainer
that is killed repeats the current epoch, and the one before it only if its checkpoint was not complete. With short
epochs, it repeats what it trained in the last two seconds and while the last checkpoint was being written. No
checkpoint is taken after the last epoch, because what follows takes no time.

There is one file, replaced atomically. It consists of a line with the name of the format, the length of a msgpack
header, the header, two blocks of arrays (the state, and the best weights so far), and a SHA-256 of all that. A file is
used only if that hash and a key, which identifies the task, are the expected ones.
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

from lanfit.core.decoding import decode_msgpack
from lanfit.core.durable import atomic_file
from lanfit.data.threads import can_start_threads
from lanfit.errors import LanfitError
from lanfit.wire.arrays import ALIGNMENT, AnyArray, ArraySpec, block_size, buffers, spec_of, views
from lanfit.wire.messages import RateChange

#: The minimum between two checkpoints, so that short epochs are not spent on writing them. Tests set less.
INTERVAL_SECONDS: Final = float(os.environ.get("LANFIT_CHECKPOINT_SECONDS", "2"))
_MAGIC = b"lanfit checkpoint 1\n"
_LENGTH = struct.Struct("<I")
_HASH_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Snapshot:
    """Everything that is needed to resume a fit after an epoch. Its arrays are not modified any more."""

    history: list[dict[str, float]]
    """The metrics of each finished epoch."""
    best_epoch: int
    """From 0."""
    best: Mapping[str, AnyArray]
    """The weights of the best epoch; empty if the last epoch is the best, whose weights are in the state."""
    state: Mapping[str, AnyArray]
    """The state of the backend."""
    seconds: dict[str, float]
    """The time spent so far, in seconds."""
    rates: tuple[RateChange, ...] = ()
    """The learning rates that hold from later epochs on, see `loop.Plan`."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: bytes
    history: list[dict[str, float]]
    best_epoch: int
    seconds: dict[str, float]
    best: tuple[ArraySpec, ...]
    state: tuple[ArraySpec, ...]
    rates: tuple[RateChange, ...] = ()


class Damaged(Exception):
    """A file is not a complete checkpoint."""


def write_checkpoint(path: Path, key: bytes, snapshot: Snapshot) -> None:
    """Replace a checkpoint durably: on return it is on disk. Raise OSError if it can't be written."""
    digest = hashlib.sha256()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for buffer in _file_of(key, snapshot):
            digest.update(buffer)
            file.write(buffer)
        file.write(digest.digest())


def _file_of(key: bytes, snapshot: Snapshot) -> Iterator[bytes | memoryview]:
    best, state = (
        tuple(spec_of(name, array) for name, array in each.items()) for each in (snapshot.best, snapshot.state)
    )
    fields = key, snapshot.history, snapshot.best_epoch, snapshot.seconds, best, state, snapshot.rates
    header = msgspec.msgpack.encode(_Header(*fields))
    head = _MAGIC + _LENGTH.pack(len(header)) + header
    yield head + bytes(-len(head) % ALIGNMENT)
    yield from chain(buffers(snapshot.best), buffers(snapshot.state))


def read_checkpoint(path: Path, key: bytes) -> Snapshot | None:
    """Return the checkpoint in a file; None without a file, or if it has another key.

    Raises:
        Damaged: its content is not what was written.
    """
    try:
        content = np.fromfile(path, np.uint8).data  # own memory, because arrays are views of it
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(str(error)) from error
    body, digest = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise Damaged("its hash differs")
    start = len(_MAGIC) + _LENGTH.size
    try:
        if body[: len(_MAGIC)] != _MAGIC:
            raise Damaged("its format differs")
        (length,) = _LENGTH.unpack(body[len(_MAGIC) : start])
        header = decode_msgpack(body[start : start + length], _Header)
        if header.key != key:
            return None
        blocks = body[start + length + -(start + length) % ALIGNMENT :]
        best = views(blocks, header.best)
        state = views(blocks[block_size(header.best) :], header.state)
    except (ValueError, TypeError, struct.error, LanfitError) as error:
        raise Damaged(str(error)) from error
    return Snapshot(header.history, header.best_epoch, best, state, header.seconds, header.rates)


def epochs_kept(path: Path) -> int:
    """Return how many epochs a checkpoint contains, from its header; 0 if there is none."""
    start = len(_MAGIC) + _LENGTH.size
    try:
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(start)[len(_MAGIC) :])
            return len(decode_msgpack(file.read(length), _Header).history)
    except (OSError, ValueError, struct.error):
        return 0


class Checkpointer:
    """Keeps the last checkpoint of one fit in a file. If its folder is deleted, nothing is written any more.

    Args:
        key: identifies the fit; a checkpoint with another key is not used.
        log: called with messages for the user, perhaps from a thread.
    """

    def __init__(self, path: Path, key: bytes, log: Callable[[str], None]) -> None:
        self._path = path
        self._key = key
        self.written = 0
        """The number of checkpoints that were written."""
        self._log = log
        self._writing: threading.Thread | None = None
        self._taken = perf_counter()
        self._complained = False
        for left in path.parent.glob(f".{path.stem}.*"):
            left.unlink(missing_ok=True)  # left by a process that was killed while writing

    def last(self) -> Snapshot | None:
        """Return the checkpoint to resume from. A damaged one is removed, and the user is notified."""
        try:
            return read_checkpoint(self._path, self._key)
        except Damaged as damaged:
            self.refuse(str(damaged))
            return None

    def refuse(self, reason: str) -> None:
        """Discard the checkpoint that `last` returned, which can't be used."""
        self._log(f"The checkpoint of this task can't be used ({reason}); training starts over.")
        self._path.unlink(missing_ok=True)

    def offer(self, take: Callable[[], Snapshot]) -> None:
        """Take a checkpoint after an epoch, unless it is too early or one is still being written."""
        now = perf_counter()
        if now - self._taken < INTERVAL_SECONDS or (self._writing is not None and self._writing.is_alive()):
            return
        self._taken = now
        try:
            snapshot = take()
        except MemoryError:
            self._complain("there is not enough memory")
            return
        if not can_start_threads():
            self._write(snapshot)
            return
        self._writing = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._writing.start()

    def _write(self, snapshot: Snapshot) -> None:
        if not self._path.parent.is_dir():
            return
        try:
            write_checkpoint(self._path, self._key, snapshot)
        except (OSError, ValueError) as error:  # ValueError: a dtype that has no bytes
            if self._path.parent.is_dir():  # else the task was cancelled
                self._complain(getattr(error, "strerror", None) or str(error))
        else:
            self.written += 1

    def _complain(self, reason: str) -> None:
        """Notify the user once. Training continues, and writing is tried again after the next epoch."""
        if not self._complained:
            self._complained = True
            self._log(
                f"No checkpoint could be written: {reason}. Training continues, but if it is killed, it starts over."
            )

    def close(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            self._writing.join()
