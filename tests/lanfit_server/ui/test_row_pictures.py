"""Rows as people see them: pictures that any reader of PNG opens, values, targets in words, and their file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from lanfit.data.labels import Target
from lanfit.data.shard import Samples
from lanfit.wire.messages import InputSpec, Model, OutputSpec
from lanfit_server.replay.row_pictures import (
    FILE,
    MOST_BYTES,
    MOST_REDUCED,
    VisibleRows,
    most_rows,
    pictured,
    png_url,
    read_rows,
    thumbnails,
    truths,
    write_rows,
)

RANDOM = np.random.RandomState(1)


def model(*row: int | None, target: Target = Target.CLASSES, ids: int | None = None) -> Model:
    return Model("{}", "{}", (None, *row), (None, 3), target, "none", "none", ids=ids)


def opened(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_a_picture_is_a_png_with_these_pixels(shape: tuple[int, ...]) -> None:
    rows = RANDOM.randint(0, 256, (2, *shape)).astype(np.uint8)
    found = opened(png_url(thumbnails(rows)[1]))
    assert found.mode == ("RGB" if shape[-1] == 3 else "L")
    np.testing.assert_array_equal(np.array(found), rows[1].reshape(np.array(found).shape))


@pytest.mark.parametrize(
    ("values", "bytes_"),
    [
        (np.array([0, 0.5, 1]), [0, 128, 255]),
        (np.array([0, 8, 16]), [0, 128, 255]),
        (np.array([0.0, 100, 200]), [0, 100, 200]),
        (np.array([-1, 0, 1]), [0, 128, 255]),
        (np.array([0, np.nan, 1]), [0, 0, 255]),
        (np.zeros(3), [0, 0, 0]),
        (np.array([0, 1, 1], bool), [0, 255, 255]),
        (np.array([0, 3, 7], np.uint8), [0, 3, 7]),
    ],
)
def test_any_range_of_numbers_is_seen(values: Any, bytes_: list[int]) -> None:
    assert thumbnails(np.tile(values.reshape(1, 1, 3), (1, 3, 1)))[0, 0, :, 0].tolist() == bytes_


def test_large_pictures_are_reduced() -> None:
    rows = np.zeros((1, 130, 200, 3), np.uint8)
    rows[0, :4, :4] = 100
    small = thumbnails(rows)
    assert small.shape == (1, 32, 50, 3)
    assert small[0, 0, 0].tolist() == [100, 100, 100]


@pytest.mark.parametrize(
    ("row", "is_picture"),
    [
        ((28, 28), True),
        ((8, 8, 1), True),
        ((32, 32, 3), True),
        ((32, 32, 4), False),
        ((784,), False),
        ((5, 5), False),
        ((100, 9), False),
        ((None, 28, 1), False),
        ((), False),
    ],
)
def test_what_is_a_picture(row: tuple[int | None, ...], is_picture: bool) -> None:
    assert (pictured(model(*row)) == "x") is is_picture
    assert pictured(model(*row, ids=10)) is None


def test_of_several_inputs_the_first_that_is_a_picture_is_shown() -> None:
    given = model(4)
    inputs = (InputSpec("age", (None, 1)), InputSpec("photo", (None, 12, 10, 3)), InputSpec("x-ray", (None, 12, 10)))
    outputs = (OutputSpec("kind", (None, 3), "classes"),)
    several = msgspec.structs.replace(given, inputs=inputs, outputs=outputs)
    assert pictured(several) == "photo"
    arrays = {each.name: RANDOM.rand(4, *[n or 1 for n in each.shape[1:]]) for each in inputs}
    visible = VisibleRows.of(several, Samples(arrays, {"kind": np.array([2, 0, 1, 1])}), outputs[0], ("a", "b", "c"))
    assert visible.shape == (12, 10, 3)
    truth, picture, values = visible.look_up(0)
    assert (truth, values) == ("c", ())
    assert opened(picture).size == (10, 12)


def test_targets_in_words() -> None:
    classes, values = OutputSpec("y", (None, 3), "classes"), OutputSpec("y", (None, 6), "values")
    assert truths(classes, np.array([2, 0]), ("cat", "dog", "cow")) == ["cow", "cat"]
    assert truths(classes, np.array([[2], [0]]), ()) == ["2", "0"]
    assert truths(OutputSpec("y", (None, 3), "one_hot"), np.eye(3)[[1]], ("a", "b", "c")) == ["b"]
    assert truths(OutputSpec("y", (None, 1), "values"), np.array([[0.5], [1234567.0]]), ()) == ["0.5", "1.23457e+06"]
    assert truths(values, np.arange(6).reshape(1, 6), ()) == ["0, 1, 2, 3, …"]
    assert truths(OutputSpec("y", (None, 3), "input"), np.empty((2, 0)), ()) == ["", ""]


@pytest.mark.parametrize("row", [(8, 8), (5,)])
def test_the_file_of_a_run_has_its_rows(row: tuple[int, ...], tmp_path: Path) -> None:
    rows = Samples.of(RANDOM.rand(6, *row), np.array([0, 1, 2, 2, 1, 0]))
    kept = VisibleRows.of(model(*row), rows, OutputSpec("y", (None, 3), "classes"), ("a", "b", "ü"))
    write_rows(tmp_path, kept)
    read = read_rows(tmp_path)
    assert read is not None
    assert [read.look_up(n) for n in range(6)] == [kept.look_up(n) for n in range(6)]
    assert read.look_up(3)[0] == "ü"
    assert bool(read.look_up(3)[1]) is (len(row) == 2)
    assert len(read.look_up(3)[2]) == (5 if len(row) == 1 else 0)


def test_the_file_has_a_bound() -> None:
    assert most_rows(model(28, 28), {"x": np.empty((0, 28, 28))}) == MOST_BYTES // 784
    assert most_rows(model(64, 64, 3), {"x": np.empty((1, 64, 64, 3))}) == MOST_BYTES // (64 * 64 * 3)
    assert most_rows(model(256, 256, 3), {"x": np.empty((1, 256, 256, 3))}) == MOST_REDUCED // (256 * 256 * 3)
    assert most_rows(model(10), {"x": np.empty((1, 10))}) == MOST_BYTES // 40
    assert most_rows(model(5000), {"x": np.empty((1, 5000))}) == MOST_BYTES // 256


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_a_file_that_is_missing_or_damaged_has_no_rows(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    assert read_rows(tmp_path) is None


@pytest.mark.parametrize(
    "arrays",
    [
        {"truth": np.array(["a"])},
        {"truth": np.array([1]), "values": np.zeros((1, 2))},
        {"truth": np.array(["a"]), "values": np.zeros((2, 2))},
        {"truth": np.array(["a"]), "values": np.zeros((1, 0)), "pictures": np.zeros((1, 8, 8, 1))},
    ],
)
def test_a_file_of_something_else_has_no_rows(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, **arrays)
    assert read_rows(tmp_path) is None
