"""The identity of this server: the key belongs to the machine, the ids to the workspace.

A client recognizes a server by the fingerprint of its certificate, at an address. Servers in several folders share one
machine and one address, so they share one key: it is in the user's state folder (lanfit_server.start.machine).

Ids belong to the workspace. The server id identifies the owner of a result in a client's outbox, and results belong to
runs, which are in the workspace: if two folders had the same id, a client would offer a result of one to the other,
which has no such run, and drop it. Only the server with the id that started a run can resume it, and the saved
stretched passphrase uses its salt: so a workspace that moves to another machine keeps its unfinished runs.

A workspace of an earlier version has its key in `server/state/identity.pem`, with the ids. The first one on a machine
provides the machine's key, so that its clients notice nothing. If the machine already has another key, that one wins,
because other clients know it; but not while the workspace has an unfinished run, whose clients reconnect by themselves
and would reject another fingerprint.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from lanfit.core.durable import replace, write_new
from lanfit.errors import lanfit_error
from lanfit.net.tls import IDENTITY_FILE, Identity, ids_text, new_ids, new_key, server_context
from lanfit_server.start.machine import STATE_VARIABLE, machine_state

IDS_FILE = "server_id"
#: The name of a key that was replaced by the machine's.
REPLACED_FILE = "identity.replaced.pem"


def load_identity(state: Path, is_resumable: Callable[[], bool]) -> tuple[Identity, str]:
    """Return the identity for a workspace with this state folder, and a note for the operator or "".

    Anything missing is created; several servers may do so at the same time.

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
            f"this server's identity stays in this workspace because the one of this machine can't be stored "
            f"({failure}). Clients regard servers of other workspaces as different servers. Set {STATE_VARIABLE} to a "
            f"folder for it"
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
                "this workspace has its own key from an earlier version of lanfit and keeps it until its unfinished "
                "run is over, because the clients of that run know it; then it uses the key of this machine"
            )
        with contextlib.suppress(FileNotFoundError):  # another server of this workspace did it
            replace(own, state / REPLACED_FILE)
    except OSError as error:
        raise lanfit_error("identity.unusable", file=ids, reason=error) from error
    return identity, (
        "this workspace had its own key from an earlier version of lanfit and now uses the key of this machine. A "
        "client that knows the old fingerprint needs the new one from the command above"
    )


def _of_workspace(own: Path, ids: Path) -> Identity:
    """Return a new identity of the workspace alone; with its ids, if it has some."""
    try:
        write_new(own, new_key() + (ids.read_text("ascii") if ids.exists() else new_ids()), mode=0o600)
    except OSError as error:
        raise lanfit_error("identity.unusable", file=own, reason=error) from error
    return Identity.read(own, own)


def _key_of_machine(earlier: Identity | None) -> tuple[Path | None, str]:
    """Return the file with the machine's key, created if there is none; else None, and why it can't be created."""
    try:
        path = machine_state() / IDENTITY_FILE
        if not path.exists():
            write_new(path, new_key() if earlier is None else earlier.path.read_text("ascii"), mode=0o600)
    except OSError as error:
        if named := os.environ.get(STATE_VARIABLE):
            raise lanfit_error("identity.unusable", file=Path(named) / IDENTITY_FILE, reason=error) from error
        return None, str(error)
    return path, ""
