"""Predictions as a table: the right true and predicted class, against scikit-learn's and plain arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from lanfit.data.labels import Target
from lanfit.errors import InputError
from lanfit.training.metrics import metrics
from lanfit_server.report.predictions import Predictions, Table, sheet_of, table_of


def table(target: Target, y: Any, outputs: Any, labels: tuple[str, ...] | None = None, **limits: int) -> Table:
    return table_of(Predictions(target, np.asarray(y), np.asarray(outputs, np.float32), labels), **limits)


def test_classes_without_names_are_numbers() -> None:
    found = table(Target.CLASSES, [1, 0], [[0.25, 0.75], [0.125, 0.875]])
    assert found.heads == ["row", "true class", "predicted class", "probability of 0", "probability of 1"]
    assert list(found.rows) == [[1, 1, 1, 0.25, 0.75], [2, 0, 1, 0.125, 0.875]]
    assert found.left_out == ""


def test_classes_with_names_are_named_and_one_without_a_name_is_a_number() -> None:
    found = table(Target.CLASSES, [[1], [0]], [[0.25, 0.75, 0], [0.125, 0.25, 0.5]], ("cat", "dog"))
    assert found.heads[3:] == ["probability of cat", "probability of dog", "probability of 2"]
    assert [row[:3] for row in found.rows] == [[1, "dog", "dog"], [2, "cat", 2]]


@pytest.mark.parametrize("y", [[2, 0], [[0, 0, 1], [1, 0, 0]], [2.0, 0.0]])
def test_one_hot_rows_and_labels_are_the_same_classes(y: Any) -> None:
    found = table(Target.ONE_HOT, y, [[0, 0.25, 0.75], [0.5, 0.25, 0.25]], ("a", "b", "c"))
    assert [row[:3] for row in found.rows] == [[1, "c", "c"], [2, "a", "a"]]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_yes_or_no_output_is_cut_at_a_half(shape: tuple[int, ...]) -> None:
    outputs = np.reshape([0.25, 0.5, 0.75], shape)
    found = table(Target.BINARY, [[0], [1], [1]], outputs, ("ham", "spam"))
    assert found.heads == ["row", "true class", "predicted class", "probability of spam"]
    assert list(found.rows) == [[1, "ham", "ham", 0.25], [2, "spam", "ham", 0.5], [3, "spam", "spam", 0.75]]


def test_outputs_that_are_no_probabilities_are_not_called_so() -> None:
    found = table(Target.CLASSES, [0], [[-3.5, 2.0]])
    assert found.heads[3:] == ["output for 0", "output for 1"]
    assert list(found.rows) == [[1, 0, 1, -3.5, 2.0]]


def test_several_labels_a_row_have_a_pair_of_columns_each() -> None:
    outputs = np.zeros((2, 3, 2))
    outputs[..., 1] = [[0, 1, 0], [1, 1, 1]]
    found = table(Target.CLASSES, [[0, 1, 1], [1, 1, 0]], outputs)
    assert found.heads[1:5] == ["true class 1", "predicted class 1", "true class 2", "predicted class 2"]
    assert found.heads[7:] == [f"probability of {name} {place}" for place in (1, 2, 3) for name in (0, 1)]
    assert [row[1:7] for row in found.rows] == [[0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 0, 1]]


def test_a_target_and_its_prediction_stand_side_by_side() -> None:
    found = table(Target.VALUES, [[1, 2], [3, 4]], [[1.5, 2.5], [3.5, 4.5]])
    assert found.heads == ["row", "target 1", "prediction 1", "target 2", "prediction 2"]
    assert list(found.rows) == [[1, 1, 1.5, 2, 2.5], [2, 3, 3.5, 4, 4.5]]


def test_one_number_a_row_needs_no_number_in_its_head() -> None:
    found = table(Target.VALUES, [7, 8], [[7.5], [8.5]])
    assert found.heads == ["row", "target", "prediction"]
    assert list(found.rows) == [[1, 7, 7.5], [2, 8, 8.5]]


def test_an_autoencoder_shows_its_input_and_what_it_made_of_it() -> None:
    pictures = np.arange(8, dtype=np.uint8).reshape(2, 4)
    found = table(Target.INPUT, pictures, (pictures + 0.5).reshape(2, 2, 2, 1))
    first, second = found.rows
    assert first == [1, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert second[1::2] == [4, 5, 6, 7]


def test_numbers_are_written_as_short_as_they_are() -> None:
    found = table(Target.VALUES, np.array([0.1], np.float32), [[0.7]])
    assert list(found.rows) == [[1, 0.1, 0.7]]
    assert [type(cell) for cell in next(table(Target.VALUES, [True], [[0.5]]).rows)] == [int, int, float]


def test_a_prediction_that_is_no_number_stays_visible() -> None:
    found = table(Target.CLASSES, [0], [[0.5, float("nan")]])
    assert found.heads[3] == "probability of 0"
    assert str(next(found.rows)[4]) == "nan"


def test_no_rows_give_heads_alone() -> None:
    for target, width in ((Target.CLASSES, 3), (Target.BINARY, 1), (Target.VALUES, 2)):
        found = table(target, np.zeros((0, width) if target is Target.VALUES else 0), np.zeros((0, width)))
        assert list(found.rows) == []


def test_the_classes_are_those_that_the_metrics_count() -> None:
    rng = np.random.default_rng(0)
    y, outputs = rng.integers(0, 5, 2500), rng.random((2500, 5), np.float32)
    rows = list(table(Target.CLASSES, y, outputs).rows)
    assert [row[0] for row in rows] == list(range(1, 2501))
    accuracy = accuracy_score([row[1] for row in rows], [row[2] for row in rows])
    assert accuracy == metrics(Target.CLASSES, y, outputs)["accuracy"]


def sheet(target: Target, y: Any, outputs: Any, most_cells: int) -> Table:
    return sheet_of(Predictions(target, np.asarray(y), np.asarray(outputs, np.float32), None), most_cells)


def test_a_sheet_has_all_rows_if_they_fit() -> None:
    outputs = [[0.25, 0.75], [0.875, 0.125]]
    found = sheet(Target.CLASSES, [1, 1], outputs, 10)
    assert list(found.rows) == list(table(Target.CLASSES, [1, 1], outputs).rows)
    assert found.left_out == ""


def test_a_smaller_sheet_has_the_wrong_classes_the_most_certain_first() -> None:
    outputs = [[0.75, 0.25], [0.25, 0.75], [0.875, 0.125], [0.375, 0.625]]
    found = sheet(Target.CLASSES, [1, 1, 1, 0], outputs, 15)
    assert [row[0] for row in found.rows] == [3, 1, 4]
    assert found.left_out == "the 3 wrong predictions of 4 test rows"
    found = sheet(Target.CLASSES, [1, 1, 1, 0], outputs, 10)
    assert [row[0] for row in found.rows] == [3, 1]
    assert found.left_out == "the 2 most certain of 3 wrong predictions of 4 test rows"


def test_a_smaller_sheet_without_a_wrong_prediction_says_so() -> None:
    found = sheet(Target.BINARY, [1, 0], [[0.75], [0.25]], 4)
    assert list(found.rows) == []
    assert found.left_out == "the 0 wrong predictions of 2 test rows"


def test_no_and_yes_are_equally_certain() -> None:
    found = sheet(Target.BINARY, [1, 0, 1], [[0.0], [0.75], [0.75]], 8)
    assert [row[0] for row in found.rows] == [1, 2]


def test_a_smaller_sheet_has_the_numbers_that_are_farthest_off_and_those_that_are_no_numbers() -> None:
    found = sheet(Target.VALUES, [1.0, 2.0, 3.0, 4.0], [[1.5], [float("nan")], [3.25], [14.0]], 9)
    assert [row[0] for row in found.rows] == [2, 4, 1]
    assert found.left_out == "the 3 largest errors of 4 test rows"


def test_more_columns_than_a_sheet_holds_are_left_out_and_that_is_reported() -> None:
    found = sheet(Target.INPUT, np.zeros((2, 10_000)), np.zeros((2, 10_000)), 40_000)
    assert found.left_out == "the first 16,384 of 20,001 columns"
    rows = list(found.rows)
    assert len(found.heads) == len(rows[0]) == len(rows[1]) == 16_384


def test_more_cells_than_take_a_sensible_time_are_left_out_and_that_is_reported() -> None:
    found = table(Target.VALUES, np.zeros((10, 1)), np.zeros((10, 1)), most_cells=12)
    assert len(list(found.rows)) == 4
    assert found.left_out == "the first 4 of 10 test rows"


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="rows of 3"):
        table(Target.VALUES, np.zeros((5, 3)), np.zeros((5, 2)))
