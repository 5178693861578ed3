"""Optimizer, loss and metrics of a model, as JSON that travels and as a compiled model.

Keras is imported only to compile: reading, overriding and naming work in a process without it. The names of losses and
metrics stay as they were given (`mse` is the key `mse` in Keras' history); `with_long_names` is for files.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from lanfit.errors import InputError, LanfitError
from lanfit.mistakes import mistake
from lanfit.models import custom, known
from lanfit.models.architecture import check_objects, first_line, parse

_OF_PYTORCH = re.compile(r"keras\.src\.backend\.torch\.optimizers\.\w+")
#: What replaces a part of what a file says: flag and example.
OVERRIDES: Final = {"optimizer": ("--optimizer", "adam"), "loss": ("--loss", "mse")}
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
    return _check_parts(spec)


@dataclass(frozen=True)
class FileOptions:
    """What a file says about compiling, as far as it can be used."""

    spec: CompileSpec | None = None
    """None if the file says neither optimizer nor loss, or neither can be used."""
    problems: Mapping[str, LanfitError] = field(default_factory=dict)
    """What is wrong with the "optimizer" or the "loss": an error that matters only if no other is given."""
    left_out: tuple[str, ...] = ()
    """The names of metrics that Keras does not know. They change nothing of what is trained."""


def read_options(text: str) -> FileOptions:
    """Return the options in a file's own JSON: `training_config` of an .h5, `compile_config` of a .keras.

    What concerns one machine only (jit_compile, steps_per_execution, run_eagerly) is left out, and so is the state of
    the optimizer.

    Raises:
        InputError: it is no JSON that can be read.
    """
    config = parse(text, "the compile options")
    problems: dict[str, LanfitError] = {}
    parts: dict[str, Any] = {}
    for part, read in {"optimizer": _optimizer_in, "loss": _loss_in}.items():
        try:
            parts |= read(config)
            _check_parts(_converted(parts))
        except InputError as error:
            parts = {key: value for key, value in parts.items() if key not in (part, "loss_weight")}
            problems[part] = _problem(part, error)
    metrics, left_out = _metrics_in(config)
    if parts.get("optimizer") is None and parts.get("loss") is None:
        return FileOptions(None, problems, left_out)
    return FileOptions(_converted({**parts, "metrics": metrics}), problems, left_out)


def read_config(text: str) -> CompileSpec | None:
    """Return the spec in a file's own JSON, all of which must be Keras' own; None if it says no optimizer and no loss.

    Raises:
        InputError: a function or class is not Keras' own, or there is more than one loss.
    """
    options = read_options(text)
    for problem in options.problems.values():
        raise problem
    for name in options.left_out:
        _known(name, known.METRIC_NAMES, "metric", "--metrics")
        raise mistake("compile.other-kind", name=name, module="keras.metrics")
    return options.spec


def left_out_note(names: Sequence[str]) -> str:
    """What is said about metrics of a file that Keras does not know."""
    return (
        f"the model was compiled with metrics that Keras does not know ({', '.join(names)}): left out. Training does "
        "not depend on them; --metrics names others"
    )


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


def ignored_class(spec: CompileSpec) -> int | None:
    """The label that the loss leaves out; None when all count."""
    config = spec.loss.get("config") if isinstance(spec.loss, dict) else None
    ignored = config.get("ignore_class") if isinstance(config, dict) else None
    return ignored if isinstance(ignored, int) else None


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
            loss=_whole(make(fresh["loss"]), spec.loss),
            loss_weights=None if spec.loss_weight is None else [spec.loss_weight],
            metrics=[_whole(make(metric), given) for metric, given in zip(fresh["metrics"], spec.metrics, strict=True)],
            steps_per_execution=steps_per_execution,
        )
    except Exception as error:
        raise mistake("compile.refused", version=keras.__version__, reason=first_line(error)) from error


def _whole(made: Any, given: object) -> Any:
    """A loss or a metric that is saved with every argument that it was made with: Keras leaves out some."""
    config = given.get("config") if isinstance(given, dict) else None
    if isinstance(config, dict) and hasattr(made, "get_config"):
        own = made.get_config()
        lost = {name: value for name, value in config.items() if name not in own}
        if lost:
            object.__setattr__(made, "get_config", lambda: {**own, **json.loads(json.dumps(lost))})
    return made


def _with_learning_rate(optimizer: KerasObject, rate: float) -> KerasObject:
    config = optimizer.get("config") or {}
    if "inner_optimizer" in config:  # the one that mixed precision puts around another
        return {
            **optimizer,
            "config": {**config, "inner_optimizer": _with_learning_rate(config["inner_optimizer"], rate)},
        }
    return {**optimizer, "config": {**config, "learning_rate": rate}}


def _problem(part: str, error: LanfitError) -> LanfitError:
    if _is_custom(error):
        return error
    flag, example = OVERRIDES[part]
    return mistake("compile.in-file", part=part, reason=error.message, flag=flag, example=f"{flag} {example}")


def _is_custom(error: LanfitError) -> bool:
    """Whether it tells of files of custom objects, which are to be mended, then."""
    return error.code.startswith("custom.")


def _optimizer_in(config: Any) -> dict[str, Any]:
    optimizer = _of_all_backends(_table(config).get("optimizer", config.get("optimizer_config")))
    if isinstance(optimizer, str):
        optimizer = optimizer_config(optimizer)
    return {"optimizer": _with_module(optimizer, "keras.optimizers")}


def _loss_in(config: Any) -> dict[str, Any]:
    losses, weights = _flat(_table(config).get("loss")), _flat(config.get("loss_weights"))
    if len(losses) > 1 or len(weights) > 1 or not all(isinstance(weight, (int, float)) for weight in weights):
        raise mistake("compile.several-losses", count=len(losses), weights=config.get("loss_weights"))
    loss = _with_module(losses[0], "keras.losses") if losses else None
    return {"loss": loss, "loss_weight": weights[0] if weights else None}


def _metrics_in(config: Any) -> tuple[list[Any], tuple[str, ...]]:
    """The metrics that are Keras' own, and the names of the others."""
    found, left_out = [], []
    given = [*_flat(config.get("metrics")), *_flat(config.get("weighted_metrics"))] if isinstance(config, dict) else []
    for each in given:
        try:
            metric = _with_module(each, "keras.metrics")
            options = metric.get("config") if isinstance(metric, dict) else None
            if isinstance(options, dict) and isinstance(function := options.get("fn"), str):
                _known(function, known.METRIC_NAMES, "metric", "--metrics")
            _check_parts(_converted({"metrics": [metric]}))
            found.append(metric)
        except InputError as error:
            if _is_custom(error):
                raise
            left_out.append(_name_of(each))
    return found, tuple(dict.fromkeys(left_out))


def _name_of(metric: Any) -> str:
    if not isinstance(metric, dict):
        return str(metric)
    config = metric.get("config")
    name = config.get("name", config.get("fn")) if isinstance(config, dict) else config
    return str(name if isinstance(name, str) else metric.get("class_name"))


def _table(config: Any) -> dict[str, Any]:
    if not isinstance(config, dict):
        raise mistake("compile.unreadable", reason="they are no JSON object")
    return config


def _converted(parts: Mapping[str, Any]) -> CompileSpec:
    try:
        return msgspec.convert(parts, CompileSpec)
    except msgspec.ValidationError as error:
        raise mistake("compile.unreadable", reason=error) from error


#: What errors call the objects of a module.
_KINDS: Final = {"keras.optimizers": "optimizer", "keras.losses": "loss", "keras.metrics": "metric"}


def _check_parts(spec: CompileSpec) -> CompileSpec:
    parts = [(spec.optimizer, "keras.optimizers"), (spec.loss, "keras.losses")]
    for value, module in [*parts, *((metric, "keras.metrics") for metric in spec.metrics)]:
        if isinstance(value, dict):
            check_objects(value, "", kind=_KINDS[module])
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
        check_objects(value, "", kind=_KINDS[module])
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
