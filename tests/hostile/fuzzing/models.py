"""Models: architectures and compile options as JSON, and model files."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from peer import record

from fuzzing.base import JSON, Base, Chance, Targets
from fuzzing.engine import corrupt, corrupt_zip, rearrange, zip_of
from lanfit.errors import InputError, LanfitError
from lanfit.models import loading
from lanfit.models.architecture import check_architecture
from lanfit.models.compiling import read_options, read_spec
from lanfit_client.model_size import check_size


def _layer(name: str, config: dict[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {"name": name.lower(), **config}, "registered_name": None}


def _architectures() -> list[dict[str, Any]]:
    initializer = {
        "module": "keras.initializers",
        "class_name": "GlorotUniform",
        "config": {"seed": None},
        "registered_name": None,
    }
    inputs = _layer("InputLayer", {"batch_shape": [None, 8, 8, 1], "dtype": "float32", "sparse": False})
    dense = _layer(
        "Dense", {"units": 10, "activation": "softmax", "kernel_initializer": initializer, "dtype": "float32"}
    )
    dense["build_config"] = {"input_shape": [None, 64]}
    convolution = _layer("Conv2D", {"filters": 4, "kernel_size": [3, 3], "strides": [1, 1], "padding": "same"})
    cell = _layer("LSTM", {"units": 8, "return_sequences": False})
    both = _layer("Bidirectional", {"layer": cell, "merge_mode": "concat"})
    words = _layer("Embedding", {"input_dim": 100, "output_dim": 16})
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 8], "dtype": "float32", "keras_history": ["in", 0, 0]},
    }
    called = {**_layer("Dense", {"units": 2}), "name": "out", "inbound_nodes": [{"args": [tensor], "kwargs": {}}]}
    functional = {"name": "net", "trainable": True, "layers": [{**inputs, "name": "in", "inbound_nodes": []}, called],
                  "input_layers": [["in", 0, 0]], "output_layers": [["out", 0, 0]]}  # fmt: skip
    first = {"class_name": "Dense", "config": {"units": 2, "batch_input_shape": [None, 4]}}
    old = {"class_name": "Sequential", "config": {"name": "net", "layers": [first]}, "keras_version": "2.9.0"}
    made = [_layer("Sequential", {"layers": [inputs, convolution, _layer("Flatten", {}), dense]}, "keras")]
    made += [
        _layer("Sequential", {"layers": [words, both, dense]}, "keras"),
        _layer("Functional", functional, "keras.src.models.functional"),
        old,
    ]
    return made


def _compiled() -> list[Any]:
    adam = {
        "module": "keras.optimizers",
        "class_name": "Adam",
        "config": {"learning_rate": 0.001, "name": "adam"},
        "registered_name": None,
    }
    decay = {
        "module": "keras.optimizers.schedules",
        "class_name": "ExponentialDecay",
        "config": {"initial_learning_rate": 0.1},
        "registered_name": None,
    }
    loss = {
        "module": "keras.losses",
        "class_name": "SparseCategoricalCrossentropy",
        "config": {"from_logits": True},
        "registered_name": None,
    }
    slow = {**adam, "class_name": "SGD", "config": {"learning_rate": decay}}
    return [
        {"optimizer": adam, "loss": "mse", "metrics": ["accuracy"]},
        {"optimizer": slow, "loss": loss, "metrics": ["mae", loss], "loss_weight": 0.5},
        {
            "optimizer": "rmsprop",
            "loss": ["mse"],
            "metrics": [["accuracy"]],
            "weighted_metrics": None,
            "loss_weights": [1.0],
            "jit_compile": True,
        },
        {
            "optimizer_config": {"class_name": "Adam", "config": {"learning_rate": 0.01}},
            "loss": {"out": "mse"},
            "metrics": {"out": ["mae"]},
        },
    ]


ARCHITECTURES = [json.dumps(each) for each in _architectures()]
COMPILED = [json.dumps(each) for each in _compiled()]
_NAMES = (
    "Lambda", "TFSMLayer", "Dense", "Sequential", "Functional", "function", "__tensor__", "__numpy__", "__bytes__",
    "Custom>X", "os.system", "Masking", "Adam",
)  # fmt: skip


class JsonTexts(Base):
    """JSON by its structure, and by its bytes."""

    def __init__(self, folder: Path, values: Iterable[Any], read: Callable[[str], None]) -> None:
        super().__init__(folder)
        self.values, self.read = [*values], read

    def input(self, chance: Chance) -> bytes:
        value = rearrange(chance, chance.choice(self.values), chance.choice(self.values))
        if chance.random() < 0.3:
            value = _renamed(value, chance)
        text = json.dumps(value).encode()
        return (
            corrupt(chance, text, json.dumps(chance.choice(self.values)).encode(), JSON)
            if chance.random() < 0.2
            else text
        )

    def give(self, data: bytes) -> None:
        self.read(data.decode(errors="replace"))


def _renamed(value: Any, chance: Chance) -> Any:
    if isinstance(value, dict):
        return {
            key: chance.choice(_NAMES) if key == "class_name" and chance.random() < 0.3 else _renamed(each, chance)
            for key, each in value.items()
        }
    return [_renamed(each, chance) for each in value] if isinstance(value, list) else value


def _read_architecture(text: str) -> None:
    for check in (check_architecture, lambda text: check_architecture(text, h5=True)):
        with contextlib.suppress(LanfitError):
            check(text)
    check_size(text, record().weights)


def _read_compiled(text: str) -> None:
    with contextlib.suppress(LanfitError):
        read_options(text)
    read_spec(text)


class ModelFiles(Base):
    """Model files, up to where Keras would build the model.

    HDF5 is native code that a damaged file may crash or keep busy for ever: lanfit reads them in a process of its own,
    with limits, which tests/hostile/test_model_files.py holds to its word.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        super().__init__(folder)
        self.ending = ending
        self.files = [_model_file(number, ending) for number in range(4)]

    def input(self, chance: Chance) -> bytes:
        data, other = chance.choice(self.files), chance.choice(self.files)
        if self.ending == ".h5" or chance.random() < 0.2:
            return corrupt(chance, data, other, _HDF5)
        return corrupt_zip(chance, data, lambda name, content: _other_member(chance, name, content))

    def give(self, data: bytes) -> None:
        path = self.write("net" + self.ending, data)
        stop = mock.Mock(side_effect=InputError("now Keras would build it"))
        with mock.patch.multiple(loading, _model=stop, _old_model=stop):
            loading.load_model(path)

    def as_product(self, data: bytes) -> str:
        """Nothing: see above."""
        return ""


