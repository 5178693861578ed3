"""`lanfit prepare` and its recipe: what becomes of each column, of targets, and of what is there already."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image
from preparing import PEOPLE, TableFolder, column, table
from running import ROOT

from lanfit.core.workspace import Workspace
from lanfit_server.prepare_data.recipe import ImageRecipe, Recipe, apply_recipe, read_recipe, to_json
from lanfit_server.prepare_data.text_tables import read_text_table
from lanfit_server.prepare_data.writing import current_recipe


@pytest.fixture
def store(tmp_path: Path) -> TableFolder:
    return TableFolder(tmp_path)


def recipe_of(store: TableFolder) -> Recipe:
    recipe = read_recipe(store.root / "dataset" / "recipe.json")
    assert isinstance(recipe, Recipe)
    return recipe


def test_each_column_becomes_what_it_holds(store: TableFolder) -> None:
    output = store.prepare(store.write("people.csv", PEOPLE), "--target", "bought")
    names, rows = store.inputs()
    assert names == [
        "age", "city=Oslo", "city=Rome", "joined year", "joined month", "joined day", "joined weekday", "income",
    ]  # fmt: skip
    assert rows[0] == [31, 1, 0, 2020, 1, 2, 3, 1200.5]
    assert column(store, "age")[2] == 40  # the median of 31, 40, 25, 55, 47
    assert column(store, "city=Oslo")[3] == 1  # the most frequent
    assert store.targets() == ["bought", "yes", "no", "yes", "no", "no", "yes"]
    assert output["left_out"] == {"id": "it numbers the rows", "name": "text, unique in every row"}
    assert output["classes"] == ["no", "yes"]
    assert output["task"] == "classification"


def test_a_recipe_makes_the_same_numbers_again(store: TableFolder) -> None:
    path = store.write("people.csv", PEOPLE)
    store.prepare(path, "--target", "bought")
    recipe = recipe_of(store)
    again = apply_recipe(recipe, read_text_table(path))
    assert np.array_equal(again.x, np.float32(store.inputs()[1]))
    store.write("copy.json", to_json(recipe).decode())
    assert read_recipe(store.root / "copy.json") == recipe


def test_new_rows_go_by_name_and_what_is_new_is_reported(store: TableFolder) -> None:
    store.prepare(store.write("people.csv", PEOPLE), "--target", "bought")
    new = store.write(
        "new.csv", 'extra,income,joined,city,age\n7,"$10.00",2022-01-01,Paris,\n8,$5,2022-01-02,Rome,30\n'
    )
    applied = apply_recipe(recipe_of(store), read_text_table(new))
    assert applied.x[:, 1:3].tolist() == [[0, 0], [0, 1]]
    assert applied.x[:, 0].tolist() == [40, 30]
    assert applied.x[:, 7].tolist() == [10, 5]
    assert [note for note in applied.notes if '"Paris" in 1 row' in note]
    assert [note for note in applied.notes if '"age": 1 missing value filled with 40' in note]
    assert [note for note in applied.notes if '"extra"' in note]


def test_rows_without_a_target_are_left_out_and_counted(store: TableFolder) -> None:
    output = store.prepare(store.write("t.csv", "a,y\n1,2.5\n2,\n3,1.5\n4,NA\n5,7.25\n6,8\n"), "--target", "y")
    assert column(store, "a") == [1, 3, 5, 6]
    assert store.targets() == ["y", "2.5", "1.5", "7.25", "8"]
    assert output["rows_left_out"] == 2
    assert [note for note in output["notes"] if "2 rows without a target" in note]
    assert output["task"] == "regression"


def test_what_is_proposed_can_be_corrected_with_flags(store: TableFolder) -> None:
    path = store.write("t.csv", table(["zip", "size", "y"], [(n % 3, n, n % 2) for n in range(12)]))
    store.prepare(path, "--target", "y", "--category", "zip", "--drop", "size", "--task", "regression")
    assert store.inputs()[0] == ["zip=0", "zip=1", "zip=2"]
    assert store.recipe()["target"]["task"] == "regression"
    assert store.prepare(path, "--target", "3", "--category", "zip,size")["task"] == "classification"


def test_answers_come_line_by_line(store: TableFolder) -> None:
    path = store.write("people.csv", PEOPLE)
    done = store.run("prepare", path, answers="bought\n\ncity = drop\nage = category\n\nnone\n")
    assert done.exit_code == 0, done.stderr
    assert not any(name.startswith("city") for name in store.inputs()[0])
    assert "age=31" in store.inputs()[0]
    assert "Target column [bought]" in done.stderr
    assert done.stdout.startswith("Prepared: 6 rows")


def test_the_end_of_the_answers_names_the_question_and_its_flag(store: TableFolder) -> None:
    done = store.refused("prepare", store.write("people.csv", PEOPLE), answers="")
    assert "Target column" in done.stderr
    assert "--target" in done.stderr


def test_classes_that_are_numbers_get_numbers_from_zero(store: TableFolder) -> None:
    path = store.write("t.csv", table(["a", "y"], [(n, 3 + n % 3) for n in range(12)]))
    output = store.prepare(path, "--target", "y")
    assert output["classes"] == ["3", "4", "5"]
    assert store.targets() == ["y", *["0", "1", "2"] * 4]


def test_labels_that_a_spreadsheet_would_compute_are_written_as_numbers(store: TableFolder) -> None:
    path = store.write("t.csv", table(["a", "y"], [(n, ["=A1", "b"][n % 2]) for n in range(6)]))
    store.prepare(path, "--target", "y")
    assert store.targets() == ["y", *["0", "1"] * 3]
    assert store.recipe()["target"]["classes"] == ["=A1", "b"]


def test_names_of_columns_that_are_numbers_stay_names(store: TableFolder) -> None:
    rows = [(n + 0.5, n * 2.5, "ab"[n % 2]) for n in range(6)]
    store.prepare(store.write("t.csv", table(["400", "410", "kind"], rows)), "--target", "kind")
    assert store.inputs()[0] == ["column 400", "column 410"]
    assert len(store.inputs()[1]) == 6


def test_a_table_without_a_header_is_read_by_place(store: TableFolder) -> None:
    path = store.write("t.csv", "".join(f"{n + 0.5},{n * 2},{'ab'[n % 2]}\n" for n in range(6)))
    output = store.prepare(path)
    assert output["target"] == "column 3"
    assert output["rows"] == 6
    applied = apply_recipe(recipe_of(store), read_text_table(store.write("new.csv", "1.5,2\n2.5,4\n")))
    assert applied.x.tolist() == [[1.5, 2], [2.5, 4]]


def test_tables_of_the_same_columns_are_put_together(store: TableFolder) -> None:
    one = store.write("one.csv", "a,b,y\n1,2,3.5\n3,4,4.5\n")
    two = store.write("two.csv", "y,b,a\n5.5,6,7\n")
    assert store.prepare(one, two, "--target", "y")["rows"] == 3
    assert store.inputs()[1] == [[1, 2], [3, 4], [7, 6]]
    assert store.recipe()["tables"] == ["one.csv", "two.csv"]


def test_a_workbook_is_prepared_like_a_csv_file(store: TableFolder) -> None:
    import datetime

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["when", "size", "kind"])
    for n in range(6):
        sheet.append([datetime.datetime(2020, 1 + n, 5), n + 0.25, "ab"[n % 2]])
    book.save(store.root / "t.xlsx")
    store.prepare(store.root / "t.xlsx", "--target", "kind")
    assert column(store, "when month") == [1, 2, 3, 4, 5, 6]
    assert column(store, "size") == [0.25, 1.25, 2.25, 3.25, 4.25, 5.25]


def test_without_a_target_only_inputs_are_written(store: TableFolder) -> None:
    output = store.prepare(store.write("t.csv", "a,b\n1,2\n3,5\n"), "--target", "none")
    assert store.inputs() == (["a", "b"], [[1, 2], [3, 5]])
    assert not (store.root / "dataset" / "Y").exists()
    assert output["target"] is None


def test_a_column_that_can_not_be_read_in_one_way_is_left_out_with_the_way_out(store: TableFolder) -> None:
    path = store.write("t.csv", 'a,price,y\n1,"1,200",2.5\n2,950,3\n3,700,4\n'.replace("2.5", "2"))
    output = store.prepare(path, "--target", "y", "--task", "regression")
    assert [note for note in output["notes"] if '"1,200" may be 1200 or 1.2' in note and "--thousands" in note]
    store.prepare(path, "--target", "y", "--task", "regression", "--thousands", ",")
    assert column(store, "price") == [1200, 950, 700]
    store.prepare(path, "--target", "y", "--task", "regression", "--decimal", ",")
    assert column(store, "price") == pytest.approx([1.2, 950, 700])


def test_dates_with_a_given_order_are_read_so(store: TableFolder) -> None:
    path = store.write("t.csv", "on,y\n01/02/2020,1.5\n03/04/2020,2.5\n")
    assert "month" in str(store.refused("prepare", path, "--target", "y", "--yes").stderr)
    store.prepare(path, "--target", "y", "--day-first")
    assert column(store, "on month") == [2, 4]
    store.prepare(path, "--target", "y", "--month-first")
    assert column(store, "on month") == [1, 3]


def test_a_text_that_means_missing_can_be_named(store: TableFolder) -> None:
    path = store.write("t.csv", "a,y\n1,1.5\nunknown,2.5\n3,3.5\nunknown,2\n")
    store.prepare(path, "--target", "y", "--missing", "unknown")
    assert column(store, "a") == [1, 2, 3, 2]


def test_the_sample_gives_way_and_other_files_do_not(store: TableFolder) -> None:
    path = store.write("t.csv", "a,y\n1,1.5\n2,2.5\n")
    for folder in ("X", "Y"):
        (store.root / "dataset" / folder).mkdir(parents=True)
        shutil.copyfile(ROOT / "dataset" / folder / "digits.csv", store.root / "dataset" / folder / "digits.csv")
    output = store.prepare(path, "--target", "y")
    assert [note for note in output["notes"] if "the sample data is replaced" in note]
    assert not (store.root / "dataset" / "X" / "digits.csv").exists()
    mine = store.write("dataset/X/mine.csv", "a\n1\n")
    done = store.refused("prepare", path, "--target", "y", "--yes")
    assert "dataset/X/mine.csv" in done.stderr
    assert mine.exists()
    store.prepare(path, "--target", "y", "--replace")
    assert (store.root / "dataset" / "replaced-1" / "X" / "mine.csv").read_text() == "a\n1\n"


def test_what_was_prepared_before_gives_way_unless_it_was_changed(store: TableFolder) -> None:
    path = store.write("t.csv", "a,y\n1,1.5\n2,2.5\n")
    store.prepare(path, "--target", "y")
    assert [note for note in store.prepare(path, "--target", "y")["notes"] if "previously prepared" in note]
    [x] = (store.root / "dataset" / "X").iterdir()
    x.write_text("a\n5\n6\n")
    store.refused("prepare", path, "--target", "y", "--yes")


def test_a_refusal_writes_nothing(store: TableFolder) -> None:
    store.refused("prepare", store.write("t.csv", "a,y\n1,2\n3,2\n"), "--target", "y", "--yes")
    assert not (store.root / "dataset").exists()


def test_the_recipe_counts_only_while_its_files_are_as_they_were(store: TableFolder) -> None:
    store.prepare(store.write("t.csv", "a,y\n1,1.5\n2,2.5\n"), "--target", "y")
    place = Workspace(store.root)
    assert current_recipe(place) == (store.root / "dataset" / "recipe.json").read_bytes()
    [x] = (store.root / "dataset" / "X").iterdir()
    x.write_text("a\n5\n6\n")
    assert current_recipe(place) is None


def test_numbers_are_written_as_float32_holds_them(store: TableFolder) -> None:
    values = np.random.default_rng(0).normal(0, 1e3, 50)
    store.prepare(
        store.write("t.csv", table(["a", "y"], [(v, n + 0.5) for n, v in enumerate(values)])), "--target", "y"
    )
    assert np.array_equal(np.float32(column(store, "a")), np.float32(values))


def test_columns_of_one_name_are_distinguished(store: TableFolder) -> None:
    store.prepare(store.write("t.csv", "a,a,y\n1,2,1.5\n3,4,2.5\n"), "--target", "y")
    assert store.inputs()[0] == ["a", "a (2)"]


def test_a_separator_too_many_behind_the_names_is_no_column(store: TableFolder) -> None:
    store.prepare(store.write("t.csv", "a,b,y,\n1,2,1.5\n3,4,2.5\n"), "--target", "y")
    assert store.inputs() == (["a", "b"], [[1, 2], [3, 4]])
    store.refused("prepare", store.write("u.csv", "a,b,y,\n1,2,1.5\n3,4,2.5,6\n"), "--target", "y", "--yes")


def test_the_only_column_is_an_input_not_a_target(store: TableFolder) -> None:
    output = store.prepare(store.write("t.csv", "id,y\n1,1.5\n2,2.5\n3,1\n"))
    assert output["target"] is None
    assert output["inputs"] == ["y"]
    assert [note for note in output["notes"] if "is the only possible input" in note]


def test_a_folder_of_images_becomes_an_array_and_labels(store: TableFolder) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        path = store.root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).save(path)
    output = store.prepare(store.root / "photos", "--size", "4x5")
    x = np.load(store.root / "dataset" / "X" / "photos.npz")["arr_0"]
    assert (x.shape, x.dtype) == ((3, 4, 5, 3), np.uint8)
    assert store.targets() == ["class", "cat", "cat", "dog"]
    recipe = read_recipe(store.root / "dataset" / "recipe.json")
    assert isinstance(recipe, ImageRecipe)
    assert (recipe.height, recipe.width, recipe.channels, recipe.classes) == (4, 5, 3, ("cat", "dog"))
    assert [note for note in output["notes"] if "resized to 4×5 pixels" in note]
    assert store.prepare(store.root / "photos")["shape"] == [8, 10, 3]  # their own, as all have it


def test_a_parquet_file_is_prepared_like_a_csv_file(store: TableFolder) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import datetime

    from pyarrow import parquet

    on = [datetime.date(2020, month, 5) for month in (1, 2, 3, 4)]
    columns = {"size": [1.5, None, 2.5, 8.0], "on": on, "kind": ["a", "b", "a", "b"]}
    parquet.write_table(pyarrow.table(columns), store.root / "t.parquet")
    store.prepare(store.root / "t.parquet", "--target", "kind")
    assert column(store, "size") == [1.5, 2.5, 2.5, 8]
    assert column(store, "on month") == [1, 2, 3, 4]
    assert store.targets() == ["kind", "a", "b", "a", "b"]
