"""What Keras 2 (TensorFlow up to 2.15) wrote, as Keras 3 would have written it. JSON in, JSON out; no files, no Keras.

Nothing is let through or made here: what comes out is checked against the list of built-in classes like any other
configuration, so that a foreign name passes unchanged and is refused there. The arrays of such files are the subject of
`keras2_weights`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from lanfit.errors import lanfit_error
from lanfit.models import allowlist
from lanfit.models.architecture import MAX_DEPTH, first_line, parse

Json = dict[str, Any]
_FUNCTIONAL: Final = "keras.src.models.functional"
_CUSTOM: Final = "Custom>"
#: The end of the key of an object → its module, if not given. Any other object is a layer.
_PLACES: Final = {
    "_initializer": "keras.initializers",
    "_regularizer": "keras.regularizers",
    "_constraint": "keras.constraints",
    "learning_rate": "keras.optimizers.schedules",
    "optimizer": "keras.optimizers",
}
#: Where Keras itself lived: `keras.layers.core`, `tensorflow.python.keras.engine.sequential`, `tf_keras.src.layers`, …
_OLD_PATH: Final = re.compile(
    r"(?:tensorflow(?:_core)?\.(?:python\.|_api\.v\d\.)?)?(?:tf_)?keras\.(?:api\.)?(?:src\.|_v\d\.)?(\w+)"
)
#: The first part of an old path within Keras → the module now.
_NOW: Final = {
    "layers": "keras.layers",
    "engine": "keras.layers",
    "legacy_tf_layers": "keras.layers",
    "initializers": "keras.initializers",
    "regularizers": "keras.regularizers",
    "constraints": "keras.constraints",
}
#: TensorFlow 1 had the initializers of its Keras in modules of its own.
_OLD_INITIALIZERS: Final = re.compile(r"tensorflow(?:_core)?\.python\.(?:ops\.init_ops|keras\.initializers)\w*")
#: Options that Keras 3 does not have, and does not need if they have this value.
_NEUTRAL: Final = {"time_major": False, "ragged": False}
#: Options that classes of Keras 3 do not accept, and that have no effect.
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
#: What initializers of TensorFlow 1 had besides.
_INITIALIZERS_GONE: Final = frozenset({"dtype", "verify_shape", "partition_info"})
_OPTIONS_GONE: Final = {"jit_compile", "is_legacy_optimizer", "schedule_decay", "dynamic"}
#: Classes that were named for a version or for the machine that they ran on.
_CLASSES: Final = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "LayerNormalizationV2": "LayerNormalization",
    "UnifiedLSTM": "LSTM",
    "UnifiedGRU": "GRU",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
}
#: What the layers for cuDNN did, as options of those that took their place.
_OF_CUDNN: Final[dict[str, Json]] = {
    "CuDNNLSTM": {"activation": "tanh", "recurrent_activation": "sigmoid"},
    "CuDNNGRU": {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
}
#: Functions of TensorFlow as activations, by the names that Keras 2 stored.
_ACTIVATIONS: Final = {"softmax_v2": "softmax", "relu_v2": "relu"}
#: Functions that have another name now.
_RENAMED: Final = {
    "keras.losses": {
        "logcosh": "log_cosh",
        "kullback_leibler_divergence": "kl_divergence",
        "huber_loss": "huber",
        "cosine_proximity": "cosine_similarity",
        "cosine": "cosine_similarity",
    },
    "keras.metrics": dict.fromkeys(["logcosh", "log_cosh"], "log_cosh_error")
    | dict.fromkeys(["cosine_proximity", "cosine"], "cosine_similarity")
    | {"kullback_leibler_divergence": "kl_divergence"},
}
#: Layers whose weights can be scaled so that Keras 3's hard_sigmoid computes what that of Keras 2 did (keras2_weights).
_SCALED: Final = {
    key: frozenset(names.split())
    for key, names in {
        "activation": "Dense EinsumDense Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose "
        "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell",
        "recurrent_activation": "LSTM LSTMCell GRU GRUCell ConvLSTM1D ConvLSTM2D ConvLSTM3D",
    }.items()
}
_RECURRENT: Final = frozenset(
    {"Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRU", "LSTM", "RNN", "SimpleRNN"}
)
HARD_SIGMOID_SCALE: Final = 1.2
"""x / 5 + 0.5, as Keras 2 had it, is 1.2 x / 6 + 0.5."""


_METRICS_THEN: Final = """
    accuracy binary_accuracy binary_crossentropy categorical_accuracy categorical_crossentropy categorical_hinge
    cosine_similarity hinge kl_divergence log_cosh_error mean_absolute_error mean_absolute_percentage_error
    mean_squared_error mean_squared_logarithmic_error poisson sparse_categorical_accuracy
    sparse_categorical_crossentropy sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy
