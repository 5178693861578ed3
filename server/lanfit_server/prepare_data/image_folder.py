"""`lanfit prepare FOLDER`: from a folder of images, one subfolder per class, to `dataset/`."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lanfit.core.terminal import Terminal
from lanfit.data.chunks import check_memory
from lanfit.data.images import Image, Size, chunk_of, find_images, labels_of
from lanfit.errors import lanfit_error
from lanfit_server.prepare_data.decide import class_order, written_classes
from lanfit_server.prepare_data.recipe import ImageRecipe

#: The largest size that is proposed if all images have it.
LARGEST = 128
USUAL = "64x64"


def ask_size(terminal: Terminal, images: Sequence[Image], given: str | None) -> Size:
    """Return the size of the rows: given, or asked; the images' own if they all have the same small one.

    Raises:
        InputError: it is not a valid size.
    """
    sizes = {(image.height, image.width) for image in images}
    channels = 1 if all(image.grey for image in images) else 3
    own = sizes.pop() if len(sizes) == 1 else (0, 0)
    default = f"{own[0]}x{own[1]}" if 0 < max(own) <= LARGEST else USUAL

    def accept(text: str) -> Size:
        found = re.fullmatch(r"(\d{1,4})\s*[xX×*,]\s*(\d{1,4})", text.strip())
        if found is None or not all(1 <= int(n) <= 2048 for n in found.groups()):
            raise lanfit_error("images.wrong-size", size=text)
        return Size(int(found[1]), int(found[2]), channels)

    return accept(given) if given is not None else terminal.ask("Size of the images", "--size", accept, default=default)


def read_folder(folder: Path) -> list[Image]:
    """Return the images of a folder; at least two classes.

    Raises:
        InputError: as `find_images`, or there is only one class.
    """
    images = find_images(folder)
    if len({image.label for image in images}) < 2:
        raise lanfit_error("images.one-class", folder=folder, name=images[0].label)
    return images


def make_recipe(folder: Path, images: Sequence[Image], size: Size) -> ImageRecipe:
    """Return the conversion of the images."""
    labels_of(str(folder), images)  # rejects names that can't be labels
    classes = tuple(sorted({image.label for image in images}, key=class_order))
    return ImageRecipe(
        folder=folder.name, height=size.height, width=size.width, channels=size.channels, classes=classes
    )


def arrays_of(
    folder: Path, images: Sequence[Image], size: Size, recipe: ImageRecipe
) -> tuple[bytes, tuple[object, ...]]:
    """Return X as an npz file, and the targets as they are written.

    Raises:
        InputError: an image is damaged, or together they take more memory than is free.
    """
    check_memory(f"{len(images):,} images take", 2 * len(images) * size.height * size.width * size.channels)
    x = chunk_of(str(folder), images, size).read_all()
    file = io.BytesIO()
    np.savez_compressed(file, x)
    return file.getvalue(), written_classes(recipe.classes, [image.label for image in images])
