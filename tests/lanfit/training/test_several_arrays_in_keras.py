"""Models with several inputs and outputs against plain Keras and scikit-learn: training, scores, final models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

from lanfit.data.labels import Target
from lanfit.data.normalize import NO_NORMALIZER, Moments, fit_normalizer
from lanfit.data.shard import Normalizers, Samples
from lanfit.errors import InputError
from lanfit.models.evaluation import check_batch
from lanfit.models.export import write_final
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.merge import write_ensemble
from lanfit.models.structure import input_names, output_names, pack_inputs, pack_outputs
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import get_weights, set_weights
from lanfit.training.keras.backend import KerasBackend
from lanfit.training.keras.evaluation import Evaluator
from lanfit.training.loop import FitJob, epoch_order, fit
from lanfit.wire.messages import InputSpec, Model, OutputSpec

pytestmark = pytest.mark.keras
ROWS = 60
RANDOM = np.random.RandomState(0)
INPUTS = {"size": RANDOM.rand(ROWS, 3).astype(np.float32) * 9, "place": RANDOM.rand(ROWS, 2).astype(np.float32)}
TARGETS = {"kind": RANDOM.randint(0, 4, ROWS).astype(np.int32), "price": RANDOM.rand(ROWS, 1).astype(np.float32) * 50}
WEIGHTS = RANDOM.rand(ROWS).astype(np.float32)
SPARSE = "sparse_categorical_crossentropy"


class Quiet:
    def on_progress(self, *args: Any) -> None: ...

    def on_epoch(self, *args: Any) -> None: ...

    def on_resume(self, *args: Any) -> None: ...


def build(kind: str) -> Any:
    """A model on lists, or on dicts whose keys are not sorted, or with one output."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    size, place = keras.Input((3,), name="size"), keras.Input((2,), name="place")
    hidden = layers.Dense(5, "relu")(layers.Concatenate()([size, place]))
    price = layers.Dense(1, name="price")(layers.Dropout(0.2, seed=3)(hidden))
    if kind == "one output":
        model = keras.Model([size, place], price)
        model.compile("adam", "mse", metrics=["mae"])
        return model
    ends = {"price": price, "kind": layers.Dense(4, "softmax", name="kind")(hidden)}
    if kind == "dicts":
        model = keras.Model({"size": size, "place": place}, ends)
        model.compile(
            "adam", {"price": "mse", "kind": SPARSE}, loss_weights={"price": 0.5, "kind": 1.0},
            metrics={"kind": ["accuracy"], "price": ["mae"]},
        )  # fmt: skip
    else:
        model = keras.Model([size, place], list(ends.values()))
        model.compile("adam", ["mse", SPARSE], loss_weights=[0.5, 1.0], metrics=[["mae"], ["accuracy"]])
    return model


def loaded_and_rows(kind: str, folder: Path) -> tuple[Any, LoadedModel, Samples]:
    model = build(kind)
    model.save(folder / "net.keras")
    loaded = load_model(folder / "net.keras")
    inputs = {each.name: INPUTS[each.name] for each in loaded.inputs}
    return model, loaded, Samples(inputs, {each.name: TARGETS[each.name] for each in loaded.outputs}, WEIGHTS)


def as_keras_takes(model: Any, rows: Samples, order: Any) -> tuple[Any, Any]:
    inputs = {name: array[order] for name, array in rows.inputs.items()}
    targets = {name: array[order] for name, array in rows.targets.items()}
    # By name and not by `pack_inputs`, which is under test.
    x: Any = inputs if kind_of(model) == "dicts" else [inputs[each.name] for each in model.inputs]
    y: Any = targets if kind_of(model) == "dicts" else [targets[name] for name in model.output_names]
    return x, y if len(targets) > 1 else next(iter(targets.values()))


def kind_of(model: Any) -> str:
    return "dicts" if isinstance(model._inputs_struct, dict) else "lists"


