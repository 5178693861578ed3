"""Limits on requests of a server: checked before anything is fetched, built or read.

Pure, and without Keras: a server that knows the passphrase may send any numbers that a message can contain. Errors name
the field, instead of failing later in the trainer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from lanfit import backends
from lanfit.data.labels import Target
from lanfit.data.normalize import NORMALIZERS
from lanfit.data.shard import OF, kinds_of
from lanfit.data.shown_rows import block_name
from lanfit.errors import lanfit_error
from lanfit.models.architecture import check_architecture
from lanfit.models.compiling import CompileSpec, read_spec
from lanfit.wire.arrays import ArraySpec, check_specs
from lanfit.wire.messages import MOST_SHOWN, ClientData, EvaluateTask, FitTask, Lease, Model, Survey
from lanfit.wire.tasks import MOST_ARRAYS
from lanfit_client.model_size import check_size
from lanfit_client.store.cache import LARGEST_BLOCK

#: Larger than anyone needs, and within the number range of Keras and NumPy.
MOST_EPOCHS: Final = 10**6
MOST_STEPS: Final = 2**53
MOST_ROWS: Final = 2**40
MOST_SEED: Final = 2**64 - 1
MOST_THREADS: Final = 4096
MOST_AXES: Final = 16
MOST_VALUES: Final = 2**40


def check_lease(lease: Lease) -> None:
    """Check that a task can be trained.

    Raises:
        LanfitError: it can't; the field is named.
    """
    fit = lease.fit
    _int_in_range("attempt", lease.attempt, 1, MOST_STEPS)
    _check_fit(fit)
    if fit.own is not None:
        _check_client_data(fit.own)
    _check_model(fit.model, lease.weights.arrays)
    _check_shard(lease.shard.arrays, has_rows=fit.own is None)
    if lease.rows is not None:
        _check_rows(lease.rows.arrays, fit)
    if lease.shown is not None:
        _check_shown(lease.shown.arrays, fit)


def check_survey(survey: Survey) -> None:
    """Check that the client's own files can be surveyed with this request. Raises like `check_lease`."""
    _check_client_data(survey.own)
    _check_model(survey.model, survey.weights.arrays)


def check_evaluation(task: EvaluateTask) -> None:
    """Check that models can be evaluated with this request. Raises like `check_lease`."""
    if task.own is not None:
        _check_client_data(task.own)
    _one_of("rows", task.rows, ("test", "validation"))
    _int_in_range("members", len(task.members), 1, MOST_STEPS)
    for member in task.members:
        _check_model(task.model, member.arrays)
    _check_shard(task.shard.arrays, has_rows=False)


def _check_fit(fit: FitTask) -> None:
    _int_in_range("epochs", fit.epochs, 0 if fit.local_steps else 1, MOST_EPOCHS)
    _int_in_range("batch_size", fit.batch_size, 1, MOST_ROWS)
    _int_in_range("seed", fit.seed, 0, MOST_SEED)
    _int_in_range("patience", fit.patience, 0, MOST_EPOCHS)
    _int_in_range("round", fit.round, 0, MOST_STEPS)
    _int_in_range("local_steps", fit.local_steps, 0, MOST_STEPS)
    _int_in_range("first_step", fit.first_step, 0, MOST_STEPS)
    _int_in_range("runtime.threads", fit.runtime.threads, 0, MOST_THREADS)
    _one_of("runtime.backend", fit.runtime.backend, ("", *backends.names()))
    _one_of("runtime.device", fit.runtime.device, ("", "auto", "cpu", "gpu"))
    if not 0 <= fit.proximal < math.inf:
        _refuse("proximal", fit.proximal, "a number from 0")
    if (fold := fit.fold) is not None:
        _int_in_range("fold.of", fold.of, 2, MOST_ROWS)
        _int_in_range("fold.number", fold.number, 1, fold.of)
        _int_in_range("fold.seed", fold.seed, 0, MOST_SEED)
        _share("fold.validation_split", fold.validation_split)


def _check_client_data(own: ClientData) -> None:
    _int_in_range("own.batch_size", own.batch_size, 1, MOST_ROWS)
    _share("own.test_split", own.test_split)
    _share("own.validation_split", own.validation_split)
    _int_in_range("own.folds", own.folds, 0, MOST_ROWS)
    _int_in_range("own.seed", own.seed, 0, MOST_SEED)
    _int_in_range("own.parts_of", own.parts_of, 0, MOST_ROWS)
    if own.parts_of:
        _int_in_range("own.last_part", own.last_part, 1, own.parts_of)
        _int_in_range("own.first_part", own.first_part, 1, own.last_part)


