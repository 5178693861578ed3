"""What the server remembers in server/state/ beside its identity: the stretched passphrase of unfinished runs."""

from __future__ import annotations

from pathlib import Path

from lanfit.durable import write_whole


class KeptPassphrase:
    """The stretched passphrase, never the passphrase itself; kept while a run is unfinished."""

    def __init__(self, state: Path) -> None:
        self._path = state / "stretched_passphrase"

    def load(self) -> bytes | None:
        """The kept one, if there is any."""
        try:
            return bytes.fromhex(self._path.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def keep(self, stretched: bytes) -> None:
        write_whole(self._path, stretched.hex(), mode=0o600)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
