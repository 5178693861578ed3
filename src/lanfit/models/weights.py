"""The weights of a Keras model as arrays by name, in both directions. No files here.

The order is that of `model.weights`, which is determined by the architecture. The names are labels for people and
tables: Keras gives a variable another path if the model came from a file of another format, so nothing is looked up by
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lanfit.errors import lanfit_error
from lanfit.wire.arrays import AnyArray


def weight_names(model: Any) -> list[str]:
    """Return a name for each of `model.weights`, in order: the variable's path, made unique."""
    names: list[str] = []
    seen: dict[str, int] = {}
    for variable in model.weights:
        seen[variable.path] = count = seen.get(variable.path, 0) + 1
        names.append(variable.path if count == 1 else f"{variable.path}:{count}")
    return names


def trainable_names(model: Any) -> tuple[str, ...]:
    """Return the names of those of `model.weights` that gradients change, in order."""
    trainable = {id(variable) for variable in model.trainable_weights}
    pairs = zip(weight_names(model), model.weights, strict=True)
    return tuple(name for name, variable in pairs if id(variable) in trainable)


def get_weights(model: Any, names: Iterable[str] | None = None) -> dict[str, AnyArray]:
    """Return copies of the model's weights in the model's order, under `names` (default: `weight_names`)."""
    import keras

    names = weight_names(model) if names is None else names
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in zip(names, model.weights, strict=True)}


Form = tuple[str, tuple[int, ...]]
"""Dtype (a NumPy name) and shape of an array."""


def forms(model: Any) -> list[Form]:
    """Return the specs of the model's weights, in order."""
    return [(str(variable.dtype), tuple(variable.shape)) for variable in model.weights]


def check_weights(needed: Sequence[Form], weights: Mapping[str, AnyArray]) -> None:
    """Compare weights with the specs of those of a model.

    Raises:
        InputError: number, shapes or dtypes differ.
    """
    if len(weights) != len(needed):
        raise lanfit_error("weights.count", needed=len(needed), given=len(weights))
    for (dtype, shape), (name, array) in zip(needed, weights.items(), strict=True):
        if (array.dtype.name, array.shape) != (dtype, shape):
            raise lanfit_error(
                "weights.other-array",
                name=name,
                dtype=array.dtype.name,
                shape=array.shape,
                needed_dtype=dtype,
                needed_shape=shape,
            )


def set_weights(model: Any, weights: Mapping[str, AnyArray]) -> None:
    """Assign weights to a model, in order.

    Raises:
        InputError: number, shapes or dtypes differ from the model's; nothing was changed.
    """
    check_weights(forms(model), weights)
    for variable, array in zip(model.weights, weights.values(), strict=True):
        variable.assign(array)
    settle(model)


def settle(model: Any) -> None:
    """Update layers that compute with values of their weights, such as an adapted `Normalization`, to the current
    ones."""
    for layer in _settled_layers(model):
        layer.finalize_state()


def fit_shapes(model: Any, weights: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Return weights in the shapes of a model's own, if these differ by axes of length 1.

    A `Normalization` that a program has adapted before it knew its input has a mean of shape (1,) or (), and another
    one when the model is built from its architecture.
    """
    pairs = zip(model.weights, weights.items(), strict=True) if len(model.weights) == len(weights) else ()
    shaped = {
        name: array.reshape(tuple(variable.shape))
        for variable, (name, array) in pairs
        if _without_ones(variable.shape) == _without_ones(array.shape)
    }
    return {name: shaped.get(name, array) for name, array in weights.items()}


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if n != 1]


def bakes_weights(model: Any) -> bool:
    """Return whether a compiled step contains values of weights as constants, as with an adapted `Normalization`.

    Such a model must be built and compiled again when it gets other weights.
    """
    return bool(_settled_layers(model))


def _settled_layers(model: Any) -> list[Any]:
    # Not those without weights: an adapted Discretization would compute its boundaries from rows that it no longer has.
    return [layer for layer in model._flatten_layers() if hasattr(layer, "finalize_state") and layer.weights]
