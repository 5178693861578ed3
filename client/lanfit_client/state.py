"""What a client machine remembers: its id, the servers that it knows, its outbox and its cache. One client a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lanfit.durable import write_whole
from lanfit.lock import FolderLock, take_free
from lanfit.workspace import Workspace

ID_BYTES = 16


@dataclass(frozen=True)
class ClientState:
    """A locked folder in `client/state/`: a second client in the same workspace gets the next one."""

    lock: FolderLock
    client_id: bytes

    @classmethod
    def take(cls, workspace: Workspace) -> ClientState:
        """Lock the first free folder, and make what is missing in it."""
        lock = take_free(workspace.client_state)
        path = lock.folder / "client_id"
        try:
            client_id = bytes.fromhex(path.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            client_id = b""
        if len(client_id) != ID_BYTES:
            client_id = os.urandom(ID_BYTES)
            write_whole(path, client_id.hex())
        return cls(lock, client_id)

    @property
    def name(self) -> str | None:
        """What the client was called when it was last asked for its name."""
        try:
            return (self.lock.folder / "name").read_text("utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def remember_name(self, name: str) -> None:
        """Be called so the next time, too."""
        write_whole(self.lock.folder / "name", name)

    @property
    def outbox(self) -> Path:
        return self.lock.folder / "outbox"

    @property
    def cache(self) -> Path:
        return self.lock.folder / "cache"

    @property
    def checkpoints(self) -> Path:
        return self.lock.folder / "checkpoints"

    @property
    def known_servers(self) -> Path:
        """Shared by all clients of a workspace: what one knows of a server, the others know, too."""
        return self.lock.folder.parent / "known_servers"
