"""Assigns every row: to the test rows, or to the training or validation rows of a shard. Reads no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanfit.core.seeds import derive_seed
from lanfit.core.text import pluralize
from lanfit.data.partitioning import STRATIFIED, Partitioning, partition_rows
from lanfit.data.split import Rows, check_samples, held_rows, sample_rows, sizes_of_classes, split_rows, word_of
from lanfit.errors import lanfit_error


@dataclass(frozen=True)
class Shard:
    """The row numbers of one client or part, for training and for validation."""

    train: Rows
    validation: Rows


@dataclass(frozen=True)
class Plan:
    """The assignment of every row: each is in exactly one of the arrays."""

    shards: tuple[Shard, ...]
    """Of each client; if rows are partitioned into parts, of each part."""
    test: Rows
    warnings: tuple[str, ...]


def plan_rows(
    rows: int,
    shards: int,
    test_split: float,
    validation_split: float,
    seed: int,
    classes: NDArray[np.generic] | None = None,
    *,
    given_test: int = 0,
    samples: int | None = None,
    words: Sequence[str] | None = None,
    partitioning: Partitioning = STRATIFIED,
) -> Plan:
    """Draw the test rows, partition the rest into shards or parts, and draw the validation rows of each.

    Args:
        shards: their number; not used with parts.
        given_test: this many of the last rows are the test rows, and none are drawn.
        samples: use only this many rows; of `given_test` a proportional number, at least one.
        words: the names of the classes in messages, if they have any.
        dealing: how the rest is partitioned.

    Raises:
        InputError: there are too few rows. The message has the numbers.
    """
    rest, test = _pools(rows, test_split, seed, classes, given_test, samples)
    rows = len(rest) + len(test)
    unit = "part" if partitioning.how == "parts" else "shard"
    if unit == "shard" and len(rest) < shards:
        raise lanfit_error(
            "split.too-few-rows", rows=pluralize(rows, "row"), test=len(test), rest=len(rest), shards=shards
        )
    warnings = (
        [] if given_test else _split_warnings("test rows", _of(classes, np.concatenate([rest, test])), len(test), words)
    )
    partition = partition_rows(partitioning, len(rest), shards, seed, _of(classes, rest))
    if partitioning.by_class:
        whose = "parts" if unit == "part" else "clients"
        warnings += _partition_warnings(_of(classes, rest), len(partition), words, whose)
    planned: list[Shard] = []
    small: dict[str, list[str]] = {}
    for number, places in enumerate(partition):
        shard = rest[places]
        if (held := held_rows(len(shard), validation_split)) >= len(shard):
            raise lanfit_error(
                "split.none-left-of-shard",
                shard=f"{unit} {number + 1} of {len(partition)}",
                rows=pluralize(len(shard), "row"),
                held=held,
            )
        train, validation = split_rows(
            len(shard), validation_split, derive_seed(seed, "validation", number), _of(classes, shard)
        )
        planned.append(Shard(shard[train], shard[validation]))
        for text in _split_warnings("validation rows", _of(classes, shard), len(validation), words):
            small.setdefault(text, []).append(str(number + 1))
    warnings += [f"{unit} {', '.join(numbers)}: {text}" for text, numbers in small.items()]
    return Plan(tuple(planned), test, tuple(warnings))


def _pools(
    rows: int,
    test_split: float,
    seed: int,
    classes: NDArray[np.generic] | None,
    given_test: int,
    samples: int | None,
) -> tuple[Rows, Rows]:
    """Return the rows to be partitioned, and the test rows."""
    if samples is not None:
        check_samples(samples, rows)
    every = np.arange(rows, dtype=np.int64)
    if not given_test:
        used = every if samples is None else sample_rows(rows, samples, derive_seed(seed, "samples"), classes)
        rest, test = split_rows(len(used), test_split, derive_seed(seed, "test"), _of(classes, used))
        return used[rest], used[test]
    rest, test = every[: rows - given_test], every[rows - given_test :]
    if samples is None:
        return rest, test
    kept = min(max(1, round(samples * given_test / rows)), given_test)
    if not 1 <= samples - kept <= len(rest):
        raise lanfit_error("split.samples-too-few", samples=pluralize(samples, "row"))
    return (
        rest[sample_rows(len(rest), samples - kept, derive_seed(seed, "samples"), _of(classes, rest))],
        test[sample_rows(len(test), kept, derive_seed(seed, "samples", "test"), _of(classes, test))],
    )


def _of(classes: NDArray[np.generic] | None, rows: Rows) -> NDArray[np.generic] | None:
    return None if classes is None else classes[rows]


def _split_warnings(
    what: str, classes: NDArray[np.generic] | None, held: int, words: Sequence[str] | None
) -> list[str]:
    if classes is None or held == 0:
        return []
    names, sizes = sizes_of_classes(classes)
    warnings = []
    if (sizes < 2).any():
        warnings.append(f"{_named(names[sizes < 2], words)} only one row, which may or may not be among the {what}")
    if held < len(names):
        warnings.append(f"the {held} {what} can't have one of each of the {len(names)} classes")
    return warnings


def _partition_warnings(
    classes: NDArray[np.generic] | None, shards: int, words: Sequence[str] | None, whose: str
) -> list[str]:
    if classes is None or shards == 1:
        return []
    names, sizes = sizes_of_classes(classes)
    small = names[sizes < shards]
    return [f"{_named(small, words)} fewer rows than the {shards} {whose}: distributed at random"] if len(small) else []


def _named(names: NDArray[np.generic], words: Sequence[str] | None) -> str:
    shown = ", ".join(word_of(name, words) for name in names[:10]) + (", …" if len(names) > 10 else "")
    return f"class {shown} has" if len(names) == 1 else f"classes {shown} have"
