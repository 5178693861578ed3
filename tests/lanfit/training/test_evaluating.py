"""The judge: what it says of a model is what plain Keras and scikit-learn say of it on raw rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compile_options import read_config
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

from lanfit.data.labels import Target
from lanfit.data.normalize import Moments, Normalizer, fit_normalizer
from lanfit.data.shard import Normalizers, Samples
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import get_weights
from lanfit.training.keras.evaluation import Evaluator
from lanfit.training.metrics import as_keras
from lanfit.wire.messages import Model

pytestmark = pytest.mark.keras
RANDOM = np.random.default_rng(7)
X = RANDOM.normal(20, 5, (60, 3)).astype(np.float32)


def member(
    make: Callable[[], Any], target: Target, normalizer: str = "zscore", targets: Normalizer | None = None
) -> tuple[Any, Model, TrainedModel]:
    """A Keras model, and the same as it travels."""
    import keras

    keras.utils.set_random_seed(int(RANDOM.integers(1000)))
    model = make()
    compiled = read_config(json.dumps(model.get_compile_config()))
    assert compiled is not None
    none = fit_normalizer("none", Moments.of(X))
    named = Model(
        model.to_json(), compiled.to_json(), (None, 3), (None, *model.output_shape[1:]), target, normalizer,
        targets.name if targets else "none",
    )  # fmt: skip
    return (
        model,
        named,
        TrainedModel(
            get_weights(model), Normalizers.single(fit_normalizer(normalizer, Moments.of(X)), targets or none)
        ),
    )


def classifier() -> Any:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    return model


def test_classes_are_evaluated_as_by_scikit_learn() -> None:
    y = RANDOM.integers(0, 4, 60)
    model, named, one = member(classifier, Target.CLASSES)
    evaluated, outputs = Evaluator(named).predict_and_evaluate([one], Samples.of(X, y))
    predictions = outputs["y"]
    theirs = model.predict(one.normalizers.x.apply(X), verbose=0)
    np.testing.assert_allclose(predictions, theirs, atol=1e-6)
    assert evaluated["accuracy"] == pytest.approx(accuracy_score(y, theirs.argmax(axis=1)))
    assert evaluated["f1"] == pytest.approx(f1_score(y, theirs.argmax(axis=1), average="macro", zero_division=0))
    assert evaluated["loss"] == pytest.approx(model.evaluate(one.normalizers.x.apply(X), y, verbose=0), rel=1e-5)


def test_several_members_are_evaluated_as_one_each_behind_its_own_normalizer() -> None:
    y = RANDOM.integers(0, 4, 60)
    first, named, one = member(classifier, Target.CLASSES)
    second, _, other = member(classifier, Target.CLASSES, "minmax")
    own = other.normalizers.x
    other = TrainedModel(other.weights, Normalizers.single(Normalizer("zscore", own.subtract, own.multiply)))
    _, outputs = Evaluator(named).predict_and_evaluate([one, other], Samples.of(X, y))
    predictions = outputs["y"]
    theirs = [
        first.predict(one.normalizers.x.apply(X), verbose=0),
        second.predict(other.normalizers.x.apply(X), verbose=0),
    ]
    np.testing.assert_allclose(predictions, np.mean(theirs, axis=0), atol=1e-6)


@pytest.mark.parametrize("logits", [False, True])
def test_a_yes_or_no_model_is_cut_at_a_half_also_when_it_puts_out_logits(logits: bool) -> None:
    import keras

    def make() -> Any:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation=None if logits else "sigmoid")])
        model.compile(optimizer="sgd", loss=keras.losses.BinaryCrossentropy(from_logits=logits))
        return model

    y = RANDOM.integers(0, 2, 60)
    model, named, one = member(make, Target.BINARY)
    evaluated, outputs = Evaluator(named).predict_and_evaluate([one], Samples.of(X, y))
    predictions = outputs["y"]
    outputs = model.predict(one.normalizers.x.apply(X), verbose=0)[:, 0]
    likely = 1 / (1 + np.exp(-outputs.astype(np.float64))) if logits else outputs
    np.testing.assert_allclose(predictions[:, 0], likely, atol=1e-6)
    assert 0 < (likely > 0.5).sum() < 60
    if logits:
        assert ((outputs > 0.5) != (likely > 0.5)).any(), "the test could not tell the two cuts apart"
    assert evaluated["accuracy"] == pytest.approx(accuracy_score(y, likely > 0.5))


def test_normalized_targets_are_evaluated_in_original_units() -> None:
    import keras

    def make() -> Any:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mean_squared_error")
        return model

    y = RANDOM.normal(1000, 50, (60, 1))
    targets = fit_normalizer("zscore", Moments.of(y))
    model, named, one = member(make, Target.VALUES, targets=targets)
    evaluated, outputs = Evaluator(named).predict_and_evaluate([one], Samples.of(X, y))
    predictions = outputs["y"]
    theirs = targets.inverse().apply(model.predict(one.normalizers.x.apply(X), verbose=0))
    np.testing.assert_allclose(predictions, theirs, rtol=1e-5)
    assert evaluated["mae"] == pytest.approx(mean_absolute_error(y, theirs), rel=1e-5)
    assert evaluated["r2"] == pytest.approx(r2_score(y, theirs), rel=1e-4)
    assert evaluated["loss"] == pytest.approx(float(np.mean((theirs - y) ** 2)), rel=1e-4)


def test_no_rows_no_metrics() -> None:
    _, named, one = member(classifier, Target.CLASSES)
    assert Evaluator(named).evaluate([one], Samples.of(X[:0], np.empty(0, np.int64))) == {}


def yes_or_no(*metrics: Any) -> Any:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=list(metrics))
    return model


@pytest.mark.parametrize("at_once", [True, False])
def test_compiled_metrics_are_those_of_keras_next_to_the_standard_ones(
    monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """`at_once`: as the backend of the server does it; else as the others do."""
    from keras import metrics

    monkeypatch.setattr("lanfit.models.evaluation._counts_metrics", lambda: at_once)
    x, y = np.tile(X, (10, 1)), RANDOM.integers(0, 2, 600)  # more than a batch
    model, named, one = member(
        lambda: yes_or_no(
            "accuracy",
            metrics.Precision(name="precision"),
            metrics.Recall(name="recall"),
            metrics.AUC(name="prc", curve="PR"),
            metrics.MeanSquaredError(name="Brier score"),
        ),
        Target.BINARY,
    )
    predict_and_evaluate = Evaluator(named)
    for _ in range(2):  # nothing is left of what was scored before
        evaluated = predict_and_evaluate.evaluate([one], Samples.of(x, y))
        theirs = model.evaluate(one.normalizers.x.apply(x), y, verbose=0, return_dict=True)
        predicted = model.predict(one.normalizers.x.apply(x), verbose=0)[:, 0] > 0.5
        assert list(evaluated) == [
            "loss", "accuracy", "precision", "recall", "f1", "compiled_precision", "compiled_recall", "prc",
            "Brier score",
        ]  # fmt: skip
        assert evaluated["f1"] == pytest.approx(f1_score(y, predicted, average="macro", zero_division=0))
        for name in ("precision", "recall"):
            assert evaluated[f"compiled_{name}"] == pytest.approx(theirs[name], rel=1e-5)
            assert evaluated[f"compiled_{name}"] != pytest.approx(evaluated[name], rel=1e-3)
        for name in ("loss", "accuracy", "prc", "Brier score"):
            assert evaluated[name] == pytest.approx(theirs[name], rel=1e-5)
        assert set(as_keras(evaluated)) == {*theirs, "f1"}


def test_several_members_have_compiled_metrics_too() -> None:
    y = RANDOM.integers(0, 2, 60)
    first, named, one = member(lambda: yes_or_no("mse"), Target.BINARY)
    second, _, other = member(lambda: yes_or_no("mse"), Target.BINARY)
    mean = sum(model.predict(one.normalizers.x.apply(X), verbose=0)[:, 0] for model in (first, second)) / 2
    evaluated = Evaluator(named).evaluate([one, other], Samples.of(X, y))
    assert evaluated["mse"] == pytest.approx(np.mean((mean - y) ** 2), rel=1e-4)


def test_keras_accuracy_of_a_model_that_puts_out_logits_is_reported_where_it_is_another() -> None:
    import keras

    def logits() -> Any:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
        return model

    model, named, one = member(logits, Target.BINARY)
    rows = one.normalizers.x.apply(X)
    outputs = model.predict(rows, verbose=0)[:, 0]
    y = ((outputs > 0) & (outputs < 0.5)).astype(int)  # where 0.5 of a probability and 0.5 of a logit are not the same
    evaluated = Evaluator(named).evaluate([one], Samples.of(X, y))
    assert evaluated["accuracy"] == pytest.approx(np.mean((outputs > 0) == y))
    assert as_keras(evaluated)["accuracy"] == pytest.approx(
        model.evaluate(rows, y, verbose=0, return_dict=True)["accuracy"]
    )
    assert evaluated["compiled_accuracy"] != pytest.approx(evaluated["accuracy"])
