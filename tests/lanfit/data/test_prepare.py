"""Files go in, shards come out: every row once, paired, in its own dtype, at its place; errors name what is wrong."""

import numpy as np
import pytest
from data_requests import changed, data_request
from sklearn.preprocessing import StandardScaler

import lanfit.data.npz as npz
from lanfit.data.chunks import Chunk
from lanfit.data.labels import Target
from lanfit.data.prepare import in_memory, prepare
from lanfit.data.sources import Source
from lanfit.errors import InputError


@pytest.fixture
def folders(tmp_path):
    x, y = tmp_path / "X", tmp_path / "Y"
    x.mkdir()
    y.mkdir()
    return x, y


@pytest.fixture
def request_(folders):
    """60 rows of 6 bytes in three npz files, the first byte of each its number; labels as csv with a header."""
    x, y = folders
    rows = np.arange(360, dtype=np.uint16).reshape(60, 6).astype(np.uint8)
    rows[:, 0] = np.arange(60)
    labels = np.arange(60) % 3
    for name, part in [("part-1", slice(0, 10)), ("part-2", slice(10, 35)), ("part-10", slice(35, 60))]:
        np.savez(x / f"{name}.npz", rows[part])
        (y / f"{name}.csv").write_text("label\n" + "\n".join(map(str, labels[part])) + "\n")
    return data_request(
        x_dir=x, y_dir=y, input_shape=(None, 6), output_shape=(None, 3), target=Target.CLASSES, shards=2,
        batch_size=4, test_split=0.2, validation_split=0.1, normalizer="minmax", seed=0,
    )  # fmt: skip


def parts(prepared):
    for shard in prepared.shards:
        yield shard.train.x, shard.train.y
        yield shard.validation.x, shard.validation.y
    yield prepared.test_samples.x, prepared.test_samples.y


def test_every_row_arrives_once_beside_its_label(request_, monkeypatch):
    monkeypatch.setattr(npz, "BLOCK_BYTES", 30)
    prepared = prepare(request_)
    numbers = np.concatenate([x[:, 0] for x, _ in parts(prepared)])
    assert sorted(numbers.tolist()) == list(range(60))
    for x, y in parts(prepared):
        assert (x[:, 0] % 3 == y).all()
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        np.testing.assert_array_equal(x[:, 5], (np.int64(x[:, 0]) * 6 + 5) % 256)


def test_the_counts_are_those_of_the_plan(request_):
    prepared = prepare(request_)
    assert (prepared.test, prepared.rows) == (12, 60)
    assert [len(shard.train.x) for shard in prepared.shards] == [21, 21]
    assert [len(shard.validation.x) for shard in prepared.shards] == [3, 3]
    assert (prepared.train, prepared.validation) == (42, 6)


def test_shards_are_contiguous_views_of_what_was_allocated(request_):
    made = {}

    def allocate(name, shape, dtype):
        made[name] = in_memory(name, shape, dtype)
        return made[name]

    prepared = prepare(request_, allocate)
    assert {name: array.shape for name, array in made.items()} == {"x": (60, 6), "y": (60,)}
    train, validation = ([getattr(shard, kind).x for shard in prepared.shards] for kind in ("train", "validation"))
    np.testing.assert_array_equal(made["x"], np.concatenate([*train, *validation, prepared.test_samples.x]))
    for x, y in parts(prepared):
        assert x.base is made["x"] or np.shares_memory(x, made["x"])
        assert np.shares_memory(y, made["y"])
        assert x.flags.c_contiguous


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_the_normalizer_is_scikit_learns_of_the_training_rows_alone(request_, shape):
    prepared = prepare(changed(request_, normalizer="zscore", input_shape=(None, *shape)))
    width = 6 if len(shape) == 1 else 1

    def scaler(rows):
        return StandardScaler().fit(np.concatenate(rows).astype(np.float64).reshape(-1, width))

    train, all_rows = scaler([s.train.x for s in prepared.shards]), scaler([x for x, _ in parts(prepared)])
    np.testing.assert_allclose(prepared.normalizers.x.subtract.reshape(-1), train.mean_, rtol=1e-12)
    np.testing.assert_allclose(1 / prepared.normalizers.x.multiply.reshape(-1), train.scale_, rtol=1e-12)
    assert not np.allclose(train.mean_, all_rows.mean_)


def test_the_same_request_gives_the_same_shards_and_another_seed_others(request_):
    first, again, other = prepare(request_), prepare(request_), prepare(changed(request_, seed=1))
    np.testing.assert_array_equal(first.shards[1].train.x, again.shards[1].train.x)
    assert (first.test_samples.x[:, 0] != other.test_samples.x[:, 0]).any()


