"""Loads a model file: architecture, weights, and compile options. No code in the file is run.

Reads what Keras 3 and 2 wrote: .h5, .keras, and an architecture with its weights beside it. What is in the file is
checked before Keras sees it: the architecture against the list of built-in classes, and the sizes that the file claims
against the size it has.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lanfit.core.text import pluralize
from lanfit.data.shard import OF
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.models import custom
from lanfit.models.architecture import build, check_architecture, first_line
from lanfit.models.compiling import FileOptions, read_options
from lanfit.models.frozen import freeze_parts, thaw, with_frozen_sequentials
from lanfit.models.keras2 import translate, translate_options
from lanfit.models.keras2_weights import read_weights, scale_hard_sigmoid
from lanfit.models.mending import with_free_batch, without_unknown_nulls
from lanfit.models.model_file import ModelFile, groups_in, is_legacy_group, read_model_file
from lanfit.models.structure import input_names, is_flat, output_names
from lanfit.models.subclassed import as_functional, input_dtype, is_subclassed, row_shape
from lanfit.models.weights import get_weights, trainable_names
from lanfit.wire.arrays import DTYPES, AnyArray
from lanfit.wire.tasks import MOST_ARRAYS

#: Characters in the name of an input or output; it is a part of the names of figures and arrays.
LONGEST_NAME: Final = 100


@dataclass(frozen=True)
class LoadedInput:
    """One array that a model takes. Shapes are those of one row: without the batch dimension."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    ids: int | None
    """The number of ids of the Embedding that it feeds, which range from 0; None if it feeds none."""


@dataclass(frozen=True)
class LoadedOutput:
    """One array that a model gives."""

    name: str
    shape: tuple[int | None, ...]
    activation: str | None
    """Keras' name of the last layer's activation, e.g. "softmax"; None if it has none that is known."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in the form for messages. Shapes are those of one row: without the batch dimension."""

    name: str
    """The file's name without its ending."""
    architecture: str
    """JSON, as `keras.Model.to_json` writes it."""
    compile: str | None
    """JSON of a `CompileSpec`, which may lack optimizer or loss; None if the file has neither."""
    weights: dict[str, AnyArray]
    """By unique name, in the order of `keras.Model.weights`."""
    trainable: tuple[str, ...]
    """The names of the trainable weights."""
    inputs: tuple[LoadedInput, ...]
    """In the model's order."""
    outputs: tuple[LoadedOutput, ...]
    parameters: int
    """All of them, as `keras.Model.count_params` counts."""
    notes: tuple[str, ...] = ()
    """Sentences for the operator: what was converted, and what was guessed."""
    problems: Mapping[str, LanfitError] = field(default_factory=dict)
    """What is wrong with the "optimizer" or the "loss" in the file; it matters only if none is given instead."""
    left_out: tuple[str, ...] = ()
    """The names of metrics that the file was compiled with and Keras does not know."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of the first input; likewise of the first output."""
        return self.inputs[0].shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return self.outputs[0].shape

    @property
    def is_single(self) -> bool:
        """Whether it takes one array and gives one."""
        return len(self.inputs) == len(self.outputs) == 1


