"""Every error in what is to be prepared or predicted, triggered from the outside: by the commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from error_cases import assert_reported
from PIL import Image
from preparing import PEOPLE, TableFolder, table

Arguments = Sequence[object]
ERROR_CASES: list[tuple[str, Callable[[TableFolder], Arguments]]] = []


def fails_with(code: str) -> Callable[[Callable[[TableFolder], Arguments]], Callable[[TableFolder], Arguments]]:
    """Write a scenario down: it spoils something, and returns the arguments of `lanfit`."""

    def add(corrupt: Callable[[TableFolder], Arguments]) -> Callable[[TableFolder], Arguments]:
        ERROR_CASES.append((code, corrupt))
        return corrupt

    return add


@pytest.mark.parametrize(
    ("code", "corrupt"), ERROR_CASES, ids=[f"{code}-{corrupt.__name__}" for code, corrupt in ERROR_CASES]
)
def test_what_can_not_be_prepared_or_predicted_is_named(
    tmp_path: Path, code: str, corrupt: Callable[[TableFolder], Arguments]
) -> None:
    folder = TableFolder(tmp_path)
    before = corrupt(folder)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert_reported(code, folder.refused(*before).stderr)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files, "a refusal changes nothing"


def people(folder: TableFolder, *arguments: object) -> Arguments:
    return ("prepare", folder.write("people.csv", PEOPLE), "--yes", *arguments)


@fails_with("prepare.not-found")
def no_such_table(folder: TableFolder) -> Arguments:
    return "prepare", folder.root / "nothing.csv"


@fails_with("table.no-table")
def arrays_as_a_table(folder: TableFolder) -> Arguments:
    np.savez(folder.root / "x.npz", np.zeros((2, 2)))
    return "prepare", folder.root / "x.npz"


@fails_with("prepare.tables-differ")
def another_column(folder: TableFolder) -> Arguments:
    return "prepare", folder.write("a.csv", "a,b\n1,2\n"), folder.write("b.csv", "a,c\n1,2\n")


@fails_with("prepare.no-sign")
def a_word_as_decimal_sign(folder: TableFolder) -> Arguments:
    return people(folder, "--decimal", "dot")


@fails_with("prepare.no-such-column")
def a_target_that_is_not_there(folder: TableFolder) -> Arguments:
    return people(folder, "--target", "price")


@fails_with("prepare.no-category")
def a_category_of_all_rows(folder: TableFolder) -> Arguments:
    rows = [(f"n{n}", n + 0.5) for n in range(10_001)]
    return "prepare", folder.write("t.csv", table(["name", "y"], rows)), "--category", "name", "--yes"


@fails_with("prepare.no-date")
def a_city_as_a_date(folder: TableFolder) -> Arguments:
    return people(folder, "--date", "city")


@fails_with("prepare.no-number")
def a_city_as_a_number(folder: TableFolder) -> Arguments:
    return people(folder, "--number", "city")


@fails_with("prepare.no-inputs")
def only_names(folder: TableFolder) -> Arguments:
    rows = [(f"n{n}", f"m{n}") for n in range(30)]
    return "prepare", folder.write("t.csv", table(["a", "b"], rows)), "--yes"


@fails_with("prepare.no-target")
def only_dates(folder: TableFolder) -> Arguments:
    return "prepare", folder.write("t.csv", "on,off\n2020-01-02,2020-01-03\n2020-02-02,2020-02-03\n"), "--yes"


@fails_with("prepare.constant-target")
def a_target_of_one_value(folder: TableFolder) -> Arguments:
    return "prepare", folder.write("t.csv", "a,y\n1,2\n3,2\n"), "--target", "y", "--yes"


@fails_with("prepare.doubtful-target")
def a_target_that_can_be_read_in_two_ways(folder: TableFolder) -> Arguments:
    return "prepare", folder.write("t.csv", 'a,y\n1,"1,200"\n3,950\n'), "--target", "y", "--yes"


@fails_with("prepare.no-number-target")
def a_regression_of_words(folder: TableFolder) -> Arguments:
    return people(folder, "--target", "city", "--task", "regression")


@fails_with("prepare.too-many-classes")
def names_as_classes(folder: TableFolder) -> Arguments:
    return people(folder, "--target", "name")


@fails_with("prepare.in-the-way")
def files_of_somebody(folder: TableFolder) -> Arguments:
    folder.write("dataset/X/mine.csv", "a\n1\n")
    return people(folder)


@fails_with("prepare.model-exists")
def a_model_of_somebody(folder: TableFolder) -> Arguments:
    folder.write("model/people.py", "")
    return people(folder, "--model", "mlp")


@fails_with("prepare.model-without-target")
def a_model_of_nothing(folder: TableFolder) -> Arguments:
    return people(folder, "--target", "none", "--model", "mlp")


@fails_with("recipe.version")
def a_recipe_of_tomorrow(folder: TableFolder) -> Arguments:
    return predicting(folder, '{"kind": "table", "version": 99}')


@fails_with("recipe.no-recipe")
def a_recipe_that_is_none(folder: TableFolder) -> Arguments:
    return predicting(folder, "[1]")


@fails_with("recipe.missing-columns")
def rows_without_a_column(folder: TableFolder) -> Arguments:
    return prepared(folder, "age,city\n1,Oslo\n")


@fails_with("recipe.other-columns")
def rows_of_another_width(folder: TableFolder) -> Arguments:
    return prepared(folder, "1,2,3\n")


@fails_with("recipe.other-value")
def a_word_among_numbers(folder: TableFolder) -> Arguments:
    return prepared(folder, "age,city,joined,income\nold,Oslo,2020-01-02,$5\n")


@fails_with("predict.out-exists")
def predictions_that_are_there(folder: TableFolder) -> Arguments:
    return "predict", "model.keras", folder.write("t.csv", "a\n1\n"), "--out", folder.write("p.csv", "")


@fails_with("predict.no-rows")
def rows_that_are_not_there(folder: TableFolder) -> Arguments:
    return "predict", "model.keras", folder.root / "t.csv", "--out", folder.root / "p.csv"


@fails_with("predict.no-model")
def a_run_that_is_not_there(folder: TableFolder) -> Arguments:
    return "predict", "20260101-000000", folder.write("t.csv", "a\n1\n"), "--out", folder.root / "p.csv"


def predicting(folder: TableFolder, recipe: str, rows: str = "a\n1\n") -> Arguments:
    folder.write("recipe.json", recipe)
    model = folder.write("model.keras", "it is not looked at before the rows fit")
    return "predict", model, folder.write("new.csv", rows), "--out", folder.root / "p.csv"


def prepared(folder: TableFolder, rows: str) -> Arguments:
    folder.prepare(folder.write("people.csv", PEOPLE), "--target", "bought")
    return predicting(folder, (folder.root / "dataset" / "recipe.json").read_text(encoding="utf-8"), rows)


# --- images -----------------------------------------------------------------------------------------------------


def photos(folder: TableFolder, *names: str) -> Path:
    for name in names:
        path = folder.root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return folder.root / "photos"


@fails_with("images.one-class")
def cats_only(folder: TableFolder) -> Arguments:
    return "prepare", photos(folder, "cat/1.png"), "--yes"


@fails_with("images.none")
def an_empty_folder(folder: TableFolder) -> Arguments:
    (folder.root / "photos").mkdir()
    return "prepare", folder.root / "photos", "--yes"


@fails_with("images.empty-class")
def a_class_without_images(folder: TableFolder) -> Arguments:
    (photos(folder, "cat/1.png") / "dog").mkdir()
    return "prepare", folder.root / "photos", "--yes"


@fails_with("images.other-file")
def a_photo_beside_the_classes(folder: TableFolder) -> Arguments:
    return "prepare", photos(folder, "cat/1.png", "dog/1.png", "2.png"), "--yes"


@fails_with("images.damaged")
def a_photo_of_text(folder: TableFolder) -> Arguments:
    folder.write("photos/dog/1.png", "no image")
    return "prepare", photos(folder, "cat/1.png"), "--yes"


@fails_with("images.wrong-size")
def a_size_in_words(folder: TableFolder) -> Arguments:
    return "prepare", photos(folder, "cat/1.png", "dog/1.png"), "--size", "large", "--yes"


@fails_with("prepare.several-folders")
def a_folder_and_a_table(folder: TableFolder) -> Arguments:
    return "prepare", photos(folder, "cat/1.png"), folder.write("t.csv", "a,y\n1,2\n"), "--yes"
