"""Every error in rows, triggered from the outside: labels and targets that do not fit, too few to be split."""

from __future__ import annotations

import numpy as np
import pytest
from error_cases import ErrorCase, ErrorCases, Start, check
from small_workspace import ROWS, TINY_JOB, SmallWorkspace, X, Y, as_csv, as_npz, labels, words
from warm import WarmModels

pytestmark = pytest.mark.story
ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with

NUMBERS = Start({"model": "numbers.h5"})
YES_NO = Start({"model": "yes_no.h5"})
ONE_HOT = Start({"model": "one_hot.h5"})


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_what_is_wrong_with_the_rows_is_named(
    small_workspace: SmallWorkspace, case: ErrorCase, warm: WarmModels
) -> None:
    check(small_workspace, case, warm, **TINY_JOB)


# --- labels -----------------------------------------------------------------------------------------------------


@fails_with("labels.empty", "y.npz, row 3")
def an_empty_word(place: SmallWorkspace) -> None:
    place.y("y.npz", as_npz(y=np.array(["cat", "dog", "", *["cat"] * 9])))


@fails_with("labels.mixed", 'y.csv, row 1: "7"', '"cat" (row 2)')
def a_number_among_words(place: SmallWorkspace) -> None:
    place.y("y.csv", words("7", "cat"))


@fails_with("labels.mixed-files", "y2.csv, row 1: 0", "y.csv")
def words_here_and_numbers_there(place: SmallWorkspace) -> None:
    place.y("y.csv", words("cat", "dog"))
    place.x("x2.csv", as_csv(X))
    place.y("y2.csv", labels())


@fails_with("labels.too-many", "y.csv", "10,001 different labels")
def a_column_of_names(place: SmallWorkspace) -> None:
    place.y("y.csv", "label\n" + "".join(f"name {number}\n" for number in range(10_001)))


@fails_with("labels.too-many-in-all", "10,002 different labels")
def two_columns_of_names(place: SmallWorkspace) -> None:
    x = np.arange(10_002.0).reshape(5001, 2)
    for number in (1, 2):
        place.x(f"x{number}.csv", as_csv(x))
        place.y(f"y{number}.csv", "label\n" + "".join(f"name {number} {row}\n" for row in range(5001)))
    for name in ("X/x.csv", "Y/y.csv"):
        (place.root / "dataset" / name).unlink()


@fails_with("labels.too-long", "y.csv, row 1", "200 characters")
def an_essay_as_label(place: SmallWorkspace) -> None:
    place.y("y.csv", words("essay " * 50, "cat"))


@fails_with("labels.control-characters", "y.csv, row 2")
def a_label_that_rings_the_bell(place: SmallWorkspace) -> None:
    place.y("y.csv", words("cat", "dog\a"))


@fails_with("labels.too-long-array", "y.npz", "200 characters")
def an_array_of_essays(place: SmallWorkspace) -> None:
    place.y("y.npz", as_npz(y=np.array(["essay " * 50] * ROWS)))


@fails_with("labels.no-characters", "y.npz")
def bytes_that_are_no_characters(place: SmallWorkspace) -> None:
    place.y("y.npz", as_npz(y=np.full(ROWS, 0xFFFFFFFF, "<u4").view("<U1")))


@fails_with("labels.more-than-outputs", "4 different labels (cat, cow, dog, hen)", "3 outputs")
def a_class_too_many(place: SmallWorkspace) -> None:
    place.y("y.csv", words("cat", "dog", "cow", "hen"))


@fails_with("labels.more-than-two", "3 different labels (cat, cow, dog)")
def three_classes_for_yes_and_no(place: SmallWorkspace) -> Start:
    place.y("y.csv", words("cat", "dog", "cow"))
    return YES_NO


@fails_with("labels.not-0-or-1", "the label is 2", "y.csv, row 3")
def a_third_class_for_yes_and_no(place: SmallWorkspace) -> Start:
    return YES_NO


@fails_with("labels.not-one-hot", "[0, 1, 1]", "y.csv, row 2")
def two_hot(place: SmallWorkspace) -> Start:
    rows = np.eye(3)[Y]
    rows[1, 2] = 1
    place.y("y.csv", as_csv(rows))
    return ONE_HOT


@fails_with("labels.not-whole", "label 0.5", "y.csv, row 1", "--loss")
def half_a_label(place: SmallWorkspace) -> None:
    place.y("y.csv", labels(0.5))


@fails_with("labels.negative", "label -1", "y.csv, row 2")
def a_negative_label(place: SmallWorkspace) -> None:
    place.y("y.csv", labels(0, -1))


@fails_with("labels.above-outputs", "the label is 12", "y.csv, row 3", "3 outputs (0-2)")
def a_label_above_the_outputs(place: SmallWorkspace) -> None:
    place.y("y.csv", labels(0, 1, 12))


# --- targets, and rows that belong together ---------------------------------------------------------------------


@fails_with("targets.not-finite", "inf", "y.csv, row 4")
def an_infinite_target(place: SmallWorkspace) -> Start:
    place.y("y.csv", labels(0, 1, 2, "inf"))
    return NUMBERS


@fails_with("targets.wrong-shape", "y.csv", "one label")
def two_columns_of_labels(place: SmallWorkspace) -> None:
    place.y("y.csv", as_csv(np.stack([Y, Y], 1)))


@fails_with("rows.unequal", "x.csv has 12 rows", "y.csv has 10")
def rows_without_targets(place: SmallWorkspace) -> None:
    place.y("y.csv", "\n".join(labels().splitlines()[:-2]) + "\n")


@fails_with("rows.other-columns", "x2.csv has rows of 3", "All files of X")
def another_number_of_columns(place: SmallWorkspace) -> None:
    place.x("x2.csv", as_csv(np.hstack([X, X[:, :1]])))
    place.y("y2.csv", labels())


# --- too few rows -----------------------------------------------------------------------------------------------


@fails_with("split.none-left", "12 of 12 rows")
def all_rows_for_the_test(place: SmallWorkspace) -> Start:
    return Start({"test_split": 0.99})


@fails_with("split.none-left-of-shard", "shard 1 of 1 has 9 rows, of which 9", "--validation-split 0")
def all_rows_for_validation(place: SmallWorkspace) -> Start:
    return Start({"validation_split": 0.99})


@fails_with("split.too-few-rows", "3 of 12 rows are test rows", "20 clients")
def more_clients_than_rows(place: SmallWorkspace) -> Start:
    return Start({"clients": 20})


@fails_with("split.samples", "13 rows can't be selected from 12")
def more_samples_than_rows(place: SmallWorkspace) -> Start:
    return Start({"samples": 13})


@fails_with("split.folds", "shard 1 of 1 has 9 rows", "20 folds")
def more_folds_than_rows(place: SmallWorkspace) -> Start:
    return Start({"method": "kfold", "folds": 20})


@fails_with("split.folds-of-a-class", "5 rows of every class", "--folds 3")
def more_folds_than_rows_of_a_class(place: SmallWorkspace) -> Start:
    return Start({"method": "kfold", "folds": 5})


@fails_with("split.class-of-one-row", "2 (1 row)")
def a_class_of_one_row(place: SmallWorkspace) -> Start:
    place.y("y.csv", "label\n2\n" + "0\n1\n" * 5 + "0\n")
    return Start({"method": "kfold", "folds": 2, "test_split": 0})


@fails_with("targets.classes-with-xx", "sparse_categorical_crossentropy", "--order XY")
def classes_that_are_their_own_target(place: SmallWorkspace) -> Start:
    return Start({"order": "XX"})
