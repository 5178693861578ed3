"""The custom objects of a model in a Python program: which it uses, and which files define them. Executes nothing."""

from __future__ import annotations

import contextlib
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lanfit.data.shard import Samples
from lanfit.errors import lanfit_error
from lanfit.models.custom import own_training
from lanfit.models.subclassed import as_functional, input_dtype, is_subclassed, row_shape
from lanfit_server.api.configs import full_configs


@dataclass
class Used:
    """The custom objects of a model."""

    objects: dict[str, Any] = field(default_factory=dict)
    """The objects by all names that a file may use, with which Keras loads such a file in this program."""
    files: dict[str, Path] = field(default_factory=dict)
    """The name of each object → the file that defines it."""
    homeless: dict[str, str] = field(default_factory=dict)
    """The name of each object that is defined where clients can't get it → that place."""

    @contextlib.contextmanager
    def known(self) -> Iterator[None]:
        """Let Keras load files with these objects in this context."""
        import keras

        with keras.saving.custom_object_scope(self.objects):
            yield


def used_by(model: Any) -> Used:
    """Return the custom objects of a model, its loss and its metrics.

    Raises:
        InputError: Keras can't write the model down.
    """
    import keras

    try:
        config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = re.split(r"(?<=[a-z)`])[.,] |and therefore", " ".join(str(error).split()))[0].strip()
        raise lanfit_error("custom.not-serializable", name=type(model).__name__, reason=reason) from error
    used = Used()
    _look(config, _alive(model), used)
    return used


def check_own_training(model: Any) -> None:
    """Check that the model's class does not change how it is trained, because clients would ignore that.

    Raises:
        InputError: class and method are named.
    """
    if method := own_training(type(model)):
        raise lanfit_error("custom.own-training", file=model.name, name=type(model).__name__, method=method)


def named_files(given: Any) -> tuple[Path, ...]:
    """Return the files of `custom_objects=`: paths, modules, names of modules, or a dict of objects as in Keras.

    Raises:
        InputError: it names something else.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        given = [sys.modules.get(getattr(each, "__module__", ""), each) for each in given.values()]
    if not isinstance(given, list | tuple | set | frozenset):
        given = [given]
    return tuple(dict.fromkeys(_file_of(each) for each in given))


def files_for(used: Used, given: tuple[Path, ...], *, own_machines: bool) -> tuple[Path, ...]:
    """Return the files that a run needs: those that were given, else for local clients those that define the objects.

    Raises:
        InputError: something is defined in a script or a notebook, or clients of the LAN need a file for it.
    """
    if not used.objects:
        return ()
    if given:
        return given
    if used.homeless:
        names, where = ", ".join(used.homeless), next(iter(used.homeless.values()))
        raise lanfit_error(
            "custom.no-source", names=names, where=where, first=next(iter(used.homeless)).rpartition(">")[2]
        )
    found = tuple(dict.fromkeys(used.files.values()))
    if found and not own_machines:
        names = ", ".join(used.files)
        raise lanfit_error("custom.not-named", names=names, file=", ".join(map(str, found)), name=found[0].name)
    return found


def check_arrays(model: Any, *given: Any) -> None:
    """Reject several arrays for a subclassed model, whose inputs are known to its code only.

    Raises:
        InputError: there are several.
    """
    several = (isinstance(each, Mapping | list | tuple) and len(each) > 1 for each in given)
    arrays = (
        each.values() if isinstance(each, Mapping) else each
        for each, is_one in zip(given, several, strict=True)
        if is_one
    )
    if is_subclassed(model) and any(len(getattr(part, "shape", ())) for parts in arrays for part in parts):
        raise lanfit_error("fit.subclassed-several", model=model.name)


def travelling(model: Any, used: Used, rows: Samples | None) -> Any:
    """Return the model to send: itself, or a functional one around it that is compiled in the same way.

    Args:
        rows: those that it is trained on; None if they are not in this program.

    Raises:
        InputError: a subclassed model that can't be called on such rows.
    """
    if not is_subclassed(model):
        return model
    shape = tuple(rows.x.shape[1:]) if rows is not None else row_shape(model)
    if shape is None:
        raise lanfit_error("model.no-input-shape", file=model.name)
    around = as_functional(model, shape, input_dtype(model))
    with used.known(), full_configs(model):
        around.compile_from_config(model.get_compile_config())
    return around


def _look(part: Any, alive: Mapping[str, Any], used: Used) -> None:
    """Collect the objects in a configuration. Their modules may be missing there, so the live objects are used."""
    if isinstance(part, Mapping):
        name, inner, registered = part.get("class_name"), part.get("config"), part.get("registered_name")
        if name == "function" and isinstance(inner, str):
            _note(inner, alive, used)
        elif isinstance(name, str) and isinstance(registered, str):
            _note(registered, alive, used)
        for each in part.values():
            _look(each, alive, used)
    elif isinstance(part, list | tuple):
        for each in part:
            _look(each, alive, used)


def _note(key: str, alive: Mapping[str, Any], used: Used) -> None:
    import keras

    found = alive.get(key.rpartition(">")[2]) or keras.saving.get_registered_object(key)
    module = getattr(found, "__module__", "")
    if found is None or module.partition(".")[0] in ("keras", "builtins"):
        return  # the check of the model names it
    here, plain = sys.modules.get(module), found.__name__
    if module != "__main__" and _is_installed(here):
        return
    used.objects |= {key: found, plain: found}
    file = getattr(here, "__file__", None)
    if file is None:
        used.homeless[plain] = "a notebook or an interactive session"
    elif module == "__main__":
        used.homeless[plain] = f"the script {Path(file).name}"
    elif "<locals>" in found.__qualname__:
        used.homeless[plain] = f"a function of {Path(file).name}"
    else:
        used.files[plain] = Path(file)


def _alive(model: Any) -> dict[str, Any]:
    """Return the classes and functions of a model, its loss, metrics and optimizer, by their names."""
    found: dict[str, Any] = {}

    def look(value: Any, depth: int) -> None:
        if isinstance(value, types.FunctionType):
            found.setdefault(value.__name__, value)
        elif isinstance(value, Mapping):
            for each in value.values():
                look(each, depth)
        elif isinstance(value, list | tuple):
            for each in value:
                look(each, depth)
        elif hasattr(value, "get_config") and not isinstance(value, type):
            found.setdefault(type(value).__name__, type(value))
            for each in list(vars(value).values()) if depth else ():
                look(each, depth - 1)

    for each in (model, *model._flatten_layers(include_self=False)):
        look(each, 2)
    look(getattr(model, "optimizer", None), 2)
    look(getattr(getattr(model, "_compile_config", None), "config", None), 2)
    return found


def _is_installed(module: types.ModuleType | None) -> bool:
    """Return whether a module belongs to an installed package or to Python itself."""
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    folders = (sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib"))
    return any(Path(file).is_relative_to(folder) for folder in folders if folder)


def _file_of(given: Any) -> Path:
    if isinstance(given, types.ModuleType):
        file = getattr(given, "__file__", None)
    elif isinstance(given, Path) or (isinstance(given, str) and (given.endswith(".py") or "/" in given)):
        file = str(Path(given).expanduser())
    elif isinstance(given, str):
        file = _origin(given)
    else:
        file = None
    if file is None or getattr(given, "__name__", "") == "__main__":
        raise lanfit_error("custom.no-module", given=repr(given))
    return Path(file).resolve()


def _origin(name: str) -> str | None:
    """Return the file of a module by its name; the module is not imported."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec is not None and spec.origin != "built-in" else None
