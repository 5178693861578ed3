"""Builds simple models from a few numbers: an MLP, or a small CNN. Imports Keras: for the model process."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Literal

import msgspec

from lanfit.errors import lanfit_error
from lanfit.models.export import save_model

#: The kernel counts of the four convolutions.
KERNELS = ("32-64-64-64", "16-32-32-32")


class Blueprint(msgspec.Struct, frozen=True):
    """What to build.

    Args:
        input_shape: of one row; the CNN needs height, width and channels.
        outputs: the number of classes or of target values.
        kind_of_target: "classes" for labels, "values" for regression.
        hidden: units of each hidden layer; the CNN has one of them between its convolutions and its output.
        kernels: of the four convolutions of a CNN; none for an MLP.
    """

    input_shape: tuple[int, ...]
    outputs: int
    kind_of_target: Literal["classes", "values"]
    hidden: tuple[int, ...]
    kernels: tuple[int, ...] = ()
    dropout: float = 0.0
    optimizer: str = "adam"
    loss: str = ""
    """Empty for the one that suits the targets."""
    learning_rate: float | None = None
    seed: int = 0

    @property
    def suitable_loss(self) -> str:
        """The loss, or the one that suits the targets."""
        return self.loss or ("sparse_categorical_crossentropy" if self.kind_of_target == "classes" else "mse")


def build(blueprint: Blueprint) -> Any:
    """Return the compiled model.

    Raises:
        InputError: an image is too small for the convolutions, or the model would not fit into memory.
    """
    import keras
    from keras import layers

    plan = blueprint
    _check_size(plan)
    keras.utils.set_random_seed(plan.seed)
    stack = [keras.Input(plan.input_shape, name="rows"), *(_convolutions(plan) if plan.kernels else _flat(plan))]
    for number, units in enumerate(plan.hidden, 1):
        stack.append(layers.Dense(units, activation="relu", name=f"hidden_{number}"))
        if plan.dropout:
            stack.append(layers.Dropout(plan.dropout, name=f"dropout_{number}"))
    is_classes = plan.kind_of_target == "classes"
    last = "softmax" if is_classes else None
    stack.append(layers.Dense(plan.outputs, activation=last, name="classes" if is_classes else "values"))
    model = keras.Sequential(stack, name="cnn" if plan.kernels else "mlp")
    optimizer = keras.optimizers.get(plan.optimizer)
    if plan.learning_rate is not None:
        optimizer.learning_rate = plan.learning_rate
    model.compile(optimizer=optimizer, loss=plan.suitable_loss, metrics=["accuracy"] if is_classes else ["mae"])
    return model


def build_file(path: Path, blueprint: Blueprint) -> int:
    """Build a model and write it, completely or not at all; return the number of its parameters.

    Raises:
        InputError: as `build`.
        OSError: it can't be written.
    """
    model = build(blueprint)
    save_model(path, model)
    return int(model.count_params())


#: A model that can be built here has at most so many parameters: 4 bytes each, and three times that while it trains.
MOST_PARAMETERS = 200_000_000


def _check_size(plan: Blueprint) -> None:
    """Count parameters before anything is allocated."""
    units, total = prod(plan.input_shape), 0
    if plan.kernels:
        height, width, channels = plan.input_shape
        for number, kernels in enumerate(plan.kernels):
            total, channels = total + (9 * channels + 1) * kernels, kernels
            if number % 2 and min(height, width) >= 2:
                height, width = height // 2, width // 2
        units = height * width * channels
    for size in (*plan.hidden, plan.outputs):
        total, units = total + (units + 1) * size, size
    if total > MOST_PARAMETERS:
        raise lanfit_error("build.too-large", parameters=total, most=MOST_PARAMETERS)


def _flat(plan: Blueprint) -> list[Any]:
    from keras import layers

    return [layers.Flatten(name="flat")] if len(plan.input_shape) > 1 else []


def _convolutions(plan: Blueprint) -> list[Any]:
    """Four 3×3 convolutions; after the second and the fourth, the image is halved while there are pixels left."""
    from keras import layers

    height, width, _ = plan.input_shape
    found: list[Any] = []
    for number, kernels in enumerate(plan.kernels):
        name = f"convolution_{number + 1}"
        found.append(layers.Conv2D(kernels, 3, padding="same", activation="relu", name=name))
        if number % 2 and min(height, width) >= 2:
            found.append(layers.MaxPooling2D(name=f"halves_{number + 1}"))
            height, width = height // 2, width // 2
    return [*found, layers.Flatten(name="flat")]
