"""What the page shows of one client. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lanfit.core.text import pluralize
from lanfit_server.clusters.roster import Member
from lanfit_server.ui.live_table import Facts

#: The page's word for each state of a client.
STATES: Mapping[str, str] = {
    "joined": "idle",
    "waiting": "waiting",
    "preparing": "receiving",
    "receiving": "receiving",
    "training": "training",
    "sending": "sending",
    "scoring": "evaluating",
    "checking": "evaluating",
    "paused": "waiting",
    "no room": "waiting",
    "lost": "lost",
    "left": "lost",
}


def tile_of(
    member: Member,
    facts: Facts,
    reasons: Mapping[str, str],
    rows: Mapping[str, int],
    metrics: Mapping[str, Mapping[str, float]],
    *,
    is_running: bool,
    is_waiting: bool,
) -> dict[str, Any]:
    """Return the tile of a client.

    Args:
        told: by client, the reason why it is idle, from the last event about it.
        rows: by client, the rows of its shard.
        metrics: by client, those of its last epoch or of its model.
        is_running: whether a run is in progress; `is_waiting` whether it waits for clients.
    """
    held = facts.held.get(member.name)
    epoch, _, epochs = member.epoch.partition("/")
    state, rate = _state(member, facts, is_running), member.samples_per_second
    return {
        "name": member.name,
        "state": state,
        "says": _status(
            member, facts, state, reasons.get(member.name, ""), is_running=is_running, is_waiting=is_waiting
        ),
        "backend": member.backend,
        "device": member.device,
        "task": (held.owner or member.name) if held else "",
        "fold": held.fold if held else 0,
        "round": facts.round if held else 0,
        "epoch": int(epoch or 0),
        "epochs": int(epochs or 0),
        "batch": member.step,
        "batches": member.steps,
        "progress": round(_progress(member), 4),
        "rate": None if state != "training" or rate is None else round(rate, 1),
        "rows": rows.get(member.name),
        "metrics": dict(metrics.get(member.name, {})),
    }


def _progress(member: Member) -> float:
    moved = member.transfer
    if moved is not None and moved.total:
        return min(1.0, moved.done / moved.total)
    return member.progress


def _state(member: Member, facts: Facts, is_running: bool) -> str:
    if facts.tasks and facts.done >= facts.tasks and (not is_running or not member.connected):
        return "done"  # a client that has left since has nothing left to do
    if not member.connected:
        return "lost"
    if member.silent:
        return "silent"
    state = STATES.get(member.state, "waiting")
    if state == "training" and is_running and member.name not in facts.held:
        state = "waiting"  # it has the request to stop, and ends its epoch
    if state in ("waiting", "idle"):
        if not is_running:
            return "idle"
        if facts.tasks and facts.done >= facts.tasks:
            return "done"
    return state


def _status(member: Member, facts: Facts, state: str, reasons: str, *, is_running: bool, is_waiting: bool) -> str:
    if member.lacks:
        return f"gets no tasks: {member.lacks}"
    held = facts.held.get(member.name)
    match state:
        case "lost":
            return reasons or ("said goodbye" if member.state == "left" else "the connection was lost")
        case "silent":
            return "has not answered for a while; it keeps its task"
        case "receiving":
            return "prepares its task" if member.state == "preparing" else "receives data from the server"
        case "sending":
            return "sends its result to the server"
        case "evaluating":
            return "checks its own files" if member.state == "checking" else "evaluates a model on its own rows"
        case "done":
            return "all its work is done"
        case "training" if held and held.owner:
            return f"trains the shard of {held.owner}"
        case "training":
            return ""
    if member.state == "paused":
        return "the operator paused the run"
    if member.state == "no room":
        return "waits for free disk space"
    if not is_running:
        return "waits for the other clients" if is_waiting else "waits for a run to start"
    if member.queued_for:
        several = f"one of the {pluralize(member.queued_for, 'trainer')}"
        return f"waits for {several if member.queued_for > 1 else 'the trainer'}"
    if held:
        return "has a task and is about to start it"
    return reasons or _waits_for(facts)


def _waits_for(facts: Facts) -> str:
    busy = sorted(facts.at_work)
    if not busy:
        return "waits for the server"
    names = ", ".join(busy[:3]) + (f" and {len(busy) - 3} more" if len(busy) > 3 else "")
    return f"waits for {names} to finish" + (f" round {facts.round}" if facts.round else "")
