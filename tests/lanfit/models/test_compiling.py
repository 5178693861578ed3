"""Optimizer, loss and metrics: read from what Keras writes, overridden, named, compiled."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from compile_options import read_config
from error_tables import ERRORS

from lanfit.errors import InputError
from lanfit.models import allowlist
from lanfit.models.compiling import (
    CompileSpec,
    compile_model,
    left_out_note,
    loss_name,
    optimizer_config,
    override,
    read_options,
    read_spec,
    with_long_names,
)
from lanfit.models.keras2 import translate_options

ADAM = {"class_name": "Adam", "config": {"name": "adam", "learning_rate": 0.002}}
SCHEDULE = {
    "module": "keras.optimizers.schedules",
    "class_name": "ExponentialDecay",
    "config": {"initial_learning_rate": 0.01, "decay_steps": 10, "decay_rate": 0.5, "staircase": True, "name": "d"},
    "registered_name": None,
}


def read(**config: Any) -> CompileSpec | None:
    return read_config(json.dumps(config))


def spec_of(**config: Any) -> CompileSpec:
    spec = read(**config)
    assert spec is not None
    return spec


def test_an_h5_says_optimizer_loss_and_metrics_without_modules() -> None:
    loss = {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}
    spec = spec_of(optimizer_config=ADAM, loss=loss, metrics=["acc"], weighted_metrics=["mse"], loss_weights=None)
    assert spec.optimizer == {**ADAM, "module": "keras.optimizers", "registered_name": None}
    assert spec.loss == {**loss, "module": "keras.losses", "registered_name": None}
    assert spec.metrics == ("acc", "mse")


@pytest.mark.parametrize(
    ("loss", "metrics"),
    [("mse", ["mae"]), (["mse"], [["mae"]]), ({"out": "mse"}, {"out": ["mae"]})],
    ids=["plain", "lists", "by output"],
)
def test_one_output_may_be_compiled_in_lists_or_by_its_name(loss: Any, metrics: Any) -> None:
    spec = spec_of(optimizer=None, loss=loss, metrics=metrics)
    assert (spec.loss, spec.metrics) == ("mse", ("mae",))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_an_optimizer_as_keras_writes_it_on_pytorch_is_the_one_of_all_backends(name: str) -> None:
    module = f"keras.src.backend.torch.optimizers.torch_{name.lower()}"
    own = {"module": module, "class_name": name, "config": {"learning_rate": 0.002}, "registered_name": name}
    spec = spec_of(optimizer=own, loss="mse")
    assert spec.optimizer == {**own, "module": "keras.optimizers", "registered_name": None}
    scaled = {"module": "keras.optimizers", "class_name": "LossScaleOptimizer", "registered_name": None}
    spec = spec_of(optimizer={**scaled, "config": {"inner_optimizer": own}}, loss="mse")
    assert spec.optimizer is not None
    assert spec.optimizer["config"]["inner_optimizer"]["module"] == "keras.optimizers"


def test_what_is_not_built_in_is_refused_whatever_backend_it_says_it_is_of() -> None:
    for module in ("keras.src.backend.torch.optimizers.torch_sgd.os", "keras.src.backend.torch.trainer"):
        own = {"module": module, "class_name": "SGD", "config": {}, "registered_name": "SGD"}
        with pytest.raises(InputError):
            read(optimizer=own, loss="mse")
    own = {"module": "keras.src.backend.torch.optimizers.torch_sgd", "class_name": "Evil", "config": {}}
    with pytest.raises(InputError):
        read(optimizer=own, loss="mse")


def test_a_function_of_keras_is_read_as_its_name() -> None:
    function = {"module": "builtins", "class_name": "function", "config": "mean_squared_error"}
    assert spec_of(optimizer="adam", loss={**function, "registered_name": "function"}).loss == "mean_squared_error"


def test_a_loss_weight_is_kept() -> None:
    assert spec_of(loss="mse", loss_weights=[0.5]).loss_weight == 0.5


def test_a_file_that_says_neither_optimizer_nor_loss_is_not_compiled() -> None:
    assert read(loss=None, metrics=None) is None


@pytest.mark.parametrize(
    "config",
    [
        {"loss": ["mse", "mae"]},
        {"loss": "mse", "loss_weights": ["accuracy"]},
        {"loss": {"module": "mine", "class_name": "MyLoss", "config": {}, "registered_name": "MyLoss"}},
        {"loss": {"class_name": "MyLoss", "config": {}}},
        {"loss": {"module": "builtins", "class_name": "function", "config": "my_loss"}},
        {"loss": "my_loss"},
        {"loss": "mse", "metrics": ["my_metric"]},
        {"loss": "mse", "metrics": [{"class_name": "Adam", "config": {}}]},
        {"loss": "mse", "metrics": [3]},
        {"loss": "mse", "optimizer": {"class_name": "MyAdam", "config": {}}},
        {"loss": "mse", "optimizer": {"class_name": "Adam", "config": {"learning_rate": {"class_name": "Mine"}}}},
        {"loss": "mse", "optimizer": {"module": "keras.losses", "class_name": "Hinge", "config": {}}},
        {"loss": "mse", "optimizer": {"class_name": "Adam", "config": []}},
        {"loss": "mse", "optimizer": 3},
    ],
    ids=str,
)
def test_what_keras_does_not_have_built_in_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        read_config(json.dumps(config))


def test_the_rest_of_a_file_is_read_without_it() -> None:
    """What can't be used of a file is told with the flag that replaces it, and the rest stays."""
    function = {"module": "builtins", "class_name": "function", "config": "my_loss"}
    for part, change, code, cause in [
        ("optimizer", {"optimizer_config": {"class_name": "TFOptimizer", "config": {}}}, "", "TFOptimizer"),
        ("optimizer", {"optimizer_config": "my_adam"}, "compile.unknown-name", "'my_adam'"),
        ("optimizer", {"optimizer_config": 7}, "compile.unreadable", "can't be read"),
        ("loss", {"loss": "dice_coef_loss"}, "compile.unknown-name", "'dice_coef_loss'"),
        ("loss", {"loss": function}, "model.foreign-function", "'my_loss'"),
        ("loss", {"loss": ["mse", "mae"]}, "compile.several-losses", "2 losses"),
        (
            "loss",
            {"loss": {"module": "keras.metrics", "class_name": "AUC", "config": {}}},
            "compile.other-kind",
            "'AUC'",
        ),
    ]:
        options = read_options(json.dumps({"optimizer_config": "sgd", "loss": "mse", "metrics": ["mae"], **change}))
        problem = options.problems[part]
        assert (problem.code, [*options.problems]) == ("compile.in-file", [part])
        assert cause in problem.message
        assert pattern_of(code) in problem.message
        assert f"--{part}" in problem.hint
        assert options.spec is not None
        assert options.spec.metrics == ("mae",)
        given = {"optimizer": "adam"} if part == "optimizer" else {"loss": "mae"}
        assert override(options.spec, **given).optimizer is not None  # what the hint advises


