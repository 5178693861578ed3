"""How rows are dealt: every row once, always the same, and as skewed as was asked for."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lanfit.core.seeds import derive_seed
from lanfit.data.partitioning import Partitioning, partition_rows
from lanfit.data.plan import plan_rows
from lanfit.data.split import partition
from lanfit.errors import InputError

SEEDS = st.integers(0, 2**32 - 1)
LABELS = st.lists(st.integers(-3, 6), min_size=2, max_size=120).map(np.array)
EQUAL, STRATIFIED = Partitioning("equal"), Partitioning("stratified")
PARTITIONINGS = st.one_of(
    st.sampled_from([EQUAL, STRATIFIED]),
    st.builds(lambda alpha: Partitioning("dirichlet", alpha=alpha), st.floats(1e-6, 1e9)),
    st.builds(lambda each: Partitioning("classes", classes_per_client=each), st.integers(1, 4)),
    st.builds(lambda parts: Partitioning("parts", parts_of=parts), st.integers(1, 12)),
)


def mixed(rows, classes=10, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(rows) % classes)


@settings(max_examples=400, deadline=None)
@given(labels=LABELS, shards=st.integers(1, 8), partitioning=PARTITIONINGS, seed=SEEDS)
def test_every_row_is_partitioned_exactly_once_and_always_to_the_same(labels, shards, partitioning, seed):
    try:
        partitioned = partition_rows(partitioning, len(labels), shards, seed, labels)
    except InputError:
        partitioned = None
    if partitioned is None:
        assert (
            partitioning.how == "dirichlet"
            or len(labels) < shards * partitioning.classes_per_client + partitioning.parts_of
        )
        return
    assert len(partitioned) == (partitioning.parts_of if partitioning.how == "parts" else shards)
    assert sorted(np.concatenate(partitioned).tolist()) == list(range(len(labels)))
    assert all(len(shard) and (np.diff(shard) > 0).all() and shard.dtype == np.int64 for shard in partitioned)
    again = partition_rows(partitioning, len(labels), shards, seed, labels)
    assert [shard.tolist() for shard in partitioned] == [shard.tolist() for shard in again]


@given(labels=LABELS, shards=st.integers(1, 8), partitioning=PARTITIONINGS, seed=SEEDS)
def test_sizes_differ_by_one_row_at_most_with_classes_by_one_a_chunk_and_only_dirichlet_makes_others(
    labels, shards, partitioning, seed
):
    assume(partitioning.how != "dirichlet")
    try:
        sizes = [len(shard) for shard in partition_rows(partitioning, len(labels), shards, seed, labels)]
    except InputError:
        assume(False)
    assert max(sizes) - min(sizes) <= (partitioning.classes_per_client if partitioning.how == "classes" else 1)


@pytest.mark.parametrize("how", ["equal", "stratified", "dirichlet", "classes", "parts"])
def test_another_seed_partitions_otherwise(how):
    labels = mixed(300)
    partitioning = Partitioning(how, parts_of=4)
    first, other = (partition_rows(partitioning, 300, 4, seed, labels) for seed in (1, 2))
    assert [shard.tolist() for shard in first] != [shard.tolist() for shard in other]


def test_equal_shares_do_not_look_at_classes_and_stratified_ones_do():
    labels = np.repeat([0, 1], [90, 10])
    blind = [shard.tolist() for shard in partition_rows(EQUAL, 100, 5, 3, labels)]
    assert blind == [shard.tolist() for shard in partition_rows(EQUAL, 100, 5, 3)]
    assert {int(labels[shard].sum()) for shard in partition_rows(STRATIFIED, 100, 5, 3, labels)} == {2}
    assert {int(labels[shard].sum()) for shard in blind} != {2}


def test_the_usual_deal_is_stratified_and_has_not_changed():
    labels = mixed(100)
    expected = partition(100, 3, derive_seed(0, "deal"), labels)
    assert [s.tolist() for s in partition_rows(Partitioning(), 100, 3, 0, labels)] == [s.tolist() for s in expected]


# --- dirichlet --------------------------------------------------------------------------------------------------


def skew(alpha, seed, rows=2000, clients=5):
    """How far the clients' mixes of classes are from the mix of all, from 0 to 1 (total variation)."""
    labels = mixed(rows)
    partitioned = partition_rows(Partitioning("dirichlet", alpha=alpha), rows, clients, seed, labels)
    mixes = [np.bincount(labels[shard], minlength=10) / len(shard) for shard in partitioned]
    return np.mean([np.abs(mix - 0.1).sum() / 2 for mix in mixes])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_labels_are_the_more_skewed_the_smaller_alpha_is(seed):
    even, some, much = skew(1000.0, seed), skew(1.0, seed), skew(0.05, seed)
    assert even < 0.1
    assert even < some < much
    assert much > 0.5


def test_the_shares_of_a_class_have_the_mean_and_the_spread_of_the_distribution():
    rows, clients, alpha = 20_000, 4, 0.5
    shares = []
    for seed in range(150):
        labels = np.arange(rows) % 2
        partitioned = partition_rows(Partitioning("dirichlet", alpha=alpha), rows, clients, seed, labels)
        shares += [np.bincount(labels[shard], minlength=2) / (rows / 2) for shard in partitioned]
    all_shares = np.concatenate(shares)
    mean = 1 / clients
    assert abs(all_shares.mean() - mean) < 1e-3
    variance = mean * (1 - mean) / (clients * alpha + 1)  # of one coordinate of Dirichlet(alpha, …, alpha)
    assert abs(all_shares.var() / variance - 1) < 0.1


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, alpha=st.floats(0.01, 5), least=st.integers(1, 30))
def test_everybody_gets_the_least_or_it_is_refused(seed, alpha, least):
    partitioning = Partitioning("dirichlet", alpha=alpha, least=least)
    try:
        partitioned = partition_rows(partitioning, 200, 4, seed, mixed(200))
    except InputError:
        assume(False)
    assert min(map(len, partitioned)) >= least


