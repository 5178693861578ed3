"""The sets of Keras come through Keras' own loaders; what goes wrong is said with the file and the place it belongs."""

import gzip
import inspect
import urllib.error

import numpy as np
import pytest
from data_requests import data_request
from hypothesis import given, settings
from hypothesis import strategies as st

from lanfit.data.labels import Target
from lanfit.data.prepare import prepare
from lanfit.data.text_labels import Labels
from lanfit.errors import InputError
from lanfit_server.models import keras_datasets
from lanfit_server.models.keras_datasets import (
    DATASETS,
    KerasDataset,
    check_dataset,
    dataset_source,
    load_dataset,
    pad_sequences,
    padded,
    parse_args,
)


def source_of(found, target, input_shape):
    plain, notes = padded(found, input_shape)
    return dataset_source(plain, target, notes)


def request_of(**changes):
    given = {
        "x_dir": None, "y_dir": None, "input_shape": (None, 28, 28), "output_shape": (None, 10),
        "target": Target.CLASSES, "shards": 2, "batch_size": 4, "test_split": 0.2, "validation_split": 0.1,
        "normalizer": "minmax", "seed": 0,
    }  # fmt: skip
    return data_request(**{**given, **changes})


def ragged(lengths):
    array = np.empty(len(lengths), object)
    for place, length in enumerate(lengths):
        array[place] = list(range(1, length + 1))
    return array


# --- without Keras


def test_a_name_that_does_not_exist_gets_the_nearest():
    assert check_dataset(" Fashion-MNIST ") == "fashion_mnist"
    with pytest.raises(InputError, match=r'no Keras dataset "fashon_mnist" .did you mean .fashion_mnist') as caught:
        check_dataset("fashon_mnist")
    assert "boston_housing" in caught.value.hint
    with pytest.raises(InputError, match=r'no Keras dataset "xyzzy"$'):
        check_dataset("xyzzy")


def loader(path="x.npz", num_words=None, skip_top=0, test_split=0.2, version="large", **kwargs):
    """The signatures of Keras' loaders in one."""


SIGNATURE = inspect.signature(loader)


