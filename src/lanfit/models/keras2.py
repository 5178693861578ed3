"""What Keras 2 (TensorFlow up to 2.15) wrote, as Keras 3 would have written it. JSON in, JSON out; no files, no Keras.

Nothing is let through or made here: what comes out is checked against the list of built-in classes like any other
configuration, so that a foreign name passes unchanged and is refused there.
"""

from __future__ import annotations

import json
from typing import Any, Final

from lanfit.mistakes import mistake
from lanfit.models import known
from lanfit.models.architecture import MAX_DEPTH, first_line, parse

Json = dict[str, Any]
_FUNCTIONAL: Final = "keras.src.models.functional"
_CUSTOM: Final = "Custom>"
#: The end of the key under which an object stands → the module it is from, if it does not say it. Else it is a layer.
_PLACES: Final = {
    "_initializer": "keras.initializers",
    "_regularizer": "keras.regularizers",
    "_constraint": "keras.constraints",
    "learning_rate": "keras.optimizers.schedules",
    "optimizer": "keras.optimizers",
}
#: What Keras 3 has no name for, and has no need of while it has this value.
_NEUTRAL: Final = {"time_major": False, "ragged": False}
#: What classes of Keras 3 do not take, and what says nothing about them.
_GONE: Final = {
    name: frozenset(gone.split())
    for names, gone in {
        "Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D DepthwiseConv2D": "groups",
        "SeparableConv1D SeparableConv2D": "groups kernel_initializer kernel_regularizer kernel_constraint",
        "SpatialDropout1D SpatialDropout2D SpatialDropout3D": "trainable noise_shape",
        "Discretization": "trainable",
        "MultiHeadAttention": "query_shape key_shape value_shape",
        "Embedding": "input_length",
    }.items()
    for name in names.split()
}
_OPTIONS_GONE: Final = {"jit_compile", "is_legacy_optimizer", "schedule_decay", "dynamic"}
#: Functions that have another name now.
_RENAMED: Final = {
    "keras.losses": {"logcosh": "log_cosh", "kullback_leibler_divergence": "kl_divergence"},
    "keras.metrics": dict.fromkeys(["logcosh", "log_cosh"], "log_cosh_error")
    | {"kullback_leibler_divergence": "kl_divergence"},
}


def translate_architecture(text: str) -> str:
    """Return the architecture in a file of Keras 2 as JSON of Keras 3; not checked.

    Raises:
        InputError: it is no configuration of a model.
    """
    return _translated(text, "the architecture", lambda config: _translate(config, "", 0))


def translate_options(text: str) -> str:
    """Return the compile options in a file of Keras 2 as those of Keras 3; not checked.

    A metric that wraps a function becomes its name, so that Keras 3 picks by loss and output what `accuracy` is.

    Raises:
        InputError: they are no compile options.
    """
    return _translated(text, "the compile options", _options)


def _translated(text: str, what: str, translate: Any) -> str:
    config = parse(text, what)
    try:
        return json.dumps(translate(config))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise mistake("model.not-keras-2", what=what, reason=first_line(error)) from error


