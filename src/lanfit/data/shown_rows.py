"""The test rows whose predictions people follow during a run: which rows, and which output. Pure; both sides use it."""

from __future__ import annotations

import math
import struct
from math import prod

import numpy as np
from numpy.typing import NDArray

from lanfit.core.seeds import derive_seed
from lanfit.data.labels import Target
from lanfit.data.split import Rows, sample_rows
from lanfit.wire.messages import MOST_SHOWN, MOST_SHOWN_OUTPUTS
from lanfit.wire.tasks import InputSpec, Model, OutputSpec, X

#: An output with more values in a row is not followed. Clients predict fewer, see `MOST_SHOWN_OUTPUTS`.
MOST_OUTPUTS = 1024


def shown_output(model: Model) -> OutputSpec | None:
    """Return the output whose predictions are followed; None if all outputs are too large for that.

    It is the first output with one class per row, else the first one that is small enough.
    """
    small = [each for each in model.gives if 0 < size_of(each) <= MOST_OUTPUTS]
    classes = (each for each in small if len(each.shape) == 2 and Target(each.target).is_classification)
    return next(classes, small[0] if small else None)


def size_of(output: OutputSpec) -> int:
    """Return the number of values in one row of an output; 0 if its shape is open."""
    row = output.shape[1:]
    return 0 if None in row else prod(n or 0 for n in row)


def choose_rows(rows: int, seed: int, classes: NDArray[np.generic] | None) -> Rows:
    """Choose the rows of a run, at most `MOST_SHOWN`, with classes in proportion; return ascending row numbers."""
    if not rows:
        return np.empty(0, np.int64)
    return sample_rows(rows, min(rows, MOST_SHOWN), derive_seed(seed, "shown rows"), classes)


def is_sent(output: OutputSpec) -> bool:
    """Return whether predictions of an output fit into the message of a client."""
    return size_of(output) <= MOST_SHOWN_OUTPUTS


def block_name(model: Model, given: InputSpec) -> str:
    """Return the name of an input in the block of these rows."""
    return X if not model.inputs else f"{X}:{given.name}"


def pack(outputs: NDArray[np.generic]) -> bytes:
    """Return outputs as they are sent: float32, little-endian, row after row."""
    return np.ascontiguousarray(outputs, "<f4").tobytes()


def unpack(data: bytes, count: int) -> tuple[float, ...]:
    """Return what a peer has packed; empty if these are not `count` finite numbers."""
    if len(data) != 4 * count:
        return ()
    found = struct.unpack(f"<{count}f", data)
    return found if all(map(math.isfinite, found)) else ()
