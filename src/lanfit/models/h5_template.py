"""An .h5 file of a model as a template: its bytes but for the weights, and where those go.

Keras walks through HDF5 for each file that it writes, which for a small model takes as long as the rest of a federated
round. Two files of one model differ in nothing but the bytes of their weights: one that Keras has written does for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lanfit.wire.arrays import AnyArray


def markers(weights: Sequence[AnyArray]) -> list[AnyArray]:
    """Arrays like these, each filled with its number: a file that holds them shows where each one lies."""
    return [np.full(array.shape, number).astype(array.dtype) for number, array in enumerate(weights)]


@dataclass(frozen=True)
class H5Template:
    """What of a file is the same for all weights, in pieces; between them lie the weights."""

    pieces: tuple[bytes, ...]
    """One more than there are weights: what comes before each, and after the last."""
    order: tuple[int, ...]
    """The numbers of the weights as they lie in the file."""

    @classmethod
    def of(cls, path: Path, marked: Sequence[AnyArray]) -> H5Template | None:
        """Read a file that holds `markers`; None when it does not show for each where it lies, in one piece."""
        import h5py

        found: list[tuple[int, int, int]] = []
        """Offset, size and number."""

        def look(_: str, item: Any) -> None:
            if not isinstance(item, h5py.Dataset) or not item.size or item.dtype.kind not in "biuf":
                return
            values, offset = item[()], item.id.get_offset()
            first = np.ravel(values)[0]
            number = int(first) if np.isfinite(first) else -1
            if offset is not None and 0 <= number < len(marked) and _is(values, marked[number]):
                found.append((offset, values.nbytes, number))

        with h5py.File(path, "r") as file:
            file.visititems(look)
        found.sort()
        order = tuple(number for _, _, number in found)
        if sorted(order) != list(range(len(marked))):
            return None
        pieces, position = [], 0
        with path.open("rb") as raw:
            for offset, size, _ in found:
                raw.seek(position)
                pieces.append(raw.read(offset - position))
                position = offset + size
            raw.seek(position)
            return cls((*pieces, raw.read()), order)

    def write(self, file: BinaryIO, weights: Sequence[AnyArray]) -> None:
        """Write the file that Keras would write of the model with these weights, which must fit it."""
        file.write(self.pieces[0])
        for number, piece in zip(self.order, self.pieces[1:], strict=True):
            file.write(np.ascontiguousarray(weights[number]).data.cast("B"))
            file.write(piece)


def _is(values: AnyArray, marked: AnyArray) -> bool:
    return values.dtype == marked.dtype and values.shape == marked.shape and bool((values == marked).all())
