"""Shows the columns of a table and asks for the remaining decisions. Decides nothing about columns."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from lanfit.core.terminal import Terminal
from lanfit.data.columns import Column, Kind
from lanfit.errors import lanfit_error
from lanfit.settings.fields import choice
from lanfit_server.prepare_data.decide import (
    NO_TARGET,
    TASKS,
    USES,
    Corrections,
    check_target,
    column_place,
    columns_of,
    guess_target,
    propose_task,
)
from lanfit_server.prepare_data.models import KINDS
from lanfit_server.prepare_data.text_tables import TextTable

#: This many similar adjacent columns are shown on one line.
ALIKE = 12
#: The short name of a kind whose name is long.
SHORT = {Kind.QUANTITY: "amount"}
HEADS = ("", "column", "holds", "missing", "different", "example", "becomes")


def show_columns(terminal: Terminal, columns: Sequence[Column], target: int | None = None) -> None:
    """Print one line per column, and one for many similar ones."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in HEADS:
        right = head in ("", "missing", "different")
        table.add_column(head, justify="right" if right else "left", no_wrap=head not in ("becomes", "column"))
    for line in _lines(columns, target):
        table.add_row(*map(Text, line))
    stream = terminal.stream
    console = Console(file=stream, width=None if stream.isatty() else 140, soft_wrap=False)
    console.print(table)


def _lines(columns: Sequence[Column], target: int | None) -> list[tuple[str, ...]]:
    def alike(place: int) -> object:
        column = columns[place]
        return place if place == target else (column.kind, column.missing > 0, re.sub(r"\d+", "", column.proposal))

    lines: list[tuple[str, ...]] = []
    for _, group in groupby(range(len(columns)), alike):
        places = list(group)
        if len(places) > ALIKE:
            first, last = columns[places[0]], columns[places[-1]]
            missing = sum(columns[place].missing for place in places)
            numbers = f"{places[0] + 1}-{places[-1] + 1}"
            name = f"{_short(first.name)} … {_short(last.name)}"
            lines.append(
                (
                    numbers,
                    name,
                    SHORT.get(first.kind, first.kind),
                    _count(missing),
                    "",
                    _short(first.example),
                    first.proposal,
                )
            )
            continue
        for place in places:
            column = columns[place]
            becomes = "the target" if place == target else column.proposal
            counts = (_count(column.missing), _count(column.distinct))
            kind = SHORT.get(column.kind, column.kind)
            lines.append((str(place + 1), _short(column.name), kind, *counts, _short(column.example), becomes))
    return lines


def _count(number: int) -> str:
    return f"{number:,}"


def _short(text: str, most: int = 24) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def ask_target(
    terminal: Terminal, columns: Sequence[Column], table: TextTable, given: str | None
) -> tuple[int | None, str]:
    """Return the target column, and how it was found, for a note; None for no target.

    Raises:
        InputError: there is no such column, or it can't be a target.
    """

    def accept(name: str) -> int | None:
        if name == NO_TARGET and all(column.name != NO_TARGET for column in columns):
            return None
        place = column_place(columns, name)
        check_target(columns[place], table.columns[place], "")
        return place

    if given is not None:
        return accept(given), ""
    guess = guess_target(columns)
    if guess is None and not any(column.is_used for column in columns):
        raise lanfit_error("prepare.no-inputs", columns=", ".join(f"{c.name} ({c.proposal})" for c in columns[:10]))
    if guess is None and terminal.take_defaults:
        raise lanfit_error("prepare.no-target", names=", ".join(column.name for column in columns[:30]))
    if not terminal.take_defaults:
        terminal.log("Which column should be predicted? Give its name or number, or none.")
    place = terminal.ask("Target column", "--target", accept, default=guess)
    if terminal.take_defaults and guess is not None:
        return place, f'the target is "{guess}": a guess; --target names another column'
    return place, ""


def ask_task(terminal: Terminal, column: Column, cells: Sequence[str], given: str | None) -> str:
    """Ask for classification or regression.

    Raises:
        InputError: the values of the target do not suit the task.
    """

    def accept(answer: str) -> str:
        task = choice(TASKS)(answer)
        check_target(column, cells, task)
        return task

    if given is not None:
        return accept(given)
    return terminal.ask("Task: classification or regression", "--task", accept, default=propose_task(column, cells))


def ask_corrections(
    terminal: Terminal, table: TextTable, columns: tuple[Column, ...], corrections: Corrections, target: int | None
) -> tuple[Column, ...]:
    """Ask for corrections until there are no more; show the columns again after each.

    Raises:
        InputError: a correction is not possible, and there is no terminal to ask for another.
    """
    if terminal.take_defaults:
        return columns
    terminal.log(
        'Corrections: "COLUMN = number", "= category", "= date" or "= drop"; press Enter if everything is right.'
    )
    while True:
        accept = _correction(table, corrections)
        answer = terminal.ask("Correction", "--yes", accept, default="", shown_default="none")
        if answer is None:
            return columns
        corrections, columns = answer
        show_columns(terminal, columns, target)


def _correction(
    table: TextTable, corrections: Corrections
) -> Callable[[str], tuple[Corrections, tuple[Column, ...]] | None]:
    def accept(answer: str) -> tuple[Corrections, tuple[Column, ...]] | None:
        if not answer:
            return None
        name, sign, use = answer.rpartition("=")
        use = use.strip().lower()
        if not sign or use not in USES:
            raise lanfit_error("prepare.no-correction", answer=answer[:60], uses=", ".join(USES))
        changed = replace(corrections, uses={**corrections.uses, name.strip(): use})
        return changed, columns_of(table, changed)

    return accept


def ask_model(terminal: Terminal, given: str | None, usual: str) -> str:
    """Ask which model to create: mlp, cnn or none. None is the default without a terminal."""
    if given is not None:
        return choice(KINDS)(given)
    default = usual if terminal.interactive and not terminal.take_defaults else "none"
    return terminal.ask("Also create a model: mlp, cnn or none", "--model", choice(KINDS), default=default)


def print_notes(notes: Sequence[str]) -> None:
    """Print notes on stderr."""
    for note in notes:
        sys.stderr.write(f"Note: {note}\n")
