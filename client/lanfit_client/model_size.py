"""The minimum number of weights of a model, computed from its architecture alone: before a peer's model is built.

Needs nothing of Keras, and allocates nothing. Sizes that depend on input shapes are not counted, so this is a lower
bound: a model that is larger than its bound is stopped by the trainer's memory limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any, Final

from lanfit.errors import lanfit_error
from lanfit.models.architecture import parse
from lanfit.wire.arrays import ArraySpec

Config = Mapping[str, Any]


def check_size(architecture: str, arrays: Iterable[ArraySpec]) -> None:
    """Check that no layer of a model has more weights than were sent with it.

    Args:
        arrays: the table of its weights; it may contain others.

    Raises:
        InputError: one has; the layer is named. Or the architecture is not valid JSON.
    """
    given = sum(max(0, prod(array.shape)) for array in arrays)
    waiting: list[Any] = [parse(architecture, "the architecture")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
            needed = least_weights(value)
            if needed > given:
                name = value["config"].get("name") or value["class_name"]
                raise lanfit_error("weights.too-few", layer=str(name)[:80], needed=needed, given=given)
        elif isinstance(value, list):
            waiting.extend(value)


def least_weights(layer: Config) -> int:
    """Return the minimum number of weights of a Keras layer; 0 if unknown."""
    name, config = layer.get("class_name"), layer.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        return 0
    if not str(layer.get("module") or "keras").startswith("keras"):
        return 0  # a custom layer
    rule = _LEAST.get(name.removesuffix("Cell"))
    return rule(config, layer) if rule else 0


def _number(value: object) -> int:
    """Return a number in a configuration, or 0 if there is none."""
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def _kernel(config: Config, axes: int) -> int:
    size = config.get("kernel_size")
    if isinstance(size, list):
        return prod(_number(each) for each in size)
    return int(_number(size) ** axes)


def _dense(config: Config, layer: Config) -> int:
    """Return the number of parameters of a dense layer, for the shape that is recorded with it."""
    built = layer.get("build_config")
    shape = built.get("input_shape") if isinstance(built, dict) else None
    last = _number(shape[-1]) if isinstance(shape, list) and shape else 0
    return _number(config.get("units")) * max(1, last)


def _recurrent(gates: int) -> Callable[[Config, Config], int]:
    return lambda config, _: gates * _number(config.get("units")) ** 2


def _convolution(axes: int, gates: int = 1) -> Callable[[Config, Config], int]:
    return lambda config, _: gates * _number(config.get("filters")) * _kernel(config, axes)


def _product(*keys: str) -> Callable[[Config, Config], int]:
    return lambda config, _: prod(_number(config.get(key)) for key in keys)


_LEAST: Final[Mapping[str, Callable[[Config, Config], int]]] = {
    "Dense": _dense,
    # Two numbers may share a byte in a quantized model.
    "Embedding": lambda config, _: _number(config.get("input_dim")) * (_number(config.get("output_dim")) + 1 >> 1),
    "SimpleRNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
    **{f"Conv{axes}D": _convolution(axes) for axes in (1, 2, 3)},
    **{f"Conv{axes}DTranspose": _convolution(axes) for axes in (1, 2, 3)},
    **{f"ConvLSTM{axes}D": _convolution(axes, 4) for axes in (1, 2, 3)},
    **{f"SeparableConv{axes}D": _product("filters") for axes in (1, 2)},
    "MultiHeadAttention": _product("num_heads", "key_dim"),
    "GroupedQueryAttention": _product("num_query_heads", "head_dim"),
}
