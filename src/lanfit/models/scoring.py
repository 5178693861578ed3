"""The check of one batch before anyone is asked to work, and the score of given weights. For the model process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.normalize import NO_NORMALIZER, Normalizer
from lanfit.mistakes import mistake
from lanfit.models.architecture import build, first_line
from lanfit.models.compiling import compile_model, ignored_class, loss_name, read_spec, takes_logits
from lanfit.models.loading import last_activation
from lanfit.models.member import model_in_original_units
from lanfit.models.weights import bakes_weights, set_weights
from lanfit.wire.arrays import AnyArray
from lanfit.wire.figures import LONGEST_NAME, MOST_BYTES, MOST_METRICS, size_of, why_no_metric

#: Losses that take probabilities, unless they are told `from_logits`.
_PROBABILITIES = frozenset(
    {
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "sparse_categorical_crossentropy",
    }
)


Step = Callable[[AnyArray, AnyArray], tuple[Any, Any]]
"""Takes a batch and its targets; returns their mean loss and the outputs."""


class RowScorer:
    """Scores one compiled model on rows, a batch at a time; whatever weights it has by then."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._step: Step | None = None
        self._form: object = None
        self.compiled: dict[str, float] = {}
        """What the metrics that the model is compiled with gave on the last rows, by the names that Keras has."""

    def score(self, x: AnyArray, y: AnyArray, batch_size: int = 256) -> tuple[float, NDArray[np.float32]]:
        """Return the loss over all rows as Keras computes it (regularization included), and the outputs.

        Args:
            x, y: at least one row, as the model takes them; floats count as float32, as everywhere in Keras.
        """
        x, y = (array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array for array in (x, y))
        form = [(array.dtype, array.shape[1:]) for array in (x, y)]
        if self._step is None or self._form != form:
            self._step, self._form = _step_of(self._model, x, y), form
        groups = metric_groups(self._model)
        for group in groups:
            group.reset_state()
        loss, outputs = 0.0, []
        for first in range(0, len(x), batch_size):
            rows, targets = x[first : first + batch_size], y[first : first + batch_size]
            mean, output = self._step(rows, targets)
            loss += len(rows) * float(mean)
            outputs.append(np.asarray(output))
        if not _counts_metrics():
            for group in groups:
                group.reset_state()
                for number, output in enumerate(outputs):
                    group.update_state(y[number * batch_size :][: len(output)], output)
        found = [pair for group in groups for pair in group.result().items()]
        self.compiled = {str(name): float(value) for name, value in found if not np.ndim(value)}
        return loss / len(x), np.concatenate(outputs)


def metric_groups(model: Any) -> list[Any]:
    """What holds the metrics that a model is compiled with: Keras has one group of them, beside the loss."""
    return [group for group in model.metrics if hasattr(group, "metrics")]


def _counts_metrics() -> bool:
    """Whether the step counts in the metrics of the model, too."""
    import keras

    return bool(keras.backend.backend() == "tensorflow")


def _step_of(model: Any, x: AnyArray, y: AnyArray) -> Step:
    """What scores a batch. (`evaluate` and `predict` set up a pipeline each, which takes longer than a few batches.)"""
    if not _counts_metrics():
        return lambda rows, targets: (
            model.test_on_batch(rows, targets, return_dict=True)["loss"],
            model.predict_on_batch(rows),
        )
    import tensorflow as tf

    def step(rows: Any, targets: Any) -> tuple[Any, Any]:
        outputs = model(rows, training=False)
        for group in metric_groups(model):
            group.update_state(targets, outputs)
        return model.compute_loss(x=rows, y=targets, y_pred=outputs, training=False), outputs

    step(x[:1], y[:1])  # loss and metrics are built when they are first used, which a compiled function must not do
    like = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in (x, y)]
    # One way forward for both, and one call: a dense network takes a third of the time.
    compiled: Step = tf.function(step, input_signature=like, autograph=False, jit_compile=model.jit_compile)
    return compiled


class Scorer:
    """A built model that scores one set of weights after another on rows."""

    def __init__(self, architecture: str, compile_json: str, targets: Normalizer = NO_NORMALIZER) -> None:
        """With `targets`, what training normalized its targets with, loss and predictions are in original units.

        Raises:
            InputError: the architecture or the compile options are refused, or the constants do not fit the output.
        """
        self._architecture = architecture
        self._spec = read_spec(compile_json)
        self._targets = targets
        self._build()

    def score(
        self, weights: Mapping[str, AnyArray], x: AnyArray, y: AnyArray, batch_size: int = 256
    ) -> tuple[float, NDArray[np.float32]]:
        """Return what `RowScorer.score` does with these weights.

        `x` is normalized, (rows, *input_shape); `y` is not; the predictions are (rows, *output_shape).

        Raises:
            InputError: the weights do not fit the model.
        """
        if bakes_weights(self._model):
            self._build()
        set_weights(self._model, weights)
        return self._rows.score(x, y, batch_size)

    @property
    def compiled(self) -> dict[str, float]:
        """What the compiled metrics gave on the last rows."""
        return self._rows.compiled

    def _build(self) -> None:
        self._model = model_in_original_units(build(self._architecture), self._targets)
        compile_model(self._model, self._spec)
        self._rows = RowScorer(self._model)