_HDF5 = (
    b"OHDR", b"HEAP", b"TREE", b"SNOD", b"FRHP", b"BTHD", b"OCHK", b"GCOL", b"\x89HDF\r\n\x1a\n", b"model_config",
    b"\xff" * 8, bytes(8),
)  # fmt: skip


def _other_member(chance: Chance, name: str, content: bytes) -> bytes:
    if name.endswith(".json") and chance.random() < 0.7:
        return json.dumps(rearrange(chance, json.loads(content))).encode()
    return corrupt(chance, content, content, JSON if name.endswith(".json") else _HDF5)


def _model_file(number: int, ending: str) -> bytes:
    import h5py

    architecture, compiled = ARCHITECTURES[number], COMPILED[number]
    packed = io.BytesIO()
    with h5py.File(packed, "w") as file:
        group = file
        if ending == ".h5":
            version = "2.9.0" if number == 3 else "3.15.1"
            file.attrs.update({"model_config": architecture, "training_config": compiled, "keras_version": version})
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = [b"dense"]
        layer = group.create_group("layers/dense/vars" if ending != ".h5" else "dense")
        layer.attrs["weight_names"] = [b"dense/kernel", b"dense/bias"]
        layer.create_dataset("0", data=np.ones((4, 2), np.float32))
        layer.create_dataset("1", data=np.zeros(2, np.float32), compression="gzip" if number == 2 else None)
    if ending == ".h5":
        return packed.getvalue()
    config = {**json.loads(architecture), "compile_config": json.loads(compiled)}
    members = [("metadata.json", b'{"keras_version": "3.15.1"}'), ("config.json", json.dumps(config).encode())]
    return zip_of([*members, ("model.weights.h5", packed.getvalue())], zipfile.ZIP_STORED)


TARGETS: Targets = {
    "architecture": (40_000, lambda folder: JsonTexts(folder, _architectures(), _read_architecture)),
    "compile": (40_000, lambda folder: JsonTexts(folder, _compiled(), _read_compiled)),
    "h5": (10_000, lambda folder: ModelFiles(folder, ".h5")),
    "keras": (10_000, lambda folder: ModelFiles(folder, ".keras")),
}
