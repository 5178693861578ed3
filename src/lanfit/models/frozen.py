"""Frozen parts of a model, where Keras 3 interprets a file differently than the Keras that wrote it.

Keras 2 trains nothing in a frozen part, despite the settings of its layers; Keras 3 uses the setting of each layer. The
arrays of a frozen `Sequential` are in another order in an .h5, while Keras 3 forgets that it was frozen, and mixes them
up.
"""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]


def children(layer: Any, config: Json) -> list[tuple[Any, Json]]:
    """Return the layers in a model or a wrapper, in the order of the file, each with its configuration."""
    import keras

    if isinstance(layer, keras.Model):
        layers = {child.name: child for child in layer.layers}
        options = [child["config"] for child in config.get("layers", [])]
        return [(layers[each["name"]], each) for each in options if each.get("name") in layers]
    if isinstance(layer, keras.layers.Bidirectional):
        forward = config["layer"]["config"]
        backward = (config.get("backward_layer") or config["layer"])["config"]
        return [(layer.forward_layer, forward), (layer.backward_layer, backward)]
    if isinstance(layer, keras.layers.TimeDistributed):
        return [(layer.layer, config["layer"]["config"])]
    return []


# --- Keras 2 ----------------------------------------------------------------------------------------------------


def freeze_parts(model: Any, architecture: str) -> tuple[str, ...]:
    """Freeze the layers in the frozen parts of a Keras 2 model, and return notes for the operator."""
    names = _freeze(model, json.loads(architecture)["config"], is_frozen=False)
    if not names:
        return ()
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"trainable layers inside a frozen part are not trained, as in Keras 2; Keras 3 would train them: {listed}",
    )


def _freeze(layer: Any, config: Json, *, is_frozen: bool) -> list[str]:
    """Freeze all layers below a layer that is in a frozen part; return the names of those that were not frozen."""
    found = []
    for child, options in children(layer, config):
        frozen = is_frozen or not options.get("trainable", True)
        if children(child, options):
            found += _freeze(child, options, is_frozen=frozen)
        elif frozen:
            if any(variable.trainable for variable in child.weights):
                found.append(str(child.name))
            child.trainable = False
    return found


# --- .h5 of Keras 3 ---------------------------------------------------------------------------------------------


def with_frozen_sequentials(architecture: str) -> str:
    """Return the architecture with all layers frozen in each frozen `Sequential` that has trainable layers; "" if none.

    For such a model, Keras reads the arrays in the order in which it wrote them.
    """
    config = json.loads(architecture)
    changed = [_freeze_config(each["config"]) for each in _frozen_sequentials(config["config"])]
    return json.dumps(config) if any(changed) else ""


def thaw(model: Any, architecture: str) -> None:
    """Make the layers in frozen `Sequential`s trainable again according to their own configuration."""
    config = json.loads(architecture)["config"]
    frozen = {each["config"]["name"] for each in _frozen_sequentials(config)}
    for layer, options in children(model, config):
        if layer.name in frozen:
            _thaw(layer, options)


def _frozen_sequentials(config: Json) -> list[Json]:
    """Return those among the layers of the outermost model: the .h5 orders the arrays of each in its own way."""
    layers = config.get("layers", []) if isinstance(config, dict) else []
    return [each for each in layers if each["class_name"] == "Sequential" and each["config"].get("trainable") is False]


def _freeze_config(value: Any) -> int:
    """Freeze each layer in a configuration; return how many were not frozen."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    changed = sum(_freeze_config(item) for item in inside)
    if isinstance(value, dict) and value.get("trainable") is True:
        value["trainable"] = False
        changed += 1
    return changed


def _thaw(layer: Any, config: Json) -> None:
    for child, options in children(layer, config):
        child.trainable = options.get("trainable", True)
        _thaw(child, options)
