"""Evaluation of trained models on raw rows, in original units. Server and clients share this code.

It needs a process with a backend; it trains nothing and writes no file.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lanfit.data.labels import Target
from lanfit.data.normalize import Normalizer
from lanfit.data.shard import Arrays, Normalizers, Samples
from lanfit.models.compiling import compile_model, options_of, read_spec, wants_logits
from lanfit.models.evaluation import RowEvaluator, WeightsEvaluator
from lanfit.models.merge import ensemble_model
from lanfit.models.trained_model import TrainedModel
from lanfit.training.folds import convert_targets
from lanfit.training.metrics import metrics, with_compiled
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model


def as_predictions(model: Model, outputs: Mapping[str, AnyArray]) -> dict[str, NDArray[np.float32]]:
    """Return the predictions of a model's outputs: the logit of a binary output becomes a probability."""
    options = options_of(read_spec(model.compile), [each.name for each in model.gives])
    found = {}
    for each in model.gives:
        values: NDArray[np.float32] = np.asarray(outputs[each.name], np.float32)
        if Target(each.target) is Target.BINARY and wants_logits(options[each.name].loss):
            values = np.asarray(0.5 * (1 + np.tanh(0.5 * values)), np.float32)  # the sigmoid, which never overflows
        found[each.name] = values
    return found


def figures_of(
    model: Model,
    loss: float,
    targets: Mapping[str, AnyArray],
    predictions: Mapping[str, AnyArray],
    compiled: Mapping[str, float],
) -> dict[str, float]:
    """Return the metrics of predictions: the loss, the scores for each target, and the compiled metrics.

    With several outputs, each score has the output's name as a prefix, as in Keras: `price_mae`.

    Args:
        targets: as the losses take them, in original units, as are the `predictions`.
    """
    scores: dict[str, float] = {}
    for each in model.gives:
        front = f"{each.name}_" if len(model.gives) > 1 else ""
        found = metrics(Target(each.target), targets[each.name], predictions[each.name], each.ignored)
        scores |= {front + name: value for name, value in found.items()}
    return with_compiled({"loss": loss, **scores}, compiled)


class Evaluator:
    """Evaluates trained models of one architecture; reuses the compiled functions."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._evaluators: dict[bytes, WeightsEvaluator] = {}
        self._inputs: tuple[bytes, list[AnyArray], Arrays] | None = None

    def evaluate(self, members: Sequence[TrainedModel], rows: Samples) -> dict[str, float]:
        """Return the metrics of a trained model, or of the averaged outputs of several; empty without rows.

        See `figures_of` for their names.

        Args:
            rows: raw values, in the shapes that the model takes.
        """
        return self.predict_and_evaluate(members, rows)[0] if len(rows) else {}

    def predict_and_evaluate(
        self, members: Sequence[TrainedModel], rows: Samples
    ) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
        """Return the metrics as `evaluate` does, and the predictions of each output in original units (rows, ...)."""
        first, *others = members
        inputs = self._normalized(first.normalizers, rows)
        targets = convert_targets(self.model, rows.targets, inputs)
        if others:
            model = ensemble_model(self.model.architecture, self.model.compile, members)
            compile_model(model, read_spec(self.model.compile))  # as in files, with the long names of metrics
            together = RowEvaluator(model)
            loss, outputs = together.evaluate(Samples(rows.inputs, targets))
            compiled = together.compiled
        else:
            evaluator = self._evaluator_for(first.normalizers.targets)
            loss, outputs = evaluator.evaluate(first.weights, Samples(inputs, targets))
            compiled = evaluator.compiled
        predictions = as_predictions(self.model, outputs)
        return figures_of(self.model, loss, targets, predictions, compiled), predictions

    def _evaluator_for(self, targets: Mapping[str, Normalizer]) -> WeightsEvaluator:
        """Return the scorer for these units. One is cached, because only k-fold models differ in them."""
        key = _key(targets)
        if key not in self._evaluators:
            self._evaluators = {key: WeightsEvaluator(self.model.architecture, self.model.compile, targets)}
        return self._evaluators[key]

    def _normalized(self, normalizers: Normalizers, rows: Samples) -> Arrays:
        """Return the normalized inputs. They are cached, because most models have the same normalizers."""
        key, raw = _key(normalizers.inputs), list(rows.inputs.values())
        if self._inputs is None or self._inputs[0] != key or any(map(operator.is_not, self._inputs[1], raw)):
            found = {name: normalizers.inputs[name].apply(array) for name, array in rows.inputs.items()}
            self._inputs = (key, raw, found)
        return self._inputs[2]


def _key(normalizers: Mapping[str, Normalizer]) -> bytes:
    return b"".join(each.subtract.tobytes() + each.multiply.tobytes() for each in normalizers.values())
