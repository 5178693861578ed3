"""The data sets of Keras on the server: the model process loads one into a file, which here becomes a source of rows.

Imports no Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lanfit.data.keras_sets import KerasSet, set_source
from lanfit.data.labels import Target
from lanfit.data.sources import Source
from lanfit.job import ARRAYS, Job
from lanfit.loop import LoopThread
from lanfit.wire.messages import Model
from lanfit_server.collect import OpenRun
from lanfit_server.evaluate import LoadedSet, LoadSet, ModelProcess
from lanfit_server.given_rows import GivenRows


async def load_set(
    models: ModelProcess, name: str, args: str, input_shape: tuple[int | None, ...], scratch: Path
) -> LoadedSet:
    """Let the model process load a set, from Keras' cache or the internet.

    Raises:
        InputError: it has no such argument, can't be had, or is nothing for this model.
    """
    return await models.ask(LoadSet(name, args, input_shape, str(scratch / "set.block")), LoadedSet)


def source_of(loaded: LoadedSet, model: Model) -> Source:
    """The rows of a loaded set, which stay in its file until they are read.

    Raises:
        InputError: its targets are nothing for this model's loss.
    """
    return set_source(KerasSet(loaded.name, **loaded.arrays.load()), Target(model.target), loaded.notes)


def rows_again(
    run: OpenRun,
    job: Job,
    model: Model,
    loop: LoopThread,
    models: ModelProcess,
    scratch: Path,
    say: Callable[[str], None],
) -> Callable[[], Source | None]:
    """The rows of a run that is gone on with: those of a set of Keras are loaded again, those of files and of
    a Python program read again."""

    def rows() -> Source | None:
        if job.data == ARRAYS:
            return GivenRows.kept(run.folder).source(Target(model.target))
        if job.dataset is None:
            return None
        say(f"Loading {job.dataset} …")
        loading = load_set(models, job.dataset, job.dataset_args or "", model.input_shape, scratch)
        return source_of(loop.call(loading), model)

    return rows
