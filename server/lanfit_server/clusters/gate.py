"""The policy on logins: counts guesses, bans addresses temporarily, and keeps that over a restart.

`Gate` decides (events and times in, decisions out); `GateShell` is the thin shell with a clock, a file and the
stretched passphrase. Neither verifies a passphrase: the login does (lanfit.wire.auth).

A guess is counted when it starts, not when it turns out wrong: otherwise an address would have as many guesses as it
can start before the first one is answered. So an address has at most as many concurrent guesses as it may still get
wrong; others wait until one of them has ended. All addresses together have a limit as well. It delays addresses that
have guessed wrong; others are slowed down but never refused, so that guessing from elsewhere can't lock out new
clients, and a client that joined before is not affected.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from lanfit.core.decoding import decode_json
from lanfit.core.durable import atomic_write
from lanfit.wire.auth import Refusal, Refused

GUESSES = 3
"""Wrong guesses from one address that cause a ban."""
FIRST_BAN = 30.0
LONGEST_BAN = 24 * 3600.0
GUESSES_A_MINUTE = 30
"""Wrong guesses from all addresses together, except those of this machine. Above it, an address that has guessed wrong
is refused, and any other has one guess at a time, answered slowly."""
SLOW_SECONDS = 2.0
"""How long the answer to a slow guess is delayed: irrelevant for a person, and far less than a client's timeout."""
MOST_SUSPECTS = 1000
"""The maximum number of remembered addresses: memory, and a file that is written with each wrong guess, must not grow
with them."""
MOST_CLIENTS = 5000
"""The maximum number of clients that are remembered as having joined before, because anyone who knows the passphrase
can join with any number of ids. The oldest are forgotten: the gate treats them as new, and they can still join."""
LOOPBACK = "loopback"
"""The name of all addresses of this machine for the gate: they are slowed down, and never banned."""
GUESSES_OF_A_KNOWN_ID = 10
"""Wrong guesses since its last success after which a client that joined before is treated as new."""

logger = logging.getLogger(__name__)
_Key = TypeVar("_Key", str, bytes)


class Suspect(msgspec.Struct, forbid_unknown_fields=True):
    """An address that guessed wrong. Times are seconds of the caller's clock."""

    address: str
    guesses: int = 0
    """Since the last ban, or the last success."""
    bans: int = 0
    until: float = 0.0
    """The end of the last ban."""
    last: float = 0.0


class Ban(msgspec.Struct, frozen=True):
    """An address that is banned now."""

    address: str
    seconds: float
    """The remaining time."""


class GateState(msgspec.Struct, forbid_unknown_fields=True):
    """The state that survives a restart."""

    suspects: list[Suspect] = []
    clients: dict[str, int] = {}
    """Clients that joined before: id in hex, and wrong guesses since the last success."""


