"""Optimizer, loss and metrics of a model, as JSON that travels and as a compiled model.

Keras is imported only to compile: reading, overriding and naming work in a process without it. The names of losses and
metrics stay as they were given (`mse` is the key `mse` in Keras' history); `with_long_names` is for files.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lanfit.mistakes import mistake
from lanfit.models import custom, known
from lanfit.models.architecture import check_objects, first_line, parse

_OF_PYTORCH = re.compile(r"keras\.src\.backend\.torch\.optimizers\.\w+")
#: The configuration of one Keras object: module, class_name, config, registered_name.
KerasObject = dict[str, Any]


class CompileSpec(msgspec.Struct, frozen=True):
    """What `model.compile` gets. A file may say only a part of it; `override` makes it whole."""

    optimizer: KerasObject | None = None
    loss: str | KerasObject | None = None
    metrics: tuple[str | KerasObject, ...] = ()
    loss_weight: float | None = None

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()


def read_spec(text: str) -> CompileSpec:
    """Return the spec in the JSON that `CompileSpec.to_json` made, checked: it may come from a peer.

    Raises:
        InputError: it is no such JSON, or names something that is not built into Keras.
    """
    try:
        spec = msgspec.json.decode(text, type=CompileSpec)
    except (msgspec.DecodeError, RecursionError) as error:
        raise mistake("compile.unreadable", reason=first_line(error)) from error
    return _checked(spec)


def read_config(text: str) -> CompileSpec | None:
    """Return the spec in a file's own JSON: `training_config` of an .h5, `compile_config` of a .keras.

    None if the file says neither optimizer nor loss. What concerns one machine only (jit_compile,
    steps_per_execution, run_eagerly) is left out, and so is the optimizer's state.

    Raises:
        InputError: a function or class is not Keras' own, or there is more than one loss.
    """
    config = parse(text, "the compile options")
    if not isinstance(config, dict):
        raise mistake("compile.unreadable", reason="they are no JSON object")
    optimizer = _of_all_backends(config.get("optimizer", config.get("optimizer_config")))
    losses = _flat(config.get("loss"))
    weights = _flat(config.get("loss_weights"))
    if len(losses) > 1 or len(weights) > 1 or not all(isinstance(weight, (int, float)) for weight in weights):
        raise mistake("compile.several-losses", count=len(losses), weights=config.get("loss_weights"))
    if isinstance(optimizer, str):
        optimizer = optimizer_config(optimizer)
    metrics = [*_flat(config.get("metrics")), *_flat(config.get("weighted_metrics"))]
    if optimizer is None and not losses:
        return None
    try:
        spec = msgspec.convert(
            {
                "optimizer": _with_module(optimizer, "keras.optimizers"),
                "loss": _with_module(losses[0], "keras.losses") if losses else None,
                "metrics": [_with_module(metric, "keras.metrics") for metric in metrics],
                "loss_weight": weights[0] if weights else None,
            },
            CompileSpec,
        )
    except msgspec.ValidationError as error:
        raise mistake("compile.unreadable", reason=error) from error
    return _checked(spec)


def override(
    spec: CompileSpec | None,
    optimizer: str | None = None,
    loss: str | None = None,
    learning_rate: float | None = None,
    metrics: Sequence[str] | None = None,
) -> CompileSpec:
    """Return the spec with what the operator decided; a learning rate replaces a schedule.

    Raises:
        InputError: a name is unknown (the nearest is given), the learning rate is not positive, or optimizer or loss
            are missing: the model is not compiled.
    """
    spec = spec or CompileSpec()
    chosen = optimizer_config(optimizer) if optimizer is not None else spec.optimizer
    if loss is not None:
        _known(loss, known.LOSS_NAMES, "loss", "--loss")
    for metric in metrics or ():
        _known(metric, known.METRIC_NAMES, "metric", "--metrics")
    if learning_rate is not None and not 0 < learning_rate < float("inf"):
        raise mistake("compile.learning-rate", rate=learning_rate)
    missing = [flag for flag, value in [("--optimizer", chosen), ("--loss", loss or spec.loss)] if value is None]
    if missing or chosen is None:
        words = " and ".join(flag.strip("-") for flag in missing)
        raise mistake("compile.incomplete", missing=words, flags=" and ".join(missing))
    if learning_rate is not None:
        chosen = _with_learning_rate(chosen, learning_rate)
    return CompileSpec(
        optimizer=chosen,
        loss=loss or spec.loss,
        metrics=spec.metrics if metrics is None else tuple(metrics),
        loss_weight=spec.loss_weight,
    )


def check_name(kind: str, name: str) -> None:
    """Check the name of an "optimizer" or a "loss".

    Raises:
        InputError: Keras has none of that name; the nearest is given.
    """
    if kind == "optimizer":
        optimizer_config(name)
    else:
        _known(name, known.LOSS_NAMES, "loss", "--loss")


def optimizer_config(name: str) -> KerasObject:
    """Return the configuration of a Keras optimizer with its defaults.

    Raises:
        InputError: Keras has no such optimizer.
    """
    _known(name.lower(), known.OPTIMIZER_NAMES, "optimizer", "--optimizer")
    return _object("keras.optimizers", known.OPTIMIZER_NAMES[name.lower()], {})


def loss_name(spec: CompileSpec) -> str:
    """Return Keras' long name of the loss, e.g. `mean_squared_error` for `mse`; "" if there is none."""
    if isinstance(spec.loss, dict):
        if spec.loss["class_name"] == "function":
            return str(spec.loss["config"])
        own = custom.class_named(spec.loss["class_name"]) if custom.is_custom(spec.loss) else None
        return known.snake_case((own and custom.base_loss(own)) or spec.loss["class_name"])
    return known.LOSS_NAMES[spec.loss] if spec.loss else ""


