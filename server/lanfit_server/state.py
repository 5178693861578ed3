"""What the server remembers in server/state/ beside its identity: the stretched passphrases of unfinished runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lanfit.durable import write_whole

#: Of what `lanfit.wire.auth.stretch` returns.
_BYTES = 32


class KeptPassphrase:
    """Stretched passphrases, never the passphrase itself: one for each run that is unfinished, as each has its own."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "passphrases"
        self._of_all = state / "stretched_passphrase"
        """That of an earlier version, which had one for all runs."""

    def _path(self, run: str) -> Path:
        own = self._folder / run
        return self._of_all if not own.exists() and self._of_all.exists() else own

    def load(self, run: str) -> bytes | None:
        """The one that is kept for a run, if there is any, whole."""
        try:
            stretched, _, check = self._path(run).read_text("ascii").partition(" ")
            found = bytes.fromhex(stretched)
        except (FileNotFoundError, ValueError):
            return None
        # Without its check an earlier version wrote it.
        return found if len(found) == _BYTES and check.strip() in ("", _check(found)) else None

    def is_damaged(self, run: str) -> bool:
        """Whether there is one that can't be used."""
        return self._path(run).exists() and self.load(run) is None

    def runs(self) -> list[str]:
        """The runs that one of their own is kept for, the newest last."""
        return sorted(path.name for path in self._folder.glob("*"))

    def keep(self, run: str, stretched: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._folder / run, f"{stretched.hex()} {_check(stretched)}", mode=0o600)

    def forget(self, run: str) -> None:
        (self._folder / run).unlink(missing_ok=True)

    def forget_of_all(self) -> None:
        """No run needs that of an earlier version any more."""
        self._of_all.unlink(missing_ok=True)


def _check(stretched: bytes) -> str:
    """Tells damage from a passphrase; a few characters, so that nothing is learned of it."""
    return hashlib.sha256(b"lanfit kept passphrase" + stretched).hexdigest()[:8]
