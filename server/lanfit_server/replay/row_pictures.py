"""Test rows as people see them: small pictures, or their first values, and their targets in words.

`shown_rows.npz` in the folder of a run has as many of them as fit, so that rows of a confusion matrix can be looked up
during the run and afterwards.
"""

from __future__ import annotations

import base64
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.core.durable import atomic_file
from lanfit.core.parser_lock import PARSER_LOCK
from lanfit.data.labels import Target, class_ids
from lanfit.data.shard import Arrays, Samples
from lanfit.wire.arrays import AnyArray
from lanfit.wire.tasks import Model, OutputSpec

FILE = "shown_rows.npz"
#: The most bytes of pictures or values in the file, before compression.
MOST_BYTES = 8 << 20
#: The most values of pictures that are looked at for the file, which takes some tenths of a second.
MOST_REDUCED = 32 << 20
#: The longest side of a picture, in pixels. Larger ones are reduced by a whole factor.
LONGEST_SIDE = 64
#: An array of rows is one of pictures if both sides have so many pixels, and their ratio is not larger.
LEAST_SIDE = 6
MOST_RATIO = 4
#: The most values of a row, and of a target, that are shown.
MOST_VALUES = 64
MOST_OF_TARGET = 4

Bytes = NDArray[np.uint8]


def pictured(model: Model) -> str | None:
    """Return the name of the first input whose rows are pictures; None without one."""
    return next((each.name for each in model.takes if each.ids is None and _is_picture(each.shape[1:])), None)


def _is_picture(row: tuple[int | None, ...]) -> bool:
    if len(row) not in (2, 3) or None in row or (len(row) == 3 and row[2] not in (1, 3)):
        return False
    least, most = sorted((row[0] or 0, row[1] or 0))
    return least >= LEAST_SIDE and most <= MOST_RATIO * least


def thumbnails(rows: AnyArray) -> Bytes:
    """Return pictures, shape (rows, height, width, 1 or 3), from rows of any numbers.

    All are brightened alike: 0 to 1 and 0 to 255 are taken for what they are, other ranges are stretched.
    """
    pictures = rows.reshape(*rows.shape[:3], -1)
    factor = -(-max(pictures.shape[1:3]) // LONGEST_SIDE)
    if factor > 1:
        height, width = (side // factor for side in pictures.shape[1:3])
        cut = pictures[:, : height * factor, : width * factor].astype(np.float32)
        pictures = cut.reshape(len(cut), height, factor, width, factor, -1).mean(axis=(2, 4))
    if pictures.dtype == np.uint8:
        return np.ascontiguousarray(pictures, np.uint8)
    values = np.nan_to_num(pictures.astype(np.float32))
    low, high = min(0.0, float(values.min(initial=0))), float(values.max(initial=0))
    if rows.dtype == np.uint8 or 64 < high <= 255:
        high = 255.0
    elif 0 < high <= 1 and low == 0:
        high = 1.0
    scale = 255 / (high - low) if high > low else 0.0
    found: Bytes = np.clip(np.rint((values - low) * scale), 0, 255).astype(np.uint8)
    return found


def png_url(picture: Bytes) -> str:
    """Return a picture of shape (height, width, 1 or 3) as a data URL of a PNG."""
    height, width, channels = picture.shape
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def truths(output: OutputSpec, targets: AnyArray, names: Sequence[str]) -> list[str]:
    """Return the targets of rows in words: names or numbers of classes, or the first values.

    Args:
        targets: as the files have them, in the model's shape.
        names: of the classes; empty if they have none.
    """
    target = Target(output.target)
    if target is Target.INPUT:
        return [""] * len(targets)
    classes = class_ids(target, targets)
    if classes is not None:
        return [names[number] if 0 <= number < len(names) else str(number) for number in classes.tolist()]
    flat = targets.reshape(len(targets), -1)
    more = ", …" if flat.shape[1] > MOST_OF_TARGET else ""
    return [", ".join(f"{value:.6g}" for value in row) + more for row in flat[:, :MOST_OF_TARGET].tolist()]


@dataclass(frozen=True)
class VisibleRows:
    """Rows as people see them."""

    truth: NDArray[np.str_]
    pictures: Bytes | None
    """None if rows are shown as values."""
    values: NDArray[np.float32]
    """Shape (rows, any); no columns if rows are shown as pictures."""

    @classmethod
    def of(cls, model: Model, rows: Samples, output: OutputSpec, names: Sequence[str]) -> VisibleRows:
        """Return these rows. Only those are looked at."""
        truth = np.array(truths(output, rows.targets.get(output.name, np.empty(len(rows))), names), np.str_)
        if (given := pictured(model)) is not None:
            return cls(truth, thumbnails(rows.inputs[given]), np.empty((len(rows), 0), np.float32))
        first = next(iter(rows.inputs.values()))
        values = np.nan_to_num(first.reshape(len(first), -1)[:, :MOST_VALUES].astype(np.float32))
        return cls(truth, None, values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row as it is shown."""
        return (self.values if self.pictures is None else self.pictures).shape[1:]

    def look_up(self, number: int) -> tuple[str, str, tuple[float, ...]]:
        """Return the target of a row, its picture as a data URL, and its values."""
        picture = "" if self.pictures is None else png_url(self.pictures[number])
        return str(self.truth[number]), picture, tuple(float(f"{value:.6g}") for value in self.values[number].tolist())


def most_rows(model: Model, inputs: Arrays) -> int:
    """Return how many rows fit into the file."""
    if (given := pictured(model)) is not None:
        shape = inputs[given].shape[1:]
        factor = -(-max(shape[:2]) // LONGEST_SIDE)
        size = int((shape[0] // factor) * (shape[1] // factor) * (shape[2] if len(shape) == 3 else 1))
    else:
        first = next(iter(inputs.values()))
        size = 4 * min(MOST_VALUES, int(first[:1].size))
    values = sum(int(array[:1].size) for name, array in inputs.items() if name == given) or 1
    return min(MOST_BYTES // max(1, size), MOST_REDUCED // values)


def write_rows(folder: Path, rows: VisibleRows) -> None:
    """Write `shown_rows.npz`.

    Raises:
        OSError: it can't be written.
    """
    arrays: dict[str, Any] = {"truth": rows.truth, "values": rows.values}
    if rows.pictures is not None:
        arrays["pictures"] = rows.pictures
    with atomic_file(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_rows(folder: Path) -> VisibleRows | None:
    """Return the rows in `shown_rows.npz` of a run; None if there is none that can be read."""
    try:
        with PARSER_LOCK, np.load(folder / FILE, allow_pickle=False) as found:
            arrays: Mapping[str, AnyArray] = {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    truth, values, pictures = (arrays.get(name) for name in ("truth", "values", "pictures"))
    if truth is None or values is None or truth.dtype.kind != "U" or values.ndim != 2 or len(values) != len(truth):
        return None
    if pictures is not None and (pictures.dtype != np.uint8 or pictures.ndim != 4 or len(pictures) != len(truth)):
        return None
    return VisibleRows(truth, pictures, values)  # type: ignore[arg-type]
