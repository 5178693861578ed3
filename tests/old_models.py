"""HDF5 files as Keras 2 and TensorFlow 1 wrote them, and what their layers compute, in NumPy. No Keras is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
Json = dict[str, Any]
Arrays = Mapping[str, Array]
#: As in a file that was compiled with the defaults.
COMPILED: Json = {
    "optimizer_config": {"class_name": "Adam", "config": {"lr": 0.001, "decay": 0.0, "epsilon": 1e-07}},
    "loss": "mean_squared_error",
    "metrics": ["mae"],
    "sample_weight_mode": None,
    "loss_weights": None,
}
UNIFORM: Json = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
}


def write(
    path: Path,
    layers: Any,
    weights: Mapping[str, Arrays],
    *,
    compiled: Json | None = None,
    version: str = "2.2.4",
    backend: str = "tensorflow",
) -> Path:
    """Write a model of these layers: the configuration of a Sequential, or the whole one of another model."""
    config = layers if isinstance(layers, dict) else sequential(layers)
    with h5py.File(path, "w") as file:
        file.attrs.update(keras_version=version, backend=backend, model_config=json.dumps(config))
        if compiled is not None:
            file.attrs["training_config"] = json.dumps(compiled)
        write_weights(file.create_group("model_weights"), weights, version, backend)
    return path


def write_weights(
    group: Any, weights: Mapping[str, Arrays], version: str = "2.2.4", backend: str = "tensorflow"
) -> None:
    """Write what `save_weights` wrote. The arrays of a layer have their order; names may hold slashes."""
    group.attrs.update(keras_version=version, backend=backend)
    group.attrs["layer_names"] = np.array([name.encode() for name in weights])
    for name, arrays in weights.items():
        layer = group.create_group(name)
        layer.attrs["weight_names"] = np.array([f"{name}/{key}:0".encode() for key in arrays])
        for key, array in arrays.items():
            layer.create_dataset(f"{name}/{key}:0", data=array)


def sequential(layers: Sequence[Json], name: str = "sequential_1") -> Json:
    return {"class_name": "Sequential", "config": {"name": name, "layers": list(layers)}}


def layer(kind: str, name: str, shape: Sequence[int | None] | None = None, **options: Any) -> Json:
    """A layer as Keras 2 wrote it; with a shape, the first one, which says what the model takes."""
    first = {} if shape is None else {"batch_input_shape": [None, *shape], "dtype": "float32"}
    return {"class_name": kind, "config": {"name": name, "trainable": True, **first, **options}}


def dense(
    name: str, units: int, activation: str = "linear", shape: Sequence[int] | None = None, **options: Any
) -> Json:
    zeros = {"class_name": "Zeros", "config": {}}
    return layer(
        "Dense",
        name,
        shape,
        **{
            "units": units,
            "activation": activation,
            "use_bias": True,
            "kernel_initializer": UNIFORM,
            "bias_initializer": zeros,
            "kernel_regularizer": None,
            **options,
        },
    )


def recurrent(
    kind: str, name: str, units: int, shape: Sequence[int], recurrent_activation: str, **options: Any
) -> Json:
    """An LSTM or a GRU, as Keras 2.1 wrote it."""
    return layer(
        kind,
        name,
        shape,
        units=units,
        activation="tanh",
        recurrent_activation=recurrent_activation,
        use_bias=True,
        implementation=1,
        return_sequences=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        **options,
    )


def random(seed: int = 0) -> Any:
    """A function from a shape to an array of random numbers."""
    numbers = np.random.RandomState(seed)
    return lambda *shape: numbers.randn(*shape).astype(np.float32)


# --- what layers compute ----------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Array) -> Array:
    """That of Keras 2."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def lstm(x: Array, kernel: Array, recurrent_kernel: Array, bias: Array, gate: Any = sigmoid) -> Array:
    hidden = state = np.zeros((len(x), len(recurrent_kernel)), np.float32)
    for step in range(x.shape[1]):
        i, f, c, o = np.split(x[:, step] @ kernel + hidden @ recurrent_kernel + bias, 4, axis=1)
        state = gate(f) * state + gate(i) * np.tanh(c)
        hidden = gate(o) * np.tanh(state)
    return hidden


def gru(x: Array, kernel: Array, recurrent_kernel: Array, bias: Array, gate: Any = sigmoid) -> Array:
    """The GRU before `reset_after`, with one set of biases; with two of them, the one since."""
    hidden = np.zeros((len(x), len(recurrent_kernel)), np.float32)
    uz, ur, uh = np.split(recurrent_kernel, 3, axis=1)
    first, second = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    bz, br, bh = np.split(second, 3)
    for step in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, step] @ kernel + first, 3, axis=1)
        z, r = gate(xz + hidden @ uz + bz), gate(xr + hidden @ ur + br)
        reset = r * (hidden @ uh + bh) if bias.ndim == 2 else (r * hidden) @ uh
        hidden = z * hidden + (1 - z) * np.tanh(xh + reset)
    return hidden


def to_cudnn(gates: int, kernel: Array, recurrent_kernel: Array, biases: Array) -> dict[str, Array]:
    """The arrays of a CuDNNLSTM or CuDNNGRU that computes what these do; `biases` are two sets."""
    kernels = [part.T.reshape(part.shape, order="C") for part in np.split(kernel, gates, axis=1)]
    recurrent = [part.T for part in np.split(recurrent_kernel, gates, axis=1)]
    return {
        "kernel": np.concatenate([part.reshape(len(kernel), -1) for part in kernels], axis=1),
        "recurrent_kernel": np.concatenate(recurrent, axis=1),
        "bias": biases.reshape(-1),
    }
