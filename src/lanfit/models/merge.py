"""Several trained models of one architecture made into one: their average, or an ensemble of them side by side.

The caller decides which models are merged, and the count of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lanfit.errors import lanfit_error
from lanfit.models.compiling import compile_model, read_spec, with_long_names
from lanfit.models.export import save_model
from lanfit.models.mean import Mean
from lanfit.models.raw_model import raw_model
from lanfit.models.structure import flat_outputs, input_names, output_names, pack_inputs, pack_outputs
from lanfit.models.trained_model import TrainedModel
from lanfit.wire.arrays import AnyArray


def average(weights: Sequence[Mapping[str, AnyArray]], counts: Sequence[int]) -> dict[str, AnyArray]:
    """Return the mean of sets of weights, each weighted by its count of rows (McMahan et al. 2017, algorithm 1).

    Summed as `Mean` does, in the order given; arrays that are not floating point are those of the first set.

    Raises:
        InputError: there is nothing to average, or the sets are not of one model.
    """
    if not weights or len(weights) != len(counts):
        raise lanfit_error("weights.no-average", sets=len(weights), counts=list(counts))
    mean = Mean(weights[0])
    for each, count in zip(weights, counts, strict=True):
        mean.add(each, count)
    return mean.result()


def ensemble_model(architecture: str, compile_json: str, members: Sequence[TrainedModel]) -> Any:
    """Return a compiled `keras.Model` that takes raw rows and predicts the mean of the members' predictions.

    It contains each member with its own normalizers, as `model_1`, `model_2`, ...; a single member is returned as is.

    Raises:
        InputError: there is no member, or `raw_model` refuses one.
    """
    import keras

    if not members:
        raise lanfit_error("weights.no-ensemble")
    if len(members) == 1:
        ensemble = raw_model(architecture, members[0])
    else:
        models = [raw_model(architecture, member, f"model_{number}") for number, member in enumerate(members, 1)]
        first = models[0]
        rows = []
        for number, name in enumerate(input_names(first)):
            dtypes = {str(model.inputs[number].dtype) for model in models}
            dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
            shape = tuple(first.inputs[number].shape[1:])
            rows.append(keras.Input(shape, dtype=dtype, name="raw" if len(first.inputs) == 1 else name))
        taken = pack_inputs(first, rows)
        outputs = zip(*(flat_outputs(model(taken)) for model in models), strict=True)
        names = output_names(first)
        means = [
            keras.layers.Average(name="average" if len(names) == 1 else name, dtype="float32")(list(given))
            for name, given in zip(names, outputs, strict=True)
        ]
        ensemble = keras.Model(taken, pack_outputs(first, means), name="ensemble")
    compile_model(ensemble, with_long_names(read_spec(compile_json)))
    return ensemble


def write_ensemble(path: Path, architecture: str, compile_json: str, members: Sequence[TrainedModel]) -> None:
    """Write the `ensemble_model` of some members as .keras, completely or not at all.

    Raises:
        InputError: as `ensemble_model`.
    """
    save_model(path, ensemble_model(architecture, compile_json, members))