"""
#: Names that are new in Keras 3: in files of Keras 2 they are custom functions.
_OWN: Final = {
    "keras.losses": frozenset({"circle", "ctc", "dice", "tversky"}),
    "keras.metrics": frozenset(allowlist.snake_case(name) for name in allowlist.METRICS).difference(
        _METRICS_THEN.split()
    ),
}


@dataclass(frozen=True)
class Translation:
    """An architecture as Keras 3 writes it, with notes for the operator."""

    architecture: str
    """JSON; not checked."""
    notes: tuple[str, ...] = ()


def translate(text: str) -> Translation:
    """Translate the architecture in a file of Keras 2.

    Raises:
        InputError: it is no configuration of a model, or has a hard_sigmoid that Keras 3 can't compute.
    """
    found = _Found()

    def whole(config: Any) -> Any:
        _drop_slashes(config, found, 0)
        return _translate(config, "", 0, found)

    return Translation(_translated(text, "the architecture", whole), found.notes())


def translate_options(text: str) -> str:
    """Return the compile options in a file of Keras 2 as those of Keras 3; not checked.

    A metric that wraps a function becomes its name, so that Keras 3 picks by loss and output what `accuracy` is.

    Raises:
        InputError: they are no compile options.
    """
    return _translated(text, "the compile options", _options)


@dataclass
class _Found:
    """The layers of an architecture that were changed, by their names."""

    slashes: list[str] = field(default_factory=list)
    cudnn: list[str] = field(default_factory=list)
    hard_sigmoid: list[str] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        notes = []
        if self.slashes:
            notes.append(
                f"Keras 3 does not allow `/` in layer names: it was replaced with `_` ({_listed(self.slashes)})"
            )
        if self.cudnn:
            notes.append(
                f"cuDNN layers were replaced with LSTM and GRU layers, which compute the same: {_listed(self.cudnn)}"
            )
        if self.hard_sigmoid:
            notes.append(
                "hard_sigmoid is x/6 + 0.5 in Keras 3 and was x/5 + 0.5 in Keras 2. Its input is multiplied by 1.2, "
                f"in the weights where there are any: the model predicts the same ({_listed(self.hard_sigmoid)})"
            )
        return tuple(notes)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _translated(text: str, what: str, translate: Any) -> str:
    config = parse(text, what)
    try:
        return json.dumps(translate(config))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise lanfit_error("model.not-keras-2", what=what, reason=first_line(error)) from error


# --- names with a slash: they are changed in the file's own form, where all that refers to them still has it -----


def _drop_slashes(value: Any, found: _Found, depth: int) -> None:
    if depth > MAX_DEPTH:  # which the check refuses
        return
    if isinstance(value, list):
        for item in value:
            _drop_slashes(item, found, depth + 1)
    elif isinstance(value, dict):
        config = value.get("config")
        if value.get("class_name") in allowlist.MODELS and config:
            _rename_layers(config, found)
        if isinstance(config, dict) and "/" in str(config.get("name")):  # in a wrapper, or the model itself
            config["name"] = str(config["name"]).replace("/", "_")
        for item in value.values():
            _drop_slashes(item, found, depth + 1)


def _rename_layers(config: Json | list[Any], found: _Found) -> None:
    """Give the layers of one model names without a slash, each its own."""
    layers = config if isinstance(config, list) else config["layers"]
    names = [str(layer["config"].get("name", "")) for layer in layers if isinstance(layer["config"], dict)]
    taken = {*names}
    new: dict[str, str] = {}
    for name in names:
        if "/" in name:
            new[name] = next(free for free in _numbered(name.replace("/", "_")) if free not in taken)
            taken.add(new[name])
    if not new:
        return
    found.slashes += new
    for layer in layers:
        for holder in (layer, layer["config"]):
            if isinstance(holder, dict) and holder.get("name") in new:
                holder["name"] = new[holder["name"]]
        if "inbound_nodes" in layer:
            layer["inbound_nodes"] = _redirected(layer["inbound_nodes"], new)
    for ends in ("input_layers", "output_layers"):
        if isinstance(config, dict) and ends in config:
            config[ends] = _redirected(config[ends], new)


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(1))


def _redirected(value: Any, new: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _redirected(item, new) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if _is_reference(value):
        return [new.get(value[0], value[0]), *(_redirected(item, new) for item in value[1:])]
    return [_redirected(item, new) for item in value]


def _is_reference(value: list[Any]) -> bool:
    return len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int)


# --- objects ----------------------------------------------------------------------------------------------------


def _translate(value: Any, key: str, depth: int, found: _Found) -> Any:
    if depth > MAX_DEPTH:  # which the check refuses
        return value
    if isinstance(value, list):
        return [_translate(item, key, depth + 1, found) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"type", "value"}:  # a number or an array of NumPy, as Keras 2.0 and 2.1 wrote it
        return value["value"]
    inner = {name: _translate(item, name, depth + 1, found) for name, item in value.items()}
    return _object(inner, key, found) if isinstance(inner.get("class_name"), str) else inner


def _object(value: Json, key: str, found: _Found) -> Json:
    """Translate one object whose parts are translated: add its module, and remove options unknown to Keras 3."""
    name, config = value["class_name"], value.get("config")
    value = {k: v for k, v in value.items() if k not in ("shared_object_id", "build_config")}
    if name in ("Policy", "PolicyV1") and isinstance(config, dict):
        policy = {"name": config.get("name")}
        return {"module": "keras", "class_name": "DTypePolicy", "config": policy, "registered_name": None}
    if name == "Sequential" and isinstance(config, list):  # up to Keras 2.2.2
        config = {"name": value.get("name"), "layers": config}
    module = _module(value, key)
    if isinstance(config, dict):
        if name in allowlist.MODELS:
            config = _model(name, config)
            functional = "input_layers" in config
            name = "Functional" if functional else name
            if "module" not in value or module == "keras.layers":
                module = _FUNCTIONAL if functional else "keras.models"
        elif module == "keras.layers":
            name, config = _layer(name, config, found)
            if key not in ("layers", "config"):  # in a wrapper, whose shape it is
                config.pop("batch_input_shape", None)
            if name == "Activation" and _is_hard_sigmoid(config.get("activation")):
                found.hard_sigmoid.append(str(config.get("name")))
                name, module, config = "Sequential", "keras.models", _scaled_activation(config)
        elif module == "keras.initializers":
            name, config = _initializer(name, config)
        elif module in ("keras.optimizers", "keras.optimizers.legacy", "keras.optimizers.experimental"):
            module, (name, config) = "keras.optimizers", _optimizer(name, config)
            if value.get("registered_name") == _CUSTOM + name:
                value["registered_name"] = None
        elif module == _PLACES["learning_rate"] and config.get("name", "") is None:
            config = {k: v for k, v in config.items() if k != "name"}  # without one, Keras 3 takes the class
    return {"registered_name": None, **value, "module": module, "class_name": name, "config": config}


def _module(value: Json, key: str) -> Any:
    """Return the current name of the module of an object; other modules are not changed."""
    module = value.get("module")
    if not module:
        return next((m for end, m in _PLACES.items() if key.endswith(end)), "keras.layers")
    if isinstance(module, str):
        if _OLD_INITIALIZERS.fullmatch(module):
            return "keras.initializers"
        if (path := _OLD_PATH.match(module)) and path[1] in _NOW:
            return _NOW[path[1]]
        if module.startswith("tf_keras."):
            return module.removeprefix("tf_")
    return module


def _layer(name: str, config: Json, found: _Found) -> tuple[str, Json]:
    gone = _GONE.get(name, frozenset()) | {k for k, v in _NEUTRAL.items() if config.get(k) == v}
    config = {k: v for k, v in config.items() if k not in gone}
    if name == "InputLayer" and (shape := config.pop("batch_input_shape", None)) is not None:
        config["batch_shape"] = shape
    if name == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if name in _OF_CUDNN:
        found.cudnn.append(str(config.get("name")))
        config |= _OF_CUDNN[name]
    name = _CLASSES.get(name, name)
    if name in ("GRU", "GRUCell"):
        config.setdefault("reset_after", False)
    if name == "BatchNormalization" and isinstance(config.get("axis"), list):
        (config["axis"],) = config["axis"]
    for key, scaled in _SCALED.items():
        if _is_hard_sigmoid(config.get(key)):
            if name in scaled:
                found.hard_sigmoid.append(str(config.get("name")))
            elif name != "Activation":
                raise lanfit_error("model.hard-sigmoid", layer=config.get("name"), kind=name)
        elif isinstance(function := config.get(key), str):
            config[key] = _ACTIVATIONS.get(function, function)
    return name, config


def _is_hard_sigmoid(activation: Any) -> bool:
    return "hard_sigmoid" in (activation, isinstance(activation, dict) and activation.get("config"))


def _scaled_activation(config: Json) -> Json:
    """Return the replacement of a layer that is hard_sigmoid alone: a model, so that it remains one layer."""
    name = config.get("name", "activation")
    scale = _new("Rescaling", {"name": f"{name}_scale", "scale": HARD_SIGMOID_SCALE, "offset": 0.0})
    function = _new("Activation", {"name": f"{name}_function", "activation": "hard_sigmoid"})
    return {"name": name, "layers": [scale, function]}


def _new(name: str, config: Json) -> Json:
    return {"module": "keras.layers", "class_name": name, "config": config, "registered_name": None}


def _initializer(name: str, config: Json) -> tuple[str, Json]:
    own = name.removesuffix("V1").removesuffix("V2")
    config = {k: v for k, v in config.items() if k not in _INITIALIZERS_GONE}
    return own if own in allowlist.INITIALIZERS else name, config


# --- models -----------------------------------------------------------------------------------------------------


def _model(name: str, config: Json) -> Json:
    """Return a model, its layers translated already: with an input in front, and with calls as Keras 3 writes them."""
    if name == "Sequential" or "input_layers" not in config:
        return _sequential(config)
    layers = config["layers"]
    for layer in layers:
        layer["config"].pop("batch_input_shape", None)
    # A model that began with an input counts its own making as its first call; for Keras 3 only real calls count.
    shifted = {layer["config"]["name"] for layer in layers if _began_with_an_input(layer)}
    shifted -= {name for name, call in _calls([layer.get("inbound_nodes") for layer in layers]) if call == 0}
    # Of these, Keras 3 counts so itself for the outputs of functional models.
    sequential = {layer["config"]["name"] for layer in layers if layer["class_name"] == "Sequential"} & shifted
    layers = [
        {**layer, "inbound_nodes": [_call(node, shifted, layer) for node in layer.get("inbound_nodes", [])]}
        for layer in layers
    ]
    ends = {end: _ends(config[end], sequential) for end in ("input_layers", "output_layers")}
    return {**config, **ends, "layers": layers}


def _sequential(config: Json) -> Json:
    """Return a Sequential that begins with an input, if its shape is given in one of the ways of Keras 2."""
    layers = config["layers"]
    names = [layer["config"].get("name") for layer in layers]
    for layer in layers:  # a Sequential in one of Keras up to 2.2.2 has no name
        if layer["config"].get("name") is None:
            layer["config"]["name"] = next(name for name in _numbered("sequential") if name not in names)
            names.append(layer["config"]["name"])
    given = {key: value for key, value in config.items() if key != "build_input_shape"}
    shapes = [layer["config"].pop("batch_input_shape", None) for layer in layers]
    if not layers or layers[0]["class_name"] == "InputLayer":
        return given
    shape, dtype = shapes[0], layers[0]["config"].get("dtype")
    if shape is None and (inner := _input_of(layers[0])):
        shape, dtype = inner.get("batch_shape"), inner.get("dtype")
    if shape is None and (built := config.get("build_input_shape")) and not isinstance(built[0], list):
        shape = [None, *built[1:]]  # the number of rows is that of the first call
    if shape is None:
        return given
    name = next(name for name in _numbered(f"{layers[0]['config']['name']}_input") if name not in names)
    options = {"batch_shape": shape, "dtype": dtype if isinstance(dtype, str) else "float32", "name": name}
    return {**given, "layers": [_new("InputLayer", options), *layers]}


def _input_of(layer: Json) -> Json | None:
    """Return the options of the input that a model as a layer begins with."""
    while layer["class_name"] in allowlist.MODELS:
        layer = layer["config"]["layers"][0]
    return layer["config"] if layer["class_name"] == "InputLayer" else None


def _began_with_an_input(layer: Json) -> bool:
    if layer["class_name"] not in allowlist.MODELS:
        return False
    inner = layer["config"]["layers"]
    return "input_layers" in layer["config"] or (bool(inner) and inner[0]["class_name"] == "InputLayer")


def _calls(value: Any) -> Iterator[tuple[str, int]]:
    """Layer and number of each call that something in here refers to."""
    if isinstance(value, list) and _is_reference(value):
        yield value[0], value[1]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inside:
        yield from _calls(item)


def _ends(ends: list[Any], shifted: set[str]) -> list[Any]:
    """Return the references to inputs or outputs; a single one without a list, as Keras 3 writes it."""
    ends = [ends] if isinstance(ends[0], str) else ends
    references = [[name, node - (name in shifted), *rest] for name, node, *rest in ends]
    return references[0] if len(references) == 1 else references


def _call(node: Any, shifted: set[str], layer: Json) -> Any:
    """Translate one call of a layer: Keras 2 gives `[name, call, output, options]` for each input array."""
    if isinstance(node, dict):
        return node
    arrays = [node] if isinstance(node[0], str) else node
    options = arrays[0][3] if len(arrays[0]) > 3 else {}
    tensors = [_tensor(array[:3], shifted) for array in arrays]
    kwargs = {name: _argument(value, shifted) for name, value in options.items()}
    if layer["class_name"] in _RECURRENT and len(tensors) > 1:  # the other tensors are the initial state
        tensors, kwargs["initial_state"] = tensors[:1], tensors[1:]
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": kwargs}


def _argument(value: Any, shifted: set[str]) -> Any:
    if isinstance(value, list):
        return _tensor(value[:3], shifted) if _is_reference(value) else [_argument(item, shifted) for item in value]
    return value


def _tensor(reference: list[Any], shifted: set[str]) -> Json:
    """Return an array by the call that it came from; Keras takes shape and dtype from that call."""
    name, node, output = reference
    history = [name, node - (name in shifted), output]
    return {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": history}}


def _options(config: Any) -> Json:
    optimizer = config.get("optimizer", config.get("optimizer_config"))
    return {
        "loss_weights": config.get("loss_weights"),
        "optimizer": _translate(optimizer, "optimizer", 0, _Found()),
        "loss": _named(config.get("loss"), "keras.losses"),
        "metrics": _named([config.get("metrics"), config.get("weighted_metrics")], "keras.metrics"),
    }


def _optimizer(name: str, config: Json) -> tuple[str, Json]:
    """Return class and options as in Keras 3; a `decay` becomes the schedule that it stood for."""
    own = name.removeprefix(_CUSTOM)
    if own == "LossScaleOptimizerV3":
        own = "LossScaleOptimizer"
    name = own if own in allowlist.OPTIMIZERS or own == "LossScaleOptimizer" else name
    config = {"learning_rate" if key == "lr" else key: value for key, value in config.items()}
    decay = config.pop("decay", None)
    if decay and isinstance(config.get("learning_rate"), (int, float)):
        schedule = {"initial_learning_rate": config["learning_rate"], "decay_steps": 1, "decay_rate": decay}
        module = _PLACES["learning_rate"]
        made = {"module": module, "class_name": "InverseTimeDecay", "config": schedule}
        config["learning_rate"] = _object(made, "", _Found())
    return name, {key: value for key, value in config.items() if key not in _OPTIONS_GONE}


def _named(value: Any, module: str) -> Any:
    """Replace losses or metrics in any nesting by their names where these are sufficient."""
    if isinstance(value, list):
        return [_named(item, module) for item in value if item is not None]
    if isinstance(value, str):
        if value in _OWN[module]:
            return {"module": "__main__", "class_name": "function", "config": value, "registered_name": value}
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
        return _named(given if given in allowlist.ACCURACIES or not isinstance(function, str) else function, module)
    config = {key: item for key, item in config.items() if key != "fn"}
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"
    return {"registered_name": None, "module": module, **value, "config": config}
