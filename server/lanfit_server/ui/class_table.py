"""The class counts of each client, shown before training starts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from lanfit.core.text import pluralize
from lanfit.data.labels import Target, row_classes, words_of_classes
from lanfit.data.shard import Shard
from lanfit.settings.job import DEFAULTS, Job
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model
from lanfit_server.data.prepare import RunData

#: Of more clients only the first and the last are shown, and the minimum and maximum of all.
MOST_CLIENTS = 12
SHOWN_CLIENTS = (4, 2)
#: Of more classes only the first are shown.
MOST_CLASSES = 40
LONGEST_NAME = 16


def class_table_lines(job: Job, model: Model, data: RunData, owners: Sequence[str]) -> list[str]:
    """Return the lines about the class counts of the clients; none if every client has its share of each class."""
    has_classes = any(Target(each.target).is_classification for each in model.gives)
    if job.deal == DEFAULTS.deal or data.own is not None or len(owners) < 2 or not has_classes:
        return []
    classes = [each for shard in data.shards if (each := _classes(model, shard)) is not None]
    words = words_of_classes(model.gives, data.shards[0].train.targets, data.labels)
    return class_table(classes, owners, words) if len(classes) == len(owners) else []


def _classes(model: Model, shard: Shard) -> AnyArray | None:
    """Return the class of every row of a shard; None if a row has several."""
    outputs = [replace(each, ignored=None) for each in model.gives]
    both = [row_classes(outputs, rows.targets) for rows in (shard.train, shard.validation)]
    return None if both[0] is None or both[1] is None else np.concatenate([both[0], both[1]])


def class_table(classes: Sequence[AnyArray], clients: Sequence[str], words: Sequence[str] | None) -> list[str]:
    """Return the lines of a table: a row per class, a column per client.

    Args:
        classes: for each client, the class numbers of its rows.
        words: the class names, if there are any.
    """
    numbers = np.unique(np.concatenate(classes))
    counts = np.array([[np.count_nonzero(each == number) for each in classes] for number in numbers])
    first, last = SHOWN_CLIENTS

    def line(head: str, cells: Sequence[object], of_all: Sequence[object]) -> list[str]:
        if len(cells) <= MOST_CLIENTS:
            return [head, *map(str, cells)]
        return [head, *map(str, (*cells[:first], "…", *cells[-last:], *of_all))]

    rows = [line("class", [_short(name) for name in clients], ("least", "most", "clients"))]
    for number, row in list(zip(numbers, counts, strict=True))[:MOST_CLASSES]:
        name = str(number) if words is None else _short(words[int(number)])
        rows.append(line(name, row, (row.min(), row.max(), np.count_nonzero(row))))
    sums = counts.sum(axis=0)
    rows.append(line("all", sums, (sums.min(), sums.max(), np.count_nonzero(sums))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    if len(numbers) > MOST_CLASSES:
        lines.insert(-1, f"… and {pluralize(len(numbers) - MOST_CLASSES, 'more class')}")
    return ["Rows per class on each client:", *lines]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
