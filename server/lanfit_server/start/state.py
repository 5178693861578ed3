"""The data in server/state/ besides the identity: the stretched passphrases of unfinished runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lanfit.core.durable import atomic_write

#: The length of what `lanfit.wire.auth.stretch` returns.
_BYTES = 32


class StoredPassphrase:
    """Stretched passphrases, never the passphrase itself: one for each unfinished run."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "passphrases"
        self._of_all = state / "stretched_passphrase"
        """The one of an earlier version, which had one for all runs."""

    def _path(self, run: str) -> Path:
        own = self._folder / run
        return self._of_all if not own.exists() and self._of_all.exists() else own

    def load(self, run: str) -> bytes | None:
        """Return the one that is saved for a run, if it is intact."""
        try:
            stretched, _, check = self._path(run).read_text("ascii").partition(" ")
            found = bytes.fromhex(stretched)
        except (FileNotFoundError, ValueError):
            return None
        # An earlier version wrote it without a checksum.
        return found if len(found) == _BYTES and check.strip() in ("", _check(found)) else None

    def is_damaged(self, run: str) -> bool:
        """Return whether there is one that can't be used."""
        return self._path(run).exists() and self.load(run) is None

    def runs(self) -> list[str]:
        """Return the runs with a saved one, the newest last."""
        return sorted(path.name for path in self._folder.glob("*"))

    def keep(self, run: str, stretched: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic_write(self._folder / run, f"{stretched.hex()} {_check(stretched)}", mode=0o600)

    def forget(self, run: str) -> None:
        (self._folder / run).unlink(missing_ok=True)

    def forget_of_all(self) -> None:
        """Remove the one of an earlier version, which no run needs any more."""
        self._of_all.unlink(missing_ok=True)


def _check(stretched: bytes) -> str:
    """Return a few characters that detect damage, too few to reveal anything."""
    return hashlib.sha256(b"lanfit kept passphrase" + stretched).hexdigest()[:8]
