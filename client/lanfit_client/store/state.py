"""The state of a client machine: its id, the known servers, its outbox and its cache. One folder per client.

The folder also records the processes that used it, which distinguishes a restart of this client from a copy of its
folder: see lanfit_server.clusters.same_id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lanfit.core.durable import atomic_write
from lanfit.core.lock import FolderLock, take_free
from lanfit.core.workspace import Workspace
from lanfit.wire.messages import MOST_EARLIER

ID_BYTES = 16

logger = logging.getLogger("lanfit.client")


@dataclass
class ClientState:
    """A locked folder in `client/state/`: a second client in the same workspace gets the next one."""

    lock: FolderLock
    client_id: bytes
    process: bytes
    """This process: random, and new each time that the folder is locked."""
    earlier: tuple[bytes, ...]
    """The processes that had this folder before, newest first."""

    @classmethod
    def take(cls, workspace: Workspace) -> ClientState:
        """Lock the first free folder, and create its missing files."""
        lock = take_free(workspace.client_state)
        path = lock.folder / "client_id"
        try:
            client_id = bytes.fromhex(path.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            client_id = b""
        if len(client_id) != ID_BYTES:
            client_id = os.urandom(ID_BYTES)
            atomic_write(path, client_id.hex())
        processes = lock.folder / "processes"
        process, earlier = os.urandom(ID_BYTES), _read_processes(processes)
        with contextlib.suppress(OSError):  # a full disk; without the line the next start takes longer to be recognized
            atomic_write(processes, "".join(f"{each.hex()}\n" for each in (process, *earlier)))
        return cls(lock, client_id, process, earlier)

    def choose_another_id(self) -> None:
        """Use a new id permanently: another machine has the old one. The contents of the outbox stay."""
        self.client_id = os.urandom(ID_BYTES)
        try:
            atomic_write(self.lock.folder / "client_id", self.client_id.hex())
        except OSError as error:
            logger.warning("the new id of this client can't be saved, so its next start chooses another one: %s", error)

    @property
    def name(self) -> str | None:
        """The name that was last entered."""
        try:
            return (self.lock.folder / "name").read_text("utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def remember_name(self, name: str) -> None:
        """Save the name for the next time."""
        atomic_write(self.lock.folder / "name", name)

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
    def data_consents(self) -> Path:
        """The servers that may train on the client's own data; shared likewise."""
        return self.lock.folder.parent / "data_consents"

    @property
    def known_servers(self) -> Path:
        """Shared by all clients of a workspace: servers known to one are known to the others."""
        return self.lock.folder.parent / "known_servers"


def _read_processes(path: Path) -> tuple[bytes, ...]:
    """Return the processes in the file, as many as a server wants; none if it is missing or damaged."""
    try:
        lines = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return ()
    complete = (line for line in lines if re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", line))
    return tuple(bytes.fromhex(line) for line in complete)[:MOST_EARLIER]
