"""Model files of Keras 3, good and bad. The files are Keras' own; the bad ones are made of those."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit.models.architecture import build
from lanfit.models.compiling import compile_model, read_spec
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.weights import set_weights

pytestmark = pytest.mark.keras


def digits_net() -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits_net",
    )


def branched_net() -> Any:
    import keras
    from keras import layers

    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="gelu")], name="inner")
    rows = keras.Input((6, 8), name="rows")
    sequence = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(rows)
    attention = layers.MultiHeadAttention(2, 4)(sequence, sequence)
    joined = layers.Add()([layers.LayerNormalization()(sequence), attention])
    twice = inner(inner(layers.GlobalAveragePooling1D()(joined)))
    return keras.Model(rows, layers.Softmax()(layers.Dense(3)(twice)))


def embedding_net() -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(20, 4), layers.Flatten(), layers.Dense(1)]
    )


def adapted_net() -> Any:
    import keras
    from keras import layers

    layer = layers.Normalization()
    layer.adapt(np.arange(12.0).reshape(4, 3))
    return keras.Sequential([keras.Input((3,)), layer, layers.Dense(1)])


NETS = [digits_net, branched_net, embedding_net, adapted_net]


def rows_for(model: LoadedModel) -> Any:
    return (
        np.random.RandomState(0).randint(0, 9, (7, *(n or 1 for n in model.input_shape))).astype(model.inputs[0].dtype)
    )


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("net", NETS)
def test_a_loaded_model_computes_what_the_saved_one_did(net: Callable[[], Any], ending: str, tmp_path: Path) -> None:
    saved = net()
    saved.save(tmp_path / f"net{ending}")
    loaded = load_model(tmp_path / f"net{ending}")
    built = build(loaded.architecture)
    set_weights(built, loaded.weights)
    x = rows_for(loaded)
    np.testing.assert_array_equal(built.predict(x, verbose=0), saved.predict(x, verbose=0))
    assert loaded.parameters == saved.count_params() == sum(array.size for array in loaded.weights.values())


KERAS_3 = sorted(
    path.name
    for path in (Path(__file__).parents[2] / "data" / "keras3").glob("*-3.*")
    if path.suffix in (".h5", ".keras")
)


@pytest.mark.parametrize("name", KERAS_3)
def test_a_file_of_an_earlier_keras_3_computes_what_it_did_there(name: str) -> None:
    """Written by tests/data/keras3/make.py, with several releases: recurrent layers, operations between layers."""
    path = Path(__file__).parents[2] / "data" / "keras3" / name
    loaded = load_model(path)
    model = build(loaded.architecture)
    set_weights(model, loaded.weights)
    with np.load(path.with_suffix(".npz")) as rows:
        computed = np.asarray(model(rows["x"], training=False))
        np.testing.assert_allclose(computed, rows["predictions"], rtol=1e-5, atol=1e-6)
    spec = read_spec(loaded.compile or "")
    assert spec.optimizer is not None
    assert isinstance(spec.loss, dict)
    assert spec.metrics[0] == "accuracy"


@pytest.mark.parametrize(("name", "optimizer"), [("sgd", "sgd"), ("scaled", "lossscaleoptimizer")])
def test_a_model_that_keras_saved_on_pytorch_is_loaded_compiled(name: str, optimizer: str) -> None:
    """Written by tests/data/torch/make.py."""
    folder = Path(__file__).parents[2] / "data" / "torch"
    loaded = load_model(folder / f"{name}.keras")
    assert loaded.compile is not None
    spec = read_spec(loaded.compile)
    assert spec.optimizer is not None
    assert spec.optimizer["class_name"].lower() == optimizer
    model = build(loaded.architecture)
    set_weights(model, loaded.weights)
    compile_model(model, spec)
    with np.load(folder / "rows.npz") as rows:
        np.testing.assert_allclose(model.predict(rows["x"], verbose=0), rows["predictions"], rtol=1e-5, atol=1e-6)
        model.fit(rows["x"], rows["y"], verbose=0)


def test_a_loaded_model_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    digits_net().save(tmp_path / "digits.h5")
    loaded = load_model(tmp_path / "digits.h5")
    assert (loaded.name, loaded.input_shape, loaded.inputs[0].dtype) == ("digits", (8, 8, 1), "float32")
    assert (loaded.output_shape, loaded.outputs[0].activation) == ((10,), "softmax")
    assert loaded.compile is None
    branched_net().save(tmp_path / "net.keras")
    assert load_model(tmp_path / "net.keras").outputs[0].activation == "softmax"
    embedding_net().save(tmp_path / "words.h5")
    words = load_model(tmp_path / "words.h5")
    assert (words.inputs[0].dtype, words.outputs[0].activation) == ("int32", "linear")


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize(("loss", "metric"), [("mse", "mae"), ("mean_squared_error", "mean_absolute_error")])
def test_compile_options_are_read_even_where_keras_can_not(loss: str, metric: str, ending: str, tmp_path: Path) -> None:
    import keras

    model = embedding_net()
    model.compile(keras.optimizers.SGD(0.25, momentum=0.5), loss=loss, metrics=[metric])
    model.fit(np.zeros((4, 5)), np.zeros((4, 1)), verbose=0)
    path = tmp_path / f"net{ending}"
    model.save(path)
    if (loss, ending) == ("mse", ".h5"):
        with pytest.raises(ValueError, match="Could not deserialize"):
            keras.models.load_model(path)
    spec = read_spec(load_model(path).compile or "")
    assert (spec.loss, spec.metrics) == (loss, (metric,))
    assert spec.optimizer is not None
    assert spec.optimizer["class_name"] == "SGD"
    assert (spec.optimizer["config"]["learning_rate"], spec.optimizer["config"]["momentum"]) == (0.25, 0.5)


def test_a_schedule_and_the_options_of_a_loss_survive_both_formats(tmp_path: Path) -> None:
    import keras

    model = embedding_net()
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 100)
    model.compile(keras.optimizers.Adam(schedule), loss=keras.losses.BinaryCrossentropy(label_smoothing=0.25))
    for name in ("net.keras", "net.h5"):
        model.save(tmp_path / name)
        spec = read_spec(load_model(tmp_path / name).compile or "")
        assert spec.optimizer is not None
        assert spec.optimizer["config"]["learning_rate"]["class_name"] == "CosineDecay"
        assert isinstance(spec.loss, dict)
        assert spec.loss["config"]["label_smoothing"] == 0.25


def test_a_deep_model_with_a_long_architecture_is_read(tmp_path: Path) -> None:
    import keras

    layers = [keras.layers.Dense(2, name=f"a_layer_with_a_rather_long_name_number_{n}") for n in range(150)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    assert len(model.to_json()) > 100_000
    model.save(tmp_path / "deep.h5")
    assert len(load_model(tmp_path / "deep.h5").weights) == 300


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as error:
        load_model(path)
    assert path.name in error.value.message
    assert error.value.hint
    return error.value


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_a_file_that_is_not_there_or_empty_or_text_is_named(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{ending}"
    assert refused(path).code == "model.missing"
    path.write_bytes(b"")
    assert "empty" in refused(path).message
    path.write_text("this is no model\n" * 100)
    assert "is not a valid" in refused(path).message


def test_a_folder_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "model.folder"
    (tmp_path / "net.txt").write_text("no model")
    assert "'.txt'" in refused(tmp_path / "net.txt").message
    (tmp_path / "net.json").write_text("{}")
    assert "is not the architecture" in refused(tmp_path / "net.json").message


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.98])
def test_a_file_cut_short_is_an_error_of_the_input(part: float, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{ending}"
    digits_net().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path)


def test_a_file_of_weights_only_is_distinguished(tmp_path: Path) -> None:
    digits_net().save_weights(tmp_path / "net.weights.h5")
    assert "only weights" in refused(tmp_path / "net.weights.h5").message


def test_a_zip_that_is_no_model_is_distinguished(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "model.weights.h5" in refused(tmp_path / "net.keras").message


def test_a_model_of_keras_1_is_distinguished(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    digits_net().save(path)
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = "1.2.2"
    assert "Keras 1.2.2" in refused(path).message


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_a_lambda_and_a_custom_layer_are_refused_by_name(ending: str, tmp_path: Path) -> None:
    import keras

    class Mine(keras.layers.Layer):  # type: ignore[misc, name-defined, unused-ignore]
        def call(self, inputs: Any) -> Any:
            return inputs

    path = tmp_path / f"net{ending}"
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2, name="twice")]).save(path)
    assert "layer 'twice': the class Lambda" in refused(path).message
    keras.Sequential([keras.Input((3,)), Mine(name="my_own")]).save(path)
    assert "layer 'my_own': the class Mine" in refused(path).message


def test_a_loss_of_the_users_own_is_reported_by_name_and_the_model_loads(tmp_path: Path) -> None:
    import keras

    def my_loss(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(y_true - y_pred, axis=-1)

    model = embedding_net()
    model.compile("adam", my_loss)
    model.save(tmp_path / "net.keras")
    model.save(tmp_path / "net.h5")
    for name in ("net.keras", "net.h5"):
        loaded = load_model(tmp_path / name)
        assert "my_loss" in loaded.problems["loss"].message
        assert "--loss" in loaded.problems["loss"].hint
        assert read_spec(loaded.compile or "").optimizer is not None


def test_several_inputs_and_outputs_are_known_by_their_names(tmp_path: Path) -> None:
    import keras
    from keras import layers

    ids, b = keras.Input((3,), dtype="int32", name="ids"), keras.Input((2,), name="right")
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(7, 2)(ids)), b])
    model = keras.Model(
        {"right": b, "ids": ids}, [layers.Dense(4, "softmax", name="kind")(both), layers.Add(name="sum")([b, b])]
    )
    model.compile("sgd", ["sparse_categorical_crossentropy", "mse"], [1.0, 0.5], [["accuracy"], ["mae"]])
    for name in ("two.keras", "two.h5"):
        model.save(tmp_path / name)
        loaded = load_model(tmp_path / name)
        assert [(each.name, each.shape, each.dtype, each.ids) for each in loaded.inputs] == [
            ("ids", (3,), "int32", 7), ("right", (2,), "float32", None),
        ]  # fmt: skip
        assert [(each.name, each.shape, each.activation) for each in loaded.outputs] == [
            ("kind", (4,), "softmax"), ("sum", (2,), None),
        ]  # fmt: skip
        assert not loaded.is_single
        spec = read_spec(loaded.compile or "")
        assert [(name, each.weight) for name, each in spec.outputs.items()] == [("kind", 1.0), ("sum", 0.5)]


def test_arrays_that_can_not_be_distinguished_are_refused(tmp_path: Path) -> None:
    import keras
    from keras import layers

    a, b = keras.Input((3,), name="a:b"), keras.Input((3,), name="b")
    keras.Model([a, b], layers.Add()([a, b])).save(tmp_path / "colon.keras")
    assert refused(tmp_path / "colon.keras").code == "model.array-name"
    end = layers.Dense(1, name="end")
    c = keras.Input((3,), name="c")
    keras.Model([b, c], [end(b), end(c)]).save(tmp_path / "twice.keras")
    wrong = refused(tmp_path / "twice.keras")
    assert (wrong.code, "'end'" in wrong.message) == ("model.array-name", True)
    keras.Model({"pair": [b, c]}, layers.Add()([b, c])).save(tmp_path / "nested.keras")
    assert refused(tmp_path / "nested.keras").code == "model.nested-arrays"
    many = [keras.Input((1,), name=f"i{number}") for number in range(65)]
    keras.Model(many, layers.Add()(many)).save(tmp_path / "many.keras")
    assert refused(tmp_path / "many.keras").code == "model.many-arrays"


def test_a_model_without_an_input_shape_or_with_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.layers.Dense(1)]).save(tmp_path / "open.keras")
    assert "input shape" in refused(tmp_path / "open.keras").message
    fixed = keras.Input(batch_shape=(32, 3, 1))
    keras.Sequential([fixed, keras.layers.LSTM(1, stateful=True)]).save(tmp_path / "fixed.keras")
    assert "fixed batch size of 32 rows" in refused(tmp_path / "fixed.keras").message


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_a_fixed_batch_size_is_freed_where_no_layer_keeps_state(ending: str, tmp_path: Path) -> None:
    import keras

    saved = keras.Sequential([keras.Input(batch_shape=(2, 3)), keras.layers.Dense(1)])
    saved.save(tmp_path / f"fixed{ending}")
    loaded = load_model(tmp_path / f"fixed{ending}")
    assert "exactly 2 rows" in loaded.notes[0]
    model, rows = build(loaded.architecture), np.ones((7, 3), np.float32)
    set_weights(model, loaded.weights)
    np.testing.assert_allclose(model.predict(rows, verbose=0)[:2], saved.predict(rows[:2], verbose=0), rtol=1e-6)


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_options_of_a_later_keras_that_are_null_are_left_out(ending: str, tmp_path: Path) -> None:
    saved = embedding_net()
    path = tmp_path / f"net{ending}"
    saved.save(path)

    def edit(text: str) -> str:
        config = json.loads(text)
        config["config"]["layers"][-1]["config"]["some_new_key"] = None
        return json.dumps(config)

    if ending == ".h5":
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = edit(file.attrs["model_config"])
            file.attrs["keras_version"] = "3.999.0"
    else:
        with zipfile.ZipFile(path) as archive:
            config = edit(archive.read("config.json").decode())
        version = json.dumps({"keras_version": "3.999.0"}).encode()
        rewrite(path, {"config.json": config.encode(), "metadata.json": version})
    loaded = load_model(path)
    assert "Keras 3.999.0" in loaded.notes[0]
    assert "Dense.some_new_key" in loaded.notes[0]
    built = build(loaded.architecture)
    set_weights(built, loaded.weights)
    x = rows_for(loaded)
    np.testing.assert_array_equal(built.predict(x, verbose=0), saved.predict(x, verbose=0))


def test_weights_that_can_not_travel_are_refused_by_name(tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype="bfloat16", name="small")]).save(
        tmp_path / "net.keras"
    )
    assert "small/kernel" in refused(tmp_path / "net.keras").message


def bomb(path: Path) -> None:
    """Make the weights of a .keras claim 1 GiB that is not there, as a chunked array of zeros can."""
    weights = path.with_suffix(".weights")
    with h5py.File(weights, "w") as file:
        file.create_dataset("layers/dense/vars/0", (1 << 28,), "f4", chunks=(1 << 20,), compression="gzip")
    rewrite(path, {"model.weights.h5": weights.read_bytes()})


def rewrite(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | members
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_weights_that_claim_more_than_the_file_holds_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    embedding_net().save(path)
    bomb(path)
    assert path.stat().st_size < 1 << 20
    assert "(268435456,)" in refused(path).message


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    embedding_net().save(path)
    rewrite(path, {"assets/zeros": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    assert "assets/zeros" in refused(path).message


def test_a_link_out_of_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    embedding_net().save(path)
    with h5py.File(path, "a") as file:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink("other.h5", "/model_weights")
    assert "is a link to another file" in refused(path).message


def test_weights_of_another_shape_are_an_error_of_the_input(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    embedding_net().save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][-1]["config"]["units"] = 7
    config["config"]["layers"][-1]["build_config"] = None
    rewrite(path, {"config.json": json.dumps(config).encode()})
    assert "Keras" in refused(path).message


def test_a_model_says_how_many_ids_its_embedding_knows(tmp_path: Path) -> None:
    import keras
    from keras import layers

    embedding_net().save(tmp_path / "words.keras")
    assert load_model(tmp_path / "words.keras").inputs[0].ids == 20
    digits_net().save(tmp_path / "digits.keras")
    assert load_model(tmp_path / "digits.keras").inputs[0].ids is None
    rows = keras.Input((4,))
    buckets = layers.Discretization(bin_boundaries=[0.5])(rows)
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(2, 3)(buckets)), layers.Dense(2)(rows)])
    keras.Model(rows, both).save(tmp_path / "buckets.keras")
    assert load_model(tmp_path / "buckets.keras").inputs[0].ids is None
    two = layers.Add()([layers.Embedding(30, 3)(rows), layers.Embedding(9, 3)(rows)])
    keras.Model(rows, layers.Flatten()(two)).save(tmp_path / "two.keras")
    assert load_model(tmp_path / "two.keras").inputs[0].ids == 9


def first_dataset(file: Any) -> str:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names[0]


def null_dataset(file: Any) -> None:
    name = first_dataset(file)
    del file[name]
    file[name] = h5py.Empty("f4")


def named_type(file: Any) -> None:
    name = first_dataset(file)
    del file[name]
    file[name] = np.dtype("f4")


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda file: file.attrs.__setitem__("model_config", 7),
        lambda file: file.attrs.__setitem__("model_config", np.arange(3)),
        lambda file: file.attrs.__setitem__("model_config", ""),
        lambda file: file.attrs.__setitem__("model_config", "[]"),
        lambda file: file.attrs.__setitem__("keras_version", 3.0),
        null_dataset,
        named_type,
    ],
    ids=["number", "array", "empty", "list", "version", "null dataset", "named type"],
)
def test_what_no_model_file_holds_is_an_error_of_the_input(corrupt: Callable[[Any], None], tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    digits_net().save(path)
    with h5py.File(path, "r+") as file:
        corrupt(file)
    refused(path)
