"""The check of one batch before a run starts, and the evaluation of weights. Used in the model process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.normalize import Normalizer
from lanfit.data.shard import Arrays, Samples
from lanfit.errors import InputError, lanfit_error
from lanfit.models.architecture import build, first_line
from lanfit.models.compiling import compile_model, ignored_by, name_of_loss, options_of, read_spec, wants_logits
from lanfit.models.loading import activation_of
from lanfit.models.raw_model import model_in_original_units
from lanfit.models.structure import Flat, batch_of, flat_outputs, input_names, output_names, pack_outputs
from lanfit.models.weights import bakes_weights, set_weights
from lanfit.wire.arrays import AnyArray
from lanfit.wire.figures import LONGEST_NAME, MOST_BYTES, MOST_METRICS, size_of, why_no_metric

#: Losses that take probabilities, unless `from_logits` is set.
_PROBABILITIES = frozenset(
    {
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "sparse_categorical_crossentropy",
    }
)


Step = Callable[[Flat], tuple[Any, Any]]
"""Takes the arrays of a batch, inputs and targets; returns their mean loss and the outputs, in the model's order."""


class RowEvaluator:
    """Evaluates one compiled model with its current weights on rows, one batch at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._step: Step | None = None
        self._form: object = None
        self.compiled: dict[str, float] = {}
        """The compiled metrics on the last rows, by Keras' names; with several outputs, also the loss of each."""

    def evaluate(self, rows: Samples, batch_size: int = 256) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Return the loss over all rows as Keras computes it (regularization included), and the outputs.

        Args:
            rows: at least one, as the model takes them, without weights; floats count as float32, as everywhere in
                Keras.

        Returns:
            The loss, and each output by the name of its target.
        """
        count = len(rows)
        flat = tuple(
            array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
            for array in replace(rows, weights=None).arrays
        )
        form = [(array.dtype, array.shape[1:]) for array in flat]
        if self._step is None or self._form != form:
            self._step, self._form = _step_of(self._model, flat), form
        groups = metric_groups(self._model)
        for group in groups:
            group.reset_state()
        loss, of_outputs, outputs = 0.0, dict[str, float](), list[list[Any]]()
        for first in range(0, count, batch_size):
            batch = tuple(array[first : first + batch_size] for array in flat)
            for metric in _loss_metrics(self._model):
                metric.reset_state()
            mean, output = self._step(batch)
            loss += len(batch[0]) * float(mean)
            for metric in _loss_metrics(self._model):
                of_outputs[metric.name] = of_outputs.get(metric.name, 0.0) + len(batch[0]) * float(metric.result())
            outputs.append([np.asarray(each) for each in output])
        if not _counts_metrics():
            arrange = batch_of(self._model)
            for group in groups:
                group.reset_state()
                for number, output in enumerate(outputs):
                    batch = tuple(array[number * batch_size :][: len(output[0])] for array in flat)
                    group.update_state(arrange(batch)[1], pack_outputs(self._model, output))
        found = [pair for group in groups for pair in group.result().items()]
        self.compiled = {name: total / count for name, total in of_outputs.items()}
        self.compiled |= {str(name): float(value) for name, value in found if not np.ndim(value)}
        whole = [np.concatenate(each) for each in zip(*outputs, strict=True)]
        return loss / count, dict(zip(rows.targets, whole, strict=True))


def _loss_metrics(model: Any) -> list[Any]:
    """Return the metrics that track the loss of each output, if there are several."""
    return list(getattr(getattr(model, "_compile_loss", None), "metrics", ()))


def metric_groups(model: Any) -> list[Any]:
    """Return Keras' container of the compiled metrics, which is separate from the loss."""
    return [group for group in model.metrics if hasattr(group, "metrics")]


def _counts_metrics() -> bool:
    """Return whether the step also updates the metrics of the model."""
    import keras

    return bool(keras.backend.backend() == "tensorflow")


