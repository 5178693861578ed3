"""Averages against NumPy's, ensembles against the mean of their members' own files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as tried_with
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lanfit.data.normalize import NO_NORMALIZER, Moments, Normalizer, fit_normalizer
from lanfit.data.shard import Normalizers
from lanfit.errors import InputError
from lanfit.models.compiling import override
from lanfit.models.export import write_final
from lanfit.models.merge import average, ensemble_model, write_ensemble
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import get_weights

X = np.random.RandomState(0).uniform(0, 9, (40, 4)).astype(np.float32)


@tried_with(
    npst.arrays(np.float32, (3, 2, 5), elements=st.floats(-1e6, 1e6, width=32)),
    st.lists(st.integers(0, 10**9), min_size=3, max_size=3).filter(any),
)
def test_an_average_is_numpys_weighted_one(arrays: Any, counts: list[int]) -> None:
    merged = average([{"w": array} for array in arrays], counts)["w"]
    assert merged.dtype == np.float32
    np.testing.assert_array_equal(merged, np.average(arrays.astype(np.float64), 0, counts).astype(np.float32))


def test_averaging_keeps_dtypes_and_takes_what_is_no_fraction_from_the_first() -> None:
    first: dict[str, Any] = {
        "half": np.ones(2, np.float16),
        "double": np.ones((), np.float64),
        "steps": np.array(7, np.int64),
        "seed": np.array([1, 2], np.uint32),
        "flag": np.array(True),
    }
    second = {name: array + array if array.dtype != bool else ~array for name, array in first.items()}
    merged = average([first, second], [1, 3])
    assert list(merged) == list(first)
    assert {name: array.dtype for name, array in merged.items()} == {name: a.dtype for name, a in first.items()}
    assert merged["half"].tolist() == [1.75, 1.75]
    assert merged["double"] == 1.75
    for name in ("steps", "seed", "flag"):
        np.testing.assert_array_equal(merged[name], first[name])
    merged["steps"][...] = 0
    assert first["steps"] == 7, "the average is a copy"


def test_small_differences_survive_because_the_sum_is_in_float64() -> None:
    weights = [{"w": np.float32([16777216])}] + [{"w": np.float32([1])}] * 3
    assert average(weights, [1] * 4)["w"].tolist() == [np.float32((16777216 + 3) / 4)]


@pytest.mark.parametrize(
    ("weights", "counts", "message"),
    [
        ([], [], "0 sets"),
        ([{"w": np.ones(2)}], [1, 2], "1 sets"),
        ([{"w": np.ones(2)}] * 2, [0, 0], r"\[0, 0\]"),
        ([{"w": np.ones(2)}] * 2, [2, -1], r"-1"),
        ([{"w": np.ones(2)}, {"w": np.ones(3)}], [1, 1], "set 2"),
        ([{"w": np.ones(2)}, {"w": np.ones(2)}, {"v": np.ones(2)}], [1, 1, 1], "set 3"),
        ([{"w": np.ones(2)}, {"w": np.ones(2, np.float32)}], [1, 1], "set 2"),
    ],
)
def test_what_can_not_be_averaged_is_refused(weights: Any, counts: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        average(weights, counts)
    assert error.value.code == ("weights.other-model" if message.startswith("set") else "weights.no-average")


def sequential() -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu", name="dense"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax", name="out"),
        ],
        name="net",
    )


def functional() -> Any:
    import keras
    from keras import layers

    rows = keras.Input((4,))
    shared = layers.Dense(4, activation="tanh", name="shared")
    joined = layers.Concatenate()([shared(rows), shared(shared(rows)), rows])
    return keras.Model(rows, layers.Dense(3, activation="softmax")(joined), name="average")


def adapted() -> Any:
    """A model that keeps statistics of rows as constants of its compiled step."""
    import keras

    layer = keras.layers.Normalization()
    layer.adapt(X * np.random.uniform(0.5, 5))
    return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(3, activation="softmax")])


SPARSE = override(None, "adam", "sparse_categorical_crossentropy", 0.01, ["accuracy"]).to_json()
MSE = override(None, "adam", "mse", 0.01, ["mae"]).to_json()


def trained(make: Callable[[], Any], count: int) -> tuple[str, list[dict[str, Any]]]:
    """The architecture, and the weights of models that were trained apart: all their statistics differ."""
    weights = []
    for number in range(count):
        model = make()
        model.compile("sgd", "mse")
        model.fit(X + number, np.eye(3, dtype=np.float32)[np.arange(40) % 3], verbose=0)
        weights.append(get_weights(model))
    return model.to_json(), weights


def normalizer(name: str, low: float, columns: int = 4) -> Normalizer:
    return fit_normalizer(name, Moments.of(np.random.RandomState(3).uniform(low, low + 5, (50, columns))))


def opened(path: Path) -> Any:
    import keras

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = keras.models.load_model(path)
    assert not [warning for warning in caught if issubclass(warning.category, UserWarning)]
    return model


@pytest.mark.keras
@pytest.mark.parametrize("make", [sequential, functional, adapted])
def test_an_ensemble_predicts_the_mean_of_its_members_files(make: Callable[[], Any], tmp_path: Path) -> None:
    architecture, weights = trained(make, 3)
    normalizers = [normalizer("zscore", 1), normalizer("minmax", 0), NO_NORMALIZER]
    members = [TrainedModel(w, Normalizers.single(n)) for w, n in zip(weights, normalizers, strict=True)]
    predictions = []
    for member in members:
        write_final(tmp_path / "final.keras", architecture, SPARSE, member)
        predictions.append(opened(tmp_path / "final.keras").predict(X, verbose=0))
    assert np.abs(predictions[0] - predictions[1]).max() > 1e-3, "the members differ"
    write_ensemble(tmp_path / "ensemble.keras", architecture, SPARSE, members)
    ensemble = opened(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(ensemble.predict(X, verbose=0), np.mean(predictions, axis=0), rtol=0, atol=1e-6)
    assert ensemble.input_shape == (None, 4)
    assert np.isfinite(ensemble.fit(X, np.arange(40) % 3, verbose=0).history["accuracy"]).all()


@pytest.mark.keras
def test_the_members_of_a_regression_each_go_back_to_original_units(tmp_path: Path) -> None:
    architecture, weights = trained(sequential, 2)
    targets = [normalizer("zscore", low, columns=3) for low in (50, 900)]
    members = [
        TrainedModel(w, Normalizers.single(normalizer("zscore", 2), t)) for w, t in zip(weights, targets, strict=True)
    ]
    in_memory = ensemble_model(architecture, MSE, members)
    predictions = []
    for member in members:
        write_final(tmp_path / "final.keras", architecture, MSE, member)
        predictions.append(opened(tmp_path / "final.keras").predict(X, verbose=0))
    expected = np.mean(predictions, axis=0)
    assert 400 < expected.mean() < 600
    np.testing.assert_allclose(in_memory.predict(X, verbose=0), expected, rtol=1e-6)
    scores = in_memory.evaluate(X, expected + 1, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(1, abs=1e-3)
    assert scores["mean_absolute_error"] == pytest.approx(1, abs=1e-3)


@pytest.mark.keras
def test_an_ensemble_of_one_is_that_one_and_none_is_refused() -> None:
    architecture, weights = trained(sequential, 1)
    alone = ensemble_model(architecture, SPARSE, [TrainedModel(weights[0])])
    assert [layer.name for layer in alone.layers][-1] == "out"
    for have, given in zip(get_weights(alone).values(), weights[0].values(), strict=True):
        np.testing.assert_array_equal(have, given)
    with pytest.raises(InputError, match="no models") as error:
        ensemble_model(architecture, SPARSE, [])
    assert error.value.code == "weights.no-ensemble"


@pytest.mark.keras
def test_words_stay_whole_numbers_in_an_ensemble(tmp_path: Path) -> None:
    import keras
    from keras import layers

    def words() -> Any:
        return keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(10, 2), layers.LSTM(3)])

    architecture, weights = trained(words, 2)
    write_ensemble(tmp_path / "ensemble.keras", architecture, MSE, [TrainedModel(each) for each in weights])
    assert str(opened(tmp_path / "ensemble.keras").inputs[0].dtype) == "int32"


@pytest.mark.keras
def test_a_member_of_another_model_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    architecture, weights = trained(sequential, 1)
    _, others = trained(functional, 1)
    with pytest.raises(InputError, match="weight arrays"):
        write_ensemble(
            tmp_path / "ensemble.keras", architecture, SPARSE, [TrainedModel(weights[0]), TrainedModel(others[0])]
        )
    assert not list(tmp_path.iterdir())
