"""Who this server is: the key belongs to the machine, the ids to the workspace.

A client knows a server by the fingerprint of its certificate, at an address. Whoever starts servers in several folders
has one machine and one address, so all of them have one key: it lies in the user's state folder (lanfit.machine).

Ids stay with the workspace. The server id says whose a result is that waits in a client's outbox, and results belong
to runs, which lie in the workspace: if two folders had one id, a client would offer a result of one to the other, be
told that there is no such run, and drop it. A run is resumed by who has the id that began it, and the kept stretched
passphrase is of the salt: so a workspace that moves to another machine takes its unfinished runs along.

A workspace of before has its key in `server/state/identity.pem`, with the ids. The first one that a machine sees gives
the machine its key, so that its clients notice nothing. When the machine has another key already, the machine's wins,
as it is what other clients know; but not while the workspace has an unfinished run, whose clients come back by
themselves and would refuse another fingerprint.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from lanfit.durable import replace, write_new
from lanfit.machine import STATE_VARIABLE, machine_state
from lanfit.mistakes import mistake
from lanfit.net.tls import IDENTITY_FILE, Identity, ids_text, new_ids, new_key, server_context

IDS_FILE = "server_id"
#: The name of a key that the machine's has replaced.
REPLACED_FILE = "identity.replaced.pem"


def load_identity(state: Path, is_resumable: Callable[[], bool]) -> tuple[Identity, str]:
    """Return the identity for a workspace with this state folder, and a note for the operator or "".

    What is missing is made; several servers may do so at a time.

    Args:
        is_resumable: whether the workspace has an unfinished run.

    Raises:
        InputError: a file is damaged, or can't be read or written.
    """
    own, ids = state / IDENTITY_FILE, state / IDS_FILE
    earlier = Identity.read(own, own) if own.exists() else None
    if earlier is not None:
        server_context(earlier)  # a damaged key must not become the machine's
    shared, failure = _key_of_machine(earlier)
    if shared is None:
        return earlier or _of_workspace(own, ids), (
            f"this server's identity stays in this workspace, as that of this machine has no place ({failure}). "
            f"Clients take servers of other workspaces for other servers. {STATE_VARIABLE} names a folder for it"
        )
    try:
        if earlier is None:
            write_new(ids, new_ids(), mode=0o600)
            return Identity.read(shared, ids), ""
        write_new(ids, ids_text(earlier.server_id, earlier.salt), mode=0o600)
        identity = Identity.read(shared, ids)
        if identity.fingerprint == earlier.fingerprint:
            own.unlink(missing_ok=True)
            return identity, ""
        if is_resumable():
            return earlier, (
                "this workspace has a key of its own from an earlier lanfit, and keeps it until its unfinished run is "
                "over, as the clients of that run know it; then it takes that of this machine"
            )
        with contextlib.suppress(FileNotFoundError):  # another server of this workspace did it
            replace(own, state / REPLACED_FILE)
    except OSError as error:
        raise mistake("identity.unusable", file=ids, reason=error) from error
    return identity, (
        "this workspace had a key of its own from an earlier lanfit; from now on it has that of this machine. A client "
        "that knows the old fingerprint takes the new one from the line above"
    )


def _of_workspace(own: Path, ids: Path) -> Identity:
    """A new identity that is the workspace's alone; with its ids, if it has some."""
    try:
        write_new(own, new_key() + (ids.read_text("ascii") if ids.exists() else new_ids()), mode=0o600)
    except OSError as error:
        raise mistake("identity.unusable", file=own, reason=error) from error
    return Identity.read(own, own)


def _key_of_machine(earlier: Identity | None) -> tuple[Path | None, str]:
    """The file with the machine's key, made if there is none; else None, and why it can't be made."""
    try:
        path = machine_state() / IDENTITY_FILE
        if not path.exists():
            write_new(path, new_key() if earlier is None else earlier.path.read_text("ascii"), mode=0o600)
    except OSError as error:
        if named := os.environ.get(STATE_VARIABLE):
            raise mistake("identity.unusable", file=Path(named) / IDENTITY_FILE, reason=error) from error
        return None, str(error)
    return path, ""