def _translate(value: Any, key: str, depth: int) -> Any:
    if depth > MAX_DEPTH:  # which the check refuses
        return value
    if isinstance(value, list):
        return [_translate(item, key, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _translate(item, name, depth + 1) for name, item in value.items()}
    return _object(inner, key) if isinstance(inner.get("class_name"), str) else inner


def _object(value: Json, key: str) -> Json:
    """One object whose parts are translated: with a module, and without what Keras 3 does not know."""
    name, config = value["class_name"], value.get("config")
    value = {k: v for k, v in value.items() if k not in ("shared_object_id", "build_config")}
    if name in ("Policy", "PolicyV1") and isinstance(config, dict):
        policy = {"name": config.get("name")}
        return {"module": "keras", "class_name": "DTypePolicy", "config": policy, "registered_name": None}
    module = value.get("module") or next((m for end, m in _PLACES.items() if key.endswith(end)), "keras.layers")
    if isinstance(config, dict):
        if name in known.MODELS:
            config = _model(name, config)
            functional = "input_layers" in config
            name = "Functional" if functional else name
            if "module" not in value or str(module).endswith("engine.functional"):
                module = _FUNCTIONAL if functional else "keras.models"
        elif module == "keras.layers":
            config = _layer(name, config)
        elif module in ("keras.optimizers", "keras.optimizers.legacy", "keras.optimizers.experimental"):
            module, (name, config) = "keras.optimizers", _optimizer(name, config)
            if value.get("registered_name") == _CUSTOM + name:
                value["registered_name"] = None
        elif module == _PLACES["learning_rate"] and config.get("name", "") is None:
            config = {k: v for k, v in config.items() if k != "name"}  # without one, Keras 3 takes the class
    return {"registered_name": None, **value, "module": module, "class_name": name, "config": config}


def _layer(name: str, config: Json) -> Json:
    for key, value in config.items():
        if key.endswith("activation") and "hard_sigmoid" in (value, isinstance(value, dict) and value.get("config")):
            raise mistake("model.hard-sigmoid", layer=config.get("name"))
    gone = _GONE.get(name, frozenset()) | {k for k, v in _NEUTRAL.items() if config.get(k) == v}
    shape = config.get("batch_input_shape")
    config = {k: v for k, v in config.items() if k not in gone and k != "batch_input_shape"}
    if name == "InputLayer" and shape is not None:
        config["batch_shape"] = shape
    if name == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if name == "BatchNormalization" and isinstance(config.get("axis"), list):
        (config["axis"],) = config["axis"]
    return config


def _model(name: str, config: Json) -> Json:
    """A model, its layers translated already: with calls as Keras 3 writes them."""
    if name == "Sequential" or "input_layers" not in config:
        return config
    layers = config["layers"]
    # A model that began with an input counts its own making as its first call; for Keras 3 only real calls count.
    shifted = {layer["config"]["name"] for layer in layers if _began_with_an_input(layer)}
    # Of these, Keras 3 counts so itself for the outputs of functional models.
    sequential = {layer["config"]["name"] for layer in layers if layer["class_name"] == "Sequential"} & shifted
    layers = [
        {**layer, "inbound_nodes": [_call(node, shifted) for node in layer.get("inbound_nodes", [])]}
        for layer in layers
    ]
    ends = {end: _ends(config[end], sequential) for end in ("input_layers", "output_layers")}
    return {**config, **ends, "layers": layers}


def _began_with_an_input(layer: Json) -> bool:
    if layer["class_name"] not in known.MODELS:
        return False
    inner = layer["config"]["layers"]
    return bool(inner) and inner[0]["class_name"] == "InputLayer"


def _ends(ends: list[Any], shifted: set[str]) -> list[Any]:
    """The references to inputs or outputs; one alone stands without a list around it, as its array does in Keras 3."""
    ends = [ends] if isinstance(ends[0], str) else ends
    references = [[name, node - (name in shifted), *rest] for name, node, *rest in ends]
    return references[0] if len(references) == 1 else references


def _call(node: Any, shifted: set[str]) -> Any:
    """One call of a layer: Keras 2 gives `[name, call, output, options]` for each array that goes into it."""
    if isinstance(node, dict):
        return node
    arrays = [node] if isinstance(node[0], str) else node
    options = arrays[0][3] if len(arrays[0]) > 3 else {}
    tensors = [_tensor(array[:3], shifted) for array in arrays]
    return {
        "args": tensors if len(tensors) == 1 else [tensors],
        "kwargs": {name: _argument(value, shifted) for name, value in options.items()},
    }


def _argument(value: Any, shifted: set[str]) -> Any:
    if isinstance(value, list):
        is_reference = len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int)
        return _tensor(value[:3], shifted) if is_reference else [_argument(item, shifted) for item in value]
    return value


def _tensor(reference: list[Any], shifted: set[str]) -> Json:
    """An array by the call that it came from; Keras takes shape and dtype from that call."""
    name, node, output = reference
    history = [name, node - (name in shifted), output]
    return {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": history}}


def _options(config: Any) -> Json:
    optimizer = config.get("optimizer", config.get("optimizer_config"))
    return {
        "loss_weights": config.get("loss_weights"),
        "optimizer": _translate(optimizer, "optimizer", 0),
        "loss": _named(config.get("loss"), "keras.losses"),
        "metrics": _named([config.get("metrics"), config.get("weighted_metrics")], "keras.metrics"),
    }


def _optimizer(name: str, config: Json) -> tuple[str, Json]:
    """Class and options as Keras 3 has them; a `decay` becomes the schedule that it meant."""
    own = name.removeprefix(_CUSTOM)
    if own == "LossScaleOptimizerV3":
        own = "LossScaleOptimizer"
    name = own if own in known.OPTIMIZERS or own == "LossScaleOptimizer" else name
    config = {"learning_rate" if key == "lr" else key: value for key, value in config.items()}
    decay = config.pop("decay", None)
    if decay and isinstance(config.get("learning_rate"), (int, float)):
        schedule = {"initial_learning_rate": config["learning_rate"], "decay_steps": 1, "decay_rate": decay}
        module = _PLACES["learning_rate"]
        config["learning_rate"] = _object({"module": module, "class_name": "InverseTimeDecay", "config": schedule}, "")
    return name, {key: value for key, value in config.items() if key not in _OPTIONS_GONE}


def _named(value: Any, module: str) -> Any:
    """Losses or metrics in any nesting, each by its name where that says all."""
    if isinstance(value, list):
        return [_named(item, module) for item in value if item is not None]
    if isinstance(value, str):
        return _RENAMED[module].get(value, value)
    if not isinstance(value, dict):
        return value
    if "class_name" not in value:
        return {key: _named(item, module) for key, item in value.items()}
    name, config = value["class_name"], value.get("config")
    if not isinstance(config, dict):
        return value
    function = config.get("fn")
    if name in ("MeanMetricWrapper", "LossFunctionWrapper"):
        given = config.get("name")
        return _named(given if given in known.ACCURACIES or not isinstance(function, str) else function, module)
    config = {key: item for key, item in config.items() if key != "fn"}
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"
    return {"registered_name": None, "module": module, **value, "config": config}
