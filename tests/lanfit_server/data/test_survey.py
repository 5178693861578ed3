from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from lanfit.data.labels import Target
from lanfit.data.normalize import NORMALIZERS, OF_TARGETS, Moments, fit_normalizer
from lanfit.data.text_labels import LABELS, words_to_array
from lanfit.errors import InputError, RemoteProtocolError
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import ClientData, Model, Surveyed
from lanfit_server.data.survey import ClientSurvey, check_survey, unite

OWN = ClientData(8, 0.2, 0.1, 0, 0, None)
#: Eighths, which float64 holds exactly: what differs then is the way of computing, and not the numbers.
EIGHTHS = st.integers(-800, 800).map(lambda n: n / 8)


def model(columns: int = 3, target: Target = Target.CLASSES, outputs: int = 4, **names: str) -> Model:
    normalizers = {"normalizer": "zscore", "target_normalizer": "none", **names}
    return Model("{}", "{}", (None, columns), (None, outputs), target, **normalizers)


def survey(
    rows: AnyArray, client: str = "lab-1", *, labels: tuple[str, ...] | None = None, y: AnyArray | None = None
) -> tuple[str, Surveyed, dict[str, AnyArray]]:
    arrays = Moments.of(rows).to_arrays()
    if y is not None:
        arrays |= Moments.of(y).to_arrays(OF_TARGETS)
    if labels is not None:
        arrays[LABELS] = words_to_array(labels)
    reported = Surveyed(len(rows), 0, 1, len(rows), 0 if y is None else len(y), block_of(arrays), ())
    return client, reported, arrays


def reported(of: Model, *given: tuple[str, Surveyed, Mapping[str, AnyArray]]) -> list[ClientSurvey]:
    return [ClientSurvey.of(client, of, surveyed, arrays) for client, surveyed, arrays in given]


@settings(deadline=None)
@given(
    rows=hn.arrays(np.float64, st.tuples(st.integers(2, 60), st.just(3)), elements=EIGHTHS),
    cuts=st.lists(st.integers(1, 59), max_size=4),
    name=st.sampled_from(NORMALIZERS),
)
def test_constants_merged_from_clients_are_those_of_one_fit_over_all_rows(
    rows: AnyArray, cuts: list[int], name: str
) -> None:
    parts = [part for part in np.split(rows, sorted(set(cuts))) if len(part)]
    what = model(target=Target.VALUES, outputs=3, normalizer=name, target_normalizer=name)
    clients = [survey(part, f"lab-{number}", y=part * 4) for number, part in enumerate(parts)]
    data, notes = unite(reported(what, *clients), what, OWN, limit=1e9)
    assert notes == ()
    for found, all_rows in ((data.normalizers.x, rows), (data.normalizers.y, rows * 4)):
        one = fit_normalizer(name, Moments.of(all_rows))
        np.testing.assert_allclose(found.subtract, one.subtract, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.multiply, one.multiply, rtol=1e-12)
    assert (data.train, data.test, data.own) == (len(rows), len(parts), OWN)
    assert data.samples == tuple(map(len, parts))


@pytest.mark.parametrize(
    ("name", "scaler"), [("scale", MaxAbsScaler()), ("minmax", MinMaxScaler()), ("zscore", StandardScaler())]
)
def test_constants_are_those_of_scikit_learn_on_the_union_of_rows_far_from_zero(name: str, scaler: Any) -> None:
    random = np.random.RandomState(0)
    parts = [random.normal([1e6, -5, 0], [3, 1e-3, 1e4], (size, 3)) for size in (50, 3, 200)]
    what = model(normalizer=name)
    data, _ = unite(reported(what, *(survey(part, f"lab-{n}") for n, part in enumerate(parts))), what, OWN)
    rows = np.concatenate(parts)
    np.testing.assert_allclose(data.normalizers.x.apply(rows), scaler.fit_transform(rows), rtol=1e-5, atol=1e-5)
    # scikit-learn sums up in another order: as far from zero as this, that costs it a few digits of its own.
    scale = scaler.scale_ if name != "minmax" else scaler.data_range_
    np.testing.assert_allclose(1 / data.normalizers.x.multiply, scale, rtol=1e-9)


def test_a_column_that_is_constant_on_each_client_but_not_on_all_is_no_constant() -> None:
    what = model(columns=1, normalizer="minmax")
    data, _ = unite(reported(what, survey(np.full((5, 1), 2.0)), survey(np.full((5, 1), 4.0), "lab-2")), what, OWN)
    assert data.normalizers.x.apply(np.array([[2.0], [4.0]])).tolist() == [[0.0], [1.0]]


ROWS = np.arange(12.0).reshape(4, 3)


