"""The structure of a Keras model's inputs and outputs: one array, a list, or a dict; and their names.

lanfit names arrays and keeps them in the model's own order, which is Keras' flat one (of a dict: by its keys). What
Keras' steps take is made of that here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Flat = tuple[Any, ...]
"""The inputs, the targets, and the weights if there are any, as `Samples.arrays` has them."""
Arrange = Callable[[Flat], tuple[Any, ...]]
"""Converts such arrays of a batch to the form that Keras' steps take."""


def input_names(model: Any) -> tuple[str, ...]:
    """Return the names of a model's inputs: the keys of a dict, else the names of the input layers."""
    return _names(_struct(model, "inputs"), [str(each.name) for each in model.inputs])


def output_names(model: Any) -> tuple[str, ...]:
    """Return the names of a model's outputs: the keys of a dict, else the names of the last layers."""
    names = getattr(model, "output_names", None) or [each._keras_history.operation.name for each in model.outputs]
    return _names(_struct(model, "outputs"), list(map(str, names)))


def takes_dict(model: Any) -> bool:
    """Return whether the model was built on a dict of several inputs."""
    return isinstance(_struct(model, "inputs"), dict)


def gives_dict(model: Any) -> bool:
    """Return whether the model gives a dict of several outputs."""
    return isinstance(_struct(model, "outputs"), dict)


def is_flat(model: Any) -> bool:
    """Return whether inputs and outputs are single, or lists or dicts of arrays, not nested any deeper."""
    import keras

    structs = (_struct(model, "inputs"), _struct(model, "outputs"))
    return all(len(path) < 2 for struct in structs for path, _ in keras.tree.flatten_with_path(struct))


def pack_inputs(model: Any, arrays: Sequence[Any]) -> Any:
    """Return arrays, given in the model's order, in the structure of its inputs."""
    return _packed(_struct(model, "inputs"), arrays)


def pack_outputs(model: Any, arrays: Sequence[Any]) -> Any:
    """Return arrays, given in the model's order, in the structure of its outputs, which its losses take."""
    return _packed(_struct(model, "outputs"), arrays)


def flat_outputs(outputs: Any) -> list[Any]:
    """Return the outputs of a model as arrays in its order."""
    import keras

    found: list[Any] = keras.tree.flatten(outputs)
    return found


def batch_of(model: Any) -> Arrange:
    """Return a function from the arrays of a batch (inputs, targets, perhaps weights) to what Keras' steps take."""
    inputs, outputs = _struct(model, "inputs"), _struct(model, "outputs")
    takes, gives = len(model.inputs), len(model.outputs)

    def arrange(arrays: Flat) -> Flat:
        targets = arrays[takes : takes + gives]
        return _packed(inputs, arrays[:takes]), _packed(outputs, targets), *arrays[takes + gives :]

    return arrange


def _struct(model: Any, kind: str) -> Any:
    """Return arrays in a structure; a single array without any."""
    arrays = getattr(model, kind)
    if len(arrays) == 1:
        return arrays[0]
    struct = getattr(getattr(model, "_functional", None) or model, f"_{kind}_struct", None)
    return arrays if struct is None else struct


def _names(struct: Any, names: list[str]) -> tuple[str, ...]:
    import keras

    if not isinstance(struct, dict):
        return tuple(names)
    return tuple(str(path[0]) for path, _ in keras.tree.flatten_with_path(struct))


def _packed(struct: Any, arrays: Sequence[Any]) -> Any:
    import keras

    return arrays[0] if len(arrays) == 1 else keras.tree.pack_sequence_as(struct, list(arrays))
