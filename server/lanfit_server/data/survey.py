"""The reports of clients about their data, merged: one set of constants and one list of labels for all.

Pure: numbers and names in, a decision out; no rows are used here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from lanfit.data.labels import Target, check_words
from lanfit.data.normalize import NO_NORMALIZER, OF_TARGETS, Moments, fit_normalizer
from lanfit.data.shard import NO_SAMPLES, Normalizers, Shard
from lanfit.data.text_labels import LABELS, MAX_LABELS, MAX_LENGTH, words_from_array
from lanfit.errors import RemoteProtocolError, lanfit_error
from lanfit.settings.job import DEFAULTS
from lanfit.wire.arrays import AnyArray, ArraySpec, check_specs
from lanfit.wire.messages import ClientData, Model, Surveyed
from lanfit.wire.tasks import Y
from lanfit_server.data.prepare import RunData
from lanfit_server.methods.claims import capped

_LARGEST = 4 * MAX_LABELS * MAX_LENGTH
#: No client has more rows, or values in them; the sum for thousands fits into the numbers of files and messages.
_MOST_ROWS = 1 << 50
#: Above it, squares of differences, times the rows of all clients, exceed a float64.
_LARGEST_VALUE = 1e140
#: The tolerance for rounded means and standard deviations, relative to the largest value.
_ROUNDED = 1e-6


@dataclass(frozen=True)
class ClientSurvey:
    """The decoded report of one client."""

    client: str
    train: int
    validation: int
    test: int
    moments: Moments
    targets: Moments | None
    labels: tuple[str, ...] | None

    @classmethod
    def of(cls, client: str, model: Model, surveyed: Surveyed, arrays: Mapping[str, AnyArray]) -> ClientSurvey:
        """Decode a report.

        Raises:
            InputError: it is impossible, or does not match this model.
        """
        target = Target(model.target)
        if (surveyed.target_values > 0) != (target is Target.VALUES) or (
            LABELS in arrays and not target.is_classification
        ):
            raise lanfit_error("survey.other-targets", client=client)
        try:
            labels = words_from_array(arrays[LABELS]) if LABELS in arrays else None
        except ValueError as error:
            raise lanfit_error("survey.impossible-labels", client=client, reason=error) from None
        if not all(np.isfinite(array).all() for name, array in arrays.items() if name != LABELS):
            raise lanfit_error("survey.no-numbers", client=client)
        moments = Moments.from_arrays(surveyed.values, arrays)
        targets = Moments.from_arrays(surveyed.target_values, arrays, OF_TARGETS) if surveyed.target_values else None
        _check_moments(client, moments, model.input_shape)
        if targets is not None:
            _check_moments(client, targets, model.output_shape)
        return cls(client, surveyed.train, surveyed.validation, surveyed.test, moments, targets, labels)


def _check_moments(client: str, moments: Moments, shape: Sequence[int | None]) -> None:
    """Return whether such rows can exist. As in `Moments`: one number per column, or one for all values."""
    columns = shape[1:] if len(shape) == 2 else ()
    found = moments.mean.shape
    if len(found) != len(columns) or any(n not in (None, m) for n, m in zip(columns, found, strict=True)):
        raise lanfit_error("survey.other-shape", client=client)
    low, high, mean = moments.minimum, moments.maximum, moments.mean
    size = np.maximum(np.abs(low), np.abs(high))
    if size.max(initial=0.0) > _LARGEST_VALUE:
        raise lanfit_error("survey.too-large", client=client, value=float(size.max()))
    off = size * _ROUNDED
    if (low > high).any() or (mean < low - off).any() or (mean > high + off).any():
        raise lanfit_error("survey.impossible-statistics", client=client)
    if (moments.m2 < 0).any() or (moments.m2 > moments.count * np.square(high - low + off)).any():
        raise lanfit_error("survey.impossible-statistics", client=client)


def check_survey(surveyed: Surveyed) -> None:
    """Check the table of a survey before its block is fetched.

    Raises:
        RemoteProtocolError: it is not that of a survey.
    """
    arrays = surveyed.block.arrays
    check_specs(arrays, _LARGEST)
    may_be_none = surveyed.validation, surveyed.test, surveyed.target_values
    if min(surveyed.train, surveyed.values) < 1 or min(may_be_none) < 0:
        raise RemoteProtocolError("a survey reports impossible numbers of rows")
    if max(surveyed.train, surveyed.values, *may_be_none) > _MOST_ROWS:
        raise RemoteProtocolError("a survey reports impossible numbers of rows")
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
    surveys: Sequence[ClientSurvey], model: Model, own: ClientData, limit: float = DEFAULTS.max_weight
) -> tuple[RunData, tuple[str, ...]]:
    """Merge the surveys of all clients; return the data and notes.

    The constants equal those of a single fit over all training rows (Chan et al. 1979).

    Args:
        limit: a client's rows count at most this multiple of the median of all, because they are a claim.

    Raises:
        InputError: clients have different columns or kinds of labels, or too many labels; the clients are named.
    """
    _check_alike(surveys)
    moments = reduce(Moments.merge, _limited([each.moments for each in surveys], limit))
    target_moments = _limited([each.targets for each in surveys if each.targets is not None], limit)
    normalizer = fit_normalizer(model.normalizer, moments)
    targets = (
        fit_normalizer(model.target_normalizer, reduce(Moments.merge, target_moments))
        if target_moments
        else NO_NORMALIZER
    )
    words, notes = _unite_labels(surveys, model)
    labels = {} if words is None else {Y: words}
    shard = Shard(NO_SAMPLES, NO_SAMPLES, Normalizers.single(normalizer, targets), labels)
    claimed = tuple(each.train for each in surveys)
    trained = capped(claimed, limit)
    for each, counts in zip(surveys, trained, strict=True):
        if counts < each.train:
            notes += (
                f"{each.client} reports {each.train:,} training rows, which count as {counts:,}, which is {limit:g} "
                f"times the median of the clients (--max-weight)",
            )
    data = RunData(
        shards=[shard] * len(surveys),
        samples=capped([each.train + each.validation for each in surveys], limit),
        train=sum(trained),
        validation=sum(each.validation for each in surveys),
        test=sum(each.test for each in surveys),
        normalizers=shard.normalizers,
        labels=labels,
        trained=trained,
        own=own,
        claimed=claimed if claimed != trained else (),
    )
    return data, notes


def _limited(moments: Sequence[Moments], limit: float) -> list[Moments]:
    """Return the same means and standard deviations, for no more rows than count."""
    counts = capped([each.count for each in moments], limit)
    return [
        each if each.count == count else replace(each, count=count, m2=each.m2 * (count / each.count))
        for each, count in zip(moments, counts, strict=True)
    ]


def _check_alike(surveys: Sequence[ClientSurvey]) -> None:
    first = surveys[0]
    for each in surveys[1:]:
        if each.moments.mean.shape != first.moments.mean.shape:
            columns, first_columns = each.moments.mean.size, first.moments.mean.size
            raise lanfit_error(
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
            raise lanfit_error("survey.other-target-columns", client=each.client, first=first.client)
        if (each.labels is None) != (first.labels is None):
            words, numbers = (each, first) if each.labels else (first, each)
            raise lanfit_error("survey.words-and-numbers", words=words.client, numbers=numbers.client)


def _unite_labels(surveys: Sequence[ClientSurvey], model: Model) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return all labels in sorted order, and which clients lack some, which is allowed and reported."""
    words = tuple(sorted({word for each in surveys for word in each.labels or ()}))
    if not words:
        return None, ()
    check_words(Target(model.target), words, model.output_shape)
    notes = []
    for each in surveys:
        missing = [word for word in words if word not in (each.labels or ())]
        if missing:
            named = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
            notes.append(f"{each.client} has no rows of {named}: the labels of all clients are merged")
    return words, tuple(notes)
