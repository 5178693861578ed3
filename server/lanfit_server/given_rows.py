"""The rows that a Python program gives: a block of arrays in a file, which becomes a source like any other.

While its run is unfinished the block lies in the run's folder, so that another server can go on with it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lanfit.data.labels import Target
from lanfit.data.sources import Source, arrays_source
from lanfit.durable import write_whole
from lanfit.files import ArrayFile
from lanfit.mistakes import mistake
from lanfit.wire.arrays import AnyArray

_BLOCK, _TABLE = "rows.block", "rows.json"
#: Text has no place in a block: its signs travel as numbers, under this name behind that of the array.
_TEXT = ":text"


class GivenRows(msgspec.Struct, frozen=True):
    """`x`, and what there is of `y`, `weights`, `x_validation`, `y_validation`, `weights_validation`; rows first."""

    arrays: ArrayFile
    weigh_validation: bool = True
    """Whether weights count for validation rows that are drawn of these rows, too."""
    shared_validation: bool = False
    """Whether every client validates on the validation rows that were given; else they are the server's test rows."""

    @classmethod
    def write(cls, path: Path, arrays: Mapping[str, AnyArray | None], **how: bool) -> GivenRows:
        """Write arrays, those that are None left out."""
        found = dict(_packed(name, array) for name, array in arrays.items() if array is not None)
        return cls(ArrayFile.write(path, found), **how)

    def source(self, target: Target) -> Source:
        """The rows as a source.

        Raises:
            InputError: other values than the target's kind takes.
        """
        arrays = dict(_unpacked(name, array) for name, array in self.arrays.load().items())
        parts = [("x", arrays["x"], arrays.get("y"))]
        weights = [arrays.get("weights")]
        if (validation := arrays.get("x_validation")) is not None:
            parts.append(("the x of validation_data", validation, arrays.get("y_validation")))
            weights.append(arrays.get("weights_validation"))
        own = len(validation) if validation is not None else 0
        weighed = None
        if any(part is not None for part in weights):
            ones = (
                np.ones(len(x), np.float32) if w is None else w for w, (_, x, _) in zip(weights, parts, strict=True)
            )
            weighed = np.concatenate(list(ones))
        return replace(
            arrays_source(parts, target, test=own),
            weights=weighed,
            weigh_validation=self.weigh_validation,
            shared_validation=self.shared_validation,
        )

    def has_soft_labels(self) -> bool:
        """Whether targets lie between 0 and 1, and not all of them at the ends: shares, no classes."""
        arrays: Mapping[str, Any] = self.arrays.load()
        found = [arrays[name] for name in ("y", "y_validation") if name in arrays]
        if not found or any(y.dtype.kind != "f" or not ((y >= 0) & (y <= 1)).all() for y in found):
            return False
        return any(((y > 0) & (y < 1)).any() for y in found)

    def keep(self, folder: Path) -> None:
        """Keep the block in the folder of a run."""
        kept = folder / _BLOCK
        folder.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.arrays.path, kept)
        except OSError:  # another file system, or one that has no links
            shutil.copyfile(self.arrays.path, kept)
        write_whole(folder / _TABLE, msgspec.json.encode(self))

    @classmethod
    def kept(cls, folder: Path) -> GivenRows:
        """What was kept in the folder of a run.

        Raises:
            InputError: nothing was, or the run is over.
        """
        path = folder / _TABLE
        if not path.is_file() or not (folder / _BLOCK).is_file():
            raise mistake("resume.nothing-kept", run=folder.name, file=folder / _BLOCK)
        rows = msgspec.json.decode(path.read_bytes(), type=cls)
        moved = ArrayFile(str(folder / _BLOCK), rows.arrays.block)
        return cls(moved, rows.weigh_validation, rows.shared_validation)


def forget_rows(folder: Path) -> None:
    """Remove what was kept: the run is over."""
    for name in (_TABLE, _BLOCK):
        (folder / name).unlink(missing_ok=True)


def _packed(name: str, array: AnyArray) -> tuple[str, AnyArray]:
    if array.dtype.kind != "U":
        return name, array
    width = array.dtype.itemsize // 4
    signs = np.ascontiguousarray(array).view(np.uint32).reshape(*array.shape, width)
    return name + _TEXT, signs


def _unpacked(name: str, array: AnyArray) -> tuple[str, Any]:
    if not name.endswith(_TEXT):
        return name, array
    return name.removesuffix(_TEXT), array.view(f"<U{array.shape[-1]}").reshape(array.shape[:-1])