def test_classes_are_in_their_proportions_in_every_part(request_):
    prepared = prepare(request_)
    assert np.bincount(prepared.test_samples.y).tolist() == [4, 4, 4]
    for shard in prepared.shards:
        assert sorted(np.bincount(shard.validation.y, minlength=3)) == [1, 1, 1]


def test_rows_are_reshaped_and_normalized_as_the_model_takes_them_and_that_is_reported(request_):
    prepared = prepare(changed(request_, input_shape=(None, 2, 3, 1)))
    assert prepared.shards[0].train.x.shape == (21, 2, 3, 1)
    assert prepared.notes == ("rows of 6 values are read as 2×3×1, the model's input",)
    assert prepared.normalizers.x.subtract.shape == ()
    np.testing.assert_array_equal(prepared.shards[0].train.x.reshape(21, 6), prepare(request_).shards[0].train.x)


def test_one_hot_encoding_is_reported_and_the_labels_travel_as_they_are(request_):
    prepared = prepare(changed(request_, target=Target.ONE_HOT))
    assert prepared.notes == ("integer labels are one-hot encoded into the model's 3 outputs",)
    assert prepared.test_samples.y.shape == (12,)
    assert prepare(request_).notes == ()


def test_order_xx_needs_no_labels_and_sends_none(request_):
    request = changed(request_, y_dir=None, target=Target.INPUT, output_shape=(None, 6))
    prepared = prepare(request)
    assert sorted(np.concatenate([x[:, 0] for x, _ in parts(prepared)]).tolist()) == list(range(60))
    assert all(y.shape == (len(x), 0) for x, y in parts(prepared))
    with pytest.raises(InputError, match=r"\(rows of 6 values\) is the target, but the model's output is 5"):
        prepare(changed(request, output_shape=(None, 5)))


def test_csv_inputs_become_float32_and_mixed_files_a_type_that_holds_both(folders, request_):
    x, _ = folders
    np.savetxt(x / "part-1.csv", np.load(x / "part-1.npz")["arr_0"], fmt="%d", delimiter=",", header="a,b,c,d,e,f")
    (x / "part-1.npz").unlink()
    prepared = prepare(request_)
    assert prepared.test_samples.x.dtype == np.float32
    np.testing.assert_array_equal(prepared.test_samples.x, prepare(request_).test_samples.x)
    for x_part, y_part in parts(prepared):
        assert (x_part[:, 0] % 3 == y_part).all()


def test_regression_targets_take_the_models_shape_and_are_not_stratified(folders, request_):
    prepared = prepare(changed(request_, target=Target.VALUES, output_shape=(None, 1)))
    assert prepared.test_samples.y.shape == (12, 1)
    assert prepared.test_samples.y.dtype == np.float32


def test_no_test_and_no_validation_rows_leave_all_to_training(request_):
    prepared = prepare(changed(request_, test_split=0.0, validation_split=0.0))
    assert (prepared.train, prepared.validation, prepared.test) == (60, 0, 0)
    assert prepared.test_samples.x.shape == (0, 6)


def test_a_class_that_is_too_small_is_warned_of(folders, request_):
    _, y = folders
    labels = ["0", "0", "0", "0", "1", "1", "1", "1", "1", "2"]
    for path in y.iterdir():
        rows = len(path.read_text().split()) - 1
        path.write_text("\n".join((labels if rows == 10 else ["0", "1"] * 13)[:rows]))
    assert "class 2 has only one row, which may or may not be among the test rows" in prepare(request_).warnings


def test_unequal_rows_name_both_files_and_both_counts(folders, request_):
    x, _ = folders
    np.savez(x / "part-2.npz", np.zeros((24, 6), np.uint8))
    with pytest.raises(InputError, match=r"part-2.npz has 24 rows, but .*part-2.csv has 25"):
        prepare(request_)


def test_a_wrong_shape_names_both_shapes(request_):
    with pytest.raises(InputError, match=r"part-1.npz has rows of 6 values, but the model takes 8×8×1"):
        prepare(changed(request_, input_shape=(None, 8, 8, 1)))


def test_files_of_different_columns_are_named(folders, request_):
    x, y = folders
    np.savez(x / "part-2.npz", np.zeros((25, 7), np.uint8))
    with pytest.raises(InputError, match=r"part-2.npz has rows of 7 values, but .*part-1.npz has rows of 6"):
        prepare(request_)
    np.savez(x / "part-2.npz", np.zeros((25, 6), np.uint8))
    (y / "part-2.csv").write_text("0,1,0\n" * 25)
    with pytest.raises(InputError, match=r"part-2.csv has rows of 3 values, but .*part-1.csv has rows of 1"):
        prepare(changed(request_, target=Target.ONE_HOT))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("shape", [(25, 6), (25, 2, 3)])
