"""Converts subclassed models to functional ones, with one input and one output array, each of a known shape.

The subclassed model becomes the only layer between them. It has the same weights in the same order, so what was trained
fits the model that the user has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lanfit.errors import lanfit_error
from lanfit.models.architecture import first_line


def is_subclassed(model: Any) -> bool:
    """Return whether a model's structure is only in the code of its class."""
    import keras

    return type(model) is not keras.Sequential and not _is_graph(model)


def as_functional(model: Any, row: Sequence[int | None], dtype: str = "float32") -> Any:
    """Return a functional `keras.Model` around a subclassed one; it shares its weights, and is not compiled.

    Args:
        row: the shape of one row.

    Raises:
        InputError: Keras can't call the model on a symbolic batch of such rows.
    """
    import keras

    rows = keras.Input(tuple(row), dtype=dtype, name=f"rows_of_{model.name}")
    try:
        outputs = model(rows)
    except Exception as error:
        raise lanfit_error(
            "model.not-called", name=type(model).__name__, shape=tuple(row), reason=first_line(error)
        ) from error
    return keras.Model(rows, outputs, name=f"{model.name}_on_rows")


def row_shape(model: Any) -> tuple[int | None, ...] | None:
    """Return the shape of one row of a subclassed model that was built; None if it takes several arrays, or was not."""
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    if shape is None:
        shapes = list((config.get("shapes_dict") or {}).values())
        shape = shapes[0] if len(shapes) == 1 else None
    if not isinstance(shape, list | tuple) or not all(size is None or isinstance(size, int) for size in shape):
        return None
    return tuple(shape[1:])


def input_dtype(model: Any) -> str:
    """Return the dtype of rows: integers if the model uses them as indices."""
    import keras

    layers = model._flatten_layers(include_self=False)
    return "int32" if any(isinstance(layer, keras.layers.Embedding) for layer in layers) else "float32"


def _is_graph(model: Any) -> bool:
    """Return whether a model knows its inputs and outputs: functional models, and classes that are built like one."""
    return bool(getattr(model, "inputs", None)) and bool(getattr(model, "outputs", None))
