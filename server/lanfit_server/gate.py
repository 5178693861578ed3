"""Who may try to log in: counts guesses, bans addresses for a while, and keeps that over a restart.

`Gate` decides (events and times in, decisions out); `GateKeeper` is the thin shell that has a clock, a file and the
stretched passphrase. Neither checks a passphrase: that is the login itself (lanfit.wire.auth).

A guess is counted when it begins, and not when it turns out wrong: otherwise an address has as many guesses as it can
bring to that point before the first one is answered. So an address has at most as many guesses under way as it may
still get wrong; more wait until one of those has ended. All addresses together have a limit, too. It makes those wait
that have guessed wrong; somebody who has not is slowed down and never refused, so that nobody can keep newcomers out by
guessing from elsewhere, and a client that joined before does not notice anything.
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

from lanfit.durable import write_whole
from lanfit.wire.auth import Refusal, Refused

GUESSES = 3
"""Wrong guesses from one address that get it banned."""
FIRST_BAN = 30.0
LONGEST_BAN = 24 * 3600.0
GUESSES_A_MINUTE = 30
"""Wrong guesses from all addresses together, but for those of this machine. With more, an address that has guessed
wrong is refused, and any other has one guess at a time, answered slowly."""
SLOW_SECONDS = 2.0
"""How long the answer to a slow guess is held: nothing for a person, and far less than a client waits for an answer."""
MOST_SUSPECTS = 1000
"""Addresses that are remembered: memory, and a file that is written with each wrong guess, must not grow with them."""
LOOPBACK = "loopback"
"""What all addresses of this machine itself are to the gate: they are slowed down, and never banned."""
GUESSES_OF_A_KNOWN_ID = 10
"""Wrong guesses since its last success that a client which joined before has, before it is treated as a stranger."""

log = logging.getLogger(__name__)
_Key = TypeVar("_Key", str, bytes)


class Suspect(msgspec.Struct, forbid_unknown_fields=True):
    """An address that guessed wrong. Times are seconds of whatever clock the caller uses."""

    address: str
    guesses: int = 0
    """Since the last ban, or the last success."""
    bans: int = 0
    until: float = 0.0
    """The end of the last ban."""
    last: float = 0.0


class Ban(msgspec.Struct, frozen=True):
    """An address that is refused now."""

    address: str
    seconds: float
    """How long it still lasts."""


class GateState(msgspec.Struct, forbid_unknown_fields=True):
    """What outlives a restart."""

    suspects: list[Suspect] = []
    clients: dict[str, int] = {}
    """Clients that joined before: id in hex, and wrong guesses since the last success."""


class Gate:
    """The decisions. `now` is in seconds and never goes back."""

    def __init__(self, state: GateState | None = None) -> None:
        state = state or GateState()
        self._suspects = {suspect.address: suspect for suspect in state.suspects}
        self._clients = dict(state.clients)
        self._recent: deque[float] = deque()
        self._begun: Counter[str] = Counter()
        """Guesses under way by address."""
        self._begun_by: Counter[bytes] = Counter()
        """The same by the id of the client."""

    def admit(self, address: str, client_id: bytes, now: float) -> Refused | None:
        """Return why this client may not even try now, or None when it may."""
        return None if self._is_known(client_id) else self._refusal(subject(address), now)

    def begin(self, address: str, client_id: bytes, now: float) -> Refused | float | None:
        """A guess is about to begin: return for how many seconds its answer is to be held, mostly 0.

        It counts from now on, until `joined`, `failed` or `abandoned`. Refused: it may not begin. None: it has to wait
        until another one has ended.
        """
        where, seconds = subject(address), 0.0
        if not self._is_known(client_id):
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
        """A guess has ended, and was wrong, or nobody waited for the answer."""
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
            # The exponent is bounded only so that the number stays one.
            suspect.until = now + min(FIRST_BAN * 2 ** min(suspect.bans, 30), LONGEST_BAN)
            suspect.bans += 1

    def abandoned(self, address: str, client_id: bytes) -> None:
        """A guess has ended that nobody is to blame for: this server did not wait for its end."""
        _less(self._begun, subject(address))
        _less(self._begun_by, client_id)

    def joined(self, address: str, client_id: bytes, now: float) -> None:
        """This client knows the passphrase: its address starts anew, and it is known from now on."""
        self.abandoned(address, client_id)
        self._suspects.pop(subject(address), None)
        self._clients[client_id.hex()] = 0

    def bans(self, now: float) -> list[Ban]:
        """The addresses that are refused now, the longest first."""
        # `list`: another thread may show them.
        bans = [Ban(one.address, one.until - now) for one in list(self._suspects.values()) if one.until > now]
        return sorted(bans, key=lambda ban: -ban.seconds)

    def lift(self, address: str) -> bool:
        """Forget what an address did; return whether there was anything."""
        return self._suspects.pop(subject(address), None) is not None

    def state(self, shift: float = 0.0) -> GateState:
        """What is to be kept, with `shift` added to all times: to another clock."""
        suspects = [
            Suspect(one.address, one.guesses, one.bans, one.until + shift, one.last + shift)
            for one in self._suspects.values()
        ]
        return GateState(suspects, dict(self._clients))

    def lift_all(self) -> None:
        """Forget what all addresses did."""
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

    def _is_known(self, client_id: bytes) -> bool:
        # A client's id is no secret to a fake server that it once tried: so it is not good for endless guesses.
        wrong = self._clients.get(client_id.hex())
        return wrong is not None and wrong + self._begun_by[client_id] < GUESSES_OF_A_KNOWN_ID

    def _recent_guesses(self, now: float) -> int:
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        return len(self._recent)

    def _forget(self, now: float) -> None:
        """Drop who has done nothing for a day after its ban: memory must not grow with the years."""
        for address, one in list(self._suspects.items()):
            if max(one.until, one.last) < now - LONGEST_BAN:
                del self._suspects[address]
        if len(self._suspects) >= MOST_SUSPECTS:
            del self._suspects[min(self._suspects, key=lambda address: self._suspects[address].last)]


def subject(address: str) -> str:
    """What is banned for an address: itself, or for IPv6 its /64, which one machine has all of; idempotent."""
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
    """One less; what is 0 takes no memory."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