def _step_of(model: Any, flat: Flat) -> Step:
    """Return a function that evaluates a batch. `evaluate` and `predict` would set up a pipeline for each call."""
    arrange = batch_of(model)
    if not _counts_metrics():

        def on_batch(batch: Flat) -> tuple[Any, Any]:
            rows, targets = arrange(batch)
            loss = model.test_on_batch(rows, targets, return_dict=True)["loss"]
            return loss, flat_outputs(model.predict_on_batch(rows))

        return on_batch
    import tensorflow as tf

    def step(*batch: Any) -> tuple[Any, Any]:
        rows, targets = arrange(batch)
        outputs = model(rows, training=False)
        for group in metric_groups(model):
            group.update_state(targets, outputs)
        loss = model.compute_loss(x=rows, y=targets, y_pred=outputs, training=False)
        return loss, flat_outputs(outputs)

    step(*(array[:1] for array in flat))
    # Loss and metrics are built when they are first used, which a compiled function must not do.
    like = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in flat]
    # A single call for outputs and loss takes a third of the time for a dense network.
    compiled = tf.function(step, input_signature=like, autograph=False, jit_compile=model.jit_compile)
    return lambda batch: compiled(*batch)


class WeightsEvaluator:
    """A built model that evaluates sets of weights on rows."""

    def __init__(self, architecture: str, compile_json: str, targets: Mapping[str, Normalizer] | None = None) -> None:
        """With `targets`, what training normalized its targets with, loss and predictions are in original units.

        Raises:
            InputError: the architecture or the compile options are refused, or the constants do not fit the outputs.
        """
        self._architecture = architecture
        self._spec = read_spec(compile_json)
        self._targets = targets or {}
        self._build()

    def evaluate(
        self, weights: Mapping[str, AnyArray], rows: Samples, batch_size: int = 256
    ) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Return what `RowEvaluator.score` does with these weights.

        Inputs are normalized, targets are not.

        Raises:
            InputError: the weights do not fit the model.
        """
        if bakes_weights(self._model):
            self._build()
        set_weights(self._model, weights)
        return self._rows.evaluate(rows, batch_size)

    @property
    def compiled(self) -> dict[str, float]:
        """The compiled metrics on the last rows."""
        return self._rows.compiled

    def _build(self) -> None:
        self._model = model_in_original_units(build(self._architecture), self._targets)
        compile_model(self._model, self._spec)
        self._rows = RowEvaluator(self._model)


def check_batch(architecture: str, compile_json: str, weights: Mapping[str, AnyArray], batch: Samples) -> None:
    """Send one batch through the model: shapes, label form, and a loss that is a number.

    Args:
        batch: as the model takes it: normalized rows and their targets.

    Raises:
        InputError: rows or targets do not fit the model or the loss, or the loss is not finite.
    """
    import keras

    spec = read_spec(compile_json)
    model = build(architecture)
    several = len(model.inputs) + len(model.outputs) > 2
    for name, array, given in zip(input_names(model), batch.inputs.values(), model.inputs, strict=True):
        with named(name if several else ""):
            _check_rows(given, array)
    options = options_of(spec, output_names(model))
    for (name, own), array, given in zip(options.items(), batch.targets.values(), model.outputs, strict=True):
        with named(name if several else ""):
            _check_targets(tuple(given.shape[1:]), name_of_loss(own.loss), array, ignored_by(own.loss))
    set_weights(model, weights)
    compile_model(model, spec)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise lanfit_error("batch.broken-weight", name=name)
    x, y = batch_of(model)(replace(batch, weights=None).arrays)
    losses = " and ".join(dict.fromkeys(name_of_loss(own.loss) for own in options.values()))
    try:
        predictions = model(x, training=False)
        loss_of_batch = model.compute_loss(x=x, y=y, y_pred=predictions, training=False)
        value = float(keras.ops.convert_to_numpy(loss_of_batch))
        figures = dict(model.compute_metrics(x, y, predictions))
    except Exception as error:
        metrics = [metric for own in options.values() for metric in own.metrics]
        names = ", ".join(metric if isinstance(metric, str) else metric["class_name"] for metric in metrics)
        raise lanfit_error(
            "batch.refused",
            rows=_forms(batch.inputs),
            targets=_forms(batch.targets),
            loss=losses,
            metrics=names or "(none)",
            reason=first_line(error),
        ) from error
    _check_metrics(model, figures)
    for (name, own), given, tensor in zip(options.items(), flat_outputs(predictions), model.outputs, strict=True):
        output = keras.ops.convert_to_numpy(given).astype(np.float64)
        loss = name_of_loss(own.loss)
        with named(name if several else ""):
            if not np.isfinite(output).all():
                raise lanfit_error("batch.output-not-finite")
            if loss in _PROBABILITIES and not wants_logits(own.loss) and (output.min() < 0 or output.max() > 1 + 1e-3):
                raise lanfit_error(
                    "batch.no-probabilities",
                    loss=loss,
                    least=output.min(),
                    most=output.max(),
                    activation=activation_of(tensor) or "none",
                )
    if not np.isfinite(value):
        raise lanfit_error("batch.loss-not-finite", loss=losses, value=value)


@contextmanager
def named(array: str) -> Iterator[None]:
    """Name the input or output in errors raised inside the block; a model with one of each needs no name."""
    try:
        yield
    except InputError as error:
        raise (error.at(array) if array else error) from None


def _check_metrics(model: Any, figures: Mapping[str, Any]) -> None:
    """Check that each metric is a number with a unique name, as a history requires."""
    # A metric named like the loss would hide it in the results, so the names of the metrics are checked, too.
    given = [str(metric.name) for group in metric_groups(model) for metric in group.metrics]
    names = [*given, *(name for name in figures if name not in ("loss", *given))]
    for name in names:
        if why := why_no_metric(name):
            raise lanfit_error("batch.metric-name", name=name[:LONGEST_NAME], why=why)
    if len(names) > MOST_METRICS or size_of(names) > MOST_BYTES:
        raise lanfit_error(
            "batch.many-metrics", count=len(names), most=MOST_METRICS, size=size_of(names), bytes=MOST_BYTES
        )
    for name in figures:
        if shape := tuple(np.shape(figures[name])):
            raise lanfit_error("batch.metric-array", name=name, count=int(np.prod(shape)))


def _forms(arrays: Arrays) -> str:
    forms = {name: f"{array.dtype.name} {array.shape}" for name, array in arrays.items()}
    return ", ".join(form if len(forms) == 1 else f"{name} {form}" for name, form in forms.items())


def _check_rows(given: Any, x: AnyArray) -> None:
    need, have, dtype = tuple(given.shape[1:]), x.shape[1:], str(given.dtype)
    if len(need) != len(have) or any(n not in (None, h) for n, h in zip(need, have, strict=False)):
        raise lanfit_error("batch.row-shape", shape=have, wanted=need)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise lanfit_error("batch.not-finite")
    if np.dtype(dtype).kind in "iu" and x.dtype.kind == "f" and (x != np.floor(x)).any():
        raise lanfit_error("batch.fractions", dtype=dtype)


def _check_targets(output: tuple[int | None, ...], loss: str, y: AnyArray, ignored: int | None = None) -> None:
    target = y.shape[1:]
    classes = output[-1] if output else None
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise lanfit_error("batch.targets-not-finite")
    if loss == "sparse_categorical_crossentropy":
        if target not in (output[:-1], (*output[:-1], 1)):
            if target == output:
                raise lanfit_error("batch.one-hot-targets", loss=loss, shape=target, output=output)
            raise lanfit_error("batch.no-labels", loss=loss, shape=target, output=output)
        if classes == 1:
            raise lanfit_error("batch.one-output", loss=loss)
        labels = y if ignored is None else y[y != ignored]
        least, most = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if classes is not None and not 0 <= least <= most < classes:
            raise lanfit_error("batch.labels-outside", least=least, most=most, outputs=classes, last=classes - 1)
        return
    if loss == "ctc":
        return
    if len(target) == len(output) - 1 and classes == 1:
        target = (*target, 1)  # Keras adds this axis itself
    if len(target) != len(output) or any(n not in (None, t) for n, t in zip(output, target, strict=False)):
        integers = y.shape[1:] in ((), (1,)) and y.dtype.kind in "iub" and classes != 1
        shape = y.shape[1:] or "(), one number per row"
        if integers:
            raise lanfit_error("batch.class-numbers", output=output, shape=shape, loss=loss)
        raise lanfit_error("batch.target-shape", output=output, shape=shape, loss=loss)
