"""The Keras model of a trained model: it takes raw rows and predicts in original units.

Not compiled, not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from lanfit.data.normalize import Normalizer
from lanfit.errors import lanfit_error
from lanfit.models.architecture import build
from lanfit.models.structure import flat_outputs, input_names, output_names, pack_inputs, pack_outputs
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import set_weights
from lanfit.wire.arrays import AnyArray


def bare_model(architecture: str, weights: Mapping[str, AnyArray]) -> Any:
    """Return the `keras.Model` of an architecture with weights in it.

    Raises:
        InputError: the parts are not of one model.
    """
    model = build(architecture)
    set_weights(model, weights)
    return model


def raw_model(architecture: str, member: TrainedModel, name: str = "") -> Any:
    """Return the `keras.Model` of a member that takes raw rows and predicts in original units.

    The normalizer of an input becomes two `Rescaling` layers in front of it, the inverse of a target's one behind; a
    normalizer that is "none" becomes nothing. Without any, and without a `name` of its own, it is the bare model, its
    inputs' dtypes kept.

    Raises:
        InputError: the parts are not of one model, or constants do not fit its inputs or outputs.
    """
    import keras

    model = bare_model(architecture, member.weights)
    if member.normalizers.are_none and not name:
        return model
    single = len(model.inputs) == 1
    raw, rows = [], []
    for own, each, normalizer in zip(input_names(model), model.inputs, member.normalizers.inputs.values(), strict=True):
        plain, behind, shape = normalizer.name == "none", "" if single else f"_{own}", tuple(each.shape[1:])
        called = _beside(model, "raw" if single else own)
        tensor = keras.Input(shape, dtype=each.dtype if plain else "float32", name=called)
        raw.append(tensor)
        if not plain:
            offset, scale = (_constants(c, shape) for c in (-normalizer.subtract, normalizer.multiply))
            subtract, multiply = (_beside(model, f"{step}{behind}") for step in ("subtract", "multiply"))
            tensor = keras.layers.Rescaling(1.0, offset, name=subtract, dtype="float32")(tensor)
            tensor = keras.layers.Rescaling(scale, name=multiply, dtype="float32")(tensor)
        rows.append(tensor)
    outputs = in_original_units(model, member.normalizers.targets, model(pack_inputs(model, rows)))
    return keras.Model(pack_inputs(model, raw), outputs, name=name or f"{model.name}_on_raw_rows")


def model_in_original_units(model: Any, targets: Mapping[str, Normalizer]) -> Any:
    """Return a `keras.Model` that predicts in original units; without a normalizer, the model itself.

    Its weights are the model's own, in the same order.

    Raises:
        InputError: the constants do not fit the model's outputs.
    """
    import keras

    if all(each.name == "none" for each in targets.values()):
        return model
    single = len(model.inputs) == 1
    rows = [
        keras.Input(tuple(each.shape[1:]), dtype=each.dtype, name=_beside(model, "rows" if single else own))
        for own, each in zip(input_names(model), model.inputs, strict=True)
    ]
    outputs = in_original_units(model, targets, model(pack_inputs(model, rows)))
    return keras.Model(pack_inputs(model, rows), outputs, name=f"{model.name}_in_original_units")


def in_original_units(model: Any, targets: Mapping[str, Normalizer], outputs: Any) -> Any:
    """Return the outputs of a model in original units, with their names."""
    import keras

    flat, names = flat_outputs(outputs), output_names(model)
    found = []
    for own, tensor, normalizer in zip(names, flat, targets.values(), strict=True):
        own = f"{own}_output" if own in input_names(model) else own  # names in one model must differ
        called = _beside(model, "original_units" if len(flat) == 1 else own)
        if normalizer.name != "none":
            inverse, shape = normalizer.inverse(), tuple(tensor.shape[1:])
            scale, offset = _constants(inverse.multiply, shape, "output"), _constants(inverse.add, shape, "output")
            tensor = keras.layers.Rescaling(scale, offset, name=called, dtype="float32")(tensor)
        elif len(flat) > 1:  # so that losses and metrics find the output by its name
            tensor = keras.layers.Identity(name=called)(tensor)
        found.append(tensor)
    return pack_outputs(model, found)


def _beside(model: Any, name: str) -> str:
    """Return a name for a layer that differs from the name of the model, which the user chose."""
    return name if name != model.name else f"{name}_of_{name}"


def _constants(values: AnyArray, shape: tuple[int | None, ...], where: str = "input") -> float | list[Any]:
    """Return one number, or nested lists in the shape of a row: values that a Keras configuration can hold."""
    array = np.asarray(values, dtype=np.float64) + 0.0  # no negative zeros
    if array.size == 1:
        return float(array.reshape(()))
    if None in shape or array.size != prod(n or 0 for n in shape):
        raise lanfit_error("normalizer.other-model", count=array.size, what=where, shape=shape)
    nested: list[Any] = array.reshape([n or 0 for n in shape]).tolist()
    return nested
