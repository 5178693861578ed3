"""Aggregations against NumPy written the obvious way in float64, and against Flower's own figures."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.flower import FIGURES, arrays, assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from lanfit.errors import InputError
from lanfit.models import mean as walking
from lanfit.models.mean import Mean
from lanfit_server.methods.federated import aggregation
from lanfit_server.methods.federated.aggregation import (
    check_krum,
    drift,
    krum,
    krum_choice,
    median,
    outliers,
    trimmed,
    trimmed_mean,
    update_norm,
)

FLOWER = FIGURES["aggregations"]
UPDATES = [arrays(update) for update in FLOWER["updates"]]
START = arrays(FLOWER["start"])
#: Shapes that meet every corner: no dimension, none in one, one number, more than a slice of `small_slices`.
SHAPES = {"a/kernel": (5, 7), "a/bias": (), "b/empty": (0, 3), "b/one": (1,), "b/long": (43,)}


def weights(seed: int, dtype: str = "float32", scale: float = 1.0) -> dict[str, Any]:
    """Random weights of every shape, and arrays that are not aggregated."""
    random = np.random.default_rng(seed)
    made: dict[str, Any] = {
        name: np.asarray(scale * random.normal(size=shape)).astype(dtype) for name, shape in SHAPES.items()
    }
    return {
        **made,
        "b/steps": np.array(seed),
        "b/seed": np.array([seed, 2], np.uint32),
        "b/on": np.array(seed % 2 == 0),
    }


def floats(update: Mapping[str, Any]) -> Any:
    """All floating point numbers of an update, one after the other, in float64."""
    return np.concatenate([array.ravel().astype(np.float64) for array in update.values() if array.dtype.kind == "f"])


def mean_of(start: Mapping[str, Any], updates: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> dict[str, Any]:
    mean = Mean(start)
    for update, count in zip(updates, rows, strict=True):
        mean.add(update, count)
    return mean.result()


def krum_reference(updates: Sequence[Mapping[str, Any]], byzantine: int) -> list[int]:
    """The updates from best to worst, by the text of Blanchard et al. 2017, section 4."""
    vectors = [floats(update) for update in updates]
    scores = []
    for index, one in enumerate(vectors):
        apart = sorted(float(np.sum((one - other) ** 2)) for j, other in enumerate(vectors) if j != index)
        scores.append(sum(apart[: len(updates) - byzantine - 2]))
    return sorted(range(len(updates)), key=scores.__getitem__)


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    """Small arrays are walked over in several steps, the last one shorter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walking, "CHUNK", 16)
        patch.setattr(aggregation, "CHUNK", 16)
        yield


# --- all of them ---

AGGREGATIONS: list[Callable[..., dict[str, Any]]] = [
    lambda start, updates: mean_of(start, updates, [3] * len(updates)),
    median,
    lambda start, updates: trimmed_mean(start, updates, 0.2),
    lambda start, updates: krum(start, updates, 0),
    lambda start, updates: krum(start, updates, 0, 2),
]
aggregate_each = pytest.mark.parametrize("aggregate", AGGREGATIONS, ids=["mean", "median", "trimmed", "krum", "multi"])


@aggregate_each
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_aggregates_are_new_arrays_in_the_order_and_dtypes_of_the_start(aggregate: Any, dtype: str) -> None:
    start = weights(0, dtype)
    updates = [dict(reversed(weights(seed, dtype).items())) for seed in range(1, 6)]
    result = aggregate(start, updates)
    assert list(result) == list(start)
    for name, array in result.items():
        assert (array.shape, array.dtype) == (start[name].shape, start[name].dtype)
        assert not any(np.shares_memory(array, other[name]) for other in [start, *updates])


@aggregate_each
def test_what_is_no_fraction_keeps_the_value_of_the_start(aggregate: Any) -> None:
    start, updates = weights(0), [weights(seed) for seed in range(1, 6)]
    result = aggregate(start, updates)
    for name in ("b/steps", "b/seed", "b/on"):
        np.testing.assert_array_equal(result[name], start[name])
        assert any((update[name] != start[name]).any() for update in updates)


