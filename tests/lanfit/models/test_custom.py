"""Custom objects: which files are allowed, what is executed of them, and what a model may use of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compile_options import read_config

from lanfit.errors import InputError
from lanfit.models import custom, custom_files
from lanfit.models.architecture import build, check_architecture
from lanfit.models.compiling import loss_name, read_spec
from lanfit.wire.tasks import CustomFile

SOURCE = '''
import keras

class Double(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x

@keras.saving.register_keras_serializable("mine")
class Triple(keras.layers.Layer):
    def call(self, x):
        return 3.0 * x

class Dense(keras.layers.Dense):
    """It has the name of a layer of Keras."""

@keras.saving.register_keras_serializable("mine")
class Flatten(keras.layers.Layer):
    def call(self, x):
        return x + 1.0

class Pinball(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

class Weighted(keras.losses.BinaryCrossentropy):
    pass

def bent(x):
    return keras.ops.maximum(x, 0.1 * x)

def _secret(x):
    raise SystemExit
'''


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "layers_of_mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    custom.forget()


def part(class_name: str, registered: object = ..., module: str = "layers_of_mine", config: Any = None) -> Any:
    name = class_name if registered is ... else registered
    config = {"name": class_name.lower()} if config is None else config
    return {"module": module, "class_name": class_name, "config": config, "registered_name": name}


def net(*layers: Any) -> str:
    first = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, 3], "name": "rows"},
        "registered_name": None,
    }
    config = {"name": "net", "layers": [first, *layers]}
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None})


def function(name: str, **changes: Any) -> Any:
    found = {"module": "layers_of_mine", "class_name": "function", "config": name, "registered_name": name}
    return found | changes


# --- files that are read and not executed ------------------------------------------------------------------------


def test_allowing_a_file_executes_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "loud.py"
    path.write_text("raise SystemExit\ndef one(): pass\nclass Two: pass\n")

    file = custom_files.allow(path)

    assert (file.name, len(file.sha256)) == ("loud.py", 64)
    assert custom_files.defined_names(path) == {"one", "Two"}


def test_two_copies_of_a_file_are_the_same_file_and_a_changed_one_is_another(tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("a.py", "b.py", "c.py"))
    first.write_text("x = 1\n")
    copy.write_text("x = 1\n")
    other.write_text("x = 2\n")
    needed = [custom_files.allow(first).spec]

    assert [file.name for file in custom_files.Allowed([copy]).of(needed)] == ["b.py"]
    assert custom_files.lacking(needed, custom_files.Allowed([copy]).specs) == ""
    assert "does not allow a.py" in custom_files.lacking(needed, custom_files.Allowed([other]).specs)


def test_a_client_without_the_file_gets_its_name_its_hash_and_the_flag(layers: Path) -> None:
    needed = [custom_files.allow(layers).spec]

    with pytest.raises(InputError) as error:
        custom_files.Allowed().of(needed)

    assert "layers_of_mine.py" in error.value.message
    assert needed[0].sha256[:12] in error.value.message
    assert "--custom-objects layers_of_mine.py" in error.value.hint


def test_a_client_with_another_file_gets_both_hashes_and_the_missing_classes(layers: Path) -> None:
    needed = [custom_files.allow(layers).spec]
    (layers.parent / "own").mkdir()
    own = layers.parent / "own" / layers.name
    own.write_text("class Double: pass\n")
    allowed = custom_files.Allowed([own])

    with pytest.raises(InputError) as error:
        allowed.of(needed, ["Double", "mine>Triple"])

    assert needed[0].sha256[:12] in error.value.message
    assert allowed.specs[0].sha256[:12] in error.value.message
    assert "; mine>Triple is missing in it" in error.value.message
    reported = custom_files.lacking(needed, allowed.specs)
    assert all(file.sha256[:12] in reported for file in (*needed, *allowed.specs))


def test_a_pinned_file_is_refused_once_it_has_changed(layers: Path) -> None:
    pinned = custom_files.pinned(custom_files.allow(layers), layers.name)
    assert custom_files.allow_named([pinned], [layers.parent])[0].path == str(layers)
    layers.write_text("x = 1\n")

    with pytest.raises(InputError, match="has changed: its SHA-256 starts with"):
        custom_files.allow_named([pinned], [layers.parent])


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("no.py", None, "custom.no-file"),
        ("layers.txt", "x = 1", "custom.not-python"),
        ("half.py", "def f(:\n", "custom.unreadable"),
        ("large.py", "#" * (custom_files.MAX_BYTES + 1), "custom.too-large"),
    ],
)
def test_what_is_no_readable_python_is_refused(tmp_path: Path, name: str, content: str | None, code: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as error:
        custom_files.allow(tmp_path / name)
    assert error.value.code == code


@pytest.mark.parametrize("name", ["../my.py", "a/b.py", "a\\b.py", "", "a\nb.py", "x" * 101])
def test_a_peer_can_name_a_file_only_by_a_plain_name(name: str) -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": name, "sha256": "0" * 64}, CustomFile)


# --- files that are executed --------------------------------------------------------------------------------------


@pytest.mark.keras
def test_a_model_of_custom_layers_is_built_once_its_file_is_loaded_and_not_before(layers: Path) -> None:
    model = net(part("Double"), part("Triple", "mine>Triple"))
    with pytest.raises(InputError, match="not built into Keras"):
        check_architecture(model)

    custom.use([custom_files.allow(layers)])

    assert build(model)(np.ones((1, 3), "float32")).numpy().tolist() == [[6.0, 6.0, 6.0]]
    assert custom.names_in(json.loads(model)) == {"Double": "class", "Triple": "class"}
    custom.forget()
    with pytest.raises(InputError, match="not built into Keras"):
        check_architecture(model)


@pytest.mark.keras
@pytest.mark.parametrize(
    "hostile",
    [
        part("Other"),
        part("Popen", module="subprocess"),
        part("Double", None),  # Keras would import the module
        part("Double", None, module="subprocess"),
        part("Popen", "Double", module="subprocess"),
        part("Triple", "mine>Double"),
        part("Dense", "Dense"),
        part("Double", config=["no", "table"]),
        part("bent"),
        function("_secret"),
        function("system", module="os"),
        function("Double"),
        part("Lambda", "Lambda"),
        {**part("Double"), "config": {"inner": part("Popen", module="subprocess")}},
    ],
    ids=lambda value: f"{value['class_name']}-{value['registered_name']}-{value['module']}",
)
def test_nothing_but_what_the_loaded_file_defines_is_accepted(layers: Path, hostile: Any) -> None:
    custom.use([custom_files.allow(layers)])
    with pytest.raises(InputError):
        check_architecture(net(hostile))


@pytest.mark.keras
def test_a_class_that_the_file_does_not_define_is_named_with_the_file(layers: Path) -> None:
    custom.use([custom_files.allow(layers)])
    with pytest.raises(
        InputError, match=r"layer 'patches': the class Patches is not defined in layers_of_mine\.py"
    ) as e:
        check_architecture(net(part("Patches")))
    assert e.value.code == "custom.missing"
    with pytest.raises(InputError, match="the function no is not defined"):
        check_architecture(net(part("Double", config={"name": "d", "activation": function("no")})))


@pytest.mark.keras
def test_a_class_with_the_name_of_a_layer_of_keras_takes_nobodys_place(layers: Path) -> None:
    custom.use([custom_files.allow(layers)])
    dense = {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"name": "dense", "units": 2},
        "registered_name": None,
    }
    import keras

    assert type(build(net(dense)).layers[0]) is keras.layers.Dense
    with pytest.raises(InputError) as error:
        check_architecture(net(part("Dense", "Dense")))
    assert error.value.code == "custom.keras-name"
    # What the hint says helps.
    registered = build(net(part("Flatten", "mine>Flatten")))
    assert registered(np.ones((1, 3), "float32")).numpy().tolist() == [[2.0, 2.0, 2.0]]


@pytest.mark.keras
def test_only_what_all_names_is_offered_where_there_is_an_all(layers: Path) -> None:
    layers.write_text('__all__ = ["Double"]\n' + SOURCE)
    custom.use([custom_files.allow(layers)])

    check_architecture(net(part("Double")))
    with pytest.raises(InputError, match="bent"):
        check_architecture(net(part("Double", config={"name": "d", "activation": function("bent")})))


@pytest.mark.keras
def test_the_file_that_is_executed_is_the_one_that_was_allowed(layers: Path) -> None:
    file = custom_files.allow(layers)
    layers.write_text("raise SystemExit\n")

    with pytest.raises(InputError, match="has changed: its SHA-256 starts with"):
        custom.use([file])
    assert custom.loaded_files() == ()


@pytest.mark.keras
def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "fails.py"
    path.write_text("import keras\n\nfrom helpers_beside_it import thing\n")

    with pytest.raises(
        InputError, match=r"fails.py can't be executed: ModuleNotFoundError: .*helpers.* \(line 3\)"
    ) as e:
        custom.use([custom_files.allow(path)])
    assert e.value.code == "custom.failed"
    assert custom.loaded_files() == ()


@pytest.mark.keras
def test_two_files_that_define_the_same_name_are_refused(layers: Path) -> None:
    other = layers.parent / "other_layers.py"
    other.write_text("import keras\nclass Double(keras.layers.Layer): pass\n")

    with pytest.raises(InputError, match=r"layers_of_mine\.py and other_layers\.py both define Double") as e:
        custom.use([custom_files.allow(layers), custom_files.allow(other)])
    assert e.value.code == "custom.two-of-a-name"


@pytest.mark.keras
def test_losses_are_taken_by_what_they_are_made_of(layers: Path) -> None:
    custom.use([custom_files.allow(layers)])
    spec = read_config(json.dumps({"optimizer": "adam", "loss": function("bent"), "metrics": [part("Pinball")]}))
    assert spec is not None
    assert loss_name(spec) == "bent"
    assert read_spec(spec.to_json()) == spec
    spec = read_config(json.dumps({"optimizer": "adam", "loss": part("Weighted")}))
    assert spec is not None
    assert loss_name(spec) == "binary_crossentropy"
    spec = read_config(json.dumps({"optimizer": "adam", "loss": "bent"}))
    assert spec is not None
    assert loss_name(spec) == "bent"


@pytest.mark.keras
def test_a_method_of_training_of_ones_own_is_named() -> None:
    import keras

    class Own(keras.Model):
        def train_step(self, data: Any) -> Any:
            return {}

    class Plain(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    assert (custom.own_training(Own), custom.own_training(Plain)) == ("train_step", "")
    with pytest.raises(InputError, match=r"the class Own has its own train_step\(\)") as e:
        custom.check_training(Own(), "net.keras")
    assert e.value.code == "custom.own-training"
