"""Custom objects: layers, losses, metrics and activations that a Python file of the user defines.

lanfit.models.custom_files decides which files are used and how machines compare them; it executes nothing. Theory of
operation:

- `use` executes files in a process that is there for it: the model process and trainers. The bytes that are executed
  are the bytes that were hashed, so the file can't be exchanged in between.
- `class_named` and `function_named` tell the check of architectures (lanfit.models.architecture) what was loaded.
  Nothing is looked up by a module path that a model or a peer gave.

What a file offers: the classes that it defines, and the functions whose names do not begin with an underscore. With an
`__all__` only what that names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lanfit.errors import LanfitError, lanfit_error
from lanfit.models import allowlist
from lanfit.models.custom_files import AllowedFile, read_source, short

#: Methods of `keras.Model` that a training loop other than Keras' own never calls.
OF_TRAINING: Final = (
    "train_step",
    "test_step",
    "predict_step",
    "compute_loss",
    "compute_metrics",
    "fit",
    "make_train_function",
    "compile",
)


@dataclass
class _Loaded:
    files: tuple[AllowedFile, ...] = ()
    objects: dict[str, Any] = field(default_factory=dict)
    """By registered name and by plain name."""
    built_in: set[str] = field(default_factory=set)
    """Names that the files define, and that are Keras' own."""
    keys: set[str] = field(default_factory=set)
    """What was put into Keras' table of custom objects."""
    modules: list[str] = field(default_factory=list)


_loaded = _Loaded()


def use(files: Sequence[AllowedFile]) -> None:
    """Execute these files once, and allow models to use what they define, and nothing else.

    Only for processes that are started for this purpose. Keras must have been imported.

    Raises:
        InputError: a file is not the one that was allowed, fails, or two define the same name.
    """
    global _loaded
    if tuple(files) == _loaded.files:
        return
    forget()
    import keras

    table = keras.saving.get_custom_objects()
    loaded = _Loaded()
    before = dict(table)
    try:
        for file in files:
            _execute(file, loaded)
        table.update(loaded.objects)
    finally:
        loaded.keys = {key for key, value in table.items() if before.get(key) is not value}
        _loaded = loaded
    loaded.files = tuple(files)


def forget() -> None:
    """Remove what was loaded: models may not use it any more."""
    global _loaded
    if _loaded.keys or _loaded.modules:
        import keras

        table = keras.saving.get_custom_objects()
        for key in _loaded.keys:
            table.pop(key, None)
        for name in _loaded.modules:
            sys.modules.pop(name, None)
    _loaded = _Loaded()


def loaded_files() -> tuple[AllowedFile, ...]:
    """Return the files whose objects models may use in this process."""
    return _loaded.files


def class_named(name: object) -> type | None:
    """Return the class that a loaded file defines or registers under this name."""
    found = _loaded.objects.get(name) if isinstance(name, str) else None
    return found if isinstance(found, type) else None


def function_named(name: object) -> Callable[..., Any] | None:
    """Return the function that a loaded file defines or registers under this name."""
    found = _loaded.objects.get(name) if isinstance(name, str) else None
    return found if isinstance(found, types.FunctionType) else None


def is_custom(config: object) -> bool:
    """Return whether the configuration of an object names one that was loaded, so that Keras finds exactly that one."""
    if not isinstance(config, dict):
        return False
    name, inner = config.get("class_name"), config.get("config")
    if name == "function":
        return function_named(inner) is not None and config.get("registered_name", inner) in (inner, None, "function")
    # Without the key Keras looks for the name of the class; with null in it, it would import a module.
    key = config.get("registered_name", name)
    found = class_named(key)
    return found is not None and name in (found.__name__, key) and (inner is None or isinstance(inner, dict))


def refusal(kind: str, name: object, place: str) -> LanfitError | None:
    """Return the error for an object that was not loaded; None if no files were loaded."""
    if not _loaded.files:
        return None
    files = " or ".join(file.name for file in _loaded.files)
    if name in _loaded.built_in:
        return lanfit_error("custom.keras-name", place=place, kind=kind, name=name, files=files)
    return lanfit_error("custom.missing", place=place, kind=kind, name=name, files=files)


