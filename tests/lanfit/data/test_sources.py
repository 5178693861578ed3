"""Whatever the rows come from, files of any kind, arrays or a set with its own test rows, they are prepared alike."""

import tracemalloc

import numpy as np
import openpyxl
import pytest
from data_requests import changed, data_request
from sklearn.preprocessing import StandardScaler

from lanfit.data import chunks
from lanfit.data.labels import Target, check_order, make_target
from lanfit.data.normalize import Moments, fit_normalizer
from lanfit.data.prepare import in_memory, prepare
from lanfit.data.sources import arrays_source, files_source
from lanfit.errors import InputError

ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
X[:, 0] = np.arange(ROWS)
KINDS = np.array(["cat", "dog", "yak"])[np.arange(ROWS) % 3]
PRICES = (X[:, 0] * 1000 + 200_000).reshape(-1, 1)


def request_of(**changes):
    request = data_request(
        x_dir=None, y_dir=None, input_shape=(None, 4), output_shape=(None, 3), target=Target.CLASSES, shards=2,
        batch_size=4, test_split=0.2, validation_split=0.1, normalizer="zscore", seed=0,
    )  # fmt: skip
    return changed(request, **changes)


REGRESSION = {"target": Target.VALUES, "output_shape": (None, 1)}
XX = {"target": Target.INPUT, "output_shape": (None, 4)}


def save(path, table, names):
    """One file of a kind told by its ending."""
    table = np.asarray(table)
    rows = table.reshape(len(table), -1).tolist()
    if path.suffix == ".npz":
        np.savez(path, table)
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in [names, *rows]:
            book.active.append(row)
        book.save(path)
    else:
        lines = [names, *([str(cell).replace(".", ",") for cell in row] for row in rows)]
        path.write_text("\n".join(";".join(line) for line in lines))


@pytest.fixture
def folders(tmp_path):
    """The rows in three files of three kinds."""

    def make(y, endings=("csv", "xlsx", "npz"), y_endings=("xlsx", "npz", "csv")):
        x_dir, y_dir = tmp_path / "X", tmp_path / "Y"
        for folder in (x_dir, y_dir):
            folder.mkdir(exist_ok=True)
        for number, rows in enumerate(np.array_split(np.arange(ROWS), 3)):
            save(x_dir / f"part-{number}.{endings[number]}", X[rows], list("abcd"))
            save(y_dir / f"part-{number}.{y_endings[number]}", y[rows], ["target"])
        return x_dir, y_dir

    return make


def parts(prepared):
    for shard in prepared.shards:
        yield shard.train.x, shard.train.y
        yield shard.validation.x, shard.validation.y
    yield prepared.test_samples.x, prepared.test_samples.y


def same(first, second):
    for (x, y), (other_x, other_y) in zip(parts(first), parts(second), strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)
    np.testing.assert_array_equal(first.normalizers.x.subtract, second.normalizers.x.subtract)


def test_csv_xlsx_and_npz_mix_in_one_folder_and_give_what_arrays_give(folders):
    x_dir, y_dir = folders(KINDS)
    mixed = prepare(request_of(x_dir=x_dir, y_dir=y_dir))
    arrays = prepare(request_of(), source=arrays_source([("x", X, KINDS)], Target.CLASSES))
    assert mixed.labels == arrays.labels == {"y": ("cat", "dog", "yak")}
    same(mixed, arrays)
    for x, y in parts(mixed):
        assert (KINDS[x[:, 0].astype(int)] == np.array(mixed.labels["y"])[y]).all()
        assert y.dtype == np.int32
    assert np.bincount(mixed.test_samples.y).tolist() == [4, 4, 4]


def test_regression_and_xx_read_every_kind_too(folders):
    x_dir, y_dir = folders(PRICES)
    mixed = prepare(request_of(x_dir=x_dir, y_dir=y_dir, **REGRESSION))
    arrays = prepare(request_of(**REGRESSION), source=arrays_source([("x", X, PRICES)], Target.VALUES))
    same(mixed, arrays)
    for x, y in parts(mixed):
        np.testing.assert_array_equal(PRICES[x[:, 0].astype(int)], y)
    without = prepare(request_of(x_dir=x_dir, **XX))
    same(without, prepare(request_of(**XX), source=arrays_source([("x", X, None)], Target.INPUT)))
    assert sorted(np.concatenate([x[:, 0] for x, _ in parts(without)]).tolist()) == list(range(ROWS))
    assert all(y.shape == (len(x), 0) for x, y in parts(without))


