"""Distributed against one machine: the second run, of the same model on the same rows with the same budget.

It is a run like any other: its one client gets the rows of all shards; the seed, and so the test rows, are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from lanfit.errors import lanfit_error
from lanfit.net.addresses import is_loopback
from lanfit.settings.job import DEFAULTS, Job
from lanfit.settings.rounds import SERVER_OPTIMIZERS
from lanfit_server.clusters.roster import Member
from lanfit_server.methods.registry import METHODS

#: The choice of this machine as the one machine: a client is started on it.
HERE = "here"
#: The name of the client that is started here.
LOCAL = "local-1"
#: Settings of how several clients work together.
_OF_SEVERAL = (
    "deal",
    "alpha",
    "classes_per_client",
    "parts_of",
    "parts",
    "merge",
    "rounds",
    "local_steps",
    "strategy",
    "aggregation",
    *SERVER_OPTIMIZERS,
    "trim",
    "byzantine",
    "krum_keep",
    "share",
    "min_clients",
    "start_after",
    "round_deadline",
    "norm_limit",
    "absent",
    "changes",
)


def described(clients: Sequence[str]) -> list[dict[str, str]]:
    """Return the machines to choose from, for JSON."""
    return [{"value": HERE, "label": "this machine"}, *({"value": name, "label": name} for name in clients)]


def check_pair(job: Job) -> None:
    """Check that one machine can train what this job trains.

    Raises:
        InputError: the rows are on the clients.
    """
    if job.data == "client":
        raise lanfit_error("one-machine.client-data")


def check_machine(machine: object, clients: Sequence[str]) -> str:
    """Return the machine that was chosen: `HERE`, or a client that is connected.

    Raises:
        InputError: there is no such client.
    """
    if machine in (None, "", HERE):
        return HERE
    if not isinstance(machine, str) or machine not in clients:
        raise lanfit_error("one-machine.no-client", client=str(machine)[:80])
    return machine


def job_of(job: Job, machine: str, *, starts_clients: bool = True) -> Job:
    """Return the job of the run on one machine.

    Args:
        machine: `HERE`, or a client.
        starts_clients: whether a client can be started here; else any client is the one machine.

    Raises:
        InputError: one machine can't train that.
    """
    check_pair(job)
    is_started = starts_clients and machine == HERE
    values: dict[str, Any] = {key: getattr(DEFAULTS, key) for key in _OF_SEVERAL}
    values |= METHODS[job.method].alone(job)
    threads = job.threads or os.cpu_count() or 1
    values |= {"clients": 1, "local": int(is_started), "threads": threads if is_started else job.threads}
    return msgspec.structs.replace(job, **values)


def takes(machine: str, addresses: Collection[str] | None) -> Callable[[Member], bool] | None:
    """Return whether a client may train it, as a function; None if all may.

    The client that is started here is known by the name it asked for: it has another one if its `client/state/` is that
    of a client with another name.

    Args:
        addresses: of the server, if a client can be started here.
    """
    if machine != HERE:
        return lambda member: member.name == machine
    if addresses is None:
        return None
    own = {*addresses}
    return lambda member: member.asked == LOCAL and (is_loopback(member.address) or member.address in own)
