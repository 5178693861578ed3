"""What is frozen in a model, where Keras 3 makes something else of a file than the Keras that wrote it.

Keras 2 trains nothing in a frozen part, whatever the layers in it say; Keras 3 goes by the layers. And a `Sequential`
that is frozen stands in an .h5 with its arrays in another order, while Keras 3 forgets that it was, and mixes them up.
"""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]


def children(layer: Any, config: Json) -> list[tuple[Any, Json]]:
    """The layers in a model or a wrapper, in the order of the file, each with its configuration."""
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
    """Freeze what is in the frozen parts of a model of Keras 2, and return what the operator should know about it."""
    names = _freeze(model, json.loads(architecture)["config"], is_frozen=False)
    if not names:
        return ()
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"layers that say trainable in a part that is frozen are not trained, as in Keras 2; Keras 3 would: {listed}",
    )


def _freeze(layer: Any, config: Json, *, is_frozen: bool) -> list[str]:
    """Freeze all below a layer that is in a frozen part; return the names of those that were not."""
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
    """The architecture with all frozen in each `Sequential` that is frozen and has layers that are not; "" without any.

    Of a model like this, Keras reads the arrays in the order in which it wrote them.
    """
    config = json.loads(architecture)
    changed = [_freeze_config(each["config"]) for each in _frozen_sequentials(config["config"])]
    return json.dumps(config) if any(changed) else ""


def thaw(model: Any, architecture: str) -> None:
    """Let the layers in frozen `Sequential`s train again that do so by their own configuration."""
    config = json.loads(architecture)["config"]
    frozen = {each["config"]["name"] for each in _frozen_sequentials(config)}
    for layer, options in children(model, config):
        if layer.name in frozen:
            _thaw(layer, options)


def _frozen_sequentials(config: Json) -> list[Json]:
    """Those among the layers of the outermost model: the .h5 has the arrays of each of these in an order of its own."""
    layers = config.get("layers", []) if isinstance(config, dict) else []
    return [each for each in layers if each["class_name"] == "Sequential" and each["config"].get("trainable") is False]


def _freeze_config(value: Any) -> int:
    """Freeze each layer in a configuration; return how many were not."""
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
