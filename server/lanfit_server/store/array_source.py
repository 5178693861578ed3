"""The rows of a Python program: a block of arrays in a file, used as a source of rows.

While its run is unfinished, the block is kept in the run's folder, so that another server can resume it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lanfit.core.decoding import decode_json
from lanfit.core.durable import atomic_write
from lanfit.data.labels import Target
from lanfit.data.shard import OF, Samples
from lanfit.data.sources import Source, arrays_source, named_source
from lanfit.errors import RemoteProtocolError, lanfit_error
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import LARGEST, AnyArray, check_specs
from lanfit.wire.tasks import OutputSpec, X, Y

_BLOCK, _TABLE = "rows.block", "rows.json"
#: Blocks can't contain text: its characters are stored as numbers, with this suffix after the array's name.
_TEXT = "::text"
#: The suffix in runs of version 0.1.0.
_OLD_TEXT = ":text"
_VALIDATION = "_validation"


class ArraySource(msgspec.Struct, frozen=True):
    """`x` and, if given, `y`, `weights`, `x_validation`, `y_validation`, `weights_validation`; rows first.

    For a model with several inputs or outputs the name of the input or output follows: `x:left`.
    """

    arrays: ArrayFile
    weigh_validation: bool = True
    """Whether weights also apply to validation rows that are selected from these rows."""
    shared_validation: bool = False
    """Whether every client validates on the given validation rows; otherwise they are the server's test rows."""

    @classmethod
    def write(cls, path: Path, rows: Samples, validation: Samples | None = None, **how: bool) -> ArraySource:
        """Write rows, and validation rows."""
        arrays = _named(rows, "") | (_named(validation, _VALIDATION) if validation else {})
        found = dict(_packed(name, array) for name, array in arrays.items())
        return cls(ArrayFile.write(path, found), **how)

    def source(self, outputs: Sequence[OutputSpec]) -> Source:
        """Return the rows as a source for a model with these outputs.

        Raises:
            InputError: the values do not suit the kind of target.
        """
        rows, validation = self._rows()
        parts = [rows] if validation is None else [rows, validation]
        own = len(validation) if validation is not None else 0
        weighed = None
        if any(part.weights is not None for part in parts):
            weighed = np.concatenate(
                [np.ones(len(part), np.float32) if part.weights is None else part.weights for part in parts]
            )
        if list(rows.inputs) == [X] and list(rows.targets) in ([Y], []):
            named = zip(("x", "the x of validation_data"), parts, strict=False)
            source = arrays_source(
                [(name, part.x, part.targets.get(Y)) for name, part in named], Target(outputs[0].target), test=own
            )
        else:
            source = named_source(list(zip(("", " of validation_data"), parts, strict=False)), outputs, test=own)
        return replace(
            source,
            weights=weighed,
            weigh_validation=self.weigh_validation,
            shared_validation=self.shared_validation,
        )

    def _rows(self) -> tuple[Samples, Samples | None]:
        loaded = self.arrays.load()
        suffixes = (_TEXT, _OLD_TEXT) if X in loaded else (_TEXT,)
        arrays = dict(_unpacked(name, array, suffixes) for name, array in loaded.items())
        validation = _samples(arrays, _VALIDATION)
        return _samples(arrays, ""), validation if validation.inputs else None

    def has_soft_labels(self, name: str = Y) -> bool:
        """Return whether targets are between 0 and 1, and not all 0 or 1: fractions, not classes."""
        found: list[Any] = [rows.targets[name] for rows in self._rows() if rows is not None and name in rows.targets]
        if not found or any(y.dtype.kind != "f" or not ((y >= 0) & (y <= 1)).all() for y in found):
            return False
        return any(((y > 0) & (y < 1)).any() for y in found)

    def keep(self, folder: Path) -> None:
        """Keep the block in the folder of a run."""
        kept = folder / _BLOCK
        folder.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.arrays.path, kept)
        except OSError:  # another file system, or one without links
            shutil.copyfile(self.arrays.path, kept)
        atomic_write(folder / _TABLE, msgspec.json.encode(self))

    @classmethod
    def kept(cls, folder: Path) -> ArraySource:
        """Return the rows that were kept in the folder of a run.

        Raises:
            InputError: there are none, or the run is over.
        """
        path = folder / _TABLE
        if not path.is_file() or not (folder / _BLOCK).is_file():
            raise lanfit_error("resume.nothing-kept", run=folder.name, file=folder / _BLOCK)
        try:
            rows = decode_json(path.read_bytes(), cls)
            check_specs(rows.arrays.block.arrays, LARGEST)
        except (ValueError, RemoteProtocolError) as error:
            raise lanfit_error(
                "resume.damaged", run=folder.name, file=path, reason=f"can't be read ({error})"
            ) from error
        moved = ArrayFile(str(folder / _BLOCK), rows.arrays.block)
        return cls(moved, rows.weigh_validation, rows.shared_validation)


def forget_rows(folder: Path) -> None:
    """Remove the rows that were kept: the run is over."""
    for name in (_TABLE, _BLOCK):
        (folder / name).unlink(missing_ok=True)


def _named(rows: Samples, kind: str) -> dict[str, AnyArray]:
    """Return the arrays of rows under their names in the block."""
    single = list(rows.inputs) == [X] and list(rows.targets) in ([Y], [])
    arrays = {f"x{kind}{'' if single else OF + name}": array for name, array in rows.inputs.items()}
    arrays |= {f"y{kind}{'' if single else OF + name}": array for name, array in rows.targets.items()}
    return arrays if rows.weights is None else {**arrays, f"weights{kind}": rows.weights}


def _samples(arrays: Mapping[str, AnyArray], kind: str) -> Samples:
    """Return the rows in arrays from `_named`."""
    found: dict[str, dict[str, AnyArray]] = {f"x{kind}": {}, f"y{kind}": {}}
    for key, array in arrays.items():
        front, _, name = key.partition(OF)
        if front in found:
            found[front][name or front[0]] = array
    return Samples(found[f"x{kind}"], found[f"y{kind}"], arrays.get(f"weights{kind}"))


def _packed(name: str, array: AnyArray) -> tuple[str, AnyArray]:
    if array.dtype.kind != "U":
        return name, array
    width = array.dtype.itemsize // 4
    signs = np.ascontiguousarray(array).view(np.uint32).reshape(*array.shape, width)
    return name + _TEXT, signs


def _unpacked(name: str, array: AnyArray, suffixes: Sequence[str]) -> tuple[str, Any]:
    suffix = next((each for each in suffixes if name.endswith(each)), None)
    if suffix is None:
        return name, array
    return name.removesuffix(suffix), array.view(f"<U{array.shape[-1]}").reshape(array.shape[:-1])
