"""All of `Prepared` but the rows, which lie in two arrays: what the process that has read files tells another one."""

from __future__ import annotations

import msgspec
import numpy as np

from lanfit.data.normalize import Normalizer
from lanfit.data.prepare import Prepared, cut
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
    """What is known of rows that were read."""

    rows: int
    x: ArraySpec
    y: ArraySpec
    train: tuple[int, ...]
    """Training rows of each shard, or part; so are `validation` rows."""
    validation: tuple[int, ...]
    numbers: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    normalizer: Constants
    target_normalizer: Constants
    labels: tuple[str, ...] | None

    @classmethod
    def of(cls, data: Prepared) -> Outline:
        """What is to be told of rows as `prepare` gives them for files: without weights, each shard with its own."""
        if data.shared_validation or data.shards[0].w_train is not None:
            raise ValueError("files have neither weights nor validation rows that all clients share")
        return cls(
            data.rows,
            spec_of("x", data.x),
            spec_of("y", data.y),
            tuple(len(shard.x_train) for shard in data.shards),
            tuple(len(shard.x_validation) for shard in data.shards),
            data.numbers,
            data.notes,
            data.warnings,
            Constants.of(data.normalizer),
            Constants.of(data.target_normalizer),
            data.labels,
        )

    def filled(self, x: AnyArray, y: AnyArray) -> Prepared:
        """With the rows."""
        shards, test = cut(self.train, self.validation, x, y)
        return Prepared(
            rows=self.rows,
            x=x,
            y=y,
            shards=shards,
            x_test=x[test:],
            y_test=y[test:],
            normalizer=self.normalizer.normalizer(),
            notes=self.notes,
            warnings=self.warnings,
            train=sum(self.train),
            validation=sum(self.validation),
            pieces=shards,
            numbers=self.numbers,
            target_normalizer=self.target_normalizer.normalizer(),
            labels=self.labels,
        )
