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
from functools import partial
from typing import Any, Final

import msgspec

from lanfit.core.decoding import decode_json
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.models import allowlist, custom
from lanfit.models.architecture import check_objects, first_line, parse
from lanfit.models.structure import gives_dict, output_names

_OF_PYTORCH = re.compile(r"keras\.src\.backend\.torch\.optimizers\.\w+")
#: The flags that replace a setting of a file: flag and example.
OVERRIDES: Final = {"optimizer": ("--optimizer", "adam"), "loss": ("--loss", "mse")}
#: The configuration of one Keras object: module, class_name, config, registered_name.
KerasObject = dict[str, Any]


class OutputOptions(msgspec.Struct, frozen=True):
    """The options of one output of several."""

    loss: str | KerasObject | None = None
    weight: float | None = None
    """The weight of this loss in the total loss."""
    metrics: tuple[str | KerasObject, ...] = ()


class CompileSpec(msgspec.Struct, frozen=True):
    """The arguments of `model.compile`. A file may contain only some of them; `override` completes them."""

    optimizer: KerasObject | None = None
    loss: str | KerasObject | None = None
    metrics: tuple[str | KerasObject, ...] = ()
    loss_weight: float | None = None
    outputs: dict[str, OutputOptions] = {}
    """Of a model of several outputs, instead of `loss`, `metrics` and `loss_weight`: by their names, in the order in
    which Keras adds the losses up."""

    def to_json(self) -> str:
        parts = msgspec.to_builtins(self)
        if not self.outputs:  # as it was before there were several
            del parts["outputs"]
        return msgspec.json.encode(parts).decode()


def read_spec(text: str) -> CompileSpec:
    """Return the spec in the JSON that `CompileSpec.to_json` made, checked: it may come from a peer.

    Raises:
        InputError: the JSON is not valid, or names something that is not built into Keras.
    """
    try:
        spec = decode_json(text, CompileSpec)
    except ValueError as error:
        raise lanfit_error("compile.unreadable", reason=first_line(error)) from error
    return _check_parts(spec)


@dataclass(frozen=True)
class FileOptions:
    """The usable compile options of a file."""

    spec: CompileSpec | None = None
    """None if the file has neither optimizer nor loss, or neither can be used."""
    problems: Mapping[str, LanfitError] = field(default_factory=dict)
    """What is wrong with the "optimizer" or the "loss": an error that matters only if no other is given."""
    left_out: tuple[str, ...] = ()
    """The names of metrics that Keras does not know. They do not affect training."""


def read_options(text: str, outputs: Sequence[str] = ()) -> FileOptions:
    """Return the options in a file's own JSON: `training_config` of an .h5, `compile_config` of a .keras.

    What concerns one machine only (jit_compile, steps_per_execution, run_eagerly) is left out, and so is the state of
    the optimizer.

    Args:
        outputs: the names of a model's outputs, if it has several.

    Raises:
        InputError: the JSON can't be read.
    """
    config = parse(text, "the compile options")
    problems: dict[str, LanfitError] = {}
    parts: dict[str, Any] = {}
    losses = _loss_in if len(outputs) < 2 else partial(_losses_in, outputs)
    for part, read in {"optimizer": _optimizer_in, "loss": losses}.items():
        try:
            parts |= read(config)
            _check_parts(_converted(parts))
        except InputError as error:
            parts = {key: value for key, value in parts.items() if key not in (part, "loss_weight", "outputs")}
            problems[part] = _problem(part, error)
    if len(outputs) > 1:
        return _several(parts, problems, config, outputs)
    metrics, left_out = _metrics_in(config)
    if parts.get("optimizer") is None and parts.get("loss") is None:
        return FileOptions(None, problems, left_out)
    return FileOptions(_converted({**parts, "metrics": metrics}), problems, left_out)


