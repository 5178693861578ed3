"""Blocks as files for the trainers of this machine: arrays in memory are written once, when first needed.

Data that is already in a mapped file, such as shards, is read there by any number of trainers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from lanfit.errors import LocalProtocolError
from lanfit.transfer.blocks import ArrayFile, BlockFile, Place, place_of
from lanfit.wire.arrays import AnyArray, BlockSpec, offsets


class BlocksOnDisk:
    """Served blocks as files, in a folder that is removed with its owner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # By the complete spec: blocks of equal bytes have the same id, even with other arrays.
        self._served: dict[BlockSpec, Mapping[str, AnyArray]] = {}
        self._files: dict[BlockSpec, asyncio.Future[ArrayFile]] = {}
        self._count = 0

    def serve(self, spec: BlockSpec, arrays: Mapping[str, AnyArray]) -> None:
        """Register this block; nothing is written yet."""
        self._served[spec] = arrays

    def withdraw(self, block_id: str) -> None:
        """Remove a block. Open files stay readable."""
        for spec in [spec for spec in self._served if spec.id == block_id]:
            self._forget(spec)

    def clear(self) -> None:
        """Remove all blocks."""
        for spec in list(self._served):
            self._forget(spec)

    def _forget(self, spec: BlockSpec) -> None:
        del self._served[spec]
        made = self._files.pop(spec, None)
        if made is not None and made.done() and not made.cancelled() and made.exception() is None:
            with contextlib.suppress(OSError):  # on Windows, while it is being read
                Path(made.result().path).unlink(missing_ok=True)

    async def file(self, spec: BlockSpec) -> ArrayFile:
        """Return the file of a block that is served.

        Raises:
            LocalProtocolError: it is not.
            OSError: it can't be written.
        """
        if spec not in self._files:
            arrays = self._served.get(spec)
            if arrays is None:
                raise LocalProtocolError("a trainer needs a block that is not served")
            self._count += 1
            path = self._folder / f"{self._count}.block"
            self._files[spec] = asyncio.ensure_future(asyncio.to_thread(_file_of, path, spec, arrays))
        try:
            return await asyncio.shield(self._files[spec])
        except OSError:
            self._files.pop(spec, None)  # there may be space later
            raise


def _file_of(path: Path, spec: BlockSpec, arrays: Mapping[str, AnyArray]) -> ArrayFile:
    """Write arrays that are not in a mapped file."""
    found = {name: place_of(array) for name, array in arrays.items()}
    rest = {name: array for name, array in arrays.items() if found[name] is None}
    if rest:
        BlockFile.put(path, rest)
    if len(rest) == len(arrays):
        return ArrayFile(str(path), spec)
    starts, _ = offsets([array for array in spec.arrays if array.name in rest])
    written = dict(zip(rest, (Place(str(path), start) for start in starts), strict=True))
    return ArrayFile(str(path), spec, tuple(found[array.name] or written[array.name] for array in spec.arrays))
