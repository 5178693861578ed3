"""From a job to its rows. Files are read in a process of their own (`lanfit.data.processes`), which puts the rows into
memory-mapped files, so that no file ends the server or takes its memory. What it imports is light.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from lanfit.data.dealing import Dealing
from lanfit.data.in_hand import note_in, noted
from lanfit.data.labels import Target, class_ids
from lanfit.data.memory import limit_memory
from lanfit.data.outline import Outline
from lanfit.data.prepare import Allocate, DataRequest, Prepared, ShardRows, prepare
from lanfit.data.processes import ReaderEnded, ask, serve
from lanfit.data.sources import Source
from lanfit.data.threads import one_at_a_time
from lanfit.errors import InputError, LanfitError
from lanfit.files import BlockFile
from lanfit.processor_time import limit_processor_time, most_seconds
from lanfit.text import pluralize
from lanfit.training.folds import check_folds
from lanfit.wire.arrays import AnyArray, ArraySpec, block_size
from lanfit.wire.messages import Fold

if TYPE_CHECKING:
    from lanfit.job import Job
    from lanfit.wire.messages import Model
    from lanfit.workspace import Workspace

MODULE: Final = "lanfit_server.reading"
#: RLIMIT_DATA counts the stack of a thread in full, and there are some dozens of them.
STACK_BYTES: Final = 2 << 20


@dataclass(frozen=True)
class Order:
    """What is to be read, and where its rows go."""

    request: DataRequest
    folds: Fold | None
    """Each shard must suffice for such folds."""
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
    """Steps 1 and 2: files to shards, in memory-mapped files under `scratch`.

    Args:
        source: where rows come from, if not from the workspace's folders.
        stop: set by another thread, it ends the reading of files.

    Raises:
        InputError: whatever is wrong with the data.
        KeyboardInterrupt: Ctrl-C, or `stop`, while files are read.
    """
    folds = fold_of(job, 1) if job.method == "kfold" and job.deal != "parts" else None
    order = Order(request_of(job, workspace, model), folds, scratch)
    return read_files(order, stop) if source is None else read_rows(order, source)


def read_files(order: Order, stop: threading.Event | None = None) -> Prepared:
    """Read in a process of its own; in another one, file after file, when several at once may have been too much.

    Raises:
        LanfitError: whatever is wrong with the data.
        KeyboardInterrupt: as `read_data`.
    """
    try:
        return read_elsewhere(order, stop)
    except ReaderEnded as ended:
        # What one file does to a process, several that are read at once may do together; and which one did is known
        # only if one is read at a time.
        if len(noted(_notes_of(order.scratch))) < 2 and not ended.without_memory:
            raise _named(ended, order) from None
    except InputError as wrong:
        if wrong.code != "file.reader-memory":
            raise
    try:
        return read_elsewhere(replace(order, at_once=False), stop)
    except ReaderEnded as ended:
        raise _named(ended, order) from None


def _named(ended: ReaderEnded, order: Order) -> LanfitError:
    """The error for the file that was being read; when none was, for the folder."""
    return ended.named(", or ".join(noted(_notes_of(order.scratch))) or order.request.x_dir)


def _notes_of(scratch: Path) -> Path:
    return scratch / "files-in-hand"


def read_elsewhere(order: Order, stop: threading.Event | None = None) -> Prepared:
    """Read in a process of its own.

    Raises:
        LanfitError: whatever is wrong with the data.
        ReaderEnded: the process ended without an answer.
    """
    order.scratch.mkdir(parents=True, exist_ok=True)
    found = ask(MODULE, msgspec.msgpack.encode(order, enc_hook=_bytes_of), stop=stop)
    outline = msgspec.msgpack.decode(found, type=Outline)
    return outline.filled(*(_mapped(order.scratch, spec) for spec in (outline.x, outline.y)))


def _mapped(scratch: Path, spec: ArraySpec) -> AnyArray:
    return BlockFile.open(_block_of(scratch, spec.name)).arrays([spec])[spec.name]


def read_rows(order: Order, source: Source | None = None) -> Prepared:
    """Read in this process.

    Raises:
        LanfitError: whatever is wrong with the data.
    """
    request, folds = order.request, order.folds
    data = prepare(request, _allocate_in(order.scratch), source)
    if folds is not None:
        for number, shard in enumerate(data.shards, 1):
            where = f"shard {number} of {len(data.shards)}"
            check_rows(folds, request.target, request.ignored, shard, data.labels, request.batch_size, where)
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
    """What is read for a job."""
    return DataRequest(
        x_dir=workspace.inputs,
        y_dir=workspace.targets if job.order == "XY" else None,
        input_shape=model.input_shape,
        output_shape=model.output_shape,
        target=Target(model.target),
        shards=job.clients,
        batch_size=job.batch_size,
        test_split=job.test_split,
        # Each fold draws its own validation rows, out of its training rows.
        validation_split=0.0 if job.method == "kfold" else job.validation_split,
        normalizer=job.normalizer,
        seed=job.seed,
        npz_key=job.npz_key,
        decimal=job.decimal,
        thousands=job.thousands,
        samples=job.samples or None,
        normalize_targets=job.normalize_targets,
        dealing=dealing_of(job),
        ids=model.ids if job.normalizer == "none" else None,
        ignored=model.ignored,
    )


def dealing_of(job: Job) -> Dealing:
    """How the rows of a job are dealt."""
    return Dealing(job.deal, job.alpha, job.classes_per_client, job.parts_of or 1, _least_rows(job))


def _least_rows(job: Job) -> int:
    """How many rows a shard needs so that a batch is left to train on, beside validation rows and a held-out fold."""
    rows = _least(job.batch_size, job.validation_split)
    return _least(rows, 1 / job.folds) if job.method == "kfold" else rows


def _least(wanted: int, share: float) -> int:
    """The smallest number of rows of which so many are left when a share, rounded up, is held out."""
    rows = max(wanted, int(wanted / (1 - share)) - 1)
    while rows - ceil(share * rows) < wanted:
        rows += 1
    return rows


def fold_of(job: Job, number: int) -> Fold:
    """A fold of a job; all shards are cut with the job's own seed, so that anyone can draw the same folds."""
    return Fold(number, job.folds, job.seed, job.validation_split, few=job.deal in ("dirichlet", "classes"))


