"""Every error that shows when a model meets data, triggered from the outside: before and while it is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from breakpoints import fake_package, shim
from error_cases import ErrorCase, ErrorCases, Start, assert_reported, check
from running import Program, client, flags, free_port, offline, port_of
from small_workspace import ROWS, TINY_JOB, SmallWorkspace, X, as_csv, as_npz, labels
from test_errors_files import declared_npz
from warm import WarmModels

pytestmark = pytest.mark.story
ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with

#: Models of which it is known what they make of these rows; saved in the folder that is given.
MODELS = """
import pathlib, sys
import keras
from keras import Input, layers

folder = pathlib.Path(sys.argv[1])

def save(name, loss, *parts):
    model = keras.Sequential(parts)
    model.compile("sgd", loss)
    model.save(folder / f"{name}.h5")
    return model

sparse = "sparse_categorical_crossentropy"
save("linear", sparse, Input((2,)), layers.Dense(3, kernel_initializer="ones"))
save("one_output", sparse, Input((2,)), layers.Dense(1, "sigmoid"))
save("tokens", "mean_squared_error", Input((2,), dtype="int32"), layers.Embedding(50, 2), layers.Flatten(),
     layers.Dense(1))
save("negative", "poisson", Input((2,)), layers.Dense(1, kernel_initializer=keras.initializers.Constant(-1.0)))
save("sum", "mean_squared_error", Input((2,)), layers.Dense(1, kernel_initializer="ones"))
save("itself", "mean_squared_error", Input((2,)), layers.Dense(2))
broken = save("broken", "mean_squared_error", Input((2,)), layers.Dense(1, name="end"))
broken.layers[0].kernel.assign([[float("nan")], [0.0]])
broken.save(folder / "broken.h5")
"""


@pytest.fixture(scope="session")
def models(tiny_models: Path) -> Path:
    """The tiny models with those of this module beside them."""
    subprocess.run([sys.executable, "-c", MODELS, tiny_models], check=True, capture_output=True)
    return tiny_models


@pytest.fixture
def place(tmp_path: Path, models: Path) -> SmallWorkspace:
    return SmallWorkspace(tmp_path / "work", models)


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_what_does_not_go_together_is_named(place: SmallWorkspace, case: ErrorCase, warm: WarmModels) -> None:
    check(place, case, warm, **TINY_JOB)


# --- rows and targets against the model -------------------------------------------------------------------------


@fails_with("rows.other-input", "x.csv has rows of 3 values", "takes 2")
def a_column_too_many(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(np.hstack([X, X[:, :1]])))


@fails_with("rows.other-output", "rows of 2 values", "output is 1")
def an_input_that_is_no_output(place: SmallWorkspace) -> Start:
    return Start({"model": "numbers.h5", "order": "XX"})


@fails_with("rows.not-finite", "x.npz, row 5, column 2", "nan")
def not_a_number(place: SmallWorkspace) -> None:
    x = X.copy()
    x[4, 1] = np.nan
    place.x("x.npz", as_npz(x=x))


@fails_with("rows.larger-than-memory", "100,000,000,000 rows")
def rows_that_are_only_declared(place: SmallWorkspace) -> Start:
    place.x("x.npz", declared_npz({"descr": "<f4", "fortran_order": False, "shape": (10**11, 2)}))
    return Start({"model": "itself.h5", "order": "XX"})


@fails_with("targets.not-numbers", "classes", "--normalize-targets")
def classes_to_be_normalized(place: SmallWorkspace) -> Start:
    return Start({"normalize_targets": "zscore"})


# --- too few rows -----------------------------------------------------------------------------------------------


@fails_with("split.batch-of-shard", "a batch of 100 rows", "shard 1 of 1", "--batch-size")
def a_batch_larger_than_a_shard(place: SmallWorkspace) -> Start:
    return Start({"batch_size": 100})


@fails_with("split.batch-of-fold", "a batch of 9 rows", "--batch-size")
def a_batch_larger_than_a_fold(place: SmallWorkspace) -> Start:
    return Start({"model": "numbers.h5", "method": "kfold", "folds": 2, "batch_size": 9})


@fails_with("rounds.no-evaluation", "--patience", "--validation-split")
def rounds_that_nothing_compares(place: SmallWorkspace) -> Start:
    return Start({"method": "federated", "patience": 2, "validation_split": 0, "test_split": 0})


# --- the first batch --------------------------------------------------------------------------------------------


@fails_with("batch.fractions", "int32", "normalizer")
def words_that_are_scaled(place: SmallWorkspace) -> Start:
    return Start({"model": "tokens.h5", "normalizer": "minmax"})


@fails_with("batch.one-output", "binary_crossentropy")
def one_output_for_classes(place: SmallWorkspace) -> Start:
    place.y("y.csv", labels(*[0] * ROWS))
    return Start({"model": "one_output.h5"})


@fails_with("batch.broken-weight", "end")
def a_model_that_was_spoilt_by_training(place: SmallWorkspace) -> Start:
    return Start({"model": "broken.h5"})


@fails_with("batch.refused", "metrics mae", "sparse_categorical_crossentropy")
def a_metric_of_another_shape(place: SmallWorkspace) -> Start:
    return Start({"metrics": "mae"})


@fails_with("batch.output-not-finite", "--normalizer minmax")
def rows_that_overflow(place: SmallWorkspace) -> Start:
    place.x("x.csv", as_csv(X * 0 + 3e38))
    return Start({"model": "sum.h5"})


@fails_with("batch.no-probabilities", "its last activation is linear", "softmax")
def no_softmax(place: SmallWorkspace) -> Start:
    return Start({"model": "linear.h5"})


@fails_with("batch.loss-not-finite", "poisson", "nan")
def a_logarithm_of_less_than_nothing(place: SmallWorkspace) -> Start:
    place.x("x.csv", as_csv(X + 1))
    return Start({"model": "negative.h5"})


@fails_with("compile.refused", "learning_speed")
def an_option_that_keras_does_not_have(place: SmallWorkspace) -> None:
    with h5py.File(place.root / "model" / "classes.h5", "a") as file:
        config = json.loads(file.attrs["training_config"])
        config["optimizer_config"]["config"]["learning_speed"] = 1
        file.attrs["training_config"] = json.dumps(config)


# --- the sets of Keras ------------------------------------------------------------------------------------------


@fails_with("set.unknown-argument", '"num_word=3"', "did you mean 'num_words'?")
def a_misspelt_argument_of_a_set(place: SmallWorkspace) -> Start:
    return Start({"dataset": "imdb", "dataset_args": "num_word=3"})


@fails_with("set.wrong-value", "imdb expects an integer for num_words")
def an_argument_that_is_no_number(place: SmallWorkspace) -> Start:
    return Start({"dataset": "imdb", "dataset_args": "num_words=many"})


@fails_with("set.refused-arguments", "test_split=2")
def an_argument_that_keras_does_not_take(place: SmallWorkspace) -> Start:
    return Start({"dataset": "california_housing", "dataset_args": "test_split=2"})


@fails_with("set.not-loaded", "imdb.npz")
def no_internet(place: SmallWorkspace) -> Start:
    return Start({"dataset": "imdb"}, options={"environment": offline(place.root / "server" / "state" / "keras")})


# --- clients ----------------------------------------------------------------------------------------------------


#: How a package ends a process whose processor lacks an instruction.
ILLEGAL = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"


def refused(folder: Path, *arguments: object, **environment: str) -> str:
    """What a client says that ends before it looks for its server."""
    with Program("client", f"127.0.0.1:{free_port()}", *arguments, folder=folder, environment=environment) as worker:
        worker.finish(2)
    assert "Traceback" not in worker.output
    return worker.output


def test_a_backend_that_is_not_installed_is_named(tmp_path: Path) -> None:
    without = shim(tmp_path / "site", "import sys\nsys.modules['torch'] = None\n")
    assert_reported("backend.not-installed", refused(tmp_path, "--backend", "torch", **without))


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    output = refused(tmp_path, "--backend", "tensorflow", "--device", "gpu", CUDA_VISIBLE_DEVICES="-1")
    assert_reported("backend.no-gpu", output)


def test_a_processor_that_lacks_what_the_backend_needs_is_named_and_the_client_ends(tmp_path: Path) -> None:
    environment = fake_package(tmp_path / "site", "jax", ILLEGAL)
    assert_reported("backend.illegal-instruction", refused(tmp_path, "--backend", "jax", **environment))


def test_a_local_client_that_can_not_work_is_not_started_again(place: SmallWorkspace) -> None:
    environment = fake_package(place.root / "site", "jax", ILLEGAL)
    job = {"model": "sum.h5", "local": 1, "backend": "jax", "batch_size": 2}
    with place.server(*flags(free_port(), 1, **job), environment=environment) as server:
        server.finish(4)
    assert_reported("client.local-unusable", server.output)
    assert_reported("backend.illegal-instruction", server.output)
    assert server.output.count("it ended with exit code") == 1


def test_a_loss_that_becomes_infinite_is_reported_by_client_and_server(place: SmallWorkspace, tmp_path: Path) -> None:
    numbers = {"model": "sum.h5", "epochs": 50, "batch_size": 2, "learning_rate": 10}
    with (
        place.server(*flags(free_port(), 1, **numbers)) as server,
        client(tmp_path / "a", port_of(server), "lab-1") as worker,
    ):
        server.finish(4)
        worker.finish(None)
    for output in (server.output, worker.output):
        assert_reported("training.loss-not-finite", output)
        assert "Traceback" not in output