class Gate:
    """The decisions. `now` is in seconds and monotonic."""

    def __init__(self, state: GateState | None = None) -> None:
        state = state or GateState()
        self._suspects = {suspect.address: suspect for suspect in state.suspects}
        self._clients = dict(state.clients)
        self._recent: deque[float] = deque()
        self._begun: Counter[str] = Counter()
        """Concurrent guesses by address."""
        self._begun_by: Counter[bytes] = Counter()
        """The same by the id of the client."""

    def admit(self, address: str, client_id: bytes, now: float) -> Refused | None:
        """Return why this client may not try now, or None if it may."""
        return None if self._has_joined_before(client_id) else self._refusal(subject(address), now)

    def begin(self, address: str, client_id: bytes, now: float) -> Refused | float | None:
        """Register the start of a guess: return for how many seconds to delay its answer, usually 0.

        It counts from now on, until `joined`, `failed` or `abandoned`. Refusal: it may not start. None: it has to wait
        until another one has ended.
        """
        where, seconds = subject(address), 0.0
        if not self._has_joined_before(client_id):
            if refused := self._refusal(where, now):
                return refused
            under_way, suspect = self._begun[where], self._suspects.get(where)
            wrong = suspect.guesses if suspect else 0
            if where == LOOPBACK:
                most, seconds = GUESSES, SLOW_SECONDS if wrong >= GUESSES else 0.0
            elif self._recent_guesses(now) + self._begun.total() - self._begun[LOOPBACK] >= GUESSES_A_MINUTE:
                most, seconds = 1, SLOW_SECONDS
            else:
                most = GUESSES - wrong
            if under_way >= most:
                return None
        self._begun[where] += 1
        self._begun_by[client_id] += 1
        return seconds

    def failed(self, address: str, client_id: bytes, now: float) -> None:
        """Register the end of a guess that was wrong, or whose client did not wait for the answer."""
        self.abandoned(address, client_id)
        known = self._clients.get(client_id.hex())
        if known is not None:
            self._clients[client_id.hex()] = known + 1
        self._forget(now)
        where = subject(address)
        suspect = self._suspects.setdefault(where, Suspect(where))
        suspect.guesses += 1
        suspect.last = now
        if where == LOOPBACK:
            return
        self._recent_guesses(now)
        self._recent.append(now)
        if suspect.guesses >= GUESSES:
            suspect.guesses = 0
            # The exponent is bounded only to keep the number finite.
            suspect.until = now + min(FIRST_BAN * 2 ** min(suspect.bans, 30), LONGEST_BAN)
            suspect.bans += 1

    def abandoned(self, address: str, client_id: bytes) -> None:
        """Register a login that failed without a guess: this server did not wait for its end."""
        _less(self._begun, subject(address))
        _less(self._begun_by, client_id)

    def joined(self, address: str, client_id: bytes, now: float) -> None:
        """Register a client that knows the passphrase: its address starts again, and it is known from now on."""
        self.abandoned(address, client_id)
        self._suspects.pop(subject(address), None)
        self._clients.pop(client_id.hex(), None)
        while len(self._clients) >= MOST_CLIENTS:
            del self._clients[next(iter(self._clients))]
        self._clients[client_id.hex()] = 0  # the last one: they are ordered by their last join

    def bans(self, now: float) -> list[Ban]:
        """Return the addresses that are banned now, the longest first."""
        # `list`: another thread may show them.
        bans = [Ban(one.address, one.until - now) for one in list(self._suspects.values()) if one.until > now]
        return sorted(bans, key=lambda ban: -ban.seconds)

    def lift(self, address: str) -> bool:
        """Forget an address; return whether it was known."""
        return self._suspects.pop(subject(address), None) is not None

    def state(self, shift: float = 0.0) -> GateState:
        """Return the state to save, with `shift` added to all times: to another clock."""
        suspects = [
            Suspect(one.address, one.guesses, one.bans, one.until + shift, one.last + shift)
            for one in self._suspects.values()
        ]
        return GateState(suspects, dict(self._clients))

    def lift_all(self) -> None:
        """Forget all addresses."""
        self._suspects.clear()
        self._recent.clear()

    def _refusal(self, where: str, now: float) -> Refused | None:
        suspect = self._suspects.get(where)
        if suspect is None or where == LOOPBACK:
            return None
        wait = suspect.until - now
        if wait <= 0 and self._recent_guesses(now) >= GUESSES_A_MINUTE:
            wait = self._recent[0] + 60 - now
        return Refused(Refusal.BANNED, int(wait) + 1) if wait > 0 else None

    def _has_joined_before(self, client_id: bytes) -> bool:
        # A client's id is known to a fake server that it once tried, so it does not allow unlimited guesses.
        wrong = self._clients.get(client_id.hex())
        return wrong is not None and wrong + self._begun_by[client_id] < GUESSES_OF_A_KNOWN_ID

    def _recent_guesses(self, now: float) -> int:
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        return len(self._recent)

    def _forget(self, now: float) -> None:
        """Drop addresses that did nothing for a day after their ban: memory must not grow over the years."""
        for address, one in list(self._suspects.items()):
            if max(one.until, one.last) < now - LONGEST_BAN:
                del self._suspects[address]
        if len(self._suspects) >= MOST_SUSPECTS:
            del self._suspects[min(self._suspects, key=lambda address: self._suspects[address].last)]