class GateKeeper:
    """The gate of a running server: what `lanfit.net.listen` asks.

    `stretched` is the stretched passphrase, None until the operator has chosen one. `path` is where bans and known
    clients are kept; in the file times are those of the wall clock, in here they are of a clock that never jumps.
    Whoever deletes the file lifts all bans, also while the server runs.
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
        """Whether the file is there, unless somebody deletes it."""

    def __repr__(self) -> str:
        return f"GateKeeper({str(self._path)!r})"

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        """Return the stretched passphrase for this client to prove, or why it may not even try."""
        self._look()
        if refused := self._gate.admit(address, client_id, self._clock()):
            return refused
        return self.stretched or Refused(Refusal.NOT_READY, 2)

    def begin(self, address: str, client_id: bytes) -> Refused | float | None:
        """Begin a guess; see `Gate.begin`."""
        self._look()
        return self._gate.begin(address, client_id, self._clock())

    def failed(self, address: str, client_id: bytes) -> None:
        """Count a wrong guess and keep that."""
        self._look()
        self._gate.failed(address, client_id, self._clock())
        log.warning("a wrong passphrase, or half a login, came from %s", address)
        self._save()

    def abandoned(self, address: str, client_id: bytes) -> None:
        """A guess has ended that nobody is to blame for."""
        self._gate.abandoned(address, client_id)

    def joined(self, address: str, client_id: bytes) -> None:
        """A client proved that it knows the passphrase; keep that."""
        self._look()
        self._gate.joined(address, client_id, self._clock())
        self._save()

    def bans(self) -> list[Ban]:
        """The addresses that are refused now, the longest first. From any thread."""
        return [] if self._is_deleted() else self._gate.bans(self._clock())

    def lift(self, address: str) -> bool:
        """Let an address try again; return whether it was one that had guessed wrong."""
        lifted = self._gate.lift(address)
        self._save()
        return lifted

    def _is_deleted(self) -> bool:
        return self._is_written and not self._path.exists()

    def _look(self) -> None:
        """Lift all bans if the file was deleted, and write it again, so that it can be deleted again."""
        if self._is_deleted():
            log.info("%s was deleted: all bans are lifted", self._path)
            self._gate.lift_all()
            self._save()

    def _shift(self) -> float:
        return self._wall_clock() - self._clock()

    def _load(self) -> GateState:
        try:
            return Gate(msgspec.json.decode(self._path.read_bytes(), type=GateState)).state(-self._shift())
        except FileNotFoundError:
            return GateState()
        except (OSError, msgspec.DecodeError, ValueError) as error:
            log.warning("%s can't be read, all bans are forgotten: %s", self._path, error)
            return GateState()

    def _save(self) -> None:
        try:
            state = self._gate.state(self._shift())
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(state)) + b"\n", mode=0o600)
            self._is_written = True
        except OSError as error:  # a full disk must keep nobody out
            self._is_written = self._path.exists()
            log.warning("%s can't be written, its bans end with this server: %s", self._path, error)