def _execute(file: AllowedFile, loaded: _Loaded) -> None:
    path = Path(file.path)
    source = read_source(path)
    if (digest := hashlib.sha256(source).hexdigest()) != file.sha256:
        raise lanfit_error("custom.changed", path=file.name, found=short(digest), wanted=short(file.sha256))
    name = _module_name(path.stem)
    module = types.ModuleType(name)
    module.__file__ = file.path
    sys.modules[name] = module
    loaded.modules.append(name)
    try:
        exec(compile(source, file.path, "exec"), module.__dict__)  # noqa: S102 - what its user allowed
    except Exception as error:
        line = _line_in(error, file.path)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise lanfit_error("custom.failed", file=file.name, reason=f"{reason}{line}") from error
    _register(file, module, loaded)


def _module_name(stem: str) -> str:
    """Return the module name for a file, different from the modules that exist here."""
    if stem.isidentifier() and stem not in sys.modules:
        try:
            if importlib.util.find_spec(stem) is None:
                return stem
        except (ImportError, ValueError):
            pass
    return f"custom_objects_{stem}"


def _line_in(wrong: BaseException, path: str) -> str:
    line = getattr(wrong, "lineno", 0) if isinstance(wrong, SyntaxError) else 0
    trace = wrong.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def _register(file: AllowedFile, module: types.ModuleType, loaded: _Loaded) -> None:
    import keras

    offered = getattr(module, "__all__", None)
    for name, found in vars(module).items():
        if not isinstance(found, type | types.FunctionType) or found.__module__ != module.__name__:
            continue
        if name.startswith("_") if offered is None else name not in offered:
            continue
        for key in {keras.saving.get_registered_name(found), found.__name__}:
            if key in BUILT_IN:
                loaded.built_in.add(key)
                continue
            other = loaded.objects.get(key)
            if other is not None and other is not found:
                first = getattr(sys.modules.get(other.__module__), "__file__", other.__module__)
                raise lanfit_error("custom.two-of-a-name", first=Path(first).name, second=file.name, name=key)
            loaded.objects[key] = found


#: Names that a configuration of Keras uses for objects of its own: a file can't put another object in their place.
BUILT_IN: Final = frozenset({name for _, name in allowlist.CLASSES} | allowlist.FUNCTIONS | set(allowlist.REFUSED))


def base_loss(cls: type) -> str:
    """Return the Keras class that a custom loss is derived from, e.g. "BinaryCrossentropy"; "" if there is none."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == "keras" and base.__name__ in allowlist.LOSSES:
            return base.__name__
    return ""


def check_training(model: Any, file: str) -> None:
    """Check that a model's own classes do not change how it is trained, because lanfit would ignore that.

    Raises:
        InputError: a loaded class overrides a method of training; both are named.
    """
    import keras

    for layer in [model, *model._flatten_layers(include_self=False)]:
        cls = type(layer)
        if not isinstance(layer, keras.Model) or cls.__module__.partition(".")[0] == "keras":
            continue
        if method := own_training(cls):
            raise lanfit_error("custom.own-training", file=file, name=cls.__name__, method=method)


def own_training(cls: type) -> str:
    """Return the first training method that a custom class overrides; "" if there is none."""
    for name in OF_TRAINING:
        for base in cls.__mro__:
            if base.__module__.partition(".")[0] == "keras":
                break
            if name in vars(base):
                return name
    return ""


def names_in(value: object) -> Mapping[str, str]:
    """Return the loaded classes and functions that a configuration uses, by name: "class" or "function"."""
    found: dict[str, str] = {}

    def look(part: object) -> None:
        if isinstance(part, dict):
            if is_custom(part):
                is_function = part["class_name"] == "function"
                name = part["config"] if is_function else part["class_name"]
                found[str(name)] = "function" if is_function else "class"
            for each in part.values():
                look(each)
        elif isinstance(part, list):
            for each in part:
                look(each)

    look(value)
    return found
