"""Images as rows: found in folders of classes, read in the size of the model, refused with the file's name."""

from __future__ import annotations

import struct
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from lanfit.data.images import Size, chunk_of, find_images, holds_images, look_at, read_image, size_of
from lanfit.data.labels import Target
from lanfit.data.sources import check_folders, images_source
from lanfit.errors import InputError


def put(path: Path, pixels: np.ndarray, **options: object) -> np.ndarray:
    """Save an image; returns its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cats and a dog, 4×6 pixels in colour."""
    for number, name in enumerate(("cat/2.png", "cat/10.png", "dog/1.png")):
        put(tmp_path / "X" / name, noise(4, 6, 3) + np.uint8(number))
    return tmp_path / "X"


def test_images_become_rows_in_natural_order_with_the_folders_as_labels(folder: Path) -> None:
    (folder / "cat" / "Thumbs.db").write_bytes(b"")
    source = images_source(folder, folder.parent / "Y", Target.CLASSES, (None, 4, 6, 3))
    [x], [labels] = source.x, source.targets["y"]
    assert x.shape == (3, 4, 6, 3)
    assert x.dtype == np.uint8
    assert np.array_equal(x.read_all(), [noise(4, 6, 3) + np.uint8(n) for n in range(3)])
    assert labels.words == ("cat", "dog")
    assert labels.values.tolist() == [[0], [0], [1]]
    assert source.notes == ()


def test_images_are_brought_to_the_size_of_the_model_and_that_is_reported(folder: Path) -> None:
    put(folder / "dog" / "2.png", noise(8, 8, 3))
    source = images_source(folder, None, Target.INPUT, (None, 2, 3, 1))
    assert source.x[0].read_all().shape == (4, 2, 3, 1)
    assert any("4 images of 2 sizes, resized to 2×3 pixels" in note for note in source.notes)
    assert any("colors are converted to gray" in note for note in source.notes)


def test_files_in_y_are_not_read_and_that_is_reported(folder: Path) -> None:
    (folder.parent / "Y").mkdir()
    (folder.parent / "Y" / "digits.csv").write_text("digit\n1\n")
    source = images_source(folder, folder.parent / "Y", Target.CLASSES, (None, 4, 6, 3))
    assert any("Y is not read" in note for note in source.notes)


def test_a_photo_that_a_camera_turned_is_read_upright(tmp_path: Path) -> None:
    pixels = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    put(tmp_path / "a" / "1.png", pixels, exif=exif)
    [image] = find_images(tmp_path)
    assert (image.width, image.height) == (4, 6)
    assert np.array_equal(read_image(image.path, Size(6, 4, 1))[:, :, 0], np.rot90(pixels, -1))


def test_grey_images_fill_three_channels_where_the_model_wants_them(tmp_path: Path) -> None:
    pixels = put(tmp_path / "a" / "1.png", noise(3, 3))
    assert np.array_equal(read_image(tmp_path / "a" / "1.png", Size(3, 3, 3)), np.stack([pixels] * 3, axis=2))


def test_many_images_are_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanfit.data.images.BLOCK_BYTES", 20)
    for number in range(5):
        put(tmp_path / "a" / f"{number}.png", np.full((3, 3), number, np.uint8))
    images = find_images(tmp_path)
    blocks = list(chunk_of("x", images, Size(3, 3, 1)).blocks())
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert np.concatenate(blocks)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_what_a_model_takes_says_the_size() -> None:
    assert size_of("x", (28, 28)) == Size(28, 28, 1)
    assert size_of("x", (28, 20, 3)) == Size(28, 20, 3)


def test_a_folder_of_tables_holds_no_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.csv").write_text("a\n1\n")
    assert not holds_images(tmp_path)
    assert not holds_images(tmp_path / "nothing")


def test_folders_of_images_need_no_targets_beside_them(folder: Path) -> None:
    check_folders(folder, folder.parent / "Y")


def corrupt_with_a_table(folder: Path) -> None:
    (folder / "digits.csv").write_text("a\n1\n")


