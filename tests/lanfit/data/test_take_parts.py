"""Shards of numbered parts are views of rows that lie once in memory, and the normalizer sees each row once."""

import numpy as np
import pytest
from data_requests import changed, data_request
from hypothesis import given, settings
from hypothesis import strategies as st

from lanfit.data.labels import Target
from lanfit.data.normalize import Moments, fit_normalizer
from lanfit.data.partitioning import Partitioning
from lanfit.data.prepare import prepare, take_parts
from lanfit.data.sources import arrays_source
from lanfit.errors import InputError
from lanfit.settings.parts import PartRange

ROWS = 120
X = np.random.default_rng(0).normal(5, 3, (ROWS, 2)).astype(np.float32)
X[:, 0] = np.arange(ROWS)
Y = np.arange(ROWS) % 3
REQUEST = data_request(
    x_dir=None, y_dir=None, input_shape=(None, 2), output_shape=(None, 3), target=Target.CLASSES, shards=1,
    batch_size=4, test_split=0.2, validation_split=0.1, normalizer="zscore", seed=0,
    partitioning=Partitioning("parts", parts_of=6),
)  # fmt: skip
RANGES = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda pair: PartRange(min(pair), max(pair)))


def prepared(request=REQUEST):
    return prepare(request, source=arrays_source([("rows", X, Y)], Target.CLASSES))


def rows_of(shard):
    return {int(row) for x in (shard.train.x, shard.validation.x) for row in x[:, 0]}


def test_rows_are_cut_into_stratified_parts_after_the_test_rows():
    data = prepared()
    assert len(data.shards) == 6
    rows = [rows_of(part) for part in data.shards]
    assert len(set.union(*rows)) == sum(map(len, rows)) == 96
    assert {len(part) for part in rows} == {16}
    for part in data.shards:
        counts = np.bincount(np.concatenate([part.train.y, part.validation.y]), minlength=3)
        assert counts.max() - counts.min() <= 1
    whole = prepare(
        changed(REQUEST, partitioning=Partitioning()), source=arrays_source([("rows", X, Y)], Target.CLASSES)
    )
    np.testing.assert_array_equal(data.test_samples.x, whole.test_samples.x)


@settings(max_examples=60, deadline=None)
@given(st.lists(RANGES, min_size=1, max_size=4))
def test_a_shard_is_all_of_its_parts_and_a_view(ranges):
    data = prepared()
    taken = take_parts(data, ranges, 4)
    parts = [rows_of(part) for part in data.shards]
    for shard, wanted in zip(taken.shards, ranges, strict=True):
        assert rows_of(shard) == set.union(*(parts[index] for index in wanted.indices))
        assert (shard.train.x[:, 0] % 3 == shard.train.y).all()
        assert (shard.validation.x[:, 0] % 3 == shard.validation.y).all()
        for array in (shard.train.x, shard.validation.x, shard.train.y):
            assert array.flags.c_contiguous
            assert np.shares_memory(array, data.all.x) or np.shares_memory(array, data.all.y)
    used = set.union(*(rows_of(shard) for shard in taken.shards))
    assert taken.train + taken.validation == len(used)
    assert taken.rows == len(used) + data.test


def test_a_row_is_for_validation_with_everybody_or_with_nobody():
    taken = take_parts(prepared(), [PartRange(1, 4), PartRange(3, 6)], 4)
    one, two = (
        ({int(row) for row in shard.train.x[:, 0]}, {int(row) for row in shard.validation.x[:, 0]})
        for shard in taken.shards
    )
    assert not one[0] & two[1]
    assert not one[1] & two[0]
    assert one[0] & two[0]


def test_the_normalizer_is_fitted_on_what_is_taken_each_row_once():
    taken = take_parts(prepared(), [PartRange(1, 4), PartRange(3, 5)], 4)
    rows = np.unique(np.concatenate([shard.train.x for shard in taken.shards]), axis=0)
    assert len(rows) == taken.train
    expected = fit_normalizer("zscore", Moments.of(rows))
    np.testing.assert_allclose(taken.normalizers.x.subtract, expected.subtract, rtol=1e-12)
    np.testing.assert_allclose(taken.normalizers.x.multiply, expected.multiply, rtol=1e-12)
    assert not np.allclose(prepared().normalizers.x.subtract, expected.subtract)


def test_targets_that_are_numbers_are_normalized_by_what_is_taken():
    request = changed(
        REQUEST, target=Target.VALUES, output_shape=(None, 1), normalize_targets="zscore", normalizer="none"
    )
    data = prepare(request, source=arrays_source([("rows", X, X[:, :1])], Target.VALUES))
    taken = take_parts(data, [PartRange(2, 2)], 4)
    np.testing.assert_allclose(taken.normalizers.y.subtract, taken.shards[0].train.y.mean(), rtol=1e-6)


def test_parts_with_fewer_training_rows_than_a_batch_are_named():
    with pytest.raises(InputError, match="a batch of 15 rows is larger than the 14 training rows of part 2") as caught:
        take_parts(prepared(), [PartRange(1, 2), PartRange(2, 2)], 15)
    assert caught.value.code == "parts.smaller-than-batch"
    assert "--batch-size 14" in caught.value.hint


def test_the_same_seed_cuts_the_same_parts_and_another_seed_others():
    one, again, other = (prepared(changed(REQUEST, seed=seed)) for seed in (1, 1, 2))
    assert [rows_of(part) for part in one.shards] == [rows_of(part) for part in again.shards]
    assert [rows_of(part) for part in one.shards] != [rows_of(part) for part in other.shards]
