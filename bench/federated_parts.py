"""What the measurements of method federated share: their models, a workspace for a run, the command, a port."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

_MLP = """
import keras, sys
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((784,)), *(keras.layers.Dense(int(width), "relu") for width in {widths}),
                          keras.layers.Dense(10, "softmax")])
model.compile(keras.optimizers.SGD({rate}), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.save(sys.argv[1])
"""

#: McMahan et al. 2017, section 3: 1,663,370 parameters.
_CNN = """
import keras, sys
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((28, 28, 1)),
                          Conv2D(32, 5, padding="same", activation="relu"), MaxPooling2D(),
                          Conv2D(64, 5, padding="same", activation="relu"), MaxPooling2D(),
                          Flatten(), Dense(512, "relu"), Dense(10, "softmax")])
assert model.count_params() == 1_663_370
model.compile(keras.optimizers.SGD({rate}), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.save(sys.argv[1])
"""


def mlp(rate: float, widths: tuple[int, ...] = (200, 200)) -> str:
    """A script that writes a multilayer perceptron, 784 inputs and 10 outputs, with plain SGD."""
    return _MLP.format(rate=rate, widths=widths)


def paper_cnn(rate: float) -> str:
    """A script that writes the CNN of the paper, with plain SGD."""
    return _CNN.format(rate=rate)


def workspace(folder: Path, script: str, x: Any, y: Any) -> Path:
    """A workspace with one model and one file of rows."""
    for part in ("model", "dataset/X", "dataset/Y"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", script, folder / "model/model.keras"], check=True, capture_output=True)
    np.savez(folder / "dataset/X/x.npz", x=x)
    np.savez(folder / "dataset/Y/y.npz", y=y)
    return folder


def command(what: str, folder: Path, **job: Any) -> list[str]:
    """`lanfit server` or `lanfit simulate` with method federated and these fields of a job."""
    fields = {"method": "federated", **job}
    flags = [str(part) for key, value in fields.items() for part in (f"--{key.replace('_', '-')}", value)]
    return [sys.executable, "-P", "-m", "lanfit.cli", what, "--json", "--workspace", str(folder), *flags]


def describe(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the flags; print command, date and machine."""
    arguments = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print("$ python", *sys.argv)
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    machine = f"{platform.platform()}, {os.cpu_count()} cores{load}"
    print(f"{now}, {machine}, Python {platform.python_version()}", flush=True)
    return arguments


def mnist(path: Path, part: str) -> tuple[Any, Any]:
    """MNIST's own `train` or `test` rows: (rows, 784) float32 in [0, 1], and labels as int64."""
    with np.load(path, allow_pickle=False) as arrays:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    return x.reshape(len(x), -1).astype(np.float32) / 255, y.astype(np.int64)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
