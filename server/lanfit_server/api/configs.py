"""The compile options that Keras does not save, although clients create losses, metrics and optimizers from the file.

Keras leaves some arguments out of what it saves, such as `delta` of Huber. What the class takes is written into the
file all the same; options that are set in another way, such as `exclude_from_weight_decay`, are refused by name.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from lanfit.errors import lanfit_error

_MISSING = object()


@contextlib.contextmanager
def full_configs(model: Any) -> Iterator[tuple[str, ...]]:
    """Save a compiled model, within this context, with all arguments of its losses, metrics and optimizer.

    Yields a line for each argument that Keras itself leaves out.

    Raises:
        InputError: something can't be saved; it is named.
    """
    changed, left_out = [], []
    config = getattr(model, "_compile_config", None)
    for each in _objects(getattr(config, "config", None) or [model.optimizer, model.loss]):
        lost = lost_arguments(each)
        if lost:
            named = ", ".join(f"{name}={value!r}" for name, value in lost.items())
            left_out.append(
                f"Keras leaves {named} of {type(each).__name__} out of saved models: clients train with it, and "
                "the files of this run contain it."
            )
            changed.append((each, {**each.get_config(), **lost}))
    try:
        for each, whole in changed:
            object.__setattr__(each, "get_config", lambda whole=whole: copy.deepcopy(whole))
        yield tuple(left_out)
    finally:
        for each, _ in changed:
            object.__delattr__(each, "get_config")


#: Functions of TensorFlow that Keras also has: it accepts them, but does not save their module.
_OF_TENSORFLOW = {"softmax_v2": "softmax", "log_softmax_v2": "log_softmax"}


def check_functions(model: Any) -> None:
    """Reject functions that can't be identified by their names.

    Raises:
        InputError: one is a lambda, or is TensorFlow's; its place is named.
    """
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of lambdas
        config = keras.saving.serialize_keras_object(model)
    for place, name in _functions(config, "", ""):
        if name is None:
            what, instead = "a lambda", "Pass the name of a Keras function, or define it in a file"
        elif name in _OF_TENSORFLOW:
            what, instead = f"{name} of TensorFlow", f'Pass its Keras name: "{_OF_TENSORFLOW[name]}"'
        else:
            continue
        raise lanfit_error("fit.function", place=place, what=what, instead=instead)


def _functions(config: Any, layer: str, key: str) -> Iterator[tuple[str, str | None]]:
    """Yield the functions in a configuration: the place of each, and its name; None for a lambda."""
    if isinstance(config, Mapping):
        kind, inner = config.get("class_name"), config.get("config")
        if kind == "__lambda__" or _is_code(config):
            yield f"{key} of {layer}" if layer else key, None
        elif kind == "function" and isinstance(inner, str):
            yield f"{key} of {layer}" if layer else key, inner
        elif kind == "Lambda":
            return  # reported by the check of the model
        elif isinstance(kind, str) and isinstance(inner, Mapping):
            layer = f"{kind} {inner['name']!r}" if isinstance(inner.get("name"), str) else kind
        for name, part in config.items():
            if name == "compile_config":
                yield from _functions(part, "the compiled model", name)
            else:
                yield from _functions(part, layer, key if name == "config" else str(name))
    elif isinstance(config, list | tuple):
        for part in config:
            yield from _functions(part, layer, key)


def _is_code(config: Mapping[str, Any]) -> bool:
    """Return whether it is Keras' serialization of a lambda: code and its defaults."""
    value = config.get("value")
    return set(config) == {"value"} and isinstance(value, tuple | list) and isinstance(next(iter(value), None), str)


def lost_arguments(made: Any) -> dict[str, Any]:
    """Return arguments of a loss, metric or optimizer that are missing in its configuration and not at their defaults.

    Raises:
        InputError: one can't be carried.
    """
    config = made.get_config()
    try:
        again = _again(made, config)
    except Exception:  # noqa: BLE001 - not a Keras class: rejected by the check of models
        return {}
    names = [name for name in _parameters(made) if name not in config and name not in ("name", "optimizer")]
    lost = {name: _live(made, name) for name in names if not _same(_live(made, name), _live(again, name))}
    if lost:
        try:
            again = _again(made, {**config, **lost})
        except Exception:  # noqa: BLE001 - a class may raise any exception for an unknown argument
            again = None
    wrong = next((name for name in lost if again is None or not _same(_live(made, name), _live(again, name))), None)
    if wrong is None and hasattr(made, "apply_gradients"):
        wrong = _set_otherwise(made, again)
    if wrong is not None:
        raise lanfit_error("fit.not-saved", name=type(made).__name__, what=wrong)
    return lost


def _set_otherwise(optimizer: Any, again: Any) -> str | None:
    """Return changes of an optimizer after its creation, which are not in its configuration."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return _set_otherwise(inner, again.inner_optimizer)
    weights = getattr(optimizer, "_exclude_from_weight_decay", None)
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    return "exclude_from_weight_decay" if weights or pattern else None


def _again(made: Any, config: Mapping[str, Any]) -> Any:
    return type(made).from_config(copy.deepcopy(dict(config)))


def _objects(value: Any) -> Iterator[Any]:
    """Yield all Keras objects in the arguments of `compile`."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _objects(part)
    elif hasattr(value, "get_config") and not isinstance(value, type):
        yield value
        if (inner := getattr(value, "inner_optimizer", None)) is not None:
            yield from _objects(inner)


def _parameters(made: Any) -> list[str]:
    """Return the parameters of the class of an object, or of the function that it wraps."""
    for kind in type(made).__mro__:
        if "__init__" in vars(kind):
            parameters = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
            return [each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    return []


def _live(made: Any, name: str) -> Any:
    """Return the value of an argument of an object."""
    arguments = getattr(made, "_fn_kwargs", None) or {}
    return arguments[name] if name in arguments else getattr(made, name, _MISSING)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    simple = (bool, int, float, str, type(None))
    if isinstance(one, simple) and isinstance(other, simple):
        return bool(one == other)
    # Other values can't be compared; they are in the configuration, or created by the class.
    return not isinstance(one, simple) and not isinstance(other, simple)