def pattern_of(code: str) -> str:
    """The longest part of a message that is the same whatever it is about."""
    return max(re.split(r"\{[^}]*\}", ERRORS[code].message), key=len) if code else ""


def test_metrics_that_keras_does_not_know_are_left_out_by_name() -> None:
    own = {"module": "__main__", "class_name": "F1", "config": {"name": "f1"}, "registered_name": "mine>F1"}
    wrapped = {"class_name": "MeanMetricWrapper", "config": {"name": "precision_m", "fn": "precision_m"}}
    metrics = ["acc", "f1_m", [own, wrapped], "mae", "f1_m"]
    options = read_options(json.dumps({"optimizer_config": "sgd", "loss": "mse", "metrics": metrics}))
    assert options.spec is not None
    assert (options.spec.metrics, options.left_out) == (("acc", "mae"), ("f1_m", "f1", "precision_m"))
    assert options.problems == {}
    assert "(f1_m, f1, precision_m): they are left out" in left_out_note(options.left_out)


def test_old_names_of_functions_are_those_of_today() -> None:
    old = {"optimizer_config": "sgd", "loss": "huber_loss", "metrics": ["cosine_proximity", "logcosh"]}
    spec = read_config(translate_options(json.dumps(old)))
    assert spec is not None
    assert (spec.loss, spec.metrics) == ("huber", ("cosine_similarity", "log_cosh_error"))


def test_functions_of_ones_own_are_not_taken_for_those_that_came_later() -> None:
    """Keras 2 had no metric `precision` and no loss `dice`: who compiled with those had written them."""
    old = {"optimizer_config": "sgd", "loss": "dice", "metrics": ["precision", "f1_score", "AUC", "accuracy"]}
    options = read_options(translate_options(json.dumps(old)))
    assert options.left_out == ("precision", "f1_score")
    assert "'dice'" in options.problems["loss"].message


@pytest.mark.parametrize("text", ["", "[]", "{", '"adam"', '{"optimizer": 1}', '{"metrics": "mae"}'])
def test_a_spec_from_a_peer_that_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_spec(text)


def test_a_spec_from_a_peer_goes_through_the_same_list() -> None:
    bad = {"module": "os", "class_name": "Adam", "config": {}, "registered_name": None}
    with pytest.raises(InputError):
        read_spec(json.dumps({"optimizer": bad, "loss": "mse"}))


def test_a_spec_survives_its_json() -> None:
    spec = override(spec_of(optimizer_config=ADAM, loss="mse", metrics=["mae"], loss_weights=[2.0]))
    assert read_spec(spec.to_json()) == spec


def test_an_uncompiled_model_is_an_error_that_names_the_flags() -> None:
    with pytest.raises(InputError) as error:
        override(None)
    assert "--optimizer" in error.value.hint
    assert "--loss" in error.value.hint
    with pytest.raises(InputError) as error:
        override(None, optimizer="adam")
    assert "--optimizer" not in error.value.hint
    assert "--loss" in error.value.hint


def test_a_file_without_an_optimizer_asks_for_that_flag_only() -> None:
    with pytest.raises(InputError) as error:
        override(spec_of(loss="mse"))
    assert "--optimizer" in error.value.hint
    assert "--loss" not in error.value.hint