def test_what_is_drawn_again_is_the_first_draw_that_is_enough():
    labels = mixed(60, 3)
    draws = [
        [len(s) for s in partition_rows(Partitioning("dirichlet", 0.3), 60, 3, seed, labels)] for seed in range(40)
    ]
    seed = next(seed for seed, sizes in enumerate(draws) if 1 < min(sizes) < 8)
    low, high = (Partitioning("dirichlet", 0.3, least=least) for least in (min(draws[seed]), 8))
    assert [len(s) for s in partition_rows(low, 60, 3, seed, labels)] == draws[seed]
    assert [len(s) for s in partition_rows(high, 60, 3, seed, labels)] != draws[seed]


def test_a_least_that_no_draw_gives_is_refused_with_the_numbers():
    with pytest.raises(InputError, match=r"30 rows could not .* 4 clients gets 8.* alpha 0.5") as caught:
        partition_rows(Partitioning("dirichlet", alpha=0.5, least=8), 30, 4, 0, mixed(30))
    assert "--alpha" in caught.value.hint
    with pytest.raises(InputError, match="none of 100 random draws with alpha 1e-06"):
        partition_rows(Partitioning("dirichlet", alpha=1e-6), 300, 50, 0, mixed(300))


# --- classes ----------------------------------------------------------------------------------------------------


@given(seed=SEEDS, each=st.integers(1, 4), clients=st.sampled_from([5, 10, 20]))
def test_of_equal_classes_that_chunks_divide_every_client_has_so_many_at_most(seed, each, clients):
    labels = mixed(10 * 5 * each * clients)
    assume(each * clients % 10 == 0)  # then a piece never lies in two classes
    for shard in partition_rows(Partitioning("classes", classes_per_client=each), len(labels), clients, seed, labels):
        assert len(np.unique(labels[shard])) <= each
        assert len(shard) == len(labels) / clients


@given(labels=LABELS, each=st.integers(1, 3), clients=st.integers(1, 6), seed=SEEDS)
def test_otherwise_a_client_has_no_more_classes_than_its_chunks_lie_in(labels, each, clients, seed):
    assume(each * clients <= len(labels))
    chunks = np.array_split(np.sort(labels), each * clients)
    most = sum(sorted(len(np.unique(chunk)) for chunk in chunks)[-each:])
    for shard in partition_rows(Partitioning("classes", classes_per_client=each), len(labels), clients, seed, labels):
        assert len(np.unique(labels[shard])) <= most


def test_two_classes_a_client_are_the_papers_shards_of_mnist():
    labels = np.repeat(np.arange(10), 6000)
    partitioned = partition_rows(Partitioning("classes"), 60_000, 100, 0, labels)
    assert {len(shard) for shard in partitioned} == {600}
    kinds = [len(np.unique(labels[shard])) for shard in partitioned]
    assert set(kinds) == {1, 2}
    assert kinds.count(2) > 80


def test_more_parts_than_rows_are_refused():
    with pytest.raises(InputError, match="7 rows can't be divided into 8 parts") as caught:
        partition_rows(Partitioning("parts", parts_of=8), 7, 2, 0)
    assert caught.value.code == "deal.more-parts-than-rows"


def test_more_chunks_than_rows_are_refused():
    with pytest.raises(InputError, match="7 rows can't be divided into 2 chunks for each of 4 clients"):
        partition_rows(Partitioning("classes"), 7, 4, 0, np.arange(7) % 2)


# --- what goes before and after ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dirichlet", "classes"])
def test_rows_without_a_class_can_not_be_partitioned_by_class(how):
    with pytest.raises(InputError, match=f"--deal {how}.* no class, or several") as caught:
        plan_rows(100, 2, 0.2, 0.1, 0, None, partitioning=Partitioning(how))
    assert caught.value.code == "deal.no-classes"


@settings(max_examples=150, deadline=None)
@given(labels=LABELS, shards=st.integers(1, 5), partitioning=PARTITIONINGS, seed=SEEDS, validation=st.floats(0, 0.5))
def test_a_plan_keeps_the_test_rows_for_any_partition_of_the_others(labels, shards, partitioning, seed, validation):
    usual = plan_rows(len(labels), 1, 0.2, 0.0, seed, labels)
    try:
        plan = plan_rows(len(labels), shards, 0.2, validation, seed, labels, partitioning=partitioning)
    except InputError:
        return
    assert plan.test.tolist() == usual.test.tolist()
    rows = [part for shard in plan.shards for part in (shard.train, shard.validation)]
    assert sorted(np.concatenate([*rows, plan.test]).tolist()) == list(range(len(labels)))


def test_a_skewed_deal_warns_of_no_class_that_is_small():
    labels = np.array([0] * 30 + [1] * 30 + [2] * 3)
    assert (
        plan_rows(63, 5, 0.0, 0.0, 0, labels, partitioning=Partitioning("classes", classes_per_client=1)).warnings == ()
    )
    assert "2 has fewer rows than the 5 clients" in plan_rows(63, 5, 0.0, 0.0, 0, labels).warnings[0]