@aggregate_each
@pytest.mark.parametrize("wrong", ["name", "shape", "dtype", "missing"])
def test_an_update_of_another_model_is_refused_by_its_number(aggregate: Any, wrong: str) -> None:
    updates = [weights(seed) for seed in range(1, 6)]
    bias = updates[3].pop("a/bias")
    if wrong != "missing":
        name = "a/other" if wrong == "name" else "a/bias"
        updates[3][name] = {"shape": bias.reshape(1), "dtype": bias.astype(np.float64)}.get(wrong, bias)
    with pytest.raises(InputError, match="weight set 4") as error:
        aggregate(weights(0), updates)
    assert error.value.code == "weights.other-model"


@pytest.mark.parametrize("aggregate", [AGGREGATIONS[1], AGGREGATIONS[2], lambda s, u: mean_of(s, u, [])])
def test_no_update_at_all_is_refused(aggregate: Any) -> None:
    with pytest.raises(InputError, match="0 sets") as error:
        aggregate(weights(0), [])
    assert error.value.code == "weights.no-average"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("aggregate", AGGREGATIONS[:3], ids=["mean", "median", "trimmed"])
def test_one_update_is_what_comes_out(aggregate: Any, dtype: str) -> None:
    update = weights(1, dtype)
    result = aggregate(weights(0, dtype), [update])
    for name in SHAPES:
        np.testing.assert_array_equal(result[name], update[name])


@aggregate_each
def test_equal_updates_are_what_comes_out(aggregate: Any) -> None:
    result = aggregate(weights(0), [weights(1)] * 5)
    np.testing.assert_array_equal(floats(result), floats(weights(1)))


@aggregate_each
def test_updates_may_be_mapped_from_a_file_and_not_contiguous(aggregate: Any, tmp_path: Path) -> None:
    start, updates = weights(0), [weights(seed) for seed in range(1, 6)]
    mapped = []
    for number, update in enumerate(updates):
        np.save(tmp_path / f"{number}.npy", update["a/kernel"])
        lying = np.load(tmp_path / f"{number}.npy", mmap_mode="r")
        mapped.append({**update, "a/kernel": lying, "b/long": np.repeat(update["b/long"], 2)[::2]})
    assert_close(aggregate(start, mapped), aggregate(start, updates), 0)


@pytest.mark.parametrize("aggregate", [*AGGREGATIONS[:3]], ids=["mean", "median", "trimmed"])
def test_a_number_that_is_none_is_not_hidden(aggregate: Any) -> None:
    """Who aggregates leaves such updates out; nothing here does it, nor makes numbers of them."""
    updates = [weights(seed) for seed in range(1, 4)]
    for update in updates:
        update["b/long"][7] = np.nan
    result = aggregate(weights(0), updates)
    assert np.isnan(result["b/long"]).nonzero()[0].tolist() == [7]
    assert np.isfinite(result["a/kernel"]).all()


# --- the mean ---


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 2**32 - 1)), min_size=1, max_size=6).filter(
        lambda given: any(rows for rows, _ in given)
    ),
    st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_the_mean_is_that_of_numpy_weighted_by_rows(given: list[tuple[int, int]], scale: float) -> None:
    rows = [count for count, _ in given]
    updates = [weights(seed, scale=scale) for _, seed in given]
    result = mean_of(weights(0), updates, rows)
    for name in SHAPES:
        wanted = np.average([update[name].astype(np.float64) for update in updates], axis=0, weights=rows)
        np.testing.assert_allclose(result[name], wanted, rtol=1e-6, atol=1e-6 * scale)


def test_the_mean_is_flowers() -> None:
    assert_close(mean_of(START, UPDATES, FLOWER["rows"]), FLOWER["mean"])


@given(st.integers(1, 2**29 - 1))
def test_the_mean_of_one_is_that_one_to_the_bit(rows: int) -> None:
    update = weights(1)
    update["b/long"][3] = -0.0
    result = mean_of(weights(0), [weights(2), update], [0, rows])
    assert all(result[name].tobytes() == update[name].tobytes() for name in SHAPES)


