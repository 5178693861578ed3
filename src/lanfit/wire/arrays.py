"""Raw arrays in one contiguous block of bytes: the table that describes them, and views into the block.

A block is the unit of transfer: a model's weights, a shard, a result. Its arrays are stored one after another as raw
little-endian bytes, each starting at a multiple of 64 so that a view of it is aligned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from math import prod

import msgspec
import numpy as np
from numpy.typing import NDArray

from lanfit.errors import LocalProtocolError, RemoteProtocolError
from lanfit.wire.texts import BlockId, Data, Word

ALIGNMENT = 64
#: The dtypes that may be sent, by their NumPy names.
DTYPES = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
    | {"float16", "float32", "float64"}
)
#: No block is larger, in bytes: applies to tables that were accepted before and are read back from a disk.
LARGEST = 1 << 62
AnyArray = NDArray[np.generic]


class ArraySpec(msgspec.Struct, frozen=True, array_like=True):
    """The name, dtype (a NumPy name) and shape of one array; no bytes."""

    name: Data
    dtype: Word
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The size of the raw array in bytes, as a Python integer: a huge shape from a peer can't overflow."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


class BlockSpec(msgspec.Struct, frozen=True):
    """A block of arrays, identified by content: `id` is the hex SHA-256 of its bytes, including padding."""

    id: BlockId
    arrays: tuple[ArraySpec, ...]


def spec_of(name: str, array: AnyArray) -> ArraySpec:
    return ArraySpec(name, array.dtype.name, tuple(int(n) for n in array.shape))


def offsets(arrays: Sequence[ArraySpec]) -> tuple[list[int], int]:
    """Return the offset of each array in its block, and the size of the block, in bytes."""
    starts, position = [], 0
    for spec in arrays:
        starts.append(position)
        position += -(-spec.nbytes // ALIGNMENT) * ALIGNMENT
    return starts, position


def block_size(arrays: Sequence[ArraySpec]) -> int:
    """Return the size of the block in bytes."""
    return offsets(arrays)[1]


def check_specs(arrays: Sequence[ArraySpec], limit: int) -> None:
    """Check a table from a peer before anything is allocated.

    Raises:
        RemoteProtocolError: a dtype is not allowed, a dimension is negative, a name occurs twice, or the block is
            larger than `limit` bytes.
    """
    names = set()
    for spec in arrays:
        if spec.dtype not in DTYPES:
            raise RemoteProtocolError(f"array {spec.name!r} has dtype {spec.dtype!r}, which may not travel")
        if any(n < 0 for n in spec.shape) or len(spec.shape) > 16:
            raise RemoteProtocolError(f"array {spec.name!r} has the impossible shape {spec.shape}")
        if spec.name in names:
            raise RemoteProtocolError(f"two arrays are named {spec.name!r}")
        names.add(spec.name)
    size = block_size(arrays)
    if size > limit:
        raise RemoteProtocolError(f"a block of {size} bytes was announced; at most {limit} are accepted here")


def views(block: memoryview, arrays: Sequence[ArraySpec]) -> dict[str, AnyArray]:
    """Return the arrays as views into the block, by name; writable if the block is."""
    starts, size = offsets(arrays)
    if len(block) < size:
        raise LocalProtocolError(f"a block of {len(block)} bytes is too short for arrays of {size}")
    return {
        spec.name: np.frombuffer(block, dtype=spec.dtype, count=prod(spec.shape), offset=start).reshape(spec.shape)
        for spec, start in zip(arrays, starts, strict=True)
    }


def buffers(arrays: Mapping[str, AnyArray]) -> Iterator[memoryview]:
    """Return the bytes of a block in order, as views of the arrays and short paddings, without copying."""
    for array in arrays.values():
        data = np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
        yield data
        if padding := -len(data) % ALIGNMENT:
            yield memoryview(bytes(padding))


class Digest:
    """The SHA-256 of the bytes of a block; it can be continued with more arrays in another block."""

    def __init__(self, arrays: Mapping[str, AnyArray], before: Digest | None = None) -> None:
        """Read every byte of `arrays` once; `before` are the specs of the preceding arrays."""
        self._hash: hashlib._Hash = hashlib.sha256() if before is None else before._hash.copy()
        for buffer in buffers(arrays):
            self._hash.update(buffer)

    @property
    def id(self) -> str:
        """Return the id of a block that ends here."""
        return self._hash.hexdigest()


def block_of(arrays: Mapping[str, AnyArray], digest: Digest | None = None) -> BlockSpec:
    """Return arrays as a block; read every byte once for the hash, unless it is given."""
    return BlockSpec((digest or Digest(arrays)).id, tuple(spec_of(name, array) for name, array in arrays.items()))