def test_a_value_that_is_no_number_is_named_with_file_and_row(folders, request_, value, shape, monkeypatch):
    monkeypatch.setattr(npz, "BLOCK_BYTES", 200)
    x, _ = folders
    array = np.zeros((25, 6))
    array[17, 4] = value
    np.savez(x / "part-2.npz", array.reshape(shape))
    for other in ("part-1.npz", "part-10.npz"):
        np.savez(x / other, np.load(x / other)["arr_0"].reshape(-1, *shape[1:]))
    where = "part-2.npz, row 18" + (", column 5" if len(shape) == 2 else "")
    with pytest.raises(InputError, match=f"{where}: .*is not a finite float32 number"):
        prepare(request_)


def test_an_infinite_csv_cell_is_named_with_its_column(folders, request_):
    x, _ = folders
    (x / "part-1.npz").unlink()
    (x / "part-1.csv").write_text("a,b,c,d,e,f\n" + "0,1,2,3,4,5\n" * 6 + "0,1,2,inf,4,5\n" + "0,1,2,3,4,5\n" * 3)
    with pytest.raises(InputError, match=r'part-1.csv, row 7, column "d": inf'):
        prepare(request_)


def test_a_label_above_the_outputs_is_named_with_file_and_row(folders, request_):
    _, y = folders
    (y / "part-2.csv").write_text("label\n" + "0\n" * 16 + "12\n" + "0\n" * 8)
    with pytest.raises(InputError, match=r"part-2.csv, row 17: the label is 12, but the model has 3 outputs \(0-2\)"):
        prepare(request_)


def test_a_batch_larger_than_a_shard_is_refused_with_the_numbers(request_):
    with pytest.raises(InputError, match=r"a batch of 22 rows is larger than the 21 training rows of shard 1 of 2"):
        prepare(changed(request_, batch_size=22))
    assert prepare(changed(request_, batch_size=21)).train == 42


def test_more_clients_than_rows_are_refused_before_anything_is_allocated(request_):
    def allocate(name, shape, dtype):
        raise AssertionError("allocated")

    with pytest.raises(InputError, match="too few for 61 clients"):
        prepare(changed(request_, shards=61), allocate)


def test_more_than_the_free_memory_is_refused_before_it_is_allocated():
    with pytest.raises(InputError, match=r"the rows of X take 8.0 EB"):
        in_memory("x", (10**9, 10**9), np.dtype(np.float64))


def test_a_request_without_a_folder_needs_another_source(request_):
    with pytest.raises(InputError) as error:
        prepare(changed(request_, x_dir=None))
    assert error.value.code == "rows.no-folder"


def test_rows_without_number_are_refused_before_a_plan_is_made_of_them(request_):
    rows = Chunk("x.npz", (10**15, 6), np.dtype(np.uint8), lambda: iter(()))
    with pytest.raises(InputError, match=r"where each of 1,000,000,000,000,000 rows goes takes 28.0 PB") as error:
        prepare(changed(request_, target=Target.INPUT, output_shape=(None, 6)), source=Source({"x": (rows,)}))
    assert error.value.code == "rows.larger-than-memory"


def test_damage_that_shows_while_reading_is_an_input_error(folders, request_):
    x, _ = folders
    path = x / "part-2.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"part-2.npz can't be read.*CRC"):
        prepare(request_)


def test_an_id_that_the_embedding_does_not_know_is_named_with_file_row_and_column(folders, request_):
    x, _ = folders
    rows = np.arange(60 * 6).reshape(60, 6) % 50
    rows[41, 3] = 50
    for name, part in [("part-1", slice(0, 10)), ("part-2", slice(10, 35)), ("part-10", slice(35, 60))]:
        np.savez(x / f"{name}.npz", rows[part])
    request = changed(request_, normalizer="none", ids=51)
    prepare(request)
    with pytest.raises(InputError) as wrong:
        prepare(changed(request, ids=50))
    assert wrong.value.code == "rows.unknown-id"
    assert "part-10.npz, row 7, column 4: the id 50 is outside the 50" in wrong.value.message
    assert "(0-49)" in wrong.value.message


def test_the_label_that_the_loss_ignores_is_accepted(folders, request_):
    _, y = folders
    for path in y.glob("*.csv"):
        path.write_text(path.read_text().replace("\n2", "\n-1"))
    with pytest.raises(InputError, match="-1"):
        prepare(request_)
    prepared = prepare(changed(request_, ignored=-1))
    assert set(np.unique(prepared.all.y)) == {-1, 0, 1}
