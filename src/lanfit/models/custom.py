"""Custom objects: layers, losses, metrics and activations that a Python file of the user defines.

Code never travels. A file is named by its user on each machine, and peers tell one another only its name and hash.
Theory of operation:

- `allow` reads a file, and executes nothing: it gives the name and the hash; `defined_names` parses. Agents and servers
  use only these.
- `use` executes files in a process that is there for it: the model process and trainers. The bytes that are executed
  are the bytes that were hashed, so nobody can exchange the file in between.
- `class_named` and `function_named` tell the check of architectures (lanfit.models.architecture) what was loaded.
  Nothing is looked up by a module path that a model or a peer gave.

What a file offers: the classes that it defines, and the functions whose names do not begin with an underscore. With an
`__all__` only what that names.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from lanfit.errors import LanfitError
from lanfit.mistakes import mistake
from lanfit.models import known
from lanfit.wire.tasks import CustomFile

MAX_BYTES: Final = 1 << 20
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


class AllowedFile(msgspec.Struct, frozen=True):
    """A file that the user of this machine has named: its classes and functions may be used by models."""

    path: str
    name: str
    sha256: str

    @property
    def spec(self) -> CustomFile:
        """What a peer is told of it."""
        return CustomFile(self.name, self.sha256)


def short(digest: str) -> str:
    """The part of a hash that people compare."""
    return digest[:12]


# --- files, read and not executed ---------------------------------------------------------------------------------


def allow(path: Path) -> AllowedFile:
    """Read a file that the user has named. Executes nothing.

    Raises:
        InputError: it is missing, or not Python.
    """
    source = _read(path)
    _parsed(path, source)
    return AllowedFile(str(path.resolve()), path.name, hashlib.sha256(source).hexdigest())


def allow_named(texts: Iterable[str], folders: Sequence[Path]) -> tuple[AllowedFile, ...]:
    """Read the files that a setting names, each as `PATH` or `PATH#sha256=HASH`.

    Args:
        folders: where relative paths begin, in order.

    Raises:
        InputError: a file is missing, is not Python, or is not the one with this hash.
    """
    found = []
    for text in texts:
        named, _, digest = text.partition("#sha256=")
        given = Path(named).expanduser()
        paths = [folder / given for folder in folders]
        file = allow(next((path for path in paths if path.is_file()), given))
        if digest and digest != file.sha256:
            raise mistake("custom.changed", path=named, found=short(file.sha256), wanted=short(digest))
        found.append(file)
    return tuple(found)


def pinned(file: AllowedFile, shown: str) -> str:
    """A file as a job keeps it: its path with the hash."""
    return f"{shown}#sha256={file.sha256}"


def defined_names(path: Path) -> frozenset[str]:
    """The names of classes and functions that a file defines at its top level; nothing of it is executed.

    Raises:
        InputError: it can't be read.
    """
    defined = (ast.ClassDef, ast.FunctionDef)
    return frozenset(node.name for node in _parsed(path, _read(path)).body if isinstance(node, defined))


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise mistake("custom.no-file", path=path)
    if path.suffix.lower() != ".py":
        raise mistake("custom.not-python", path=path)
    if (size := path.stat().st_size) > MAX_BYTES:
        raise mistake("custom.too-large", path=path, size=size, most=MAX_BYTES)
    try:
        return path.read_bytes()
    except OSError as wrong:
        raise mistake("custom.unreadable", path=path, reason=wrong.strerror or wrong) from None


def _parsed(path: Path, source: bytes) -> ast.Module:
    try:
        return ast.parse(source, str(path))
    except (SyntaxError, ValueError, RecursionError) as wrong:
        where = f" (line {wrong.lineno})" if isinstance(wrong, SyntaxError) and wrong.lineno else ""
        reason = wrong.msg if isinstance(wrong, SyntaxError) else str(wrong)
        raise mistake("custom.unreadable", path=path, reason=f"{reason}{where}") from None


# --- who has which ------------------------------------------------------------------------------------------------


class Allowed:
    """The files that the user of one machine allows, and which of them a model needs."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        """Raise InputError if a file is missing or not Python."""
        self._files: dict[str, AllowedFile] = {}
        for path in paths:
            self.add(path)

    def add(self, path: Path) -> None:
        """Allow one more file; one that was allowed before is read again.

        Raises:
            InputError: it is missing, or not Python.
        """
        file = allow(path)
        self._files[file.path] = file

    @property
    def specs(self) -> tuple[CustomFile, ...]:
        """What a server is told."""
        return tuple(file.spec for file in self._files.values())

    def of(self, needed: Iterable[CustomFile], objects: Iterable[str] = ()) -> tuple[AllowedFile, ...]:
        """The files that a model needs: the same to the byte, whatever they are called here.

        Args:
            objects: the names of the classes and functions that the model uses.

        Raises:
            InputError: one of them is not allowed here, or is another; what to do is said.
        """
        by_hash = {file.sha256: file for file in self._files.values()}
        for wanted in needed:
            if wanted.sha256 not in by_hash:
                raise self._explain(wanted, objects)
        return tuple(by_hash[wanted.sha256] for wanted in needed)

    def _explain(self, wanted: CustomFile, objects: Iterable[str]) -> LanfitError:
        own = next((file for file in self._files.values() if file.name == wanted.name), None)
        if own is None:
            names = ", ".join(file.name for file in self._files.values())
            return mistake(
                "custom.not-allowed",
                file=wanted.name,
                wanted=short(wanted.sha256),
                own=f" (it allows {names})" if names else "",
            )
        try:
            defined = defined_names(Path(own.path))
        except LanfitError:  # it was changed since it was allowed
            defined = frozenset()
        missing = [name for name in objects if name.rpartition(">")[2] not in defined]
        lacks = f"; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing in it" if missing else ""
        found, needed = short(own.sha256), short(wanted.sha256)
        return mistake("custom.other-file", file=wanted.name, found=found, wanted=needed, lacks=lacks)


def lacking(needed: Iterable[CustomFile], has: Iterable[CustomFile]) -> str:
    """What a server says of a client that can't take part; empty if it has every file that is needed."""
    hashes, names = {file.sha256 for file in has}, {file.name: file.sha256 for file in has}
    for wanted in needed:
        if wanted.sha256 in hashes:
            continue
        if wanted.name in names:
            own = short(names[wanted.name])
            return (
                f"its {wanted.name} (SHA-256 {own}) is not this server's (SHA-256 {short(wanted.sha256)}): copy the "
                f"file to it, and start it again with --custom-objects {wanted.name}"
            )
        return (
            f"it does not allow {wanted.name} (SHA-256 {short(wanted.sha256)}): copy the file to it, and start it with "
            f"--custom-objects {wanted.name}"
        )
    return ""