def test_what_is_unusual_is_reported_once_for_all_files(folders):
    x_dir, y_dir = folders(PRICES, endings=("csv", "csv", "csv"), y_endings=("npz", "npz", "csv"))
    notes = prepare(request_of(x_dir=x_dir, y_dir=y_dir, **REGRESSION)).notes
    assert "part-0.csv, part-1.csv, part-2.csv: read with semicolons between the cells and decimal commas" in notes


def test_numbers_stay_and_words_in_another_file_are_named(folders):
    x_dir, y_dir = folders(np.arange(ROWS) % 3)
    prepared = prepare(request_of(x_dir=x_dir, y_dir=y_dir))
    assert prepared.labels == {}
    assert all((x[:, 0] % 3 == y).all() for x, y in parts(prepared))
    save(y_dir / "part-1.npz", KINDS[20:40], ["target"])
    with pytest.raises(InputError, match=r"xlsx, row 1: 0 is a number, but the labels in .*part-1.npz are strings"):
        prepare(request_of(x_dir=x_dir, y_dir=y_dir))


def test_more_words_than_outputs_are_named(folders):
    x_dir, y_dir = folders(KINDS)
    with pytest.raises(InputError, match=r"3 different labels \(cat, dog, yak\), but the model has 2 outputs"):
        prepare(request_of(x_dir=x_dir, y_dir=y_dir, output_shape=(None, 2)))
    with pytest.raises(InputError, match=r"3 different labels \(cat, dog, yak\), but this loss is for two classes"):
        prepare(request_of(x_dir=x_dir, y_dir=y_dir, output_shape=(None, 1), target=Target.BINARY))


def test_two_words_are_0_and_1_for_a_yes_or_no_model():
    yes = np.array(["yes", "no"])[np.arange(ROWS) % 2]
    prepared = prepare(
        request_of(output_shape=(None, 1), target=Target.BINARY), source=arrays_source([("x", X, yes)], Target.BINARY)
    )
    assert prepared.labels == {"y": ("no", "yes")}
    assert all(((x[:, 0] + 1) % 2 == y[:, 0]).all() for x, y in parts(prepared))


def test_words_are_one_hot_encoded_where_the_loss_wants_it():
    prepared = prepare(request_of(target=Target.ONE_HOT), source=arrays_source([("x", X, KINDS)], Target.ONE_HOT))
    made = make_target(Target.ONE_HOT, prepared.test_samples.y, prepared.test_samples.x, (None, 3))
    np.testing.assert_array_equal(made, np.eye(3)[prepared.test_samples.y])
    assert prepared.labels == {"y": ("cat", "dog", "yak")}


def test_npz_keys_name_the_arrays_of_x_and_y(tmp_path):
    for folder in ("X", "Y"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "all.npz", images=X, kinds=KINDS, both=X[:, :1])
    request = request_of(x_dir=tmp_path / "X", y_dir=tmp_path / "Y")
    prepared = prepare(changed(request, npz_key="images, kinds"))
    assert prepared.labels == {"y": ("cat", "dog", "yak")}
    one = prepare(changed(request, npz_key="both", input_shape=(None, 1), **REGRESSION))
    assert all((x == y).all() for x, y in parts(one))
    with pytest.raises(InputError, match="contains 3 arrays: images, kinds, both") as caught:
        prepare(request)
    assert "--npz-key" in caught.value.hint
    with pytest.raises(InputError, match=r'all.npz does not contain an array "image"; it contains images, kinds, both'):
        prepare(changed(request, npz_key="image,kinds"))
    for wrong in ("a,b,c", "a,", ",", ""):
        with pytest.raises(InputError, match="is not a valid array name"):
            prepare(changed(request, npz_key=wrong))


