"""The live table as lines of text: which clients are shown, and which facts, in the given columns and lines. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lanfit.core.gauge import bar, clock, cut, percent, short
from lanfit.core.text import pluralize, sanitize
from lanfit.data.files import natural_key
from lanfit_server.clusters.roster import Member
from lanfit_server.report.short_names import shortened

#: A line, and its style in rich.
Line = tuple[str, str]
#: Lines left for messages, if there are enough.
LEFT_FREE = 6
#: Columns of the bars, of a client and of the whole run.
BAR = 10
BAR_OF_ALL = 30
#: A name is truncated to this many characters before columns are left out for it.
LONG_NAME = 18
LEAST_NAME = 6
NAME_OF_OWNER = 12
#: The state of a client is one word; more of it is not shown.
LONGEST_STATE = 12
GAP = "  "
#: The most important column is left out last; name, state and progress are always shown.
LEFT_OUT = ("backend", "bar", "on", "samples/s", "last seen", "loss", "epoch")
#: The state of a client that works on something.
AT_WORK = frozenset({"training", "preparing", "receiving", "sending", "scoring", "checking", "paused", "no room"})


@dataclass(frozen=True)
class Held:
    """What a client works on, if it is not simply its own shard."""

    owner: str = ""
    """The client whose shard it has taken over."""
    fold: int = 0


@dataclass(frozen=True)
class Facts:
    """The state of a run; empty before it has started."""

    run: str = ""
    done: int = 0
    """Finished tasks, of all rounds."""
    tasks: int = 0
    round: int = 0
    """From 1; 0 without rounds."""
    rounds: int = 0
    folds: int = 0
    held: Mapping[str, Held] = field(default_factory=dict)
    """By client."""
    at_work: frozenset[str] = frozenset()
    """The clients that have a task."""


def share_done(facts: Facts, members: Sequence[Member]) -> float:
    """Return how much of a run is done, 0 to 1."""
    if not facts.tasks:
        return 0.0
    begun = sum(member.progress for member in members if member.name in facts.at_work)
    return min(1.0, (facts.done + begun) / facts.tasks)


def table_lines(
    members: Sequence[Member],
    facts: Facts,
    waiting: str,
    notes: Sequence[str],
    left: float | None,
    width: int,
    height: int,
    now: float,
) -> list[Line]:
    """Return the lines at the bottom of the operator's terminal.

    No line is wider than `width`, and there are at most `height`. Every client has a line, or is counted in the last
    one; the reason for waiting and the banned addresses are always shown.

    Args:
        waiting: the reason for waiting; empty for none.
        notes: other notes below the table.
        left: seconds until the run is over, if known.
        now: seconds on the monotonic clock.
    """
    top = [(cut(_head(facts, members, left, width), width), "bold")] if facts.run else []
    # On a small screen the notes may take a third of it, and every line of them is started.
    most = max(1, (height - len(top)) // 3)
    below = _wrapped(waiting, width, min(3, most), "yellow")
    for note in notes:
        if len(below) < most + 1:
            below += _wrapped(note, width, min(2, most), "red")
    free = height - len(top) - len(below) - min(LEFT_FREE, max(0, (height - 12) // 2))
    return [*top, *_clients(members, facts, width, max(1, free), now), *below][:height]


def _head(facts: Facts, members: Sequence[Member], left: float | None, width: int) -> str:
    share = share_done(facts, members)
    parts = [f"Run {facts.run}"]
    if facts.round:
        parts.append(f"round {facts.round} of {facts.rounds}")
    elif facts.folds:
        parts.append(f"{facts.done} of {pluralize(facts.tasks, 'fold')}")
    else:
        parts.append(f"{facts.done} of {pluralize(facts.tasks, 'model')}")
    parts.append(f"{bar(share, min(BAR_OF_ALL, max(0, width - 54)))} {percent(share).strip()}".strip())
    if facts.tasks and facts.done == facts.tasks:
        parts.append("writing")
    elif left is not None:
        parts.append(f"{clock(left)} left")
    return GAP.join(parts)


def _clients(members: Sequence[Member], facts: Facts, width: int, limit: int, now: float) -> list[Line]:
    """Return the table itself, in this many lines."""
    if not members:
        return []
    ordered = sorted(members, key=lambda member: natural_key(member.name))
    if limit < 3:
        return [(cut(f"{pluralize(len(ordered), 'client')}: {_by_state(ordered)}", width), "")]
    shown = ordered if len(ordered) < limit else _chosen(ordered, limit - 2)
    lines = _rows(shown, ordered, facts, width, now)
    if rest := [member for member in ordered if member not in shown]:
        lines.append((cut(f"and {len(rest)} more: {_by_state(rest)}", width), ""))
    return lines


def _chosen(ordered: Sequence[Member], count: int) -> list[Member]:
    """Return the clients to show: first those with a problem, then by name."""
    by_need = sorted(range(len(ordered)), key=lambda index: (not _is_missing(ordered[index]), index))
    return [ordered[index] for index in sorted(by_need[:count])]


def _is_missing(member: Member) -> bool:
    return member.silent or bool(member.lacks) or not member.connected


def state_of(member: Member) -> str:
    """Return the state of a client, in a word."""
    if member.silent and member.connected:
        return "silent"
    return " ".join(member.state[:LONGEST_STATE].split()) or "here"


def _by_state(members: Sequence[Member]) -> str:
    states = sorted(Counter(map(state_of, members)).items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count} {state}" for state, count in states)


# --- rows -------------------------------------------------------------------------------------------------------


def _rows(shown: Sequence[Member], all_: Sequence[Member], facts: Facts, width: int, now: float) -> list[Line]:
    # Columns are as wide as all clients need them, so that they stay where they are.
    owners = shortened([member.name for member in all_], NAME_OF_OWNER)
    cells = {member.name: _cells(member, facts, owners, now) for member in all_}
    names = list(cells[all_[0].name])
    columns = [name for name in names if any(row[name] for row in cells.values()) or name in ("state", "done")]
    widths = {name: max(len(_HEADS.get(name, name)), *(len(row[name]) for row in cells.values())) for name in columns}
    longest = max(len("name"), *(len(member.name) for member in all_))

    def width_of_names() -> int:
        return width - sum(widths[name] + len(GAP) for name in columns)

    for column in LEFT_OUT:
        if width_of_names() >= min(longest, LONG_NAME):
            break
        if column in columns:
            columns.remove(column)
    limit = max(LEAST_NAME, min(longest, width_of_names()))
    short_names = shortened([member.name for member in all_], limit)
    merged = [name for name in ("epoch", "loss", "samples/s") if name in columns]
    span = sum(widths[name] for name in merged) + len(GAP) * max(0, len(merged) - 1)
    spare = max(0, width_of_names() - limit)  # the facts of a transfer may be wider than the metrics of training
    wider = min(spare, max(0, max((len(_moved(member, now)) for member in all_), default=0) - span)) if merged else 0
    if merged:
        widths[merged[-1]] += wider
        span += wider

    def line(name: str, row: Mapping[str, str], moved: str = "") -> str:
        parts = [f"{name:<{limit}}"]
        for column in columns:
            if column in merged and moved:
                if column == merged[0]:
                    parts.append(f"{cut(moved, span):<{span}}")
                continue
            right = column in ("loss", "samples/s", "done")
            cell = row[column]
            parts.append(f"{cell:>{widths[column]}}" if right else f"{cell:<{widths[column]}}")
        return cut(GAP.join(parts).rstrip(), width)

    rows: list[Line] = [(line("name", {name: _HEADS.get(name, name) for name in names}), "underline")]
    for member in shown:
        style = "red" if not member.connected else "yellow" if _is_missing(member) else ""
        rows.append((line(short_names[member.name], cells[member.name], _moved(member, now)), style))
    return rows


#: The title of a column, if it is not its name.
_HEADS = {"bar": "", "done": ""}


def _moved(member: Member, now: float) -> str:
    """Return the facts of a transfer, shown instead of the metrics of training."""
    return member.transfer.describe(now) if member.transfer is not None and _is_at_work(member) else ""


def _is_at_work(member: Member) -> bool:
    return member.connected and state_of(member) in AT_WORK


def _on(held: Held, owners: Mapping[str, str]) -> str:
    fold = f"fold {held.fold}" if held.fold else ""
    return " ".join(filter(None, [fold, f"for {owners.get(held.owner, held.owner)}" if held.owner else ""]))


def _cells(member: Member, facts: Facts, owners: Mapping[str, str], now: float) -> dict[str, str]:
    """Return the cells of a client's row by column, in order; those without a current value are empty.

    Args:
        owners: names, short enough for a cell.
    """
    at_work = _is_at_work(member)
    share = member.transfer.share if member.transfer is not None else member.progress
    shows = at_work and (member.transfer is not None or bool(member.epoch))
    figures = at_work and member.transfer is None
    return {
        "backend": member.backend if member.device in ("", "auto") else f"{member.backend}/{member.device}",
        "state": state_of(member),
        "on": _on(facts.held.get(member.name, Held()), owners) if at_work else "",
        "bar": bar(share, BAR) if shows else "",
        "done": percent(share) if shows else "",
        "epoch": member.epoch if figures else "",
        "loss": short(member.loss) if figures and member.loss is not None else "",
        "samples/s": f"{member.samples_per_second:,.0f}" if figures and member.samples_per_second else "",
        "last seen": seen(member, now),
    }


def seen(member: Member, now: float) -> str:
    """Return when a client was last seen, by a heartbeat or anything else."""
    if not member.has_connected:
        return "not yet"
    ago = max(0.0, now - member.last_seen)
    if member.connected and not member.silent:
        return "now" if ago < 10 else f"{ago:.0f} s ago"
    for seconds, unit in ((3600, "h"), (60, "min")):
        if ago >= 2 * seconds:
            return f"{ago // seconds:.0f} {unit} ago"
    return f"{ago:.0f} s ago"


# --- text -------------------------------------------------------------------------------------------------------


def _wrapped(text: str, width: int, most: int, style: str) -> list[Line]:
    """Return a text on a few lines."""
    clean = " ".join(sanitize(text).split())
    # Wide characters count as two for wrapping, and every line is truncated once more.
    lines = textwrap.wrap(clean, width, max_lines=most, placeholder=" …") if clean else []
    return [(cut(line, width), style) for line in lines]
