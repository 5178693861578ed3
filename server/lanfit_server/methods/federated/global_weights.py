"""The global weights: aggregate the updates of a round, apply the server optimizer, save the result.

Arithmetic and files; knows no clients and does not wait. Reading all weights may take long: see `is_quick`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.core.durable import atomic_file
from lanfit.models.mean import Mean
from lanfit.settings.job import Job
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, Digest, block_of, spec_of
from lanfit_server.methods.federated.aggregation import krum, median, trimmed_mean
from lanfit_server.methods.federated.schedule import optimizer_of

Weights = Mapping[str, AnyArray]
#: Processing this many numbers takes about as long as delegating it to a thread, in a busy process.
SMALL = 1 << 19


@dataclass(frozen=True)
class RoundWeights:
    """The result of a round. Later rounds do not change these arrays."""

    before: Weights
    """The weights that the round started from."""
    aggregate: Weights
    """The weights according to the updates alone."""
    weights: Weights
    """The new weights."""
    constants: Weights
    """The constants that are stored with them in files."""
    digest: Digest
    """Of the new weights."""
    state: Weights
    """The optimizer's."""

    def write(self, path: Path) -> ArrayFile:
        """Write the following round's weights, as in a result, and the optimizer's state next to them. Durable on
        return."""
        if self.state:
            with atomic_file(_of_optimizer(path)) as temporary:
                BlockFile.write(temporary, self.state)
        with atomic_file(path) as temporary:
            after = {**self.weights, **self.constants}
            BlockFile.put(temporary, after)
        return ArrayFile(str(path), block_of(after, Digest(self.constants, self.digest)))

    def state_id(self) -> str:
        """Return the SHA-256 of the optimizer's state; empty for none."""
        return block_of(self.state).id if self.state else ""

    def state_specs(self) -> tuple[ArraySpec, ...]:
        """Return the table of the optimizer's state."""
        return tuple(spec_of(name, array) for name, array in self.state.items())


class GlobalWeights:
    """The weights after the last finished round.

    Args:
        start: the weights of the first round, in the model's order.
        constants: of the normalizers, which are stored with the weights in files.
        trainable: the names of those that an optimizer changes.
    """

    def __init__(self, job: Job, start: Weights, constants: Weights, trainable: Sequence[str]) -> None:
        self.arrays = dict(start)
        self._constants = constants
        self._job = job
        self._optimizer = optimizer_of(job, trainable)
        self._digest: Digest | None = None
        self._mean = Mean(self.arrays) if job.aggregation == "mean" else None
        self.begin()

    def is_quick(self, sets: int) -> bool:
        """Return whether a loop may wait for arithmetic with this many sets of such weights."""
        return sets * sum(array.size for array in self.arrays.values()) <= SMALL

    @property
    def block(self) -> BlockSpec:
        """Return `arrays` as a block."""
        self._digest = self._digest or Digest(self.arrays)
        return block_of(self.arrays, self._digest)

    def begin(self) -> None:
        """Begin a round from the current weights."""
        if self._mean is not None:
            self._mean.begin(self.arrays)
        self._updates: list[Weights] = []

    def add(self, update: Weights, rows: int) -> None:
        """Add a client's weights, with its number of rows; always in task order, for any order of arrival.

        For a mean they are read and released; otherwise they are kept memory-mapped.
        """
        weights = {name: update[name] for name in self.arrays}
        if self._mean is not None:
            self._mean.add(weights, rows)
        else:
            self._updates.append(weights)

    def step(self) -> RoundWeights:
        """End the round: the new weights are in `arrays`.

        Raises:
            InputError: there are too few updates for this aggregation.
        """
        before, aggregate = self.arrays, self._aggregate()
        self.arrays = self._optimizer.step(before, aggregate)
        self._digest = Digest(self.arrays)
        self.begin()
        return RoundWeights(before, aggregate, self.arrays, self._constants, self._digest, self._optimizer.state())

    def _aggregate(self) -> Weights:
        if self._mean is not None:
            return self._mean.result()
        match self._job.aggregation:
            case "median":
                return median(self.arrays, self._updates)
            case "trimmed-mean":
                return trimmed_mean(self.arrays, self._updates, self._job.trim)
            case _:
                return krum(self.arrays, self._updates, self._job.byzantine, self._job.krum_keep)

    # --- files --------------------------------------------------------------------------------------------------

    def read(self, path: Path, state: Sequence[ArraySpec]) -> None:
        """Restore the weights that were written there, with this table of the optimizer's state."""
        loaded = self.file(path).load()
        self.arrays, self._digest = {name: loaded[name].copy() for name in self.arrays}, None
        if state:
            self._optimizer.restore(BlockFile.open(_of_optimizer(path)).arrays(state))
        self.begin()

    def file(self, path: Path) -> ArrayFile:
        """Return what was written there, for other processes."""
        specs = tuple(spec_of(name, array) for name, array in {**self.arrays, **self._constants}.items())
        return ArrayFile(str(path), BlockSpec(block_of(BlockFile.open(path).arrays(specs)).id, specs))


def files_of(path: Path) -> Iterator[Path]:
    """Return everything that `RoundWeights.write` has written there."""
    yield path
    yield _of_optimizer(path)


def _of_optimizer(path: Path) -> Path:
    return path.with_suffix(".optimizer")
