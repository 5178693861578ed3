"""Rows are drawn exactly as scikit-learn draws them, and where it gives up, ours goes on and says so."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from lanfit.data.split import deal, plan_rows, split_rows
from lanfit.errors import InputError
from lanfit.seeds import derive_seed

SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.floats(0.001, 0.99)
LABELS = st.lists(st.integers(-3, 6), min_size=2, max_size=120).map(np.array)


def doubled(labels):
    """Every class at least twice, as scikit-learn demands."""
    return np.concatenate([labels, np.unique(labels), np.unique(labels)])


def all_rows(*parts):
    return sorted(np.concatenate(parts).tolist())


@given(rows=st.integers(2, 400), fraction=FRACTIONS, seed=SEEDS)
def test_a_split_without_classes_equals_scikit_learns(rows, fraction, seed):
    assume(np.ceil(fraction * rows) < rows)
    theirs = train_test_split(np.arange(rows), test_size=fraction, random_state=seed)
    for ours, expected in zip(split_rows(rows, fraction, seed), theirs, strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert ours.dtype == np.int64


@settings(max_examples=500)
@given(labels=LABELS.map(doubled), fraction=st.floats(0.1, 0.9), seed=SEEDS)
def test_a_stratified_split_equals_scikit_learns_wherever_it_gives_one(labels, fraction, seed):
    try:
        theirs = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels)
    except ValueError:
        assume(False)
    for ours, expected in zip(split_rows(len(labels), fraction, seed, labels), theirs, strict=True):
        np.testing.assert_array_equal(ours, expected)


@settings(max_examples=300)
@given(labels=LABELS, fraction=FRACTIONS, seed=SEEDS)
def test_a_split_never_loses_a_row_and_always_holds_out_the_rounded_up_share(labels, fraction, seed):
    held = int(np.ceil(fraction * len(labels)))
    assume(held < len(labels))
    keep, out = split_rows(len(labels), fraction, seed, labels)
    assert len(out) == held
    assert all_rows(keep, out) == list(range(len(labels)))


@given(shards=st.integers(2, 12), extra=st.integers(0, 150), seed=SEEDS)
def test_dealing_without_classes_equals_k_fold(shards, extra, seed):
    rows = shards + extra
    theirs = [test for _, test in KFold(shards, shuffle=True, random_state=seed).split(np.zeros(rows))]
    ours = deal(rows, shards, seed)
    assert [part.tolist() for part in ours] == [part.tolist() for part in theirs]


@settings(max_examples=500)
@pytest.mark.filterwarnings("ignore:The least populated class")
@given(labels=LABELS, shards=st.integers(2, 8), seed=SEEDS)
def test_dealing_with_classes_equals_stratified_k_fold_wherever_it_gives_one(labels, shards, seed):
    labels = np.concatenate([labels, np.zeros(shards, int)])  # scikit-learn wants one class that is large enough
    folds = StratifiedKFold(shards, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels)
    theirs = [test.tolist() for _, test in folds]
    assert [part.tolist() for part in deal(len(labels), shards, seed, labels)] == theirs


@settings(max_examples=300)
@given(labels=LABELS, shards=st.integers(1, 8), seed=SEEDS)
def test_shards_hold_every_row_once_and_differ_by_at_most_one_row(labels, shards, seed):
    assume(shards <= len(labels))
    for classes in (None, labels):
        parts = deal(len(labels), shards, seed, classes)
        assert all_rows(*parts) == list(range(len(labels)))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_class_with_one_row_is_dealt_by_chance_and_named():
    labels = np.array([0] * 40 + [1] * 40 + [7])
    plan = plan_rows(81, 2, 0.2, 0.1, seed=0, classes=labels)
    assert any("class 7 has only one row" in text for text in plan.warnings)
    places = {np.flatnonzero(split_rows(81, 0.5, seed, labels)[1] == 80).size for seed in range(30)}
    assert places == {0, 1}


def test_a_class_smaller_than_the_number_of_clients_is_named():
    labels = np.array([0] * 30 + [1] * 30 + [2] * 3)
    plan = plan_rows(63, 5, 0.0, 0.0, seed=0, classes=labels)
    assert plan.warnings == ("class 2 has fewer rows than the 5 clients: dealt at random",)


def test_held_out_rows_that_are_fewer_than_the_classes_are_drawn_and_said():
    labels = np.repeat(np.arange(10), 5)
    plan = plan_rows(50, 1, 0.0, 0.1, seed=3, classes=labels)
    assert len(plan.shards[0].validation) == 5
    assert plan.warnings == ("shard 1: the 5 validation rows can't have one of each of the 10 classes",)


def test_the_digits_are_cut_as_the_documentation_says():
    labels = np.arange(1797) % 10
    plan = plan_rows(1797, 2, 0.2, 0.1, seed=0, classes=labels)
    assert len(plan.test) == 360
    assert [len(shard.train) + len(shard.validation) for shard in plan.shards] == [719, 718]
    assert [len(shard.validation) for shard in plan.shards] == [72, 72]
    assert plan.warnings == ()


@settings(max_examples=200)
@given(
    labels=LABELS, shards=st.integers(1, 5), test=st.floats(0, 0.6), validation=st.floats(0, 0.6), seed=SEEDS,
    stratify=st.booleans(),
)  # fmt: skip
def test_a_plan_has_every_row_exactly_once_or_is_an_error_with_a_hint(labels, shards, test, validation, seed, stratify):
    rows = len(labels)
    try:
        plan = plan_rows(rows, shards, test, validation, seed, labels if stratify else None)
    except InputError as refused:
        error = refused
    else:
        error = None
    if error:
        assert error.hint
        return
    parts = [part for shard in plan.shards for part in (shard.train, shard.validation)]
    assert all_rows(*parts, plan.test) == list(range(rows))
    assert all(len(shard.train) > 0 for shard in plan.shards)


def test_the_same_seed_plans_the_same_and_another_seed_another():
    first, again, other = (plan_rows(100, 3, 0.2, 0.1, seed) for seed in (5, 5, 6))
    assert first.test.tolist() == again.test.tolist() != other.test.tolist()
    assert first.shards[2].train.tolist() == again.shards[2].train.tolist()


def test_each_draw_of_a_plan_has_its_own_seed_and_is_scikit_learns():
    labels = np.random.default_rng(0).integers(0, 3, 200)
    plan = plan_rows(200, 3, 0.2, 0.1, seed=7, classes=labels)
    options = {"test_size": 0.2, "random_state": derive_seed(7, "test"), "stratify": labels}
    rest, test = train_test_split(np.arange(200), **options)
    np.testing.assert_array_equal(plan.test, test)
    folds = StratifiedKFold(3, shuffle=True, random_state=derive_seed(7, "deal")).split(rest, labels[rest])
    for number, (_, fold) in enumerate(folds):
        rows = rest[fold]
        options = {"test_size": 0.1, "random_state": derive_seed(7, "validation", number), "stratify": labels[rows]}
        train, validation = train_test_split(rows, **options)
        np.testing.assert_array_equal(plan.shards[number].train, train)
        np.testing.assert_array_equal(plan.shards[number].validation, validation)


def test_every_class_reaches_every_shard_in_its_proportion():
    labels = np.array([0] * 90 + [1] * 9)
    for part in deal(99, 3, 1, labels):
        assert np.bincount(labels[part]).tolist() == [30, 3]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused_with_its_number(fraction):
    with pytest.raises(InputError, match=str(fraction)):
        split_rows(10, fraction, 0)


def test_a_share_of_nothing_holds_out_no_row_and_keeps_the_order():
    keep, out = split_rows(4, 0.0, 0)
    assert keep.tolist() == [0, 1, 2, 3]
    assert out.tolist() == []


def test_too_many_clients_for_the_rows_are_refused_with_the_numbers():
    with pytest.raises(InputError, match=r"of 10 rows 2 are test rows, and the other 8 are too few for 9 clients"):
        plan_rows(10, 9, 0.2, 0.0, 0)
    with pytest.raises(InputError, match="3 rows can't be dealt to 4 clients"):
        deal(3, 4, 0)
    with pytest.raises(InputError, match=r"shard 1 of 3 has 1 row.*leaves none"):
        plan_rows(3, 3, 0.0, 0.1, 0)
