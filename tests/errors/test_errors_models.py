"""Every error in a model file, triggered from the outside, one bad file after the other.

At a terminal a model that can't be used is explained and asked for again, so one model process is enough for all.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from error_cases import Dialogue, ErrorCase, ErrorCases, Start, check
from running import ROOT, Place, free_port
from warm import WarmModels

pytestmark = pytest.mark.story
KERAS_2 = ROOT / "tests" / "data" / "keras2"

#: Saves what only Keras can make, good and bad, in the folder that it is given.
MODELS = """
import pathlib, sys
import keras
from keras import Input, Model, Sequential, layers

folder = pathlib.Path(sys.argv[1])

@keras.saving.register_keras_serializable("mine")
class Odd(layers.Layer):
    def call(self, x):
        return x

@keras.saving.register_keras_serializable("mine")
def my_act(x):
    return x * 2

class Own(Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.end = layers.Dense(1)
    def call(self, x):
        return self.end(x)

good = Sequential([Input((2,)), layers.Dense(3, "softmax", name="end")], name="good")
good.compile("adam", "sparse_categorical_crossentropy")
good.save(folder / "good.h5")
good.save(folder / "good.keras")
good.save_weights(folder / "only.weights.h5")
Sequential([Input((2,)), layers.Lambda(lambda x: x * 2, name="twice")]).save(folder / "lambda.keras")
Sequential([Input((2,)), Odd(name="odd_one")]).save(folder / "odd.keras")
Sequential([Input((2,)), layers.Dense(1, my_act, name="doubling")]).save(folder / "function.keras")
Sequential([layers.Dense(1)]).save(folder / "open.keras")
Sequential([Input(batch_shape=(32, 2, 1)), layers.LSTM(1, stateful=True)]).save(folder / "fixed.keras")
Sequential([Input((2,)), layers.Dense(1, dtype="bfloat16", name="small")]).save(folder / "small.keras")
left, right = Input((2,), name="left"), Input((2,), name="right")
Model(left, layers.Dense(1)(left / 2)).save(folder / "divided.h5")
Model({"pair": [left, right]}, layers.Add()([left, right])).save(folder / "nested.keras")
end = layers.Dense(1, name="end")
Model([left, right], [end(left), end(right)]).save(folder / "ends.keras")
many = [Input((1,), name=f"input_{number}") for number in range(65)]
Model(many, layers.Add()(many)).save(folder / "many.keras")
own = Own()
own(keras.ops.zeros((1, 2)))
own.save(folder / "own.keras")
"""

Make = Callable[[Path], object]
BAD: dict[str, tuple[str, tuple[str, ...], Make]] = {}


def bad(name: str, code: str, *causes: str) -> Callable[[Make], Make]:
    """The function makes a file of this name; what must be told of it is this error."""

    def add(make: Make) -> Make:
        BAD[name] = code, causes, make
        return make

    return add


def from_keras(name: str, code: str, *causes: str) -> None:
    """Keras itself saves such a file."""
    BAD[name] = code, causes, lambda path: None


def edited(path: Path, edit: Callable[[Any], object], origin: Path | None = None, version: str = "") -> None:
    """A .keras, made of the good one, with another configuration."""
    with zipfile.ZipFile(origin or path.with_name("good.keras")) as archive:
        config = json.loads(archive.read("config.json"))
    edit(config)
    metadata = {"metadata.json": json.dumps({"keras_version": version}).encode()} if version else {}
    rewritten(path, {"config.json": json.dumps(config).encode(), **metadata}, origin)


def rewritten(
    path: Path, members: dict[str, bytes], origin: Path | None = None, compression: int = zipfile.ZIP_STORED
) -> None:
    """A .keras, made of the good one, with other members or more of them."""
    with zipfile.ZipFile(origin or path.with_name("good.keras")) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | members
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def version(path: Path, number: str) -> None:
    rewritten(path, {"metadata.json": json.dumps({"keras_version": number}).encode()})


def h5(path: Path, edit: Callable[[Any], object]) -> None:
    """An .h5, made of the good one."""
    shutil.copyfile(path.with_name("good.h5"), path)
    with h5py.File(path, "a") as file:
        edit(file)


def compiled(path: Path, **options: object) -> None:
    """An .h5 that was compiled in another way."""

    def edit(file: Any) -> None:
        file.attrs["training_config"] = json.dumps({**json.loads(file.attrs["training_config"]), **options})

    h5(path, edit)


def end(config: Any) -> Any:
    return config["config"]["layers"][-1]


def gru(config: Any) -> Any:
    """The options of the GRU in a file of words."""
    return config["config"]["layers"][-2]["config"]


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


# --- its file ---------------------------------------------------------------------------------------------------

bad("empty.h5", "model.empty")(lambda path: path.write_bytes(b""))
bad("net.txt", "model.unknown-kind", "'.txt'")(lambda path: path.write_text("no model\n" * 100))
bad("net.json", "model.no-architecture", "model.to_json()")(lambda path: path.write_text("{}"))
bad("alone.json", "model.no-weights", "alone.weights.h5")(
    lambda path: path.write_text(json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
)
bad("pickled.h5", "model.foreign-format", "a pickle")(lambda path: path.write_bytes(pickle.dumps({"model": 1})))
bad("text.h5", "model.damaged", "HDF5")(lambda path: path.write_text("no model\n" * 100))
bad("text.keras", "model.damaged", ".keras")(lambda path: path.write_text("no model\n" * 100))
bad("newer.keras", "model.newer-keras", "Keras 3.999.0", "some_new_key", "-U keras")(
    lambda path: edited(path, lambda config: end(config)["config"].update(some_new_key=1), version="3.999.0")
)
bad("first.keras", "model.first-keras-format", "2.12.0")(lambda path: version(path, "2.12.0"))
bad("old.keras", "model.unknown-version", "1.2.2")(lambda path: version(path, "1.2.2"))
bad("bomb.keras", "model.bomb", "assets/zeros")(
    lambda path: rewritten(path, {"assets/zeros": bytes(1 << 24)}, compression=zipfile.ZIP_DEFLATED),
)
bad("config.keras", "model.not-json", "config.json")(lambda path: rewritten(path, {"config.json": b"{"}))
bad("metadata.keras", "model.text-too-long", "metadata.json")(
    lambda path: rewritten(path, {"metadata.json": b" " * (5 << 20)})
)
bad("units.keras", "model.not-loaded", "units=-3")(
    lambda path: edited(path, lambda config: end(config)["config"].update(units=-3))
)
from_keras("only.weights.h5", "model.weights-only")


@bad("zip.keras", "model.no-model-in-zip", "model.weights.h5")
def a_zip_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")


@bad("large.keras", "model.too-large", "16 GiB")
def an_archive_that_claims_17_gib(path: Path) -> None:
    shutil.copyfile(path.with_name("good.keras"), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/large", b"")
        archive.filelist[-1].file_size = archive.filelist[-1].compress_size = 17 << 30


@bad("link.h5", "model.link", "model_weights")
def a_link_to_another_file(path: Path) -> None:
    def edit(file: Any) -> None:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink("other.h5", "/model_weights")

    h5(path, edit)


@bad("outside.h5", "model.array-outside", "more")
def an_array_in_another_file(path: Path) -> None:
    h5(path, lambda file: file.create_dataset("more", (4,), "f4", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)]))


@bad("objects.h5", "model.array-of-objects", "more")
def an_array_of_strings(path: Path) -> None:
    h5(path, lambda file: file.create_dataset("more", data=["a", "b"], dtype=h5py.string_dtype()))


@bad("zeros.h5", "model.array-too-large", "(268435456,)")
def a_gibibyte_of_zeros(path: Path) -> None:
    h5(path, lambda file: file.create_dataset("more", (1 << 28,), "f4", chunks=(1 << 20,), compression="gzip"))


# --- what it takes and gives, and what it is made of ------------------------------------------------------------

from_keras("open.keras", "model.no-input-shape")
from_keras("nested.keras", "model.nested-arrays", "nested", "one list, or one dict")
from_keras("ends.keras", "model.array-name", "'end'", "a different, short name")
from_keras("many.keras", "model.many-arrays", "65 input arrays")
from_keras("fixed.keras", "model.fixed-batch", "32 rows")
from_keras("small.keras", "model.dtype", "small/kernel", "bfloat16")
from_keras("own.keras", "model.no-model", "'Own'")
from_keras("lambda.keras", "model.refused-class", "layer 'twice'", "contains code")
from_keras("odd.keras", "model.foreign-class", "layer 'odd_one'", "Odd")
from_keras("function.keras", "model.foreign-function", "layer 'doubling'", "my_act")
from_keras("divided.h5", "model.not-in-h5", "layer 'true_divide'", "TrueDivide")
bad("lookup.keras", "model.lookup", "layer 'end'", "StringLookup")(
    lambda path: edited(path, lambda config: end(config).update(class_name="StringLookup"))
)
bad("newer.keras", "model.operation", "layer 'end'", "AddEverything")(
    lambda path: edited(
        path, lambda config: end(config).update(class_name="AddEverything", module="keras.src.ops.numpy")
    )
)
bad("registered.keras", "model.registered", "layer 'end'", "'Mine>Dense'")(
    lambda path: edited(path, lambda config: end(config).update(registered_name="Mine>Dense"))
)
bad("number.keras", "model.spoilt-part", "layer 'end'", "as a name")(
    lambda path: edited(path, lambda config: end(config).update(class_name=3))
)
bad("list.keras", "model.spoilt-part", "the class Dense without a dict")(
    lambda path: edited(path, lambda config: end(config).update(config=[]))
)
bad("deep.keras", "model.too-deep", "100")(
    lambda path: edited(path, lambda config: end(config)["config"].update(more=nested(200)))
)

# --- a file of Keras 2 ------------------------------------------------------------------------------------------

PICTURES = KERAS_2 / "pictures.keras"
bad("layers.keras", "model.not-keras-2", "layers.keras: the architecture")(
    lambda path: edited(path, lambda config: config["config"].update(layers=7), PICTURES)
)
WORDS = KERAS_2 / "words.keras"
bad("sigmoid.keras", "model.hard-sigmoid", "sigmoid.keras: layer 'gru'")(
    lambda path: edited(path, lambda config: gru(config).update(activation="hard_sigmoid"), WORDS)
)
bad("units2.keras", "model.not-built", "units2.keras: ", "units=-3")(
    lambda path: edited(path, lambda config: end(config)["config"].update(units=-3), PICTURES)
)

# --- how it is compiled -----------------------------------------------------------------------------------------

#: Loads: what is wrong with it shows at the questions that another answer is given to.
OWN = "own.h5"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the good models and all the bad ones."""
    folder = tmp_path_factory.mktemp("bad_models")
    subprocess.run([sys.executable, "-c", MODELS, folder], check=True, capture_output=True)
    for name, (_, _, make) in BAD.items():
        make(folder / name)
    compiled(folder / OWN, optimizer_config=7, loss="my_loss", metrics=["accuracy", "f1_m"])
    shutil.copyfile(folder / "good.h5", folder / "good.HDF5")
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.write(folder / "good.h5", "keras_model.h5")
    shutil.copyfile(folder / "only.weights.h5", folder / "second.weights.h5")  # which of the two is nobody's guess
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"a graph")
    return folder