def load_model(path: Path) -> LoadedModel:
    """Load a file of Keras 3 or 2 without running anything in it.

    Raises:
        InputError: the file is missing, no model or damaged; a layer is not built into Keras; the model has nested
            inputs or outputs, or no fixed input shape.
    """
    path = Path(path)
    try:
        return _load(path)
    except (LanfitError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file can hold anything where Keras and HDF5 expect something
        kind = ".keras" if path.suffix.lower() == ".keras" else "HDF5"
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise lanfit_error("model.damaged", file=path.name, kind=kind, reason=reason) from error


def _load(path: Path) -> LoadedModel:
    file = read_model_file(path)
    try:
        compiled = file.compiled and (translate_options(file.compiled) if file.is_old else file.compiled)
        options = read_options(compiled) if compiled else FileOptions()
        model, notes = _old_model(file) if file.is_old else _model(file)
    except InputError as error:
        raise error if path.name in error.message else error.at(path.name) from error
    custom.check_training(model, path.name)
    if custom.loaded_files() and is_subclassed(model) and model.built and (row := row_shape(model)) is not None:
        model = as_functional(model, row, input_dtype(model))
    _check_arrays(path, model)
    names = output_names(model)
    if compiled and len(names) > 1:
        options = read_options(compiled, names)
    architecture = model.to_json()
    check_architecture(architecture)
    weights = get_weights(model)
    for name, array in weights.items():
        if array.dtype.name not in DTYPES:
            raise lanfit_error("model.dtype", file=path.name, name=name, dtype=array.dtype.name)
    return LoadedModel(
        name=path.stem,
        architecture=architecture,
        compile=options.spec.to_json() if options.spec else None,
        weights=weights,
        trainable=trainable_names(model),
        inputs=tuple(
            LoadedInput(name, tuple(each.shape[1:]), str(each.dtype), _ids_taken(model, each))
            for name, each in zip(input_names(model), model.inputs, strict=True)
        ),
        outputs=tuple(
            LoadedOutput(name, tuple(each.shape[1:]), activation_of(each))
            for name, each in zip(names, model.outputs, strict=True)
        ),
        parameters=int(model.count_params()),
        notes=(*file.notes, *notes),
        problems=options.problems,
        left_out=options.left_out,
    )


def _old_model(file: ModelFile) -> tuple[Any, tuple[str, ...]]:
    """Return the model in a file of Keras 2, with its weights."""
    import h5py

    translation = translate(file.architecture)
    architecture, size = with_free_batch(translation.architecture)
    model, notes = _built(file, architecture)
    found: tuple[str, ...] = _freed(size)
    try:
        if file.kind == "zip":
            _load_weights(file, model)
        else:
            with h5py.File(file.weights, "r") as opened:
                group = opened.get("model_weights", opened)
                is_legacy = is_legacy_group(group)
                if is_legacy:
                    found += read_weights(group, model, architecture)
            if not is_legacy:
                _load_weights(file, model)
    except InputError:
        raise
    except Exception as error:
        raise _not_loaded(file, error) from error
    scale_hard_sigmoid(model)
    return model, (*translation.notes, *notes, *found, *freeze_parts(model, architecture))


def _model(file: ModelFile) -> tuple[Any, tuple[str, ...]]:
    """Return the model in a file of Keras 3, with its weights."""
    import keras

    in_h5 = file.kind == "h5" and file.is_complete
    try:
        check_architecture(file.architecture, h5=in_h5)
    except InputError as error:
        raise _newer(file, error) from error
    if not file.is_complete:
        model, notes = _built(file, file.architecture)
        try:
            _load_weights(file, model)
        except Exception as error:
            raise _not_loaded(file, error) from error
        return model, notes
    freed, size = with_free_batch(file.architecture)
    frozen = with_frozen_sequentials(freed) if in_h5 else ""
    if size or frozen:
        model, notes = _mended(file, frozen or freed, _freed(size))
        if frozen:
            thaw(model, freed)
        return model, notes
    ending = ".h5" if in_h5 else ".keras"
    try:
        with _named(file.path, ending) as path:
            return keras.models.load_model(path, compile=False, safe_mode=True), ()
    except Exception as error:
        mended, dropped = without_unknown_nulls(file.architecture)
        if not dropped:
            raise _newer(file, _not_loaded(file, error)) from error
    return _mended(file, mended, _dropped(file, dropped))


def _mended(file: ModelFile, architecture: str, notes: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Return the model in a file of Keras 3 with another architecture."""
    import keras

    try:
        with _with_architecture(file, architecture) as path:
            return keras.models.load_model(path, compile=False, safe_mode=True), notes
    except Exception as error:
        raise _newer(file, _not_loaded(file, error)) from error


def _freed(size: int) -> tuple[str, ...]:
    free = "no layer keeps state, so any batch size is accepted"
    return (f"the model takes batches of exactly {pluralize(size, 'row')}; {free}",) if size else ()


def _built(file: ModelFile, architecture: str) -> tuple[Any, tuple[str, ...]]:
    """Return the model of an architecture, without unknown keys that have no effect."""
    try:
        return build(architecture), ()
    except InputError as error:
        mended, dropped = without_unknown_nulls(architecture) if error.code == "model.not-built" else ("", ())
        if not dropped:
            raise _newer(file, error) from error
    try:
        return build(mended), _dropped(file, dropped)
    except InputError as error:
        raise _newer(file, error) from error


def _dropped(file: ModelFile, names: tuple[str, ...]) -> tuple[str, ...]:
    import keras

    by = f"Keras {file.version}" if file.version else "another Keras"
    return (
        f"the file was saved by {by}; Keras {keras.__version__} does not know {', '.join(names)}, left out because "
        "they are null",
    )


def _newer(file: ModelFile, error: LanfitError) -> LanfitError:
    """Add the versions to an error if the file is of a later Keras than the installed one."""
    import keras

    if not _numbers(file.version) > _numbers(keras.__version__):
        return error
    return lanfit_error(
        "model.newer-keras", file=file.path.name, saved_by=file.version, here=keras.__version__, reason=error.message
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _not_loaded(file: ModelFile, error: Exception) -> LanfitError:
    import keras

    by = f", saved by Keras {file.version}" if file.version else ""
    return lanfit_error(
        "model.not-loaded", file=file.path.name, version=keras.__version__, saved_by=by, reason=first_line(error)
    )


# --- files as Keras expects them: their names identify them -----------------------------------------------------


@contextmanager
def _named(path: Path, ending: str) -> Iterator[Path]:
    """Yield the file under a name with an ending that Keras accepts."""
    if path.name.endswith(ending):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="lanfit-") as folder:
        named = Path(folder, f"model{ending}")
        try:
            os.symlink(path.resolve(), named)
        except OSError:  # Windows, without the right to
            shutil.copyfile(path, named)
        yield named


@contextmanager
def _with_architecture(file: ModelFile, architecture: str) -> Iterator[Path]:
    """Yield a copy of a file with another architecture."""
    import h5py

    with tempfile.TemporaryDirectory(prefix="lanfit-") as folder:
        copy = Path(folder, "model.h5" if file.kind == "h5" else "model.keras")
        if file.kind == "h5":
            shutil.copyfile(file.path, copy)
            with h5py.File(copy, "r+") as opened:
                opened.attrs["model_config"] = architecture
        else:
            with zipfile.ZipFile(file.path) as old, zipfile.ZipFile(copy, "w") as new:
                for member in old.infolist():
                    with old.open(member) as source, new.open(member.filename, "w", force_zip64=True) as target:
                        if member.filename == "config.json":
                            target.write(architecture.encode())
                        else:
                            shutil.copyfileobj(source, target, 1 << 20)
        yield copy


def _load_weights(file: ModelFile, model: Any) -> None:
    """Let Keras load the weights of its newer formats into a model."""
    import h5py

    if file.kind == "h5":
        with h5py.File(file.weights, "r") as opened:
            ending = ".h5" if is_legacy_group(opened) else ".weights.h5"
        with _named(file.weights, ending) as path:
            model.load_weights(path)
        return
    with tempfile.TemporaryDirectory(prefix="lanfit-") as folder:
        weights = Path(folder, "model.weights.h5")
        with (
            zipfile.ZipFile(file.path) as archive,
            archive.open("model.weights.h5") as source,
            weights.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
        with h5py.File(weights, "r+") as opened:
            mend_backslashes(opened)
        model.load_weights(weights)


def mend_backslashes(file: Any) -> None:
    """Make paths of the names that Keras 2 on Windows gave to groups: `layers\\dense` is `dense` in `layers`."""
    for group in groups_in(file):
        for name in list(group):
            if "\\" in name:
                group.move(name, name.replace("\\", "/"))


def _check_arrays(path: Path, model: Any) -> None:
    """Check that inputs and outputs have a known rank, a free batch size and distinct names."""
    if not model.built or not getattr(model, "inputs", None):
        raise lanfit_error("model.no-input-shape", file=path.name)
    for what, arrays in [("input", model.inputs), ("output", model.outputs)]:
        if len(arrays) > MOST_ARRAYS:
            raise lanfit_error("model.many-arrays", file=path.name, count=len(arrays), what=what, most=MOST_ARRAYS)
    if not is_flat(model):
        raise lanfit_error("model.nested-arrays", file=path.name)
    for what, names in [("input", input_names(model)), ("output", output_names(model))]:
        for name in names if len(names) > 1 else ():
            if names.count(name) > 1 or not name.isprintable() or OF in name or len(name) > LONGEST_NAME:
                raise lanfit_error("model.array-name", file=path.name, what=what, name=name[:LONGEST_NAME])
    for each in model.inputs:
        if each.shape[0] is not None:
            raise lanfit_error("model.fixed-batch", file=path.name, size=each.shape[0])


def _ids_taken(model: Any, taken: Any) -> int | None:
    """Return the number of ids of the embeddings that take an input directly; None without one."""
    import keras

    known = [
        layer.input_dim
        for layer in model.layers
        if isinstance(layer, keras.layers.Embedding)
        for node in layer._inbound_nodes
        if any(tensor is taken for tensor in node.input_tensors)
    ]
    return min(known, default=None)


def activation_of(output: Any) -> str | None:
    """Keras' name of the activation that an output of a model comes from."""
    import keras

    layer, _, number = output._keras_history
    if isinstance(layer, keras.Model):  # the last activation of a subclassed model is in its code
        return activation_of(layer.outputs[number]) if getattr(layer, "outputs", None) else None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None)
