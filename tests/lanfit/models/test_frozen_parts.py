"""Models with frozen parts, from files of Keras 3 and 2: what is loaded, trained, written and scored is one model.

What each Keras changes when it trains such a net was seen with Keras 2.15 and 3.15.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from old_models import Array, Json, dense, layer, random, sequential, write

from lanfit.data.labels import Target
from lanfit.data.normalize import Moments, fit_normalizer
from lanfit.data.shard import Normalizers, Samples
from lanfit.errors import InputError
from lanfit.models.compiling import override
from lanfit.models.export import write_final, write_model
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.raw_model import bare_model
from lanfit.models.trained_model import TrainedModel
from lanfit.settings.job import FIELDS
from lanfit.training.keras.backend import KerasBackend
from lanfit.training.keras.evaluation import Evaluator
from lanfit.training.loop import FitJob, fit
from lanfit.wire.messages import Model

pytestmark = pytest.mark.keras
R = random(4)
FILES = ("net.h5", "net.keras")
ROWS, LABELS = R(12, 3), np.arange(12) % 2
#: Layer → its arrays in order. Those of one kind have one shape, so that nothing but the order tells them apart.
ARRAYS: dict[str, dict[str, Array]] = {
    name: (
        {"kernel": R(3, 3)}
        if name.startswith("c")
        else {"gamma": R(3), "beta": R(3), "moving_mean": R(3), "moving_variance": R(3) ** 2 + 0.5}
    )
    for name in ("c0", "bn0", "c1", "bn1")
}
HEAD = {"kernel": R(3, 2), "bias": R(2)}
INNER = [f"{name}/{key}" for name, arrays in ARRAYS.items() for key in arrays]
OF_HEAD = {"head/kernel", "head/bias"}
#: Pattern → the layers of the part that are frozen. With "outer" the part itself is, and then layers in it are not.
PATTERNS: dict[str, set[str]] = {
    "none": set(),
    "all": {"c0", "bn0", "c1", "bn1"},
    "first layer": {"c0"},
    "batch normalization": {"bn0", "bn1"},
    "outer": {"c0", "bn0"},
}


def predicted() -> Array:
    x = ROWS
    for n in (0, 1):
        gamma, beta, mean, variance = ARRAYS[f"bn{n}"].values()
        x = np.maximum((x @ ARRAYS[f"c{n}"]["kernel"] - mean) / np.sqrt(variance + 0.001) * gamma + beta, 0)
    exponents = np.exp(x @ HEAD["kernel"] + HEAD["bias"])
    found: Array = exponents / exponents.sum(axis=1, keepdims=True)
    return found


# --- files ------------------------------------------------------------------------------------------------------


def of_keras_3(path: Path, pattern: str, kind: str) -> Path:
    """Save a net whose part is a functional model, a Sequential, or one of two of them."""
    import keras
    from keras import layers

    inner = {name: layers.Dense(3, use_bias=False, name=name) for name in ("c0", "c1")}
    inner |= {name: layers.BatchNormalization(name=name) for name in ("bn0", "bn1")}
    chains = [[inner[f"c{n}"], inner[f"bn{n}"], layers.ReLU(name=f"r{n}")] for n in (0, 1)]
    chain = [each for one in chains for each in one]
    if kind == "functional":
        x = rows = keras.Input((3,))
        for each in chain:
            x = each(x)
        part = keras.Model(rows, x, name="part")
    elif kind == "sequential":
        part = keras.Sequential([keras.Input((3,)), *chain], name="part")
    else:
        parts = [keras.Sequential([keras.Input((3,)), *one]) for one in chains]
        part = keras.Sequential([keras.Input((3,)), *parts], name="part")
    model = keras.Sequential([keras.Input((3,)), part, layers.Dense(2, activation="softmax", name="head")])
    for name, arrays in {**ARRAYS, "head": HEAD}.items():
        (inner | {"head": model.layers[-1]})[name].set_weights(list(arrays.values()))
    part.trainable = pattern != "outer"
    for name, each in inner.items():
        each.trainable = name not in PATTERNS[pattern]
    model.save(path)
    return path


def of_keras_2(path: Path, pattern: str, kind: str = "functional") -> Path:
    """Write what Keras 2.15 wrote of such a net. Its Sequentials do not say that they are frozen."""
    frozen, is_zip = PATTERNS[pattern], path.suffix == ".keras"
    options = {"axis": [1], "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True}
    rows = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 3], "dtype": "float32", "name": "rows"}}
    layers: list[Json] = []
    for n in (0, 1):
        layers += [
            dense(f"c{n}", 3, use_bias=False),
            layer("BatchNormalization", f"bn{n}", **options),
            layer("ReLU", f"r{n}", max_value=None, negative_slope=0.0, threshold=0.0),
        ]
    for each in layers:
        each["config"]["trainable"] = each["config"]["name"] not in frozen
    if kind == "functional":
        part = functional("part", [rows, *layers])
        part["config"]["trainable"] = pattern not in ("all", "outer")
    else:
        chains = [sequential([rows, *layers[n : n + 3]], f"part_{n}") for n in (0, 3)]
        part = sequential([rows, *chains], "part")
    config = sequential([rows, part, dense("head", 2, "softmax")])
    if is_zip:
        return as_zip(path, config)
    inside = {name for name in INNER if name.split("/")[0] not in frozen and "moving" not in name}
    if kind == "deep" and pattern == "outer":  # what is in the Sequentials in it is frozen with them
        inside = set()
    order = [name for name in INNER if name in inside] + [name for name in INNER if name not in inside]
    arrays = {name: ARRAYS[name.split("/")[0]][name.split("/")[1]] for name in order}
    return write(path, config, {"part": arrays, "head": HEAD}, version="2.15.0")


def functional(name: str, layers: list[Json]) -> Json:
    """A model of layers one after the other."""
    names = [each["config"]["name"] for each in layers]
    nodes = [[], *([[[before, 0, 0, {}]]] for before in names)]
    made = [
        {**each, "name": own, "inbound_nodes": node} for each, own, node in zip(layers, names, nodes[:-1], strict=True)
    ]
    ends = {"input_layers": [[names[0], 0, 0]], "output_layers": [[names[-1], 0, 0]]}
    return {"class_name": "Functional", "config": {"name": name, "trainable": True, "layers": made, **ends}}


def as_zip(path: Path, config: Json) -> Path:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        places = dict(zip(ARRAYS, ("dense", "batch_normalization", "dense_1", "batch_normalization_1"), strict=True))
        groups = {f"functional/layers/{place}": ARRAYS[name] for name, place in places.items()}
        for place, arrays in {**groups, "dense": HEAD}.items():
            for number, array in enumerate(arrays.values()):
                file[f"layers/{place}/vars/{number}"] = array
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"module": "keras", "registered_name": None, **config}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
        archive.writestr("model.weights.h5", memory.getvalue())
    return path


# --- what is held against them ----------------------------------------------------------------------------------


def load(path: Path, trained: Collection[str]) -> LoadedModel:
    """Load a file: it must predict what was saved, and train the gradients of those weights and no others."""
    loaded = load_model(path)
    found = bare_model(loaded.architecture, loaded.weights)(ROWS)
    np.testing.assert_allclose(found, predicted(), rtol=1e-5, atol=1e-6)
    assert {short(name) for name in loaded.trainable} == {name for name in trained if "moving" not in name}
    return loaded


def train_and_write(loaded: LoadedModel, trained: Collection[str], folder: Path) -> None:
    """Train a model, write and score it; only those weights may change, and the statistics of layers with them."""
    import keras

    compiled = override(None, "sgd", "sparse_categorical_crossentropy", 0.1).to_json()
    backend, normalizer = KerasBackend(), fit_normalizer("zscore", Moments.of(ROWS))
    backend.load(loaded.architecture, compiled, loaded.weights)
    normalized = normalizer.apply(ROWS)
    fit(
        backend,
        FitJob(epochs=1, batch_size=6, seed=3),
        Samples.of(normalized, LABELS),
        Samples.of(ROWS[:0], LABELS[:0]),
        Quiet(),
    )
    weights = backend.weights()
    pairs = zip(loaded.weights.items(), weights.values(), strict=True)
    assert {short(name) for (name, before), after in pairs if not np.array_equal(before, after)} == {*trained}

    named = Model(loaded.architecture, compiled, (None, 3), (None, 2), Target.CLASSES, normalizer.name, "none")
    member = TrainedModel(weights, Normalizers.single(normalizer))
    _, outputs = Evaluator(named).predict_and_evaluate([member], Samples.of(ROWS, LABELS))
    evaluated = outputs["y"]
    write_model(folder / "client.h5", loaded.architecture, compiled, weights)
    write_final(folder / "final.keras", loaded.architecture, compiled, member)
    for name, rows in [("client.h5", normalized), ("final.keras", ROWS)]:
        opened = keras.models.load_model(folder / name)
        np.testing.assert_allclose(opened(rows), evaluated, rtol=1e-5, atol=1e-6, err_msg=name)


def short(name: str) -> str:
    return "/".join(name.split("/")[-2:])


class Quiet:
    def on_progress(self, *args: Any) -> None: ...

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None: ...


def those_not_in(frozen: Collection[str]) -> set[str]:
    return {name for name in INNER if name.split("/")[0] not in frozen} | OF_HEAD


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_frozen_part_of_a_file_of_keras_3_stays_as_it_is(pattern: str, tmp_path: Path) -> None:
    """Where the part is frozen and layers in it are not, Keras 3 goes by the layers."""
    trained = those_not_in(PATTERNS[pattern])
    one, other = (load(of_keras_3(tmp_path / name, pattern, "functional"), trained) for name in FILES)
    assert one.notes == other.notes == ()
    assert_same(one, other)
    train_and_write(one, trained, tmp_path)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_frozen_part_of_a_file_of_keras_2_stays_as_it_is(pattern: str, tmp_path: Path) -> None:
    """Where the part is frozen, Keras 2 trains nothing in it, and that is said."""
    trained = those_not_in(PATTERNS["all" if pattern == "outer" else pattern])
    one, other = (load(of_keras_2(tmp_path / name, pattern), trained) for name in FILES)
    assert [note.rpartition(": ")[2] for note in one.notes] == (["c1, bn1"] if pattern == "outer" else [])
    assert_same(one, other)
    train_and_write(one, trained, tmp_path)


@pytest.mark.parametrize("kind", ["sequential", "deep"])
def test_a_frozen_sequential_of_keras_3_gets_its_own_arrays(kind: str, tmp_path: Path) -> None:
    """Keras 3 itself refuses such an .h5, or takes its arrays for one another."""
    trained = those_not_in(PATTERNS["outer"])
    for name in FILES:
        loaded = load(of_keras_3(tmp_path / name, "outer", kind), trained)
    if kind == "deep":
        train_and_write(loaded, trained, tmp_path)


def test_a_frozen_sequential_of_keras_2_gets_its_own_arrays(tmp_path: Path) -> None:
    """That it was frozen is not in the file, but the names of its arrays are."""
    load(of_keras_2(tmp_path / "net.h5", "outer", "deep"), those_not_in(PATTERNS["outer"]))


def assert_same(one: LoadedModel, other: LoadedModel) -> None:
    """Check that two files hold the same model."""
    assert one.notes == other.notes
    assert [*map(short, one.weights)] == [*map(short, other.weights)]
    for array, same in zip(one.weights.values(), other.weights.values(), strict=True):
        np.testing.assert_array_equal(array, same)


# --- what Teachable Machine exports -----------------------------------------------------------------------------


def depthwise(name: str) -> Json:
    """With `groups`, as Keras 2 wrote it and Keras 3 does not take it."""
    options = {"kernel_size": [1, 1], "strides": [1, 1], "padding": "same", "data_format": "channels_last"}
    return layer("DepthwiseConv2D", name, groups=1, depth_multiplier=1, use_bias=False, activation="linear", **options)


def of_teachable_machine(folder: Path) -> tuple[Array, Array]:
    """Write a keras_model.h5 with its labels.txt; return rows and what it predicts."""
    rows = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 2, 2, 3], "name": "rows"}}
    norm = {"axis": [3], "momentum": 0.999, "epsilon": 0.001, "center": True, "scale": True}
    mobile_net = functional(
        "model1",
        [
            rows,
            depthwise("expanded_conv_depthwise"),
            layer("BatchNormalization", "expanded_conv_depthwise_BN", **norm),
            layer("ReLU", "expanded_conv_depthwise_relu", max_value=6.0, negative_slope=0.0, threshold=0.0),
        ],
    )
    features = sequential([rows, mobile_net, layer("GlobalAveragePooling2D", "pooled")], "sequential_1")
    classes = sequential(
        [dense("dense_1", 4, "relu", (3,)), dense("dense_2", 2, "softmax", use_bias=False)], "sequential_3"
    )
    kernel, gamma, beta, mean, variance = R(1, 1, 3, 1), R(3), R(3) + 6, R(3), R(3) ** 2 + 0.5
    of_norm = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    first, bias, second = R(3, 4), R(4), R(4, 2)
    weights = {
        "sequential_1": {
            "expanded_conv_depthwise/depthwise_kernel": kernel,
            **{f"expanded_conv_depthwise_BN/{key}": array for key, array in of_norm.items()},
        },
        "sequential_3": {"dense_1/kernel": first, "dense_1/bias": bias, "dense_2/kernel": second},
    }
    write(folder / "keras_model.h5", sequential([features, classes], "sequential_4"), weights, version="2.3.1")
    (folder / "labels.txt").write_text("0 Cat\n1 Dog\n")
    x = R(12, 2, 2, 3)
    hidden = np.clip((x * kernel[0, 0, :, 0] - mean) / np.sqrt(variance + 0.001) * gamma + beta, 0, 6)
    assert (hidden == 6).any()
    exponents = np.exp(np.maximum(hidden.mean(axis=(1, 2)) @ first + bias, 0) @ second)
    return x, exponents / exponents.sum(axis=1, keepdims=True)


def test_a_model_of_teachable_machine_loads_and_the_advice_about_compiling_works(tmp_path: Path) -> None:
    import keras

    x, right = of_teachable_machine(tmp_path)
    loaded = load_model(tmp_path / "keras_model.h5")
    np.testing.assert_allclose(bare_model(loaded.architecture, loaded.weights)(x), right, rtol=1e-5, atol=1e-6)
    assert (loaded.compile, loaded.input_shape, loaded.outputs[0].activation) == (None, (2, 2, 3), "softmax")

    with pytest.raises(InputError) as wrong:
        override(None)
    flags = re.findall(r"--[a-z]+", str(wrong.value.hint))
    assert flags == [FIELDS["optimizer"].flag, FIELDS["loss"].flag]
    answers = {"--optimizer": "adam", "--loss": "sparse_categorical_crossentropy"}
    compiled = override(None, **{flag.strip("-"): answers[flag] for flag in flags}).to_json()
    backend = KerasBackend()
    backend.load(loaded.architecture, compiled, loaded.weights)
    fit(backend, FitJob(epochs=1, batch_size=6, seed=3), Samples.of(x, LABELS), Samples.of(x[:0], LABELS[:0]), Quiet())
    write_model(tmp_path / "client.h5", loaded.architecture, compiled, backend.weights())
    opened = keras.models.load_model(tmp_path / "client.h5")
    for array, same in zip(opened.get_weights(), backend.weights().values(), strict=True):
        np.testing.assert_array_equal(array, same)
