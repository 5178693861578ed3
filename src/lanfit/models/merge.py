"""Several trained models of one architecture made into one: their average, or an ensemble of them side by side.

Who is merged with whom, and which count each has, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lanfit.mistakes import mistake
from lanfit.models.compiling import compile_model, read_spec, with_long_names
from lanfit.models.export import save_whole
from lanfit.models.mean import Mean
from lanfit.models.member import Member, raw_model
from lanfit.wire.arrays import AnyArray


def average(weights: Sequence[Mapping[str, AnyArray]], counts: Sequence[int]) -> dict[str, AnyArray]:
    """Return the mean of sets of weights, each weighted by its count of rows (McMahan et al. 2017, algorithm 1).

    Summed as `Mean` does, in the order given; arrays that are not floating point are those of the first set.

    Raises:
        InputError: there is nothing to average, or the sets are not of one model.
    """
    if not weights or len(weights) != len(counts):
        raise mistake("weights.no-average", sets=len(weights), counts=list(counts))
    mean = Mean(weights[0])
    for each, count in zip(weights, counts, strict=True):
        mean.add(each, count)
    return mean.result()


def ensemble_model(architecture: str, compile_json: str, members: Sequence[Member]) -> Any:
    """Return a compiled `keras.Model` that takes raw rows and predicts the mean of the members' predictions.

    Each member stands in it with its own normalizers, as `model_1`, `model_2`, ...; one alone is that one.

    Raises:
        InputError: there is no member, or `raw_model` refuses one.
    """
    import keras

    if not members:
        raise mistake("weights.no-ensemble")
    if len(members) == 1:
        ensemble = raw_model(architecture, members[0])
    else:
        models = [raw_model(architecture, member, f"model_{number}") for number, member in enumerate(members, 1)]
        dtypes = {str(model.inputs[0].dtype) for model in models}
        dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
        rows = keras.Input(tuple(models[0].inputs[0].shape[1:]), dtype=dtype, name="raw")
        mean = keras.layers.Average(name="average", dtype="float32")([model(rows) for model in models])
        ensemble = keras.Model(rows, mean, name="ensemble")
    compile_model(ensemble, with_long_names(read_spec(compile_json)))
    return ensemble


def write_ensemble(path: Path, architecture: str, compile_json: str, members: Sequence[Member]) -> None:
    """Write the `ensemble_model` of some members as .keras, whole or not at all.

    Raises:
        InputError: as `ensemble_model`.
    """
    save_whole(path, ensemble_model(architecture, compile_json, members))
