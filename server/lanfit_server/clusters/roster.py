"""The clients: every client that has joined, under a unique name, and its state. Pure: the time is passed in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from lanfit.core.gauge import Transfer
from lanfit.data.files import natural_key
from lanfit.wire.messages import CustomFile, Join, Progress

#: The order is needed at every event of a run.
_order = lru_cache(10_000)(natural_key)
_NOT_A_LABEL = re.compile(r"[^A-Za-z0-9._-]+")
#: Names that Windows does not allow for files, and those of the models that a run creates itself.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|average|ensemble|final", re.IGNORECASE)
#: The suffix of the files of a fold.
_FOLD = re.compile(r"-(fold-\d+)$", re.IGNORECASE)


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of clients in natural order."""
    return sorted(names, key=_order)


def label(name: str) -> str:
    """Return a file-name-safe label of the name of a client: `[A-Za-z0-9._-]{1,64}`, never hidden or reserved."""
    safe = _FOLD.sub(r"_\1", _NOT_A_LABEL.sub("-", name).strip("-.")[:64].rstrip("-."))
    return f"client-{safe}"[:64] if not safe or _RESERVED.fullmatch(safe) else safe


@dataclass
class Member:
    """A client: what it reported about itself, and its progress. Rates are in samples per second, times in seconds."""

    name: str
    client_id: bytes
    address: str
    backend: str
    device: str
    threads: int
    free_memory: int
    asked: str = ""
    """The name that it asked for, as a label: another one if that was taken, or if it was here before."""
    connected: bool = True
    state: str = "joined"
    progress: float = 0.0
    """Of its task, 0 to 1."""
    epoch: str = ""
    step: int = 0
    """The batch of its epoch, of `steps`; 0 of 0 unless it trains."""
    steps: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    last_seen: float = 0.0
    """When it was last seen, on the server's monotonic clock; likewise `gone_since` and `advanced`."""
    has_connected: bool = True
    """Whether it has joined this server; otherwise it joined an earlier one."""
    gone_since: float = 0.0
    """When it was lost, or left."""
    transfer: Transfer | None = None
    """The transfer in progress, if any."""
    advanced: float = 0.0
    """When its work last made progress."""
    delivered: float = 0.0
    """When a result that it returns last made progress, or was last deferred for lack of space on this side."""
    silent: bool = False
    """Whether it has been silent for a while."""
    bytes_received: int = 0
    bytes_sent: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    version: str = ""
    """Of its lanfit."""
    keras: str = ""
    """The version of its Keras, if reported."""
    noted: tuple[str, str] | None = None
    """The versions of lanfit and Keras that were last reported to the operator."""
    custom: tuple[CustomFile, ...] = ()
    """The custom objects files that it allows."""
    queued_for: int = 0
    """Of so many trainers, which it shares with other clients, it waits for a free one; 0 if it does not."""
    lacks: str = ""
    """Why it gets no tasks although it is connected: missing custom objects; empty if it gets tasks."""