def subject(address: str) -> str:
    """Return the subject of a ban for an address: itself, or for IPv6 its /64, which one machine can have entirely;
    idempotent."""
    if "/" in address or address == LOOPBACK:
        return address
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return LOOPBACK
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _less(counter: Counter[_Key], key: _Key) -> None:
    """Decrement a count; remove it at 0 to save memory."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


class GateShell:
    """The gate of a running server, used by `lanfit_server.clusters.listen`.

    `stretched` is the stretched passphrase, None until the operator has chosen one. `path` is the file of bans and
    known clients; its times are wall clock times, while a monotonic clock is used here. Deleting the file lifts all
    bans, also while the server runs.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.stretched: bytes | None = None
        self._path, self._clock, self._wall_clock = path, clock, wall_clock
        self._gate = Gate(self._load())
        self._is_written = self._path.exists()
        """Whether the file exists, unless a user deletes it."""

    def __repr__(self) -> str:
        return f"GateShell({str(self._path)!r})"

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        """Return the stretched passphrase for this client to prove, or why it may not try."""
        self._look()
        if refused := self._gate.admit(address, client_id, self._clock()):
            return refused
        return self.stretched or Refused(Refusal.NOT_READY, 2)

    def begin(self, address: str, client_id: bytes) -> Refused | float | None:
        """Register the start of a guess; see `Gate.begin`."""
        self._look()
        return self._gate.begin(address, client_id, self._clock())

    def failed(self, address: str, client_id: bytes) -> None:
        """Count a wrong guess and save that."""
        self._look()
        self._gate.failed(address, client_id, self._clock())
        logger.warning("a wrong passphrase or an incomplete login from %s", address)
        self._save()

    def abandoned(self, address: str, client_id: bytes) -> None:
        """Register a login that failed without a guess."""
        self._gate.abandoned(address, client_id)

    def joined(self, address: str, client_id: bytes) -> None:
        """Register a client that proved that it knows the passphrase; save that."""
        self._look()
        self._gate.joined(address, client_id, self._clock())
        self._save()

    def bans(self) -> list[Ban]:
        """Return the addresses that are banned now, the longest first. From any thread."""
        return [] if self._is_deleted() else self._gate.bans(self._clock())

    def lift(self, address: str) -> bool:
        """Lift the ban of an address; return whether it had guessed wrong."""
        lifted = self._gate.lift(address)
        self._save()
        return lifted

    def _is_deleted(self) -> bool:
        return self._is_written and not self._path.exists()

    def _look(self) -> None:
        """Lift all bans if the file was deleted, and write it again, so that it can be deleted again."""
        if self._is_deleted():
            logger.info("%s was deleted: all bans are lifted", self._path)
            self._gate.lift_all()
            self._save()

    def _shift(self) -> float:
        return self._wall_clock() - self._clock()

    def _load(self) -> GateState:
        try:
            return Gate(decode_json(self._path.read_bytes(), GateState)).state(-self._shift())
        except FileNotFoundError:
            return GateState()
        except (OSError, ValueError) as error:
            logger.warning("%s can't be read, all bans are forgotten: %s", self._path, error)
            return GateState()

    def _save(self) -> None:
        try:
            state = self._gate.state(self._shift())
            atomic_write(self._path, msgspec.json.format(msgspec.json.encode(state)) + b"\n", mode=0o600)
            self._is_written = True
        except OSError as error:  # a full disk must not lock out anyone
            self._is_written = self._path.exists()
            logger.warning("%s can't be written, its bans end with this server: %s", self._path, error)