def test_the_mean_is_summed_in_float64() -> None:
    """Of 8 bits more than float32 has: 2**24 + 1 is not in float32, the sum of all four is."""
    updates = [{"w/w": np.float32([2**24])}, *[{"w/w": np.float32([1])}] * 3]
    assert mean_of(updates[0], updates, [1] * 4)["w/w"].tolist() == [np.float32((2**24 + 3) / 4)]


def test_the_mean_so_far_can_be_had_and_gone_on_from() -> None:
    mean = Mean(weights(0))
    mean.add(weights(1), 5)
    np.testing.assert_array_equal(floats(mean.result()), floats(weights(1)))
    mean.add(weights(2), 5)
    wanted = (floats(weights(1)) + floats(weights(2))) / 2
    np.testing.assert_allclose(floats(mean.result()), wanted, rtol=1e-6, atol=1e-6)


def test_a_mean_that_begins_again_is_as_a_new_one() -> None:
    mean = Mean(weights(0))
    mean.add(weights(1), 5)
    first = mean.result()
    kept = floats(first).copy()
    mean.begin(weights(3))
    with pytest.raises(InputError):
        mean.result()
    mean.add(weights(2), 7)
    fresh = Mean(weights(3))
    fresh.add(weights(2), 7)
    for name, array in fresh.result().items():
        np.testing.assert_array_equal(mean.result()[name], array)
    np.testing.assert_array_equal(floats(first), kept)


def test_an_update_without_rows_does_not_count_even_where_it_is_no_number() -> None:
    corrupted = {
        name: np.full_like(array, np.nan) if array.dtype.kind == "f" else array for name, array in START.items()
    }
    np.testing.assert_array_equal(
        floats(mean_of(START, [corrupted, UPDATES[0], corrupted], [0, 3, 0])), floats(UPDATES[0])
    )


@pytest.mark.parametrize("rows", [[0], [0, 0], [3, -1]])
def test_rows_that_give_no_mean_are_refused_with_the_counts(rows: list[int]) -> None:
    with pytest.raises(InputError, match=str(rows).replace("[", r"\[")) as error:
        mean_of(weights(0), [weights(1)] * len(rows), rows)
    assert error.value.code == "weights.no-average"


def test_the_mean_takes_memory_for_one_model_however_many_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "CHUNK", 1 << 12)
    update = {"w/w": np.ones((1000, 500), np.float32)}
    tracemalloc.start()
    try:
        mean = Mean(update)
        for _ in range(10):
            mean.add(update, 2)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * update["w/w"].nbytes + 2**17, "float64 once, and some chunks"


# --- median and trimmed mean ---


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), st.randoms())
def test_the_median_is_that_of_numpy_in_any_order(seeds: list[int], random: Any) -> None:
    updates = [weights(seed) for seed in seeds]
    result = median(weights(0), updates)
    for name in SHAPES:
        wanted = np.median([update[name].astype(np.float64) for update in updates], axis=0)
        np.testing.assert_allclose(result[name], wanted, rtol=1e-6, atol=1e-6)
    random.shuffle(updates)
    np.testing.assert_array_equal(floats(median(weights(0), updates)), floats(result))


@pytest.mark.parametrize("count", FLOWER["median"])
def test_the_median_is_flowers(count: str) -> None:
    assert_close(median(START, UPDATES[: int(count)]), FLOWER["median"][count])


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), st.floats(0, 0.4999), st.randoms())
def test_the_trimmed_mean_is_that_of_sorted_columns_in_any_order(seeds: list[int], trim: float, random: Any) -> None:
    updates = [weights(seed) for seed in seeds]
    result = trimmed_mean(weights(0), updates, trim)
    cut = int(trim * len(seeds))
    for name in SHAPES:
        columns = np.sort([update[name].astype(np.float64) for update in updates], axis=0)
        np.testing.assert_allclose(result[name], columns[cut : len(seeds) - cut].mean(axis=0), rtol=1e-6, atol=1e-6)
    random.shuffle(updates)
    np.testing.assert_array_equal(floats(trimmed_mean(weights(0), updates, trim)), floats(result))


