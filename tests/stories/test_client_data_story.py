"""Data on the clients, from the outside: only weights, counts, constants, names and figures come to the server."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_cases import assert_reported
from running import ROOT, Place, Program, assert_same_weights, client, fake_lab, flags, free_port, lab, plain_keras

from lanfit.data.plan import plan_rows

pytestmark = pytest.mark.story
DIGITS = np.loadtxt(ROOT / "dataset/X/digits.csv", delimiter=",", skiprows=1)
NUMBERS = np.loadtxt(ROOT / "dataset/Y/digits.csv", delimiter=",", skiprows=1).astype(int)
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OWN = {"data": "client", "normalizer": "zscore", "batch_size": 16}
#: For a client that is to be lost with its task trained, and nothing of it handed over.
DIES = {"LANFIT_CRASH": "client.trained"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A server that has a model, and no data at all."""
    place = Place(tmp_path / "server")
    shutil.rmtree(place.root / "dataset")
    (place.root / "dataset").mkdir()
    return place


def write_table(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([f"column {number}" for number in range(len(rows[0]))])
        writer.writerows(rows)


def give(folder: Path, rows: np.ndarray, labels: Sequence[object]) -> Path:
    """Put rows and labels where a client looks for its own."""
    write_table(folder / "dataset/X/rows.csv", rows.tolist())
    write_table(folder / "dataset/Y/labels.csv", [[label] for label in labels])
    return folder


def words(rows: np.ndarray) -> list[str]:
    return [NAMES[number] for number in NUMBERS[rows]]


def two_labs(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Two machines with words as labels: the first has no nines, the second no zeros."""
    first, second = np.arange(0, 500), np.arange(500, 900)
    first, second = first[NUMBERS[first] != 9], second[NUMBERS[second] != 0]
    one = give(tmp_path / "a", DIGITS[first], words(first))
    return one, give(tmp_path / "b", DIGITS[second], words(second)), first, second


def training_rows(rows: np.ndarray, *, split: float = 0.1) -> np.ndarray:
    """The rows that a client trains on: anyone who has them can draw them."""
    codes = np.unique(words(rows), return_inverse=True)[1]
    return rows[plan_rows(len(rows), 1, 0.2, split, 0, codes).shards[0].train]


def run_two(
    place: Place, one: Path, two: Path, *arguments: object, lab: Callable[..., Program] = lab, **job: object
) -> None:
    """Run a job; the arguments are of the second client."""
    port = free_port()
    with (
        place.server(*flags(port, 2, **{**OWN, **job})) as server,
        lab(one, port, "lab-1") as first,
        lab(two, port, "lab-2", *arguments) as second,
    ):
        server.finish()
        for each in (first, second):
            each.finish()
        place.output = server.output  # type: ignore[attr-defined]


def test_two_clients_train_on_their_own_data_with_other_labels_and_nobody_sees_it(place: Place, tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    one, two, first, second = two_labs(tmp_path)
    (two / "dataset").rename(tmp_path / "elsewhere")
    run_two(place, one, two, "--data", tmp_path / "elsewhere")
    summary = place.summary()
    assert (summary["status"], summary["metrics_from"]) == ("done", "clients")
    assert summary["data"]["source"] == "client"
    assert summary["data"]["samples"] == len(first) + len(second)
    assert summary["data"]["labels"] == sorted(NAMES)
    output = place.output  # type: ignore[attr-defined]
    assert "lab-1 has no rows of nine" in output
    assert "lab-2 has no rows of zero" in output
    assert "0 eight, 1 five" in output

    # One fit over the training rows of both, by scikit-learn; the digits' pixels are taken as one array by the model.
    both = np.concatenate([training_rows(first), training_rows(second)])
    scaler = StandardScaler().fit(DIGITS[both].reshape(-1, 1))
    collected = place.root / "model" / "collected" / summary["run"]
    found = json.loads((collected / "preprocessing.json").read_text())
    np.testing.assert_allclose(found["subtract"], scaler.mean_[0], rtol=1e-12)
    np.testing.assert_allclose(1 / found["multiply"], scaler.scale_[0], rtol=1e-12)
    assert found["labels"] == sorted(NAMES)

    metrics = {each["name"]: each["metrics"] for each in summary["clients"]}
    assert all(each["accuracy"] > 0.3 for each in metrics.values())
    assert summary["final"]["metrics"] in metrics.values()
    assert summary["final"]["metrics"]["loss"] == min(each["loss"] for each in metrics.values())
    # Nothing of the clients' files is on the server: no row, no name of a folder.
    row = ",".join(map(str, DIGITS[first[0]].tolist())).encode()
    for content in place.files().values():
        assert row not in content
        assert str(tmp_path / "a").encode() not in content


def test_folds_of_own_data_and_the_best_is_found_by_all_test_rows(place: Place, tmp_path: Path) -> None:
    one, two, first, second = two_labs(tmp_path)
    run_two(place, one, two, lab=fake_lab, method="kfold", folds=2, epochs=1)
    summary = place.summary()
    assert summary["status"] == "done"
    for each, rows in zip(summary["clients"], (first, second), strict=True):
        assert [fold["fold"] for fold in each["folds"]] == [1, 2]
        assert all(fold["scores"]["accuracy"] > 0 for fold in each["folds"])
        assert each["samples"] == len(rows) - -(-len(rows) // 5)  # all but the test rows
    assert summary["final"]["metrics"]["loss"] == min(each["metrics"]["loss"] for each in summary["clients"])


def test_merged_models_are_evaluated_by_the_clients(place: Place, tmp_path: Path) -> None:
    one, two, _, _ = two_labs(tmp_path)
    run_two(place, one, two, lab=fake_lab, merge="average,ensemble")
    merged = place.summary()["merged"]
    assert [each["name"] for each in merged] == ["average", "ensemble"]
    assert all({"loss", "accuracy", "f1"} <= set(each["metrics"]) for each in merged)


def test_an_autoencoder_learns_from_own_data(place: Place, tmp_path: Path) -> None:
    import keras

    layers = [keras.Input((64,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(64)]
    model = keras.Sequential(layers)
    model.compile("adam", "mse")
    model.save(place.root / "model" / "auto.keras")
    one, two, first, second = two_labs(tmp_path)
    for folder in (one, two):
        shutil.rmtree(folder / "dataset" / "Y")
    run_two(place, one, two, model="auto.keras", order="XX", epochs=1)
    summary = place.summary()
    assert summary["status"] == "done"
    assert summary["data"]["samples"] == len(first) + len(second)
    assert summary["data"]["labels"] is None
    assert summary["final"]["metrics"]["loss"] > 0


def test_a_client_and_a_server_that_are_killed_and_come_back_give_the_same_models(place: Place, tmp_path: Path) -> None:
    one, two, _, _ = two_labs(tmp_path)
    run_two(place, one, two, lab=fake_lab)
    baseline = place.summary()
    port = free_port()
    with (
        place.server(*flags(port, 2, **OWN)) as server,
        fake_lab(one, port, "lab-1") as first,
        fake_lab(two, port, "lab-2", environment=DIES) as second,
    ):
        second.finish(-9)
        server.expect(r"lab-2 was lost .*no other client has its rows; waiting \d+ s more for it \(--deadline\)")
        server.kill()
        [run] = {path.parent.name for path in (place.root / "logs").glob("*/ledger.sqlite")} - {baseline["run"]}
        with place.server("--resume", run, passphrase=None) as resumed, fake_lab(two, port, "lab-2") as again:
            resumed.finish()
            again.finish()
            first.finish()
    stormy = place.summary()
    assert (stormy["status"], stormy["run"]) == ("done", place.runs[-1])
    assert stormy["final"]["metrics"] == baseline["final"]["metrics"]
    for name in ("lab-1", "lab-2"):
        folder = place.root / "model" / "collected"
        assert_same_weights(folder / baseline["run"] / f"{name}.h5", folder / stormy["run"] / f"{name}.h5")


def test_a_folder_of_own_data_that_is_not_there_is_reported_at_once(tmp_path: Path) -> None:
    with client(tmp_path, 1, "lab-1", "--data", tmp_path / "nowhere") as worker:
        worker.finish(2)
    assert_reported("own-data.no-folder", worker.output)
    assert "nowhere" in worker.output


def test_labels_that_are_others_than_the_client_has_told_are_named(place: Place, tmp_path: Path) -> None:
    one, port = give(tmp_path / "a", DIGITS[:400], words(np.arange(400))), free_port()
    with place.server(*flags(port, 1, **OWN)) as server:
        with fake_lab(one, port, "lab-1", environment=DIES) as first:
            first.finish(-9)
        server.expect("lab-1 was lost")
        give(one, DIGITS[:400], [word.upper() for word in words(np.arange(400))])
        with fake_lab(one, port, "lab-1") as again:
            server.finish(4)
            again.finish(4)
    for output in (server.output, again.output):
        assert_reported("own-data.labels-changed", output)


def lacking_a_column(folder: Path) -> None:
    write_table(folder / "dataset/X/rows.csv", DIGITS[:400, :63].tolist())


def numbers_for_words(folder: Path) -> None:
    write_table(folder / "dataset/Y/labels.csv", NUMBERS[:400, None].tolist())


def a_name_among_numbers(folder: Path) -> None:
    write_table(folder / "dataset/X/rows.csv", [["Ms Secret", *DIGITS[0, 1:]], *DIGITS[1:400].tolist()])


def model_of_any_columns(place: Place) -> str:
    """A model for which rows may have any number of values."""
    code = "import keras; from keras import layers; model = keras.Sequential([keras.Input((None,)), "
    code += "layers.Embedding(20, 4), layers.GlobalAveragePooling1D(), layers.Dense(10, 'softmax')]); "
    code += "model.compile('adam', 'sparse_categorical_crossentropy'); model.save(sys.argv[1])"
    plain_keras(code, place.root / "model" / "any.keras")
    return "any.keras"


@pytest.mark.parametrize(
    ("corrupt", "code", "cause"),
    [
        (lacking_a_column, "own-data.unusable", r"rows\.csv has rows of 63 values, but the model takes 8×8×1"),
        (lacking_a_column, "survey.other-columns", "lab-2 has rows of 63 columns, but lab-1 has rows of 64"),
        (
            numbers_for_words,
            "survey.words-and-numbers",
            "the labels of lab-1 are strings, but those of lab-2 are numbers",
        ),
        (
            a_name_among_numbers,
            "own-data.unusable",
            r'the data of lab-2 can\'t be used: X.rows\.csv, line 2, column "column 0": "…" is not a number',
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_own_files_that_do_not_fit_are_named_with_their_client(
    corrupt: Callable[[Path], None], code: str, cause: str, place: Place, tmp_path: Path
) -> None:
    one = give(tmp_path / "a", DIGITS[:400], words(np.arange(400)))
    two = give(tmp_path / "b", DIGITS[:400], words(np.arange(400)))
    corrupt(two)
    model = model_of_any_columns(place) if code == "survey.other-columns" else "digits.h5"
    before, port = place.files(), free_port()
    with (
        place.server(*flags(port, 2, **{**OWN, "model": model, "normalizer": "none"})) as server,
        lab(one, port, "lab-1") as first,
        lab(two, port, "lab-2") as second,
    ):
        server.expect("read and check their")
        server.finish(2)
        assert_reported(code, server.output)
        server.expect(cause)
        assert "Ms Secret" not in server.output
        assert str(two) not in server.output
        first.finish(0)
        second.finish(4 if code == "own-data.unusable" else 0)
        reported = (
            "the data of this client can't be used" if code == "own-data.unusable" else "see the server for the reason"
        )
        second.expect(f"No run was started: {reported}")
    assert place.files() == before


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")
def test_own_files_are_used_with_consent_and_read_again_when_they_are_corrected(place: Place, tmp_path: Path) -> None:
    one = give(tmp_path / "a", DIGITS[:100], words(np.arange(100)))
    two = give(tmp_path / "b", DIGITS[:100], words(np.arange(100)))
    lacking_a_column(two)
    port = free_port()
    answers = {"model": "digits.h5", "optimizer": "compiled", "loss": "compiled", "method": "fit", "order": "XY"}
    *arguments, _ = flags(port, 2, **{**OWN, "epochs": 1, **answers})  # without --yes
    with (
        place.server(*arguments, "--no-dashboard", terminal=True) as server,
        client(one, port, "lab-1") as silent,
        client(two, port, "lab-2", terminal=True) as second,
    ):
        server.expect("Start training")
        server.type("y")
        second.expect("May the server use this data, now and in later runs")
        second.type("y")
        server.expect("Waiting for corrected files of lab-")
        second.expect("Correct them and press Enter here")
        # Nobody can be asked at the other one. What its server is told to have typed there is right.
        server.expect(r"the data of lab-1 can't be used: the user of this client has not allowed")
        assert_reported("own-data.not-allowed", silent.output)
        assert f"lanfit client 127.0.0.1:{port} --data DIR" in server.output
        silent.interrupt()
        silent.finish(130)
        with lab(one, port, "lab-1") as first:
            server.expect("lab-1 has 72 rows to train on")
            write_table(two / "dataset/X/rows.csv", DIGITS[:100].tolist())
            second.type("")
            for program in (server, first, second):
                program.finish()
    assert place.summary()["status"] == "done"
