"""The data sets of Keras, targets that are numbers, and models of two classes, from the outside."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from breakpoints import shim
from data_requests import data_request
from error_cases import ErrorCase, Start, check
from running import (
    PASSPHRASE,
    Place,
    assert_same_weights,
    client,
    each_model,
    flags,
    free_port,
    offline,
    plain_keras,
    port_of,
    refused,
)
from warm import WarmModels

pytestmark = pytest.mark.story

IMAGES, OWN_TEST_IMAGES = 300, 60


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


def fashion_mnist(home: Path) -> tuple[np.ndarray, np.ndarray]:
    """Put small files of Fashion-MNIST where Keras keeps them; returns all rows, its test rows last."""
    random = np.random.default_rng(0)
    rows = IMAGES + OWN_TEST_IMAGES
    x, y = random.integers(0, 128, (rows, 28, 28), np.uint8), (np.arange(rows) % 10).astype(np.uint8)
    for label in range(10):
        x[y == label, :, 2 * label : 2 * label + 3] = 255
    folder = home / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part, some in (("train", slice(IMAGES)), ("t10k", slice(IMAGES, rows))):
        for kind, array in (("images-idx3", x[some]), ("labels-idx1", y[some])):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return x, y


def dense(path: Path, shape: tuple[int, ...], layers: str, compiled: str) -> None:
    """Save a model that plain Keras builds, compiled with Adam."""
    code = "import keras; from keras import layers; keras.utils.set_random_seed(1); "  # else its weights are drawn anew
    code += f"model = keras.Sequential([keras.Input({shape}), {layers}]); "
    plain_keras(f"{code}model.compile(keras.optimizers.Adam(0.01), {compiled}); model.save(sys.argv[1])", path)


def predictions(final: Path, x: np.ndarray) -> np.ndarray:
    """What plain Keras makes of raw rows."""
    rows = final.with_name("rows.npy")
    np.save(rows, x)
    code = "import json, keras, numpy as np; x = np.load(sys.argv[2]); "
    code += "print(json.dumps(keras.models.load_model(sys.argv[1]).predict(x, verbose=0).tolist()))"
    return np.array(json.loads(plain_keras(code, final, rows)))


def final_of(place: Place, summary: Mapping[str, Any]) -> Path:
    return place.root / summary["final"]["model"]


def test_fashion_mnist_is_requested_by_name_and_its_own_test_rows_measure(place: Place, tmp_path: Path) -> None:
    x, y = fashion_mnist(tmp_path / "keras")
    dense(
        place.root / "model" / "fashion.keras", (28, 28, 1), "layers.Flatten(), layers.Dense(10, 'softmax')",
        "'sparse_categorical_crossentropy', metrics=['accuracy']",
    )  # fmt: skip
    answers = (
        f"127.0.0.1\n{free_port()}\n\nfashion.keras\n2\n{PASSPHRASE}\n4\n16\n\n\n3\nFashion-MNIST\nall\n1\n2\nXY\n"
    )
    environment = offline(tmp_path / "keras")
    with place.server("--local", 2, answers=answers, passphrase=None, environment=environment) as server:
        server.finish()
    asked = ["Loss", "Data (1 files", "Keras dataset: ", "How many rows [all]: ", "Normalizer", "Training method"]
    assert not [question for question in asked if question not in server.output], server.output
    positions = [server.output.index(question) for question in asked]
    assert positions == sorted(positions)
    summary = place.summary()
    assert summary["status"] == "done"
    rows = {"samples": IMAGES + OWN_TEST_IMAGES, "train": 270, "validation": 30, "test": OWN_TEST_IMAGES}
    assert summary["data"] == {"source": "keras", **rows, "normalizer": "scale", "labels": None}
    from sklearn.metrics import accuracy_score

    found = predictions(final_of(place, summary), x[IMAGES:, ..., None]).argmax(1)
    assert summary["final"]["metrics"]["accuracy"] == pytest.approx(accuracy_score(y[IMAGES:], found))
    assert summary["final"]["metrics"]["accuracy"] > 0.9

    # The run's own job asks for nothing but the passphrase, and repeats it to the bit.
    first = summary["run"]
    job = place.root / "logs" / first / "job.toml"
    with place.server("--job", job, answers=f"{PASSPHRASE}\n", passphrase=None, environment=environment) as server:
        server.finish()
    for ours, theirs in zip(each_model(place, first), each_model(place, place.runs[-1]), strict=True):
        assert_same_weights(ours, theirs)


def words_of_reviews(home: Path) -> None:
    """Put a small imdb.npz where Keras keeps it: good reviews and bad ones have words of their own."""
    random = np.random.default_rng(0)

    def part(rows: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(rows) % 2
        reviews = np.empty(rows, object)
        for row, label in enumerate(labels):
            reviews[row] = (random.integers(4, 40, random.integers(3, 50)) + 40 * label).tolist()
        return reviews, labels

    (x_train, y_train), (x_test, y_test) = part(240), part(60)
    (home / "datasets").mkdir(parents=True)
    np.savez(home / "datasets" / "imdb.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def any_checksum(folder: Path) -> dict[str, str]:
    """An environment in which Keras takes our small files for the real ones, whose checksums it knows."""
    return shim(
        folder,
        "import sys\n"
        "if 'lanfit_server.models.model_process' in sys.orig_argv:\n"
        "    from keras.src.utils import file_utils\n"
        "    file_utils.validate_file = lambda *args, **others: True\n",
    )


def test_sequences_are_padded_on_the_server_and_reach_a_client_without_internet(place: Place, tmp_path: Path) -> None:
    words_of_reviews(tmp_path / "keras")
    dense(
        place.root / "model" / "reviews.keras", (20,),
        "layers.Embedding(70, 8), layers.GlobalAveragePooling1D(), layers.Dense(1, 'sigmoid')",
        "'binary_crossentropy', metrics=['accuracy']",
    )  # fmt: skip
    environment = {**offline(tmp_path / "keras"), **any_checksum(tmp_path / "site")}
    port = free_port()
    settings = {"model": "reviews.keras", "dataset": "imdb", "dataset_args": "num_words=70", "epochs": 40}
    dies = {**environment, "LANFIT_CRASH": "server.result-fetched"}
    with (
        place.server(*flags(port, 1, **settings), environment=dies) as server,
        client(tmp_path / "a", port_of(server), "lab", environment=offline(tmp_path / "nothing")) as worker,
    ):
        server.expect(r"imdb: sequences are padded with zeros in front to 20 values, .* \d+ of 300 are longer")
        server.finish(-9)
        # A server that only collects loads the set again, for its test rows.
        answers = f"127.0.0.1\n{port}\nn\n\n"
        with place.server(answers=answers, passphrase=None, environment=environment) as again:
            again.finish()
            worker.finish()
            assert "Loading imdb" in again.output
            assert "There is no live page: this server only collects" in again.output
            assert "Live page: " not in again.output
    summary = place.summary()
    assert summary["status"] == "done"
    assert summary["metrics_from"] == "server"
    assert (summary["data"]["test"], summary["clients"][0]["samples"]) == (60, 240)
    assert set(summary["final"]["metrics"]) == {"loss", "accuracy", "precision", "recall", "f1"}
    assert summary["final"]["metrics"]["accuracy"] > 0.8


def test_an_autoencoder_trains_on_a_set_of_keras(place: Place, tmp_path: Path) -> None:
    x, _ = fashion_mnist(tmp_path / "keras")
    layers = "layers.Dense(32, 'relu'), layers.Dense(784, 'sigmoid')"
    dense(place.root / "model" / "auto.keras", (784,), layers, "'mse'")
    settings = {"model": "auto.keras", "dataset": "fashion_mnist", "order": "XX", "normalizer": "scale", "local": 1}
    settings |= {"samples": 240, "epochs": 12}
    with place.server(*flags(free_port(), 1, **settings), environment=offline(tmp_path / "keras")) as server:
        server.finish()
        assert "rows of 28×28 values are read as 784" in server.output
    summary = place.summary()
    assert (summary["data"]["samples"], summary["data"]["test"]) == (240, 40)
    assert set(summary["final"]["metrics"]) == {"loss", "mae", "r2"}
    assert summary["final"]["metrics"]["r2"] > 0.2
    # It takes raw images, and gives them back as the model sees them: normalized.
    found = predictions(final_of(place, summary), x.reshape(-1, 784))
    assert np.abs(found - x.reshape(-1, 784) / 255).mean() < 0.3


def client_data(place: Place, x: np.ndarray, y: list[object]) -> None:
    np.savetxt(place.root / "dataset/X/digits.csv", x, delimiter=",", fmt="%.9g")
    (place.root / "dataset/Y/digits.csv").write_text("target\n" + "".join(f"{value}\n" for value in y))


def rows_of_the_test(place: Place, target: str, normalizer: str = "none") -> tuple[np.ndarray, np.ndarray]:
    """The rows that a server draws for its test from these files, with the default seed."""
    from lanfit.data.labels import Target
    from lanfit.data.prepare import prepare

    drawn = prepare(
        data_request(
            x_dir=place.root / "dataset/X", y_dir=place.root / "dataset/Y", target=Target(target), shards=1,
            input_shape=(None, 30 if target == "binary" else 10), output_shape=(None, 1), batch_size=32,
            test_split=0.2, validation_split=0.1, seed=0, normalize_targets=normalizer,
        )
    )  # fmt: skip
    return np.asarray(drawn.test_samples.x), np.asarray(drawn.test_samples.y)


def test_z_scored_targets_come_back_in_original_units(place: Place) -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    x, y = load_diabetes(return_X_y=True)
    client_data(place, x, y.tolist())
    dense(
        place.root / "model" / "sugar.keras",
        (10,),
        "layers.Dense(16, 'relu'), layers.Dense(1)",
        "'mse', metrics=['mae']",
    )
    settings = {"model": "sugar.keras", "local": 1, "normalizer": "zscore", "epochs": 12}
    # Without a value it is the z-score.
    with place.server(*flags(free_port(), 1, **settings), "--normalize-targets", "--json") as server:
        server.finish()
    summary = place.summary()
    assert 'normalize_targets = "zscore"' in (place.root / "logs" / summary["run"] / "job.toml").read_text()
    assert summary["clients"][0]["history"]["loss"][-1] < 2, "what is trained on is not normalized"
    x_test, y_test = rows_of_the_test(place, "values", "zscore")
    found = predictions(final_of(place, summary), x_test)
    metrics = summary["final"]["metrics"]
    assert metrics["mae"] == pytest.approx(mean_absolute_error(y_test, found), rel=1e-4)
    assert metrics["r2"] == pytest.approx(r2_score(y_test, found), rel=1e-4)
    assert metrics["loss"] == pytest.approx(mean_squared_error(y_test, found), rel=1e-4)
    assert metrics["r2"] > 0.2
    assert 50 < found.mean() < 250


def test_one_sigmoid_tells_two_words_apart(place: Place) -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    x, y = load_breast_cancer(return_X_y=True)
    client_data(place, x, np.array(["malignant", "benign"])[y].tolist())
    layers = "layers.Dense(16, 'relu'), layers.Dense(1, 'sigmoid')"
    dense(place.root / "model" / "cells.keras", (30,), layers, "'binary_crossentropy', metrics=['accuracy']")
    settings = {"model": "cells.keras", "local": 1, "normalizer": "zscore", "epochs": 10, "samples": 400}
    with place.server(*flags(free_port(), 1, **settings)) as server:
        server.finish()
    summary = place.summary()
    assert summary["data"]["labels"] == ["benign", "malignant"]
    assert (summary["data"]["samples"], summary["data"]["test"]) == (400, 80)
    assert summary["final"]["metrics"]["accuracy"] > 0.9
    # The same figures from a whole run: final.keras on all rows scores what scikit-learn says of sound predictions.
    truth = (np.array(["malignant", "benign"])[y] == "malignant").astype(int)
    found = (predictions(final_of(place, summary), x)[:, 0] > 0.5).astype(int)
    for score in (precision_score, recall_score, f1_score):
        assert score(truth, found, average="macro") > 0.85
    assert accuracy_score(truth, found) > 0.9


def test_a_set_that_is_not_there_and_cannot_be_downloaded_says_what_to_put_where(place: Place, tmp_path: Path) -> None:
    home = tmp_path / "keras"
    environment = offline(home)
    output = refused(place, *flags(free_port(), 2, dataset="mnist"), environment=environment)
    assert "mnist can't be loaded" in output
    assert f"tf-keras-datasets/mnist.npz to {home / 'datasets' / 'mnist.npz'}" in output


def test_one_row_of_a_set_is_too_few(place: Place, tmp_path: Path, warm: WarmModels) -> None:
    def one_image(place: Place) -> Start:
        fashion_mnist(tmp_path / "keras")
        dense(place.root / "model" / "fashion.h5", (784,), "layers.Dense(10)", "'mse'")
        settings = {
            "model": "fashion.h5",
            "dataset": "fashion_mnist",
            "samples": 1,
            "loss": "sparse_categorical_crossentropy",
        }
        return Start(settings, options={"environment": offline(tmp_path / "keras")})

    check(place, ErrorCase(one_image, "split.samples-too-few", ["1 row can't be"], ()), warm)


@pytest.mark.parametrize(
    ("settings", "causes"),
    [
        ({"dataset": "fashon_mnist"}, ['no Keras dataset "fashon_mnist"', "did you mean 'fashion_mnist'?"]),
        ({"data": "keras"}, ["Keras dataset", "--dataset"]),
        ({"dataset": "mnist", "dataset_args": "num_words=3"}, ['"num_words=3" is not an argument of mnist']),
        ({"dataset": "mnist", "normalize_targets": "zscore"}, ["only numeric targets", "these are classes"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_about_a_set_is_reported_before_anything_is_waited_for(
    place: Place, tmp_path: Path, settings: dict[str, object], causes: list[str]
) -> None:
    output = refused(place, *flags(free_port(), 2, **settings), environment=offline(tmp_path / "keras"))
    for cause in causes:
        assert cause in output