@pytest.mark.parametrize("trim", FLOWER["trimmed-mean"])
def test_the_trimmed_mean_is_flowers(trim: str) -> None:
    assert_close(trimmed_mean(START, UPDATES, float(trim)), FLOWER["trimmed-mean"][trim])


@pytest.mark.parametrize(("updates", "trim", "cut"), [(10, 0.2, 2), (9, 0.2, 1), (4, 0.2, 0), (1, 0.49, 0), (7, 0, 0)])
def test_a_trim_cuts_whole_updates_rounded_down(updates: int, trim: float, cut: int) -> None:
    assert trimmed(updates, trim) == cut


@pytest.mark.parametrize("trim", [0.5, 0.7, -0.1, float("nan")])
def test_a_trim_that_leaves_nothing_is_refused(trim: float) -> None:
    with pytest.raises(InputError, match=f"a fraction of {trim:g} .* 8 updates") as error:
        trimmed_mean(START, UPDATES, trim)
    assert error.value.code == "aggregation.trim"
    assert "--trim" in error.value.hint


def test_a_median_takes_memory_for_a_slice_of_all_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(aggregation, "CHUNK", 1 << 12)
    path = tmp_path / "w.npy"
    np.save(path, np.ones((1000, 100), np.float32))
    updates = [{"w/w": np.load(path, mmap_mode="r")} for _ in range(20)]
    tracemalloc.start()
    try:
        median(updates[0], updates)
        krum_choice(updates[0], updates, 2)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * updates[0]["w/w"].nbytes, "the result and some slices, not twenty models"


