"""Models that an .h5 can't hold: found before anyone works, and written as .keras instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit.models.compiling import CompileSpec, override
from lanfit.models.export import ModelWriter, holds_in_h5
from lanfit.models.weights import get_weights

pytestmark = pytest.mark.keras


def functional(shape: tuple[int, ...], inner: Callable[[Any], Any]) -> Any:
    import keras

    rows = keras.Input(shape)
    return keras.Model(rows, keras.layers.Dense(2)(inner(rows)))


def plain() -> Any:
    import keras

    return functional((4,), keras.layers.Dense(3, activation="relu"))


def operations() -> Any:
    return functional((4,), lambda rows: rows / 127.5 - 1)


def a_residual() -> Any:
    import keras

    return functional((4,), lambda rows: rows + keras.layers.Dense(4)(rows))


def attention() -> Any:
    import keras

    return functional((3, 4), lambda rows: keras.layers.Attention()([rows, rows]))


def one_mean_for_all() -> Any:
    import keras

    layer = keras.layers.Normalization(axis=None)
    layer.adapt(np.arange(24.0).reshape(4, 6))
    return functional((6,), layer)


def contrast() -> Any:
    import keras

    return functional((4, 4, 3), lambda rows: keras.layers.Flatten()(keras.layers.RandomContrast(0.1)(rows)))


def augmentation() -> Any:
    import keras

    layers = [keras.layers.RandomFlip(), keras.layers.RandomBrightness(0.1), keras.layers.RandAugment()]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Flatten(), keras.layers.Dense(2)])


def twins() -> Any:
    """Two parts of a part, each with a layer of the same name."""
    import keras

    def part(name: str) -> Any:
        rows = keras.Input((4,))
        return keras.Model(rows, keras.layers.Dense(4, name="same")(rows), name=name)

    rows = keras.Input((4,))
    return functional((4,), keras.Model(rows, part("right")(part("left")(rows)), name="middle"))


NOT_IN_H5 = [operations, a_residual, attention, one_mean_for_all, contrast, augmentation, twins]


def parts(model: Any) -> tuple[str, str]:
    return model.to_json(), override(None, "adam", "mse").to_json()


@pytest.mark.parametrize("net", NOT_IN_H5)
def test_a_model_that_no_h5_can_hold_is_found_and_written_as_keras(net: Callable[[], Any], tmp_path: Path) -> None:
    import keras

    model = net()
    weights = get_weights(model)
    assert not holds_in_h5(*parts(model), weights, tmp_path / "tried.h5")
    assert list(tmp_path.iterdir()) == []
    writer = ModelWriter(*parts(model))
    for number in (1, 2):
        # As in rounds: other weights each time. (Not those of a Normalization, which are no numbers to play with.)
        changed = {name: array + number if "kernel" in name else array for name, array in weights.items()}
        writer.write(tmp_path / f"{number}.keras", changed)
        opened = keras.models.load_model(tmp_path / f"{number}.keras")
        for array, wanted in zip(get_weights(opened).values(), changed.values(), strict=True):
            np.testing.assert_array_equal(array, wanted)
        assert type(opened.optimizer) is keras.optimizers.Adam


def test_an_optimizer_that_no_h5_can_hold_counts_as_well(tmp_path: Path) -> None:
    import keras

    model = plain()
    assert holds_in_h5(*parts(model), get_weights(model), tmp_path / "tried.h5")
    lamb = CompileSpec(keras.saving.serialize_keras_object(keras.optimizers.Lamb()), "mse").to_json()
    assert not holds_in_h5(model.to_json(), lamb, get_weights(model), tmp_path / "tried.h5")


def test_weights_of_another_model_are_refused_in_a_keras_file_too(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        ModelWriter(*parts(plain())).write(tmp_path / "net.keras", get_weights(operations()))
    assert list(tmp_path.iterdir()) == []