@pytest.fixture
def place(tmp_path: Path, models: Path) -> Place:
    place = Place(tmp_path / "work")
    shutil.copytree(models, place.root / "model", dirs_exist_ok=True)
    return place


def test_every_bad_model_is_explained_and_requested_again(place: Place) -> None:
    """So are, after a good one, an optimizer, a loss and a data set that do not exist."""
    answered = {"host": "127.0.0.1", "port": free_port(), "clients": 1, "epochs": 1, "batch_size": 2}
    arguments = [part for key, value in answered.items() for part in (f"--{key.replace('_', '-')}", value)]
    with place.server(*arguments, terminal=True) as server:
        dialogue = Dialogue(server)
        dialogue.answer("Start training", "Y")
        for name, (code, causes, _) in BAD.items():
            dialogue.answer("Model [", name)
            output = dialogue.explains(code, "Model [")
            for cause in (name, *causes):
                assert cause in output, f"{cause} is not named in:\n{output}"
        for name, code, cause in [
            ("packed.zip", "model.packed", "keras_model.h5"),
            ("saved", "model.saved-model", "2.15"),
        ]:
            dialogue.answer("Model [", name)
            assert cause in dialogue.explains(code, "Model [")
        dialogue.answer("Model [", OWN)
        dialogue.answer("Optimizer", "")
        assert "--optimizer adam" in dialogue.explains("compile.in-file", "Optimizer")
        dialogue.answer("Optimizer", "adm")
        assert "'adam'" in dialogue.explains("compile.unknown-name", "Optimizer")
        dialogue.answer("Optimizer", "adam")
        dialogue.answer("Loss", "")
        assert "'my_loss'" in dialogue.explains("compile.in-file", "Loss")
        dialogue.answer("Loss", "crossentropy")
        dialogue.explains("compile.unknown-name", "Loss")
        dialogue.answer("Loss", "sparse_categorical_crossentropy")
        assert "f1_m" in dialogue.answer("3 keras", "3")
        dialogue.answer("Keras dataset", "mnst")
        assert "'mnist'" in dialogue.explains("set.unknown", "Keras dataset")
        server.interrupt()
        server.finish(130)
    assert "Traceback" not in server.output


ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with


@fails_with("model.nested-arrays", "nested.keras")
def nested_inputs(place: Place) -> Start:
    return Start({"model": "nested.keras"})


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_without_a_terminal_a_bad_model_ends_the_server(place: Place, case: ErrorCase, warm: WarmModels) -> None:
    check(place, case, warm, clients=1)
