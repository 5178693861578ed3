"""Every class of Keras' own registry: a model of it, saved by Keras, loads and computes the same.

The names come from `lanfit.models.allowlist`, which `test_model_architecture.py` holds against the registry.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.models import allowlist
from lanfit.models.compiling import compile_model, read_spec
from lanfit.models.loading import load_model

pytestmark = pytest.mark.keras

#: What the rows of layers look like: the first pattern that fits the whole name; else they are flat.
ROWS = {
    "ConvLSTM1D": (3, 8, 2),
    "ConvLSTM2D": (3, 6, 6, 2),
    "ConvLSTM3D": (2, 4, 4, 4, 2),
    "HashedCrossing": (1,),
    "MelSpectrogram": (512,),
    "STFTSpectrogram": (128, 2),
    ".*1D.*|.*Attention|LSTM|GRU|SimpleRNN|RNN|Bidirectional|TimeDistributed|Permute|Masking": (6, 4),
    ".*3D.*": (6, 6, 6, 2),
    ".*2D.*|Rand.*|AugMix|CutMix|MixUp|.*Contrast|Cont.*|Equal.*|Solar.*|CenterCrop|Resizing|Pipeline": (6, 6, 3),
}
#: Layers that take two arrays: in a list, and one after the other.
IN_A_LIST = (
    "CustomScaleLayer|Add|Average|Concatenate|Dot|Maximum|Minimum|Multiply|Subtract|Attention|AdditiveAttention"
    "|HashedCrossing"
)
TWICE = "MultiHeadAttention|GroupQueryAttention"
#: Values for what layers need to be told.
ARGUMENTS: dict[str, Any] = {
    "activation": "relu",
    "axes": -1,
    "dims": (2, 1),
    "equation": "...x,xy->...y",
    "factor": 0.2,
    "filters": 2,
    "head_dim": 2,
    "height": 4,
    "height_factor": 0.2,
    "init_values": 0.5,
    "input_dim": 10,
    "kernel_size": 2,
    "key_dim": 2,
    "max_number": 3,
    "n": 2,
    "num_bins": 5,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "num_query_heads": 2,
    "num_tokens": 5,
    "output_dim": 3,
    "output_shape": (3,),
    "output_size": 2,
    "pool_size": 2,
    "projection_dim": 4,
    "rate": 0.3,
    "scale": 0.5,
    "stddev": 0.3,
    "drop_path_rate": 0.1,
    "target_shape": (2, 2),
    "units": 3,
    "width": 4,
    "width_factor": 0.2,
}
#: What is told beside what is needed.
BESIDE = {
    "ActivityRegularization": {"l2": 0.1},
    "CategoryEncoding": {"output_mode": "multi_hot", "num_tokens": 8},
    "Discretization": {"bin_boundaries": [0.25, 2.5]},
    "GroupNormalization": {"groups": 2},
    "HashedCrossing": {"num_bins": 5},
    "MelSpectrogram": {"fft_length": 64, "sequence_stride": 32},
    "Normalization": {"mean": 1.0, "variance": 4.0},
    "RandomPosterization": {"factor": 3},
    "RandomHeight": {"factor": 0.0},
    "RandomWidth": {"factor": 0.0},
    "STFTSpectrogram": {"fft_length": 64, "frame_length": 32, "frame_step": 16},
}
#: Classes that don't stand on rows alone: a base class, and the cells, which stand in the RNN of this test.
NOT_ALONE = {"InputLayer", "Wrapper", "MaxNumBoundingBoxes", "GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"}
#: Layers that Keras can't write into an .h5, or not read back from one: `test_h5_holds.py`.
NOT_IN_H5 = {
    "Attention",
    *(name for name in allowlist.LAYERS if re.fullmatch("Rand.*|.*Mix|MixUp|.*Contrast|Solarization|Pipeline", name)),
    *allowlist.LEGACY_LAYERS,
    *(name for names in allowlist.OF_APPLICATIONS.values() for name in names),
} - {"RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomCrop"}
MODULES = {
    "keras.layers": allowlist.LAYERS,
    "keras._legacy.layers": allowlist.LEGACY_LAYERS,
    **allowlist.OF_APPLICATIONS,
}


def class_of(module: str, name: str) -> Any:
    import keras
    from keras.src.api_export import REGISTERED_NAMES_TO_OBJS

    if module == "keras.layers":
        return getattr(keras.layers, name)
    return REGISTERED_NAMES_TO_OBJS.get(f"{module}.{name}") or getattr(importlib.import_module(module), name)


def made(cls: Any, name: str, number: int) -> Any:
    """A layer with what it needs to be told."""
    from keras import layers

    cells = [layers.LSTMCell(2), layers.GRUCell(3), layers.SimpleRNNCell(2)]
    around = {"layer": layers.LSTM(2) if name == "Bidirectional" else layers.Dense(3)}
    within = {"cell": layers.StackedRNNCells(cells), "layers": [layers.RandomFlip(), layers.Rescaling(0.5)]}
    values = {**ARGUMENTS, **around, **within, **BESIDE.get(name, {})}
    needed = [
        key
        for key, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and key != "self"
    ]
    options = {key: values[key] for key in {*needed, *BESIDE.get(name, {})}}
    return cls(**options, name=f"layer_{number}_{name.lower()}")


def nets(without: Iterable[str] = ()) -> Iterator[Any]:
    """Models that together hold every layer, side by side, one model for each kind of rows."""
    import keras

    by_rows: dict[tuple[int, ...], list[tuple[str, str]]] = {}
    for module, names in MODULES.items():
        for name in sorted(names - NOT_ALONE - {*without}):
            shape = next((shape for pattern, shape in ROWS.items() if re.fullmatch(pattern, name)), (4,))
            by_rows.setdefault(shape, []).append((module, name))
    for shape, layers in by_rows.items():
        rows, found = keras.Input(shape, dtype="int32" if shape == (1,) else None), []
        for number, (module, name) in enumerate(layers):
            layer = made(class_of(module, name), name, number)
            if re.fullmatch(IN_A_LIST, name):
                output = layer([rows, rows])
            else:
                output = layer(rows, rows) if re.fullmatch(TWICE, name) else layer(rows)
            is_flexible = None in output.shape[1:]  # one that draws its own height or width
            flat = keras.layers.GlobalAveragePooling2D() if is_flexible else keras.layers.Flatten()
            found.append(keras.layers.Rescaling(1.0, dtype="float32")(flat(output)))
        yield keras.Model(rows, keras.layers.Concatenate()(found))


def check_file(path: Path, saved: Any) -> None:
    """Load a file as lanfit does: what travels is the model that was saved, with its weights."""
    loaded = load_model(path)
    assert json.loads(loaded.architecture) == json.loads(saved.to_json())
    for array, wanted in zip(loaded.weights.values(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_every_layer_of_keras_is_loaded_from_a_keras_file(tmp_path: Path) -> None:
    for number, net in enumerate(nets()):
        net.save(tmp_path / f"{number}.keras")
        check_file(tmp_path / f"{number}.keras", net)


def test_every_layer_that_an_h5_can_hold_is_loaded_from_one(tmp_path: Path) -> None:
    for number, net in enumerate(nets(without=NOT_IN_H5)):
        net.save(tmp_path / f"{number}.h5")
        check_file(tmp_path / f"{number}.h5", net)


def test_every_initializer_regularizer_constraint_and_activation_is_loaded(tmp_path: Path) -> None:
    import keras
    from keras import layers

    rows = keras.Input((6, 4))
    initializers = [getattr(keras.initializers, name)() for name in sorted(allowlist.INITIALIZERS - {"STFT"})]
    parts: list[dict[str, Any]] = [{"kernel_initializer": each} for each in initializers]
    parts += [{"kernel_regularizer": getattr(keras.regularizers, name)()} for name in sorted(allowlist.REGULARIZERS)]
    parts += [{"bias_constraint": getattr(keras.constraints, name)()} for name in sorted(allowlist.CONSTRAINTS)]
    parts += [{"activation": name} for name in sorted(allowlist.ACTIVATIONS)]
    parts += [{"activation": getattr(keras.activations, name)} for name in sorted(allowlist.ACTIVATIONS)]
    outputs = [layers.Dense(4, **part)(rows) for part in parts]
    flat = layers.Reshape((24, 1))(rows)
    outputs.append(layers.Conv1D(4, 5, kernel_initializer=keras.initializers.STFT("imag", "hann"))(flat))
    net = keras.Model(rows, layers.Concatenate()([layers.Flatten()(output) for output in outputs]))
    for ending in (".keras", ".h5"):
        net.save(tmp_path / f"net{ending}")
        check_file(tmp_path / f"net{ending}", net)


#: What losses and metrics need to be told.
OPTIONS = {
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "FBetaScore": {"beta": 2.0},
    "IoU": {"num_classes": 3, "target_class_ids": [0]},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0]},
    "MeanIoU": {"num_classes": 3},
    "OneHotMeanIoU": {"num_classes": 3},
    "CosineDecay": {"initial_learning_rate": 0.1, "decay_steps": 9},
    "CosineDecayRestarts": {"initial_learning_rate": 0.1, "first_decay_steps": 9},
    "ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 9, "decay_rate": 0.9},
    "InverseTimeDecay": {"initial_learning_rate": 0.1, "decay_steps": 9, "decay_rate": 0.9},
    "PiecewiseConstantDecay": {"boundaries": [3], "values": [0.1, 0.01]},
    "PolynomialDecay": {"initial_learning_rate": 0.1, "decay_steps": 9},
}


def compiled_parts() -> Iterator[tuple[Any, Any, list[Any]]]:
    """Optimizers, losses and metrics that together are all there are."""
    import keras

    def all_of(module: Any, names: Iterable[str]) -> list[Any]:
        return [getattr(module, name)(**OPTIONS.get(name, {})) for name in sorted(names)]

    schedules = all_of(keras.optimizers.schedules, allowlist.SCHEDULES)
    optimizers = [*all_of(keras.optimizers, allowlist.OPTIMIZERS), *map(keras.optimizers.SGD, schedules)]
    optimizers.append(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))
    losses = all_of(keras.losses, allowlist.LOSSES | {"CategoricalGeneralizedCrossEntropy"})
    metrics = all_of(keras.metrics, allowlist.METRICS | (allowlist.CONFIGURED_METRICS - {"MeanMetricWrapper"}))
    metrics += [keras.metrics.MeanMetricWrapper(keras.losses.huber, name="wrapped"), "accuracy", "mse"]
    yield optimizers[0], losses[0], metrics
    for optimizer, loss in itertools.zip_longest(optimizers[1:], losses[1:]):
        yield optimizer or "adam", loss or "mse", []


def test_every_optimizer_schedule_loss_and_metric_is_loaded(tmp_path: Path) -> None:
    import keras

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    for optimizer, loss, metrics in compiled_parts():
        net.compile(optimizer, loss, metrics=metrics)
        net.save(tmp_path / "net.keras")
        spec = read_spec(load_model(tmp_path / "net.keras").compile or "")
        other = keras.models.clone_model(net)
        compile_model(other, spec)
        assert other.optimizer.get_config() == net.optimizer.get_config() | {"name": other.optimizer.name}
        if isinstance(loss, keras.losses.Loss):
            assert other.loss.get_config() == loss.get_config()
        assert len(spec.metrics) == len(metrics)
