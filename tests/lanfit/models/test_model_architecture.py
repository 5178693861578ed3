"""What may be built from an architecture, and what is refused however it is wrapped up."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.errors import InputError
from lanfit.models import allowlist
from lanfit.models.architecture import MAX_BYTES, build, check_architecture, check_objects
from lanfit.models.operations import CALLING, OPERATIONS


def part(class_name: str, module: str | None, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def layer(class_name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return part(class_name, module, **{"name": class_name.lower(), **config})


def sequential(*layers: Any, **extra: Any) -> dict[str, Any]:
    model = {"module": "keras", "class_name": "Sequential", "registered_name": None}
    return {**model, "config": {"name": "net", "layers": list(layers)}, **extra}


def check(config: Any) -> None:
    check_architecture(json.dumps(config))


INPUT = layer("InputLayer", batch_shape=[None, 4])
GOOD = sequential(
    INPUT,
    layer(
        "Dense",
        units=3,
        activation="relu",
        dtype=part("DTypePolicy", "keras", name="float32"),
        kernel_initializer=part("GlorotUniform", "keras.initializers"),
        kernel_regularizer=part("L2", "keras.regularizers"),
    ),
)

LAMBDA = layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEAAAA="}})
HOSTILE = {
    "a Lambda": LAMBDA,
    "a TFSMLayer": layer("TFSMLayer", filepath="/tmp/program"),
    "a TorchModuleWrapper": layer("TorchModuleWrapper", module="gASV"),
    "a JaxLayer": layer("JaxLayer"),
    "a FlaxLayer": layer("FlaxLayer"),
    "a vocabulary that is read from a file": layer("StringLookup", vocabulary="/etc/passwd"),
    "a custom layer": layer("Mine", None),
    "a layer of another package": layer("Dense", "os"),
    "a module that merely begins like Keras": layer("Dense", "keras.layers.evil"),
    "a package that merely begins like Keras": layer("Dense", "keras_cv.layers"),
    "a function of Keras that reads files": layer("load_model", "keras.saving"),
    "a class of Keras that is no layer": layer("LambdaCallback", "keras.callbacks"),
    "a name registered over a built-in": {**layer("Dense"), "registered_name": "evil>Dense"},
    "a registered name without a module": {**layer("Dense", None), "registered_name": "Dense"},
    "a module that is a list": layer("Dense", ["keras.layers"]),  # type: ignore[arg-type]
    "a class name that is a list": {"module": "keras.layers", "class_name": ["Dense"], "config": {}},
    "a layer without a module": {"class_name": "Dense", "config": {"units": 3}},
    "a configuration that is a list": {"module": "keras.layers", "class_name": "Dense", "config": [1]},
    "a bare lambda": {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    "a type specification": {
        "class_name": "__typespec__",
        "spec_name": "TensorSpec",
        "module": "tensorflow",
        "registered_name": None,
        "config": [[1], "float32"],
    },
    "a TypeSpec of the old format": {"class_name": "TypeSpec", "type_spec": "tf.TensorSpec", "serialized": []},
    "bytes": {"class_name": "__bytes__", "config": {"value": "x"}},
    "an array of objects": {"class_name": "__numpy__", "config": {"value": [None], "dtype": "object"}},
    "an array with something inside": {
        "class_name": "__tensor__",
        "config": {"value": [{"class_name": "Lambda"}], "dtype": "float32"},
    },
    "an array whose dtype is a list": {"class_name": "__numpy__", "config": {"value": [1], "dtype": ["f4"]}},
    "a function from elsewhere": {"module": "os", "class_name": "function", "config": "system"},
    "a function that is not Keras' own": {"module": "builtins", "class_name": "function", "config": "eval"},
    "a function of Keras that makes objects": {
        "module": "keras.activations",
        "class_name": "function",
        "config": "deserialize",
    },
    "a function registered by someone": {
        "module": "builtins",
        "class_name": "function",
        "config": "relu",
        "registered_name": "evil>relu",
    },
    "a class without a configuration": {"class_name": "Lambda"},
    "a lambda in the options of an operation": layer("Take", "keras.src.ops.numpy", axis={"class_name": "__lambda__"}),
    "an operation that maps a function": layer("Map", "keras.src.ops.core"),
    "a function of Keras that is no operation": layer("custom_gradient", "keras.src.ops.core"),
    "an operation of another module": layer("Add", "keras.src.ops.core"),
    "several optimizers": part("MultiOptimizer", "keras.optimizers"),
    "a shared object": {**LAMBDA, "shared_object_id": 1},
}
PLACES = {
    "as a layer": lambda bad: sequential(INPUT, bad),
    "in a layer of a layer": lambda bad: sequential(INPUT, layer("TimeDistributed", layer=bad)),
    "in a model in a model": lambda bad: sequential(INPUT, sequential(INPUT, sequential(bad))),
    "as an initializer": lambda bad: sequential(INPUT, layer("Dense", units=3, kernel_initializer=bad)),
    "in a list in a list": lambda bad: sequential(INPUT, layer("StackedRNNCells", cells=[[bad]])),
    "in the arguments of a call": lambda bad: sequential(
        {**layer("Dense"), "inbound_nodes": [{"args": [bad], "kwargs": {"x": 1}}]}
    ),
    "in the build options": lambda bad: sequential(INPUT, build_config={"input_shape": bad}),
    "in the compile options": lambda bad: sequential(INPUT, compile_config={"loss": bad}),
    "under a key that Keras does not know": lambda bad: sequential(INPUT, {**layer("Dense"), "extra": [bad]}),
}


def test_a_model_of_built_in_parts_is_accepted() -> None:
    check(GOOD)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bad", HOSTILE)
def test_what_is_not_built_in_is_refused_wherever_it_stands(bad: str, place: str) -> None:
    with pytest.raises(InputError) as error:
        check(PLACES[place](HOSTILE[bad]))
    assert error.value.hint


def test_a_refused_layer_is_named_with_its_class_and_the_reason() -> None:
    with pytest.raises(InputError, match=r"layer 'crop': the class Lambda is not accepted: it contains code"):
        check(sequential(INPUT, layer("Lambda", name="crop")))


def test_a_refused_part_is_named_by_the_layer_it_is_in() -> None:
    bad = {"module": "builtins", "class_name": "function", "config": "my_act", "registered_name": "my_act"}
    with pytest.raises(InputError, match=r"layer 'hidden': the function 'my_act'"):
        check(sequential(INPUT, layer("Dense", name="hidden", activation=bad)))


def test_operations_of_keras_are_accepted() -> None:
    for module, names in OPERATIONS.items():
        check(sequential(INPUT, *(layer(name, module) for name in sorted(names))))


def test_an_operation_that_calls_a_function_is_refused_with_the_reason() -> None:
    for name in sorted(CALLING):
        with pytest.raises(InputError, match=f"the class {name} is not accepted: it calls a function, which is code"):
            check(sequential(INPUT, layer(name, "keras.src.ops.core")))


def test_an_operation_that_this_keras_does_not_have_is_refused_with_the_advice_to_use_a_layer() -> None:
    with pytest.raises(InputError) as error:
        check(sequential(INPUT, layer("AddEverything", "keras.src.ops.numpy")))
    assert error.value.code == "model.operation"
    assert "keras.layers.Add()" in error.value.hint


def test_what_keras_can_not_read_back_from_an_h5_is_refused_from_one_with_the_other_format() -> None:
    for name in ("TrueDivide", "GetItem", "LayerScale", "ThresholdedReLU"):
        config = {"class_name": "Sequential", "config": {"name": "net", "layers": [{"class_name": name, "config": {}}]}}
        with pytest.raises(InputError) as error:
            check_architecture(json.dumps(config), h5=True)
        assert error.value.code == "model.not-in-h5"
        assert "model.save('net.keras')" in error.value.hint


def test_a_lookup_layer_is_refused_with_the_advice_to_apply_it_to_the_data() -> None:
    with pytest.raises(InputError) as error:
        check(sequential(INPUT, layer("StringLookup", vocabulary=["a", "b"])))
    assert error.value.code == "model.lookup"
    assert "keras.layers.StringLookup(...)(x)" in error.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"Sequential"', "null", '{"class_name": ["Sequential"]}'])
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        check_architecture(text)


def test_a_layer_alone_is_no_model() -> None:
    with pytest.raises(InputError, match="'Dense'"):
        check(layer("Dense"))


def test_a_text_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="at most"):
        check_architecture(" " * (MAX_BYTES + 1))


@pytest.mark.parametrize("depth", [200, 100_000])
def test_nesting_without_end_is_refused(depth: int) -> None:
    text = json.dumps(sequential(INPUT, "HERE")).replace('"HERE"', "[" * depth + "]" * depth)
    with pytest.raises(InputError):
        check_architecture(text)


def test_layers_without_a_module_are_accepted_from_an_h5_only() -> None:
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": [{"class_name": "Dense", "config": {}}]}}
    check_architecture(json.dumps(config), h5=True)
    with pytest.raises(InputError):
        check(config)


def test_a_lambda_without_a_module_is_refused_from_an_h5_too() -> None:
    bad = {"class_name": "Lambda", "config": {"name": "crop", "function": ["4wEAAAA=", None, None]}}
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": [bad]}}
    with pytest.raises(InputError, match="'crop'"):
        check_architecture(json.dumps(config), h5=True)


def test_constants_of_numbers_are_accepted() -> None:
    value = {"class_name": "__numpy__", "config": {"value": [[1, 2.5], [3, 4]], "dtype": "float32"}}
    check(sequential(INPUT, layer("Rescaling", scale=value)))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["class_name", "config", "module", "registered_name", "x"]), inner)
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_any_json_is_accepted_or_refused_but_never_breaks_the_check(value: Any) -> None:
    try:
        check(sequential(INPUT, value))
    except InputError:
        assert "class_name" in json.dumps(value)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, as the keys that lead to it."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path, *(deeper for key in keys for deeper in paths(value[key], (*path, key)))]


@pytest.mark.parametrize("path", [path for path in paths(GOOD) if path], ids=lambda path: "/".join(map(str, path)))
def test_a_lambda_put_in_the_place_of_any_part_is_refused(path: tuple[Any, ...]) -> None:
    config = copy.deepcopy(GOOD)
    *way, last = path
    place: Any = config
    for key in way:
        place = place[key]
    place[last] = LAMBDA
    with pytest.raises(InputError):
        check(config)


def test_the_check_imports_neither_keras_nor_tensorflow() -> None:
    code = (
        "import sys, lanfit.models.architecture as a, lanfit.models.compiling as c\n"
        "c.override(None, 'adam', 'mse')\n"
        f"a.check_architecture({json.dumps(GOOD)!r})\n"
        "print([m for m in ('keras', 'tensorflow', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.keras
def test_the_lists_are_those_of_the_installed_keras() -> None:
    import keras
    from keras.src.api_export import REGISTERED_NAMES_TO_OBJS

    def exported(module: str, base: type) -> set[str]:
        return {
            name.rpartition(".")[2]
            for name, value in REGISTERED_NAMES_TO_OBJS.items()
            if name.rpartition(".")[0] == module and inspect.isclass(value) and issubclass(value, base)
        }

    assert exported("keras.layers", keras.layers.Layer) == allowlist.LAYERS | set(allowlist.REFUSED) & {
        *dir(keras.layers),
    }
    assert exported("keras._legacy.layers", keras.layers.Layer) == allowlist.LEGACY_LAYERS
    assert exported("keras.initializers", keras.initializers.Initializer) == allowlist.INITIALIZERS
    assert exported("keras.regularizers", keras.regularizers.Regularizer) == allowlist.REGULARIZERS
    assert exported("keras.constraints", keras.constraints.Constraint) - {"Constraint"} == allowlist.CONSTRAINTS
    left_out = {"MultiOptimizer", "LossScaleOptimizer"}
    assert exported("keras.optimizers", keras.optimizers.Optimizer) - left_out == allowlist.OPTIMIZERS
    policies = exported("keras.dtype_policies", keras.DTypePolicy)
    assert policies == {"DTypePolicyMap", *(name for name in allowlist.REFUSED if name.endswith("DTypePolicy"))}
    schedules = exported("keras.optimizers.schedules", keras.optimizers.schedules.LearningRateSchedule)
    assert schedules - {"LearningRateSchedule"} == allowlist.SCHEDULES
    losses = exported("keras.losses", keras.losses.Loss)
    assert losses - {"CategoricalGeneralizedCrossEntropy"} == allowlist.LOSSES
    metrics = exported("keras.metrics", keras.metrics.Metric)
    assert metrics - {"Mean", "Sum"} == allowlist.METRICS | allowlist.CONFIGURED_METRICS
    functions = {name.removeprefix("keras.activations.") for name in REGISTERED_NAMES_TO_OBJS if "activations." in name}
    assert functions - {"get", "serialize", "deserialize"} == allowlist.ACTIVATIONS


def descendants(base: type) -> set[type]:
    return {each for cls in base.__subclasses__() for each in (cls, *descendants(cls))}


@pytest.mark.keras
def test_the_classes_without_a_public_name_are_those_of_the_installed_keras() -> None:
    """Operations, which Keras writes by the module they are from, and the layers of its applications."""
    import keras.src.applications
    import keras.src.ops

    for package in (keras.src.applications, keras.src.ops):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("_test"):
                importlib.import_module(module.name)
    found: dict[str, set[str]] = {}
    for cls in descendants(keras.Operation):
        if re.match(r"keras\.src\.(ops|activations|applications)\.", cls.__module__) and cls.__module__ not in (
            "keras.src.ops.operation",
            "keras.src.ops.function",
        ):
            found.setdefault(cls.__module__, set()).add(cls.__name__)
    known_ones = {**OPERATIONS, **allowlist.OF_APPLICATIONS}
    assert {module: names - CALLING for module, names in found.items()} == known_ones


@pytest.mark.keras
def test_an_operation_that_takes_a_function_is_none_of_the_accepted_ones() -> None:
    functions = {"f", "fun", "function", "body", "body_fun", "cond", "branches", "true_fn", "false_fn"}
    for module, names in OPERATIONS.items():
        for name in names:
            cls = getattr(importlib.import_module(module), name)
            for method in (cls.__init__, cls.call):
                assert not functions & set(inspect.signature(method).parameters), name


@pytest.mark.keras
def test_keras_builds_what_was_accepted() -> None:
    assert build(json.dumps(GOOD)).count_params() == 15


@pytest.mark.keras
def test_what_keras_can_not_build_is_an_error_of_the_input() -> None:
    broken = sequential(INPUT, layer("Dense", units=-3))
    check(broken)
    with pytest.raises(InputError, match=r"can't be built with Keras .*units=-3"):
        build(json.dumps(broken))


def test_compile_options_are_checked_like_layers() -> None:
    with pytest.raises(InputError):
        check_objects({"loss": {"module": "mine", "class_name": "Loss", "config": {}}}, "")


def test_an_error_says_what_kind_of_part_it_is_about_and_where_that_is_from() -> None:
    own = {"class_name": "Own", "config": {"name": "adam_4"}, "registered_name": "mine>Own"}
    with pytest.raises(InputError, match=r"^optimizer 'adam_4': the class Own from 'mine' is not accepted"):
        check_objects({**own, "module": "mine"}, "", kind="optimizer")
    with pytest.raises(InputError, match=r"^layer 'adam_4': the class Own is not accepted"):
        check_objects({**own, "module": None}, "")
