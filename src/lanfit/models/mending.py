"""Small repairs of an architecture: what stands in the way of its use and says nothing about what it computes.

Nothing is made here: classes are only asked which options they take.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from lanfit.models import known
from lanfit.models.architecture import parse

Json = dict[str, Any]


def without_unknown_nulls(architecture: str) -> tuple[str, tuple[str, ...]]:
    """Return an architecture without the options that are null and unknown, and their names, each once."""
    dropped: dict[str, None] = {}
    mended = _mended(parse(architecture, "the architecture"), dropped)
    return json.dumps(mended), tuple(dropped)


def with_free_batch(architecture: str) -> tuple[str, int]:
    """Return an architecture whose input takes any number of rows, and the number that it was fixed at.

    The number is 0 if it was free, or if a layer keeps state from batch to batch, which needs it.
    """
    found: list[int] = []
    if '"stateful": true' in architecture or '"stateful":true' in architecture:
        return architecture, 0
    freed = _freed(parse(architecture, "the architecture"), found)
    return (json.dumps(freed), found[0]) if found else (architecture, 0)


def _freed(value: Any, found: list[int]) -> Any:
    if isinstance(value, list):
        return [_freed(item, found) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _freed(item, found) for key, item in value.items()}
    config = value.get("config")
    shape = config.get("batch_shape") if value.get("class_name") == "InputLayer" and isinstance(config, dict) else None
    if isinstance(shape, list) and shape and isinstance(shape[0], int):
        found.append(shape[0])
        value["config"] = {**value["config"], "batch_shape": [None, *shape[1:]]}
    return value


def _mended(value: Any, dropped: dict[str, None]) -> Any:
    if isinstance(value, list):
        return [_mended(item, dropped) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _mended(item, dropped) for key, item in value.items()}
    config = value.get("config")
    taken = _taken(value.get("module", "keras.layers"), value.get("class_name")) if isinstance(config, dict) else None
    if taken is None or not isinstance(config, dict):
        return value
    unknown = [key for key, item in config.items() if item is None and key not in taken]
    dropped.update(dict.fromkeys(f"{value['class_name']}.{key}" for key in unknown))
    return {**value, "config": {key: item for key, item in config.items() if key not in unknown}}


def _taken(module: object, name: object) -> frozenset[str] | None:
    """The options of a class of Keras; None for what is none, or takes what it is made of in its own way."""
    import keras

    if not isinstance(module, str) or not isinstance(name, str) or name in known.MODELS:
        return None
    found: Any = keras
    for part in [*module.split(".")[1:], name]:
        found = getattr(found, part, None)
    if not module.startswith("keras") or not isinstance(found, type):
        return None
    made = [cls.__dict__["__init__"] for cls in found.__mro__ if "__init__" in cls.__dict__]
    names = {name for init in made if inspect.isfunction(init) for name in inspect.signature(init).parameters}
    return frozenset({*names, "name", "dtype", "trainable"})