def test_arguments_are_typed_by_the_loaders_defaults():
    parsed = parse_args("imdb", "num_words=10000, skip_top=20 test_split=0.5,version=small", SIGNATURE)
    assert parsed == {"num_words": 10000, "skip_top": 20, "test_split": 0.5, "version": "small"}
    assert [type(value) for value in parsed.values()] == [int, int, float, str]
    assert parse_args("imdb", "num_words=None", SIGNATURE) == {"num_words": None}
    assert parse_args("imdb", "  ", SIGNATURE) == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("num_word=3", r'"num_word=3" is not an argument of imdb .did you mean .num_words'),
        ("path=/etc/passwd", '"path=/etc/passwd" is not an argument of imdb'),
        ("kwargs=1", '"kwargs=1" is not an argument of imdb'),
        ("num_words", '"num_words" is not an argument of imdb'),
        ("num_words=", '"num_words=" is not an argument of imdb'),
        ("num_words=many", 'imdb expects an integer for num_words, not "many"'),
        ("test_split=half", 'imdb expects a number for test_split, not "half"'),
    ],
)
def test_arguments_that_the_loader_does_not_take_are_named(args, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_args("imdb", args, SIGNATURE)
    assert caught.value.hint


def test_a_loader_without_arguments_says_so():
    with pytest.raises(InputError, match="not an argument of cifar10") as caught:
        parse_args("cifar10", "a=1", inspect.signature(lambda: None))
    assert caught.value.hint == "Its arguments are: none."


def test_sequences_are_padded_to_the_models_input_and_that_is_reported():
    found = KerasDataset("imdb", ragged([3, 1, 5, 0] * 5), np.arange(20) % 2, ragged([2, 9]), np.array([0, 1]))
    source = source_of(found, Target.BINARY, (None, 4))
    assert source.x[0].read_all()[:4].tolist() == [[0, 1, 2, 3], [0, 0, 0, 1], [2, 3, 4, 5], [0, 0, 0, 0]]
    assert source.x[1].read_all().tolist() == [[0, 0, 1, 2], [6, 7, 8, 9]]
    assert source.notes == (
        "imdb: sequences are padded with zeros in front to 4 values, as keras.utils.pad_sequences does; 6 of 22 "
        "are longer and keep only their last 4 values",
    )
    prepared = prepare(request_of(input_shape=(None, 4), output_shape=(None, 1), target=Target.BINARY), source=source)
    assert (prepared.rows, prepared.test) == (22, 2)
    assert prepared.notes == source.notes


def test_a_model_of_any_length_gets_the_longest_sequence():
    found = KerasDataset("imdb", ragged([3, 1]), np.array([0, 1]), ragged([7]), np.array([1]))
    assert source_of(found, Target.BINARY, (None, None)).x[0].shape == (2, 7)
    assert source_of(found, Target.BINARY, (None, 5, 2)).x[0].shape == (2, 10)
    with pytest.raises(InputError, match=r"sequences of up to 7 values, but the model takes rows of \?×2") as caught:
        source_of(found, Target.BINARY, (None, None, 2))
    assert caught.value.code == "set.no-sequences"


def test_sequences_of_equal_length_which_keras_stacks_are_padded_too():
    found = KerasDataset("imdb", np.ones((4, 3), object), np.arange(4) % 2, np.ones((2, 3), object), np.arange(2))
    assert source_of(found, Target.BINARY, (None, 5)).x[1].read_all().tolist() == [[0, 0, 1, 1, 1]] * 2


def test_a_set_without_test_rows_lets_them_be_drawn():
    found = KerasDataset("boston_housing", np.ones((20, 13)), np.ones(20), np.ones((0, 13)), np.ones(0))
    source = source_of(found, Target.VALUES, (None, 13))
    prepared = prepare(request_of(input_shape=(None, 13), output_shape=(None, 1), target=Target.VALUES), source=source)
    assert prepared.test == 4


def test_a_set_of_images_can_be_its_own_target():
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
    found = KerasDataset("mnist", images[:20], np.zeros(20), images[20:], np.zeros(10))
    prepared = prepare(
        request_of(output_shape=(None, 784), target=Target.INPUT, samples=15),
        source=source_of(found, Target.INPUT, (None, 28, 28)),
    )
    assert (prepared.rows, prepared.test, prepared.test_samples.x.dtype) == (15, 5, np.uint8)


# --- with Keras

SMALL = np.random.default_rng(0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder in which Keras looks for files, and no internet behind it."""
    import keras

    def offline(url, *args, **kwargs):
        raise urllib.error.URLError("no internet")

    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert keras.datasets.mnist
    (tmp_path / "datasets").mkdir()
    return tmp_path / "datasets"


@pytest.fixture
def any_hash(monkeypatch):
    """Keras knows the checksums of the real files; ours are small."""
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *args, **kwargs: True)


def write_idx(path, array):
    path.parent.mkdir(exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def write_fashion(cache):
    x, y = SMALL.integers(0, 256, (120, 28, 28), np.uint8), (np.arange(120) % 10).astype(np.uint8)
    for name, rows in (("train", slice(0, 100)), ("t10k", slice(100, 120))):
        write_idx(cache / "fashion-mnist" / f"{name}-images-idx3-ubyte.gz", x[rows])
        write_idx(cache / "fashion-mnist" / f"{name}-labels-idx1-ubyte.gz", y[rows])
    return x, y


@pytest.mark.keras
def test_fashion_mnist_comes_from_a_prepared_cache_through_keras_own_loader(cache):
    x, y = write_fashion(cache)
    found = load_dataset("fashion_mnist")
    np.testing.assert_array_equal(np.concatenate([found.x_train, found.x_test]), x)
    prepared = prepare(
        request_of(input_shape=(None, 28, 28, 1), samples=60),
        source=source_of(found, Target.CLASSES, (None, 28, 28, 1)),
    )
    assert (prepared.rows, prepared.test) == (60, 10)
    assert np.bincount(prepared.test_samples.y).tolist() == [1] * 10
    rows = {(image.tobytes(), label) for image, label in zip(x, y, strict=True)}
    for shard in prepared.shards:
        assert shard.train.x.dtype == np.uint8
        assert all((image.tobytes(), label) in rows for image, label in zip(shard.train.x, shard.train.y, strict=True))


@pytest.mark.keras
@pytest.mark.parametrize("name", ["imdb", "reuters"])
def test_sequences_come_through_keras_and_are_padded_as_keras_pads(cache, any_hash, name):
    import keras

    sequences = np.empty(60, object)
    for place in range(60):
        sequences[place] = list(range(1, 2 + place % 25))
    labels = np.arange(60) % 2
    parts = {"x": sequences, "y": labels}
    if name == "imdb":
        parts = {"x_train": sequences[:40], "y_train": labels[:40], "x_test": sequences[40:], "y_test": labels[40:]}
    np.savez(cache / f"{name}.npz", **parts)
    found = load_dataset(name, "num_words=12,skip_top=2")
    (theirs, labels_theirs), (test, _) = getattr(keras.datasets, name).load_data(num_words=12, skip_top=2)
    source = source_of(found, Target.BINARY, (None, 9))
    np.testing.assert_array_equal(source.x[0].read_all(), keras.utils.pad_sequences(theirs, 9))
    np.testing.assert_array_equal(source.x[1].read_all(), keras.utils.pad_sequences(test, 9))
    [(first, *_)] = source.targets.values()
    assert isinstance(first, Labels)
    np.testing.assert_array_equal(first.values, labels_theirs)
    assert source.x[0].read_all().max() < 12


@pytest.mark.keras
@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8), length=st.integers(1, 10))
def test_padding_is_keras_own_default(lengths, length):
    import keras

    sequences = ragged(lengths)
    np.testing.assert_array_equal(pad_sequences(sequences, length), keras.utils.pad_sequences(sequences, length))


@pytest.mark.keras
@pytest.mark.parametrize(
    ("name", "columns", "args"), [("california_housing", 8, "version=small"), ("boston_housing", 13, "test_split=0.5")]
)
def test_housing_comes_through_keras_with_its_arguments(cache, any_hash, name, columns, args):
    np.savez(cache / f"{name}.npz", x=SMALL.normal(size=(700, columns)), y=SMALL.normal(size=700))
    found = load_dataset(name, args)
    assert (len(found.x_train), len(found.x_test)) == ((480, 120) if name == "california_housing" else (350, 350))
    if name == "california_housing":
        with pytest.raises(InputError, match=r"california_housing can't be loaded with version=tiny: .*small"):
            load_dataset(name, "version=tiny")


@pytest.mark.keras
def test_mnist_comes_through_keras(cache, any_hash):
    x, y = SMALL.integers(0, 256, (50, 28, 28), np.uint8), np.arange(50, dtype=np.uint8) % 10
    np.savez(cache / "mnist.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    found = load_dataset("mnist")
    np.testing.assert_array_equal(found.x_test, x[40:])


@pytest.mark.keras
@pytest.mark.parametrize("name", sorted(DATASETS))
def test_the_files_that_are_named_are_those_that_keras_asks_for(cache, monkeypatch, name):
    asked = []

    def record(url, target, *args):
        asked.append((url, target))
        raise urllib.error.URLError("no internet")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", record)
    for file in DATASETS[name]:
        with pytest.raises(InputError, match=f"{name} can't be loaded") as caught:
            load_dataset(name)
        assert asked.pop() == (file.url, str(cache / file.path))
        assert f"{file.url} to {cache / file.path}" in caught.value.hint
        (cache / file.path).parent.mkdir(exist_ok=True)
        (cache / file.path).touch()  # so that the next one is asked for


@pytest.mark.keras
def test_a_file_cut_short_is_named_and_nothing_is_printed_to_stdout(cache, capsys):
    write_fashion(cache)
    path = cache / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="fashion_mnist can't be loaded: ") as caught:
        load_dataset("fashion_mnist")
    assert "truncated" in caught.value.hint
    with pytest.raises(InputError):
        load_dataset("mnist")
    assert capsys.readouterr().out == ""


@pytest.mark.keras
def test_a_download_does_not_wait_for_ever(cache, monkeypatch):
    import socket

    seen = []

    def record(*args):
        seen.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no internet")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", record)
    with pytest.raises(InputError):
        load_dataset("mnist")
    assert seen == [keras_datasets.TIMEOUT]
    assert socket.getdefaulttimeout() is None
