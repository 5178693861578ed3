"""The summary of a run as text for people, laid out for a screen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanfit.core.text import pluralize
from lanfit_server.report.short_names import shortened
from lanfit_server.store.summary import ClientFacts, MergedFacts, RoundFacts, Summary

#: Why one should not expect much of it.
ON_AVERAGING = (
    "Averaging separately trained models rarely helps: each has found its own solution, and the average of two "
    "solutions is often not one."
)


@dataclass(frozen=True)
class LineLimits:
    """How many lines of each kind are shown; the remaining ones are counted."""

    clients: int
    folds: int
    errors: int

    def reduced(self, there: LineLimits) -> LineLimits | None:
        """Return a limit with one line less of the most frequent kind; None if nothing can be left out.

        Args:
            there: the number of lines.
        """
        shown = {key: min(getattr(self, key), getattr(there, key)) for key in LEAST}
        spare = {key: count - LEAST[key] for key, count in shown.items() if count > LEAST[key]}
        if not spare:
            return None
        key = max(spare, key=lambda each: spare[each])
        return LineLimits(**{**shown, key: shown[key] - 1})


#: The minimum length to which a name is truncated.
LEAST_NAME = 8
#: This many lines of each kind are shown on the smallest screen.
LEAST = {"clients": 3, "folds": 2, "errors": 1}


def _folds(clients: Sequence[ClientFacts], most: int) -> list[str]:
    """Return the cross-validation results: the metrics of the folds' models on their held-out rows."""
    lines = [
        f"{client.name}, {pluralize(len(client.folds), 'fold')}: "
        + "  ".join(f"{name} {client.mean[name]:.4f} ± {client.sd[name]:.4f}" for name in client.mean)
        for client in clients
        if client.mean
    ]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"… and {pluralize(len(lines) - most + 1, 'more client')}, in summary.json"]
    return ["Mean ± standard deviation on the held-out rows of the folds:", *lines, ""] if lines else []


def _merged(merged: Sequence[MergedFacts]) -> list[str]:
    lines = [
        f"{each.name}: {'  '.join(f'{name} {value:.4f}' for name, value in each.metrics.items())}  ({each.model})"
        for each in merged
    ]
    averaged = any(each.name == "average" for each in merged)
    return [*lines, *([ON_AVERAGING] if averaged else []), ""] if lines else []


def _rounds(rounds: Sequence[RoundFacts], width: int | None) -> list[str]:
    """Return all rounds on one line, and one for each client that was left out of some: each round was shown when it
    ended."""
    if not rounds:
        return []
    first, last = rounds[0].metrics, rounds[-1].metrics
    figures = [f"{name} {first[name]:.4f} → {value:.4f}" for name, value in last.items() if name in first]
    if len(rounds) == 1:
        figures = [f"{name} {value:.4f}" for name, value in last.items()]
    lines = f"{pluralize(len(rounds), 'round')} in {sum(each.seconds for each in rounds):.1f} s"
    left_out = Counter(name for each in rounds for name in each.left_out)
    absent = [f"  {name} was left out of {pluralize(count, 'round')}" for name, count in left_out.items()]
    while width is not None and len("  ".join([lines, *figures])) >= width and figures:
        figures.pop()  # the last metrics are in summary.json
    return [": ".join([lines, *(["  ".join(figures)] if figures else [])]), *_limited(absent, LEAST["errors"]), ""]


def _limited(lines: Sequence[str], most: int) -> list[str]:
    return [*lines[:most], f"  … and {len(lines) - most} more, in summary.json"] if len(lines) > most else [*lines]


def lines(
    summary: Summary,
    folder: str,
    collected: str,
    go_on: str = "",
    width: int | None = None,
    height: int | None = None,
) -> Sequence[str]:
    """Return the summary as a table for people.

    Args:
        folder: the folder with the files of the run.
        go_on: the command that resumes the run, if it can be resumed.
        width, height: of the screen that it must fit; None for unlimited.
    """
    errors = sum(len(client.errors) for client in summary.clients)
    folds = sum(bool(client.mean) for client in summary.clients)
    there = LineLimits(len(summary.clients), folds, errors)
    limits: LineLimits | None = there
    text: list[str] = []
    while limits is not None:
        text = _lines(summary, folder, collected, go_on, limits, width)
        if height is None or _rows_on_screen(text, width) < height:  # the prompt needs a line, too
            break
        limits = limits.reduced(there)
    return text


