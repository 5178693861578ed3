"""Rows of models with several inputs and outputs: from one npz file to shards, and into blocks and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.data.labels import Target
from lanfit.data.named import NamedArrays
from lanfit.data.normalize import Moments, fit_normalizer
from lanfit.data.partitioning import Partitioning
from lanfit.data.prepare import DataRequest, Prepared, prepare, take_parts
from lanfit.data.shard import Normalizers, Samples, Shard, kinds_of
from lanfit.errors import InputError
from lanfit.settings.parts import PartRange
from lanfit.training.folds import rows_of_fold
from lanfit.wire.messages import Fold, InputSpec, Model, OutputSpec

ROWS = 60
NUMBERS = np.arange(ROWS)
SIZE = np.stack([NUMBERS, NUMBERS * 3.0, np.full(ROWS, 7.0)], axis=1).astype(np.float32)  # the last column is constant
GRID = (NUMBERS[:, None, None] + np.arange(4).reshape(1, 2, 2)).astype(np.uint8)
PLACE = (NUMBERS % 5).reshape(-1, 1)
KIND = np.array(["flat", "house", "tent"])[NUMBERS % 3]
PRICE = (NUMBERS * 1000.0).reshape(-1, 1)
INPUTS = (
    InputSpec("size", (None, 3), "zscore"),
    InputSpec("grid", (None, 2, 2, 1), "minmax"),
    InputSpec("place", (None, 1), ids=5),
)
OUTPUTS = (OutputSpec("kind", (None, 3), Target.CLASSES), OutputSpec("price", (None, 1), Target.VALUES, "zscore"))
MODEL = Model("", "", (None, 3), (None, 3), "classes", "zscore", "none", inputs=INPUTS, outputs=OUTPUTS)


def saved(folder: Path, **arrays: Any) -> Path:
    given = {"size": SIZE, "grid": GRID, "place": PLACE, "kind": KIND, "price": PRICE} | arrays
    np.savez(folder / "flats.npz", **{name: array for name, array in given.items() if array is not None})
    return folder


def request_in(folder: Path, named: NamedArrays | None = None, **facts: Any) -> DataRequest:
    given: dict[str, Any] = {"test_split": 0.2, "validation_split": 0.1, "shards": 2, "batch_size": 4, "seed": 0}
    return DataRequest(folder / "X", folder / "Y", INPUTS, OUTPUTS, **(given | {"arrays": named} | facts))


def all_samples(prepared: Prepared) -> list[Samples]:
    return [*(rows for each in prepared.shards for rows in (each.train, each.validation)), prepared.test_samples]


def test_the_arrays_of_a_row_stay_together_wherever_it_goes(tmp_path: Path) -> None:
    prepared = prepare(request_in(saved(tmp_path)))
    seen: list[int] = []
    for samples in all_samples(prepared):
        numbers = samples.inputs["size"][:, 0].astype(int)
        seen += numbers.tolist()
        np.testing.assert_array_equal(samples.inputs["grid"][:, 0, 0, 0], numbers)
        np.testing.assert_array_equal(samples.inputs["place"], PLACE[numbers])
        np.testing.assert_array_equal(samples.targets["price"], PRICE[numbers])
        words = np.array(prepared.labels["kind"])[samples.targets["kind"].reshape(-1)]
        np.testing.assert_array_equal(words, KIND[numbers])
    assert sorted(seen) == list(range(ROWS))
    assert prepared.notes == (
        "rows of 2×2 values are read as 2×2×1, the model's input grid",
        "place contains ids for an Embedding layer: it is not normalized",
        "classes keep their proportions by the labels of kind",
    )
    assert np.bincount(prepared.test_samples.targets["kind"].reshape(-1)).tolist() == [4, 4, 4]


def test_each_input_and_each_target_of_numbers_has_a_normalizer_of_its_own(tmp_path: Path) -> None:
    prepared = prepare(request_in(saved(tmp_path)))
    train = [shard.train for shard in prepared.shards]
    sizes, grids = (np.concatenate([rows.inputs[name] for rows in train]) for name in ("size", "grid"))
    prices = np.concatenate([rows.targets["price"] for rows in train])
    found = prepared.normalizers
    np.testing.assert_allclose(found.inputs["size"].subtract[:2], sizes.mean(axis=0)[:2], rtol=1e-6)
    assert found.inputs["size"].apply(sizes)[:, 2].tolist() == [0.0] * len(sizes)  # a constant column
    assert found.inputs["grid"].subtract.shape == ()  # over the whole array
    assert (found.inputs["grid"].apply(grids).min(), found.inputs["grid"].apply(grids).max()) == (0, 1)
    assert (found.inputs["place"].name, found.targets["kind"].name) == ("none", "none")
    np.testing.assert_allclose(found.targets["price"].apply(prices).std(), 1, rtol=1e-6)
    assert all(shard.normalizers is found for shard in prepared.shards)


def test_arrays_are_found_by_name_or_in_the_given_order(tmp_path: Path) -> None:
    folder = saved(tmp_path, size=None, a=SIZE, grid=None, b=GRID, place=None, c=PLACE)
    named = prepare(request_in(folder, NamedArrays(("a", "b", "c"))))
    assert named.notes[0] == "flats.npz: a is input size, b is input grid, c is input place, in the order of the model"
    (tmp_path / "by-name").mkdir()
    by_name = prepare(
        request_in(saved(tmp_path / "by-name"), NamedArrays(("place", "size", "grid"), ("price", "kind")))
    )
    for one, other in zip(all_samples(named), all_samples(by_name), strict=True):
        for first, second in zip(one.arrays, other.arrays, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("code", "named", "files", "output"),
    [
        ("named.no-file", None, [], "no npz file"),
        ("named.several-files", None, ["one.npz", "two.npz"], "one.npz, two.npz"),
        ("named.count", NamedArrays(("size", "grid")), ["flats.npz"], "3 inputs: size, grid, place"),
        ("named.no-such-array", NamedArrays(("size", "grid", "plaze")), ["flats.npz"], '"plaze"'),
        ("named.unnamed", None, ["other.npz"], "3 inputs are called size, grid, place"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(
    code: str, named: NamedArrays | None, files: list[str], output: str, tmp_path: Path
) -> None:
    (tmp_path / "X").mkdir()
    (tmp_path / "X" / "table.csv").write_text("1,2,3\n")  # a table says of no column whose it is
    for file in files:
        np.savez(
            tmp_path / file, **({"a": SIZE} if file != "flats.npz" else {"size": SIZE, "grid": GRID, "kind": KIND})
        )
    with pytest.raises(InputError) as wrong:
        prepare(request_in(tmp_path, named))
    assert wrong.value.code == code
    assert output in wrong.value.message


def test_arrays_of_other_lengths_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"flats.npz \(size\) has 60 rows, but .*flats.npz \(grid\) has 59") as wrong:
        prepare(request_in(saved(tmp_path, grid=GRID[:59])))
    assert wrong.value.code == "rows.unequal"


def test_only_the_ids_that_the_embedding_of_an_input_knows_pass(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"flats.npz \(place\), row 5.*id 9") as wrong:
        prepare(request_in(saved(tmp_path, place=np.where(NUMBERS == 4, 9, 0).reshape(-1, 1))))
    assert wrong.value.code == "rows.unknown-id"


def test_parts_are_taken_of_all_arrays(tmp_path: Path) -> None:
    data = prepare(request_in(saved(tmp_path), partitioning=Partitioning("parts", parts_of=4)))
    [shard] = take_parts(data, [PartRange(2, 3)], 4).shards
    numbers = shard.train.inputs["size"][:, 0].astype(int)
    np.testing.assert_array_equal(shard.train.targets["price"], PRICE[numbers])
    expected = fit_normalizer("zscore", Moments.of(shard.train.inputs["size"]))
    np.testing.assert_allclose(shard.normalizers.inputs["size"].subtract, expected.subtract)


def test_a_shard_comes_out_of_its_block_as_it_went_in(tmp_path: Path) -> None:
    shard = prepare(request_in(saved(tmp_path))).shards[0]
    block = shard.block()
    assert list(block)[:5] == ["x_train:size", "x_train:grid", "x_train:place", "y_train:kind", "y_train:price"]
    assert {"subtract:size", "multiply:grid", "target_subtract:price"} < set(block)
    back = Shard.of_block(MODEL, block)
    for one, other in ((shard.train, back.train), (shard.validation, back.validation)):
        assert [*one.inputs, *one.targets] == [*other.inputs, *other.targets]
        for first, second in zip(one.arrays, other.arrays, strict=True):
            np.testing.assert_array_equal(first, second)
    assert back.normalizers.constants().keys() == shard.normalizers.constants().keys()
    assert kinds_of(list(block))["train"] == list(block)[:5]


def test_one_input_and_one_output_travel_as_they_did_in_version_0_1_0() -> None:
    samples, weights = Samples.of(SIZE, PRICE), np.ones(ROWS, np.float32)
    shard = Shard(Samples.of(SIZE, PRICE, weights), samples, Normalizers.single())
    assert list(shard.block()) == [
        "x_train", "y_train", "x_validation", "y_validation", "w_train",
        "subtract", "multiply", "target_subtract", "target_multiply",
    ]  # fmt: skip


def test_a_fold_draws_the_same_rows_of_all_arrays_and_fits_its_own_normalizers(tmp_path: Path) -> None:
    shard = prepare(request_in(saved(tmp_path), shards=1, validation_split=0.0)).shards[0]
    made = rows_of_fold(MODEL, shard, Fold(1, 4, 0, 0.25))
    assert made.held_out is not None
    assert np.bincount(made.held_out.targets["kind"].reshape(-1)).tolist() == [4, 4, 4]  # stratified
    numbers = made.held_out.inputs["size"][:, 0].astype(int)
    np.testing.assert_array_equal(made.held_out.targets["price"], PRICE[numbers])
    np.testing.assert_allclose(made.train.inputs["size"][:, 0].std(ddof=0), 1, rtol=1e-5)
    # Both grow with the number of the row.
    np.testing.assert_allclose(made.train.inputs["size"][:, 0], made.train.targets["price"][:, 0], atol=1e-5)
