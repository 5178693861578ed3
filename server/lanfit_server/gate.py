"""Who may try to log in: counts wrong guesses, bans addresses for a while, and keeps that over a restart.

`Gate` decides (events and times in, decisions out); `GateKeeper` is the thin shell that has a clock, a file and the
stretched passphrase. Neither checks a passphrase: that is the login itself (lanfit.wire.auth).
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from lanfit.durable import write_whole
from lanfit.wire.auth import Refusal, Refused

GUESSES = 3
"""Wrong guesses from one address that get it banned."""
FIRST_BAN = 30.0
LONGEST_BAN = 24 * 3600.0
GUESSES_A_MINUTE = 30
"""Wrong guesses from all addresses together."""
GUESSES_OF_A_KNOWN_ID = 10
"""Wrong guesses since its last success that a client which joined before has, before it is treated as a stranger."""

log = logging.getLogger(__name__)


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

    def admit(self, address: str, client_id: bytes, now: float) -> Refused | None:
        """Return why this client may not even try now, or None when it may."""
        if self._is_exempt(address, client_id):
            return None
        suspect = self._suspects.get(subject(address))
        wait = suspect.until - now if suspect else 0.0
        if wait <= 0 and self._recent_guesses(now) >= GUESSES_A_MINUTE:
            wait = self._recent[0] + 60 - now
        return Refused(Refusal.BANNED, int(wait) + 1) if wait > 0 else None

    def failed(self, address: str, client_id: bytes, now: float) -> None:
        """Count a wrong guess."""
        known = self._clients.get(client_id.hex())
        if known is not None:
            self._clients[client_id.hex()] = known + 1
        self._forget(now)
        self._recent_guesses(now)
        self._recent.append(now)
        suspect = self._suspects.setdefault(subject(address), Suspect(subject(address)))
        suspect.guesses += 1
        suspect.last = now
        if suspect.guesses >= GUESSES:
            suspect.guesses = 0
            # The exponent is bounded only so that the number stays one.
            suspect.until = now + min(FIRST_BAN * 2 ** min(suspect.bans, 30), LONGEST_BAN)
            suspect.bans += 1

    def joined(self, address: str, client_id: bytes, now: float) -> None:
        """This client knows the passphrase: its address starts anew, and it is known from now on."""
        self._suspects.pop(subject(address), None)
        self._clients[client_id.hex()] = 0

    def bans(self, now: float) -> list[Ban]:
        """The addresses that are refused now, the longest first."""
        bans = [Ban(one.address, one.until - now) for one in self._suspects.values() if one.until > now]
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

    def _is_exempt(self, address: str, client_id: bytes) -> bool:
        # A client's id is no secret to a fake server that it once tried: so it is not good for endless guesses.
        wrong = self._clients.get(client_id.hex())
        return ipaddress.ip_address(address).is_loopback or (wrong is not None and wrong < GUESSES_OF_A_KNOWN_ID)

    def _recent_guesses(self, now: float) -> int:
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        return len(self._recent)

    def _forget(self, now: float) -> None:
        """Drop who has done nothing for a day after its ban: memory must not grow with the years."""
        for address, one in list(self._suspects.items()):
            if max(one.until, one.last) < now - LONGEST_BAN:
                del self._suspects[address]


def subject(address: str) -> str:
    """What is banned for an address: itself, or for IPv6 its /64, which one machine has all of; idempotent."""
    if "/" in address:
        return address
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class GateKeeper:
    """The gate of a running server: what `lanfit.net.listen` asks.

    `stretched` is the stretched passphrase, None until the operator has chosen one. `path` is where bans and known
    clients are kept; in the file times are those of the wall clock, in here they are of a clock that never jumps.
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

    def __repr__(self) -> str:
        return f"GateKeeper({str(self._path)!r})"

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        """Return the stretched passphrase for this client to prove, or why it may not even try."""
        if refused := self._gate.admit(address, client_id, self._clock()):
            return refused
        return self.stretched or Refused(Refusal.NOT_READY, 2)

    def failed(self, address: str, client_id: bytes) -> None:
        """Count a wrong guess and keep that."""
        self._gate.failed(address, client_id, self._clock())
        log.warning("a wrong passphrase came from %s", address)
        self._save()

    def joined(self, address: str, client_id: bytes) -> None:
        """A client proved that it knows the passphrase; keep that."""
        self._gate.joined(address, client_id, self._clock())
        self._save()

    def bans(self) -> list[Ban]:
        """The addresses that are refused now, the longest first."""
        return self._gate.bans(self._clock())

    def lift(self, address: str) -> bool:
        """Let an address try again; return whether it was one that had guessed wrong."""
        lifted = self._gate.lift(address)
        self._save()
        return lifted

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
        except OSError as error:  # a full disk must keep nobody out
            log.warning("%s can't be written, its bans end with this server: %s", self._path, error)