def _rows_on_screen(text: Sequence[str], width: int | None) -> int:
    return sum(max(1, -(-len(part) // (width or 10**9))) for line in text for part in line.split("\n"))


def _lines(
    summary: Summary, folder: str, collected: str, go_on: str, limits: LineLimits, width: int | None
) -> list[str]:
    where = "on the server's test rows" if summary.metrics_from == "server" else "on the clients' own test rows"
    measured = f" Measured {where}:" if any(client.metrics for client in summary.clients) else ""
    text = [f"Run {summary.run}: {summary.status}, {summary.seconds['total']:.1f} s.{measured}", ""]
    text += [*_table(summary, folder, limits.clients, width), ""]
    if summary.clients_wanted is not None:
        text += [f"It started with {len(summary.clients)} of {pluralize(summary.clients_wanted, 'client')}.", ""]
    text += _rounds(summary.rounds, width)
    text += _folds(summary.clients, limits.folds)
    text += _merged(summary.merged)
    if summary.error:
        text.append(f"Why: {summary.error}")
    errors = [f"  {client.name}: {error}" for client in summary.clients for error in client.errors]
    text += _limited(errors, limits.errors)
    if summary.final is not None and summary.final.client is None:
        text.append(f"The global model after round {summary.final.round}: {summary.final.model} takes raw data.")
    elif summary.final is not None:
        text.append(f"The best is {summary.final.client}'s: {summary.final.model} takes raw data.")
    if any(client.model for client in summary.clients) or summary.rounds:
        text.append(f"Models: {collected}/")
    text.append(f"Logs:   {folder}/")
    if go_on:
        text.append(f"Resume it with: {go_on}")
    return text


def _table(summary: Summary, folder: str, most: int, width: int | None) -> list[str]:
    """Return one line per client; of many clients, those with something to report, then the first ones."""
    clients = summary.clients
    names = list(dict.fromkeys(key for client in clients for key in client.metrics))
    best = summary.final.client if summary.final is not None else None
    shown, rest = clients, 0
    if len(clients) > most:
        by_need = sorted(
            range(len(clients)),
            key=lambda at: (clients[at].name != best, clients[at].status == "done" and not clients[at].taken_over, at),
        )
        rest = len(clients) - most + 1
        shown = tuple(clients[at] for at in sorted(by_need[: most - 1]))
    everybody = list(
        dict.fromkeys([each.name for each in clients] + [by for each in clients for by in each.taken_over])
    )
    called = {name: name for name in everybody}
    while True:
        head = ["client", "rows", "status", "seconds", *names]
        rows = [[called[each.name], *_cells(each, names, called)] for each in shown]
        widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
        over = sum(widths) + 2 * (len(widths) - 1) - (width or 10**9)
        if over > 0 and len(names) > 1:
            names.pop()  # the workbook lists them all
            continue
        longest = max(map(len, called.values()), default=0)
        if over > 0 and longest > LEAST_NAME:
            length = max(LEAST_NAME, longest - over)
            called = shortened(everybody, length)
            continue
        break
    table = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *rows]
    ]
    if rest:
        done = Counter(each.status for each in clients if each not in shown)
        counted = ", ".join(f"{count} {status}" for status, count in sorted(done.items()))
        table.append(f"and {rest} more: {counted} ({folder}/report.xlsx has all)")
    return table


def _cells(client: ClientFacts, names: Sequence[str], called: Mapping[str, str]) -> list[str]:
    status = client.status
    if client.taken_over:
        by = ", ".join(called[name] for name in client.taken_over)
        done = sum(client.taken_over.values())
        status += f" by {by}" if done >= client.tasks else f", {done} of {client.tasks} by {by}"
    return [
        str(client.samples),
        status,
        f"{client.seconds['train']:.1f}",
        *(f"{client.metrics[name]:.4f}" if name in client.metrics else "" for name in names),
    ]