def corrupt_with_a_note(folder: Path) -> None:
    (folder / "cat" / "list.txt").write_text("cats")


def corrupt_with_an_empty_class(folder: Path) -> None:
    (folder / "horse").mkdir()


def corrupt_with_text(folder: Path) -> None:
    (folder / "cat" / "3.png").write_text("no image")


def corrupt_with_deep_pixels(folder: Path) -> None:
    Image.fromarray(noise(4, 4).astype(np.uint16) * 256).save(folder / "cat" / "3.png")


@pytest.mark.parametrize(
    ("corrupt", "code", "named"),
    [
        (corrupt_with_a_table, "images.other-file", "digits.csv"),
        (corrupt_with_a_note, "images.other-file", "list.txt"),
        (corrupt_with_an_empty_class, "images.empty-class", "horse"),
        (corrupt_with_text, "images.damaged", "3.png"),
        (corrupt_with_deep_pixels, "images.deep", "3.png"),
    ],
)
def test_what_is_in_the_way_is_named(folder: Path, corrupt, code: str, named: str) -> None:
    corrupt(folder)
    with pytest.raises(InputError) as caught:
        images_source(folder, None, Target.CLASSES, (None, 4, 6, 3))
    assert caught.value.code == code
    assert named in caught.value.message


def test_a_damaged_image_is_named_when_it_is_read(folder: Path) -> None:
    path = folder / "cat" / "2.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        images_source(folder, None, Target.CLASSES, (None, 4, 6, 3)).x[0].read_all()
    assert caught.value.code == "images.damaged"
    assert "2.png" in caught.value.message


@pytest.mark.parametrize("error", [TypeError("'IFDRational' object cannot be interpreted"), KeyError(7), IndexError()])
def test_whatever_a_decoder_runs_into_is_a_damaged_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    source = images_source(folder, None, Target.CLASSES, (None, 4, 6, 3)).x[0]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", Mock(side_effect=error))
    with pytest.raises(InputError) as caught:
        source.read_all()
    assert caught.value.code == "images.damaged"


def test_an_orientation_that_is_no_number_turns_nothing(tmp_path: Path) -> None:
    exif = b"MM\0*" + struct.pack(">IHHHI4sI", 8, 1, 0x0112, 7, 3, b"\6\6\6\0", 0)  # three bytes, of no type
    Image.fromarray(noise(4, 6, 3)).save(tmp_path / "a.png", exif=exif)
    found = look_at(tmp_path / "a.png")
    assert (found.width, found.height) == (6, 4)
    assert read_image(tmp_path / "a.png", Size(4, 6, 3)).shape == (4, 6, 3)


def test_an_image_that_declares_too_many_pixels_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanfit.data.images.MOST_PIXELS", 20)
    with pytest.raises(InputError) as caught:
        find_images(folder)
    assert caught.value.code == "images.too-large"


@pytest.mark.parametrize("shape", [(None, 64), (None, None, None, 3), (None, 3, 64, 64), (None, 4, 4, 4, 3)])
def test_a_model_that_takes_no_images_is_refused(folder: Path, shape: tuple[int | None, ...]) -> None:
    with pytest.raises(InputError) as caught:
        images_source(folder, None, Target.CLASSES, shape)
    assert caught.value.code == "images.no-size"


def test_numbers_have_no_folders(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        images_source(folder, None, Target.VALUES, (None, 4, 6, 3))
    assert caught.value.code == "images.no-numbers"


def test_without_pillow_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(InputError) as caught:
        find_images(folder)
    assert caught.value.code == "images.no-pillow"


def test_a_raw_table_beside_empty_folders_is_named_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "my table.csv").write_text("name,y\nAnn,1\n")
    with pytest.raises(InputError) as caught:
        check_folders(tmp_path / "X", tmp_path / "Y")
    assert caught.value.code == "folder.raw-table"
    assert f"`lanfit prepare '{tmp_path / 'my table.csv'}'`" in caught.value.hint