# --- files, executed ----------------------------------------------------------------------------------------------


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
    """Execute these files, unless that is done: from now on models may use what they define, and nothing else.

    For processes that are there for this alone. Keras must have been imported.

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
    """Forget what was loaded: models may use none of it any more."""
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
    """The files whose objects models may use in this process."""
    return _loaded.files


def class_named(name: object) -> type | None:
    """The class that a loaded file defines or registers under this name."""
    found = _loaded.objects.get(name) if isinstance(name, str) else None
    return found if isinstance(found, type) else None


def function_named(name: object) -> Callable[..., Any] | None:
    """The function that a loaded file defines or registers under this name."""
    found = _loaded.objects.get(name) if isinstance(name, str) else None
    return found if isinstance(found, types.FunctionType) else None


def is_custom(config: object) -> bool:
    """Whether the configuration of an object names one that was loaded, so that Keras finds exactly that one."""
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
    """Why an object is not one of the loaded ones, if files were loaded at all; None without any."""
    if not _loaded.files:
        return None
    files = " or ".join(file.name for file in _loaded.files)
    if name in _loaded.built_in:
        return mistake("custom.keras-name", place=place, kind=kind, name=name, files=files)
    return mistake("custom.missing", place=place, kind=kind, name=name, files=files)


def _execute(file: AllowedFile, loaded: _Loaded) -> None:
    path = Path(file.path)
    source = _read(path)
    if (digest := hashlib.sha256(source).hexdigest()) != file.sha256:
        raise mistake("custom.changed", path=file.name, found=short(digest), wanted=short(file.sha256))
    name = _module_name(path.stem)
    module = types.ModuleType(name)
    module.__file__ = file.path
    sys.modules[name] = module
    loaded.modules.append(name)
    try:
        exec(compile(source, file.path, "exec"), module.__dict__)  # noqa: S102 - what its user allowed
    except Exception as wrong:
        line = _line_in(wrong, file.path)
        reason = f"{type(wrong).__name__}: {wrong}".splitlines()[0]
        raise mistake("custom.failed", file=file.name, reason=f"{reason}{line}") from wrong
    _register(file, module, loaded)


def _module_name(stem: str) -> str:
    """The name that the file has when it is imported, unless that is the name of something else here."""
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
                raise mistake("custom.two-of-a-name", first=Path(first).name, second=file.name, name=key)
            loaded.objects[key] = found


#: Names that a configuration of Keras uses for objects of its own: a file can't put another object in their place.
BUILT_IN: Final = frozenset({name for _, name in known.CLASSES} | known.FUNCTIONS | set(known.REFUSED))


def base_loss(cls: type) -> str:
    """The class of Keras' losses that a custom loss is made of, e.g. "BinaryCrossentropy"; "" if there is none."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == "keras" and base.__name__ in known.LOSSES:
            return base.__name__
    return ""


def check_training(model: Any, file: str) -> None:
    """Refuse models whose own classes change how they are trained: nobody would run that.

    Raises:
        InputError: a loaded class overrides a method of training; both are named.
    """
    import keras

    for layer in [model, *model._flatten_layers(include_self=False)]:
        cls = type(layer)
        if not isinstance(layer, keras.Model) or cls.__module__.partition(".")[0] == "keras":
            continue
        if method := own_training(cls):
            raise mistake("custom.own-training", file=file, name=cls.__name__, method=method)


def own_training(cls: type) -> str:
    """The first method of training that a class defines itself, and Keras does not; "" if there is none."""
    for name in OF_TRAINING:
        for base in cls.__mro__:
            if base.__module__.partition(".")[0] == "keras":
                break
            if name in vars(base):
                return name
    return ""


def names_in(value: object) -> Mapping[str, str]:
    """The loaded classes and functions that a configuration uses, by name: "class" or "function"."""
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