def takes_logits(spec: CompileSpec) -> bool:
    """Whether the loss takes what comes before a sigmoid or softmax: it was made with `from_logits=True`."""
    config = spec.loss["config"] if isinstance(spec.loss, dict) else None
    return isinstance(config, dict) and bool(config.get("from_logits"))


def with_long_names(spec: CompileSpec) -> CompileSpec:
    """Return the spec with long names only: Keras 3.15.1 can't load its own .h5 with `mse` or `mae` in it."""
    loss = spec.loss if isinstance(spec.loss, dict) else loss_name(spec)
    metrics = tuple(known.METRIC_NAMES[metric] if isinstance(metric, str) else metric for metric in spec.metrics)
    return msgspec.structs.replace(spec, loss=loss or None, metrics=metrics)


def compile_model(model: Any, spec: CompileSpec, steps_per_execution: int = 1) -> None:
    """Compile a Keras model with a fresh optimizer.

    Raises:
        InputError: the spec is not whole, or Keras does not take an option in it.
    """
    import keras

    spec = override(spec)
    make = keras.saving.deserialize_keras_object
    # Keras empties some of the dicts it reads, so it gets copies.
    fresh = json.loads(spec.to_json())
    try:
        model.compile(
            optimizer=make(fresh["optimizer"]),
            loss=make(fresh["loss"]),
            loss_weights=None if spec.loss_weight is None else [spec.loss_weight],
            metrics=[make(metric) for metric in fresh["metrics"]],
            steps_per_execution=steps_per_execution,
        )
    except Exception as error:
        raise mistake("compile.refused", version=keras.__version__, reason=first_line(error)) from error


def _with_learning_rate(optimizer: KerasObject, rate: float) -> KerasObject:
    config = optimizer.get("config") or {}
    if "inner_optimizer" in config:  # the one that mixed precision puts around another
        return {
            **optimizer,
            "config": {**config, "inner_optimizer": _with_learning_rate(config["inner_optimizer"], rate)},
        }
    return {**optimizer, "config": {**config, "learning_rate": rate}}


def _checked(spec: CompileSpec) -> CompileSpec:
    parts = [(spec.optimizer, "keras.optimizers"), (spec.loss, "keras.losses")]
    for value, module in [*parts, *((metric, "keras.metrics") for metric in spec.metrics)]:
        if isinstance(value, dict):
            check_objects(value, "")
            if custom.is_custom(value):
                continue
            if value.get("module") != module or not isinstance(value.get("config"), dict):
                raise mistake("compile.other-kind", name=value.get("class_name"), module=module)
    if isinstance(spec.loss, str):
        _known(spec.loss, known.LOSS_NAMES, "loss", "--loss")
    for metric in spec.metrics:
        if isinstance(metric, str):
            _known(metric, known.METRIC_NAMES, "metric", "--metrics")
    return spec


def _known(name: str, names: Mapping[str, str], what: str, flag: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(sorted({*names.values()}))}."
    raise mistake("compile.unknown-name", name=name, what=what, known=hint, flag=flag)


def _flat(value: object) -> list[Any]:
    """What Keras takes as one, a list, a dict or nested lists for a model of one output, as one list."""
    if value is None:
        return []
    if isinstance(value, list):
        return [item for part in value for item in _flat(part)]
    if isinstance(value, dict) and "class_name" not in value:
        return [item for part in value.values() for item in _flat(part)]
    return [value]


def _with_module(value: object, module: str) -> object:
    """A configuration as the .h5 format has it, without modules, as Keras 3 writes it; a function as its name."""
    if isinstance(value, str) and custom.function_named(value) is not None:  # as Keras 2 has it
        return {"module": "", "class_name": "function", "config": value, "registered_name": value}
    if not isinstance(value, dict):
        return value
    name, config = value.get("class_name"), value.get("config")
    if custom.is_custom(value):
        return value
    if name == "function":
        check_objects(value, "")
        return config
    if "module" in value or not isinstance(name, str):
        return value
    return _object(module, name, config)


def _of_all_backends(optimizer: object) -> object:
    """The configuration of an optimizer as Keras writes it on TensorFlow and JAX: on PyTorch it has classes of its own.

    They take the same options, and Keras chooses them itself where it makes one on PyTorch.
    """
    found = _not_of_pytorch(optimizer)
    if isinstance(found, dict) and isinstance(config := found.get("config"), dict) and "inner_optimizer" in config:
        inner = _not_of_pytorch(config["inner_optimizer"])
        return {**found, "config": {**config, "inner_optimizer": inner}}
    return found


def _not_of_pytorch(optimizer: object) -> object:
    if isinstance(optimizer, dict) and _OF_PYTORCH.fullmatch(str(optimizer.get("module"))):
        return {**optimizer, "module": "keras.optimizers", "registered_name": None}
    return optimizer


def _object(module: str, name: str, config: object) -> KerasObject:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}
