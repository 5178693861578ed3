"""Loads the arrays of an HDF5 file of Keras 2 (TensorFlow up to 2.15) into the model that Keras 3 made from the file.

Such a file has one group for each layer of the outermost model, and in it the arrays of that layer in Keras 2's order:
first what training changes, then what it does not, and so for all its layers together where it is a model itself. What
is frozen decides about that order, so it is read from the architecture in the file: Keras 3 orders the arrays of frozen
parts in another way, and its own reader mixes up those of one shape.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from lanfit.errors import lanfit_error
from lanfit.models.frozen import children
from lanfit.models.keras2 import HARD_SIGMOID_SCALE
from lanfit.models.weights import settle
from lanfit.wire.arrays import AnyArray

#: How many gates a layer has; those of cuDNN had two sets of biases, and transposed kernels.
_GATES: Final = {"LSTM": 4, "GRU": 3}
#: Layers that convolve. On Theano, Keras 2 flipped their kernels.
_CONVOLUTIONS: Final = frozenset({"Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D"})
#: State of random numbers, which some versions wrote among the weights.
_NO_WEIGHTS: Final = ("StateVar:0", "rng_state:0")
#: Class → the option that may be hard_sigmoid, the weights of what goes into it, and which of their columns do.
_ALL: Final = (True,)
_SCALED: Final = {
    "Dense": ("activation", ("kernel", "bias"), _ALL),
    "EinsumDense": ("activation", ("kernel", "bias"), _ALL),
    "SimpleRNNCell": ("activation", ("kernel", "recurrent_kernel", "bias"), _ALL),
    "LSTMCell": ("recurrent_activation", ("kernel", "recurrent_kernel", "bias"), (True, True, False, True)),
    "ConvLSTMCell": ("recurrent_activation", ("kernel", "recurrent_kernel", "bias"), (True, True, False, True)),
    "GRUCell": ("recurrent_activation", ("kernel", "recurrent_kernel", "bias"), (True, True, False)),
    **{f"Conv{n}D{kind}": ("activation", ("kernel", "bias"), _ALL) for n in (1, 2, 3) for kind in ("", "Transpose")},
    **{f"DepthwiseConv{n}D": ("activation", ("kernel", "bias"), _ALL) for n in (1, 2)},
    **{f"SeparableConv{n}D": ("activation", ("pointwise_kernel", "bias"), _ALL) for n in (1, 2)},
}


def read_weights(group: Any, model: Any, architecture: str) -> tuple[str, ...]:
    """Load the arrays of a file into a model, and return notes for the operator.

    Args:
        group: the HDF5 group that names the layers.
        model: made of `architecture`, which is translated.

    Raises:
        InputError: layers, arrays or shapes are not those of the model.
    """
    layers = children(model, json.loads(architecture)["config"])
    in_model = {layer.name: slots for layer, config in layers if (slots := _slots(layer, config).in_order())}
    in_file = {name: arrays for name in _names(group, "layer_names") if (arrays := _arrays(group[name]))}
    if len(in_file) != len(in_model):
        raise lanfit_error("weights.other-layers", needed=len(in_model), given=len(in_file))
    is_theano, flipped = _text(group.attrs.get("backend", "")) == "theano", False
    by_order = dict(zip(in_model, in_file.values(), strict=True))  # as Keras 2 does; names may have been changed
    for name, slots in in_model.items():
        named = in_file[name] if in_file.keys() == in_model.keys() else by_order[name]
        if len(named) != len(slots):
            raise lanfit_error("weights.other-count", layer=name, needed=len(slots), given=len(named))
        ordered = _for_slots(slots, named)
        for layer in {id(slot.layer): slot.layer for slot in slots}.values():
            own = [(slot, array) for slot, array in zip(slots, ordered, strict=True) if slot.layer is layer]
            values = _converted(layer, [array for _, array in own])
            if is_theano and type(layer).__name__ in _CONVOLUTIONS:
                values, flipped = _flip(layer, values), True
            for (slot, _), value in zip(own, values, strict=True):
                _assign(name, slot.variable, value)
    settle(model)
    return ("the convolution kernels were flipped: the file was saved by Keras with Theano",) if flipped else ()


def scale_hard_sigmoid(model: Any) -> None:
    """Scale the inputs of each hard_sigmoid of a Keras 2 model, so that Keras 3's function gives the same outputs."""
    import keras

    for layer in {id(layer): layer for layer in model._flatten_layers()}.values():
        option, names, columns = _SCALED.get(type(layer).__name__, ("", (), _ALL))
        if getattr(layer, option, None) is not keras.activations.hard_sigmoid:
            continue
        factors = np.where(columns, HARD_SIGMOID_SCALE, 1.0)
        for variable in [getattr(layer, name, None) for name in names]:
            if variable is not None:
                value = keras.ops.convert_to_numpy(variable)
                each = np.repeat(factors, value.shape[-1] // len(factors))
                variable.assign((value * (each if len(factors) > 1 else factors[0])).astype(value.dtype))


# --- the order of the arrays ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Slot:
    """A weight of the model and the layer that it belongs to."""

    layer: Any
    variable: Any


@dataclass
class _Slots:
    """The weights of a layer: those that Keras 2 trained, and the others."""

    trained: list[_Slot] = field(default_factory=list)
    others: list[_Slot] = field(default_factory=list)

    def in_order(self) -> list[_Slot]:
        return [*self.trained, *self.others]

    def add(self, more: _Slots) -> None:
        self.trained += more.trained
        self.others += more.others


def _slots(layer: Any, config: dict[str, Any]) -> _Slots:
    inner = children(layer, config)
    found = _Slots()
    if inner:
        for child, options in inner:
            found.add(_slots(child, options))
    else:
        found = _own(layer, layer)
    return found if config.get("trainable", True) else _Slots([], found.in_order())


def _own(layer: Any, part: Any) -> _Slots:
    """Return the weights of a layer that is made as one, with those of cells and other parts in it."""
    weights = {id(variable) for variable in layer.weights}
    found = _Slots(*([_Slot(layer, v) for v in own if id(v) in weights] for own in _variables(part)))
    for inner in part._layers:
        found.add(_own(layer, inner))
    return found


def _variables(part: Any) -> tuple[list[Any], list[Any]]:
    return part._trainable_variables, part._non_trainable_variables


# --- the arrays -------------------------------------------------------------------------------------------------


def _names(group: Any, attribute: str) -> list[str]:
    """Return the names in an attribute, which is split into chunks if there are many."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    chunks: list[list[str]] = []
    while (chunk := f"{attribute}{len(chunks)}") in group.attrs:
        chunks.append([_text(name) for name in group.attrs[chunk]])
    return [name for chunk in chunks for name in chunk]


def _arrays(group: Any) -> list[tuple[str, AnyArray]]:
    """Return the arrays of a layer in the order of the file, each with its name."""
    names = [name for name in _names(group, "weight_names") if not name.endswith(_NO_WEIGHTS)]
    return [(name, np.asarray(group[name])) for name in names]


def _for_slots(slots: list[_Slot], arrays: list[tuple[str, AnyArray]]) -> list[AnyArray]:
    """Return the array for each slot: by the layer names if these are the model's own; else in order.

    The file of a `Sequential` of Keras 2 does not record that it is frozen, though that changes the order.
    """
    own: dict[str, list[_Slot]] = {}
    for slot in slots:
        own.setdefault(slot.layer.name, []).append(slot)
    given: dict[str, list[AnyArray]] = {}
    for name, array in arrays:
        layer = next((part for part in reversed(name.split("/")[:-1]) if part in own), "")
        given.setdefault(layer, []).append(array)
    is_unique = len(own) == len({id(slot.layer) for slot in slots})
    if not is_unique or {n: len(found) for n, found in given.items()} != {n: len(found) for n, found in own.items()}:
        return [array for _, array in arrays]
    left = {name: iter(found) for name, found in given.items()}
    return [next(left[slot.layer.name]) for slot in slots]


def _converted(layer: Any, arrays: list[AnyArray]) -> list[AnyArray]:
    """Return the arrays of a cuDNN layer in the form of the layer that replaced it; others as they are."""
    kind = type(layer).__name__
    gates = _GATES.get(kind, 0)
    if not gates or len(arrays) != 3 or arrays[2].shape != (2 * gates * layer.units,):
        return arrays
    kernel, recurrent, bias = arrays
    kernel = np.hstack([part.T.reshape(part.shape, order="F") for part in np.hsplit(kernel, gates)])
    recurrent = np.hstack([part.T for part in np.hsplit(recurrent, gates)])
    return [kernel, recurrent, bias.reshape(2, -1) if kind == "GRU" else bias.reshape(2, -1).sum(0)]


def _flip(layer: Any, arrays: list[AnyArray]) -> list[AnyArray]:
    kernels = 2 if type(layer).__name__ == "ConvLSTM2D" else 1
    flipped = [np.flip(array, tuple(range(array.ndim - 2))) for array in arrays[:kernels]]
    return [*flipped, *arrays[kernels:]]


def _assign(layer: str, variable: Any, value: AnyArray) -> None:
    if tuple(variable.shape) != value.shape:
        shape = tuple(variable.shape)
        raise lanfit_error("weights.other-shape", layer=layer, name=variable.name, given=value.shape, needed=shape)
    variable.assign(value)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
