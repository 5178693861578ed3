"""Models written so that plain Keras opens them: those of clients and rounds, and .keras with normalizers around it.

Both open with `keras.models.load_model(path)`, without lanfit and without custom objects, compiled with a fresh
optimizer, and can be trained on at once. (An .h5 that Keras itself wrote after training must be compiled again before
`fit`: the optimizer state in it makes Keras 3.15.1 stop with "Unknown variable". Ours holds no optimizer state.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.core.durable import atomic_file, check_space
from lanfit.errors import LanfitError
from lanfit.models.architecture import build
from lanfit.models.compiling import compile_model, read_spec, with_long_names
from lanfit.models.h5_template import H5Template, markers
from lanfit.models.raw_model import raw_model
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import check_weights, forms, get_weights, set_weights
from lanfit.wire.arrays import AnyArray

#: What an .h5 holds beside its arrays is much less, in bytes.
HEADER_BYTES = 1 << 20


class ModelWriter:
    """Writes weights as files of one model, which is built once: .h5, or .keras where an .h5 can't hold it.

    Loss and metrics have their long names in them: Keras 3.15.1 can't load an .h5 with `mse` or `mae`.
    """

    def __init__(self, architecture: str, compile_json: str) -> None:
        self._model = build(architecture)
        compile_model(self._model, with_long_names(read_spec(compile_json)))
        self._forms = forms(self._model)
        self._template: H5Template | None = None
        self._has_looked = False

    def write(self, path: Path, weights: Mapping[str, AnyArray]) -> None:
        """Write a file completely or not at all, in the format of its ending.

        Raises:
            InputError: the weights are not this model's.
        """
        check_weights(self._forms, weights)
        if path.suffix == ".keras":
            set_weights(self._model, weights)
            save_model(path, self._model)
            return
        with atomic_file(path) as temporary:
            # HDF5 does not survive a disk that gets full: the process dies of it.
            check_space(temporary, sum(array.nbytes for array in weights.values()) + HEADER_BYTES)
            if not self._has_looked:
                marked = markers(list(weights.values()))
                self._save(temporary, dict(zip(weights, marked, strict=True)))
                self._template, self._has_looked = H5Template.of(temporary, marked), True
            if self._template is None:
                self._save(temporary, weights)
            else:
                self._model = None  # as large as the file, and of no use any more
                with temporary.open("wb") as file:
                    self._template.write(file, list(weights.values()))

    def _save(self, path: Path, weights: Mapping[str, AnyArray]) -> None:
        import h5py

        set_weights(self._model, weights)
        self._model.save(path)
        with h5py.File(path, "a") as file:
            file.pop("optimizer_weights", None)


def write_model(path: Path, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
    """Write one model, as a `ModelWriter` does.

    Raises:
        InputError: the parts are not of one model.
    """
    ModelWriter(architecture, compile_json).write(path, weights)


def holds_in_h5(architecture: str, compile_json: str, weights: Mapping[str, AnyArray], path: Path) -> bool:
    """Return whether Keras can write a model into an .h5 and read the same back from it; tried with a file at `path`.

    It can't with operations between layers, two weights of one name in nested models, some augmentation layers, ...
    """
    import keras

    try:
        writer = ModelWriter(architecture, compile_json)
    except LanfitError:
        return True  # reported elsewhere: it is not due to the format
    # Weights that all differ, so that none can be taken for another one.
    marked = dict(zip(weights, markers(list(weights.values())), strict=True))
    try:
        writer.write(path, marked)
        found = list(get_weights(keras.models.load_model(path)).values())
    except (LanfitError, OSError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - Keras may raise any exception
        return False
    finally:
        path.unlink(missing_ok=True)
    return len(found) == len(marked) and all(map(np.array_equal, found, marked.values()))


def write_final(path: Path, architecture: str, compile_json: str, member: TrainedModel) -> None:
    """Write a trained model as .keras that takes raw rows and predicts in original units, completely or not at all.

    The layers around it are those of `raw_model`.

    Raises:
        InputError: the parts are not of one model, or the constants do not fit its input or output.
    """
    model = raw_model(architecture, member)
    compile_model(model, with_long_names(read_spec(compile_json)))
    save_model(path, model)


def save_model(path: Path, model: Any) -> None:
    """Write a compiled model that was not trained since as .keras, completely or not at all."""
    # Keras warns on loading a .keras whose optimizer has no state yet.
    model.optimizer.build(model.trainable_variables)
    with atomic_file(path) as temporary:
        model.save(temporary)
