"""What `Cluster.fit` takes as rows: arrays, DataFrames, datasets; and what it says of what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_requests import data_request

from lanfit.data.labels import Target
from lanfit.data.partitioning import Partitioning
from lanfit.data.prepare import prepare, take_parts
from lanfit.data.shard import Samples
from lanfit.errors import InputError
from lanfit.settings.parts import PartRange
from lanfit.wire.tasks import OutputSpec
from lanfit_server.api.arguments import (
    check_model,
    check_rounds,
    check_supported,
    job_values,
    loudness,
    method_of,
)
from lanfit_server.api.cluster import Cluster, _address
from lanfit_server.api.rows import Rows, class_weights, rows_of
from lanfit_server.store.array_source import ArraySource

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 3


def rows(x: Any, y: Any = None, weights: Any = None) -> Rows:
    return rows_of(x, y, weights, 2, needs_targets=True)


def code(wrong: pytest.ExceptionInfo[InputError]) -> str:
    return wrong.value.code


def test_data_frames_and_series_are_their_values() -> None:
    import pandas

    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    found = rows(frame, pandas.Series(Y))
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)
    words = rows(frame, pandas.Series(["no", "yes"] * 6, dtype=object))
    assert words.y is not None
    assert words.y.tolist() == ["no", "yes"] * 6


@pytest.mark.parametrize(
    ("x", "named"),
    [
        ({"a": X, "b": X}, r"x is a dict of arrays \('a', 'b'\)"),
        ([X, X], "x is a list of arrays"),
        ((row for row in X), "x is a generator"),
        (np.float32(1), "x is one value"),
        (np.array([[1, "a"]] * 12, dtype=object), "x is an array of mixed values"),
        (np.array([["a", "b"]] * 12), "x is text"),
    ],
)
def test_what_is_no_array_of_rows_is_named(x: Any, named: str) -> None:
    with pytest.raises(InputError, match=named) as wrong:
        rows(x, Y)
    assert code(wrong) == "fit.not-rows"


def test_different_lengths_are_named_with_their_numbers() -> None:
    with pytest.raises(InputError, match="x has 12 rows, but y has 11") as wrong:
        rows(X, Y[:11])
    assert code(wrong) == "fit.lengths"
    with pytest.raises(InputError, match="x has 12 rows, but sample_weight has 2"):
        rows(X, Y, [1.0, 2.0])


def test_targets_are_needed() -> None:
    with pytest.raises(InputError) as wrong:
        rows(X)
    assert code(wrong) == "fit.no-targets"
    assert rows_of(X, None, None, 2, needs_targets=False).y is None


@pytest.mark.parametrize("weights", [[-1.0] * 12, [np.nan] * 12, np.ones((12, 2)), ["a"] * 12])
def test_weights_are_one_number_a_row(weights: Any) -> None:
    with pytest.raises(InputError) as wrong:
        rows(X, Y, weights)
    assert code(wrong) == "fit.sample-weight"


def test_class_weights_become_weights_of_rows_as_keras_has_them() -> None:
    expected = np.where(Y == 1, 5, np.where(Y == 2, 0.5, 1)).astype(np.float32)
    np.testing.assert_array_equal(class_weights({1: 5, 2: 0.5}, rows(X, Y), 3), expected)
    np.testing.assert_array_equal(class_weights({1: 5, 2: 0.5}, rows(X, np.eye(3)[Y]), 3), expected)


def test_class_weights_that_can_not_be_used_say_why() -> None:
    for given, y, reason in (
        ({0: -1}, Y, "the weight of class 0 is -1"),
        ({"cat": 1}, Y, "'cat': 1 is not a class"),
        ([1, 2], Y, "it is a list"),
        ({0: 1}, np.eye(4)[Y], "a row has more than one class"),
        ({0: 1}, np.array(["a"] * 12), "the targets are not numbers"),
    ):
        with pytest.raises(InputError, match=reason) as wrong:
            class_weights(given, rows(X, y), 3)  # type: ignore[arg-type]
        assert code(wrong) == "fit.class-weight"
    with pytest.raises(InputError) as wrong:
        class_weights({0: 1}, rows(X, Y, np.ones(12)), 3)
    assert code(wrong) == "fit.two-weights"


@pytest.mark.keras
def test_datasets_are_read_once_batched_or_not() -> None:
    import tensorflow as tf

    whole = tf.data.Dataset.from_tensor_slices((X, Y))
    for dataset, batch in ((whole, None), (whole.batch(5), 5)):
        found = rows(dataset)
        np.testing.assert_array_equal(found.x, X)
        np.testing.assert_array_equal(found.y, Y)
        assert found.batch == batch
    with pytest.raises(InputError) as wrong:
        rows(whole.repeat())
    assert code(wrong) == "fit.endless"
    with pytest.raises(InputError) as wrong:
        rows(tf.data.Dataset.from_tensor_slices({"a": X, "b": X}))
    assert code(wrong) == "fit.elements"
    with pytest.raises(InputError, match=r"x is a tf\.data\.Dataset, .* but y is also given") as wrong:
        rows(whole, Y)
    assert code(wrong) == "fit.targets-twice"


@pytest.mark.keras
def test_a_py_dataset_is_read_batch_by_batch() -> None:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            part = slice(4 * index, 4 * index + 4)
            return X[part], Y[part], np.full(4, index)

    found = rows(Batches())
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)
    np.testing.assert_array_equal(found.weights, np.repeat([0, 1, 2], 4))
    assert found.batch == 4


@pytest.mark.keras
def test_what_is_no_compiled_model_is_refused_at_once() -> None:
    import keras

    with pytest.raises(InputError) as wrong:
        check_model("digits.h5")
    assert code(wrong) == "fit.no-model"
    with pytest.raises(InputError, match="'net' is not compiled") as wrong:
        check_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="net"))
    assert code(wrong) == "fit.not-compiled"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shuffle", False),
        ("shuffle", "batch"),
        ("initial_epoch", 2),
        ("steps_per_epoch", 10),
        ("validation_steps", 1),
        ("validation_batch_size", 8),
        ("validation_freq", 2),
    ],
)
def test_what_a_cluster_can_not_do_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{name}={value!r}") as wrong:
        check_supported({name: value})
    assert code(wrong) == "fit.unsupported"


@pytest.mark.parametrize(
    ("given", "name"), [("3", "federated"), ("Federated", "federated"), ("fit", "fit"), ("1", "kfold")]
)
def test_a_method_is_given_by_its_name_or_number_as_in_a_job(given: str, name: str) -> None:
    assert method_of(given) == name


def test_a_wrong_method_is_refused_with_all_methods() -> None:
    with pytest.raises(InputError) as refused:
        method_of("sgd")
    assert refused.value.code == "value.no-choice"
    assert "federated" in refused.value.message


def test_arguments_about_rounds_are_refused_where_there_are_none() -> None:
    check_rounds("federated", {"rounds": 3})
    check_rounds("fit", {"rounds": 10, "strategy": "fedavg"})
    for given in ({"rounds": 3}, {"strategy": "fedprox"}):
        with pytest.raises(InputError, match="does not support") as wrong:
            check_rounds("fit", given)
        assert code(wrong) == "fit.unsupported"


def test_verbose_is_what_keras_has() -> None:
    assert [loudness(each) for each in ("auto", 0, 1, 2, True)] == [1, 0, 1, 2, 1]
    with pytest.raises(InputError, match="verbose='loud'"):
        loudness("loud")


def test_fields_of_a_job_are_read_as_in_a_job_file() -> None:
    values = job_values({"merge": ["average", "ensemble"], "seed": 7, "patience": None, "metrics": "mae"})
    assert values == {"merge": "average,ensemble", "seed": "7", "metrics": "mae"}
    with pytest.raises(InputError, match="did you mean 'normalizer'") as wrong:
        job_values({"normaliser": "minmax"})
    assert code(wrong) == "fit.unknown-argument"
    with pytest.raises(InputError, match="seed: ") as wrong:
        job_values({"seed": "x"})
    assert code(wrong) == "value.not-whole-in-range"
    with pytest.raises(InputError, match="clients=3") as wrong:
        job_values({"clients": 3})
    assert code(wrong) == "fit.unsupported"


def test_a_cluster_is_in_one_place(tmp_path: Path) -> None:
    for given, expected in (
        ({}, "cluster.one-place"),
        ({"address": "0.0.0.0", "local": 2}, "cluster.one-place"),
        ({"local": 2, "simulated": 2}, "cluster.one-place"),
        ({"local": 2, "clients": 3}, "cluster.clients-of-local"),
        ({"local": 2, "pool": 1}, "cluster.pool"),
        ({"local": 2, "dashboard_port": 0}, "cluster.dashboard"),
        ({"local": 2, "dashboard": True, "dashboard_port": 70_000}, "value.not-whole-in-range"),
        ({"address": "host:port"}, "cluster.address"),
        ({"local": 0}, "value.not-whole"),
        ({"local": 1, "threads": 0}, "value.not-whole"),
        ({"local": 1, "backend": "theano"}, "value.no-choice"),
    ):
        with pytest.raises(InputError) as wrong:
            Cluster(workspace=tmp_path, **given)  # type: ignore[arg-type]
        assert code(wrong) == expected


def test_addresses_are_hosts_with_or_without_a_port() -> None:
    assert _address("0.0.0.0:8471") == ("0.0.0.0", 8471)
    assert _address("lab-1") == ("lab-1", 8470)
    assert _address("[::1]:9000") == ("::1", 9000)
    assert _address("::1") == ("::1", 8470)


OUTPUTS = (OutputSpec("y", (None, 3), Target.CLASSES),)


def request(target: Target = Target.CLASSES, **changes: Any) -> Any:
    facts: dict[str, Any] = {
        "x_dir": None,
        "y_dir": None,
        "input_shape": (None, 2),
        "output_shape": (None, 3),
        "target": target,
        "shards": 2,
        "batch_size": 1,
        "test_split": 0.0,
        "validation_split": 0.25,
        "normalizer": "none",
        "seed": 0,
    }
    return data_request(**{**facts, **changes})


@pytest.mark.parametrize("weigh_validation", [True, False])
def test_weights_go_with_their_rows(tmp_path: Path, weigh_validation: bool) -> None:
    weights = X[:, 0] + 1  # tells which row it belongs to
    given = ArraySource.write(tmp_path / "rows.block", Samples.of(X, Y, weights), weigh_validation=weigh_validation)
    prepared = prepare(request(), source=given.source(OUTPUTS))
    for shard in prepared.shards:
        assert shard.train.weights is not None
        np.testing.assert_array_equal(shard.train.weights, shard.train.x[:, 0] + 1)
        if weigh_validation:
            assert shard.validation.weights is not None
            np.testing.assert_array_equal(shard.validation.weights, shard.validation.x[:, 0] + 1)
        else:
            assert shard.validation.weights is None


def test_validation_data_is_the_test_rows_and_if_shared_every_clients_validation_rows(tmp_path: Path) -> None:
    rows, held = Samples.of(X, Y), Samples.of(-X[:4], Y[:4])
    for shared in (False, True):
        given = ArraySource.write(tmp_path / "rows.block", rows, held, shared_validation=shared)
        prepared = prepare(request(validation_split=0.0), source=given.source(OUTPUTS))
        assert (prepared.train, prepared.validation, prepared.test) == (12, 0, 4)
        np.testing.assert_array_equal(np.sort(prepared.test_samples.x[:, 0]), np.sort(-X[:4, 0]))
        for shard in prepared.shards:
            assert len(shard.validation.x) == (4 if shared else 0)


def test_weights_and_shared_validation_rows_go_with_parts(tmp_path: Path) -> None:
    parts = Partitioning("parts", parts_of=3)
    rows = Samples.of(X, Y, X[:, 0] + 1)
    weighed = prepare(request(partitioning=parts), source=ArraySource.write(tmp_path / "a", rows).source(OUTPUTS))
    held = Samples.of(-X[:4], Y[:4])
    given = ArraySource.write(tmp_path / "b", rows, held, shared_validation=True)
    shared = prepare(request(partitioning=parts, validation_split=0.0), source=given.source(OUTPUTS))
    for shard in take_parts(weighed, [PartRange(1, 2), PartRange(2, 3)], 1).shards:
        assert shard.train.weights is not None
        assert shard.validation.weights is not None
        np.testing.assert_array_equal(shard.train.weights, shard.train.x[:, 0] + 1)
        np.testing.assert_array_equal(shard.validation.weights, shard.validation.x[:, 0] + 1)
    taken = take_parts(shared, [PartRange(1, 2), PartRange(2, 3)], 1)
    assert taken.validation == 0
    for shard in taken.shards:
        np.testing.assert_array_equal(shard.validation.x, taken.test_samples.x)
        np.testing.assert_array_equal(shard.validation.weights, np.ones(4))


def test_labels_that_are_words_come_back_as_words(tmp_path: Path) -> None:
    words = np.array(["grün", "rot", "blau"])[Y]
    given = ArraySource.write(tmp_path / "rows.block", Samples.of(X, words))
    prepared = prepare(request(), source=given.source(OUTPUTS))
    assert prepared.labels == {"y": ("blau", "grün", "rot")}


def test_rows_that_a_run_keeps_are_the_same_after_their_program_is_gone(tmp_path: Path) -> None:
    given = ArraySource.write(
        tmp_path / "rows.block", Samples.of(X, Y), shared_validation=False, weigh_validation=False
    )
    (tmp_path / "run").mkdir()
    given.keep(tmp_path / "run")
    (tmp_path / "rows.block").unlink()
    kept = ArraySource.kept(tmp_path / "run")
    assert not kept.weigh_validation
    np.testing.assert_array_equal(kept.arrays.load()["x"], X)


def test_how_long_missing_clients_are_waited_for_may_be_said_with_every_method() -> None:
    assert job_values({"start_after": "5m", "min_clients": 2}) == {"start_after": "5m", "min_clients": "2"}
    assert job_values({"start_after": 90, "method": "kfold"})["start_after"] == "90"
    with pytest.raises(InputError, match="start_after: 'soon'") as wrong:
        job_values({"start_after": "soon"})
    assert code(wrong) == "value.not-positive"
