"""Models written so that plain Keras opens them: .h5 like the one given, .keras with the normalizer in front.

Both open with `keras.models.load_model(path)`, without lanfit and without custom objects, compiled with a fresh
optimizer, and can be trained on at once. (An .h5 that Keras itself wrote after training must be compiled anew before
`fit`: the optimizer state in it makes Keras 3.15.1 stop with "Unknown variable". Ours holds no optimizer state.)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.durable import written_whole
from lanfit.errors import InputError
from lanfit.models.architecture import build
from lanfit.models.compiling import compile_model, read_spec, with_long_names
from lanfit.models.weights import set_weights
from lanfit.wire.arrays import AnyArray


def write_model(path: Path, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
    """Write a model as .h5, whole or not at all.

    Loss and metrics stand in it under their long names: Keras 3.15.1 can't load an .h5 that says `mse` or `mae`.

    Raises:
        InputError: the parts are not of one model.
    """
    import h5py

    model = _assemble(architecture, weights)
    compile_model(model, with_long_names(read_spec(compile_json)))
    with written_whole(path) as temporary:
        model.save(temporary)
        with h5py.File(temporary, "a") as file:
            file.pop("optimizer_weights", None)


def write_final(
    path: Path,
    architecture: str,
    compile_json: str,
    weights: Mapping[str, AnyArray],
    subtract: AnyArray | None = None,
    multiply: AnyArray | None = None,
) -> None:
    """Write a model as .keras that takes raw rows, whole or not at all.

    `(x - subtract) * multiply` becomes two `Rescaling` layers in front. The constants are one number, or one for each
    value of a row (shape of the model's input, or flat with as many numbers). Without them nothing is put in front, and
    the model keeps the dtype of its input.

    Raises:
        InputError: the parts are not of one model, or the constants do not fit its input.
    """
    import keras

    model = _assemble(architecture, weights)
    if subtract is not None and multiply is not None:
        shape = tuple(model.inputs[0].shape[1:])
        raw = keras.Input(shape, dtype="float32", name="raw")
        offset, scale = _constants(subtract, -1.0, shape), _constants(multiply, 1.0, shape)
        centered = keras.layers.Rescaling(1.0, offset, name="subtract", dtype="float32")(raw)
        scaled = keras.layers.Rescaling(scale, name="multiply", dtype="float32")(centered)
        model = keras.Model(raw, model(scaled), name=f"{model.name}_on_raw_rows")
    compile_model(model, with_long_names(read_spec(compile_json)))
    # Keras warns on loading a .keras whose optimizer has no state yet.
    model.optimizer.build(model.trainable_variables)
    with written_whole(path) as temporary:
        model.save(temporary)


def _assemble(architecture: str, weights: Mapping[str, AnyArray]) -> Any:
    model = build(architecture)
    set_weights(model, weights)
    return model


def _constants(values: AnyArray, sign: float, shape: tuple[int | None, ...]) -> float | list[Any]:
    """One number, or nested lists in the shape of a row: what a Keras configuration can hold."""
    array = sign * np.asarray(values, dtype=np.float64) + 0.0  # no negative zeros
    if array.size == 1:
        return float(array.reshape(()))
    if None in shape or array.size != prod(n or 0 for n in shape):
        raise InputError(
            f"the normalizer has {array.size} constants, but a row of the model has the shape {shape}",
            "The constants must be those of the data that the model was trained on.",
        )
    nested: list[Any] = array.reshape([n or 0 for n in shape]).tolist()
    return nested