# --- Krum ---


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=9, unique=True).flatmap(
        lambda seeds: st.tuples(st.just(seeds), st.integers(0, (len(seeds) - 3) // 2), st.integers(1, len(seeds)))
    )
)
def test_krum_chooses_what_the_text_of_the_paper_chooses(given: tuple[list[int], int, int]) -> None:
    seeds, byzantine, keep = given
    # Lengths of their own, so that no two have the same score; with one neighbour two always can have.
    updates = [weights(seed, scale=1 + seed / 2**32) for seed in seeds]
    best = krum_reference(updates, byzantine)
    if len(seeds) - byzantine - 2 > 1:
        assert krum_choice(weights(0), updates, byzantine, keep) == tuple(sorted(best[:keep]))
    chosen = krum_choice(weights(0), updates, byzantine, keep)
    wanted = np.mean([floats(updates[index]) for index in chosen], axis=0)
    result = krum(weights(0), updates, byzantine, keep)
    np.testing.assert_allclose(floats(result), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("byzantine", FLOWER["krum"])
def test_krum_is_flowers(byzantine: str) -> None:
    result = krum(START, UPDATES, int(byzantine))
    assert_close(result, FLOWER["krum"][byzantine])
    assert any(np.array_equal(floats(result), floats(update)) for update in UPDATES)


@pytest.mark.parametrize("keep", FLOWER["multi-krum"])
def test_multi_krum_is_flowers(keep: str) -> None:
    assert_close(krum(START, UPDATES, 2, int(keep)), FLOWER["multi-krum"][keep])


def test_krum_chooses_none_of_those_that_conspire() -> None:
    honest = [{"w/w": np.float32([1, 1]) + np.float32([0.1, -0.1]) * n} for n in range(5)]
    lying = [{"w/w": np.float32([1e30, -50])}, {"w/w": np.float32([90, -50])}]
    updates = [lying[0], *honest, lying[1]]
    assert krum_choice(honest[0], updates, 2) == (3,), "the one in the middle"
    assert krum_choice(honest[0], updates, 2, 5) == (1, 2, 3, 4, 5)


def test_of_two_that_are_each_others_closest_krum_takes_the_first() -> None:
    """With n - f - 2 = 1 their scores are the same number; 0.1 and 0.3 have no exact difference."""
    for order in ([0.1, 0.3, 7.7], [7.7, 0.3, 0.1], [0.3, 7.7, 0.1]):
        updates = [{"w/w": np.array([value, -value])} for value in order]
        assert order[krum_choice(updates[0], updates, 0)[0]] == next(value for value in order if value != 7.7)


def test_near_neighbours_are_distinguished_far_from_zero() -> None:
    """At 1e6 the square of a difference of 0.01 is lost in |x|² + |y|² - 2xy, which is kept to 1e-4 only."""
    updates = [{"w/w": np.array([1e6 + value])} for value in (0.05, 0.0, 0.01, 0.021, 5.0)]
    assert krum_choice(updates[0], updates, 1) == (2,)


@pytest.mark.parametrize(
    ("count", "byzantine", "lower"), [(4, 1, "to 0."), (6, 2, "to 1."), (2, 0, None), (0, 0, None)]
)
def test_krum_with_too_few_updates_is_refused_with_the_numbers(count: int, byzantine: int, lower: str | None) -> None:
    with pytest.raises(InputError, match=f"f = {byzantine} .* = {2 * byzantine + 3}, but there are {count}") as error:
        krum(START, UPDATES[:count], byzantine)
    assert error.value.code == "aggregation.krum"
    assert ("--byzantine" in error.value.hint) == (lower is not None)
    assert (lower or "median") in error.value.hint


def test_krum_with_just_enough_updates_goes() -> None:
    for byzantine in range(3):
        check_krum(2 * byzantine + 3, byzantine)


@pytest.mark.parametrize("keep", [0, 9])
def test_multi_krum_keeps_no_more_than_there_are(keep: int) -> None:
    with pytest.raises(InputError, match=f"select {keep} of 8") as error:
        krum(START, UPDATES, 1, keep)
    assert error.value.code == "aggregation.krum-keep"


# --- how far each is from the others ---


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float16", "float32"]),
)
def test_norm_and_drift_are_those_of_one_long_vector(start: int, mean: int, update: int, dtype: str) -> None:
    begun, middle, moved = (weights(seed, dtype) for seed in (start, mean, update))
    way, there = floats(moved) - floats(begun), floats(middle) - floats(begun)
    length = float(np.linalg.norm(way))
    assert update_norm(begun, moved) == pytest.approx(length, rel=1e-12)
    norm, cosine = drift(begun, middle, moved)
    assert norm == pytest.approx(length, rel=1e-12)
    if way.any() and there.any():
        assert cosine == pytest.approx(way @ there / np.linalg.norm(way) / np.linalg.norm(there), abs=1e-12)


def test_a_client_that_goes_where_the_mean_goes_has_cosine_one_and_one_that_goes_back_minus_one() -> None:
    start, mean = {"w/w": np.float32([1, 2])}, {"w/w": np.float32([2, 4])}
    assert drift(start, mean, {"w/w": np.float32([3, 6])}) == (pytest.approx(20**0.5), pytest.approx(1))
    assert drift(start, mean, {"w/w": np.float32([0, 0])})[1] == pytest.approx(-1)
    assert drift(start, mean, {"w/w": np.float32([3, 1])})[1] == pytest.approx(0)


def test_what_does_not_move_has_no_direction() -> None:
    start, other = weights(0), weights(1)
    assert drift(start, other, start) == (0, 0)
    assert drift(start, start, other) == (update_norm(start, other), 0)


def test_counters_are_no_part_of_a_norm() -> None:
    start = weights(0)
    assert update_norm(start, {**start, "b/steps": np.array(99), "b/on": np.array(False)}) == 0


def test_a_tiny_difference_of_large_weights_has_a_norm() -> None:
    assert update_norm({"w/w": np.float32([2**24])}, {"w/w": np.float32([2**24 - 1])}) == 1


@pytest.mark.parametrize(
    ("norms", "limit", "beyond"),
    [
        ([1, 2, 3, 100, 2], 3, (3,)),
        ([1, 2, 3, 6, 2], 3, ()),
        ([1, 2, 3, 6.01, 2], 3, (3,)),
        ([50, 1, 1, 1, 60], 3, (0, 4)),
        ([1, 9], 1.5, (1,)),
        ([4], 1, ()),
        ([], 3, ()),
        ([0, 0, 0, 5], 3, ()),
    ],
)
def test_beyond_the_limit_is_more_than_so_many_medians(norms: list[float], limit: float, beyond: tuple[int]) -> None:
    assert outliers(norms, limit) == beyond