def _several(
    parts: dict[str, Any], problems: Mapping[str, LanfitError], config: Any, outputs: Sequence[str]
) -> FileOptions:
    """Return the options for a model of several outputs; `parts` has the losses already."""
    by_output: dict[str, OutputOptions] = parts.get("outputs") or {name: OutputOptions() for name in outputs}
    left_out: tuple[str, ...] = ()
    try:
        given = {key: _by_output(config.get(key), outputs, key) for key in ("metrics", "weighted_metrics")}
    except InputError as error:
        return FileOptions(None, {**problems, "loss": _problem("loss", error)}, ())
    for name in by_output:
        of_one = {key: value.get(name) for key, value in given.items()}
        metrics, more = _metrics_in(of_one)
        by_output[name] = msgspec.structs.replace(
            by_output[name], metrics=msgspec.convert(metrics, tuple[str | KerasObject, ...])
        )
        left_out += more
    if parts.get("optimizer") is None and all(each.loss is None for each in by_output.values()):
        return FileOptions(None, problems, left_out)
    spec = msgspec.structs.replace(_converted({"optimizer": parts.get("optimizer")}), outputs=by_output)
    return FileOptions(spec, problems, left_out)


def _losses_in(outputs: Sequence[str], config: Any) -> dict[str, Any]:
    """Return the loss and its weight of each output."""
    given, weights = _table(config).get("loss"), config.get("loss_weights")
    if given is None:
        return {}
    if isinstance(given, str) or (isinstance(given, dict) and "class_name" in given):
        losses = dict.fromkeys(outputs, given)
    else:
        losses = _by_output(given, outputs, "loss")
    weighed = _by_output(weights, outputs, "loss_weights")
    found = {}
    for name, loss in losses.items():
        weight = weighed.get(name)
        if loss is None or isinstance(loss, list):
            raise lanfit_error("compile.no-loss", output=name)
        if weight is not None and not isinstance(weight, int | float):
            raise lanfit_error("compile.per-output", what="loss_weights", outputs=", ".join(outputs))
        found[name] = OutputOptions(_as_loss(_with_module(loss, "keras.losses")), weight)
    if missing := [name for name in outputs if name not in found]:
        raise lanfit_error("compile.no-loss", output=missing[0])
    for each in found.values():
        _check_parts(CompileSpec(loss=each.loss))
    return {"outputs": found}


def _as_loss(loss: object) -> str | KerasObject:
    if not isinstance(loss, str | dict):
        raise lanfit_error("compile.unreadable", reason=f"{loss!r} is no loss")
    return loss


def _by_output(given: Any, outputs: Sequence[str], what: str) -> dict[str, Any]:
    """Return the option of each output: from a list in their order, or from a dict by their names, in its own order."""
    if given is None:
        return {}
    if isinstance(given, dict) and "class_name" not in given and set(given) <= set(outputs):
        return dict(given)
    if isinstance(given, list) and len(given) == len(outputs):
        return dict(zip(outputs, given, strict=True))
    raise lanfit_error("compile.per-output", what=what, outputs=", ".join(outputs))


