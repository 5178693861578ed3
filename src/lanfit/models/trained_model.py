"""A trained model: weights with the normalizers that belong to them, as the arrays of a result have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lanfit.data.shard import Normalizers
from lanfit.wire.arrays import AnyArray
from lanfit.wire.tasks import Model

HISTORY = "history"


@dataclass(frozen=True)
class TrainedModel:
    """Weights in the model's order, and the normalizers of its inputs and targets."""

    weights: Mapping[str, AnyArray]
    normalizers: Normalizers = field(default_factory=Normalizers.single)

    @classmethod
    def of(cls, arrays: Mapping[str, AnyArray], model: Model) -> TrainedModel:
        """Return the trained model in the arrays of a result: weights, then the constants of its normalizers."""
        normalizers = Normalizers.of(model, arrays)
        others = {*normalizers.constants(), HISTORY}
        return cls({name: array for name, array in arrays.items() if name not in others}, normalizers)

    def constants(self) -> dict[str, AnyArray]:
        """Return the arrays other than weights, which have a slash in their names."""
        return self.normalizers.constants()
