"""Images as rows: files in one folder for each class, read in a given size as uint8, 0 to 255.

Names and sizes of all images are known before any is decoded; then they are read in blocks of some MiB.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.core.text import pluralize
from lanfit.data.chunks import BLOCK_BYTES, Chunk
from lanfit.data.current_file import reading
from lanfit.data.files import is_data, natural_key
from lanfit.data.text_labels import Labels, labels_of_texts
from lanfit.errors import LanfitError, lanfit_error

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
#: A bound on the pixels of an image, because a small file can declare gigabytes.
MOST_PIXELS = 100_000_000
#: The modes of Pillow for 1, 3 and 4 channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GREY = frozenset({"1", "L", "LA"})
#: Pillow's modes with more than 8 bits, which a conversion would clip.
_DEEP = ("I", "F")


@dataclass(frozen=True)
class Size:
    """The size of an image; the shape of its row is (height, width, channels)."""

    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Image:
    """An image file, with the facts in its header."""

    path: Path
    label: str
    """The name of its folder."""
    width: int
    height: int
    grey: bool


def is_image(path: Path) -> bool:
    """Return whether a file is an image by its name."""
    return path.name.lower().endswith(ENDINGS) and is_data(path)


def holds_images(folder: Path) -> bool:
    """Return whether a folder holds folders with images in them."""
    return folder.is_dir() and any(
        any(map(is_image, sub.iterdir())) for sub in folder.iterdir() if is_data(sub) and sub.is_dir()
    )


def find_images(folder: Path) -> list[Image]:
    """Return the images in the subfolders of a folder, in natural order of classes and files.

    Raises:
        InputError: there is another file among them, a class has no images, or an image can't be read.
    """
    found = []
    for sub in sorted((path for path in folder.iterdir() if is_data(path)), key=lambda path: natural_key(path.name)):
        if not sub.is_dir():
            raise lanfit_error("images.other-file", file=sub, folder=folder)
        paths = sorted((path for path in sub.iterdir() if is_data(path)), key=lambda path: natural_key(path.name))
        if not paths:
            raise lanfit_error("images.empty-class", folder=sub)
        for path in paths:
            if not is_image(path) or path.is_dir():
                raise lanfit_error("images.other-file", file=path, folder=folder)
            found.append(look_at(path, sub.name))
    if not found:
        raise lanfit_error("images.none", folder=folder)
    return found


def look_at(path: Path, label: str = "") -> Image:
    """Read the header of an image.

    Raises:
        InputError: the file is not an image, or it is too large.
    """
    with _opened(path) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise lanfit_error("images.too-large", file=path, width=width, height=height, most=MOST_PIXELS)
        if image.mode.startswith(_DEEP):
            raise lanfit_error("images.deep", file=path, mode=image.mode)
        if image.getexif().get(0x0112) in (5, 6, 7, 8):  # to be rotated by 90 degrees
            width, height = height, width
        return Image(path, label, width, height, image.mode in _GREY)


def read_image(path: Path, size: Size) -> NDArray[np.uint8]:
    """Return an image upright, in this size and with these channels; shape (height, width, channels).

    Raises:
        InputError: it is damaged.
    """
    with _opened(path) as image:
        from PIL import Image as Pillow
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(image).convert(MODES[size.channels])
        if upright.size != (size.width, size.height):
            upright = upright.resize((size.width, size.height), Pillow.Resampling.BILINEAR)
        return np.asarray(upright, np.uint8).reshape(size.shape)


def chunk_of(name: str, images: Sequence[Image], size: Size) -> Chunk:
    """Return the images as rows; they are decoded when they are read."""
    paths = [image.path for image in images]
    shape = (len(paths), *size.shape)
    return Chunk(name, shape, np.dtype(np.uint8), partial(_blocks, paths, size), notes_of(images, size))


def labels_of(name: str, images: Sequence[Image]) -> Labels:
    """Return the names of the folders as labels.

    Raises:
        InputError: as `labels_of_texts`.
    """
    names = list(dict.fromkeys(image.label for image in images))
    place = {label: number for number, label in enumerate(names)}
    return labels_of_texts(name, np.array([[place[image.label]] for image in images], np.int32), names)


def size_of(name: str, shape: Sequence[int | None]) -> Size:
    """Return the size in which a model takes images; `shape` is its input's without the rows.

    Raises:
        InputError: the model does not take images, or images of any size.
    """
    sizes = [n for n in shape if n is not None]
    if len(sizes) == len(shape) and len(sizes) == 2:
        return Size(sizes[0], sizes[1], 1)
    if len(sizes) == len(shape) and len(sizes) == 3 and sizes[2] in MODES:
        return Size(*sizes)
    raise lanfit_error("images.no-size", folder=name, wanted="×".join("?" if n is None else str(n) for n in shape))


def notes_of(images: Sequence[Image], size: Size) -> tuple[str, ...]:
    """Return notes on how images are converted."""
    sizes = {(image.width, image.height) for image in images}
    notes = []
    if sizes != {(size.width, size.height)}:
        kinds = "1 size" if len(sizes) == 1 else f"{len(sizes)} sizes"
        notes.append(f"{pluralize(len(images), 'image')} of {kinds}, resized to {size.height}×{size.width} pixels")
    if size.channels == 1 and not all(image.grey for image in images):
        notes.append("colors are converted to gray")
    return tuple(notes)


def _blocks(paths: Sequence[Path], size: Size) -> Iterator[NDArray[Any]]:
    step = max(1, BLOCK_BYTES // prod(size.shape))
    for start in range(0, len(paths), step):
        yield np.stack([read_image(path, size) for path in paths[start : start + step]])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an image with Pillow, and name the file in any error."""
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise lanfit_error("images.no-pillow", file=path) from error
    try:
        with reading(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own bound on sizes; ours is lower
            with Pillow.open(path) as image:
                yield image
    except (LanfitError, MemoryError):
        raise
    except Exception as error:  # its parsers raise any exception on damaged files, even TypeError
        raise lanfit_error("images.damaged", file=path, reason=str(error) or type(error).__name__) from error