def test_what_the_operator_says_wins_and_the_rest_stays() -> None:
    spec = spec_of(optimizer_config=ADAM, loss="mse", metrics=["mae"])
    changed = override(spec, loss="mae", metrics=["mse"])
    assert changed.optimizer == spec.optimizer
    assert (changed.loss, changed.metrics) == ("mae", ("mse",))
    assert override(spec, metrics=[]).metrics == ()
    assert override(spec).metrics == ("mae",)


def test_another_optimizer_comes_with_its_own_defaults() -> None:
    spec = spec_of(optimizer_config=ADAM, loss="mse")
    assert override(spec, optimizer="SGD").optimizer == optimizer_config("sgd")
    changed = override(spec, optimizer="rmsprop", learning_rate=0.5).optimizer
    assert changed is not None
    assert (changed["class_name"], changed["config"]) == ("RMSprop", {"learning_rate": 0.5})


def test_a_schedule_survives_and_a_learning_rate_replaces_it() -> None:
    spec = spec_of(optimizer_config={"class_name": "Adam", "config": {"learning_rate": SCHEDULE}}, loss="mse")
    kept, replaced = override(spec).optimizer, override(spec, learning_rate=0.1).optimizer
    assert kept is not None
    assert replaced is not None
    assert kept["config"]["learning_rate"] == SCHEDULE
    assert replaced["config"]["learning_rate"] == 0.1


def test_a_learning_rate_reaches_the_optimizer_inside_that_of_mixed_precision() -> None:
    inner = {"module": "keras.optimizers", "class_name": "Adam", "config": {}, "registered_name": None}
    outer = {"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": inner}}
    changed = override(spec_of(optimizer_config=outer, loss="mse"), learning_rate=0.25).optimizer
    assert changed is not None
    assert changed["config"]["inner_optimizer"]["config"] == {"learning_rate": 0.25}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [({"optimizer": "adm"}, "'adam'"), ({"loss": "spars_categorical_crossentropy"}, "'sparse_"), ({"loss": "MES"}, "")],
    ids=str,
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: dict[str, str], right: str) -> None:
    with pytest.raises(InputError) as error:
        override(CompileSpec(), **{"optimizer": "adam", "loss": "mse", **wrong})  # type: ignore[arg-type]
    assert right in error.value.hint


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        override(CompileSpec(), "adam", "mse", metrics=["acuracy"])
    assert "'accuracy'" in error.value.hint


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="learning rate") as error:
        override(CompileSpec(), "adam", "mse", learning_rate=rate)
    assert error.value.code == "compile.learning-rate"


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("mse", "mean_squared_error"),
        ("MAE", "mean_absolute_error"),
        ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy"),
        ("kld", "kl_divergence"),
        ({"module": "keras.losses", "class_name": "LogCosh", "config": {}}, "log_cosh"),
        ({"module": "keras.losses", "class_name": "CTC", "config": {}}, "ctc"),
        (None, ""),
    ],
    ids=str,
)
def test_the_loss_has_one_long_name(loss: Any, name: str) -> None:
    assert loss_name(CompileSpec(loss=loss)) == name


def test_long_names_replace_short_ones_and_leave_objects_alone() -> None:
    metric = {"module": "keras.metrics", "class_name": "R2Score", "config": {}, "registered_name": None}
    spec = with_long_names(CompileSpec(loss="mse", metrics=("mae", "acc", metric)))
    assert (spec.loss, spec.metrics) == ("mean_squared_error", ("mean_absolute_error", "acc", metric))


@pytest.mark.keras
def test_every_spelling_means_to_keras_what_it_means_here() -> None:
    import keras

    def name_in_keras(found: Any) -> str:
        return allowlist.snake_case(getattr(found, "__name__", type(found).__name__))

    for spelling, name in allowlist.LOSS_NAMES.items():
        assert name_in_keras(keras.losses.get(spelling)) == name
    for spelling, name in allowlist.METRIC_NAMES.items():
        if spelling not in allowlist.ACCURACIES:
            assert name_in_keras(keras.metrics.get(spelling)) == name
    for spelling, name in allowlist.OPTIMIZER_NAMES.items():
        assert type(keras.optimizers.get(spelling)).__name__ == name


@pytest.mark.keras
def test_a_model_is_compiled_with_what_the_spec_says() -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = {"class_name": "SGD", "config": {"learning_rate": SCHEDULE, "momentum": 0.5}}
    compile_model(model, spec_of(optimizer_config=optimizer, loss="mse", metrics=["mae"]), steps_per_execution=4)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.momentum == 0.5
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert model.steps_per_execution == 4
    scores = model.evaluate(np.zeros((4, 3)), np.full((4, 1), 2.0), verbose=0, return_dict=True)
    assert scores == {"loss": 4.0, "mae": 2.0}


@pytest.mark.keras
def test_options_that_keras_does_not_take_are_an_error_of_the_input() -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    spec = spec_of(optimizer_config={"class_name": "Adam", "config": {"learning_speed": 3}}, loss="mse")
    with pytest.raises(InputError, match="learning_speed"):
        compile_model(model, spec)
