"""A trained model: weights with the normalizers that belong to them, and the Keras model made of both.

That model takes rows as the files hold them and predicts in the units of their targets. Not compiled, not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lanfit.data.normalize import NO_NORMALIZER, OF_TARGETS, Normalizer
from lanfit.mistakes import mistake
from lanfit.models.architecture import build
from lanfit.models.weights import set_weights
from lanfit.wire.arrays import AnyArray

HISTORY = "history"
#: The arrays of a result that are no weights, in their order behind them. Names of weights have a slash.
CONSTANTS = (*NO_NORMALIZER.constants(), *NO_NORMALIZER.constants(OF_TARGETS))
NOT_WEIGHTS = frozenset({*CONSTANTS, HISTORY})


@dataclass(frozen=True)
class Member:
    """Weights in the model's order, what its inputs were normalized with, and what its targets were."""

    weights: Mapping[str, AnyArray]
    normalizer: Normalizer = NO_NORMALIZER
    targets: Normalizer = NO_NORMALIZER

    @classmethod
    def of(cls, arrays: Mapping[str, AnyArray], normalizer: str, targets: str) -> Member:
        """The member in the arrays of a result: weights, then the constants of the normalizers with these names."""
        return cls(
            {name: array for name, array in arrays.items() if name not in NOT_WEIGHTS},
            Normalizer.of(normalizer, arrays),
            Normalizer.of(targets, arrays, OF_TARGETS),
        )

    def constants(self) -> dict[str, AnyArray]:
        """The arrays that stand beside the weights."""
        return {**self.normalizer.constants(), **self.targets.constants(OF_TARGETS)}


def bare_model(architecture: str, weights: Mapping[str, AnyArray]) -> Any:
    """Return the `keras.Model` of an architecture with weights in it.

    Raises:
        InputError: the parts are not of one model.
    """
    model = build(architecture)
    set_weights(model, weights)
    return model


def raw_model(architecture: str, member: Member, name: str = "") -> Any:
    """Return the `keras.Model` of a member that takes raw rows and predicts in original units.

    The normalizer becomes two `Rescaling` layers in front, the inverse of the targets' one behind; a normalizer that is
    "none" becomes nothing. Without any, and without a `name` of its own, it is the bare model, its input's dtype kept.

    Raises:
        InputError: the parts are not of one model, or constants do not fit its input or output.
    """
    import keras

    model = bare_model(architecture, member.weights)
    plain = member.normalizer.name == "none"
    if plain and member.targets.name == "none" and not name:
        return model
    shape = tuple(model.inputs[0].shape[1:])
    raw = keras.Input(shape, dtype=model.inputs[0].dtype if plain else "float32", name=_beside(model, "raw"))
    rows = raw
    if not plain:
        offset, scale = (_constants(c, shape) for c in (-member.normalizer.subtract, member.normalizer.multiply))
        rows = keras.layers.Rescaling(1.0, offset, name=_beside(model, "subtract"), dtype="float32")(rows)
        rows = keras.layers.Rescaling(scale, name=_beside(model, "multiply"), dtype="float32")(rows)
    outputs = _in_original_units(model, member.targets, model(rows))
    return keras.Model(raw, outputs, name=name or f"{model.name}_on_raw_rows")


def model_in_original_units(model: Any, targets: Normalizer) -> Any:
    """Return a `keras.Model` that predicts in the units that targets had before `targets`; "none" is the model itself.

    Its weights are the model's own, in the same order.

    Raises:
        InputError: the constants do not fit the model's output.
    """
    import keras

    if targets.name == "none":
        return model
    rows = keras.Input(tuple(model.inputs[0].shape[1:]), dtype=model.inputs[0].dtype, name=_beside(model, "rows"))
    return keras.Model(rows, _in_original_units(model, targets, model(rows)), name=f"{model.name}_in_original_units")


def _in_original_units(model: Any, targets: Normalizer, outputs: Any) -> Any:
    import keras

    if targets.name == "none":
        return outputs
    inverse, shape = targets.inverse(), tuple(outputs.shape[1:])
    scale, offset = _constants(inverse.multiply, shape, "output"), _constants(inverse.add, shape, "output")
    return keras.layers.Rescaling(scale, offset, name=_beside(model, "original_units"), dtype="float32")(outputs)


def _beside(model: Any, name: str) -> str:
    """A name for a layer beside the model: names in one model must differ, and the model's own is anyone's choice."""
    return name if name != model.name else f"{name}_of_{name}"


def _constants(values: AnyArray, shape: tuple[int | None, ...], where: str = "input") -> float | list[Any]:
    """One number, or nested lists in the shape of a row: what a Keras configuration can hold."""
    array = np.asarray(values, dtype=np.float64) + 0.0  # no negative zeros
    if array.size == 1:
        return float(array.reshape(()))
    if None in shape or array.size != prod(n or 0 for n in shape):
        raise mistake("normalizer.other-model", count=array.size, what=where, shape=shape)
    nested: list[Any] = array.reshape([n or 0 for n in shape]).tolist()
    return nested
