"""A model file taken apart: architecture, weights, and what it was compiled with. Nothing in the file is run.

Reads .h5 and .keras of Keras 3 and 2. What is in the file is checked before Keras sees it: the architecture against the
list of built-in classes, and the sizes that the file claims against the size it has.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lanfit.errors import InputError
from lanfit.models.architecture import MAX_BYTES, build, check_architecture, first_line, parse
from lanfit.models.compiling import read_config
from lanfit.models.keras2 import translate_architecture, translate_options
from lanfit.models.weights import get_weights
from lanfit.wire.arrays import DTYPES, AnyArray

#: How many times larger than stored the content of a file may be. Keras does not compress weights.
MAX_RATIO: Final = 100
MAX_TOTAL: Final = 16 << 30
_ARCHIVE: Final = ("metadata.json", "config.json", "model.weights.h5")
_RESAVE: Final = "Save it with Keras 3: model.save('net.keras') or model.save('net.h5')."


@dataclass(frozen=True)
class LoadedModel:
    """A model as it travels. Shapes are those of one row: without the batch dimension."""

    name: str
    """The file's name without its ending."""
    architecture: str
    """JSON, as `keras.Model.to_json` writes it."""
    compile: str | None
    """JSON of a `CompileSpec`, which may lack optimizer or loss; None if the file says neither."""
    weights: dict[str, AnyArray]
    """By unique name, in the order of `keras.Model.weights`."""
    input_shape: tuple[int | None, ...]
    input_dtype: str
    output_shape: tuple[int | None, ...]
    output_activation: str | None
    """Keras' name of the last layer's activation, e.g. "softmax"; None if it has none that is known."""
    parameters: int
    """All of them, as `keras.Model.count_params` counts."""


def load_model(path: Path) -> LoadedModel:
    """Load an .h5 or .keras file of Keras 3 or 2 without running anything in it.

    Raises:
        InputError: the file is missing, no model or damaged; a layer, loss or metric is not built into Keras; the
            model has several inputs or outputs, or no fixed input shape.
    """
    path = Path(path)
    config, compiled, version = _read(path)
    old = version.startswith("2.")
    try:
        if old:
            compiled = compiled and translate_options(compiled)
            model = build(translate_architecture(config))  # which checks it
        else:
            check_architecture(config, h5=path.suffix == ".h5")
            model = None
        spec = read_config(compiled) if compiled else None
    except InputError as error:
        raise InputError(f"{path.name}: {error.message}", error.hint) from error

    import keras

    try:
        if model is None:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        else:
            model.load_weights(path)
    except Exception as error:
        by = f", saved by Keras {version}" if old else ""
        raise _error(path, f"Keras {keras.__version__} can't load it{by}: {first_line(error)}") from error
    _check_arrays(path, model)
    architecture = model.to_json()
    check_architecture(architecture)
    weights = get_weights(model)
    for name, array in weights.items():
        if array.dtype.name not in DTYPES:
            raise _error(path, f"the weight {name!r} has dtype {array.dtype.name}, which can't travel", "Use float32.")
    return LoadedModel(
        name=path.stem,
        architecture=architecture,
        compile=spec.to_json() if spec else None,
        weights=weights,
        input_shape=tuple(model.inputs[0].shape[1:]),
        input_dtype=str(model.inputs[0].dtype),
        output_shape=tuple(model.outputs[0].shape[1:]),
        output_activation=last_activation(model),
        parameters=int(model.count_params()),
    )


def _error(path: Path, what: str, hint: str = _RESAVE) -> InputError:
    return InputError(f"{path.name}: {what}", hint)


def _read(path: Path) -> tuple[str, str, str]:
    """Return the JSON of a file's model, that of its compile options, and Keras' version ("" for what it lacks)."""
    if not path.exists():
        raise InputError(f"there is no model file {path}", "Give the name of a file in model/, or a path to one.")
    if path.is_dir():
        raise _error(path, "this is a folder, not a model file", "A SavedModel can't be read. " + _RESAVE)
    if path.stat().st_size == 0:
        raise _error(path, "the file is empty")
    readers = {".h5": _read_h5, ".keras": _read_keras}
    if path.suffix not in readers:
        raise _error(path, f"a file ending in {path.suffix!r} is no model", "Models end in .h5 or .keras. " + _RESAVE)
    try:
        return readers[path.suffix](path)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, EOFError) as error:
        kind = "HDF5" if path.suffix == ".h5" else ".keras"
        raise _error(path, f"this is no {kind} file, or a damaged one: {first_line(error)}") from error


