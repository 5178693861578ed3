"""What the server remembers in server/state/ beside its identity: the stretched passphrase of unfinished runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lanfit.durable import write_whole

#: Of what `lanfit.wire.auth.stretch` returns.
_BYTES = 32


class KeptPassphrase:
    """The stretched passphrase, never the passphrase itself; kept while a run is unfinished."""

    def __init__(self, state: Path) -> None:
        self._path = state / "stretched_passphrase"

    def load(self) -> bytes | None:
        """The kept one, if there is any, whole."""
        try:
            stretched, _, check = self._path.read_text("ascii").partition(" ")
            found = bytes.fromhex(stretched)
        except (FileNotFoundError, ValueError):
            return None
        # Without its check an earlier version wrote it.
        return found if len(found) == _BYTES and check.strip() in ("", _check(found)) else None

    @property
    def is_damaged(self) -> bool:
        """Whether there is one that can't be used."""
        return self._path.exists() and self.load() is None

    def keep(self, stretched: bytes) -> None:
        write_whole(self._path, f"{stretched.hex()} {_check(stretched)}", mode=0o600)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


def _check(stretched: bytes) -> str:
    """Tells damage from a passphrase; a few characters, so that nothing is learned of it."""
    return hashlib.sha256(b"lanfit kept passphrase" + stretched).hexdigest()[:8]
