"""A model with two inputs and outputs: every method, on local and simulated clients, and what is written of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from running import Place, Program, assert_same_weights, each_model, plain_keras

pytestmark = pytest.mark.story
MAKE = """
import sys
sizes, places = keras.Input((2,), name="size"), keras.Input((1,), name="place")
hidden = keras.layers.Dense(4, "relu")(keras.layers.Concatenate()([sizes, places]))
ends = {
    "kind": keras.layers.Dense(3, "softmax", name="kind")(hidden), "price": keras.layers.Dense(1, name="price")(hidden)
}
model = keras.Model({"size": sizes, "place": places}, ends)
model.compile("adam", loss={"kind": "sparse_categorical_crossentropy", "price": "mse"})
model.save(sys.argv[1])
"""
FLAGS = ("--model", "flats.keras", "--clients", 2, "--epochs", 1, "--batch-size", 8, "--seed", 7, "--threads", 1,
         "--normalizer", "zscore")  # fmt: skip


@pytest.fixture(scope="module")
def flats(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place.__new__(Place)
    place.root = tmp_path_factory.mktemp("flats")
    for name in ("model", "dataset"):
        (place.root / name).mkdir()
    plain_keras(MAKE, place.root / "model" / "flats.keras")
    random = np.random.default_rng(0)
    size, area = random.uniform(20, 150, (60, 2)).astype("float32"), random.integers(0, 9, (60, 1)).astype("float32")
    np.savez(place.root / "dataset" / "flats.npz", size=size, place=area, kind=np.arange(60) % 3, price=size[:, :1])
    return place


def run_of(place: Place, command: str, *arguments: object) -> str:
    where = ("--host", "127.0.0.1", "--port", 0, "--local", 2, "--yes") if command == "server" else ()
    before = place.runs
    with Program(command, *FLAGS, *where, *arguments, folder=place.root) as program:
        program.finish()
    [run] = set(place.runs) - set(before)
    return run


@pytest.mark.parametrize(
    "method",
    [("fit", "--merge", "average"), ("kfold", "--folds", 2), ("federated", "--rounds", 2)],
    ids=["fit", "kfold", "federated"],
)
def test_each_method_gives_the_same_models_on_local_and_on_simulated_clients(
    method: tuple[object, ...], flats: Place
) -> None:
    local, simulated = (run_of(flats, command, "--method", *method) for command in ("server", "simulate"))
    for run in (local, simulated):
        summary = flats.summary(run)
        assert summary["status"] == "done"
        assert {"kind_accuracy", "price_mae", "loss"} <= set(summary["final"]["metrics"])
    models = [list(each_model(flats, run)) for run in (local, simulated)]
    assert ("average.h5" in [path.name for path in models[0]]) == ("average" in method)
    for ours, theirs in zip(*models, strict=True):
        assert_same_weights(ours, theirs)
    check_written(flats.root / "logs" / local)


def check_written(run: Path) -> None:
    """Each output has a file of its own, and a sheet of its own with the same columns after its name."""
    expected = {
        "1": ["row", "kind: true class", "kind: predicted class", *(f"kind: probability of {n}" for n in range(3))],
        "2": ["row", "price: target", "price: prediction"],
    }
    book = openpyxl.load_workbook(run / "report.xlsx", read_only=True)
    for number, columns in expected.items():
        with (run / f"predictions-{number}.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == [name.partition(": ")[2] or name for name in columns]
        sheet = list(book[f"predictions {number}"].iter_rows(values_only=True))
        assert list(sheet[0]) == columns
        assert len(sheet) == len(rows) > 10
    book.close()