@pytest.mark.parametrize("kind", ["lists", "dicts", "one output"])
def test_weights_and_history_are_those_of_plain_keras_to_the_bit(kind: str, tmp_path: Path) -> None:
    import keras

    model, loaded, rows = loaded_and_rows(kind, tmp_path)
    held = rows.take(slice(20))
    backend = KerasBackend()
    backend.load(loaded.architecture, str(loaded.compile), loaded.weights)
    results = [fit(backend, FitJob(2, 16, 5, keep_last=True), rows, held, Quiet()) for _ in range(2)]
    keras.utils.set_random_seed(5)
    plain = keras.models.model_from_json(loaded.architecture)
    set_weights(plain, loaded.weights)
    plain.compile_from_config(model.get_compile_config())
    history = []
    for epoch in range(2):
        order = epoch_order(5, epoch, ROWS)
        x, y = as_keras_takes(plain, rows, order)
        validation = (*as_keras_takes(plain, rows, slice(20)), WEIGHTS[:20])
        done = plain.fit(
            x, y, sample_weight=WEIGHTS[order], batch_size=16, shuffle=False, verbose=0, validation_data=validation
        )
        history.append({name: values[0] for name, values in done.history.items()})
    for result in results:
        for one, other in zip(result.weights.values(), get_weights(plain).values(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert set(result.metrics) == set(history[0])
        assert result.history.tolist() == [[line[name] for name in result.metrics] for line in history]


def trained(loaded: LoadedModel, rows: Samples) -> tuple[Model, TrainedModel]:
    """The model as it travels, with a normalizer for each input and the price."""
    numbers = {each.name: each.name == "price" for each in loaded.outputs}
    model = Model(
        loaded.architecture, str(loaded.compile), (None, 1), (None, 1), "values", "none", "none",
        inputs=tuple(InputSpec(each.name, (None, *each.shape), "zscore") for each in loaded.inputs),
        outputs=tuple(
            OutputSpec(
                each.name, (None, *each.shape), Target.VALUES if numbers[each.name] else Target.CLASSES,
                "zscore" if numbers[each.name] else "none",
            )
            for each in loaded.outputs
        ),
    )  # fmt: skip
    normalizers = Normalizers(
        {name: fit_normalizer("zscore", Moments.of(array)) for name, array in rows.inputs.items()},
        {
            name: fit_normalizer("zscore", Moments.of(array)) if numbers[name] else NO_NORMALIZER
            for name, array in rows.targets.items()
        },
    )
    return model, TrainedModel(loaded.weights, normalizers)


@pytest.mark.parametrize("kind", ["lists", "dicts"])
def test_metrics_of_each_output_are_scikit_learns_and_the_loss_is_keras_own(kind: str, tmp_path: Path) -> None:
    import keras

    _, loaded, rows = loaded_and_rows(kind, tmp_path)
    model, member = trained(loaded, rows)
    assert list(TrainedModel.of({**loaded.weights, **member.constants()}, model).weights) == list(loaded.weights)
    raw = Samples(rows.inputs, rows.targets)
    evaluated, predictions = Evaluator(model).predict_and_evaluate([member], raw)
    chosen = predictions["kind"].argmax(axis=1)
    expected = {
        "kind_accuracy": accuracy_score(TARGETS["kind"], chosen),
        "kind_f1": f1_score(TARGETS["kind"], chosen, average="macro", zero_division=0),
        "price_mae": mean_absolute_error(TARGETS["price"], predictions["price"]),
        "price_r2": r2_score(TARGETS["price"], predictions["price"]),
    }
    for name, value in expected.items():
        assert evaluated[name] == pytest.approx(value, rel=1e-5), name
    assert predictions["price"].std() > 2  # in original units

    write_final(tmp_path / "final.keras", loaded.architecture, str(loaded.compile), member)
    final = keras.models.load_model(tmp_path / "final.keras")
    assert (input_names(final), set(output_names(final))) == (tuple(rows.inputs), {"kind", "price"})
    given = final.predict(pack_inputs(final, list(raw.inputs.values())), verbose=0)
    for name, array in zip(output_names(final), keras.tree.flatten(given), strict=True):
        np.testing.assert_allclose(array, predictions[name], rtol=1e-4, atol=1e-4)
    x, y = (pack_inputs(final, [*raw.inputs.values()]), pack_outputs(final, [*raw.targets.values()]))
    figures = final.evaluate(x, y, verbose=0, return_dict=True, batch_size=ROWS)
    for name in ("loss", "kind_loss", "price_loss", "kind_accuracy"):
        assert evaluated[name] == pytest.approx(figures[name], rel=1e-4), name
    # With batches the losses are still the means over all rows.
    assert Evaluator(model).evaluate([member, member], raw)["price_loss"] == pytest.approx(
        evaluated["price_loss"], rel=1e-4
    )


def test_an_ensemble_gives_the_mean_of_each_output(tmp_path: Path) -> None:
    import keras

    _, loaded, rows = loaded_and_rows("dicts", tmp_path)
    model, member = trained(loaded, rows)
    other = TrainedModel({name: array * 0.5 for name, array in loaded.weights.items()}, member.normalizers)
    raw = Samples(rows.inputs, rows.targets)
    _, one = Evaluator(model).predict_and_evaluate([member], raw)
    _, two = Evaluator(model).predict_and_evaluate([other], raw)
    _, both = Evaluator(model).predict_and_evaluate([member, other], raw)
    write_ensemble(tmp_path / "ensemble.keras", loaded.architecture, str(loaded.compile), [member, other])
    given = keras.models.load_model(tmp_path / "ensemble.keras").predict(dict(raw.inputs), verbose=0)
    for name in ("kind", "price"):
        np.testing.assert_allclose(both[name], (one[name] + two[name]) / 2, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(given[name], both[name], rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_one_output_or_input_is_reported_with_its_name(tmp_path: Path) -> None:
    _, loaded, rows = loaded_and_rows("lists", tmp_path)
    check_batch(loaded.architecture, str(loaded.compile), loaded.weights, rows)
    wrong_place = Samples({**rows.inputs, "place": INPUTS["size"]}, rows.targets)
    with pytest.raises(InputError, match=r"^place: "):
        check_batch(loaded.architecture, str(loaded.compile), loaded.weights, wrong_place)
    wrong_kind = Samples(rows.inputs, {**rows.targets, "kind": TARGETS["kind"] + 3})
    with pytest.raises(InputError, match=r"^kind: "):
        check_batch(loaded.architecture, str(loaded.compile), loaded.weights, wrong_kind)