def test_labels_are_united_by_name_and_who_lacks_some_is_reported() -> None:
    what = model(outputs=3)
    cats, dogs = survey(ROWS, labels=("cat", "yak")), survey(ROWS, "lab-2", labels=("cat", "dog"))
    data, notes = unite(reported(what, cats, dogs), what, OWN)
    assert data.labels == {"y": ("cat", "dog", "yak")}
    assert all(shard.labels == data.labels for shard in data.shards)
    assert notes == (
        "lab-1 has no rows of dog: the labels of all clients are merged",
        "lab-2 has no rows of yak: the labels of all clients are merged",
    )


def test_more_labels_than_outputs_are_refused_and_named() -> None:
    what = model(outputs=2)
    clients = reported(what, survey(ROWS, labels=("cat", "yak")), survey(ROWS, "lab-2", labels=("cat", "dog")))
    with pytest.raises(InputError, match=r"3 different labels \(cat, dog, yak\)"):
        unite(clients, what, OWN)


def test_words_and_numbers_do_not_go_together_and_both_clients_are_named() -> None:
    what = model()
    with pytest.raises(InputError, match="the labels of lab-2 are strings, but those of lab-1 are numbers"):
        unite(reported(what, survey(ROWS), survey(ROWS, "lab-2", labels=("cat",))), what, OWN)


def test_other_columns_are_named_where_the_model_would_take_them() -> None:
    what = model()
    what = Model(**{**{name: getattr(what, name) for name in what.__struct_fields__}, "input_shape": (None, None)})
    with pytest.raises(InputError, match="lab-2 has rows of 2 columns, but lab-1 has rows of 3"):
        unite(reported(what, survey(ROWS), survey(ROWS[:, :2], "lab-2")), what, OWN)


def test_targets_of_other_columns_are_named_where_the_model_would_take_them() -> None:
    what = model(target=Target.VALUES)
    what = Model(**{**{name: getattr(what, name) for name in what.__struct_fields__}, "output_shape": (None, None)})
    with pytest.raises(InputError, match="targets of lab-2 have a different shape than those of lab-1") as wrong:
        unite(reported(what, survey(ROWS, y=ROWS), survey(ROWS, "lab-2", y=ROWS[:, :2])), what, OWN)
    assert wrong.value.code == "survey.other-target-columns"


def changed(name: str, array: Any) -> tuple[str, Surveyed, dict[str, AnyArray]]:
    client, surveyed, arrays = survey(ROWS, labels=("cat", "dog"))
    return client, surveyed, {**arrays, name: np.asarray(array)}


IMPOSSIBLE = {
    "statistics of its rows that are not finite numbers": changed("mean", [1, np.nan, 3]),
    "statistics that no data can have": changed("m2", [1.0, -1.0, 1.0]),
    "statistics whose shape does not match": survey(ROWS[:, :2]),
    "targets that do not match this model": survey(ROWS, y=ROWS),
    "invalid labels: Invalid": changed(LABELS, np.frombuffer(b"[1, 2]", np.uint8)),
    "invalid labels: 2 class names": changed(LABELS, np.frombuffer(b'["b", "a"]', np.uint8)),
    "invalid labels: a class name": changed(LABELS, np.frombuffer(b'["\\u001b[2J"]', np.uint8)),
}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("survey.no-numbers", "statistics of its rows that are not finite numbers"),
        ("survey.impossible-statistics", "statistics that no data can have"),
        ("survey.other-shape", "statistics whose shape does not match"),
        ("survey.other-targets", "targets that do not match this model"),
        ("survey.impossible-labels", "invalid labels: Invalid"),
        ("survey.impossible-labels", "invalid labels: 2 class names"),
        ("survey.impossible-labels", "invalid labels: a class name"),
    ],
)
def test_what_no_files_can_hold_is_refused_and_the_client_is_named(code: str, expected: str) -> None:
    with pytest.raises(InputError, match="lab-1 reported") as wrong:
        reported(model(), IMPOSSIBLE[expected])
    assert wrong.value.code == code
    assert expected.split(": Invalid")[0] in wrong.value.message
    assert wrong.value.hint


def spec(surveyed: Surveyed, **changes: Any) -> Surveyed:
    return Surveyed(**{**{name: getattr(surveyed, name) for name in surveyed.__struct_fields__}, **changes})


def test_the_table_of_a_survey_is_checked_before_its_block_is_fetched() -> None:
    _, fine, arrays = survey(ROWS, labels=("cat",), y=ROWS)
    check_survey(fine)
    rows = {"x_train": ROWS, **arrays}
    mean_only = {"mean": ROWS[0]}
    huge = {**arrays, LABELS: np.zeros(10_000_000, np.uint8)}
    for wrong in (rows, mean_only, huge, {**arrays, "mean": ROWS[0].astype(np.float32)}, {}):
        with pytest.raises(RemoteProtocolError):
            check_survey(spec(fine, block=block_of(wrong) if wrong else BlockSpec("0" * 64, ())))
    for changes in ({"train": 0}, {"test": -1}, {"values": 0}, {"target_values": 0}):
        with pytest.raises(RemoteProtocolError):
            check_survey(spec(fine, **changes))
