"""Small repairs of an architecture: remove options that prevent its use but do not affect what it computes.

Nothing is built here: classes are only inspected for their options.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from lanfit.models import allowlist
from lanfit.models.architecture import parse

Json = dict[str, Any]


def without_unknown_nulls(architecture: str) -> tuple[str, tuple[str, ...]]:
    """Return an architecture without options that are null and unknown, and their names, each once."""
    dropped: dict[str, None] = {}

    def mend(part: Json) -> Json:
        config = part.get("config")
        known_options = _taken(part.get("module", "keras.layers"), part.get("class_name"))
        if known_options is None or not isinstance(config, dict):
            return part
        unknown = [key for key, item in config.items() if item is None and key not in known_options]
        dropped.update(dict.fromkeys(f"{part['class_name']}.{key}" for key in unknown))
        return {**part, "config": {key: item for key, item in config.items() if key not in unknown}}

    mended = _changed(parse(architecture, "the architecture"), mend)
    return json.dumps(mended), tuple(dropped)


def with_free_batch(architecture: str) -> tuple[str, int]:
    """Return an architecture with a free batch size, and its fixed batch size.

    The size is 0 if it was free, or if a stateful layer needs it.
    """
    found: list[int] = []
    if '"stateful": true' in architecture or '"stateful":true' in architecture:
        return architecture, 0

    def free(part: Json) -> Json:
        config = part.get("config")
        is_input = part.get("class_name") == "InputLayer"
        shape = config.get("batch_shape") if is_input and isinstance(config, dict) else None
        if not (isinstance(shape, list) and shape and isinstance(shape[0], int)):
            return part
        found.append(shape[0])
        return {**part, "config": {**part["config"], "batch_shape": [None, *shape[1:]]}}

    freed = _changed(parse(architecture, "the architecture"), free)
    return (json.dumps(freed), found[0]) if found else (architecture, 0)


def _changed(value: Any, change: Callable[[Json], Json]) -> Any:
    """Return a JSON value in which each dict, after those inside it, was changed."""
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    return change({key: _changed(item, change) for key, item in value.items()})


def _taken(module: object, name: object) -> frozenset[str] | None:
    """Return the options of a Keras class; None if it is not one, or has its own way of reading its configuration."""
    import keras

    if not isinstance(module, str) or not isinstance(name, str) or name in allowlist.MODELS:
        return None
    found: Any = keras
    for part in [*module.split(".")[1:], name]:
        found = getattr(found, part, None)
    if not module.startswith("keras") or not isinstance(found, type):
        return None
    made = [cls.__dict__["__init__"] for cls in found.__mro__ if "__init__" in cls.__dict__]
    names = {name for init in made if inspect.isfunction(init) for name in inspect.signature(init).parameters}
    return frozenset({*names, "name", "dtype", "trainable"})
