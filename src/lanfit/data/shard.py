"""Rows between the readers and the training loop: named input and target arrays, with weights and normalizers.

`Samples` are rows of one kind: training, validation or test rows. A `Shard` is the data of one client. Names are those
of the model's inputs and outputs, in the model's order; a model with one input and one output has `X` and `Y`. Only
this module converts them to the flat arrays of a block (docs/decisions/0019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lanfit.data.normalize import NO_NORMALIZER, OF_TARGETS, Normalizer
from lanfit.data.text_labels import LABELS, words_from_array, words_to_array
from lanfit.errors import lanfit_error
from lanfit.wire.arrays import AnyArray
from lanfit.wire.tasks import Model, X, Y

Arrays = Mapping[str, AnyArray]
Rows = NDArray[np.int64]
#: Separates the kind of an array in a block from the input or output. Names of inputs and outputs do not contain it.
OF = ":"


@dataclass(frozen=True)
class Samples:
    """Rows, the same number in each array. With order XX targets have the shape (rows, 0)."""

    inputs: Arrays
    targets: Arrays
    weights: AnyArray | None = None
    """The weight of each row in the loss, float32; None: all equal."""

    @classmethod
    def of(cls, x: AnyArray, y: AnyArray, weights: AnyArray | None = None) -> Samples:
        """Return rows for a model with one input and one output."""
        return cls({X: x}, {Y: y}, weights)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values()), ()))

    @property
    def x(self) -> AnyArray:
        """The input array of a model with one input."""
        [array] = self.inputs.values()
        return array

    @property
    def y(self) -> AnyArray:
        """The target array of a model with one output."""
        [array] = self.targets.values()
        return array

    @property
    def arrays(self) -> tuple[AnyArray, ...]:
        """Return all arrays: inputs, targets, and the weights if there are any."""
        return (*self.unweighed, *(() if self.weights is None else (self.weights,)))

    @property
    def unweighed(self) -> tuple[AnyArray, ...]:
        """Return all inputs and targets."""
        return (*self.inputs.values(), *self.targets.values())

    def map(self, change: Callable[[AnyArray], AnyArray]) -> Samples:
        """Return new samples with a function applied to each array."""
        return Samples(
            {name: change(array) for name, array in self.inputs.items()},
            {name: change(array) for name, array in self.targets.items()},
            None if self.weights is None else change(self.weights),
        )

    def take(self, rows: slice | Rows) -> Samples:
        """Return these rows; views for a slice."""
        return self.map(lambda array: array[rows])


NO_SAMPLES = Samples({}, {})


@dataclass(frozen=True)
class Normalizers:
    """A normalizer for each input and each numeric target; "none" for other targets."""

    inputs: Mapping[str, Normalizer]
    targets: Mapping[str, Normalizer]

    @classmethod
    def single(cls, x: Normalizer = NO_NORMALIZER, y: Normalizer = NO_NORMALIZER) -> Normalizers:
        """Return the normalizers of a model with one input and one output."""
        return cls({X: x}, {Y: y})

    @classmethod
    def of(cls, model: Model, arrays: Arrays) -> Normalizers:
        """Return the normalizers whose `constants` are in the arrays."""
        behind = _behind(model)
        return cls(
            {each.name: Normalizer.of(each.normalizer, arrays, "", behind(each.name)) for each in model.takes},
            {each.name: Normalizer.of(each.normalizer, arrays, OF_TARGETS, behind(each.name)) for each in model.gives},
        )

    @property
    def x(self) -> Normalizer:
        """The normalizer of the only input."""
        [normalizer] = self.inputs.values()
        return normalizer

    @property
    def y(self) -> Normalizer:
        """The normalizer of the only target."""
        [normalizer] = self.targets.values()
        return normalizer

    @property
    def are_none(self) -> bool:
        """Whether they change nothing."""
        return all(each.name == NO_NORMALIZER.name for each in (*self.inputs.values(), *self.targets.values()))

    def constants(self) -> dict[str, AnyArray]:
        """Return the arrays from which `of` makes the same normalizers."""
        behind = _behind_names(self.inputs, self.targets)
        found: dict[str, AnyArray] = {}
        for prefix, normalizers in (("", self.inputs), (OF_TARGETS, self.targets)):
            for name, normalizer in normalizers.items():
                found |= normalizer.constants(prefix, behind(name))
        return found


@dataclass(frozen=True)
class Shard:
    """The data of one client: raw rows, and the normalizers, which are fitted on the rows of all clients.

    With client data, a shard is sent without rows.
    """

    train: Samples
    validation: Samples
    normalizers: Normalizers = field(default_factory=Normalizers.single)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For client data: the string labels of all clients, by target; only of targets with string labels."""
    origin: str = ""
    """The owner of the rows, for messages."""

    def block(self) -> dict[str, AnyArray]:
        """Return its arrays for transfer, with the names in docs/protocol.md."""
        behind = _behind_names(self.normalizers.inputs, self.normalizers.targets)
        found: dict[str, AnyArray] = {}
        kinds = (("train", self.train), ("validation", self.validation))
        for kind, samples in kinds:
            found |= {f"x_{kind}{behind(name)}": array for name, array in samples.inputs.items()}
            found |= {f"y_{kind}{behind(name)}": array for name, array in samples.targets.items()}
        found |= {f"w_{kind}": samples.weights for kind, samples in kinds if samples.weights is not None}
        found |= self.normalizers.constants()
        return found | {f"{LABELS}{behind(name)}": words_to_array(words) for name, words in self.labels.items()}

    @classmethod
    def of_block(cls, model: Model, arrays: Arrays) -> Shard:
        """Return the shard in the arrays that `block` returned.

        Raises:
            InputError: the names of classes are not valid.
        """
        behind = _behind(model)

        def samples(kind: str) -> Samples:
            inputs = {each.name: f"x_{kind}{behind(each.name)}" for each in model.takes}
            if not all(key in arrays for key in inputs.values()):
                return NO_SAMPLES
            targets = {each.name: f"y_{kind}{behind(each.name)}" for each in model.gives}
            return Samples(
                {name: arrays[key] for name, key in inputs.items()},
                {name: arrays[key] for name, key in targets.items()},
                arrays.get(f"w_{kind}"),
            )

        keys = {each.name: f"{LABELS}{behind(each.name)}" for each in model.gives}
        try:
            labels = {name: words_from_array(arrays[key]) for name, key in keys.items() if key in arrays}
        except ValueError as error:
            raise lanfit_error("own-data.labels-changed") from error
        return cls(samples("train"), samples("validation"), Normalizers.of(model, arrays), labels)


def kinds_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Group the names of arrays in a shard's block by kind; those of a kind have the same number of rows."""
    return {
        kind: [name for name in names if name.partition(OF)[0] in (f"x_{kind}", f"y_{kind}", f"w_{kind}")]
        for kind in ("train", "validation")
    }


def _behind(model: Model) -> Callable[[str], str]:
    return _behind_names([each.name for each in model.takes], [each.name for each in model.gives])


def _behind_names(
    inputs: Mapping[str, object] | Sequence[str], targets: Mapping[str, object] | Sequence[str]
) -> Callable[[str], str]:
    """Return the suffix of an array name after its kind: empty for a model with one input and one output."""
    return (lambda name: "") if list(inputs) == [X] and list(targets) == [Y] else (lambda name: f"{OF}{name}")
