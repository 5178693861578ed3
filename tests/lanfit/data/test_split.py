"""Rows are drawn exactly as scikit-learn draws them, and where it gives up, ours goes on and says so."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from lanfit.core.seeds import derive_seed
from lanfit.data.plan import plan_rows
from lanfit.data.split import NO_CLASS, folds, partition, sample_rows, split_rows
from lanfit.errors import InputError

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
def test_partitioning_without_classes_equals_k_fold(shards, extra, seed):
    rows = shards + extra
    theirs = [test for _, test in KFold(shards, shuffle=True, random_state=seed).split(np.zeros(rows))]
    ours = partition(rows, shards, seed)
    assert [part.tolist() for part in ours] == [part.tolist() for part in theirs]


@settings(max_examples=500)
@pytest.mark.filterwarnings("ignore:The least populated class")
@given(labels=LABELS, shards=st.integers(2, 8), seed=SEEDS)
def test_partitioning_with_classes_equals_stratified_k_fold_wherever_it_gives_one(labels, shards, seed):
    labels = np.concatenate([labels, np.zeros(shards, int)])  # scikit-learn wants one class that is large enough
    folds = StratifiedKFold(shards, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels)
    theirs = [test.tolist() for _, test in folds]
    assert [part.tolist() for part in partition(len(labels), shards, seed, labels)] == theirs


@settings(max_examples=300)
@given(labels=LABELS, shards=st.integers(1, 8), seed=SEEDS)
def test_shards_hold_every_row_once_and_differ_by_at_most_one_row(labels, shards, seed):
    assume(shards <= len(labels))
    for classes in (None, labels):
        parts = partition(len(labels), shards, seed, classes)
        assert all_rows(*parts) == list(range(len(labels)))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_class_with_one_row_is_assigned_at_random_and_named():
    labels = np.array([0] * 40 + [1] * 40 + [7])
    plan = plan_rows(81, 2, 0.2, 0.1, seed=0, classes=labels)
    assert any("class 7 has only one row" in text for text in plan.warnings)
    places = {np.flatnonzero(split_rows(81, 0.5, seed, labels)[1] == 80).size for seed in range(30)}
    assert places == {0, 1}


def test_a_class_smaller_than_the_number_of_clients_is_named():
    labels = np.array([0] * 30 + [1] * 30 + [2] * 3)
    plan = plan_rows(63, 5, 0.0, 0.0, seed=0, classes=labels)
    assert plan.warnings == ("class 2 has fewer rows than the 5 clients: distributed at random",)


def test_held_out_rows_that_are_fewer_than_the_classes_are_drawn_and_reported():
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
    for part in partition(99, 3, 1, labels):
        assert np.bincount(labels[part]).tolist() == [30, 3]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused_with_its_number(fraction):
    with pytest.raises(InputError, match=str(fraction)) as caught:
        split_rows(10, fraction, 0)
    assert caught.value.code == "split.share"


def test_a_share_of_nothing_holds_out_no_row_and_keeps_the_order():
    keep, out = split_rows(4, 0.0, 0)
    assert keep.tolist() == [0, 1, 2, 3]
    assert out.tolist() == []


def test_too_many_clients_for_the_rows_are_refused_with_the_numbers():
    with pytest.raises(InputError, match=r"2 of 10 rows are test rows, and the remaining 8 are too few for 9 clients"):
        plan_rows(10, 9, 0.2, 0.0, 0)
    with pytest.raises(InputError, match="3 rows can't be distributed to 4 clients") as caught:
        partition(3, 4, 0)
    assert caught.value.code == "split.more-shards-than-rows"
    with pytest.raises(InputError, match=r"shard 1 of 3 has 1 row.*leaves none"):
        plan_rows(3, 3, 0.0, 0.1, 0)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("k", [2, 3, 7])
def test_folds_are_scikit_learns_for_the_same_seed(stratified, k):
    classes = np.random.default_rng(1).permutation(np.repeat([5, 2, 9], [20, 9, 13])) if stratified else None
    splitter = StratifiedKFold if stratified else KFold
    expected = splitter(k, shuffle=True, random_state=3).split(np.zeros(42), classes)
    ours = folds(42, k, 3, classes)
    assert len(ours) == k
    for (train, held), (their_train, their_held) in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(held, their_held)


def test_more_folds_than_rows_of_a_class_name_the_class_and_its_rows():
    classes = np.repeat([0, 1, 2], [10, 4, 1])
    with pytest.raises(InputError, match=r"5 folds need 5 rows of every class, .* fewer of 1 \(4 rows\), 2 \(1 row\)"):
        folds(15, 5, 0, classes)
    with pytest.raises(InputError, match=r"fewer of cat \(4 rows\)") as caught:
        folds(14, 5, 0, classes[:14], words=("ape", "cat"))
    assert "--folds 4" in caught.value.hint
    assert len(folds(14, 4, 0, classes[:14])) == 4


@pytest.mark.parametrize("k", [-1, 0, 1, 6])
def test_folds_are_two_at_least_and_not_more_than_rows(k):
    with pytest.raises(InputError, match=f"5 rows can't be divided into {k} fold"):
        folds(5, k, 0)


@given(rows=st.integers(2, 60), data=st.data(), seed=st.integers(0, 2**32 - 1), kinds=st.integers(1, 4))
def test_a_sample_is_what_scikit_learn_would_hold_out(rows, data, seed, kinds):
    samples = data.draw(st.integers(1, rows - 1))
    classes = np.arange(rows) % kinds
    sample = sample_rows(rows, samples, seed, classes)
    assert len(set(sample.tolist())) == samples
    assert (np.diff(sample) > 0).all()
    counts, sizes = np.bincount(classes[sample], minlength=kinds), np.bincount(classes, minlength=kinds)
    assert (np.abs(counts - samples * sizes / rows) < 1 + 1e-9).all() or sizes.min() == 1
    if kinds <= samples <= rows - kinds and sizes.min() > 1:
        _, expected = train_test_split(np.arange(rows), test_size=samples, stratify=classes, random_state=seed)
        np.testing.assert_array_equal(sample, np.sort(expected))
    np.testing.assert_array_equal(sample_rows(rows, rows, seed, classes), np.arange(rows))


@pytest.mark.parametrize("samples", [-1, 0, 11])
def test_a_sample_of_no_or_too_many_rows_is_refused(samples):
    with pytest.raises(InputError, match=f"{samples} rows can't be selected from 10"):
        sample_rows(10, samples, 0)
    for given_test in (0, 3):
        with pytest.raises(InputError, match=f"{samples} rows can't be selected from 10"):
            plan_rows(10, 1, 0.2, 0.1, 0, given_test=given_test, samples=samples)


def test_rows_that_are_test_rows_already_stay_that():
    plan = plan_rows(100, 3, 0.5, 0.1, 0, np.arange(100) % 2, given_test=20)
    assert plan.test.tolist() == list(range(80, 100))
    partitioned = np.concatenate([np.concatenate([shard.train, shard.validation]) for shard in plan.shards])
    assert sorted(partitioned.tolist()) == list(range(80))


def test_a_sample_takes_its_share_of_training_and_test_rows_and_of_each_class():
    classes = np.tile([0, 0, 1], 70)
    plan = plan_rows(210, 2, 0.2, 0.1, 0, classes, given_test=30, samples=70)
    assert len(plan.test) == 10
    assert plan.test.min() >= 180
    partitioned = np.concatenate([np.concatenate([shard.train, shard.validation]) for shard in plan.shards])
    assert len(set(partitioned.tolist())) == len(partitioned) == 60
    assert partitioned.max() < 180
    assert np.bincount(classes[partitioned]).tolist() == [40, 20]
    again = plan_rows(210, 2, 0.2, 0.1, 0, classes, given_test=30, samples=70)
    np.testing.assert_array_equal(plan.shards[0].train, again.shards[0].train)
    assert (plan_rows(210, 2, 0.2, 0.1, 1, classes, given_test=30, samples=70).test != plan.test).any()


def test_a_sample_without_own_test_rows_is_planned_like_so_many_rows():
    plan = plan_rows(500, 2, 0.2, 0.1, 0, np.arange(500) % 2, samples=100)
    used = np.concatenate([plan.test, *(np.concatenate([s.train, s.validation]) for s in plan.shards)])
    assert len(set(used.tolist())) == len(used) == 100
    assert len(plan.test) == 20


def test_one_sample_can_not_be_a_training_and_a_test_row():
    with pytest.raises(InputError, match="1 row can't be divided into training and test rows"):
        plan_rows(100, 1, 0.2, 0.0, 0, given_test=20, samples=1)


def test_warnings_name_words():
    assert (
        "class yak has only one row"
        in plan_rows(11, 1, 0.2, 0, 0, np.array([0] * 10 + [1]), words=("ox", "yak")).warnings[0]
    )


def test_rows_of_no_class_are_drawn_by_lot_and_change_no_share_of_a_class() -> None:
    classes = np.array([0] * 40 + [1] * 20 + [NO_CLASS] * 40)
    kept, held = split_rows(100, 0.2, 3, classes)
    assert sorted([*kept, *held]) == list(range(100))
    counts = {number: int((classes[held] == number).sum()) for number in (0, 1)}
    assert abs(counts[0] - 2 * counts[1]) <= 1
    seen = {int((classes[split_rows(100, 0.2, seed, classes)[1]] == NO_CLASS).sum()) for seed in range(20)}
    assert len(seen) > 2, "how many of them are held out differs from draw to draw"


def test_rows_of_no_class_do_not_keep_from_folds() -> None:
    classes = np.array([0] * 10 + [1] * 10 + [NO_CLASS] * 2)
    parts = folds(22, 5, 0, classes)
    assert sorted(row for _, held in parts for row in held) == list(range(22))
    with pytest.raises(InputError, match="2 rows"):
        folds(22, 5, 0, np.array([0] * 10 + [1] * 10 + [2] * 2))