def _read_h5(path: Path) -> tuple[str, str, str]:
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise _error(
                path,
                "the file holds no architecture, weights at most",
                "Was it written by save_weights? Save the whole model: model.save('net.keras').",
            )
        version = _checked_version(path, _text(file.attrs.get("keras_version", "")))
        _check_h5(path, file, path.stat().st_size)
        return _text(file.attrs["model_config"]), _text(file.attrs.get("training_config", "")), version


def _read_keras(path: Path) -> tuple[str, str, str]:
    import h5py

    if h5py.is_hdf5(path):  # as TensorFlow up to 2.12 wrote everything that ends so
        raise _error(path, "the file ends in .keras, but it is an HDF5 file", f"Rename it to {path.stem}.h5.")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if not {member.filename for member in members}.issuperset(_ARCHIVE):
            raise _error(path, f"this is a zip file, but no Keras model: it lacks {' or '.join(_ARCHIVE)}")
        for member in members:
            if member.file_size > MAX_RATIO * member.compress_size:
                raise _error(path, f"{member.filename} unpacks to {member.file_size:,} bytes, too much for its size")
        if sum(member.file_size for member in members) > MAX_TOTAL:
            raise _error(path, f"the file unpacks to more than {MAX_TOTAL >> 30} GiB", "Use a smaller model.")
        for name in _ARCHIVE[:2]:
            if archive.getinfo(name).file_size > MAX_BYTES:
                raise _error(path, f"{name} has more than {MAX_BYTES:,} bytes", "Use a smaller model.")
        metadata = parse(archive.read("metadata.json").decode(), "metadata.json")
        version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
        version = _checked_version(path, version)
        if version.startswith("2.12."):
            what = f"the file is in the first form of .keras, which only Keras {version} reads"
            raise _error(path, what, "Save it there as .h5: model.save('net.h5').")
        with archive.open("model.weights.h5") as weights, h5py.File(weights, "r") as file:
            _check_h5(path, file, archive.getinfo("model.weights.h5").file_size)
        config = parse(archive.read("config.json").decode(), "config.json")
    # The compile options are looked at apart, so that a loss of the user's own is named as that.
    compiled = config.pop("compile_config", None) if isinstance(config, dict) else None
    return json.dumps(config), json.dumps(compiled) if compiled else "", version


def _check_h5(path: Path, file: Any, size: int) -> None:
    """Refuse links out of the file, and arrays that claim to be far larger than the file."""
    import h5py

    claimed = 0

    def look(group: Any) -> None:
        nonlocal claimed
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _error(path, f"{name!r} links to somewhere else")
            item = group[name]
            if isinstance(item, h5py.Group):
                look(item)
            elif item.external or item.is_virtual:
                raise _error(path, f"the array {name!r} lies outside the file")
            else:
                claimed += item.size * item.dtype.itemsize
                if claimed > MAX_RATIO * size:
                    raise _error(path, f"the array {name!r} claims the shape {item.shape}, too much for its file")

    look(file)


def _checked_version(path: Path, version: str) -> str:
    if version and version.partition(".")[0] not in ("2", "3"):
        raise _error(path, f"the model was saved by Keras {version}", "Files of Keras 2 and 3 can be read. " + _RESAVE)
    return version


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _check_arrays(path: Path, model: Any) -> None:
    """Refuse what has not one input and one output array of known rank and free batch size."""
    if not model.built or not getattr(model, "inputs", None):
        raise _error(path, "the model has no input shape yet", "Begin it with keras.Input(shape=...), or call it once.")
    for what, arrays in [("input", model.inputs), ("output", model.outputs)]:
        if len(arrays) > 1:
            names = ", ".join(str(array.name) for array in arrays)
            raise _error(path, f"the model has {len(arrays)} {what} arrays ({names})", f"Use a model with one {what}.")
    if model.inputs[0].shape[0] is not None:
        size = model.inputs[0].shape[0]
        raise _error(path, f"the model takes batches of exactly {size} rows", "Use keras.Input without a batch size.")


def last_activation(model: Any) -> str | None:
    """Keras' name of the activation that the output comes from."""
    import keras

    layer = model.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        return last_activation(layer)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None)
