"""What a model may be made of: the check of an architecture that a file or a peer gave, and the model built from it.

An architecture is the JSON of a Keras 3 configuration (`model.to_json()`). Only built-in classes are let through; no
code is looked up, imported or run by the check, and nothing of Keras is needed for it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from lanfit.errors import InputError
from lanfit.models import known
from lanfit.wire.arrays import DTYPES

MAX_BYTES: Final = 4 << 20
MAX_DEPTH: Final = 100
_LAYER_MODULE: Final = "keras.layers"
#: Values that a configuration may hold besides objects, in Keras' own notation. Not __lambda__, not __typespec__.
_VALUES: Final = frozenset({"__keras_tensor__", "__slice__", "__ellipsis__"})
_ARRAYS: Final = frozenset({"__numpy__", "__tensor__"})


def check_architecture(architecture: str, *, h5: bool = False) -> None:
    """Check that an architecture is a Keras model of built-in parts only.

    With `h5` it may be as the .h5 format has it, where layers do not say which module they are from. What travels
    always says it.

    Raises:
        InputError: it is no model, too large or too deep, or holds something that is not built in: a `Lambda`, a
            custom layer, a function that is not Keras' own. The message names the layer.
    """
    config = parse(architecture, "the architecture")
    outermost = config.get("class_name") if isinstance(config, dict) else None
    if not isinstance(outermost, str) or outermost not in known.MODELS:
        raise InputError(
            f"the architecture is no Keras model that can travel: its outermost class is {outermost!r}",
            "Use a Sequential or a functional model; a subclass of keras.Model carries code.",
        )
    check_objects(config, _LAYER_MODULE if h5 else "")


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
        raise InputError(
            f"Keras {keras.__version__} can't build this model: {first_line(error)}",
            "Load the file with plain Keras of this version, save it again, and use that file.",
        ) from error


def parse(text: str, what: str) -> Any:
    """Return the JSON value in a text of bounded size.

    Raises:
        InputError: the text is too long, nested too deeply, or no JSON.
    """
    if len(text) > MAX_BYTES:
        raise InputError(
            f"{what} has {len(text):,} characters; at most {MAX_BYTES:,} are accepted",
            "Use a smaller model.",
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is no JSON that can be read: {first_line(error)}", "Save the model again.") from error


def check_objects(config: object, module: str) -> None:
    """Check every object in a configuration, however deep it is nested.

    Everything with a `class_name` counts as an object, because Keras would make one of it. `module` is where the
    objects are from that do not say it, as in an .h5; "" accepts none of those.

    Raises:
        InputError: something is not built in, or the nesting is deeper than 100.
    """
    _check(config, module, layer="", depth=0)


def _check(value: object, module: str, layer: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InputError(f"the configuration is nested deeper than {MAX_DEPTH}", "Use a model of built-in layers.")
    if isinstance(value, list):
        for item in value:
            _check(item, module, layer, depth + 1)
    elif isinstance(value, dict):
        if "class_name" in value:
            layer = _check_object(value, module, layer)
            if value["class_name"] in _ARRAYS:
                return
        for item in value.values():
            _check(item, module, layer, depth + 1)


def _check_object(value: dict[str, Any], module: str, layer: str) -> str:
    """Check one object, without what is in it, and return the name of the layer that it belongs to."""
    name, config = value["class_name"], value.get("config")
    own = config.get("name") if isinstance(config, dict) else None
    here = own if isinstance(own, str) else layer
    if not isinstance(name, str):
        _refuse("an object", here, f"gives its class as {type(name).__name__}, not as a name")
    if name in _ARRAYS:
        _check_array(name, config, layer)
        return layer
    if name in _VALUES:
        return layer
    origin, registered = value.get("module", module), value.get("registered_name")
    if name == "function":
        if not (_is_one_of(config, known.FUNCTIONS) and _is_one_of(origin, known.FUNCTION_MODULES)):
            _refuse(f"the function {config!r} from {origin!r}", layer, "is not built into Keras")
        if registered not in (None, "function", config):
            _refuse(f"the function {config!r}", layer, f"is registered as {registered!r}, which is not Keras' own")
        return layer
    if name in known.REFUSED:
        _refuse(f"the class {name}", here, known.REFUSED[name])
    if "module" not in value and module and name in known.MODELS:
        origin = "keras.models"
    if not isinstance(origin, str) or (origin, name) not in known.CLASSES:
        # The latter are the operations of Keras 2: TFOpLambda and SlicingOpLambda.
        operation = str(origin).startswith("keras.src.ops.") or name.endswith("OpLambda")
        _refuse(f"the class {name} from {origin!r}", here, "is not built into Keras", operation)
    if registered not in (None, name):
        _refuse(f"the class {name}", here, f"is registered as {registered!r}, which is not Keras' own")
    if config is not None and not isinstance(config, dict):
        _refuse(f"the class {name}", here, f"has a {type(config).__name__} as its configuration")
    return here


def _check_array(name: str, config: object, layer: str) -> None:
    """Check constants: numbers in nested lists, and a dtype that is not an object."""
    if not (isinstance(config, dict) and _is_one_of(config.get("dtype"), DTYPES) and _numbers(config.get("value"))):
        _refuse(f"the constant {name}", layer, "is not an array of numbers")


def _is_one_of(value: object, names: frozenset[str]) -> bool:
    return isinstance(value, str) and value in names


def _numbers(value: object, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 16 and all(_numbers(item, depth + 1) for item in value)
    return isinstance(value, (bool, int, float))


def _refuse(what: str, layer: str, reason: str, operation: bool = False) -> NoReturn:
    if operation:
        hint = "Write the operation as a layer, e.g. keras.layers.Add() for `a + b`: an .h5 can't hold bare operations."
    else:
        hint = "Models travel as known layers and raw arrays, never as code: build it from Keras' own layers."
    where = f"layer {layer!r}: " if layer else ""
    raise InputError(f"{where}{what} is not accepted: it {reason}", hint)


def first_line(error: BaseException) -> str:
    """The line of an error's text that says most, shortened: Keras' own messages can fill a screen."""
    text = re.sub(r"\{\{[^}]*\}\}", "", str(error).rpartition("Exception encountered: ")[2]).strip()
    text = text or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else line[:297] + "..."
