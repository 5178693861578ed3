"""What the operator is shown of a deal before training starts: how many rows of each class each client has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lanfit.data.labels import Target, class_ids
from lanfit.job import DEFAULTS, Job
from lanfit.text import pluralize
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model
from lanfit_server.prepare import RunData

#: Of more clients only the first and the last are shown, and what is the least and the most of all.
MOST_CLIENTS = 12
SHOWN_CLIENTS = (4, 2)
#: Of more classes only the first are shown.
MOST_CLASSES = 40
LONGEST_NAME = 16


def lines_of_deal(job: Job, model: Model, data: RunData, owners: Sequence[str]) -> list[str]:
    """What to say about who got how many rows of which class; nothing where every client has its share of each."""
    target = Target(model.target)
    if job.deal == DEFAULTS.deal or data.own is not None or len(owners) < 2 or not target.is_classification:
        return []
    classes = [each for shard in data.shards if (each := _classes(target, shard)) is not None]
    return class_table(classes, owners, data.labels) if len(classes) == len(owners) else []


def _classes(target: Target, shard: Mapping[str, AnyArray]) -> AnyArray | None:
    """The class of every row of a shard; None when a row has several."""
    both = [class_ids(target, shard[name]) for name in ("y_train", "y_validation")]
    return None if both[0] is None or both[1] is None else np.concatenate([both[0], both[1]])


def class_table(classes: Sequence[AnyArray], clients: Sequence[str], words: Sequence[str] | None) -> list[str]:
    """Lines of a table: a row for each class, a column for each client.

    Args:
        classes: of each client, the class numbers of its rows.
        words: the names of the classes, if they have some.
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
    return ["Rows of each class that each client has:", *lines]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
