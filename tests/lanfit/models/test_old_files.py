"""Files of Keras 2.0 to 2.3 and of TensorFlow 1, written here with h5py. What they compute is held against NumPy."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from old_models import (
    COMPILED,
    Array,
    dense,
    gru,
    hard_sigmoid,
    layer,
    lstm,
    random,
    recurrent,
    sequential,
    to_cudnn,
    write,
    write_weights,
)

from lanfit.errors import InputError
from lanfit.models.export import write_final, write_model
from lanfit.models.keras2 import translate
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.model_file import is_model_name
from lanfit.models.raw_model import bare_model
from lanfit.models.trained_model import TrainedModel

pytestmark = pytest.mark.keras
R = random()
KERNEL, BIAS, KERNEL_2, BIAS_2 = R(3, 4), R(4), R(4, 2), R(2)
ROWS = R(5, 3)
FIRST, SECOND = {"kernel": KERNEL, "bias": BIAS}, {"kernel": KERNEL_2, "bias": BIAS_2}
WEIGHTS = {"dense_1": FIRST, "dense_2": SECOND}
RIGHT = np.maximum(ROWS @ KERNEL + BIAS, 0) @ KERNEL_2 + BIAS_2


def two(shape: Any = (3,), **options: Any) -> list[dict[str, Any]]:
    return [dense("dense_1", 4, "relu", shape, **options), dense("dense_2", 2, **options)]


def predictions(loaded: LoadedModel, rows: Array) -> Array:
    found: Array = bare_model(loaded.architecture, loaded.weights).predict(rows, verbose=0)
    return found


def loads(path: Path, rows: Array, right: Array) -> LoadedModel:
    loaded = load_model(path)
    np.testing.assert_allclose(predictions(loaded, rows), right, rtol=1e-5, atol=1e-6)
    return loaded


# --- models without an input layer ------------------------------------------------------------------------------


def test_the_first_layer_says_the_shape_of_the_input(tmp_path: Path) -> None:
    loaded = loads(write(tmp_path / "net.h5", two(), WEIGHTS, compiled=COMPILED), ROWS, RIGHT)
    assert (loaded.input_shape, loaded.inputs[0].dtype, loaded.notes) == ((3,), "float32", ())


def test_a_sequential_may_be_the_list_of_its_layers(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": two()}
    loads(write(tmp_path / "net.h5", config, WEIGHTS, version="2.1.6"), ROWS, RIGHT)


def test_a_lambda_in_such_a_list_is_refused_by_name(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": [*two(), layer("Lambda", "twice")]}
    with pytest.raises(InputError, match="layer 'twice': the class Lambda is not accepted"):
        load_model(write(tmp_path / "net.h5", config, WEIGHTS, version="2.1.6"))


@pytest.mark.parametrize("listed", [False, True])
def test_models_in_a_model_say_the_shape_in_their_first_layer(listed: bool, tmp_path: Path) -> None:
    parts = [sequential([two()[0]], "head"), sequential([dense("dense_2", 2, shape=(4,))], "tail")]
    config = sequential(parts)
    if listed:
        parts = [{"class_name": "Sequential", "config": part["config"]["layers"]} for part in parts]
        config = {"class_name": "Sequential", "config": parts}
    weights = {"head": FIRST, "tail": SECOND}
    assert loads(write(tmp_path / "net.h5", config, weights), ROWS, RIGHT).input_shape == (3,)


def test_a_shape_that_the_first_rows_gave_is_free_in_the_number_of_rows(tmp_path: Path) -> None:
    config = sequential(two(None))
    config["config"]["build_input_shape"] = [32, 3]
    assert loads(write(tmp_path / "net.h5", config, WEIGHTS), ROWS, RIGHT).input_shape == (3,)


def test_an_embedding_in_front_takes_rows_of_any_length(tmp_path: Path) -> None:
    table, kernel, recurrent_kernel, bias = R(9, 3), R(3, 8), R(2, 8), R(8)
    layers = [
        layer("Embedding", "words", (None,), input_dim=9, output_dim=3, mask_zero=False, input_length=None),
        recurrent("LSTM", "lstm", 2, (None, 3), "sigmoid"),
    ]
    del layers[1]["config"]["batch_input_shape"]
    weights = {
        "words": {"embeddings": table},
        "lstm": {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias},
    }
    words = np.arange(12).reshape(2, 6) % 9
    right = lstm(table[words], kernel, recurrent_kernel, bias)
    assert loads(write(tmp_path / "net.h5", layers, weights), words, right).input_shape == (None,)


# --- recurrent layers -------------------------------------------------------------------------------------------

STEPS = R(4, 6, 3)


def test_a_gru_that_does_not_say_so_resets_before(tmp_path: Path) -> None:
    kernel, recurrent_kernel, bias = R(3, 6), R(2, 6), R(6)
    weights = {"gru": {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}}
    path = write(tmp_path / "net.h5", [recurrent("GRU", "gru", 2, (6, 3), "sigmoid")], weights, version="2.1.2")
    loads(path, STEPS, gru(STEPS, kernel, recurrent_kernel, bias))


@pytest.mark.parametrize("kind", ["CuDNNLSTM", "CuDNNGRU"])
def test_layers_for_cudnn_become_those_that_compute_the_same(kind: str, tmp_path: Path) -> None:
    gates, compute = {"CuDNNLSTM": (4, lstm), "CuDNNGRU": (3, gru)}[kind]
    kernel, recurrent_kernel, biases = R(3, 2 * gates), R(2, 2 * gates), R(2, 2 * gates)
    config = layer(kind, "rnn", (6, 3), units=2, return_sequences=False, stateful=False, kernel_initializer=UNIFORM)
    path = write(tmp_path / "net.h5", [config], {"rnn": to_cudnn(gates, kernel, recurrent_kernel, biases)})
    right = compute(STEPS, kernel, recurrent_kernel, biases.sum(0) if gates == 4 else biases)
    assert (
        "cuDNN layers were replaced with LSTM and GRU layers, which compute the same: rnn"
        in loads(path, STEPS, right).notes[0]
    )


UNIFORM = {"class_name": "RandomUniform", "config": {"minval": -0.05, "maxval": 0.05, "seed": None}}


# --- hard_sigmoid -----------------------------------------------------------------------------------------------


def hard_lstm(path: Path) -> tuple[Path, Array]:
    """An LSTM with the gates of Keras 2, a Dense and a layer of its own with hard_sigmoid; and what it computes."""
    kernel, recurrent_kernel, bias, kernel_2, bias_2 = R(3, 8), R(2, 8), R(8), R(2, 2), R(2)
    layers = [
        recurrent("LSTM", "lstm", 2, (6, 3), "hard_sigmoid"),
        dense("dense", 2, "hard_sigmoid"),
        layer("Activation", "again", activation="hard_sigmoid"),
    ]
    weights = {
        "lstm": {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias},
        "dense": {"kernel": kernel_2, "bias": bias_2},
    }
    hidden = lstm(STEPS, kernel, recurrent_kernel, bias, hard_sigmoid)
    return write(path, layers, weights), hard_sigmoid(hard_sigmoid(hidden @ kernel_2 + bias_2))


def test_hard_sigmoid_is_that_of_keras_2(tmp_path: Path) -> None:
    path, right = hard_lstm(tmp_path / "net.h5")
    loaded = loads(path, STEPS, right)
    assert "(lstm, dense, again)" in loaded.notes[0]


def test_final_models_and_collected_files_with_hard_sigmoid_open_with_plain_keras(tmp_path: Path) -> None:
    import keras

    path, right = hard_lstm(tmp_path / "net.h5")
    loaded, compiled = (
        load_model(path),
        '{"optimizer":{"module":"keras.optimizers","class_name":"SGD","config":{}},"loss":"mse"}',
    )
    write_model(tmp_path / "client.h5", loaded.architecture, compiled, loaded.weights)
    write_final(tmp_path / "final.keras", loaded.architecture, compiled, TrainedModel(loaded.weights))
    for name in ("client.h5", "final.keras"):
        opened = keras.models.load_model(tmp_path / name)
        np.testing.assert_allclose(opened.predict(STEPS, verbose=0), right, rtol=1e-5, atol=1e-6)


def test_a_gru_of_hard_gates_computes_the_same(tmp_path: Path) -> None:
    for reset_after, bias in [(False, R(6)), (True, R(2, 6))]:
        kernel, recurrent_kernel = R(3, 6), R(2, 6)
        weights = {"gru": {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}}
        config = recurrent("GRU", "gru", 2, (6, 3), "hard_sigmoid", reset_after=reset_after)
        right = gru(STEPS, kernel, recurrent_kernel, bias, hard_sigmoid)
        loads(write(tmp_path / "net.h5", [config], weights), STEPS, right)


def test_hard_sigmoid_where_no_weights_lead_to_it_is_refused_by_name() -> None:
    config = recurrent("LSTM", "lstm", 2, (6, 3), "sigmoid")
    config["config"]["activation"] = "hard_sigmoid"
    with pytest.raises(InputError, match="layer 'lstm': a LSTM with activation='hard_sigmoid'"):
        translate(json.dumps(sequential([config])))


# --- names, classes and options ---------------------------------------------------------------------------------


def test_names_with_a_slash_are_changed_wherever_they_stand(tmp_path: Path) -> None:
    """One of the new names is there already."""

    def called(name: str, of: str) -> list[Any]:
        return [[[of, 0, 0, {}]]]

    def node(config: dict[str, Any], inbound: list[Any]) -> dict[str, Any]:
        return {**config, "name": config["config"]["name"], "inbound_nodes": inbound}

    rows = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 3], "dtype": "float32", "name": "fc/in"}}
    layers = [
        node(rows, []),
        node(dense("fc/hidden", 4, "relu"), called("", "fc/in")),
        node(dense("fc_hidden", 2), called("", "fc/hidden")),
    ]
    ends = {"input_layers": [["fc/in", 0, 0]], "output_layers": [["fc_hidden", 0, 0]]}
    config = {"class_name": "Model", "config": {"name": "a/b", "layers": layers, **ends}}
    loaded = loads(write(tmp_path / "net.h5", config, {"fc/hidden": FIRST, "fc_hidden": SECOND}), ROWS, RIGHT)
    assert "(fc/in, fc/hidden)" in loaded.notes[0]
    names = [each["config"]["name"] for each in json.loads(loaded.architecture)["config"]["layers"]]
    assert names == ["fc_in", "fc_hidden_1", "fc_hidden"]


def test_what_tensorflow_1_wrote_is_read(tmp_path: Path) -> None:
    """Initializers with a dtype, under old module paths; classes named for their version; axes in a list."""
    glorot = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}
    zeros = {
        "module": "tensorflow.python.ops.init_ops",
        "class_name": "ZerosV2",
        "config": {"dtype": "float32", "verify_shape": False},
    }
    norm = layer("BatchNormalizationV1", "bn", axis=[1], momentum=0.99, epsilon=0.001, beta_initializer=zeros)
    first, second = two(kernel_initializer=glorot, bias_initializer=zeros)
    gamma, beta, mean, variance = R(4), R(4), R(4), R(4) ** 2
    of_norm = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    weights = {"dense_1": FIRST, "bn": of_norm, "dense_2": SECOND}
    hidden = (np.maximum(ROWS @ KERNEL + BIAS, 0) - mean) / np.sqrt(variance + 0.001) * gamma + beta
    path = write(tmp_path / "net.h5", [first, norm, second], weights, version="2.2.4-tf")
    loads(path, ROWS, hidden @ KERNEL_2 + BIAS_2)


@pytest.mark.parametrize(
    "module",
    ["keras.layers.core", "keras.src.layers.core.dense", "tensorflow.python.keras.layers.core", "tf_keras.layers"],
)
def test_old_module_paths_are_those_of_keras(module: str) -> None:
    config = sequential([{**two()[0], "module": module}])
    assert json.loads(translate(json.dumps(config)).architecture)["config"]["layers"][1]["module"] == "keras.layers"


@pytest.mark.parametrize("module", ["os", "keras_layers.core", "my.keras.layers", "tensorflow.python.training"])
def test_other_module_paths_stay_and_are_refused(module: str, tmp_path: Path) -> None:
    config = sequential([{**two()[0], "module": module}])
    with pytest.raises(InputError, match="not built into Keras"):
        load_model(write(tmp_path / "net.h5", config, WEIGHTS))


def test_numbers_of_numpy_are_read_as_numbers(tmp_path: Path) -> None:
    leaky = layer("LeakyReLU", "leaky", alpha={"type": "ndarray", "value": 0.25})
    capped = layer("ReLU", "capped", max_value={"type": "ndarray", "value": 0.5}, negative_slope=0.0, threshold=0.0)
    hidden = np.maximum(ROWS @ KERNEL + BIAS, 0) @ KERNEL_2 + BIAS_2
    for extra, right in [(leaky, np.where(hidden < 0, hidden / 4, hidden)), (capped, np.clip(hidden, 0, 0.5))]:
        loads(write(tmp_path / "net.h5", [*two(), extra], WEIGHTS, version="2.0.5"), ROWS, right)


def test_softmax_of_tensorflow_is_that_of_keras() -> None:
    config = sequential([dense("dense_1", 4, "softmax_v2", (3,))])
    assert (
        json.loads(translate(json.dumps(config)).architecture)["config"]["layers"][1]["config"]["activation"]
        == "softmax"
    )


# --- weights ----------------------------------------------------------------------------------------------------


def test_frozen_parts_get_their_own_arrays(tmp_path: Path) -> None:
    """Two normalizations of one size in a frozen model: what they train stands before all that they count."""

    def norm(name: str, trainable: bool, shape: Any = None) -> dict[str, Any]:
        found = layer("BatchNormalization", name, shape, axis=-1, epsilon=0.001)
        found["config"]["trainable"] = trainable
        return found

    a, b = ([R(3), R(3), R(3), R(3) ** 2] for _ in range(2))

    def apply(x: Array, values: list[Array]) -> Array:
        gamma, beta, mean, variance = values
        return (x - mean) / np.sqrt(variance + 0.001) * gamma + beta

    right = apply(apply(ROWS, a), b)
    for first, second, order in [
        (True, True, [*a[:2], *b[:2], *a[2:], *b[2:]]),
        (False, False, [*a, *b]),
        (False, True, [*b[:2], *a, *b[2:]]),
    ]:
        inner = sequential([norm("bn_1", first, (3,)), norm("bn_2", second)], "inner")
        inner["config"]["trainable"] = False
        weights = {"inner": {f"array_{number}": array for number, array in enumerate(order)}}
        loads(write(tmp_path / "net.h5", sequential([inner]), weights), ROWS, right)


def test_kernels_of_theano_are_flipped(tmp_path: Path) -> None:
    pictures, kernel, bias = R(2, 4, 4, 1), R(2, 2, 1, 1), R(1)
    options = {"filters": 1, "kernel_size": [2, 2], "padding": "valid", "activation": "linear", "use_bias": True}
    conv = layer("Conv2D", "conv", (4, 4, 1), strides=[1, 1], data_format="channels_last", **options)
    path = write(tmp_path / "net.h5", [conv], {"conv": {"kernel": kernel, "bias": bias}}, backend="theano")
    windows = np.lib.stride_tricks.sliding_window_view(pictures[..., 0], (2, 2), axis=(1, 2))
    right = np.einsum("bijkl,kl->bij", windows, kernel[::-1, ::-1, 0, 0])[..., None] + bias
    assert "Theano" in loads(path, pictures, right).notes[0]


def test_weights_of_another_model_are_reported_by_layer(tmp_path: Path) -> None:
    one = {"dense_1": FIRST, "dense_2": {"kernel": KERNEL_2}}
    for code, weights, message in [
        ("weights.other-layers", {"dense_1": FIRST}, "2 layers with weights, but the file has 1"),
        ("weights.other-count", one, "layer 'dense_2' has 2 weight arrays, but the file has 1"),
        (
            "weights.other-shape",
            {"dense_1": SECOND, "dense_2": FIRST},
            r"'dense_1': the weight 'kernel' is \(4, 2\) in",
        ),
    ]:
        with pytest.raises(InputError, match=message) as wrong:
            load_model(write(tmp_path / "net.h5", two(), weights))
        assert wrong.value.code == code


def test_a_keras_file_saved_on_windows_is_read(tmp_path: Path) -> None:
    data = Path(__file__).parents[2] / "data" / "keras2"
    with zipfile.ZipFile(data / "regression.keras") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    (tmp_path / "weights.h5").write_bytes(parts["model.weights.h5"])
    with h5py.File(tmp_path / "weights.h5", "a") as file:
        [top] = [name for name in file if "layer" in name]
        for name in list(file[top]):
            file.move(f"{top}/{name}", f"{top}\\{name}")
        del file[top]
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as new:
        for name, content in parts.items():
            new.writestr(name, (tmp_path / "weights.h5").read_bytes() if name == "model.weights.h5" else content)
    with np.load(data / "regression.npz") as right:
        loads(tmp_path / "net.keras", right["x"], right["predictions"])


# --- files by their content -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".hdf5", ".hdf", ".H5", ".keras", ".KERAS", ""])
def test_hdf5_is_read_whatever_it_is_called(ending: str, tmp_path: Path) -> None:
    loaded = loads(write(tmp_path / f"net{ending}", two(), WEIGHTS), ROWS, RIGHT)
    assert bool(loaded.notes) == (ending in (".keras", ".KERAS", ""))
    assert all("read as .h5" in note for note in loaded.notes)


def test_a_zip_called_h5_and_an_h5_of_keras_3_called_keras_are_read(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(tmp_path / "net.keras")
    model.save(tmp_path / "net.h5")
    shutil.copy(tmp_path / "net.keras", tmp_path / "zip.h5")
    shutil.copy(tmp_path / "net.h5", tmp_path / "hdf.keras")
    shutil.copy(tmp_path / "net.keras", tmp_path / "net.KERAS")
    right = model.predict(ROWS, verbose=0)
    assert "read as .keras" in loads(tmp_path / "zip.h5", ROWS, right).notes[0]
    assert "read as .h5" in loads(tmp_path / "hdf.keras", ROWS, right).notes[0]
    assert loads(tmp_path / "net.KERAS", ROWS, right).notes == ()


@pytest.mark.parametrize("names", [("net.json", "net_weights.h5"), ("net.json", "net.hdf5"), ("model.json", "best.h5")])
def test_an_architecture_and_its_weights_are_read_together(names: tuple[str, str], tmp_path: Path) -> None:
    text = json.dumps({**sequential(two()), "keras_version": "2.2.4", "backend": "tensorflow"})
    (tmp_path / names[0]).write_text(json.dumps(text) if names[0] == "model.json" else text)
    with h5py.File(tmp_path / names[1], "w") as file:
        write_weights(file, WEIGHTS)
    for name in names:
        loaded = loads(tmp_path / name, ROWS, RIGHT)
        assert loaded.notes == (f"the architecture is read from {names[0]}, the weights from {names[1]}",)
        assert loaded.compile is None


def test_the_architecture_and_weights_of_keras_3_are_read_together(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    (tmp_path / "net.json").write_text(model.to_json())
    model.save_weights(tmp_path / "net.weights.h5")
    loads(tmp_path / "net.json", ROWS, model.predict(ROWS, verbose=0))
    loads(tmp_path / "net.weights.h5", ROWS, model.predict(ROWS, verbose=0))


def test_recurrent_layers_may_begin_with_the_state_of_others() -> None:
    """Keras 2 gave the state among the inputs of the call."""
    rows = {
        "class_name": "InputLayer",
        "config": {"batch_input_shape": [None, 6, 3], "name": "rows"},
        "inbound_nodes": [],
    }
    first, second = recurrent("LSTM", "first", 2, (6, 3), "sigmoid"), recurrent("LSTM", "second", 2, (6, 3), "sigmoid")
    first["config"] |= {"return_sequences": True, "return_state": True}
    state = [["first", 0, number, {}] for number in (0, 1, 2)]
    layers = [rows, {**first, "inbound_nodes": [[["rows", 0, 0, {}]]]}, {**second, "inbound_nodes": [state]}]
    ends = {"input_layers": [["rows", 0, 0]], "output_layers": [["second", 0, 0]]}
    text = json.dumps({"class_name": "Model", "config": {"name": "net", "layers": layers, **ends}})
    call = json.loads(translate(text).architecture)["config"]["layers"][2]["inbound_nodes"][0]
    assert (len(call["args"]), len(call["kwargs"]["initial_state"])) == (1, 2)


def test_foreign_files_are_named_for_what_they_are_whatever_they_are_called(tmp_path: Path) -> None:
    for name, content, what in [
        ("net.h5", pickle.dumps({"model": 1}), "a pickle"),
        ("net.pkl", b"no pickle", "a pickle"),
        ("net.keras", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        ("net.h5", b"<!DOCTYPE html><html>", "a web page"),
        ("net.h5", bytes(4) + b"TFL3" + bytes(9), "TensorFlow Lite"),
        ("net.onnx", bytes([8, 7]), "an ONNX model"),
        ("saved_model.pb", bytes([8, 1]), "a TensorFlow graph"),
        ("net.pt", bytes(9), "a PyTorch file"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=what) as wrong:
            load_model(tmp_path / name)
        assert wrong.value.code == "model.foreign-format"
        assert wrong.value.message.startswith(f"{name} ")
    with zipfile.ZipFile(tmp_path / "torch.h5", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(InputError, match="a PyTorch file"):
        load_model(tmp_path / "torch.h5")


def test_models_are_offered_by_their_endings_and_weights_are_not() -> None:
    models = ["net.h5", "net.hdf5", "net.hdf", "NET.H5", "Net.KERAS", "weights.hdf5"]
    others = ["net.weights.h5", "net_weights.h5", "net.json", "labels.txt", "h5", "net.h5.part"]
    assert [name for name in (*models, *others) if is_model_name(name)] == models
