"""Scores equal scikit-learn's to 1e-9."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, mean_absolute_error, precision_recall_fscore_support, r2_score

from lanfit.data.labels import Target
from lanfit.training.metrics import (
    as_keras,
    classification_metrics,
    mean_figures,
    metrics,
    regression_metrics,
    with_compiled,
)

VALUES = st.floats(-1e4, 1e4, width=32)


def theirs(true, predicted):
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)
    return {"accuracy": accuracy_score(true, predicted), "precision": precision, "recall": recall, "f1": f1}


@settings(max_examples=300)
@given(data=st.data(), rows=st.integers(1, 40), outputs=st.integers(1, 8))
def test_class_metrics_equal_scikit_learns(data, rows, outputs):
    true = data.draw(arrays(np.int32, rows, elements=st.integers(0, outputs - 1)))
    scores = data.draw(arrays(np.float32, (rows, outputs), elements=st.floats(0, 1, width=32)))
    expected = theirs(true, scores.argmax(axis=1))
    assert metrics(Target.CLASSES, true, scores) == pytest.approx(expected, abs=1e-9)
    one_hot = np.eye(outputs, dtype=np.float32)[true]
    assert metrics(Target.ONE_HOT, one_hot, scores) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=300)
@given(data=st.data(), rows=st.integers(1, 40))
def test_metrics_of_one_sigmoid_output_equal_scikit_learns(data, rows):
    true = data.draw(arrays(np.float32, (rows, 1), elements=st.sampled_from([0.0, 1.0])))
    scores = data.draw(arrays(np.float32, (rows, 1), elements=st.floats(0, 1, width=32)))
    expected = theirs(true[:, 0].astype(int), (scores[:, 0] > 0.5).astype(int))
    assert metrics(Target.BINARY, true, scores) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=300)
@given(data=st.data(), shape=st.sampled_from([(2,), (9,), (5, 1), (7, 3), (4, 2, 3), (3, 4, 4, 1)]))
def test_regression_metrics_equal_scikit_learns(data, shape):
    kind = data.draw(st.sampled_from(["random", "constant", "met"]))
    true = data.draw(arrays(np.float32, shape, elements=VALUES))
    true = np.full_like(true, true.flat[0]) if kind == "constant" else true
    predicted = true.copy() if kind == "met" else data.draw(arrays(np.float32, shape, elements=VALUES))
    flat_true, flat = (a.reshape(len(a), -1).astype(np.float64) for a in (true, predicted))
    ours = metrics(Target.VALUES, true, predicted)
    assert ours["mae"] == pytest.approx(mean_absolute_error(flat_true, flat), rel=1e-9, abs=1e-9)
    assert ours["r2"] == pytest.approx(r2_score(flat_true, flat), rel=1e-9, abs=1e-9)


def test_r2_of_a_constant_target_is_0_if_it_is_missed_and_1_if_it_is_met():
    assert regression_metrics(np.full(5, 3.0), np.arange(5.0))["r2"] == 0.0
    assert regression_metrics(np.full(5, 3.0), np.full(5, 3.0))["r2"] == 1.0


def test_a_single_row_has_no_r2_as_in_scikit_learn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(r2_score([1.0], [2.0]))
    ours = regression_metrics(np.ones((1, 1)), 2 * np.ones((1, 1)))
    assert ours["mae"] == 1.0
    assert np.isnan(ours["r2"])


def test_labels_of_several_places_a_row_are_evaluated_place_by_place():
    true = np.array([[0, 1], [2, 2]])
    scores = np.eye(3)[[[0, 1], [2, 0]]]
    assert classification_metrics(Target.CLASSES, true, scores)["accuracy"] == 0.75


def test_an_autoencoder_is_evaluated_as_regression():
    x = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    assert metrics(Target.INPUT, x, x) == {"mae": 0.0, "r2": 1.0}


@pytest.mark.parametrize(("true", "predicted"), [((0,), (0, 3)), ((4,), (3, 3))])
def test_rows_that_do_not_pair_are_never_evaluated(true, predicted):
    with pytest.raises(ValueError, match="can't be compared"):
        classification_metrics(Target.CLASSES, np.zeros(true, int), np.zeros(predicted))
    with pytest.raises(ValueError, match="can't be compared"):
        regression_metrics(np.zeros(true), np.zeros((*predicted[:1],)))


def test_a_compiled_metric_keeps_its_name_unless_a_score_of_another_meaning_has_it() -> None:
    scores = {"loss": 1.0, "accuracy": 0.5, "precision": 0.7, "recall": 0.7, "f1": 0.7}
    compiled = {"accuracy": 0.5000001, "precision": 0.7, "prc": 0.25, "mae": 0.125}
    found = with_compiled(scores, compiled)
    assert found == {**scores, "compiled_precision": 0.7, "prc": 0.25, "mae": 0.125}
    assert as_keras(found) == {**scores, "prc": 0.25, "mae": 0.125}
    differs = with_compiled(scores, {"accuracy": 0.25})
    assert differs == {**scores, "compiled_accuracy": 0.25}
    assert as_keras(differs) == {**scores, "accuracy": 0.25}


def test_the_mean_of_figures_counts_rows_and_takes_the_score_where_no_compiled_metric_differs() -> None:
    assert mean_figures([]) == {}
    found = mean_figures([(30, {"accuracy": 0.5}), (10, {"accuracy": 0.5, "compiled_accuracy": 0.1, "prc": 1.0})])
    assert found.pop("compiled_accuracy") == pytest.approx(0.4)
    assert math.isnan(found.pop("prc")), "one of them has not measured it"
    assert found == {"accuracy": 0.5}


def test_a_label_that_the_loss_ignores_does_not_count():
    true = np.array([[0, 255], [1, 2], [255, 2]])
    scores = np.random.RandomState(0).random((3, 2, 3))
    counts = true != 255
    assert metrics(Target.CLASSES, true, scores, 255) == theirs(true[counts], scores.argmax(-1)[counts])
    nothing = metrics(Target.CLASSES, np.full(4, 255), scores[0].repeat(2, axis=0), 255)
    assert all(np.isnan(value) for value in nothing.values())
