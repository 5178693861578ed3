"""What a client machine remembers: its id, the servers that it knows, its outbox and its cache. One client a folder.

The folder also has the processes that used it, which tell a restart of this client from a copy of its folder: see
lanfit_server.clusters.same_id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lanfit.durable import write_whole
from lanfit.lock import FolderLock, take_free
from lanfit.wire.messages import MOST_EARLIER
from lanfit.workspace import Workspace

ID_BYTES = 16

log = logging.getLogger("lanfit.client")


@dataclass
class ClientState:
    """A locked folder in `client/state/`: a second client in the same workspace gets the next one."""

    lock: FolderLock
    client_id: bytes
    process: bytes
    """This process: random, and new each time that the folder is taken."""
    earlier: tuple[bytes, ...]
    """The processes that had this folder before, the newest first."""

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
        processes = lock.folder / "processes"
        process, earlier = os.urandom(ID_BYTES), _read_processes(processes)
        with contextlib.suppress(OSError):  # a full disk; without the line the next start is asked about more slowly
            write_whole(processes, "".join(f"{each.hex()}\n" for each in (process, *earlier)))
        return cls(lock, client_id, process, earlier)

    def choose_another_id(self) -> None:
        """Be another client from now on, for good: another machine has this id. What the outbox holds stays."""
        self.client_id = os.urandom(ID_BYTES)
        try:
            write_whole(self.lock.folder / "client_id", self.client_id.hex())
        except OSError as error:
            log.warning("the new id of this client can't be kept, its next start has to choose again: %s", error)

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
    def data_consents(self) -> Path:
        """The servers that may train on the own data; shared likewise."""
        return self.lock.folder.parent / "data_consents"

    @property
    def known_servers(self) -> Path:
        """Shared by all clients of a workspace: what one knows of a server, the others know, too."""
        return self.lock.folder.parent / "known_servers"


def _read_processes(path: Path) -> tuple[bytes, ...]:
    """The processes in the file, as many as a server wants to know of; none if it is missing or damaged."""
    try:
        lines = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return ()
    whole = (line for line in lines if re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", line))
    return tuple(bytes.fromhex(line) for line in whole)[:MOST_EARLIER]
