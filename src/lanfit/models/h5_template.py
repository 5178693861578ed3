"""An .h5 file of a model as a template: its bytes without the weights, and where those are inserted.

Keras traverses HDF5 for each file that it writes, which for a small model takes as long as the rest of a federated
round. Two files of one model differ only in the bytes of their weights: one file written by Keras is enough for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lanfit.wire.arrays import AnyArray


def markers(weights: Sequence[AnyArray]) -> list[AnyArray]:
    """Return arrays like these, each filled with its number: in a file that contains them, each can be located."""
    return [np.full(array.shape, number).astype(array.dtype) for number, array in enumerate(weights)]


@dataclass(frozen=True)
class H5Template:
    """The part of a file that is the same for all weights, in segments; the weights are between them."""

    chunks: tuple[bytes, ...]
    """One more than there are weights: the bytes before each, and after the last."""
    order: tuple[int, ...]
    """The numbers of the weights in their order in the file."""

    @classmethod
    def of(cls, path: Path, marked: Sequence[AnyArray]) -> H5Template | None:
        """Read a file that contains `markers`; return None if one of them can't be located in one segment."""
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
        chunks, position = [], 0
        with path.open("rb") as raw:
            for offset, size, _ in found:
                raw.seek(position)
                chunks.append(raw.read(offset - position))
                position = offset + size
            raw.seek(position)
            return cls((*chunks, raw.read()), order)

    def write(self, file: BinaryIO, weights: Sequence[AnyArray]) -> None:
        """Write the file that Keras would write of the model with these weights, which must match it."""
        file.write(self.chunks[0])
        for number, chunk in zip(self.order, self.chunks[1:], strict=True):
            file.write(np.ascontiguousarray(weights[number]).data.cast("B"))
            file.write(chunk)


def _is(values: AnyArray, marked: AnyArray) -> bool:
    return values.dtype == marked.dtype and values.shape == marked.shape and bool((values == marked).all())
