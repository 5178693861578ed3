"""Detects the format of a model file by its content, and reads its JSON. No code in it is run; Keras is not needed.

The sizes that a file claims are checked against the size it has before anything is unpacked.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lanfit.errors import LanfitError, lanfit_error
from lanfit.models.architecture import MAX_BYTES, first_line, parse

#: How many times larger than stored the content of a file may be. Keras does not compress weights.
MAX_RATIO: Final = 100
MAX_TOTAL: Final = 16 << 30
#: The endings of model files, in any case; other files must be given by their full name.
HDF5_ENDINGS: Final = (".h5", ".hdf5", ".hdf")
ENDINGS: Final = (*HDF5_ENDINGS, ".keras")
_ARCHIVE: Final = ("metadata.json", "config.json", "model.weights.h5")

_SAVE_AS_H5: Final = "save it as .h5 there: keras.models.load_model({file!r}).save('net.h5')"
_TRAINED: Final = "Use the Keras model that it was converted from (.h5 or .keras)."
_TORCH: Final = (
    "lanfit trains Keras models: build the network from Keras' layers and save it with model.save('net.keras')."
)
_PICKLE: Final = (
    "A pickle can execute code, so it is never opened. In the environment that created it: model = "
    "pickle.load(open({file!r}, 'rb')), then model.save('net.keras')."
)
#: Ending → what such a file is, and a hint. `{file}` is its name.
_FOREIGN: Final = {
    ".pb": (
        "a TensorFlow graph, a program without layers",
        f"Open its folder with TensorFlow 2.15 or earlier and {_SAVE_AS_H5}.",
    ),
    ".tflite": ("a TensorFlow Lite model, which can't be trained", _TRAINED),
    ".onnx": ("an ONNX model", _TRAINED),
    ".mlmodel": ("a Core ML model", _TRAINED),
    **dict.fromkeys([".pt", ".pth"], ("a PyTorch file", _TORCH)),
    ".safetensors": ("a file of arrays without a model", _TORCH),
    **dict.fromkeys([".pkl", ".pickle", ".joblib", ".sav"], ("a pickle", _PICKLE)),
    **dict.fromkeys(
        [".ckpt", ".index", ".data-00000-of-00001"],
        (
            "a TensorFlow checkpoint: weights without an architecture",
            "Build the model, load the checkpoint with model.load_weights, and save the whole model: "
            "model.save('net.keras').",
        ),
    ),
}
_FOREIGN_ZIP: Final = {
    "data.pkl": _FOREIGN[".pt"],
    "saved_model.pb": (
        "a zipped TensorFlow SavedModel",
        f"Extract it, open the folder with TensorFlow 2.15 or earlier and {_SAVE_AS_H5}.",
    ),
}
#: First bytes of files that a download or another program left, from an offset.
_STARTS: Final = (
    (0, b"version https://git-lfs", ("a Git LFS pointer, not the file itself", "Fetch the file: git lfs pull.")),
    (0, b"<", ("a web page, not the file itself", "Download the file itself; on GitHub, use its raw link.")),
    (4, b"TFL3", _FOREIGN[".tflite"]),
    *((0, bytes([0x80, protocol]), _FOREIGN[".pkl"]) for protocol in range(2, 6)),
)


@dataclass(frozen=True)
class ModelFile:
    """The content of a file. Texts are JSON, and empty if the file does not have them."""

    path: Path
    kind: str
    """The format of the weights: "h5" or "zip"."""
    architecture: str
    compiled: str
    version: str
    """The version of Keras that saved it."""
    weights: Path
    """The file with the weights: `path` itself, or the one next to a file with the architecture alone."""
    notes: tuple[str, ...] = ()
    is_complete: bool = True
    """Whether architecture and weights are in one file."""

    @property
    def is_old(self) -> bool:
        """Whether Keras 2 wrote it."""
        if self.version:
            return self.version.startswith("2.")
        return '"batch_input_shape"' in self.architecture or not (self.is_complete or '"module"' in self.architecture)


def read_model_file(path: Path) -> ModelFile:
    """Read the content of a file except its arrays.

    Raises:
        InputError: it is missing, of another kind, damaged or claims to be larger than it is.
    """
    kind = _kind(path)
    try:
        if kind == "zip":
            return _read_zip(path)
        return _read_h5(path) if kind == "h5" else _read_json(path)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, EOFError) as error:
        names = {"zip": ".keras", "h5": "HDF5", "json": "JSON"}
        raise lanfit_error("model.damaged", file=path.name, kind=names[kind], reason=first_line(error)) from error


def is_model_name(name: str) -> bool:
    """Return whether a file of this name is used as a model by default: by its ending, unless it names weights."""
    stem, dot, ending = name.lower().rpartition(".")
    return dot + ending in ENDINGS and not stem.endswith((".weights", "_weights", "-weights"))


def is_legacy_group(group: Any) -> bool:
    """Return whether an HDF5 group holds weights layer by layer, as Keras 2 and .h5 files do."""
    return "layer_names" in group.attrs or "layer_names0" in group.attrs


# --- which kind -------------------------------------------------------------------------------------------------


def _kind(path: Path) -> str:
    """Return "h5", "zip" or "json".

    Raises:
        InputError: it is something else, which is named.
    """
    import h5py

    if not path.exists():
        raise lanfit_error("model.missing", path=path)
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            raise lanfit_error("model.saved-model", file=path.name)
        raise lanfit_error("model.folder", file=path.name)
    if path.stat().st_size == 0:
        raise lanfit_error("model.empty", file=path.name)
    if h5py.is_hdf5(path):
        return "h5"
    if zipfile.is_zipfile(path):
        return "zip"
    with path.open("rb") as file:
        start = file.read(64)
    ending = path.suffix.lower()
    found = next((what for at, begin, what in _STARTS if start[at:].startswith(begin)), _FOREIGN.get(ending))
    if found:
        raise _foreign(path, found)
    if start.lstrip().startswith(b"{") or ending == ".json":
        return "json"
    if ending not in ENDINGS:
        raise lanfit_error("model.unknown-kind", file=path.name, ending=path.suffix)
    kind = "HDF5" if ending in HDF5_ENDINGS else ".keras"
    raise lanfit_error("model.damaged", file=path.name, kind=kind, reason=f"it begins with {start[:8]!r}")


def _foreign(path: Path, found: tuple[str, str]) -> LanfitError:
    what, advice = found
    return lanfit_error(
        "model.foreign-format", file=path.name, what=what, advice=advice.format(file=path.name).removesuffix(".")
    )


def _misnamed(path: Path, ending: str) -> tuple[str, ...]:
    names = {".keras": "the zip format of .keras", ".h5": "HDF5"}
    endings = HDF5_ENDINGS if ending == ".h5" else (ending,)
    if path.suffix.lower() in endings:
        return ()
    return (f"the file is in {names[ending]} regardless of its name, and is read as {ending}",)


# --- HDF5 -------------------------------------------------------------------------------------------------------


def _read_h5(path: Path) -> ModelFile:
    import h5py

    with h5py.File(path, "r") as file:
        _check_h5(path, file, path.stat().st_size)
        if "model_config" not in file.attrs:
            return _beside_weights(path, file)
        version = _checked_version(path, _text(file.attrs.get("keras_version", "")))
        architecture, compiled = (_text(file.attrs.get(name, "")) for name in ("model_config", "training_config"))
    return ModelFile(path, "h5", architecture, compiled, version, path, _misnamed(path, ".h5"))


def groups_in(file: Any) -> Iterator[Any]:
    """Yield every group of an HDF5 file once, itself first, for any number of links to it.

    Of 40 groups with two links to the next each there are 2^40 paths, and a group may link to itself. What a group
    links to is looked at after it was yielded.
    """
    import h5py

    seen: set[int] = set()
    waiting = [file]
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address not in seen:
            seen.add(address)
            yield group
            waiting += [item for item in group.values() if isinstance(item, h5py.Group)]


def _check_h5(path: Path, file: Any, size: int) -> None:
    """Reject links out of the file, arrays that are not numeric, and arrays declared far larger than the file."""
    import h5py

    claimed = 0
    for group in groups_in(file):
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise lanfit_error("model.link", file=path.name, name=name)
            item = group[name]
            if isinstance(item, h5py.Group):
                continue
            if item.external or item.is_virtual:
                raise lanfit_error("model.array-outside", file=path.name, name=name)
            if item.dtype.kind == "O" or item.dtype.names:  # strings, references, lists of any length, structures
                raise lanfit_error("model.array-of-objects", file=path.name, name=name)
            claimed += item.size * item.dtype.itemsize
            if claimed > MAX_RATIO * size:
                raise lanfit_error("model.array-too-large", file=path.name, name=name, shape=item.shape)


# --- the zip format of .keras -----------------------------------------------------------------------------------


def _read_zip(path: Path) -> ModelFile:
    import h5py

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_members(path, [member.filename for member in members])
        for member in members:
            if member.file_size > MAX_RATIO * member.compress_size:
                raise lanfit_error("model.bomb", file=path.name, member=member.filename, size=member.file_size)
        if sum(member.file_size for member in members) > MAX_TOTAL:
            raise lanfit_error("model.too-large", file=path.name, most=MAX_TOTAL >> 30)
        metadata, config = (_json_in(archive, name, path) for name in _ARCHIVE[:2])
        version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
        version = _checked_version(path, version)
        if version.startswith("2.12."):
            raise lanfit_error("model.first-keras-format", file=path.name, version=version)
        with archive.open("model.weights.h5") as weights, h5py.File(weights, "r") as file:
            _check_h5(path, file, archive.getinfo("model.weights.h5").file_size)
    # The compile options are checked separately, so that a custom loss is reported as such.
    compiled = config.pop("compile_config", None) if isinstance(config, dict) else None
    texts = json.dumps(config), json.dumps(compiled) if compiled else ""
    return ModelFile(path, "zip", *texts, version, path, _misnamed(path, ".keras"))


def _check_members(path: Path, names: list[str]) -> None:
    if {*names}.issuperset(_ARCHIVE):
        return
    for name in names:
        if found := _FOREIGN_ZIP.get(name.rpartition("/")[2]):
            raise _foreign(path, found)
    if inside := [name for name in names if name.lower().endswith(ENDINGS) and not name.endswith("weights.h5")]:
        raise lanfit_error("model.packed", file=path.name, member=inside[0])
    raise lanfit_error("model.no-model-in-zip", file=path.name, parts=" or ".join(_ARCHIVE))


def _json_in(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    what, size = f"{path.name}: {name}", archive.getinfo(name).file_size
    if size > MAX_BYTES:  # before it is decompressed
        raise lanfit_error("model.text-too-long", what=what, size=size, most=MAX_BYTES)
    return parse(archive.read(name).decode(), what)


# --- architecture and weights in two files ----------------------------------------------------------------------


def _read_json(path: Path) -> ModelFile:
    config = _config_in(path)
    if "modelTopology" in config:
        what = "a TensorFlow.js model", "Convert it back: tensorflowjs_converter --input_format tfjs_layers_model "
        raise _foreign(path, (what[0], f"{what[1]}--output_format keras {path.name} net.h5."))
    if "class_name" not in config:
        raise lanfit_error("model.no-architecture", file=path.name)
    for weights in _weights_beside(path):
        return _pair(path, config, weights)
    raise lanfit_error("model.no-weights", file=path.name, stem=path.stem)


def _beside_weights(path: Path, file: Any) -> ModelFile:
    """Return the model of a file with weights alone, using the architecture next to it as JSON."""
    holds_weights = is_legacy_group(file) or "layers" in file or "_layer_checkpoint_dependencies" in file
    stem = _plain_stem(path)
    if holds_weights:
        for name in (stem, path.stem, "model", "architecture", "model_architecture", "config"):
            beside = path.with_name(f"{name}.json")
            if beside.is_file() and "class_name" in (config := _config_in(beside)):
                return _pair(path, config, path, beside)
    raise lanfit_error("model.weights-only", file=path.name, stem=stem)


def _pair(path: Path, config: dict[str, Any], weights: Path, beside: Path | None = None) -> ModelFile:
    import h5py

    with h5py.File(weights, "r") as file:
        _check_h5(weights, file, weights.stat().st_size)
        in_file = file.attrs.get("keras_version", "")
    version = _checked_version(path, str(config.get("keras_version") or _text(in_file)))
    texts = json.dumps({key: value for key, value in config.items() if key not in ("keras_version", "backend")}), ""
    note = f"the architecture is read from {(beside or path).name}, the weights from {weights.name}"
    return ModelFile(path, "h5", *texts, version, weights, (note,), is_complete=False)


def _config_in(path: Path) -> dict[str, Any]:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise lanfit_error("model.text-too-long", what=path.name, size=size, most=MAX_BYTES)
    config = parse(path.read_text("utf-8-sig"), path.name)
    if isinstance(config, str):  # json.dump(model.to_json(), file) is common
        config = parse(config, path.name)
    if not isinstance(config, dict):
        raise lanfit_error("model.no-architecture", file=path.name)
    config.pop("compile_config", None)
    return config


def _weights_beside(path: Path) -> Iterator[Path]:
    """Yield the files with weights alone next to an architecture: those with its name; else the only one."""
    import h5py

    def is_bare(file: Path) -> bool:
        if not h5py.is_hdf5(file):
            return False
        with h5py.File(file, "r") as opened:
            return "model_config" not in opened.attrs

    there = sorted(file for file in path.parent.iterdir() if file.suffix.lower() in HDF5_ENDINGS and file.is_file())
    there = [file for file in there if is_bare(file)]
    yield from (file for file in there if _plain_stem(file) == path.stem)
    if len(there) == 1:
        yield there[0]


def _plain_stem(path: Path) -> str:
    """Return the name of a weights file without its suffixes: `net` for `net_weights.h5` and `net.weights.h5`."""
    for end in (".weights", "_weights", "-weights"):
        if path.stem.endswith(end):
            return path.stem.removesuffix(end)
    return path.stem


def _checked_version(path: Path, version: str) -> str:
    if version and version.partition(".")[0] not in ("2", "3"):
        raise lanfit_error("model.unknown-version", file=path.name, version=version)
    return version


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