def left_out_note(names: Sequence[str]) -> str:
    """Return the note about metrics of a file that Keras does not know."""
    return (
        f"the model was compiled with metrics that Keras does not know ({', '.join(names)}): they are left out. "
        "Training does not depend on them; --metrics selects others"
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
        _known(loss, allowlist.LOSS_NAMES, "loss", "--loss")
    for metric in metrics or ():
        _known(metric, allowlist.METRIC_NAMES, "metric", "--metrics")
    if learning_rate is not None and not 0 < learning_rate < float("inf"):
        raise lanfit_error("compile.learning-rate", rate=learning_rate)
    known_loss = loss or spec.loss or (spec.outputs and all(each.loss for each in spec.outputs.values())) or None
    missing = [flag for flag, value in [("--optimizer", chosen), ("--loss", known_loss)] if value is None]
    if missing or chosen is None:
        words = " and ".join(flag.strip("-") for flag in missing)
        raise lanfit_error("compile.incomplete", missing=words, flags=" and ".join(missing))
    if learning_rate is not None:
        chosen = _with_learning_rate(chosen, learning_rate)
    if spec.outputs:
        return CompileSpec(
            optimizer=chosen,
            outputs={
                name: OutputOptions(loss or each.loss, each.weight, each.metrics if metrics is None else tuple(metrics))
                for name, each in spec.outputs.items()
            },
        )
    return CompileSpec(
        optimizer=chosen,
        loss=loss or spec.loss,
        metrics=spec.metrics if metrics is None else tuple(metrics),
        loss_weight=spec.loss_weight,
    )


def unchecked_spec(text: str) -> CompileSpec:
    """Return the spec in JSON that this program has made and checked itself."""
    return decode_json(text, CompileSpec)


def with_learning_rate(text: str, rate: float) -> str:
    """Return such JSON with another learning rate."""
    spec = unchecked_spec(text)
    assert spec.optimizer is not None
    return msgspec.structs.replace(spec, optimizer=_with_learning_rate(spec.optimizer, rate)).to_json()


def check_name(kind: str, name: str) -> None:
    """Check the name of an "optimizer" or a "loss".

    Raises:
        InputError: Keras has none of that name. The message suggests the closest.
    """
    if kind == "optimizer":
        optimizer_config(name)
    else:
        _known(name, allowlist.LOSS_NAMES, "loss", "--loss")


def optimizer_config(name: str) -> KerasObject:
    """Return the configuration of a Keras optimizer with its defaults.

    Raises:
        InputError: Keras has no such optimizer.
    """
    _known(name.lower(), allowlist.OPTIMIZER_NAMES, "optimizer", "--optimizer")
    return _object("keras.optimizers", allowlist.OPTIMIZER_NAMES[name.lower()], {})


def options_of(spec: CompileSpec, outputs: Sequence[str]) -> dict[str, OutputOptions]:
    """Return the options of each output of a model, in the order of these names."""
    if len(outputs) == 1:
        return {outputs[0]: OutputOptions(spec.loss, spec.loss_weight, spec.metrics)}
    return {name: spec.outputs.get(name) or OutputOptions(spec.loss, None, spec.metrics) for name in outputs}


def loss_name(spec: CompileSpec) -> str:
    """Return Keras' long name of the loss, e.g. `mean_squared_error` for `mse`; of several outputs all names; "" if
    there is none."""
    if spec.outputs:
        names = {name: name_of_loss(each.loss) for name, each in spec.outputs.items()}
        return ", ".join(f"{loss} of {name}" for name, loss in names.items()) if all(names.values()) else ""
    return name_of_loss(spec.loss)


def name_of_loss(loss: str | KerasObject | None) -> str:
    """Return Keras' long name of a loss; "" if there is none."""
    if isinstance(loss, dict):
        if loss["class_name"] == "function":
            return str(loss["config"])
        own = custom.class_named(loss["class_name"]) if custom.is_custom(loss) else None
        return allowlist.snake_case((own and custom.base_loss(own)) or loss["class_name"])
    return allowlist.LOSS_NAMES[loss] if loss else ""


def wants_logits(loss: str | KerasObject | None) -> bool:
    """Return whether a loss takes logits: it was created with `from_logits=True`."""
    config = loss["config"] if isinstance(loss, dict) else None
    return isinstance(config, dict) and bool(config.get("from_logits"))


def ignored_by(loss: str | KerasObject | None) -> int | None:
    """Return the label that a loss leaves out; None if all count."""
    config = loss.get("config") if isinstance(loss, dict) else None
    ignored = config.get("ignore_class") if isinstance(config, dict) else None
    return ignored if isinstance(ignored, int) else None


def with_long_names(spec: CompileSpec) -> CompileSpec:
    """Return the spec with long names only: Keras 3.15.1 can't load its own .h5 with `mse` or `mae` in it."""
    outputs = {
        name: OutputOptions(_long_loss(each.loss), each.weight, _long_metrics(each.metrics))
        for name, each in spec.outputs.items()
    }
    return msgspec.structs.replace(
        spec, loss=_long_loss(spec.loss), metrics=_long_metrics(spec.metrics), outputs=outputs
    )


def _long_loss(loss: str | KerasObject | None) -> str | KerasObject | None:
    return loss if isinstance(loss, dict) else name_of_loss(loss) or None


def _long_metrics(metrics: Sequence[str | KerasObject]) -> tuple[str | KerasObject, ...]:
    return tuple(allowlist.METRIC_NAMES[metric] if isinstance(metric, str) else metric for metric in metrics)


def compile_model(model: Any, spec: CompileSpec, steps_per_execution: int = 1) -> None:
    """Compile a Keras model with a fresh optimizer.

    Raises:
        InputError: the spec is incomplete, or Keras does not accept an option in it.
    """
    import keras

    spec = override(spec)
    make = keras.saving.deserialize_keras_object

    def fresh(given: Any) -> Any:
        # Keras empties some of the dicts it reads, so it gets copies.
        return make(json.loads(msgspec.json.encode(given)))

    def parts(own: OutputOptions) -> tuple[Any, list[Any]]:
        return _with_options(fresh(own.loss), own.loss), [
            _with_options(fresh(metric), metric) for metric in own.metrics
        ]

    loss: Any
    weights: Any
    metrics: Any
    try:
        if len(model.outputs) > 1:
            options = options_of(spec, output_names(model))
            if gives_dict(model):  # their order is that of the sum
                options = {name: options[name] for name in spec.outputs or options}
            made = {name: parts(own) for name, own in options.items()}
            loss, metrics = ({name: each[kind] for name, each in made.items()} for kind in (0, 1))
            weights = {name: 1.0 if own.weight is None else own.weight for name, own in options.items()}
            if not gives_dict(model):
                loss, metrics, weights = (list(each.values()) for each in (loss, metrics, weights))
            if all(own.weight is None for own in options.values()):
                weights = None
            if not any(own.metrics for own in options.values()):
                metrics = None
        else:
            loss, metrics = parts(OutputOptions(spec.loss, None, spec.metrics))
            weights = None if spec.loss_weight is None else [spec.loss_weight]
        model.compile(
            optimizer=fresh(spec.optimizer),
            loss=loss,
            loss_weights=weights,
            metrics=metrics,
            steps_per_execution=steps_per_execution,
        )
    except Exception as error:
        raise lanfit_error("compile.refused", version=keras.__version__, reason=first_line(error)) from error


def _with_options(made: Any, given: object) -> Any:
    """Return a loss or metric that is saved with all arguments of its constructor: Keras leaves out some."""
    config = given.get("config") if isinstance(given, dict) else None
    if isinstance(config, dict) and hasattr(made, "get_config"):
        own = made.get_config()
        lost = {name: value for name, value in config.items() if name not in own}
        if lost:
            object.__setattr__(made, "get_config", lambda: {**own, **json.loads(json.dumps(lost))})
    return made


def _with_learning_rate(optimizer: KerasObject, rate: float) -> KerasObject:
    config = optimizer.get("config") or {}
    if "inner_optimizer" in config:  # the wrapper of mixed precision
        return {
            **optimizer,
            "config": {**config, "inner_optimizer": _with_learning_rate(config["inner_optimizer"], rate)},
        }
    return {**optimizer, "config": {**config, "learning_rate": rate}}


def _problem(part: str, error: LanfitError) -> LanfitError:
    if _is_custom(error):
        return error
    flag, example = OVERRIDES[part]
    return lanfit_error("compile.in-file", part=part, reason=error.message, flag=flag, example=f"{flag} {example}")


def _is_custom(error: LanfitError) -> bool:
    """Return whether an error concerns custom objects files, which then must be corrected."""
    return error.code.startswith("custom.")


def _optimizer_in(config: Any) -> dict[str, Any]:
    optimizer = _of_all_backends(_table(config).get("optimizer", config.get("optimizer_config")))
    if isinstance(optimizer, str):
        optimizer = optimizer_config(optimizer)
    return {"optimizer": _with_module(optimizer, "keras.optimizers")}


def _loss_in(config: Any) -> dict[str, Any]:
    losses, weights = _flat(_table(config).get("loss")), _flat(config.get("loss_weights"))
    if len(losses) > 1 or len(weights) > 1 or not all(isinstance(weight, (int, float)) for weight in weights):
        raise lanfit_error("compile.several-losses", count=len(losses), weights=config.get("loss_weights"))
    loss = _with_module(losses[0], "keras.losses") if losses else None
    return {"loss": loss, "loss_weight": weights[0] if weights else None}


def _metrics_in(config: Any) -> tuple[list[Any], tuple[str, ...]]:
    """Return the metrics that are Keras' own, and the names of the others."""
    found, left_out = [], []
    given = [*_flat(config.get("metrics")), *_flat(config.get("weighted_metrics"))] if isinstance(config, dict) else []
    for each in given:
        try:
            metric = _with_module(each, "keras.metrics")
            options = metric.get("config") if isinstance(metric, dict) else None
            if isinstance(options, dict) and isinstance(function := options.get("fn"), str):
                _known(function, allowlist.METRIC_NAMES, "metric", "--metrics")
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
        raise lanfit_error("compile.unreadable", reason="they are not a JSON object")
    return config


def _converted(parts: Mapping[str, Any]) -> CompileSpec:
    try:
        return msgspec.convert(parts, CompileSpec)
    except msgspec.ValidationError as error:
        raise lanfit_error("compile.unreadable", reason=error) from error


#: The names of the objects of a module in errors.
_KINDS: Final = {"keras.optimizers": "optimizer", "keras.losses": "loss", "keras.metrics": "metric"}


def _check_parts(spec: CompileSpec) -> CompileSpec:
    losses = [spec.loss, *(each.loss for each in spec.outputs.values())]
    metrics = [*spec.metrics, *(metric for each in spec.outputs.values() for metric in each.metrics)]
    parts = [(spec.optimizer, "keras.optimizers"), *((loss, "keras.losses") for loss in losses)]
    for value, module in [*parts, *((metric, "keras.metrics") for metric in metrics)]:
        if isinstance(value, dict):
            check_objects(value, "", kind=_KINDS[module])
            if custom.is_custom(value):
                continue
            if value.get("module") != module or not isinstance(value.get("config"), dict):
                raise lanfit_error("compile.other-kind", name=value.get("class_name"), module=module)
    for loss in losses:
        if isinstance(loss, str):
            _known(loss, allowlist.LOSS_NAMES, "loss", "--loss")
    for metric in metrics:
        if isinstance(metric, str):
            _known(metric, allowlist.METRIC_NAMES, "metric", "--metrics")
    return spec


def _known(name: str, names: Mapping[str, str], what: str, flag: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The known ones are: {', '.join(sorted({*names.values()}))}."
    raise lanfit_error("compile.unknown-name", name=name, what=what, known=hint, flag=flag)


def _flat(value: object) -> list[Any]:
    """Return a single object, list, dict or nested lists for a model with one output as a flat list."""
    if value is None:
        return []
    if isinstance(value, list):
        return [item for part in value for item in _flat(part)]
    if isinstance(value, dict) and "class_name" not in value:
        return [item for part in value.values() for item in _flat(part)]
    return [value]


def _with_module(value: object, module: str) -> object:
    """Return a configuration in the .h5 format, without modules, as Keras 3 writes it; a function as its name."""
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
    """Return the configuration of an optimizer as on TensorFlow and JAX: Keras has other classes on PyTorch.

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
