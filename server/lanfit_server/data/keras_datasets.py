"""Keras datasets on the server: the model process loads one into a file, which becomes a source of rows here.

Imports no Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lanfit.data.labels import Target
from lanfit.data.sources import Source
from lanfit.settings.job import ARRAYS, Job
from lanfit.wire.messages import Model
from lanfit_server.models.handle import LoadDataset, LoadedDataset, ModelProcess
from lanfit_server.models.keras_datasets import KerasDataset, dataset_source
from lanfit_server.store.array_source import ArraySource


async def load_dataset(
    models: ModelProcess, name: str, args: str, input_shape: tuple[int | None, ...], scratch: Path
) -> LoadedDataset:
    """Load a dataset in the model process, from Keras' cache or the internet.

    Raises:
        InputError: it has no such argument, can't be loaded, or does not suit this model.
    """
    return await models.ask(LoadDataset(name, args, input_shape, str(scratch / "set.block")), LoadedDataset)


def source_of(loaded: LoadedDataset, model: Model) -> Source:
    """Return the rows of a loaded dataset, which stay in its file until they are read.

    Raises:
        InputError: its targets do not suit this model's loss.
    """
    return dataset_source(KerasDataset(loaded.name, **loaded.arrays.load()), Target(model.target), loaded.notes)


class RowSource:
    """Where the rows of a run are: in the folders of the workspace, in a Keras dataset, or in a program's arrays.

    Args:
        scratch: a folder for a dataset that is loaded.
        arrays: what a program gave.
        loaded: the dataset, if it is loaded already.
        kept: the folder of a run that is resumed, which has what a program gave.
        log: called with a line before a dataset is loaded.
    """

    def __init__(
        self,
        job: Job,
        models: ModelProcess,
        scratch: Path,
        *,
        arrays: ArraySource | None = None,
        loaded: LoadedDataset | None = None,
        kept: Path | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._job = job
        self._models = models
        self._scratch = scratch
        self._arrays = arrays
        self._loaded = loaded
        self._kept = kept
        self._log = log

    async def open(self, model: Model) -> Source | None:
        """Return the rows for a model; None for those of the workspace's folders. A dataset is loaded once.

        Raises:
            InputError: they are missing, can't be loaded, or do not fit the model.
        """
        if self._arrays is None and self._kept is not None and self._job.data == ARRAYS:
            self._arrays = ArraySource.kept(self._kept)
        if self._arrays is not None:
            return self._arrays.source(model.gives)
        if self._job.dataset is None:
            return None
        if self._loaded is None:
            self._log(f"Loading {self._job.dataset} …")
            args = self._job.dataset_args or ""
            self._loaded = await load_dataset(self._models, self._job.dataset, args, model.input_shape, self._scratch)
        return source_of(self._loaded, model)
