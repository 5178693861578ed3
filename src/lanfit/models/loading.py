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
from lanfit.mistakes import mistake
from lanfit.models import custom
from lanfit.models.architecture import MAX_BYTES, build, check_architecture, first_line, parse
from lanfit.models.compiling import read_config
from lanfit.models.keras2 import translate_architecture, translate_options
from lanfit.models.subclassed import as_functional, input_dtype, is_subclassed, row_shape
from lanfit.models.weights import get_weights, trainable_names
from lanfit.wire.arrays import DTYPES, AnyArray

#: How many times larger than stored the content of a file may be. Keras does not compress weights.
MAX_RATIO: Final = 100
MAX_TOTAL: Final = 16 << 30
_ARCHIVE: Final = ("metadata.json", "config.json", "model.weights.h5")


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
    trainable: tuple[str, ...]
    """The names of those that training changes by gradients."""
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
        raise error.at(path.name) from error

    import keras

    try:
        if model is None:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        else:
            model.load_weights(path)
    except Exception as error:
        by = f", saved by Keras {version}" if old else ""
        raise mistake(
            "model.not-loaded", file=path.name, version=keras.__version__, saved_by=by, reason=first_line(error)
        ) from error
    custom.check_training(model, path.name)
    if custom.loaded_files() and is_subclassed(model) and model.built and (row := row_shape(model)) is not None:
        model = as_functional(model, row, input_dtype(model))
    _check_arrays(path, model)
    architecture = model.to_json()
    check_architecture(architecture)
    weights = get_weights(model)
    for name, array in weights.items():
        if array.dtype.name not in DTYPES:
            raise mistake("model.dtype", file=path.name, name=name, dtype=array.dtype.name)
    return LoadedModel(
        name=path.stem,
        architecture=architecture,
        compile=spec.to_json() if spec else None,
        weights=weights,
        trainable=trainable_names(model),
        input_shape=tuple(model.inputs[0].shape[1:]),
        input_dtype=str(model.inputs[0].dtype),
        output_shape=tuple(model.outputs[0].shape[1:]),
        output_activation=last_activation(model),
        parameters=int(model.count_params()),
    )


def _read(path: Path) -> tuple[str, str, str]:
    """Return the JSON of a file's model, that of its compile options, and Keras' version ("" for what it lacks)."""
    if not path.exists():
        raise mistake("model.missing", path=path)
    if path.is_dir():
        raise mistake("model.folder", file=path.name)
    if path.stat().st_size == 0:
        raise mistake("model.empty", file=path.name)
    readers = {".h5": _read_h5, ".keras": _read_keras}
    if path.suffix not in readers:
        raise mistake("model.unknown-kind", file=path.name, ending=path.suffix)
    try:
        return readers[path.suffix](path)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, EOFError) as error:
        kind = "HDF5" if path.suffix == ".h5" else ".keras"
        raise mistake("model.damaged", file=path.name, kind=kind, reason=first_line(error)) from error


def _read_h5(path: Path) -> tuple[str, str, str]:
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise mistake("model.weights-only", file=path.name)
        version = _checked_version(path, _text(file.attrs.get("keras_version", "")))
        _check_h5(path, file, path.stat().st_size)
        return _text(file.attrs["model_config"]), _text(file.attrs.get("training_config", "")), version


def _read_keras(path: Path) -> tuple[str, str, str]:
    import h5py

    if h5py.is_hdf5(path):  # as TensorFlow up to 2.12 wrote everything that ends so
        raise mistake("model.hdf5-named-keras", file=path.name, stem=path.stem)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if not {member.filename for member in members}.issuperset(_ARCHIVE):
            raise mistake("model.no-model-in-zip", file=path.name, parts=" or ".join(_ARCHIVE))
        for member in members:
            if member.file_size > MAX_RATIO * member.compress_size:
                raise mistake("model.bomb", file=path.name, member=member.filename, size=member.file_size)
        if sum(member.file_size for member in members) > MAX_TOTAL:
            raise mistake("model.too-large", file=path.name, most=MAX_TOTAL >> 30)
        metadata, config = (_json_in(archive, name, path) for name in _ARCHIVE[:2])
        version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
        version = _checked_version(path, version)
        if version.startswith("2.12."):
            raise mistake("model.first-keras-format", file=path.name, version=version)
        with archive.open("model.weights.h5") as weights, h5py.File(weights, "r") as file:
            _check_h5(path, file, archive.getinfo("model.weights.h5").file_size)
    # The compile options are looked at apart, so that a loss of the user's own is named as that.
    compiled = config.pop("compile_config", None) if isinstance(config, dict) else None
    return json.dumps(config), json.dumps(compiled) if compiled else "", version


def _json_in(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    what, size = f"{path.name}: {name}", archive.getinfo(name).file_size
    if size > MAX_BYTES:  # before it is unpacked
        raise mistake("model.text-too-long", what=what, size=size, most=MAX_BYTES)
    return parse(archive.read(name).decode(), what)


def _check_h5(path: Path, file: Any, size: int) -> None:
    """Refuse links out of the file, and arrays that claim to be far larger than the file."""
    import h5py

    claimed = 0

    def look(group: Any) -> None:
        nonlocal claimed
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise mistake("model.link", file=path.name, name=name)
            item = group[name]
            if isinstance(item, h5py.Group):
                look(item)
            elif item.external or item.is_virtual:
                raise mistake("model.array-outside", file=path.name, name=name)
            else:
                claimed += item.size * item.dtype.itemsize
                if claimed > MAX_RATIO * size:
                    raise mistake("model.array-too-large", file=path.name, name=name, shape=item.shape)

    look(file)


def _checked_version(path: Path, version: str) -> str:
    if version and version.partition(".")[0] not in ("2", "3"):
        raise mistake("model.unknown-version", file=path.name, version=version)
    return version


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _check_arrays(path: Path, model: Any) -> None:
    """Refuse what has not one input and one output array of known rank and free batch size."""
    if not model.built or not getattr(model, "inputs", None):
        raise mistake("model.no-input-shape", file=path.name)
    for what, arrays in [("input", model.inputs), ("output", model.outputs)]:
        if len(arrays) > 1:
            names = ", ".join(str(array.name) for array in arrays)
            raise mistake("model.several-arrays", file=path.name, count=len(arrays), what=what, names=names)
    if model.inputs[0].shape[0] is not None:
        raise mistake("model.fixed-batch", file=path.name, size=model.inputs[0].shape[0])


def last_activation(model: Any) -> str | None:
    """Keras' name of the activation that the output comes from."""
    import keras

    layer = model.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):  # what a subclassed one ends with is in its code
        return last_activation(layer) if getattr(layer, "outputs", None) else None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None)
