"""Rows are made once for all rounds on the same shard, and never stand in for other ones."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from lanfit.data.labels import Target
from lanfit.data.shard import Shard
from lanfit.errors import LanfitError
from lanfit.training.row_cache import RowCache
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import FitTask, Fold, Model, Runtime

MODEL = Model("{}", "{}", (None, 2), (None, 3), Target.CLASSES, "scale", "none")
TASK = FitTask(MODEL, 2, 16, 5, 0, Runtime(), None, None, round=1)


def shard(seed: int = 0, **more: AnyArray) -> dict[str, AnyArray]:
    random = np.random.RandomState(seed)
    return {
        "x_train": random.randint(0, 256, (12, 2)).astype(np.uint8),
        "y_train": np.arange(12) % 3,
        "x_validation": random.randint(0, 256, (4, 2)).astype(np.uint8),
        "y_validation": np.arange(4) % 3,
        "subtract": np.zeros(2),
        "multiply": np.full(2, 1 / 255),
        "target_subtract": np.zeros(()),
        "target_multiply": np.ones(()),
        **more,
    }


class Watched:
    """Kept rows of which one sees what is loaded and placed."""

    def __init__(self) -> None:
        self.loaded = 0
        self.placed: list[AnyArray] = []
        self.kept = RowCache(self.place)

    def place(self, array: AnyArray) -> AnyArray:
        self.placed.append(array)
        return array.copy()

    def of(self, task: FitTask, arrays: dict[str, AnyArray], source: object = None, partitioned: Any = None) -> Any:
        def load() -> Shard:
            self.loaded += 1
            return Shard.of_block(task.model, arrays)

        return self.kept.of(task, partitioned or block_of(arrays), source, load)


def test_the_next_round_on_the_same_shard_has_its_rows_already() -> None:
    watched, arrays = Watched(), shard(w_train=np.ones(12, np.float32))
    first = watched.of(TASK, arrays)
    again = watched.of(msgspec.structs.replace(TASK, round=2, seed=9, epochs=3, proximal=0.5), arrays)
    assert again is first
    assert watched.loaded == 1
    assert len(watched.placed) == 5
    assert first.shard == block_of(arrays)
    np.testing.assert_array_equal(first.rows.train.x, (arrays["x_train"] / 255).astype(np.float32))
    np.testing.assert_array_equal(first.rows.train.weights, arrays["w_train"])
    np.testing.assert_array_equal(first.to_evaluate.x, arrays["x_validation"])
    assert not np.shares_memory(first.to_evaluate.x, arrays["x_validation"]), "the file may be removed"


@pytest.mark.parametrize(
    ("change", "arrays"),
    [
        ({}, shard(1)),
        ({"model": msgspec.structs.replace(MODEL, normalizer="none")}, shard()),
        ({"model": msgspec.structs.replace(MODEL, target=Target.INPUT, output_shape=(None, 2))}, shard()),
        ({"fold": Fold(1, 3, 0, 0.2)}, shard()),
    ],
)
def test_rows_that_differ_in_anything_are_made_again(change: dict[str, Any], arrays: dict[str, AnyArray]) -> None:
    watched = Watched()
    first = watched.of(TASK, shard())
    task = msgspec.structs.replace(TASK, **change)
    other, fresh = watched.of(task, arrays), Watched().of(task, arrays)
    assert other is not first
    np.testing.assert_array_equal(other.rows.train.x, fresh.rows.train.x)
    np.testing.assert_array_equal(other.rows.train.y, fresh.rows.train.y)


def test_own_files_that_were_read_again_are_other_rows_with_the_same_constants() -> None:
    watched, files, constants = Watched(), object(), block_of({"subtract": np.zeros(2)})
    first = watched.of(TASK, shard(), files, constants)
    assert watched.of(TASK, shard(), files, constants) is first
    assert first.shard == block_of(shard()), "a checkpoint is for rows, and the dealt block has none"
    other = watched.of(TASK, shard(1), object(), constants)
    assert other.shard == block_of(shard(1)) != first.shard


def test_without_rounds_nothing_is_kept_and_the_last_rows_go() -> None:
    watched = Watched()
    watched.of(TASK, shard())
    task = msgspec.structs.replace(TASK, round=0)
    for loaded in (2, 3):
        rows = watched.of(task, shard())
        assert watched.loaded == loaded
    np.testing.assert_array_equal(rows.rows.train.x, watched.of(TASK, shard()).rows.train.x)
    assert watched.loaded == 4


def test_what_was_kept_is_let_go_before_other_rows_are_loaded() -> None:
    kept = RowCache(lambda array: array.copy())
    kept.of(TASK, block_of(shard()), None, lambda: Shard.of_block(MODEL, shard()))
    held: list[object] = []

    def load() -> Shard:
        held.append(kept._cached)
        return Shard.of_block(MODEL, shard(1))

    kept.of(TASK, BlockSpec("f" * 64, ()), None, load)
    assert held == [None]


class Indices:
    """Stands for the file of a block of indices."""

    def __init__(self, train: list[int], validation: list[int] | None = None) -> None:
        self.arrays = {"train": np.array(train), "validation": np.array(validation or [], np.int64)}
        self.block = block_of(self.arrays)

    def load(self) -> dict[str, AnyArray]:
        return self.arrays


def test_a_task_has_the_rows_that_its_indices_name_and_others_with_other_indices() -> None:
    cache, arrays = RowCache(lambda array: array.copy()), shard(w_train=np.arange(12, dtype=np.float32))

    def of(chosen: Any) -> Any:
        return cache.of(TASK, block_of(arrays), None, lambda: Shard.of_block(MODEL, arrays), chosen=chosen)

    first = of(Indices([2, 0, 2], [1]))
    np.testing.assert_array_equal(first.rows.train.x, (arrays["x_train"][[2, 0, 2]] / 255).astype(np.float32))
    np.testing.assert_array_equal(first.rows.train.weights, arrays["w_train"][[2, 0, 2]])
    np.testing.assert_array_equal(first.to_evaluate.x, arrays["x_train"][[1]])
    assert of(Indices([2, 0, 2], [1])) is first
    assert len(of(Indices([1])).rows.train) == 1
    assert len(of(None).rows.train) == len(arrays["x_train"])


@pytest.mark.parametrize(
    "indices", [Indices([-1]), Indices([10**6]), Indices([0], [10**6])], ids=["negative", "large", "test"]
)
def test_an_index_of_no_row_is_refused(indices: Any) -> None:
    with pytest.raises(LanfitError) as refused:
        RowCache(np.copy).of(TASK, block_of(shard()), None, lambda: Shard.of_block(MODEL, shard()), chosen=indices)
    assert refused.value.code == "task.no-such-row"