def check_rows(
    fold: Fold,
    target: Target,
    ignored: int | None,
    shard: ShardRows,
    words: tuple[str, ...] | None,
    batch_size: int,
    where: str,
) -> None:
    """Check that a shard suffices for its folds.

    Raises:
        InputError: it does not; `where` is named.
    """
    try:
        check_folds(fold, len(shard.x_train), class_ids(target, shard.y_train, ignored), batch_size, words)
    except InputError as wrong:
        raise wrong.at(f"{where} has {pluralize(len(shard.x_train), 'row')}") from None


# --- in the process ---------------------------------------------------------------------------------------------


def answer(order: bytes, limit: int) -> bytes:
    """Read the rows, put them into their files, and return what is known of them."""
    wanted = msgspec.msgpack.decode(order, type=Order, dec_hook=_path_of)
    note_in(_notes_of(wanted.scratch))
    if not wanted.at_once:
        one_at_a_time()
    threading.stack_size(STACK_BYTES)
    if limit:
        limit_memory(limit)
    with limit_processor_time(most_seconds(_size_of(wanted.request))):
        return msgspec.msgpack.encode(Outline.of(read_rows(wanted)))


def _size_of(request: DataRequest) -> int:
    """Bytes of all files that may be read."""
    folders = [folder for folder in (request.x_dir, request.y_dir) if folder is not None]
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _bytes_of(path: Any) -> bytes:
    if not isinstance(path, Path):
        raise NotImplementedError(f"{type(path).__name__} in an order")
    return os.fsencode(path)


def _path_of(kind: type, name: Any) -> Path:
    if kind is not Path:
        raise NotImplementedError(f"{kind} in an order")
    return Path(os.fsdecode(name))


if __name__ == "__main__":
    serve(answer)
