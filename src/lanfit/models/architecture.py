"""The check of an architecture that a file or a peer gave, and the model built from it.

An architecture is the JSON of a Keras 3 configuration (`model.to_json()`). Only built-in classes and the custom objects
that this process has loaded (lanfit.models.custom) are accepted. The check does not look up, import or run code, and
does not need Keras.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from lanfit.core.memory import ran_out
from lanfit.errors import lanfit_error
from lanfit.models import allowlist, custom
from lanfit.models.operations import CALLING
from lanfit.wire.arrays import DTYPES

MAX_BYTES: Final = 4 << 20
MAX_DEPTH: Final = 100
#: Keras takes seconds to build hundreds, and the JSON of 2,000 does not fit into a message.
MAX_LAYERS: Final = 2000
_LAYER_MODULE: Final = "keras.layers"
_OPERATIONS: Final = "keras.src.ops."
#: Values that a configuration may hold besides objects, in Keras' own notation. Not __lambda__, not __typespec__.
_VALUES: Final = frozenset({"__keras_tensor__", "__slice__", "__ellipsis__"})
_ARRAYS: Final = frozenset({"__numpy__", "__tensor__"})


def check_architecture(architecture: str, *, h5: bool = False) -> None:
    """Check that an architecture is a Keras model of built-in parts only.

    With `h5`, layers may lack the name of their module, as in the .h5 format. Architectures in messages always have it.

    Raises:
        InputError: it is not a model, is too large or too deep, has too many layers, or contains something that is not
            built in: a `Lambda`, a custom layer, a function that is not Keras' own. The message names the layer.
    """
    config = parse(architecture, "the architecture")
    outermost = config.get("class_name") if isinstance(config, dict) else None
    if not isinstance(outermost, str) or (outermost not in allowlist.MODELS and not custom.is_custom(config)):
        if isinstance(outermost, str) and (missing := custom.refusal("class", outermost, "")) is not None:
            raise missing
        raise lanfit_error("model.no-model", name=outermost)
    if (layers := count_layers(config)) > MAX_LAYERS:
        raise lanfit_error("model.too-many-layers", layers=layers, most=MAX_LAYERS)
    check_objects(config, _LAYER_MODULE if h5 else "")


def count_layers(config: object) -> int:
    """Return how many layers a configuration has, at any depth."""
    count, waiting = 0, [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = value.get("class_name")
            is_layer = isinstance(name, str) and name in allowlist.LAYERS
            count += is_layer and value.get("module", _LAYER_MODULE) not in ("keras.initializers", None)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return count


def build(architecture: str) -> Any:
    """Check an architecture and return the `keras.Model` it describes, not compiled, with fresh random weights.

    Raises:
        InputError: the architecture is refused, or Keras can't build it.
    """
    check_architecture(architecture)
    import keras

    try:
        return keras.models.model_from_json(architecture)
    except Exception as error:
        if ran_out(error):
            raise MemoryError(first_line(error)) from error
        raise lanfit_error("model.not-built", version=keras.__version__, reason=first_line(error)) from error


def parse(text: str, what: str) -> Any:
    """Return the JSON value in a text of bounded size.

    Raises:
        InputError: the text is too long, nested too deeply, or not JSON.
    """
    if len(text) > MAX_BYTES:
        raise lanfit_error("model.text-too-long", what=what, size=len(text), most=MAX_BYTES)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise lanfit_error("model.not-json", what=what, reason=first_line(error)) from error


def check_objects(config: object, module: str, kind: str = "layer") -> None:
    """Check every object in a configuration, at any depth.

    Everything with a `class_name` counts as an object, because Keras would create one from it. `module` is the module
    of objects that do not name theirs, as in an .h5; "" rejects those. `kind` is the name of the outermost object in
    errors.

    Raises:
        InputError: something is not built in, or the nesting is deeper than 100.
    """
    _check(config, module, _Location(kind), depth=0)


@dataclass(frozen=True)
class _Location:
    """The part of a model that an object belongs to."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        """Return the beginning of errors about it."""
        return f"{self.kind} {self.name!r}: " if self.name else ""


def _check(value: object, module: str, location: _Location, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise lanfit_error("model.too-deep", most=MAX_DEPTH)
    if isinstance(value, list):
        for item in value:
            _check(item, module, location, depth + 1)
    elif isinstance(value, dict):
        if "class_name" in value:
            location = _check_object(value, module, location)
            if value["class_name"] in _ARRAYS:
                return
        for item in value.values():
            _check(item, module, location, depth + 1)


def _check_object(value: dict[str, Any], module: str, location: _Location) -> _Location:
    """Check one object, without nested ones, and return the part that it belongs to."""
    name, config = value["class_name"], value.get("config")
    own = config.get("name") if isinstance(config, dict) else None
    here = replace(location, name=own) if isinstance(own, str) else location
    if not isinstance(name, str):
        raise lanfit_error("model.spoilt-part", place=here, what="an object whose class is not given as a name")
    if name in _ARRAYS:
        _check_array(name, config, location)
        return location
    if name in _VALUES:
        return location
    origin, registered = value.get("module", module), value.get("registered_name")
    if custom.is_custom(value):
        return here
    if name == "function":
        if not (_is_one_of(config, allowlist.FUNCTIONS) and _is_one_of(origin, allowlist.FUNCTION_MODULES)):
            if (missing := custom.refusal("function", config, str(location))) is not None:
                raise missing
            raise lanfit_error("model.foreign-function", place=location, name=config, origin=_from(origin))
        if registered not in (None, "function", config):
            raise lanfit_error("model.registered", place=location, kind="function", name=config, registered=registered)
        return location
    if name in allowlist.LOOKUPS:
        raise lanfit_error("model.lookup", place=here, name=name, reason=allowlist.REFUSED[name])
    if name in allowlist.REFUSED and (name not in CALLING or str(origin).startswith(_OPERATIONS)):
        raise lanfit_error("model.refused-class", place=here, name=name, reason=allowlist.REFUSED[name])
    if "module" not in value and module and name in allowlist.MODELS:
        origin = "keras.models"
    if not isinstance(origin, str) or (origin, name) not in allowlist.CLASSES:
        # The latter are the operations of Keras 2: TFOpLambda and SlicingOpLambda.
        if str(origin).startswith(_OPERATIONS) or name.endswith("OpLambda"):
            raise lanfit_error("model.operation", place=here, name=name, module=origin)
        if (missing := custom.refusal("class", name, str(here))) is not None:
            raise missing
        if "module" not in value and module and name in allowlist.NOT_IN_H5:
            raise lanfit_error("model.not-in-h5", place=here, name=name)
        raise lanfit_error("model.foreign-class", place=here, name=name, origin=_from(origin))
    if registered not in (None, name):
        raise lanfit_error("model.registered", place=here, kind="class", name=name, registered=registered)
    if config is not None and not isinstance(config, dict):
        raise lanfit_error("model.spoilt-part", place=here, what=f"the class {name} without a dict of options")
    return here


def _check_array(name: str, config: object, location: _Location) -> None:
    """Check constants: numbers in nested lists, and a dtype that is not an object."""
    if not (isinstance(config, dict) and _is_one_of(config.get("dtype"), DTYPES) and _numbers(config.get("value"))):
        raise lanfit_error(
            "model.spoilt-part", place=location, what=f"a constant {name} that is not an array of numbers"
        )


def _is_one_of(value: object, names: frozenset[str]) -> bool:
    return isinstance(value, str) and value in names


def _numbers(value: object, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 16 and all(_numbers(item, depth + 1) for item in value)
    return isinstance(value, (bool, int, float))


def _from(module: object) -> str:
    """Return the module that an object names; "" if it names none."""
    return f" from {module!r}" if isinstance(module, str) and module else ""


def first_line(error: BaseException) -> str:
    """Return the most informative line of an error, shortened: Keras' own messages can fill a screen."""
    text = re.sub(r"\{\{[^}]*\}\}", "", str(error).rpartition("Exception encountered: ")[2]).strip()
    text = text or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else line[:297] + "..."