class Roster:
    """All clients of this server, in the order in which they first joined."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._renamed: dict[str, str] = {}
        """Earlier names of clients, for which data may still be in transit."""

    def __getitem__(self, name: str) -> Member:
        while name not in self._members:
            name = self._renamed[name]
        return self._members[name]

    def name_of(self, name: str) -> str:
        """Return the current name of a client that once had this name; the name itself if no client ever had it."""
        known = name in self._members or name in self._renamed
        return self[name].name if known else name

    def restore(self, name: str, client_id: bytes, now: float) -> None:
        """Add a client of an earlier server: it is not connected yet, and gets its name when it is."""
        member = Member(name, client_id, "", "", "", 0, 0, connected=False, state="lost", last_seen=now)
        member.has_connected, member.gone_since = False, now
        self._members[name] = member

    def members(self) -> Sequence[Member]:
        return list(self._members.values())

    @property
    def connected(self) -> list[str]:
        """The names of the connected clients that can participate, in natural order, in which shards are assigned."""
        return in_order(m.name for m in self._members.values() if m.connected and not m.lacks)

    def find(self, client_id: bytes) -> Member | None:
        """Return the client with this id, if it ever joined."""
        return next((member for member in self._members.values() if member.client_id == client_id), None)

    def join(self, client_id: bytes, address: str, message: Join, now: float) -> Member:
        """Add a client; one that was here before gets its name back."""
        former = self.find(client_id)
        if former is None:
            former = Member(
                self._unique(label(message.name), (*self._members, *self._renamed)),
                client_id,
                address,
                message.backend,
                message.device,
                message.threads,
                message.free_memory,
            )
            self._members[former.name] = former
        former.asked = label(message.name)
        former.address, former.backend, former.device = address, message.backend, message.device
        former.threads, former.free_memory = message.threads, message.free_memory
        former.custom, former.version, former.keras = message.custom, message.version, message.keras
        former.connected, former.last_seen, former.silent, former.has_connected = True, now, False, True
        self.rest(former.name)
        return former

    def rename(self, name: str, wanted: str) -> str:
        """Rename a client, before anything is written under its name; return its new name.

        The name is made a label, and unique. No other client gets the old one.
        """
        member = self._members[name]
        names = (*self._members, *self._renamed)
        new = self._unique(label(wanted), [each for each in names if self[each] is not member])
        if new != name:
            member.name = new
            self._members = {each.name: each for each in self._members.values()}
            self._renamed.pop(new, None)
            self._renamed[name] = new
        return new

    def _unique(self, name: str, names: Iterable[str]) -> str:
        # Names become files, and file names on Windows and macOS are case-insensitive.
        taken = {other.lower() for other in names}
        unique, number = name, 1
        while unique.lower() in taken:
            number += 1
            suffix = f"-{number}"
            unique = name[: 64 - len(suffix)] + suffix
        return unique

    def leave(self, name: str, state: str, now: float) -> None:
        """Record that the client has disconnected: `lost`, or `left` on purpose."""
        self.rest(name, state)
        member = self._members[name]
        member.connected, member.gone_since = False, now

    def rest(self, name: str, state: str = "waiting") -> None:
        """Clear the work of a client, so that nothing outdated is shown."""
        member = self._members[name]
        member.state, member.progress, member.epoch, member.loss = state, 0.0, "", None
        member.samples_per_second = member.transfer = None
        member.step = member.steps = member.queued_for = 0

    def sending(self, name: str, total: int, done: int, now: float) -> None:
        """Record the progress of an upload."""
        member = self._members[name]
        member.state, member.transfer = "sending", Transfer(total, done, now)

    def restart_counters(self) -> None:
        """Start a run, to which bytes count from now on."""
        for member in self._members.values():
            member.bytes_received = member.bytes_sent = 0

    def progress(self, name: str, message: Progress, now: float) -> None:
        """Record the progress of a client's task."""
        member = self._members[name]
        before = (member.state, member.epoch, member.progress)
        is_begun = message.state in ("training", "paused")
        member.step, member.steps = (message.step, message.steps) if is_begun else (0, 0)
        member.state, member.last_seen, member.has_connected, member.queued_for = message.state, now, True, 0
        if message.state == "receiving":
            # A client that reports received bytes also reports the total; an older one does not.
            member.progress, member.epoch, member.loss = 0.0, "", None
            total, came, moved = max(0, message.steps), max(0, min(message.step, message.steps)), member.transfer
            if moved is None or moved.total != total or came < moved.done:
                member.transfer = Transfer(total, came, now) if total else None
            else:
                moved.done = came
        else:
            member.transfer = None
            member.progress = message.share
            member.epoch = f"{message.epoch}/{message.epochs}" if message.epoch > 0 else ""
            member.loss = message.loss if is_begun and (message.epoch > 1 or message.step > 0) else None
        member.samples_per_second = message.samples_per_second if message.state == "training" else None
        # The receiving end of the link watches the progress of a block.
        if message.state == "receiving" or before != (member.state, member.epoch, member.progress):
            member.advanced = now