def test_targets_are_normalized_by_the_training_rows_alone_and_come_back():
    y = np.column_stack([PRICES, np.full(ROWS, 7.0), PRICES / 1e6])
    source = arrays_source([("x", X, y)], Target.VALUES)
    request = request_of(target=Target.VALUES, output_shape=(None, 3), normalize_targets="zscore")
    prepared = prepare(request, source=source)
    train = np.concatenate([shard.train.y for shard in prepared.shards])
    scaler = StandardScaler().fit(train)
    normalizer = prepared.normalizers.y
    np.testing.assert_allclose(normalizer.subtract, scaler.mean_, rtol=1e-12)
    made = make_target(Target.VALUES, prepared.test_samples.y, prepared.test_samples.x, (None, 3), normalizer)
    assert made.dtype == np.float32
    np.testing.assert_allclose(
        made[:, [0, 2]], scaler.transform(prepared.test_samples.y)[:, [0, 2]], rtol=1e-5, atol=1e-6
    )
    assert not made[:, 1].any()
    np.testing.assert_allclose(normalizer.inverse().apply(made), prepared.test_samples.y, rtol=1e-6)
    np.testing.assert_allclose(
        made * normalizer.inverse().multiply + normalizer.inverse().add, prepared.test_samples.y, rtol=1e-6
    )
    plain = prepare(changed(request, normalize_targets="none"), source=source)
    np.testing.assert_array_equal(
        make_target(Target.VALUES, plain.test_samples.y, plain.test_samples.x, (None, 3), plain.normalizers.y),
        plain.test_samples.y.astype(np.float32),
    )


@pytest.mark.parametrize("name", ["scale", "minmax", "zscore", "none"])
@pytest.mark.parametrize("shape", [(50, 3), (50, 2, 3)])
def test_every_normalizer_can_be_undone(name, shape):
    y = np.random.default_rng(0).normal(100, 20, shape)
    y[:, ..., 0] = 5
    normalizer = fit_normalizer(name, Moments.of(y))
    np.testing.assert_allclose(normalizer.inverse().apply(normalizer.apply(y)), y, rtol=1e-5)


def test_the_moments_of_parts_make_the_constants_of_the_whole():
    whole = prepare(request_of(**REGRESSION, shards=1), source=arrays_source([("x", X, PRICES)], Target.VALUES))
    train = whole.shards[0]
    np.testing.assert_allclose(whole.moments["x"].mean, train.train.x.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(whole.target_moments["y"].mean, train.train.y.mean(axis=0, dtype=np.float64), rtol=1e-12)
    assert prepare(request_of(**XX), source=arrays_source([("x", X, None)], Target.INPUT)).target_moments == {}


@pytest.mark.parametrize(("normalizer", "computed"), [("none", 0), ("zscore", 2)])
def test_moments_are_computed_where_a_normalizer_asks_for_them(monkeypatch, normalizer, computed):
    asked = []
    of = Moments.of
    monkeypatch.setattr(Moments, "of", lambda x: asked.append(x) or of(x))
    request = request_of(**REGRESSION, shards=2, normalizer=normalizer)
    prepare(request, source=arrays_source([("x", X, PRICES)], Target.VALUES))
    assert len(asked) == computed


@pytest.mark.parametrize("target", [Target.CLASSES, Target.INPUT])
def test_only_numbers_are_normalized_as_targets(target):
    with pytest.raises(InputError, match="only numeric targets can be normalized") as caught:
        prepare(request_of(target=target, normalize_targets="zscore"))
    assert "--normalize-targets" in caught.value.hint


def test_a_source_with_its_own_test_rows_keeps_them(monkeypatch):
    source = arrays_source([("training", X[:45], KINDS[:45]), ("test", X[45:], KINDS[45:])], Target.CLASSES, test=15)
    prepared = prepare(request_of(), source=source)
    assert sorted(prepared.test_samples.x[:, 0].tolist()) == list(range(45, 60))
    assert (prepared.rows, prepared.test) == (60, 15)


def test_samples_limit_the_rows_of_any_source(folders):
    x_dir, y_dir = folders(KINDS)
    prepared = prepare(request_of(x_dir=x_dir, y_dir=y_dir, samples=30))
    rows = np.concatenate([x[:, 0] for x, _ in parts(prepared)])
    assert prepared.rows == len(rows) == len(set(rows.tolist())) == 30
    assert all((KINDS[x[:, 0].astype(int)] == np.array(prepared.labels["y"])[y]).all() for x, y in parts(prepared))
    assert np.bincount(np.concatenate([y for _, y in parts(prepared)])).tolist() == [10, 10, 10]
    same(prepared, prepare(request_of(samples=30), source=arrays_source([("x", X, KINDS)], Target.CLASSES)))
    with pytest.raises(InputError, match="61 rows can't be selected from 60"):
        prepare(request_of(x_dir=x_dir, y_dir=y_dir, samples=61))


def test_targets_that_float32_does_not_hold_are_named_by_row(monkeypatch):
    monkeypatch.setattr(chunks, "BLOCK_BYTES", 64)
    for value in (1e39, np.nan):
        y = PRICES.astype(np.float64)
        y[33] = value
        with pytest.raises(InputError, match=r"y of x, row 34: .* is not a finite float32 number"):
            prepare(request_of(**REGRESSION), source=arrays_source([("x", X, y)], Target.VALUES))


def test_arrays_that_do_not_pair_are_named(folders):
    with pytest.raises(InputError, match="x has 60 rows, but y of x has 59"):
        prepare(request_of(), source=arrays_source([("x", X, KINDS[:-1])], Target.CLASSES))
    with pytest.raises(InputError, match="x has no targets") as caught:
        arrays_source([("x", X, None)], Target.CLASSES)
    assert caught.value.code == "targets.none"
    with pytest.raises(InputError, match="x contains no rows") as caught:
        arrays_source([("x", X[:0], KINDS)], Target.CLASSES)
    assert caught.value.code == "file.no-rows"
    x_dir, _ = folders(KINDS)
    with pytest.raises(InputError, match="no files in Y") as caught:
        files_source(x_dir, None, Target.VALUES)
    assert caught.value.code == "targets.no-files"
    with pytest.raises(InputError, match="no folder of inputs is given"):
        prepare(request_of())


def test_targets_of_a_wrong_shape_are_refused_before_anything_is_allocated():
    def allocate(name, shape, dtype):
        raise AssertionError("allocated")

    source = arrays_source([("x", X, np.zeros((ROWS, 2)))], Target.VALUES)
    with pytest.raises(InputError, match="y of x has rows of 2, but the model and the loss need 1"):
        prepare(request_of(**REGRESSION), allocate, source)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "CategoricalCrossentropy"])
