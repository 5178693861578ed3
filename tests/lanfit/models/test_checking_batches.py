"""The check of one batch, and scores of given weights, against what Keras itself says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.data.normalize import Moments, fit_normalizer
from lanfit.data.shard import Samples
from lanfit.errors import InputError
from lanfit.models.compiling import CompileSpec, override
from lanfit.models.evaluation import WeightsEvaluator, check_batch
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.weights import get_weights

pytestmark = pytest.mark.keras

X = np.random.RandomState(0).rand(20, 4).astype(np.float32)
LABELS = np.arange(20) % 3


def net(units: int = 3, activation: str | None = "softmax") -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activation="relu", kernel_regularizer="l2"),
            layers.Dropout(0.5),
            layers.Dense(units, activation=activation),
        ]
    )


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    """Make a `LoadedModel` the way the model process does, through a file."""

    def make(model: Any) -> LoadedModel:
        model.save(tmp_path / "net.keras")
        return load_model(tmp_path / "net.keras")

    return make


def compiled(loss: str, metrics: tuple[str, ...] = ()) -> str:
    return override(CompileSpec(), "adam", loss, metrics=metrics).to_json()


def test_a_score_is_keras_own_loss_with_regularization_and_its_predictions() -> None:
    first, second = net(), net()
    evaluator = WeightsEvaluator(first.to_json(), compiled("sparse_categorical_crossentropy"))
    for model in (first, second, first):
        loss, outputs = evaluator.evaluate(get_weights(model), Samples.of(X, LABELS), batch_size=7)
        predictions = outputs["y"]
        model.compile(loss="sparse_categorical_crossentropy")
        assert loss == pytest.approx(model.evaluate(X, LABELS, verbose=0), rel=1e-6)
        np.testing.assert_allclose(predictions, model.predict(X, verbose=0), rtol=1e-6)
        probability = predictions[np.arange(20), LABELS]
        penalty = 0.01 * float((get_weights(model)[next(iter(get_weights(model)))] ** 2).sum())
        assert loss == pytest.approx(-np.log(probability).mean() + penalty, rel=1e-5)


def test_a_model_with_an_adapted_layer_is_evaluated_with_the_weights_given() -> None:
    import keras

    def adapted(scale: float) -> Any:
        layer = keras.layers.Normalization()
        layer.adapt(X * scale)
        return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])

    first, second = adapted(1), adapted(9)
    evaluator = WeightsEvaluator(first.to_json(), compiled("mse"))
    for model in (first, second):
        _, outputs = evaluator.evaluate(get_weights(model), Samples.of(X, LABELS))
        predictions = outputs["y"]
        np.testing.assert_allclose(predictions, model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def test_with_normalized_targets_loss_and_predictions_are_in_original_units() -> None:
    import keras

    y = 500 + 100 * X[:, :2]
    targets = fit_normalizer("zscore", Moments.of(y))
    evaluator = WeightsEvaluator(net(2, None).to_json(), compiled("mae"), {"y": targets})
    for _ in range(2):
        model = net(2, None)
        loss, outputs = evaluator.evaluate(get_weights(model), Samples.of(X, y), batch_size=7)
        predictions = outputs["y"]
        expected = targets.inverse().apply(model.predict(X, verbose=0))
        np.testing.assert_allclose(predictions, expected, rtol=1e-5)
        penalty = float(keras.ops.sum(model.losses))
        assert loss == pytest.approx(np.abs(y - expected).mean() + penalty, rel=1e-5)


def test_an_adapted_layer_and_normalized_targets_go_together() -> None:
    import keras

    layer = keras.layers.Normalization()
    layer.adapt(X * 7)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
    targets = fit_normalizer("minmax", Moments.of(X[:, :1] * 9 + 1))
    evaluator = WeightsEvaluator(model.to_json(), compiled("mse"), {"y": targets})
    for _ in range(2):
        _, outputs = evaluator.evaluate(get_weights(model), Samples.of(X, X[:, :1]))
        predictions = outputs["y"]
        np.testing.assert_allclose(predictions, targets.inverse().apply(model.predict(X, verbose=0)), rtol=1e-5)


def test_weights_of_another_model_are_refused() -> None:
    evaluator = WeightsEvaluator(net().to_json(), compiled("mse"))
    with pytest.raises(InputError, match="needs") as error:
        evaluator.evaluate(get_weights(net(units=4)), Samples.of(X, LABELS))
    assert error.value.code == "weights.other-array"
    with pytest.raises(InputError, match="arrays") as error:
        evaluator.evaluate({}, Samples.of(X, LABELS))
    assert error.value.code == "weights.count"


def check(loaded: LoadedModel, compile_json: str, x: Any, y: Any) -> None:
    check_batch(loaded.architecture, compile_json, loaded.weights, Samples.of(x, y))


def one_hot(labels: Any, classes: int = 3) -> Any:
    return np.eye(classes, dtype=np.float32)[labels]


@pytest.mark.parametrize(
    ("units", "activation", "loss", "y"),
    [
        (3, "softmax", "sparse_categorical_crossentropy", LABELS),
        (3, "softmax", "sparse_categorical_crossentropy", LABELS[:, None].astype(np.uint8)),
        (3, "softmax", "categorical_crossentropy", one_hot(LABELS)),
        (1, "sigmoid", "binary_crossentropy", LABELS % 2),
        (1, "sigmoid", "bce", (LABELS % 2)[:, None]),
        (1, None, "mse", X[:, 0]),
        (4, None, "mae", X),
    ],
)
def test_a_batch_that_fits_passes(units: int, activation: Any, loss: str, y: Any, loaded: Any) -> None:
    given = loaded(net(units, activation))
    assert given.output_shape == (units,)
    check(given, compiled(loss, ("accuracy",)), X, y)


def broken_weights() -> Any:
    model = net()
    model.layers[0].kernel.assign(np.full((4, 5), np.nan, np.float32))
    return model


SPARSE = "sparse_categorical_crossentropy"
ERRORS: dict[str, tuple[Any, str, Any, Any, str, str]] = {
    "rows of another shape": (net, SPARSE, X[:, :3], LABELS, r"\(3,\).*input is \(4,\)", ""),
    "rows of another rank": (net, SPARSE, X[:, :, None], LABELS, r"\(4, 1\).*input is \(4,\)", ""),
    "NaN in the rows": (net, SPARSE, np.where(X > 0.9, np.nan, X), LABELS, "first batch contains NaN", ""),
    "NaN in the targets": (lambda: net(1, None), "mse", X, np.full(20, np.nan), "targets .* NaN", ""),
    "one-hot rows for the sparse loss": (net, SPARSE, X, one_hot(LABELS), r"shape \(3,\)", "categorical_crossentropy"),
    "labels for the dense loss": (net, "categorical_crossentropy", X, LABELS, r"output is \(3,\)", SPARSE),
    "class numbers for mse": (lambda: net(10, None), "mse", X, LABELS, r"\(10,\), but the targets are \(\)", SPARSE),
    "a label above the outputs": (net, SPARSE, X, LABELS + 1, "1 to 3, but the model has 3 outputs", "from 0"),
    "a label below zero": (net, SPARSE, X, LABELS - 1, "-1 to 1", "from 0"),
    "one output for classes": (lambda: net(1), SPARSE, X, LABELS * 0, "1 output", "binary_crossentropy"),
    "too many targets": (lambda: net(2, None), "mse", X, X, r"\(2,\), but the targets are \(4,\)", "units"),
    "no softmax": (lambda: net(3, None), SPARSE, X * 100, LABELS, "takes probabilities", "softmax"),
    "no sigmoid": (lambda: net(1, None), "bce", X * 100, LABELS % 2, "takes probabilities", "sigmoid"),
    "NaN in the weights": (broken_weights, SPARSE, X, LABELS, "weight '.*kernel' contains NaN", ""),
    "values that overflow": (lambda: net(1, None), "mse", X * np.float32(1e38), X[:, 0], "NaN or inf|is inf", ""),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_named_with_its_cause_and_a_way_out(case: str, loaded: Any) -> None:
    make, loss, x, y, message, hint = ERRORS[case]
    with pytest.raises(InputError, match=message) as error:
        check(loaded(make()), compiled(loss), x, y)
    assert error.value.hint
    assert hint in error.value.hint


def test_what_is_found_before_in_files_is_found_in_a_batch_too(loaded: Any) -> None:
    model = loaded(net())
    nan = X * np.float32("nan")
    for code, loss, x, y in [
        ("batch.row-shape", SPARSE, X[:, :3], LABELS),
        ("batch.not-finite", SPARSE, nan, LABELS),
        ("batch.targets-not-finite", "mse", X, nan[:, :3]),
        ("batch.one-hot-targets", SPARSE, X, one_hot(LABELS)),
        ("batch.no-labels", SPARSE, X, X[:, :2]),
        ("batch.labels-outside", SPARSE, X, LABELS + 1),
        ("batch.class-numbers", "categorical_crossentropy", X, LABELS),
        ("batch.target-shape", "mse", X, X),
    ]:
        with pytest.raises(InputError) as error:
            check(model, compiled(loss), x, y)
        assert error.value.code == code


def test_logits_are_fine_when_the_loss_expects_them(loaded: Any) -> None:
    import keras

    model = net(3, None)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    given = loaded(model)
    check(given, given.compile, X * 100, LABELS)
    with pytest.raises(InputError):
        check(given, compiled(SPARSE), X * 100, LABELS)


def test_fractions_for_a_model_of_words_are_named(loaded: Any) -> None:
    import keras

    words = keras.Sequential(
        [keras.Input((4,), dtype="int32"), keras.layers.Embedding(10, 2), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    check(loaded(words), compiled("mse"), np.ones((20, 4), np.int32), X[:, 0])
    with pytest.raises(InputError, match="int32"):
        check(loaded(words), compiled("mse"), X, X[:, 0])


def test_what_only_keras_can_tell_is_an_error_of_the_input_too(loaded: Any) -> None:
    with pytest.raises(InputError, match=r"metrics mae: Incompatible shapes: \[20\] vs. \[20,3\]"):
        check(loaded(net()), compiled(SPARSE, ("mae",)), X, LABELS)


def with_metrics(loaded: Any, *metrics: Any, loss: str = "categorical_crossentropy") -> Any:
    """Check a batch of one-hot rows with a model that is compiled with these metrics."""
    model = net()
    model.compile("adam", loss, metrics=list(metrics))
    found = loaded(model)
    return check_batch(found.architecture, str(found.compile), found.weights, Samples.of(X, np.eye(3)[LABELS]))


def test_metrics_may_have_the_names_that_keras_takes(loaded: Any) -> None:
    import keras

    mse = keras.metrics.MeanSquaredError
    with_metrics(loaded, "accuracy", mse(name="Brier score"), mse(name="a/b"), keras.metrics.AUC(name="cross entropy"))
    with_metrics(loaded, *(mse(name=f"metric {number}") for number in range(70)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("loss", "that is what the loss itself is called"),
        ("val_loss", "val_ is the prefix of validation metrics"),
        ("compiled_precision", "it is reserved for a metric precision"),
        ("two\nlines", "it holds characters that can't be shown"),
        ("m" * 201, "it has 201 characters"),
    ],
)
def test_a_metric_whose_name_no_history_can_hold_is_refused_before_training(loaded: Any, name: str, why: str) -> None:
    import keras

    with pytest.raises(InputError) as refused:
        with_metrics(loaded, keras.metrics.MeanSquaredError(name=name))
    assert refused.value.code == "batch.metric-name"
    assert why in refused.value.message
    with_metrics(loaded, keras.metrics.MeanSquaredError(name="area"))  # as it says


def test_more_metrics_than_a_result_has_room_for_are_refused_before_training(loaded: Any) -> None:
    import keras

    with pytest.raises(InputError) as refused:
        with_metrics(loaded, *(keras.metrics.MeanSquaredError(name=f"m{number:0199}") for number in range(41)))
    assert (refused.value.code, "41 metrics" in refused.value.message) == ("batch.many-metrics", True)


def test_a_metric_that_gives_several_numbers_is_refused_and_the_way_out_works(loaded: Any) -> None:
    import keras

    for given, way_out in [
        (keras.metrics.F1Score(), keras.metrics.F1Score(average="macro")),
        (keras.metrics.FBetaScore(), keras.metrics.FBetaScore(average="weighted")),
        (keras.metrics.R2Score(class_aggregation=None), keras.metrics.R2Score(class_aggregation="uniform_average")),
    ]:
        with pytest.raises(InputError) as refused:
            with_metrics(loaded, given)
        assert refused.value.code == "batch.metric-array"
        assert f"'{given.name}' returns 3 numbers" in refused.value.message
        with_metrics(loaded, way_out)
