"""k-fold and merged models from the outside: a server and two clients in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from running import Place, client, flags, free_port, lines_of, port_of

pytestmark = pytest.mark.story


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


def run(place: Place, tmp_path: Path, **job: object) -> tuple[dict[str, Any], str]:
    """A run with two clients; returns its summary and what the server printed."""
    with (
        place.server(*flags(free_port(), 2, **job)) as server,
        client(tmp_path / "a", port_of(server), "lab-1") as first,
        client(tmp_path / "b", port_of(server), "lab-2") as second,
    ):
        server.finish()
        first.finish()
        second.finish()
    return place.summary(), server.stdout.decode()


def digits(place: Place) -> tuple[np.ndarray, np.ndarray]:
    x = np.loadtxt(place.root / "dataset/X/digits.csv", delimiter=",", skiprows=1, dtype=np.float32)
    y = np.loadtxt(place.root / "dataset/Y/digits.csv", delimiter=",", skiprows=1, dtype=np.int64)
    return x.reshape(-1, 8, 8, 1), y


@pytest.mark.keras
def test_two_clients_train_a_fresh_model_for_each_fold(place: Place, tmp_path: Path) -> None:
    summary, printed = run(place, tmp_path, method="kfold", folds=3, epochs=3, normalizer="zscore", patience=2, seed=1)
    assert summary["status"] == "done"
    assert summary["method"] == "kfold"
    collected = place.root / "model" / "collected" / summary["run"]
    logs = place.root / "logs" / summary["run"] / "clients"

    from lanfit.core.seeds import derive_seed
    from lanfit.data.split import partition, split_rows

    x, y = digits(place)
    rest, test = split_rows(len(x), 0.2, derive_seed(1, "test"), y)
    shards = [rest[part] for part in partition(len(rest), 2, derive_seed(1, "deal"), y[rest])]
    for shard, each in zip(shards, summary["clients"], strict=True):
        name = each["name"]
        assert each["tasks"] == len(each["folds"]) == 3
        scores = np.array([fold["scores"]["accuracy"] for fold in each["folds"]])
        assert each["mean"]["accuracy"] == pytest.approx(scores.mean())
        assert each["sd"]["accuracy"] == pytest.approx(scores.std())
        best = min(each["folds"], key=lambda fold: fold["metrics"]["loss"])
        assert each["metrics"] == best["metrics"]
        assert each["history"] == best["history"]
        assert best["fold"] != 1, "with this seed the test could not tell the best fold from the first"
        assert f"{each['mean']['accuracy']:.4f} ± {each['sd']['accuracy']:.4f}" in printed
        assert (collected / f"{name}.h5").is_file()
        assert (logs / name / "history.png").is_file()
        assert lines_of(logs / name / "history.csv") == lines_of(logs / name / f"history-fold-{best['fold']}.csv")
        for fold in each["folds"]:
            assert (logs / name / f"history-fold-{fold['fold']}.png").is_file()
            evaluated_as_by_scikit_learn(
                collected / f"{name}-fold-{fold['fold']}.h5", fold, x[shard], y[shard], (x[test], y[test])
            )
    assert len({fold["metrics"]["loss"] for each in summary["clients"] for fold in each["folds"]}) == 6

    best = min(summary["clients"], key=lambda each: each["metrics"]["loss"])
    assert summary["final"]["client"] == best["name"]
    assert summary["final"]["metrics"]["accuracy"] == pytest.approx(best["metrics"]["accuracy"])
    book = openpyxl.load_workbook(place.root / "logs" / summary["run"] / "report.xlsx", read_only=True)
    assert book.sheetnames == ["summary", "histories", "predictions"]


def evaluated_as_by_scikit_learn(
    path: Path, fold: dict[str, Any], x: np.ndarray, y: np.ndarray, test: tuple[np.ndarray, np.ndarray]
) -> None:
    """The fold's model, behind a normalizer fitted by scikit-learn on its training rows, scores what is told of it."""
    import keras
    from sklearn.metrics import accuracy_score
    from sklearn.model_selection import StratifiedKFold, train_test_split

    from lanfit.core.seeds import derive_seed

    number = fold["fold"]
    train, held_out = list(StratifiedKFold(3, shuffle=True, random_state=1).split(x, y))[number - 1]
    seed = derive_seed(1, "fold validation", number)
    train, _ = train_test_split(train, test_size=0.1, random_state=seed, stratify=y[train])
    mean, sd = x[train].mean(dtype=np.float64), x[train].std(dtype=np.float64)
    model = keras.models.load_model(path)

    def accuracy(rows: np.ndarray, labels: np.ndarray) -> float:
        predictions = model.predict((rows - mean) / sd, verbose=0)
        return float(accuracy_score(labels, predictions.argmax(axis=1)))

    assert fold["scores"]["accuracy"] == pytest.approx(accuracy(x[held_out], y[held_out]), abs=1e-9)
    assert fold["metrics"]["accuracy"] == pytest.approx(accuracy(*test), abs=1e-9)


@pytest.mark.keras
def test_average_and_ensemble_are_listed_with_the_clients_and_have_the_servers_metrics(
    place: Place, tmp_path: Path
) -> None:
    import keras
    from sklearn.metrics import accuracy_score

    summary, printed = run(place, tmp_path, merge="average,ensemble", normalizer="minmax", epochs=3)
    merged = {each["name"]: each for each in summary["merged"]}
    assert list(merged) == ["average", "ensemble"]
    assert "Averaging separately trained models rarely helps" in printed

    from lanfit.core.seeds import derive_seed
    from lanfit.data.split import split_rows

    x, y = digits(place)
    _, test = split_rows(len(x), 0.2, derive_seed(0, "test"), y)
    models = [keras.models.load_model(place.root / each["model"]) for each in summary["clients"]]
    average = keras.models.load_model(place.root / merged["average"]["model"])
    rows = [each["samples"] for each in summary["clients"]]
    for ours, *theirs in zip(average.get_weights(), *(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, np.average(theirs, axis=0, weights=rows), atol=1e-6)
    score = accuracy_score(y[test], average.predict(x[test] / 16, verbose=0).argmax(axis=1))
    assert merged["average"]["metrics"]["accuracy"] == pytest.approx(score)

    ensemble = keras.models.load_model(place.root / merged["ensemble"]["model"])
    predictions = ensemble.predict(x[test], verbose=0)
    mean = np.mean([model.predict(x[test] / 16, verbose=0) for model in models], axis=0)
    np.testing.assert_allclose(predictions, mean, atol=1e-5)
    score = accuracy_score(y[test], predictions.argmax(axis=1))
    assert merged["ensemble"]["metrics"]["accuracy"] == pytest.approx(score)
    assert json.loads((place.root / "logs" / summary["run"] / "summary.json").read_text())["merged"]