def test_xx_with_a_loss_of_classes_is_refused(loss):
    with pytest.raises(InputError, match=f"with order XX .* the loss {loss} is for classes") as caught:
        check_order(loss, "XX")
    assert "--loss" in caught.value.hint
    check_order(loss, "XY")
    for fine in ("mse", "binary_crossentropy"):
        check_order(fine, "XX")


def mapped(folder):
    def allocate(name, shape, dtype):
        return np.memmap(folder / f"{name}.bin", dtype, "w+", shape=shape) if np.prod(shape) else np.empty(shape, dtype)

    return allocate


@pytest.mark.parametrize("kind", ["stored", "deflated", "csv", "csv.gz"])
def test_files_larger_than_memory_go_to_mapped_arrays_block_by_block(tmp_path, monkeypatch, kind):
    x_dir, y_dir = tmp_path / "X", tmp_path / "Y"
    x_dir.mkdir()
    y_dir.mkdir()
    rows = 40_000 if kind in ("stored", "deflated") else 24_000
    x = np.random.default_rng(0).integers(0, 256, (rows, 250)).astype(np.float32)
    if kind.startswith("csv"):
        import pandas

        pandas.DataFrame(x.astype(int)).to_csv(x_dir / f"x.{kind}", index=False, header=False)
        for name, value in {"CHUNK_BYTES": 1 << 18, "LARGEST_FREED": 0}.items():
            monkeypatch.setattr(f"lanfit.data.csvs.{name}", value)
    else:
        (np.savez if kind == "stored" else np.savez_compressed)(x_dir / "x.npz", x)
        monkeypatch.setattr("lanfit.data.npz.BLOCK_BYTES", 1 << 20)
    np.savez(y_dir / "y.npz", np.arange(rows, dtype=np.float32)[:, None])
    request = request_of(x_dir=x_dir, y_dir=y_dir, input_shape=(None, 250), **REGRESSION)
    monkeypatch.setattr(chunks, "free_memory", lambda: x.nbytes // 4)
    with pytest.raises(InputError, match=r"the rows of X take .* of memory is free"):
        prepare(request)
    first = prepare(changed(request, samples=1000), mapped(tmp_path))  # imports and caches are not counted
    assert first.rows == 1000
    tracemalloc.start()
    try:
        prepared = prepare(request, mapped(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 2
    for x_part, y_part in parts(prepared):
        np.testing.assert_array_equal(x[y_part[:, 0].astype(int)], x_part)


def test_a_column_major_array_larger_than_memory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "X").mkdir()
    np.savez(tmp_path / "X" / "x.npz", np.asfortranarray(X))
    monkeypatch.setattr(chunks, "free_memory", lambda: X.nbytes - 1)
    monkeypatch.setattr("lanfit.data.prepare.PLAN_BYTES", 1)  # of so few rows the plan takes more than the rows
    with pytest.raises(InputError, match=r"x.npz declares an array of shape"):
        prepare(request_of(x_dir=tmp_path / "X", **XX), mapped(tmp_path))


def test_the_folder_of_targets_is_not_looked_at_with_order_xx(folders, tmp_path):
    x_dir, _ = folders(KINDS)
    assert files_source(x_dir, tmp_path / "nowhere", Target.INPUT).rows == ROWS
    with pytest.raises(InputError, match="does not exist"):
        files_source(x_dir, tmp_path / "nowhere", Target.VALUES)


def test_allocation_in_memory_is_held_against_what_is_free(monkeypatch):
    monkeypatch.setattr(chunks, "free_memory", lambda: 10)
    with pytest.raises(InputError, match="the rows of X take 400 bytes, but only 10 bytes") as caught:
        in_memory("x", (10, 10), np.dtype(np.float32))
    assert caught.value.code == "rows.larger-than-memory"


def test_rows_in_another_order_of_sizes_are_refused_wherever_they_come_from(tmp_path):
    """Images with channels first would be scrambled by a reshape: from a file, from a program, and as targets."""
    images = np.zeros((ROWS, 3, 4, 4), np.uint8)
    (tmp_path / "X").mkdir()
    np.savez(tmp_path / "X" / "x.npz", images)
    of_images = request_of(x_dir=tmp_path / "X", **(XX | {"input_shape": (None, 4, 4, 3)}))
    for source in (None, arrays_source([("x", images, None)], Target.INPUT)):
        with pytest.raises(InputError, match=r"has rows of 3×4×4 values, but the model takes 4×4×3") as caught:
            prepare(of_images, source=source)
        assert caught.value.code == "rows.permuted"
        assert "x = x.transpose(0, 2, 3, 1)" in caught.value.hint
    masks = arrays_source([("x", X, np.zeros((ROWS, 5, 2)))], Target.VALUES)
    with pytest.raises(InputError, match="y of x has rows of 5×2 values, but the model takes 2×5") as caught:
        prepare(request_of(**(REGRESSION | {"output_shape": (None, 2, 5)})), source=masks)
    assert "y = y.transpose(0, 2, 1)" in caught.value.hint


@pytest.mark.parametrize("kind", ["csv", "xlsx", "npz"])
def test_ids_that_float32_merges_are_reported(tmp_path, kind):
    (tmp_path / "X").mkdir()
    ids = np.column_stack([7129300520 + np.arange(ROWS), np.arange(ROWS), np.arange(ROWS) * 2.0**24])
    save(tmp_path / "X" / f"part.{kind}", ids.astype(np.int64), ["id", "v", "w"])
    prepared = prepare(request_of(x_dir=tmp_path / "X", **(XX | {"input_shape": (None, 3), "output_shape": (None, 3)})))
    name = "column 1" if kind == "npz" else 'column "id"'
    [note] = [note for note in prepared.notes if "lose their last digits" in note]
    assert note == (
        f"part.{kind}: {name}: integers above 16,777,216 lose their last digits, 7129300520 and 7129300521 become "
        "equal; if they are ids or timestamps, leave the column out"
    )


def test_large_numbers_that_stay_apart_are_not_reported():
    far = np.column_stack([np.arange(ROWS) * 1e9, np.arange(ROWS) + 1e8 + 0.5]).astype(np.float64)
    source = arrays_source([("x", far, None)], Target.INPUT)
    prepared = prepare(request_of(**(XX | {"input_shape": (None, 2), "output_shape": (None, 2)})), source=source)
    assert not any("lose their last digits" in note for note in prepared.notes)
