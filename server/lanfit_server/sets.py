"""The data sets of Keras on the server: the model process loads one into a file, which here becomes a source of rows.

Imports no Keras.
"""

from __future__ import annotations

from pathlib import Path

from lanfit.data.keras_sets import KerasSet, set_source
from lanfit.data.labels import Target
from lanfit.data.sources import Source
from lanfit.wire.messages import Model
from lanfit_server.evaluate import LoadedSet, LoadSet, ModelProcess


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
