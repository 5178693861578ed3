"""A model for prepared data: writes its script into `model/`, and runs it to create the model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lanfit.core.durable import atomic_write
from lanfit.core.passphrase import environment_of_children
from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error

KINDS = {"0": "none", "1": "mlp", "2": "cnn"}
_MLP = """\
        keras.Input({shape}, name="inputs"),
{flat}        layers.Dense({first}, activation="relu"),
        layers.Dense({second}, activation="relu"),
"""
_CNN_ROWS = """\
        keras.Input({shape}, name="inputs"),
        layers.Reshape(({width}, 1)),
        layers.Conv1D(16, 3, padding="same", activation="relu"),
        layers.Conv1D(32, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(32, activation="relu"),
"""
_SCRIPT = '''"""Builds and compiles the model for {what}, and writes it beside this file: python {path}

Change the layers as you like and run it again. The input is a row of dataset/X{comment}
"""

from pathlib import Path

import keras
from keras import layers

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
{layers}        layers.Dense({outputs}{activation}),
    ]
)
model.compile(optimizer={optimizer}, loss="{loss}", metrics=[{metrics}])
model.summary()
model.save(Path(__file__).with_suffix(".keras"))
'''


def model_script(kind: str, name: str, what: str, shape: tuple[int, ...], classes: int | None, comment: str) -> str:
    """Return the text of a script that builds, compiles and saves a model.

    Args:
        kind: mlp or cnn.
        name: of the model's file, without its extension.
        shape: of a row.
        classes: their number; None for a regression with one output.
    """
    rows = len(shape) == 1
    if kind == "mlp":
        size = max(16, min(128, 1 << (2 * shape[0] - 1).bit_length())) if rows else 128
        text = _MLP.format(
            shape=shape, flat="" if rows else "        layers.Flatten(),\n", first=size, second=size // 2
        )
    elif rows:
        text = _CNN_ROWS.format(shape=shape, width=shape[0])
    else:
        text = _cnn_of_images(shape)
    return _SCRIPT.format(
        what=what,
        path=f"model/{name}.py",
        comment=comment,
        layers=text,
        outputs=classes or 1,
        activation=', activation="softmax"' if classes else "",
        optimizer="keras.optimizers.Adam(0.001)",
        loss="sparse_categorical_crossentropy" if classes else "mean_squared_error",
        metrics='"accuracy"' if classes else '"mae"',
    )


def _cnn_of_images(shape: tuple[int, ...]) -> str:
    """Return blocks of convolution and pooling until the image is small."""
    lines = [f'keras.Input({shape}, name="inputs"),']
    size, filters = min(shape[:2]), 16
    while size >= 4 and filters <= 64:
        lines += [f'layers.Conv2D({filters}, 3, padding="same", activation="relu"),', "layers.MaxPooling2D(),"]
        size, filters = size // 2, filters * 2
    if len(lines) == 1:
        lines.append('layers.Conv2D(16, 3, padding="same", activation="relu"),')
    lines += ["layers.Flatten(),", 'layers.Dense(64, activation="relu"),']
    return "".join(f"        {line}\n" for line in lines)


def file_name(path: Path) -> str:
    """Return a name for the files made from a table or folder: its own, without extensions and special characters."""
    stem = re.sub(r"(\.csv|\.tsv|\.txt|\.xlsx)?(\.gz|\.bz2|\.xz|\.zip)?$", "", path.name, flags=re.IGNORECASE)
    return re.sub(r"[^\w-]+", "-", stem).strip("-")[:80] or "table"


def check_model(workspace: Workspace, name: str, *, replace: bool) -> None:
    """Refuse to overwrite a model or a script.

    Raises:
        InputError: one of them exists.
    """
    there = [path for ending in (".keras", ".py") if (path := workspace.models / f"{name}{ending}").exists()]
    if there and not replace:
        raise lanfit_error("prepare.model-exists", files=", ".join(workspace.relative(path) for path in there))


def write_model(workspace: Workspace, name: str, script: str) -> Path:
    """Write the script, run it, and return the path of the model.

    Raises:
        InputError: it fails: Keras is missing, or the disk is full.
    """
    path = workspace.models / f"{name}.py"
    atomic_write(path, script)
    done = subprocess.run(
        [sys.executable, "-P", str(path)],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment_of_children({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}),
        check=False,
    )
    model = path.with_suffix(".keras")
    if done.returncode or not model.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise lanfit_error("prepare.model-failed", script=workspace.relative(path), reason=last)
    return model
