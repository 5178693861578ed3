"""An .h5 that is written by its template is the file that Keras writes, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit.models.compiling import override
from lanfit.models.export import ModelWriter
from lanfit.models.h5_template import H5Template, markers
from lanfit.models.weights import get_weights

pytestmark = pytest.mark.keras


def dense() -> Any:
    import keras

    # Two kernels of one shape, and a scalar among the optimizer's variables.
    return keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, activation="relu") for _ in range(3))])


def normalized() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),  # trainable ones stand before the others, also in the file
            layers.Dropout(0.5, seed=1),
            layers.Flatten(),
            layers.Dense(3),
            layers.BatchNormalization(trainable=False),
        ]
    )


def recurrent() -> Any:
    import keras

    layers = keras.layers
    words = keras.Input((5,), dtype="int32")
    both = layers.Bidirectional(layers.LSTM(3))(layers.Embedding(7, 4)(words))
    return keras.Model(
        words, layers.Dense(2)(layers.Concatenate()([both, layers.GRU(3)(layers.Embedding(7, 4)(words))]))
    )


def nested() -> Any:
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    rows = keras.Input((4,))
    return keras.Model(rows, keras.layers.Dense(1)(inner(inner(rows))))


def half() -> Any:
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="float16"), keras.layers.Dense(2)])


def writer_of(model: Any) -> ModelWriter:
    import keras

    architecture = model.to_json()
    keras.utils.clear_session()  # names that Keras makes up, and counts, stand in the file
    return ModelWriter(architecture, override(None, "adam", "mse", 0.01, ("mae",)).to_json())


def trained(model: Any, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=array.shape).astype(array.dtype) for name, array in get_weights(model).items()}


def by_keras(path: Path, model: Any, weights: dict[str, Any]) -> bytes:
    """What Keras writes without a template."""
    writer = writer_of(model)
    writer._save(path, weights)
    return path.read_bytes()


def hold_to_keras(model: Any, folder: Path) -> None:
    """Let one writer write two sets of weights, as Keras writes them."""
    writer = writer_of(model)
    for seed in range(2):
        weights = trained(model, seed)
        writer.write(folder / "ours.h5", weights)
        assert (folder / "ours.h5").read_bytes() == by_keras(folder / "keras.h5", model, weights)


@pytest.mark.parametrize("make", [dense, normalized, recurrent, nested, half])
def test_every_file_is_the_one_that_keras_writes(make: Callable[[], Any], tmp_path: Path) -> None:
    hold_to_keras(make(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keras.h5", "ours.h5"]


def test_keras_opens_what_a_template_wrote(tmp_path: Path) -> None:
    import keras

    model = normalized()
    weights = trained(model, 1)
    writer_of(model).write(tmp_path / "ours.h5", weights)
    opened = keras.models.load_model(tmp_path / "ours.h5")
    for ours, theirs in zip(weights.values(), get_weights(opened).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_keras_writes_one_file_for_all_that_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, saved = dense(), []
    save = ModelWriter._save
    monkeypatch.setattr(
        ModelWriter, "_save", lambda self, path, weights: saved.append(path) or save(self, path, weights)
    )
    writer = writer_of(model)
    for seed in range(3):
        writer.write(tmp_path / f"{seed}.h5", trained(model, seed))
    assert len(saved) == 1


def test_without_a_template_keras_writes_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(H5Template, "of", lambda path, marked: None)
    hold_to_keras(dense(), tmp_path)


def test_weights_of_another_model_are_refused_also_by_a_template(tmp_path: Path) -> None:
    writer = writer_of(dense())
    writer.write(tmp_path / "net.h5", trained(dense(), 0))
    before = (tmp_path / "net.h5").read_bytes()
    wrong = trained(dense(), 0)
    wrong[next(iter(wrong))] = np.zeros((4, 5), np.float32)
    with pytest.raises(InputError, match=r"\(4, 5\)"):
        writer.write(tmp_path / "net.h5", wrong)
    wrong.popitem()
    with pytest.raises(InputError):
        writer.write(tmp_path / "net.h5", wrong)
    assert (tmp_path / "net.h5").read_bytes() == before


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda file, arrays: file.create_dataset("a", data=arrays[0]),
        lambda file, arrays: [file.create_dataset(name, data=arrays[0]) for name in "ab"],
        lambda file, arrays: [file.create_dataset(str(n), data=array) for n, array in enumerate([*arrays, arrays[0]])],
        lambda file, arrays: [file.create_dataset(name, data=arrays[0] * np.nan) for name in "ab"],
        lambda file, arrays: [file.create_dataset(str(n), data=array, chunks=True) for n, array in enumerate(arrays)],
        lambda file, arrays: [file.create_dataset(str(n), data=array.astype("f8")) for n, array in enumerate(arrays)],
        lambda file, arrays: [file.create_dataset(str(n), data=array.ravel()) for n, array in enumerate(arrays)],
        lambda file, arrays: [file.create_dataset(str(n), data=array + 0.5) for n, array in enumerate(arrays)],
    ],
    ids=[
        "one missing",
        "one twice",
        "one too many",
        "no numbers",
        "in chunks",
        "other dtype",
        "other shape",
        "other values",
    ],
)
def test_a_file_that_does_not_show_where_each_array_lies_is_no_template(
    corrupt: Callable[[Any, Any], Any], tmp_path: Path
) -> None:
    import h5py

    marked = markers([np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)])
    with h5py.File(tmp_path / "good.h5", "w") as file:
        for number, array in enumerate(marked):
            file.create_dataset(str(number), data=array)
    assert H5Template.of(tmp_path / "good.h5", marked) is not None
    with h5py.File(tmp_path / "spoilt.h5", "w") as file:
        corrupt(file, marked)
    assert H5Template.of(tmp_path / "spoilt.h5", marked) is None


def test_markers_that_a_dtype_can_t_hold_make_no_template(tmp_path: Path) -> None:
    import h5py

    marked = markers([np.zeros(2, bool)] * 3)
    with h5py.File(tmp_path / "flags.h5", "w") as file:
        for number, array in enumerate(marked):
            file.create_dataset(str(number), data=array)
    assert H5Template.of(tmp_path / "flags.h5", marked) is None
