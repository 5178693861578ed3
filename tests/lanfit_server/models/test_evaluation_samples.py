"""What is seen of predictions: a confusion matrix as scikit-learn counts it, and the rows that are shown."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import sklearn.metrics as learn
from hypothesis import given
from hypothesis import strategies as some

from lanfit.data.labels import Target
from lanfit.data.shown_rows import choose_rows, pack, shown_output, unpack
from lanfit.data.split import NO_CLASS
from lanfit.training.metrics import metrics
from lanfit.wire.messages import MOST_SHOWN, Model, OutputSpec
from lanfit_server.models.evaluation_samples import MOST_OF_CELL, confusion, seen_of

RANDOM = np.random.RandomState(3)


def model(target: Target, outputs: int | None, ignored: int | None = None) -> Model:
    return Model("{}", "{}", (None, 4), (None, outputs), target, "none", "none", ignored=ignored)


@pytest.mark.parametrize("target", [Target.CLASSES, Target.ONE_HOT, Target.BINARY])
def test_matrix_and_metrics_are_those_of_scikit_learn_on_the_same_predictions(target: Target) -> None:
    classes = 2 if target is Target.BINARY else 6
    labels = RANDOM.randint(0, classes - (classes > 2), 500)  # one class does not occur
    outputs = RANDOM.rand(500, 1 if classes == 2 else classes).astype(np.float32)
    guesses = (outputs[:, 0] > 0.5).astype(int) if classes == 2 else outputs.argmax(axis=1)
    y = np.eye(classes, dtype=np.float32)[labels] if target is Target.ONE_HOT else labels
    seen = seen_of(model(target, outputs.shape[1]), {"y": y}, {"y": outputs}, [3, 7])
    assert seen is not None
    expected = learn.confusion_matrix(labels, guesses, labels=range(classes))
    np.testing.assert_array_equal(np.array(seen.matrix), expected)
    np.testing.assert_array_equal(np.array(seen.outputs).reshape(2, -1), outputs[[3, 7]].astype(np.float64))
    for cell, rows in seen.cells.items():
        true, guess = map(int, cell.split(","))
        found = np.flatnonzero((labels == true) & (guesses == guess))
        assert list(rows) == found[:MOST_OF_CELL].tolist()
    assert len(seen.cells) == np.count_nonzero(expected)
    # The metrics of the run are those of this matrix.
    given = metrics(target, y, outputs)
    matrix = np.array(seen.matrix)
    per_class = learn.precision_recall_fscore_support(labels, guesses, average="macro", zero_division=0)
    assert given["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum(), abs=1e-9)
    assert given["accuracy"] == pytest.approx(learn.accuracy_score(labels, guesses), abs=1e-9)
    assert [given[name] for name in ("precision", "recall", "f1")] == pytest.approx(per_class[:3], abs=1e-9)


@given(some.lists(some.tuples(some.integers(0, 4), some.integers(0, 4)), max_size=60))
def test_any_matrix_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, guesses = (np.array([pair[n] for pair in pairs], np.int64) for n in (0, 1))
    matrix, cells = confusion(true, guesses, 5)
    if pairs:
        np.testing.assert_array_equal(matrix, learn.confusion_matrix(true, guesses, labels=range(5)))
    assert matrix.sum() == len(pairs)
    for (one, other), rows in cells.items():
        assert 0 < len(rows) == min(MOST_OF_CELL, matrix[one, other])
        assert all(pairs[row] == (one, other) for row in rows)
    assert len(cells) == np.count_nonzero(matrix)


def test_labels_that_the_loss_ignores_are_not_counted() -> None:
    labels, outputs = np.array([0, 9, 1, 9]), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    seen = seen_of(model(Target.CLASSES, 3, ignored=9), {"y": labels}, {"y": outputs}, [0])
    assert seen is not None
    assert seen.matrix == ((1, 0, 0), (0, 0, 1), (0, 0, 0))
    assert seen.cells == {"0,0": (0,), "1,2": (2,)}
    assert confusion(np.array([NO_CLASS]), np.array([1]), 2)[0].sum() == 0


def test_numbers_and_very_many_classes_have_no_matrix_and_very_large_outputs_are_not_followed() -> None:
    rows = RANDOM.rand(4, 3).astype(np.float32)
    seen = seen_of(model(Target.VALUES, 3), {"y": rows}, {"y": rows + 1}, [1, 2])
    assert seen is not None
    assert (seen.matrix, seen.cells) == ((), {})
    assert np.array(seen.outputs) == pytest.approx((rows[1:3] + 1).reshape(-1))
    many = seen_of(model(Target.CLASSES, 101), {"y": np.zeros(1, int)}, {"y": np.zeros((1, 101))}, [0])
    assert many is not None
    assert many.matrix == ()
    for large in (model(Target.CLASSES, 1025), model(Target.VALUES, None)):
        assert shown_output(large) is None
        assert seen_of(large, {"y": np.zeros(1, int)}, {"y": np.zeros((1, 1025))}, [0]) is None


def test_predictions_that_are_no_numbers_can_be_sent() -> None:
    seen = seen_of(model(Target.VALUES, 2), {"y": np.zeros((1, 2))}, {"y": np.array([[np.nan, np.inf]])}, [0])
    assert seen is not None
    assert all(np.isfinite(seen.outputs))


def test_of_several_outputs_that_with_classes_is_followed() -> None:
    price = OutputSpec("price", (None, 1), "values")
    kind = OutputSpec("kind", (None, 4), "classes")
    mask = OutputSpec("mask", (None, 8, 8, 4), "classes")
    each = model(Target.VALUES, 1)

    def chosen(*outputs: OutputSpec) -> OutputSpec | None:
        return shown_output(msgspec.structs.replace(each, outputs=outputs))

    assert chosen(price, mask, kind) == kind
    assert chosen(mask, price) == mask
    assert chosen(OutputSpec("large", (None, 64, 64), "values"), price) == price


def test_rows_are_the_same_for_a_seed_and_have_each_class_in_proportion() -> None:
    classes = np.repeat([0, 1, 2], [600, 300, 300])
    rows = choose_rows(1200, 5, classes)
    assert len(rows) == MOST_SHOWN
    assert np.bincount(classes[rows]).tolist() == [12, 6, 6]
    assert sorted(set(rows.tolist())) == rows.tolist()
    assert rows.tolist() == choose_rows(1200, 5, classes).tolist()
    assert rows.tolist() != choose_rows(1200, 6, classes).tolist()
    assert choose_rows(7, 5, None).tolist() == list(range(7))
    assert choose_rows(0, 5, None).tolist() == []


def test_what_a_peer_packs_is_unpacked_only_if_these_are_that_many_numbers() -> None:
    values = np.array([[0.25, 1], [3, -1]], np.float64)
    assert unpack(pack(values), 4) == (0.25, 1, 3, -1)
    assert unpack(pack(values), 3) == unpack(pack(values)[:-1], 4) == unpack(b"", 4) == unpack(b"", 0) == ()
    assert unpack(pack(np.array([np.nan])), 1) == unpack(pack(np.array([np.inf])), 1) == ()