def check_batch(
    architecture: str, compile_json: str, weights: Mapping[str, AnyArray], x_batch: AnyArray, y_batch: AnyArray
) -> None:
    """Send one batch through the model: shapes, label form, and a loss that is a number.

    Args:
        x_batch, y_batch: as the model takes them: normalized rows and their targets.

    Raises:
        InputError: rows or targets do not fit the model or the loss, or the loss is not finite; says why.
    """
    spec = read_spec(compile_json)
    loss = loss_name(spec)
    model = build(architecture)
    _check_rows(model, x_batch)
    _check_targets(tuple(model.outputs[0].shape[1:]), loss, y_batch, ignored_class(spec))
    set_weights(model, weights)
    compile_model(model, spec)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise mistake("batch.broken-weight", name=name)
    try:
        predictions = model(x_batch, training=False)
        value = float(model.compute_loss(x=x_batch, y=y_batch, y_pred=predictions, training=False))
        figures = dict(model.compute_metrics(x_batch, y_batch, predictions))
    except Exception as error:
        metrics = ", ".join(metric if isinstance(metric, str) else metric["class_name"] for metric in spec.metrics)
        raise mistake(
            "batch.refused",
            rows=_form(x_batch),
            targets=_form(y_batch),
            loss=loss,
            metrics=metrics or "(none)",
            reason=first_line(error),
        ) from error
    _check_metrics(model, figures)
    output = np.asarray(predictions, dtype=np.float64)
    if not np.isfinite(output).all():
        raise mistake("batch.output-not-finite")
    if loss in _PROBABILITIES and not takes_logits(spec) and (output.min() < 0 or output.max() > 1 + 1e-3):
        raise mistake(
            "batch.no-probabilities",
            loss=loss,
            least=output.min(),
            most=output.max(),
            activation=last_activation(model) or "none",
        )
    if not np.isfinite(value):
        raise mistake("batch.loss-not-finite", loss=loss, value=value)


def _check_metrics(model: Any, figures: Mapping[str, Any]) -> None:
    """Check that a history can hold what the metrics give: a number each, under a name of its own."""
    # One that is called as the loss hides it in the figures: so the metrics are asked for their names, too.
    given = [str(metric.name) for group in metric_groups(model) for metric in group.metrics]
    names = [*given, *(name for name in figures if name not in ("loss", *given))]
    for name in names:
        if why := why_no_metric(name):
            raise mistake("batch.metric-name", name=name[:LONGEST_NAME], why=why)
    if len(names) > MOST_METRICS or size_of(names) > MOST_BYTES:
        raise mistake("batch.many-metrics", count=len(names), most=MOST_METRICS, size=size_of(names), bytes=MOST_BYTES)
    for name in figures:
        if shape := tuple(np.shape(figures[name])):
            raise mistake("batch.metric-array", name=name, count=int(np.prod(shape)))


def _form(array: AnyArray) -> str:
    return f"{array.dtype.name} {array.shape}"


def _check_rows(model: Any, x: AnyArray) -> None:
    need, have, dtype = tuple(model.inputs[0].shape[1:]), x.shape[1:], str(model.inputs[0].dtype)
    if len(need) != len(have) or any(n not in (None, h) for n, h in zip(need, have, strict=False)):
        raise mistake("batch.row-shape", shape=have, wanted=need)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise mistake("batch.not-finite")
    if np.dtype(dtype).kind in "iu" and x.dtype.kind == "f" and (x != np.floor(x)).any():
        raise mistake("batch.fractions", dtype=dtype)


def _check_targets(output: tuple[int | None, ...], loss: str, y: AnyArray, ignored: int | None = None) -> None:
    target = y.shape[1:]
    classes = output[-1] if output else None
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise mistake("batch.targets-not-finite")
    if loss == "sparse_categorical_crossentropy":
        if target not in (output[:-1], (*output[:-1], 1)):
            if target == output:
                raise mistake("batch.one-hot-targets", loss=loss, shape=target, output=output)
            raise mistake("batch.no-labels", loss=loss, shape=target, output=output)
        if classes == 1:
            raise mistake("batch.one-output", loss=loss)
        labels = y if ignored is None else y[y != ignored]
        least, most = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if classes is not None and not 0 <= least <= most < classes:
            raise mistake("batch.labels-outside", least=least, most=most, outputs=classes, last=classes - 1)
        return
    if loss == "ctc":
        return
    if len(target) == len(output) - 1 and classes == 1:
        target = (*target, 1)  # Keras adds this axis itself
    if len(target) != len(output) or any(n not in (None, t) for n, t in zip(output, target, strict=False)):
        integers = y.shape[1:] in ((), (1,)) and y.dtype.kind in "iub" and classes != 1
        shape = y.shape[1:] or "(), one number a row"
        if integers:
            raise mistake("batch.class-numbers", output=output, shape=shape, loss=loss)
        raise mistake("batch.target-shape", output=output, shape=shape, loss=loss)
