"""What a compiled model has that its file loses: it travels all the same, or is refused by name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from lanfit.errors import InputError
from lanfit.models.compiling import read_spec
from lanfit.models.loading import load_model
from lanfit_server.api.configs import check_functions, full_configs, lost_arguments
from lanfit_server.api.wording import in_python

pytestmark = pytest.mark.keras


def compiled(optimizer: Any, loss: Any, *metrics: Any) -> Any:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


def every_class() -> list[Any]:
    """Each loss, metric and optimizer of Keras, made with its defaults."""
    import keras

    needed = {
        "num_classes": 3,
        "target_class_ids": [0],
        "fn": keras.losses.mean_squared_error,
        "inner_optimizer": keras.optimizers.SGD(),
        "sensitivity": 0.5,
        "specificity": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "learning_rate": 0.1,
        "name": "some",
        "default_optimizer": keras.optimizers.SGD(),
    }
    made = []
    for module in (keras.losses, keras.metrics, keras.optimizers):
        for name, kind in sorted(vars(module).items()):
            if inspect.isclass(kind) and name not in ("Loss", "Metric", "Optimizer", "MultiOptimizer", "OptimizerMap"):
                parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
                must = [each.name for each in parameters if each.default is each.empty and each.kind < each.VAR_KEYWORD]
                made.append(kind(**{each: needed[each] for each in must if each in needed}))
    return made


def test_with_their_defaults_nothing_of_any_class_of_keras_is_lost() -> None:
    made = every_class()
    assert len(made) > 70
    assert [(type(each).__name__, lost) for each in made if (lost := lost_arguments(each))] == []


def test_arguments_that_keras_leaves_out_are_in_the_file_that_travels(tmp_path: Path) -> None:
    import keras

    losses, metrics = keras.losses, keras.metrics
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.25))
    model = compiled(optimizer, losses.Huber(delta=20.0), metrics.CosineSimilarity(axis=0), metrics.MeanSquaredError())
    before = model.loss.get_config()
    with full_configs(model) as left_out:
        model.save(tmp_path / "net.keras")
    assert [line.partition(" out of")[0] for line in left_out] == [
        "Keras leaves delta=20.0 of Huber",
        "Keras leaves axis=0 of CosineSimilarity",
    ]
    assert model.loss.get_config() == before, "the model is unchanged"
    text = load_model(tmp_path / "net.keras").compile
    assert text is not None
    spec = read_spec(text)
    loss, first = spec.loss, spec.metrics[0]
    assert isinstance(loss, dict)
    assert isinstance(first, dict)
    assert loss["config"]["delta"] == 20.0
    assert keras.saving.deserialize_keras_object(first)._fn_kwargs["axis"] == 0
    sparse = losses.SparseCategoricalCrossentropy(axis=1)
    assert lost_arguments(sparse) == {"axis": 1}


def test_what_is_set_behind_the_back_of_the_configuration_is_refused_by_name(tmp_path: Path) -> None:
    import keras

    optimizer = keras.optimizers.AdamW(weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for each in (optimizer, keras.optimizers.LossScaleOptimizer(optimizer)):
        with (
            pytest.raises(InputError, match="has exclude_from_weight_decay, ") as wrong,
            full_configs(compiled(each, "mse")),
        ):
            pass
        assert wrong.value.code == "fit.not-saved"
    plain = keras.optimizers.AdamW(weight_decay=0.01)
    model = compiled(plain, "mse")
    plain.build(model.trainable_variables)
    with full_configs(model) as left_out:
        assert left_out == ()


def test_functions_that_can_not_be_told_by_name_are_refused_with_their_place() -> None:
    import keras
    import tensorflow as tf

    def model(activation: Any, loss: Any = "mse") -> Any:
        made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation=activation, name="last")])
        made.compile("adam", loss)
        return made

    for made, output, instead in (
        (model(lambda x: x), "the activation of Dense 'last' is a lambda", "a Keras function"),
        (model(tf.nn.softmax), "the activation of Dense 'last' is softmax_v2 of TensorFlow", '"softmax"'),
        (model("relu", lambda y, p: p), "the loss of the compiled model is a lambda", "in a file"),
    ):
        with pytest.raises(InputError) as wrong:
            check_functions(made)
        assert wrong.value.code == "fit.function"
        assert wrong.value.message.startswith(output)
        assert instead in wrong.value.hint
    check_functions(model(tf.nn.relu, "mse"))
    check_functions(model("softmax"))


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (
            "Lower the learning rate, e.g. --learning-rate 0.0001.",
            "Lower the learning rate, e.g. learning_rate=0.0001.",
        ),
        ("Use --batch-size 25 or less, or fewer clients.", "Use batch_size=25 or less, or fewer clients."),
        ("Try smaller batches (--batch-size).", "Try smaller batches (batch_size=)."),
        ("Use --batch-size or --normalizer minmax.", 'Use batch_size= or normalizer="minmax".'),
        ("Name it with --custom-objects my_layers.py.", 'Name it with custom_objects="my_layers.py".'),
        ("Go on: lanfit server --resume 1 --workspace x. Or --epochs 2.", None),
        ("Leave --foreign out.", "Leave --foreign out."),
        (
            "Choose another one: --dashboard-port; or do without the page: --no-dashboard.",
            "Choose another one: dashboard_port=; or do without the page: dashboard=False.",
        ),
        ("functional_4.keras: layer 'a' is odd", "the model functional_4: layer 'a' is odd"),
    ],
)
def test_python_programs_get_arguments_and_no_flags(text: str, output: str | None) -> None:
    assert in_python(text) == (output or "Go on: lanfit server --resume 1 --workspace x. Or epochs=2.")
