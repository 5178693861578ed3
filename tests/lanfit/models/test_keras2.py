"""Models that Keras 2.15 wrote (tests/data/keras2/make.py): what it predicted is what we load. And hostile variants."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from compile_options import read_config

from lanfit.errors import InputError
from lanfit.models.compiling import CompileSpec, compile_model, loss_name, override, read_spec
from lanfit.models.export import write_model
from lanfit.models.keras2 import translate, translate_options
from lanfit.models.loading import load_model
from lanfit.models.raw_model import bare_model

DATA = Path(__file__).parents[2] / "data" / "keras2"
FILES = sorted(path.name for path in DATA.iterdir() if path.suffix in (".h5", ".keras"))


def rows_of(name: str) -> Any:
    return np.load(DATA / f"{Path(name).stem}.npz")


def test_the_files_are_of_keras_2_and_small() -> None:
    assert len(FILES) == 8
    for name in FILES:
        assert (DATA / name).stat().st_size < 60_000
        if name.endswith(".h5"):
            with h5py.File(DATA / name) as file:
                assert file.attrs["keras_version"] == "2.15.0"


@pytest.mark.keras
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_keras_2_predicts_trains_and_travels_on(name: str, tmp_path: Path) -> None:
    import keras

    data = rows_of(name)
    loaded = load_model(DATA / name)
    assert loaded.compile is not None
    model = bare_model(loaded.architecture, loaded.weights)
    np.testing.assert_allclose(model.predict(data["x"], verbose=0), data["predictions"], rtol=1e-5, atol=1e-5)
    compile_model(model, read_spec(loaded.compile))
    model.fit(data["x"], data["y"], epochs=1, verbose=0)
    write_model(tmp_path / "net.h5", loaded.architecture, loaded.compile, loaded.weights)
    opened = keras.models.load_model(tmp_path / "net.h5")
    np.testing.assert_allclose(opened.predict(data["x"], verbose=0), data["predictions"], rtol=1e-5, atol=1e-5)
    assert np.isfinite(opened.fit(data["x"], data["y"], verbose=0).history["loss"]).all()


#: File → optimizer, loss, and metrics by name or class.
COMPILED = {
    "classifier": ("AdamW", "sparse_categorical_crossentropy", ["accuracy"]),
    "pictures": ("SGD", "categorical_crossentropy", ["accuracy", "TopKCategoricalAccuracy"]),
    "words": ("Adagrad", "binary_crossentropy", ["accuracy", "AUC"]),
    "regression": ("RMSprop", "mean_squared_error", ["mean_absolute_error", "mean_squared_error"]),
    "attention": ("RMSprop", "mean_absolute_error", ["RootMeanSquaredError", "log_cosh_error"]),
}


def spec_of(name: str) -> CompileSpec:
    loaded = load_model(DATA / name)
    assert loaded.compile is not None
    return read_spec(loaded.compile)


def long_name(metric: Any) -> str:
    short = {"mae": "mean_absolute_error", "mse": "mean_squared_error", "auc": "AUC"}
    return metric["class_name"] if isinstance(metric, dict) else short.get(metric.lower(), metric)


@pytest.mark.keras
@pytest.mark.parametrize("name", FILES)
def test_optimizer_loss_and_metrics_are_those_of_the_file(name: str) -> None:
    optimizer, loss, metrics = COMPILED[Path(name).stem]
    spec = spec_of(name)
    assert spec.optimizer is not None
    assert spec.optimizer["class_name"] == optimizer
    assert loss_name(spec) == loss
    assert [long_name(metric) for metric in spec.metrics] == metrics
    assert override(spec) == spec


@pytest.mark.keras
def test_options_of_optimizer_loss_and_layers_survive() -> None:
    optimizer = spec_of("classifier.h5").optimizer
    assert optimizer is not None
    assert optimizer["config"]["weight_decay"] == 0.01
    schedule = optimizer["config"]["learning_rate"]
    assert (schedule["class_name"], schedule["config"]["decay_rate"]) == ("ExponentialDecay", 0.9)
    assert "L1L2" in load_model(DATA / "classifier.h5").architecture
    assert "NonNeg" in load_model(DATA / "classifier.h5").architecture
    loss = spec_of("pictures.h5").loss
    assert isinstance(loss, dict)
    assert (loss["config"]["from_logits"], loss["config"]["label_smoothing"]) == (True, 0.1)


@pytest.mark.keras
@pytest.mark.parametrize("name", ["regression.h5", "regression.keras"])
def test_the_decay_of_an_old_optimizer_is_the_schedule_it_meant(name: str) -> None:
    import keras

    optimizer = spec_of(name).optimizer
    assert optimizer is not None
    schedule = keras.saving.deserialize_keras_object(optimizer["config"]["learning_rate"])
    for step in (0, 1, 1000):
        assert float(schedule(step)) == pytest.approx(0.01 / (1 + 0.001 * step), rel=1e-5)


@pytest.mark.keras
def test_accuracy_is_picked_by_the_loss_though_the_file_wraps_another_one(tmp_path: Path) -> None:
    """Keras 2 can store `accuracy` as a wrapper around categorical_accuracy with a sparse loss."""
    path = shutil.copy(DATA / "classifier.h5", tmp_path / "net.h5")
    edit_h5(path, "training_config", lambda c: c["metrics"][0][0]["config"].update(fn="categorical_accuracy"))
    loaded, data = load_model(path), rows_of("classifier.h5")
    assert loaded.compile is not None
    model = bare_model(loaded.architecture, loaded.weights)
    compile_model(model, read_spec(loaded.compile))
    scores = model.evaluate(data["x"], data["y"], verbose=0, return_dict=True)
    assert scores["accuracy"] == pytest.approx((data["predictions"].argmax(1) == data["y"]).mean())


def edit_h5(path: Path, attribute: str, edit: Callable[[Any], Any]) -> None:
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs[attribute])
        edit(config)
        file.attrs[attribute] = json.dumps(config)


def edit_keras(path: Path, edit: Callable[[Any], Any]) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    edit(config)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def layer(config: Any, number: int) -> Any:
    return config["config"]["layers"][number]


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a Lambda": (lambda c: layer(c, -1).update(class_name="Lambda"), r"layer 'dense.*Lambda.* contains code"),
    "a registered name": (lambda c: layer(c, -1).update(registered_name="Mine>Dense"), "registered as 'Mine>Dense'"),
    "a module": (lambda c: layer(c, -1).update(module="os", class_name="system"), "system from 'os'"),
    "a layer called custom": (lambda c: layer(c, -1).update(class_name="Custom>Dense"), "Custom>Dense"),
    "an operation": (lambda c: layer(c, -1).update(class_name="TFOpLambda"), "TFOpLambda"),
    "an initializer": (
        lambda c: layer(c, -1)["config"].update(kernel_initializer={"class_name": "Evil", "config": {}}),
        "Evil from 'keras.initializers'",
    ),
    "a function": (
        lambda c: layer(c, -1)["config"].update(
            activation={"class_name": "function", "module": "os", "config": "system", "registered_name": "system"}
        ),
        "the function 'system' from 'os'",
    ),
    "layers that are none": (lambda c: c["config"].update(layers=7), "can't"),
    "layers that are numbers": (lambda c: c["config"].update(layers=[1, 2]), "can't"),
    "calls that are none": (lambda c: [each.update(inbound_nodes=[[]]) for each in c["config"]["layers"]], "can't"),
    "no configuration": (lambda c: c.update(config=None), "the class Functional"),
}


@pytest.mark.keras
@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_keras_own_is_refused_by_name(what: str, ending: str, tmp_path: Path) -> None:
    edit, message = HOSTILE[what]
    path = shutil.copy(DATA / f"pictures{ending}", tmp_path / f"net{ending}")
    edit_h5(path, "model_config", edit) if ending == ".h5" else edit_keras(path, edit)
    with pytest.raises(InputError, match=message) as error:
        load_model(path)
    assert error.value.message.startswith(f"net{ending}: ")
    assert error.value.hint


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "an optimizer": ({"optimizer_config": {"class_name": "Custom>Evil", "config": {}}}, "Custom>Evil"),
    "a foreign optimizer": ({"optimizer_config": {"class_name": "Mine>Adam", "config": {}}}, "Mine>Adam"),
    "an optimizer that is a number": ({"optimizer_config": 7}, "can't be read"),
    "a loss": ({"loss": {"class_name": "Custom>Loss", "config": {}}}, "Custom>Loss"),
    "a loss by name": ({"loss": "my_loss"}, "there is no Keras loss 'my_loss'"),
    "a metric": ({"metrics": [{"class_name": "MeanMetricWrapper", "config": {"name": "m", "fn": "mine"}}]}, "'mine'"),
    "a schedule": (
        {"optimizer_config": {"class_name": "Adam", "config": {"learning_rate": {"class_name": "W", "config": {}}}}},
        "the class W from 'keras.optimizers.schedules'",
    ),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_foreign_compile_options_are_refused_by_name(what: str) -> None:
    change, message = OPTIONS[what]
    with pytest.raises(InputError, match=message):
        read_config(translate_options(json.dumps({"optimizer_config": "adam", "loss": "mse", **change})))


@pytest.mark.parametrize("text", ["", "7", "[]", "{", '"text"', "null", '{"loss":{"class_name":3}}', "[" * 5000])
def test_garbage_as_compile_options_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        read_config(translate_options(text))


def test_nesting_without_end_comes_back_for_the_check_to_refuse() -> None:
    text = '{"class_name":"Dense","config":' * 300 + "{}" + "}" * 300
    assert json.loads(translate(text).architecture)["class_name"] == "Dense"


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ({"class_name": "Adam", "config": {"lr": 0.5, "decay": 0.0}}, {"learning_rate": 0.5}),
        ({"class_name": "Nadam", "config": {"lr": 0.5, "schedule_decay": 0.004}}, {"learning_rate": 0.5}),
        ({"class_name": "Custom>Lion", "config": {"jit_compile": True, "is_legacy_optimizer": False}}, {}),
    ],
)
def test_options_that_optimizers_no_longer_have_are_dropped(optimizer: Any, expected: Any) -> None:
    spec = read_config(translate_options(json.dumps({"optimizer_config": optimizer, "loss": "mse"})))
    assert spec is not None
    assert spec.optimizer is not None
    assert spec.optimizer["config"] == expected


def test_the_optimizer_of_mixed_precision_keeps_the_one_in_it() -> None:
    inner = {"class_name": "Custom>Adam", "config": {"learning_rate": 0.5, "jit_compile": False}}
    outer = {"inner_optimizer": inner, "dynamic": True, "initial_scale": 8.0, "dynamic_growth_steps": 9}
    optimizer = {"class_name": "LossScaleOptimizerV3", "config": outer}
    spec = read_config(translate_options(json.dumps({"optimizer_config": optimizer, "loss": "mse"})))
    assert spec is not None
    assert spec.optimizer is not None
    assert spec.optimizer["class_name"] == "LossScaleOptimizer"
    assert spec.optimizer["config"]["inner_optimizer"]["class_name"] == "Adam"
    assert spec.optimizer["config"]["inner_optimizer"]["config"] == {"learning_rate": 0.5}


@pytest.mark.keras
def test_the_keras_files_of_early_versions_are_distinguished(tmp_path: Path) -> None:
    path = shutil.copy(DATA / "words.h5", tmp_path / "net.keras")
    assert load_model(path).architecture == load_model(DATA / "words.h5").architecture
    shutil.copy(DATA / "words.keras", path)
    with zipfile.ZipFile(DATA / "words.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b"2.15.0", b"2.12.0") if name == "metadata.json" else content)
    with pytest.raises(InputError, match=r"2\.12\.0") as error:
        load_model(path)
    assert ".h5" in str(error.value.hint)
