"""Models with several inputs and outputs: what `cluster.fit` takes, what a job makes of it, what clients refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from error_tables import ERRORS

from lanfit.data.labels import Target
from lanfit.data.normalize import Normalizer
from lanfit.data.prepare import DataRequest, prepare
from lanfit.data.shard import Normalizers, Samples
from lanfit.errors import InputError, LanfitError
from lanfit.models.compiling import CompileSpec, OutputOptions, loss_name, override, read_options, read_spec
from lanfit.settings.job import FIELDS, make_job
from lanfit.training.metrics import as_keras, with_compiled
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import ArraySpec, BlockSpec
from lanfit.wire.messages import FitTask, InputSpec, Lease, Model, OutputSpec, Runtime
from lanfit_client.limits import check_lease
from lanfit_server.api.datasets import Names, _arrays
from lanfit_server.api.rows import class_weights, rows_of
from lanfit_server.data.prepare import specs_of
from lanfit_server.models.handle import Loaded, LoadedInput, LoadedOutput
from lanfit_server.store.array_source import ArraySource
from lanfit_server.store.ledger import labels_by_target, preprocessing_of, recorded_labels

N = 12
LEFT, RIGHT = np.arange(2.0 * N).reshape(N, 2), np.arange(N).reshape(N, 1)
KIND, PRICE = np.arange(N) % 3, np.arange(N) * 2.0
LISTS = Names(("left", "right"), ("kind", "price"))
DICTS = Names(("left", "right"), ("kind", "price"), takes_dict=True, gives_dict=True)
OUTPUTS = (OutputSpec("kind", (None, 3), Target.CLASSES), OutputSpec("price", (None, 1), Target.VALUES))


def rows(x: Any, y: Any, names: Names = LISTS, weights: Any = None) -> Any:
    return rows_of(x, y, weights, 2, needs_targets=True, names=names)


@pytest.mark.parametrize("names", [LISTS, DICTS])
@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_arrays_come_in_lists_tuples_and_dicts(names: Names, kind: type) -> None:
    if kind is dict:
        found = rows({"right": RIGHT, "left": LEFT}, {"price": PRICE, "kind": KIND}, names)
    elif names is DICTS:
        with pytest.raises(InputError, match="2 arrays in a list") as wrong:
            rows(kind([LEFT, RIGHT]), kind([KIND, PRICE]), names)
        assert wrong.value.code == "fit.several-arrays"
        return
    else:
        found = rows(kind([LEFT, RIGHT]), kind([KIND, PRICE]), names)
    assert (list(found.inputs), list(found.targets)) == (["left", "right"], ["kind", "price"])
    np.testing.assert_array_equal(found.inputs["right"], RIGHT)
    np.testing.assert_array_equal(found.targets["price"], PRICE)


@pytest.mark.parametrize(
    ("x", "y", "code", "output"),
    [
        (LEFT, [KIND, PRICE], "fit.several-arrays", "x is one array, but the model has 2 arrays there: left, right"),
        ([LEFT, RIGHT], [KIND], "fit.several-arrays", "y is 1 arrays in a list"),
        ({"left": LEFT}, [KIND, PRICE], "fit.array-missing", "x has no array right"),
        ([LEFT, RIGHT[:5]], [KIND, PRICE], "fit.lengths", 'x["right"] has 5'),
        ([LEFT, RIGHT], None, "fit.no-targets", ""),
        ([LEFT, np.array(["a"] * N)], [KIND, PRICE], "fit.not-rows", 'x["right"] is text'),
    ],
)
def test_what_does_not_say_which_array_is_which_is_refused(x: Any, y: Any, code: str, output: str) -> None:
    with pytest.raises(InputError) as wrong:
        rows(x, y)
    assert wrong.value.code == code
    assert output in wrong.value.message


def test_a_row_has_one_weight_for_all_outputs() -> None:
    assert rows([LEFT, RIGHT], [KIND, PRICE], weights=np.ones(N)).weights.shape == (N,)
    for weights in ({"kind": np.ones(N)}, [np.ones(N), np.ones(N)]):
        with pytest.raises(InputError) as wrong:
            rows([LEFT, RIGHT], [KIND, PRICE], weights=weights)
        assert wrong.value.code == "fit.sample-weight"
    with pytest.raises(InputError) as wrong:
        class_weights({0: 1.0}, rows([LEFT, RIGHT], [KIND, PRICE]), 3)
    assert wrong.value.code == "fit.class-weight"


def test_an_array_that_the_model_does_not_have_is_left_out_and_that_is_reported() -> None:
    found = rows({"left": LEFT, "right": RIGHT, "more": LEFT}, [KIND, PRICE])
    assert found.notes == ("more: not used: the model has no array of that name.",)


@pytest.mark.parametrize("element", [((LEFT, RIGHT), (KIND, PRICE)), ({"right": RIGHT, "left": LEFT}, (KIND, PRICE))])
def test_elements_of_datasets_are_nested_in_the_same_ways(element: Any) -> None:
    found = _arrays((*element, np.ones(N)), "tf.data.Dataset", LISTS)
    assert [name for _, name in found] == ["left", "right", "kind", "price", ""]
    np.testing.assert_array_equal(found["inputs", "right"], RIGHT)


def test_rows_of_a_program_lie_in_a_block_under_their_names_and_words_stay_words(tmp_path: Path) -> None:
    words = np.array(["cow", "hen", "yak"])[KIND]
    given = Samples({"left": LEFT, "right": RIGHT}, {"kind": words, "price": PRICE}, np.arange(N, dtype=np.float32))
    source = ArraySource.write(tmp_path / "rows.block", given, given.take(slice(3)), shared_validation=True)
    assert "y:kind::text" in source.arrays.load()
    inputs = (InputSpec("left", (None, 2)), InputSpec("right", (None, 1)))
    prepared = prepare(DataRequest(None, None, inputs, OUTPUTS, 2, 1, 0.0, 0.0, 0), source=source.source(OUTPUTS))
    assert (prepared.train, prepared.test, prepared.labels) == (12, 3, {"kind": ("cow", "hen", "yak")})
    for shard in prepared.shards:
        numbers = shard.train.inputs["right"][:, 0].astype(int)
        np.testing.assert_array_equal(shard.train.weights, numbers)
        np.testing.assert_array_equal(shard.train.targets["kind"].reshape(-1), KIND[numbers])
        assert len(shard.validation) == 3


def test_words_that_an_unfinished_run_of_version_0_1_0_kept_are_still_words(tmp_path: Path) -> None:
    signs = np.array(["no", "yes"] * 6).view(np.uint32).reshape(N, 3)
    kept = ArraySource(ArrayFile.write(tmp_path / "rows.block", {"x": LEFT, "y:text": signs}))
    [labels] = kept.source((OutputSpec("y", (None, 2), Target.CLASSES),)).targets["y"]
    assert labels.words == ("no", "yes")  # type: ignore[union-attr]


# --- what a job makes of it -------------------------------------------------------------------------------------

LOADED = Loaded(
    "", "sgd", "", (LoadedInput("left", (None, 2)), LoadedInput("right", (None, 1), 7)),
    (LoadedOutput("kind", (None, 3)), LoadedOutput("price", (None, 1))), 0, ArrayFile("", BlockSpec("0" * 64, ())), (),
)  # fmt: skip
SPEC = CompileSpec(
    outputs={"kind": OutputOptions("sparse_categorical_crossentropy"), "price": OutputOptions("mse", 0.5, ("mae",))}
)


def test_ids_are_not_normalized_and_of_the_targets_only_numbers_are() -> None:
    inputs, outputs = specs_of(make_job({"normalizer": "zscore", "normalize_targets": "minmax"}), LOADED, SPEC)
    assert [(each.name, each.normalizer, each.ids) for each in inputs] == [
        ("left", "zscore", None),
        ("right", "none", 7),
    ]
    assert [(each.target, each.normalizer) for each in outputs] == [("classes", "none"), ("values", "minmax")]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"order": "XX"}, "targets.several-with-xx"),
        ({"data": "client"}, "own-data.several-arrays"),
        ({"data": "keras", "dataset": "mnist"}, "set.several-arrays"),
    ],
)
def test_what_several_arrays_can_not_do_is_refused(values: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as wrong:
        specs_of(make_job(values), LOADED, SPEC)
    assert wrong.value.code == code


def test_target_normalizers_are_refused_where_no_output_is_numbers() -> None:
    spec = CompileSpec(outputs=dict.fromkeys(("kind", "price"), OutputOptions("sparse_categorical_crossentropy")))
    with pytest.raises(InputError) as wrong:
        specs_of(make_job({"normalize_targets": "zscore"}), LOADED, spec)
    assert wrong.value.code == "targets.not-numbers"


def test_the_arrays_of_a_file_are_named_for_files_alone_and_in_one_way() -> None:
    assert make_job({"inputs": ("a", "b")}).inputs == ("a", "b")
    for values, code in (
        ({"inputs": ("a",), "data": "client"}, "job.named-without-files"),
        ({"targets": ("a",), "npz_key": "a,b"}, "job.named-and-key"),
    ):
        with pytest.raises(InputError) as wrong:
            make_job(values)
        assert wrong.value.code == code
    assert FIELDS["inputs"].read("left, the right", "--inputs") == ("left", "the right")
    with pytest.raises(InputError) as wrong:
        FIELDS["inputs"].read("a,b,a", "--inputs")
    assert wrong.value.code == "value.twice"


# --- how it is compiled -----------------------------------------------------------------------------------------

NAMES = ("kind", "price")


@pytest.mark.parametrize(
    "given",
    [
        {"loss": ["mae", "mse"], "loss_weights": [1.0, 0.5], "metrics": [["mae"], ["mse"]]},
        {"loss": {"price": "mse", "kind": "mae"}, "loss_weights": {"price": 0.5, "kind": 1.0},
         "metrics": {"kind": "mae", "price": ["mse"]}},
    ],
)  # fmt: skip
def test_losses_weights_and_metrics_are_read_by_output_from_lists_and_dicts(given: dict[str, Any]) -> None:
    found = read_options(json.dumps({"optimizer": "sgd", **given}), NAMES)
    assert not found.problems
    assert found.spec is not None
    assert found.spec.outputs["price"] == OutputOptions("mse", 0.5, ("mse",))
    assert found.spec.outputs["kind"] == OutputOptions("mae", 1.0, ("mae",))
    # Their order is that in which Keras adds the losses up.
    assert list(found.spec.outputs) == list(given["loss"] if isinstance(given["loss"], dict) else NAMES)
    assert read_spec(found.spec.to_json()) == found.spec
    assert "mean_squared_error of price" in loss_name(found.spec)


def test_one_loss_is_the_loss_of_every_output_and_an_override_too() -> None:
    found = read_options(json.dumps({"optimizer": "sgd", "loss": "mse"}), NAMES).spec
    assert found is not None
    assert [each.loss for each in found.outputs.values()] == ["mse", "mse"]
    chosen = override(found, loss="mae", metrics=["mse"])
    assert [(each.loss, each.metrics) for each in chosen.outputs.values()] == [("mae", ("mse",))] * 2


@pytest.mark.parametrize(
    ("given", "code", "output"),
    [
        ({"loss": {"kind": "mse"}}, "compile.no-loss", "without a loss for the output price"),
        ({"loss": ["mse"]}, "compile.per-output", "loss does not match the model's outputs (kind, price)"),
        ({"loss": "mse", "metrics": ["mae"]}, "compile.per-output", "metrics does not match the model's outputs"),
        ({"loss": "mse", "loss_weights": ["a", "b"]}, "compile.per-output", "loss_weights does not match"),
    ],
)
def test_what_does_not_say_which_output_it_is_for_is_a_problem_of_the_loss(
    given: dict[str, Any], code: str, output: str
) -> None:
    found = read_options(json.dumps({"optimizer": "sgd", **given}), NAMES)
    assert output in found.problems["loss"].message
    assert ERRORS[code].message.partition("{")[0] in found.problems["loss"].message


def test_the_options_of_one_output_are_written_as_they_were_in_version_0_1_0() -> None:
    assert set(json.loads(CompileSpec(loss="mse").to_json())) == {"optimizer", "loss", "metrics", "loss_weight"}


# --- what is written down ---------------------------------------------------------------------------------------

ARCHITECTURE = json.dumps({"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": []}})
MODEL = Model(
    ARCHITECTURE, CompileSpec().to_json(), (None, 2), (None, 3), "classes", "zscore", "none",
    inputs=(InputSpec("left", (None, 2), "zscore"), InputSpec("right", (None, 1))), outputs=OUTPUTS,
)  # fmt: skip
SINGLE = Model("", "", (None, 2), (None, 3), "classes", "zscore", "none")


def test_preprocessing_json_lists_each_input_by_name_and_stays_as_it_was_for_one() -> None:
    one = Normalizer("zscore", np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    none = Normalizer("none", np.zeros(()), np.ones(()))
    both = Normalizers({"left": one, "right": none}, {"kind": none, "price": none})
    found = json.loads(preprocessing_of(MODEL, both, {"kind": ("a", "b")}).to_json())
    left = {"normalizer": "zscore", "subtract": [1.0, 2.0], "multiply": [3.0, 4.0]}
    assert found["inputs"]["left"] == left
    assert (found["targets"], found["labels"]) == ({}, {"kind": ["a", "b"]})
    single = json.loads(preprocessing_of(SINGLE, Normalizers.single(one), ("a", "b")).to_json())
    assert single == {**left, "labels": ["a", "b"]}


def test_names_of_classes_are_recorded_by_output_only_where_there_are_several() -> None:
    assert recorded_labels(SINGLE, {"y": ("a", "b")}) == ("a", "b")
    assert recorded_labels(SINGLE, {}) is None
    assert recorded_labels(MODEL, {"kind": ("a", "b")}) == {"kind": ("a", "b")}
    assert labels_by_target(SINGLE, ("a", "b")) == {"y": ("a", "b")}


def test_a_compiled_metric_that_has_the_name_of_a_score_of_an_output_stands_beside_it() -> None:
    figures = with_compiled({"loss": 1.0, "kind_precision": 0.5}, {"kind_precision": 0.25, "kind_loss": 2.0})
    assert figures == {"loss": 1.0, "kind_precision": 0.5, "compiled_kind_precision": 0.25, "kind_loss": 2.0}
    assert as_keras(figures) == {"loss": 1.0, "kind_precision": 0.25, "kind_loss": 2.0}


# --- what a client refuses --------------------------------------------------------------------------------------


def lease(model: Model, **shapes: tuple[int, ...]) -> Lease:
    names = {"x_train:left": (4, 2), "x_train:right": (4, 1), "y_train:kind": (4,), "y_train:price": (4, 1)}
    found = names | {name.replace("__", ":"): shape for name, shape in shapes.items()}
    arrays = tuple(ArraySpec(name, "float32", shape) for name, shape in found.items())
    fit = FitTask(model, 1, 1, 0, 0, Runtime(), None, None)
    return Lease("run", "task", 1, "lab", fit, BlockSpec("0" * 64, ()), BlockSpec("1" * 64, arrays))


@pytest.mark.parametrize(
    ("change", "shapes", "named"),
    [
        ({"inputs": (InputSpec("a", (None, 1)), InputSpec("a", (None, 1)))}, {}, "different names"),
        ({"inputs": (InputSpec("a:b", (None, 1)),)}, {}, "without a colon"),
        ({"inputs": ()}, {}, "model.inputs"),
        ({"outputs": (OutputSpec("a", (None, 1), "no kind"),)}, {}, "model.outputs.target"),
        ({"inputs": (InputSpec("a", (None, -1)),)}, {}, "model.inputs.shape"),
        ({"inputs": (InputSpec("a", (None, 1), "odd"),)}, {}, "model.inputs.normalizer"),
        ({}, {"x_train__right": (5, 1)}, "as many rows of each"),
        (
            {},
            {"x_train__left": (0, 2), "x_train__right": (0, 1), "y_train__kind": (0,), "y_train__price": (0, 1)},
            "rows",
        ),
    ],
)
def test_a_client_refuses_arrays_that_can_not_be(change: Any, shapes: Any, named: str) -> None:
    with pytest.raises(LanfitError) as wrong:
        check_lease(lease(msgspec.structs.replace(MODEL, **change), **shapes))
    assert wrong.value.code == "task.impossible"
    assert named in wrong.value.message + wrong.value.hint
