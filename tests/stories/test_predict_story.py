"""`lanfit predict`, and the models that `lanfit prepare` makes: with Keras, in this process, by the commands."""

from __future__ import annotations

import csv
import json
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_cases import assert_reported
from PIL import Image
from preparing import PEOPLE, TableFolder, table

from lanfit_server.prepare_data.models import model_script

pytestmark = pytest.mark.keras


@pytest.fixture
def prepared(tmp_path: Path) -> TableFolder:
    return TableFolder(tmp_path)


def save(path: Path, *layers: Any, loss: str = "sparse_categorical_crossentropy") -> Any:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(list(layers))
    model.compile("adam", loss)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def predicted(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def trained(prepared: TableFolder, **options: Any) -> tuple[Any, Path]:
    """A model for the prepared people, in a folder like a run's, with the recipe beside it."""
    import keras

    prepared.prepare(prepared.write("people.csv", PEOPLE), "--target", "bought")
    folder = prepared.root / "model" / "collected" / "run"
    inputs = len(prepared.recipe()["inputs"])
    layers = (keras.Input((inputs,)), keras.layers.Rescaling(0.001), keras.layers.Dense(2, "softmax"))
    model = save(folder / "final.keras", *layers, **options)
    (prepared.root / "dataset" / "recipe.json").rename(folder / "recipe.json")
    return model, folder


def test_raw_rows_get_predictions_with_names(prepared: TableFolder) -> None:
    model, _ = trained(prepared)
    x = np.float32(prepared.inputs()[1])
    out = prepared.root / "p.csv"
    done = prepared.run("predict", "run", prepared.root / "people.csv", "--out", out)
    assert done.exit_code == 0, (done.stderr, done.exception)
    rows = predicted(out)
    chances = model.predict(x, verbose=0)
    assert [row["prediction"] for row in rows] == [["no", "yes"][n] for n in chances.argmax(axis=1)]
    assert [float(row["probability of yes"]) for row in rows] == pytest.approx(chances[:, 1].tolist(), abs=1e-6)
    assert [row["name"] for row in rows][:2] == ["Ann Lee", "Bob Ray"]
    assert "6 rows predicted" in done.stdout


def test_rows_without_the_target_and_with_new_values_are_predicted_and_that_is_reported(prepared: TableFolder) -> None:
    trained(prepared)
    new = prepared.write("new.csv", "city,joined,income,age\nParis,2022-01-01,$5,\n")
    done = prepared.run("predict", "run", new, "--out", prepared.root / "p.csv", "--json")
    output = json.loads(done.stdout)
    assert output["rows"] == 1
    assert [note for note in output["notes"] if '"Paris"' in note]
    assert [note for note in output["notes"] if "missing value" in note]


def test_cells_that_a_spreadsheet_would_compute_are_sanitized(prepared: TableFolder) -> None:
    trained(prepared)
    lines = "=cmd|'/c calc'!A1,Oslo,2022-01-01,$5,-3\n+1+1,Rome,2022-01-01,$5,4\n@x,Rome,2022-01-01,$5,4\n"
    new = prepared.write("new.csv", "name,city,joined,income,age\n" + lines)
    done = prepared.run("predict", "run", new, "--out", prepared.root / "p.csv")
    assert done.exit_code == 0, done.stderr
    rows = predicted(prepared.root / "p.csv")
    assert [row["name"][:2] for row in rows] == ["'=", "'+", "'@"]
    assert rows[0]["age"] == "-3"


def test_numbers_are_predicted_without_a_recipe_and_labels_lie_beside_the_model(prepared: TableFolder) -> None:
    import keras

    model = save(prepared.root / "m" / "final.keras", keras.Input((2,)), keras.layers.Dense(3, "softmax"))
    prepared.write("m/preprocessing.json", json.dumps({"labels": ["=a", "b", "c"]}))
    x = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    np.savez(prepared.root / "rows.npz", x)
    done = prepared.run("predict", prepared.root / "m", prepared.root / "rows.npz", "--out", prepared.root / "p.csv")
    assert done.exit_code == 0, done.stderr
    names = [["'=a", "b", "c"][n] for n in model.predict(x, verbose=0).argmax(axis=1)]
    assert [row["prediction"] for row in predicted(prepared.root / "p.csv")] == names
    assert [row["row"] for row in predicted(prepared.root / "p.csv")] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("loss", "outputs"), [("mean_squared_error", 1), ("binary_crossentropy", 1)])
