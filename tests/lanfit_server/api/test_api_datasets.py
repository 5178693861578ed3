"""Datasets that `Cluster.fit` reads once: their elements, how many are read, and what is random in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit_server.api import datasets
from lanfit_server.api.datasets import Names, random_parts
from lanfit_server.api.rows import Rows, rows_of

pytestmark = pytest.mark.keras

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 3
NAMES = Names(("img",), ("digit",))


def rows(x: Any, y: Any = None, weights: Any = None, **how: Any) -> Rows:
    return rows_of(x, y, weights, 2, needs_targets=True, **{"names": NAMES, **how})


def slices(*parts: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


@pytest.mark.parametrize("wrap", [lambda x, name: [x], lambda x, name: (x,), lambda x, name: {name: x}])
def test_one_array_may_come_in_a_list_or_under_the_name_of_the_model(wrap: Any) -> None:
    weights = np.linspace(0, 1, 12).astype(np.float32)
    found = rows(wrap(X, "img"), wrap(Y, "digit"), wrap(weights, "digit"))
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)
    np.testing.assert_array_equal(found.weights, weights)


def test_a_dict_under_another_name_or_of_several_arrays_is_refused_with_its_names() -> None:
    for given, named in (({"image": X}, "'image'"), ({"img": X, "age": Y}, "'img', 'age'")):
        with pytest.raises(InputError, match=rf"x is a dict of arrays \({named}\)") as wrong:
            rows(given, Y)
        assert "a dict with their names" in wrong.value.hint


def test_elements_of_a_dataset_may_have_their_one_input_in_a_dict() -> None:
    for dataset in (slices({"img": X}, Y), slices({"img": X}, {"digit": Y}).batch(5)):
        found = rows(dataset)
        np.testing.assert_array_equal(found.x, X)
        np.testing.assert_array_equal(found.y, Y)
    with pytest.raises(InputError, match="is a dict of inputs: 'img', 'age'") as wrong:
        rows(slices({"img": X, "age": X}, Y))
    assert wrong.value.code == "fit.elements"
    with pytest.raises(InputError, match="made of 2 inputs"):
        rows(slices((X, X), Y))


def test_steps_per_epoch_are_so_many_batches_also_of_a_dataset_without_an_end() -> None:
    endless = slices(X, Y).repeat()
    found = rows(endless.batch(5), steps=3)
    assert (len(found.x), found.batch) == (15, 5)
    np.testing.assert_array_equal(found.x[:12], X)
    assert found.notes == ("15 rows of the tf.data.Dataset were read (steps_per_epoch=3); every epoch uses them.",)
    assert len(rows(endless, steps=3, wanted=4).x) == 12, "three batches of four"
    with pytest.raises(InputError) as wrong:
        rows(endless)
    assert wrong.value.code == "fit.endless"
    assert "steps_per_epoch=100" in wrong.value.hint


def test_a_dataset_of_unknown_length_says_how_many_rows_were_read() -> None:
    unknown = slices(X, Y).filter(lambda x, y: y < 2)
    found = rows(unknown.batch(4))
    assert len(found.x) == 8
    assert found.notes == ("8 rows of the tf.data.Dataset were read (its length was unknown).",)
    assert rows(slices(X, Y)).notes == ()


def test_a_dataset_that_memory_has_no_space_for_stops_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    element = X[0].nbytes + Y[0].nbytes
    monkeypatch.setattr(datasets, "free_memory", lambda: 2 * 5 * element)
    with pytest.raises(InputError, match="6 rows of 96 bytes were read, and 160 bytes was free") as wrong:
        rows(slices(X, Y).repeat(1_000_000))
    assert wrong.value.code == "fit.too-large"
    assert len(rows(slices(X, Y).take(5)).x) == 5


def test_random_augmentation_in_a_dataset_is_found() -> None:
    import keras
    import tensorflow as tf

    images = slices(np.zeros((4, 8, 8, 3), np.float32), Y[:4]).batch(2)
    flip = keras.layers.RandomFlip()
    for augment in (
        lambda x, y: (tf.image.random_flip_left_right(x), y),
        lambda x, y: (x + tf.random.normal(tf.shape(x)), y),
        lambda x, y: (flip(x, training=True), y),
    ):
        for dataset in (images.map(augment), images.map(augment).prefetch(2), images.map(augment).take(1)):
            assert "Random" in random_parts(dataset, "tf.data.Dataset")
    assert random_parts(images.map(lambda x, y: (x / 255.0, y)).shuffle(4), "tf.data.Dataset") == ""
    found = rows_of(images.map(lambda x, y: (tf.image.random_brightness(x, 0.1), y)), None, None, 4, needs_targets=True)
    assert "Random" in found.frozen
