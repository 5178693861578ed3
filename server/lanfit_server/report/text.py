"""The summary of a run as text for people, laid out for a screen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanfit.text import pluralize
from lanfit_server.short_names import shortened
from lanfit_server.summary import ClientFacts, MergedFacts, RoundFacts, Summary

#: Why one should not expect much of it.
ON_AVERAGING = (
    "Averaging models that were trained apart rarely helps: each found its own solution, and half-way between two "
    "solutions there is often none."
)


@dataclass(frozen=True)
class LineLimits:
    """How many lines of each kind are shown; of more of them the rest is counted."""

    clients: int
    rounds: int
    folds: int
    errors: int

    def reduced(self, there: LineLimits) -> LineLimits | None:
        """One line less of what there are most of; None when there is nothing to leave out.

        Args:
            there: how many there are.
        """
        shown = {key: min(getattr(self, key), getattr(there, key)) for key in LEAST}
        spare = {key: count - LEAST[key] for key, count in shown.items() if count > LEAST[key]}
        if not spare:
            return None
        key = max(spare, key=lambda each: spare[each])
        return LineLimits(**{**shown, key: shown[key] - 1})


#: A name is cut to so many characters at the least.
LEAST_NAME = 8
#: So many lines of each kind are shown on the smallest screen.
LEAST = {"clients": 3, "rounds": 2, "folds": 2, "errors": 1}


def _folds(clients: Sequence[ClientFacts], most: int) -> list[str]:
    """Cross-validation in words: what the folds' models did on rows that they had not seen."""
    told = [
        f"{client.name}, {pluralize(len(client.folds), 'fold')}: "
        + "  ".join(f"{name} {client.mean[name]:.4f} ± {client.sd[name]:.4f}" for name in client.mean)
        for client in clients
        if client.mean
    ]
    if len(told) > most:
        told = [*told[: most - 1], f"… and {pluralize(len(told) - most + 1, 'more client')}, in summary.json"]
    return ["Mean ± standard deviation over the rows that folds held out:", *told, ""] if told else []


def _merged(merged: Sequence[MergedFacts]) -> list[str]:
    told = [
        f"{each.name}: {'  '.join(f'{name} {value:.4f}' for name, value in each.metrics.items())}  ({each.model})"
        for each in merged
    ]
    averaged = any(each.name == "average" for each in merged)
    return [*told, *([ON_AVERAGING] if averaged else []), ""] if told else []


def _rounds(rounds: Sequence[RoundFacts], most: int) -> list[str]:
    """A line for each round; of many the first, and the last ones."""
    told = [
        f"round {each.round}: "
        + "  ".join(f"{name} {value:.4f}" for name, value in each.metrics.items())
        + f"  ({pluralize(len(each.clients), 'client')}, {each.seconds:.1f} s)"
        + "".join(f"\n  without {name}: {why}" for name, why in each.left_out.items())
        for each in rounds
    ]
    if len(told) > most:
        left = pluralize(len(told) - most, "more round")
        told = [told[0], f"… {left}, in summary.json …", *told[len(told) - most + 1 :]]
    return [*told, ""] if told else []


#: So many rounds are shown line by line.
MOST_ROUNDS = 20


def lines(
    summary: Summary,
    folder: str,
    collected: str,
    go_on: str = "",
    width: int | None = None,
    height: int | None = None,
) -> Sequence[str]:
    """The summary as a table for people.

    Args:
        folder: where the files of the run are, in which everything is.
        go_on: the line that goes on with the run, if it can be gone on with.
        width, height: of the screen that it is to fit; None for as wide and as long as it is.
    """
    errors = sum(len(client.errors) for client in summary.clients)
    folds = sum(bool(client.mean) for client in summary.clients)
    there = LineLimits(len(summary.clients), len(summary.rounds), folds, errors)
    limits: LineLimits | None = LineLimits(there.clients, MOST_ROUNDS, there.folds, there.errors)
    text: list[str] = []
    while limits is not None:
        text = _lines(summary, folder, collected, go_on, limits, width)
        if height is None or _rows_on_screen(text, width) < height:  # the prompt has a line, too
            break
        limits = limits.reduced(there)
    return text


def _rows_on_screen(text: Sequence[str], width: int | None) -> int:
    return sum(max(1, -(-len(part) // (width or 10**9))) for line in text for part in line.split("\n"))


def _lines(
    summary: Summary, folder: str, collected: str, go_on: str, limits: LineLimits, width: int | None
) -> list[str]:
    where = "on the server's test rows" if summary.metrics_from == "server" else "by the clients on their own rows"
    measured = f" Measured {where}:" if any(client.metrics for client in summary.clients) else ""
    text = [f"Run {summary.run}: {summary.status}, {summary.seconds['total']:.1f} s.{measured}", ""]
    text += [*_table(summary, folder, limits.clients, width), ""]
    if summary.clients_wanted is not None:
        text += [f"It began with {len(summary.clients)} of {pluralize(summary.clients_wanted, 'client')}.", ""]
    text += _rounds(summary.rounds, limits.rounds)
    text += _folds(summary.clients, limits.folds)
    text += _merged(summary.merged)
    if summary.error:
        text.append(f"Why: {summary.error}")
    errors = [f"  {client.name}: {error}" for client in summary.clients for error in client.errors]
    if len(errors) > limits.errors:
        errors = [*errors[: limits.errors], f"  … and {len(errors) - limits.errors} more, in summary.json"]
    text += errors
    if summary.final is not None and summary.final.client is None:
        text.append(f"The model of all, after round {summary.final.round}: {summary.final.model} takes raw data.")
    elif summary.final is not None:
        text.append(f"The best is {summary.final.client}'s: {summary.final.model} takes raw data.")
    if any(client.model for client in summary.clients) or summary.rounds:
        text.append(f"Models: {collected}/")
    text.append(f"Logs:   {folder}/")
    if go_on:
        text.append(f"Go on with it by: {go_on}")
    return text


def _table(summary: Summary, folder: str, most: int, width: int | None) -> list[str]:
    """A line for each client; of many for those that something is to be said about, then for the first ones."""
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
            names.pop()  # the workbook has them all
            continue
        longest = max(map(len, called.values()), default=0)
        if over > 0 and longest > LEAST_NAME:
            room = max(LEAST_NAME, longest - over)
            called = shortened(everybody, room)
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
