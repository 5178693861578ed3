"""Weights out of a model and into it again: what layers make of them, and shapes that differ by ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit.models.architecture import build
from lanfit.models.weights import fit_shapes, get_weights, set_weights

pytestmark = pytest.mark.keras


def net(layer: Any, columns: int) -> Any:
    import keras

    return keras.Sequential([keras.Input((columns,)), layer, keras.layers.Dense(2)])


def test_an_adapted_discretization_keeps_its_boundaries() -> None:
    import keras

    layer = keras.layers.Discretization(num_bins=4, output_mode="multi_hot")
    layer.adapt(np.arange(40.0).reshape(10, 4))
    model = net(layer, 4)
    built = build(model.to_json())
    set_weights(built, get_weights(model))
    x = np.random.RandomState(0).uniform(0, 40, (8, 4))
    np.testing.assert_array_equal(np.asarray(built(x)), np.asarray(model(x)))


@pytest.mark.parametrize("axis", [None, -1])
def test_a_normalization_adapted_in_the_program_gets_its_weights_back(axis: int | None) -> None:
    """Of one column, adapted to a list of numbers: the mean has another shape than in a model built from JSON."""
    import keras

    layer = keras.layers.Normalization(axis=axis, input_shape=(1,))
    layer.adapt(np.arange(10.0) if axis is None else np.arange(10.0).reshape(10, 1))
    model = net(layer, 1)
    weights = get_weights(model)
    for shape in ((), (1,), (1, 1)):
        given = {name: a.reshape(shape) if a.size == 1 and a.dtype == np.float32 else a for name, a in weights.items()}
        set_weights(model, fit_shapes(model, given))
        for array, wanted in zip(get_weights(model).values(), weights.values(), strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_weights_that_differ_by_more_than_ones_are_refused() -> None:
    import keras

    model = net(keras.layers.Dense(3), 4)
    for change in (lambda a: a.T, lambda a: a.reshape(-1)):
        weights = {name: change(array) if array.ndim == 2 else array for name, array in get_weights(model).items()}
        with pytest.raises(InputError):
            set_weights(model, fit_shapes(model, weights))
    with pytest.raises(InputError):
        set_weights(model, fit_shapes(model, {}))
