"""The servers that this machine has joined: one that shows another fingerprint is refused before anything is said.

A JSON file that people may edit. Whether to ask the user about a changed fingerprint is the caller's decision.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lanfit.durable import write_whole
from lanfit.errors import RefusedError
from lanfit.mistakes import mistake, texts
from lanfit.net.connect import ServerIdentity
from lanfit.net.tls import LEAST_DIGITS, format_fingerprint, grouped, has_fingerprint, parse_fingerprint

#: So many ids of workspaces are remembered for an address.
MOST_OTHERS = 20


class KnownServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A server as the file has it."""

    server_id: str
    """Hex."""
    fingerprint: str
    """Hex: all of it; who edits the file may shorten it to the digits that servers show."""

    others: tuple[str, ...] = ()
    """The ids of other workspaces whose server had this key here, the newest first: their results may still wait."""


class FingerprintChanged(RefusedError):
    """Another fingerprint is known for this address."""

    def __init__(self, address: str, known: str, shown: bytes, path: Path) -> None:
        shows, knows = format_fingerprint(shown), grouped(known[:LEAST_DIGITS])
        super().__init__(*texts("join.changed-fingerprint", address=address, shown=shows, known=knows, file=path))
        self.address, self.known, self.shown, self.path = address, known, shown, path


class KnownServers:
    """The pinned servers in a file; read each time it is asked, so that an edit counts at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, address: str, fingerprint: bytes) -> None:
        """Raise when this address is known with another fingerprint; goes as `known` into `lanfit.net.connect`.

        Raises:
            FingerprintChanged: it is.
            InputError: the file can't be read.
        """
        known = self.fingerprint(address)
        if known is not None and not has_fingerprint(fingerprint, known):
            raise FingerprintChanged(address, known, fingerprint, self.path)

    def fingerprint(self, address: str) -> str | None:
        """The digits of the fingerprint that is known for `host:port`, if any."""
        found = self._read().get(address)
        return parse_fingerprint(found.fingerprint) if found else None

    def remember(self, address: str, server: ServerIdentity) -> bool:
        """Pin a server after a join; return whether it takes the place of one with another fingerprint."""
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
        """Where the server with this id was joined, if it was.

        Raises:
            InputError: the file can't be read.
        """
        wanted = server_id.hex()
        servers = self._read().items()
        return next((address for address, server in servers if wanted in (server.server_id, *server.others)), None)

    def digits_of(self, server_id: bytes) -> str | None:
        """The digits of the fingerprint of the server with this id; None if it is not known, or with several.

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
        """Trust whatever this address shows next."""
        servers = self._read()
        if servers.pop(address, None):
            self._write(servers)

    def _read(self) -> dict[str, KnownServer]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=dict[str, KnownServer])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise mistake("known-servers.unreadable", file=self.path, reason=error) from error

    def _write(self, servers: dict[str, KnownServer]) -> None:
        try:
            write_whole(self.path, msgspec.json.format(msgspec.json.encode(servers), indent=2) + b"\n", mode=0o600)
        except OSError as error:
            raise mistake("known-servers.unwritable", file=self.path, reason=error) from error
