"""All of `Prepared` but the rows, which have their own arrays: the reply of a process that reads files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
import numpy as np

from lanfit.data.normalize import Normalizer
from lanfit.data.prepare import Prepared, cut, names_of_places
from lanfit.data.shard import Normalizers, Samples
from lanfit.wire.arrays import AnyArray, ArraySpec, spec_of


class Constants(msgspec.Struct, frozen=True):
    """A normalizer, to the bit."""

    name: str
    shape: tuple[int, ...]
    subtract: bytes
    multiply: bytes

    @classmethod
    def of(cls, normalizer: Normalizer) -> Constants:
        subtract, multiply = normalizer.subtract, normalizer.multiply
        return cls(normalizer.name, subtract.shape, subtract.tobytes(), multiply.tobytes())

    def normalizer(self) -> Normalizer:
        subtract, multiply = (np.frombuffer(each).reshape(self.shape).copy() for each in (self.subtract, self.multiply))
        return Normalizer(self.name, subtract, multiply)


class Outline(msgspec.Struct, frozen=True):
    """Facts about rows that were read."""

    rows: int
    inputs: dict[str, ArraySpec]
    """By the model's names for them; the specs give the offsets of their rows."""
    targets: dict[str, ArraySpec]
    train: tuple[int, ...]
    """Training rows of each shard, or part; likewise the `validation` rows."""
    validation: tuple[int, ...]
    numbers: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    normalizers: dict[str, Constants]
    """Of each input; likewise of each target."""
    target_normalizers: dict[str, Constants]
    labels: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, data: Prepared) -> Outline:
        """Return the outline of rows that `prepare` returned for files: without weights, each shard with its own."""
        if data.shared_validation or data.shards[0].train.weights is not None:
            raise ValueError("files have neither weights nor validation rows that all clients share")
        return cls(
            data.rows,
            _specs("x", data.all.inputs),
            _specs("y", data.all.targets),
            tuple(len(shard.train) for shard in data.shards),
            tuple(len(shard.validation) for shard in data.shards),
            data.numbers,
            data.notes,
            data.warnings,
            {name: Constants.of(each) for name, each in data.normalizers.inputs.items()},
            {name: Constants.of(each) for name, each in data.normalizers.targets.items()},
            dict(data.labels),
        )

    def filled(self, open_array: Callable[[ArraySpec], AnyArray]) -> Prepared:
        """Return the prepared data with its rows, which `open_array` opens."""
        final = Samples(
            {name: open_array(spec) for name, spec in self.inputs.items()},
            {name: open_array(spec) for name, spec in self.targets.items()},
        )
        normalizers = Normalizers(
            {name: each.normalizer() for name, each in self.normalizers.items()},
            {name: each.normalizer() for name, each in self.target_normalizers.items()},
        )
        chunks, test = cut(self.train, self.validation, final)
        return Prepared(
            rows=self.rows,
            all=final,
            shards=tuple(replace(shard, normalizers=normalizers) for shard in chunks),
            test_samples=final.take(slice(test, None)),
            normalizers=normalizers,
            notes=self.notes,
            warnings=self.warnings,
            train=sum(self.train),
            validation=sum(self.validation),
            chunks=chunks,
            numbers=self.numbers,
            labels=self.labels,
        )


def _specs(kind: str, arrays: Mapping[str, AnyArray]) -> dict[str, ArraySpec]:
    files = names_of_places(kind, arrays)
    return {name: spec_of(file, array) for file, (name, array) in zip(files, arrays.items(), strict=True)}
