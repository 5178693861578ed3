"""Scores trained models on rows as the files hold them, in original units. The one way to score, on server and client.

Needs a process that has the backend; trains nothing, and writes no file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lanfit.data.labels import Target, make_target
from lanfit.data.normalize import Normalizer
from lanfit.models.compiling import compile_model, read_spec, takes_logits
from lanfit.models.member import Member
from lanfit.models.merge import ensemble_model
from lanfit.models.scoring import RowScorer, Scorer
from lanfit.training.metrics import metrics, with_compiled
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model


def as_predictions(model: Model, outputs: AnyArray) -> NDArray[np.float32]:
    """What a model's outputs predict: one logit of a yes-or-no model becomes a probability, all else stays."""
    values: NDArray[np.float32] = np.asarray(outputs, np.float32)
    if Target(model.target) is Target.BINARY and takes_logits(read_spec(model.compile)):
        return np.asarray(0.5 * (1 + np.tanh(0.5 * values)), np.float32)  # the sigmoid, which never overflows
    return values


class Judge:
    """Scores members of one model; stays warm from one to the next."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._scorers: dict[bytes, Scorer] = {}
        self._inputs: tuple[object, AnyArray, AnyArray] | None = None

    def score(self, members: Sequence[Member], x: AnyArray, y: AnyArray) -> dict[str, float]:
        """Return the figures of a member, or of several whose outputs are averaged; nothing without rows.

        They are `loss`, the scores that fit the target, and the metrics that the model is compiled with.

        Args:
            x, y: raw rows and their targets, (rows, ...), as the model takes them.
        """
        return self.judge(members, x, y)[0] if len(x) else {}

    def judge(
        self, members: Sequence[Member], x: AnyArray, y: AnyArray
    ) -> tuple[dict[str, float], NDArray[np.float32]]:
        """Return what `score` does, and the predictions in original units, (rows, *output_shape)."""
        first, *others = members
        normalized = self._normalized(first.normalizer, x)
        target = Target(self.model.target)
        targets = make_target(target, y, normalized, self.model.output_shape)
        if others:
            model = ensemble_model(self.model.architecture, self.model.compile, members)
            compile_model(model, read_spec(self.model.compile))  # as a file it has the long names of metrics
            together = RowScorer(model)
            loss, outputs = together.score(x, targets)
            compiled = together.compiled
        else:
            scorer = self._scorer(first.targets)
            loss, outputs = scorer.score(first.weights, normalized, targets)
            compiled = scorer.compiled
        predictions = as_predictions(self.model, outputs)
        return with_compiled(
            {"loss": loss, **metrics(target, targets, predictions, self.model.ignored)}, compiled
        ), predictions

    def _scorer(self, targets: Normalizer) -> Scorer:
        """The scorer for these units; one is kept, because all models of a method but k-fold have the same."""
        key = targets.subtract.tobytes() + targets.multiply.tobytes()
        if key not in self._scorers:
            self._scorers = {key: Scorer(self.model.architecture, self.model.compile, targets)}
        return self._scorers[key]

    def _normalized(self, normalizer: Normalizer, x: AnyArray) -> AnyArray:
        """The rows behind a normalizer; kept, because most models that are scored share it."""
        key = (normalizer.subtract.tobytes(), normalizer.multiply.tobytes())
        if self._inputs is None or self._inputs[0] != key or self._inputs[1] is not x:
            self._inputs = (key, x, normalizer.apply(x))
        return self._inputs[2]