def test_numbers_and_yes_or_no_are_predicted_for_what_they_are(prepared: TableFolder, loss: str, outputs: int) -> None:
    import keras

    activation = "sigmoid" if "binary" in loss else None
    model = save(prepared.root / "m.keras", keras.Input((2,)), keras.layers.Dense(outputs, activation), loss=loss)
    rows = prepared.write("rows.csv", "a,b\n1,2\n-3,4\n5,-6\n")
    done = prepared.run("predict", prepared.root / "m.keras", rows, "--out", prepared.root / "p.csv")
    assert done.exit_code == 0, done.stderr
    right = model.predict(np.float32([[1, 2], [-3, 4], [5, -6]]), verbose=0)[:, 0]
    got = [float(row["prediction"]) for row in predicted(prepared.root / "p.csv")]
    assert got == pytest.approx([float(n > 0.5) if activation else float(n) for n in right], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape", "classes"),
    [("mlp", (5,), 3), ("mlp", (8, 8, 3), 2), ("cnn", (5,), None), ("cnn", (20, 24, 1), 4), ("cnn", (3, 3, 3), 2)],
)
def test_the_script_of_a_model_builds_one_that_takes_the_rows(
    tmp_path: Path, kind: str, shape: tuple[int, ...], classes: int | None
) -> None:
    import keras

    script = model_script(kind, "m", "t.csv", shape, classes, ".")
    (tmp_path / "m.py").write_text(script)
    runpy.run_path(str(tmp_path / "m.py"))
    model = keras.models.load_model(tmp_path / "m.keras")
    assert model.predict(np.zeros((2, *shape)), verbose=0).shape == (2, classes or 1)
    assert model.loss == ("sparse_categorical_crossentropy" if classes else "mean_squared_error")


def test_prepare_makes_a_model_with_its_script(prepared: TableFolder) -> None:
    import keras

    output = prepared.prepare(prepared.write("people.csv", PEOPLE), "--target", "bought", "--model", "mlp")
    assert output["model"] == "model/people.keras"
    assert keras.models.load_model(prepared.root / "model/people.keras").input_shape == (None, 8)
    assert (prepared.root / "model/people.py").read_text().startswith('"""Builds and compiles the model for people.csv')
    assert output["next"][0] == "lanfit server --model people.keras --normalizer zscore"


def test_images_are_predicted_in_the_size_of_the_model(prepared: TableFolder) -> None:
    import keras

    layers = (keras.Input((4, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax"))
    model = save(prepared.root / "m" / "final.keras", *layers)
    prepared.write("m/preprocessing.json", json.dumps({"labels": ["cat", "dog"]}))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), np.uint8)
    for number, image in enumerate(pixels):
        path = prepared.root / "new" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    done = prepared.run("predict", prepared.root / "m", prepared.root / "new", "--out", prepared.root / "p.csv")
    assert done.exit_code == 0, (done.stderr, done.exception)
    rows = predicted(prepared.root / "p.csv")
    assert [row["file"] for row in rows] == [f"{number}.png" for number in range(12)]
    names = [["cat", "dog"][n] for n in model.predict(pixels, verbose=0).argmax(axis=1)]
    assert [row["prediction"] for row in rows] == names


# --- errors ---------------------------------------------------------------------------------------------------


def refused(prepared: TableFolder, code: str, *arguments: object, answers: str | None = None) -> None:
    assert_reported(code, prepared.refused(*arguments, answers=answers).stderr)


def test_what_can_not_be_predicted_is_named(prepared: TableFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    rows, out = prepared.write("rows.csv", "a,b\n1,2\n"), prepared.root / "p.csv"
    refused(prepared, "predict.not-loaded", "predict", prepared.write("no.keras", "x"), rows, "--out", out)
    save(prepared.root / "m" / "three.keras", keras.Input((3,)), keras.layers.Dense(1), loss="mse")
    refused(prepared, "predict.other-shape", "predict", prepared.root / "m" / "three.keras", rows, "--out", out)
    save(prepared.root / "m" / "final.keras", keras.Input((2,)), keras.layers.Dense(1), loss="mse")
    prepared.write("m/preprocessing.json", "[")
    refused(prepared, "predict.no-preprocessing", "predict", prepared.root / "m", rows, "--out", out)
    one, two = keras.Input((2,)), keras.Input((2,))
    keras.Model([one, two], keras.layers.Add()([one, two])).save(prepared.root / "several.keras")
    refused(prepared, "predict.several", "predict", prepared.root / "several.keras", rows, "--out", out)
    monkeypatch.setitem(__import__("sys").modules, "keras", None)
    refused(prepared, "predict.no-keras", "predict", prepared.root / "m", rows, "--out", out)
    assert not out.exists()


def test_a_script_that_fails_is_named(prepared: TableFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "no-such-backend")
    path = prepared.write("people.csv", PEOPLE)
    refused(prepared, "prepare.model-failed", "prepare", path, "--target", "bought", "--model", "mlp", "--yes")


def test_a_correction_that_is_none_is_named(prepared: TableFolder) -> None:
    path = prepared.write("t.csv", table(["a", "y"], [(1, 1.5), (2, 2.5)]))
    refused(prepared, "prepare.no-correction", "prepare", path, answers="y\n\na is a category\n")