@lru_cache(maxsize=4)  # each round sends the same one; with hundreds of layers checking takes a fifth of a second
def _check_model(model: Model, arrays: tuple[ArraySpec, ...]) -> None:
    _one_of("model.target", model.target, tuple(Target))
    _one_of("model.normalizer", model.normalizer, NORMALIZERS)
    _one_of("model.target_normalizer", model.target_normalizer, NORMALIZERS)
    for name, shape in (("model.input_shape", model.input_shape), ("model.output_shape", model.output_shape)):
        _check_shape(name, shape)
    if model.ids is not None:
        _int_in_range("model.ids", model.ids, 1, MOST_VALUES)
    _check_arrays(model)
    check_specs(arrays, LARGEST_BLOCK)
    check_size(model.architecture, arrays)
    if not model.custom:  # only the trainer knows their definitions, and checks the model against them
        check_architecture(model.architecture)
        _check_rate(read_spec(model.compile))


def _check_arrays(model: Model) -> None:
    """Check the specs of several inputs and outputs."""
    for kind, specs in (("inputs", model.inputs), ("outputs", model.outputs)):
        _int_in_range(f"model.{kind}", len(specs), min(1, len(model.inputs) + len(model.outputs)), MOST_ARRAYS)
        names = [each.name for each in specs]
        if len(set(names)) < len(names) or any(not name or OF in name for name in names):
            _refuse(f"model.{kind}", ", ".join(names), "different names without a colon")
        for each in specs:
            _one_of(f"model.{kind}.normalizer", each.normalizer, NORMALIZERS)
            _check_shape(f"model.{kind}.shape", each.shape)
    for given in model.inputs:
        if given.ids is not None:
            _int_in_range("model.inputs.ids", given.ids, 1, MOST_VALUES)
    for output in model.outputs:
        _one_of("model.outputs.target", output.target, tuple(Target))


def _check_shape(name: str, shape: tuple[int | None, ...]) -> None:
    _int_in_range(name, len(shape), 1, MOST_AXES)
    for length in shape:
        if length is not None:
            _int_in_range(name, length, 0, MOST_VALUES)


def _check_rate(spec: CompileSpec) -> None:
    config = (spec.optimizer or {}).get("config")
    rate = config.get("learning_rate") if isinstance(config, Mapping) else None
    if isinstance(rate, int | float) and not 0 < rate < math.inf:
        raise lanfit_error("compile.learning-rate", rate=rate)


def _check_shard(arrays: tuple[ArraySpec, ...], *, has_rows: bool) -> None:
    check_specs(arrays, LARGEST_BLOCK)
    shapes = {spec.name: spec.shape for spec in arrays}
    kinds = kinds_of(list(shapes))
    for names in kinds.values():
        rows = {name: shapes[name][:1] for name in names}
        if () in rows.values() or len(set(rows.values())) > 1:
            found = ", ".join(f"{name} {list(shapes[name])}" for name in rows)
            _refuse("shard", found, "as many rows of each")
    if has_rows and not any(shapes[name][0] for name in kinds["train"] if name.startswith("x_")):
        _refuse("shard", "no x_train", "rows to train on")


def _check_rows(arrays: tuple[ArraySpec, ...], fit: FitTask) -> None:
    """Check the indices of rows. Which rows there are, the trainer knows."""
    check_specs(arrays, LARGEST_BLOCK)
    if fit.fold is not None or fit.own is not None:
        _refuse("rows", "given", "none with a fold or the client's own data")
    lists = [(name, "int64", 1) for name in ("train", "validation")]
    if [(spec.name, spec.dtype, len(spec.shape)) for spec in arrays] != lists:
        found = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in arrays)
        _refuse("rows", found, "a list of train and validation each, of int64")
    _int_in_range("rows.train", arrays[0].shape[0], 1, MOST_ROWS)


def _check_shown(arrays: tuple[ArraySpec, ...], fit: FitTask) -> None:
    """Check the rows to predict at the end of epochs: a few, of every input."""
    check_specs(arrays, LARGEST_BLOCK)
    if fit.own is not None:
        _refuse("shown", "given", "none with the client's own data")
    names = [block_name(fit.model, each) for each in fit.model.takes]
    if [spec.name for spec in arrays] != names or len({spec.shape[:1] for spec in arrays}) != 1 or not arrays[0].shape:
        found = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in arrays)
        _refuse("shown", found, "as many rows of each input")
    _int_in_range("shown", arrays[0].shape[0], 1, MOST_SHOWN)


def _int_in_range(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        _refuse(field, value, f"a whole number from {least} to {most}")


def _share(field: str, value: float) -> None:
    if not 0 <= value < 1:
        _refuse(field, value, "a number from 0 to below 1")


def _one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        _refuse(field, value, "one of " + ", ".join(filter(None, known)))


def _refuse(field: str, value: object, wanted: str) -> None:
    raise lanfit_error("task.impossible", field=field, value=str(value)[:80], wanted=wanted)
