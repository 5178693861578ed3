"""Read the rows of a job. Files are read in a separate process (`lanfit.data.processes`), which writes the rows into
memory-mapped files, so that no file can crash the server or exhaust its memory. Its imports are light."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from lanfit.core.memory import limit_memory
from lanfit.core.processor_time import limit_processor_time, most_seconds
from lanfit.core.text import pluralize
from lanfit.data.current_file import note_in, noted
from lanfit.data.labels import row_classes, words_of_classes
from lanfit.data.named import NamedArrays
from lanfit.data.partitioning import Partitioning
from lanfit.data.prepare import Allocate, DataRequest, Prepared, prepare
from lanfit.data.processes import ReaderEnded, ask, serve
from lanfit.data.shard import Shard
from lanfit.data.sources import Source
from lanfit.data.threads import one_at_a_time
from lanfit.errors import InputError, LanfitError
from lanfit.training.folds import check_folds
from lanfit.transfer.blocks import BlockFile
from lanfit.wire.arrays import AnyArray, ArraySpec, block_size
from lanfit.wire.messages import Fold, OutputSpec
from lanfit_server.data.outline import Outline
from lanfit_server.methods.registry import fold_of, folds_of

if TYPE_CHECKING:
    from lanfit.core.workspace import Workspace
    from lanfit.settings.job import Job
    from lanfit.wire.messages import Model

MODULE: Final = "lanfit_server.data.reading"
#: RLIMIT_DATA counts the stack of a thread in full, and there are some dozens of them.
STACK_BYTES: Final = 2 << 20


@dataclass(frozen=True)
class ReadRequest:
    """What to read, and where its rows go."""

    request: DataRequest
    folds: Fold | None
    """Each shard must be large enough for these folds."""
    scratch: Path
    at_once: bool = True
    """Whether several files are read at the same time."""


def read_data(
    job: Job,
    workspace: Workspace,
    model: Model,
    scratch: Path,
    source: Source | None = None,
    stop: threading.Event | None = None,
) -> Prepared:
    """Read files to shards (steps 1 and 2), in memory-mapped files under `scratch`.

    Args:
        source: the source of the rows, if not the workspace's folders.
        stop: set by another thread, it stops the reading of files.

    Raises:
        InputError: the data is invalid.
        KeyboardInterrupt: Ctrl-C, or `stop`, while files are read.
    """
    folds = fold_of(job, 1) if job.deal != "parts" and folds_of(job) else None
    read_request = ReadRequest(request_of(job, workspace, model), folds, scratch)
    return read_files(read_request, stop) if source is None else read_rows(read_request, source)


def read_files(read_request: ReadRequest, stop: threading.Event | None = None) -> Prepared:
    """Read in a separate process; in another one, file after file, if several at once may have been too much.

    Raises:
        LanfitError: the data is invalid.
        KeyboardInterrupt: as `read_data`.
    """
    try:
        return read_elsewhere(read_request, stop)
    except ReaderEnded as ended:
        # A crash with several concurrent files may be caused by all of them together; reading one at a time shows
        # which.
        if len(noted(_notes_of(read_request.scratch))) < 2 and not ended.without_memory:
            raise _named(ended, read_request) from None
    except InputError as error:
        if error.code != "file.reader-memory":
            raise
    try:
        return read_elsewhere(replace(read_request, at_once=False), stop)
    except ReaderEnded as ended:
        raise _named(ended, read_request) from None


def _named(ended: ReaderEnded, read_request: ReadRequest) -> LanfitError:
    """Return the error for the file that was being read; if none was, for the folder."""
    return ended.named(", or ".join(noted(_notes_of(read_request.scratch))) or read_request.request.x_dir)


def _notes_of(scratch: Path) -> Path:
    return scratch / "files-in-hand"


def read_elsewhere(read_request: ReadRequest, stop: threading.Event | None = None) -> Prepared:
    """Read in a separate process.

    Raises:
        LanfitError: the data is invalid.
        ReaderEnded: the process ended without an answer.
    """
    read_request.scratch.mkdir(parents=True, exist_ok=True)
    found = ask(MODULE, msgspec.msgpack.encode(read_request, enc_hook=_bytes_of), stop=stop)
    outline = msgspec.msgpack.decode(found, type=Outline)
    return outline.filled(lambda spec: _mapped(read_request.scratch, spec))


def _mapped(scratch: Path, spec: ArraySpec) -> AnyArray:
    return BlockFile.open(_block_of(scratch, spec.name)).arrays([spec])[spec.name]


def read_rows(read_request: ReadRequest, source: Source | None = None) -> Prepared:
    """Read in this process.

    Raises:
        LanfitError: the data is invalid.
    """
    request, folds = read_request.request, read_request.folds
    data = prepare(request, _allocate_in(read_request.scratch), source)
    if folds is not None:
        for shard in data.shards:
            check_rows(folds, request.outputs, shard, data.labels, request.batch_size)
    return data


def _allocate_in(scratch: Path) -> Allocate:
    def allocate(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> AnyArray:
        spec = ArraySpec(name, dtype.name, shape)
        return BlockFile.create(_block_of(scratch, name), block_size([spec])).arrays([spec])[name]

    return allocate


def _block_of(scratch: Path, name: str) -> Path:
    return scratch / f"{name}.block"


# --- what a job asks of its rows --------------------------------------------------------------------------------


def request_of(job: Job, workspace: Workspace, model: Model) -> DataRequest:
    """Return the read request of a job."""
    return DataRequest(
        x_dir=workspace.inputs,
        y_dir=workspace.targets if job.order == "XY" else None,
        inputs=model.takes,
        outputs=model.gives,
        shards=job.clients,
        batch_size=job.batch_size,
        test_split=job.test_split,
        # Each fold draws its own validation rows, out of its training rows.
        validation_split=0.0 if folds_of(job) else job.validation_split,
        seed=job.seed,
        npz_key=job.npz_key,
        decimal=job.decimal,
        thousands=job.thousands,
        samples=job.samples or None,
        partitioning=partitioning_of(job),
        arrays=named_arrays(job),
    )


def partitioning_of(job: Job) -> Partitioning:
    """Return how the rows of a job are partitioned."""
    return Partitioning(job.deal, job.alpha, job.classes_per_client, job.parts_of or 1, _least_rows(job))


def _least_rows(job: Job) -> int:
    """Return how many rows a shard needs so that a batch is left to train on, besides validation rows and a held-out
    fold."""
    rows = _least(job.batch_size, job.validation_split)
    return _least(rows, 1 / folds) if (folds := folds_of(job)) else rows


def _least(wanted: int, share: float) -> int:
    """Return the smallest number of rows of which this many are left when a fraction, rounded up, is held out."""
    rows = max(wanted, int(wanted / (1 - share)) - 1)
    while rows - ceil(share * rows) < wanted:
        rows += 1
    return rows


def named_arrays(job: Job) -> NamedArrays | None:
    """Return the arrays of an npz file that a job names; None when it names none."""
    return NamedArrays(job.inputs or (), job.targets or ()) if job.inputs or job.targets else None


def check_rows(
    fold: Fold, outputs: Sequence[OutputSpec], shard: Shard, labels: Mapping[str, tuple[str, ...]], batch_size: int
) -> None:
    """Check that a shard is large enough for its folds.

    Raises:
        InputError: it does not; whose rows they are is named.
    """
    classes, words = row_classes(outputs, shard.train.targets), words_of_classes(outputs, shard.train.targets, labels)
    try:
        check_folds(fold, len(shard.train), classes, batch_size, words)
    except InputError as error:
        raise error.at(f"{shard.origin} has {pluralize(len(shard.train), 'row')}") from None


# --- in the process ---------------------------------------------------------------------------------------------


def answer(read_request: bytes, limit: int) -> bytes:
    """Read the rows, write them into their files, and return facts about them."""
    wanted = msgspec.msgpack.decode(read_request, type=ReadRequest, dec_hook=_path_of)
    note_in(_notes_of(wanted.scratch))
    if not wanted.at_once:
        one_at_a_time()
    threading.stack_size(STACK_BYTES)
    if limit:
        limit_memory(limit)
    with limit_processor_time(most_seconds(_size_of(wanted.request))):
        return msgspec.msgpack.encode(Outline.of(read_rows(wanted)))


def _size_of(request: DataRequest) -> int:
    """Return the bytes of all files that may be read."""
    folders = [folder for folder in (request.x_dir, request.y_dir) if folder is not None]
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _bytes_of(path: Any) -> bytes:
    if not isinstance(path, Path):
        raise NotImplementedError(f"{type(path).__name__} in a request")
    return os.fsencode(path)


def _path_of(kind: type, name: Any) -> Path:
    if kind is not Path:
        raise NotImplementedError(f"{kind} in a request")
    return Path(os.fsdecode(name))


if __name__ == "__main__":
    serve(answer)
