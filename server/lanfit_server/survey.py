"""What clients tell of their own files, held against each other: one set of constants and one list of labels for all.

Pure: numbers and names in, a decision out; no row is ever seen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from lanfit.data.labels import Target, check_words
from lanfit.data.normalize import NO_NORMALIZER, OF_TARGETS, Moments, fit_normalizer
from lanfit.data.text_labels import LABELS, MAX_LABELS, MAX_LENGTH, words_from_array, words_to_array
from lanfit.errors import RemoteProtocolError
from lanfit.job import DEFAULTS
from lanfit.mistakes import mistake
from lanfit.models.member import Member
from lanfit.wire.arrays import AnyArray, ArraySpec, check_specs
from lanfit.wire.messages import Model, OwnRows, Surveyed
from lanfit_server.claims import counted
from lanfit_server.prepare import RunData

_LARGEST = 4 * MAX_LABELS * MAX_LENGTH
#: No client has so many rows; the sum of those of thousands fits into the numbers of files and messages.
_MOST_ROWS = 1 << 50


@dataclass(frozen=True)
class Told:
    """What one client has told, read."""

    client: str
    train: int
    validation: int
    test: int
    moments: Moments
    targets: Moments | None
    labels: tuple[str, ...] | None

    @classmethod
    def of(cls, client: str, model: Model, surveyed: Surveyed, arrays: Mapping[str, AnyArray]) -> Told:
        """Read it.

        Raises:
            InputError: it is impossible, or can't be of rows of this model.
        """
        target = Target(model.target)
        if (surveyed.target_values > 0) != (target is Target.VALUES) or (
            LABELS in arrays and not target.is_classification
        ):
            raise mistake("survey.other-targets", client=client)
        try:
            labels = words_from_array(arrays[LABELS]) if LABELS in arrays else None
        except ValueError as wrong:
            raise mistake("survey.impossible-labels", client=client, reason=wrong) from None
        if not all(np.isfinite(array).all() for name, array in arrays.items() if name != LABELS):
            raise mistake("survey.no-numbers", client=client)
        moments = Moments.from_arrays(surveyed.values, arrays)
        targets = Moments.from_arrays(surveyed.target_values, arrays, OF_TARGETS) if surveyed.target_values else None
        _check_moments(client, moments, model.input_shape)
        if targets is not None:
            _check_moments(client, targets, model.output_shape)
        return cls(client, surveyed.train, surveyed.validation, surveyed.test, moments, targets, labels)


def _check_moments(client: str, moments: Moments, shape: Sequence[int | None]) -> None:
    """Whether there can be rows like that. As in `Moments`: one number a column, or one of all values."""
    columns = shape[1:] if len(shape) == 2 else ()
    found = moments.mean.shape
    if len(found) != len(columns) or any(n not in (None, m) for n, m in zip(columns, found, strict=True)):
        raise mistake("survey.other-shape", client=client)
    if (moments.m2 < 0).any() or (moments.minimum > moments.maximum).any():
        raise mistake("survey.impossible-statistics", client=client)


def check_survey(surveyed: Surveyed) -> None:
    """Check the table of a survey before its block is fetched.

    Raises:
        RemoteProtocolError: it is not what a survey holds.
    """
    arrays = surveyed.block.arrays
    check_specs(arrays, _LARGEST)
    if min(surveyed.train, surveyed.values) < 1 or min(surveyed.validation, surveyed.test, surveyed.target_values) < 0:
        raise RemoteProtocolError("a survey tells impossible numbers of rows")
    if max(surveyed.train, surveyed.validation, surveyed.test) > _MOST_ROWS:
        raise RemoteProtocolError("a survey tells impossible numbers of rows")
    table = {spec.name: spec for spec in arrays}
    expected = _like(Moments.ARRAYS, "", table)
    if surveyed.target_values:
        expected += _like(Moments.ARRAYS, OF_TARGETS, table)
    labels = table.get(LABELS)
    if labels is not None:
        expected.append(ArraySpec(LABELS, "uint8", (labels.shape[0] if len(labels.shape) == 1 else -1,)))
    if list(arrays) != expected:
        raise RemoteProtocolError(f"a survey has the arrays {', '.join(table)}")


def _like(names: Sequence[str], prefix: str, table: Mapping[str, ArraySpec]) -> list[ArraySpec]:
    first = table.get(prefix + names[0])
    return [ArraySpec(prefix + name, "float64", first.shape if first else ()) for name in names]


def unite(
    told: Sequence[Told], model: Model, own: OwnRows, limit: float = DEFAULTS.max_weight
) -> tuple[RunData, tuple[str, ...]]:
    """What the rows of all clients are together, and what is to be said about it.

    The constants are those that one fit over the training rows of all would give (Chan et al. 1979).

    Args:
        limit: a client's rows count so many times the median of all at most: nobody else has seen them.

    Raises:
        InputError: clients have different columns or kinds of labels, or too many labels; who has what is named.
    """
    _check_alike(told)
    moments = reduce(Moments.merge, _limited([each.moments for each in told], limit))
    target_moments = _limited([each.targets for each in told if each.targets is not None], limit)
    normalizer = fit_normalizer(model.normalizer, moments)
    targets = (
        fit_normalizer(model.target_normalizer, reduce(Moments.merge, target_moments))
        if target_moments
        else NO_NORMALIZER
    )
    labels, notes = _unite_labels(told, model)
    shard: dict[str, AnyArray] = Member({}, normalizer, targets).constants()
    if labels is not None:
        shard[LABELS] = words_to_array(labels)
    claimed = tuple(each.train for each in told)
    trained = counted(claimed, limit)
    for each, counts in zip(told, trained, strict=True):
        if counts < each.train:
            notes += (
                f"{each.client} says that it has {each.train:,} training rows; they count as {counts:,}, which is "
                f"{limit:g} times the median of the clients (--max-weight)",
            )
    data = RunData(
        shards=[shard] * len(told),
        samples=counted([each.train + each.validation for each in told], limit),
        train=sum(trained),
        validation=sum(each.validation for each in told),
        test=sum(each.test for each in told),
        normalizer=normalizer,
        targets=targets,
        labels=labels,
        trained=trained,
        own=own,
        claimed=claimed if claimed != trained else (),
    )
    return data, notes


def _limited(moments: Sequence[Moments], limit: float) -> list[Moments]:
    """The same means and spreads, of no more rows than count."""
    counts = counted([each.count for each in moments], limit)
    return [
        each if each.count == count else replace(each, count=count, m2=each.m2 * (count / each.count))
        for each, count in zip(moments, counts, strict=True)
    ]


def _check_alike(told: Sequence[Told]) -> None:
    first = told[0]
    for each in told[1:]:
        if each.moments.mean.shape != first.moments.mean.shape:
            columns, first_columns = each.moments.mean.size, first.moments.mean.size
            raise mistake(
                "survey.other-columns",
                client=each.client,
                columns=columns,
                first=first.client,
                first_columns=first_columns,
            )
        if (each.targets is None) != (first.targets is None) or (
            each.targets is not None
            and first.targets is not None
            and each.targets.mean.shape != first.targets.mean.shape
        ):
            raise mistake("survey.other-target-columns", client=each.client, first=first.client)
        if (each.labels is None) != (first.labels is None):
            words, numbers = (each, first) if each.labels else (first, each)
            raise mistake("survey.words-and-numbers", words=words.client, numbers=numbers.client)


def _unite_labels(told: Sequence[Told], model: Model) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """All labels in sorted order, and which clients lack some: that is fine, and said."""
    words = tuple(sorted({word for each in told for word in each.labels or ()}))
    if not words:
        return None, ()
    check_words(Target(model.target), words, model.output_shape)
    notes = []
    for each in told:
        missing = [word for word in words if word not in (each.labels or ())]
        if missing:
            named = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
            notes.append(f"{each.client} has no rows of {named}: the labels of all clients are united")
    return words, tuple(notes)
