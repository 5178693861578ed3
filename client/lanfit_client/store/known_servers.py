"""The servers that this machine has joined: one with a different fingerprint is rejected before anything is sent.

A JSON file that users may edit. The caller decides whether to ask the user about a changed fingerprint.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lanfit.core.decoding import decode_json
from lanfit.core.durable import atomic_write
from lanfit.errors import RefusedError, lanfit_error, texts
from lanfit.net.tls import LEAST_DIGITS, format_fingerprint, grouped, has_fingerprint, parse_fingerprint
from lanfit_client.connect import ServerIdentity

#: The maximum number of ids of workspaces remembered for an address.
MOST_OTHERS = 20


class KnownServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A server in the file."""

    server_id: str
    """Hex."""
    fingerprint: str
    """Hex: all of it; a user who edits the file may shorten it to the digits that servers show."""

    others: tuple[str, ...] = ()
    """The ids of other workspaces whose server had this key here, newest first: their results may still be waiting."""


class FingerprintChanged(RefusedError):
    """A different fingerprint is known for this address."""

    def __init__(self, address: str, known: str, shown: bytes, path: Path) -> None:
        shows, knows = format_fingerprint(shown), grouped(known[:LEAST_DIGITS])
        super().__init__(*texts("join.changed-fingerprint", address=address, shown=shows, known=knows, file=path))
        self.address, self.known, self.shown, self.path = address, known, shown, path


class KnownServers:
    """The known servers in a file; read each time, so that an edit takes effect at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, address: str, fingerprint: bytes) -> None:
        """Raise if this address is known with a different fingerprint; used as `known` in `lanfit_client.connect`.

        Raises:
            FingerprintChanged: it is.
            InputError: the file can't be read.
        """
        known = self.fingerprint(address)
        if known is not None and not has_fingerprint(fingerprint, known):
            raise FingerprintChanged(address, known, fingerprint, self.path)

    def fingerprint(self, address: str) -> str | None:
        """Return the digits of the fingerprint that is known for `host:port`, if any."""
        found = self._read().get(address)
        return parse_fingerprint(found.fingerprint) if found else None

    def remember(self, address: str, server: ServerIdentity) -> bool:
        """Remember a server after a join; return whether it replaces one with a different fingerprint."""
        servers = self._read()
        earlier = servers.get(address)
        is_other = earlier is not None and not has_fingerprint(
            server.fingerprint, parse_fingerprint(earlier.fingerprint)
        )
        ids = () if earlier is None or is_other else (earlier.server_id, *earlier.others)
        others = tuple(each for each in ids if each != server.server_id.hex())[:MOST_OTHERS]
        entry = KnownServer(server.server_id.hex(), server.fingerprint.hex(), others)
        if earlier != entry:
            self._write({**servers, address: entry})
        return is_other

    def address(self, server_id: bytes) -> str | None:
        """Return where the server with this id was joined, if it was.

        Raises:
            InputError: the file can't be read.
        """
        wanted = server_id.hex()
        servers = self._read().items()
        return next((address for address, server in servers if wanted in (server.server_id, *server.others)), None)

    def digits_of(self, server_id: bytes) -> str | None:
        """Return the digits of the fingerprint of the server with this id; None if unknown, or ambiguous.

        Raises:
            InputError: the file can't be read.
        """
        wanted = server_id.hex()
        found = {
            parse_fingerprint(server.fingerprint)
            for server in self._read().values()
            if wanted in (server.server_id, *server.others)
        }
        return found.pop() if len(found) == 1 else None

    def forget(self, address: str) -> None:
        """Trust the next fingerprint of this address."""
        servers = self._read()
        if servers.pop(address, None):
            self._write(servers)

    def _read(self) -> dict[str, KnownServer]:
        try:
            return decode_json(self.path.read_bytes(), dict[str, KnownServer])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise lanfit_error("known-servers.unreadable", file=self.path, reason=error) from error

    def _write(self, servers: dict[str, KnownServer]) -> None:
        try:
            atomic_write(self.path, msgspec.json.format(msgspec.json.encode(servers), indent=2) + b"\n", mode=0o600)
        except OSError as error:
            raise lanfit_error("known-servers.unwritable", file=self.path, reason=error) from error
