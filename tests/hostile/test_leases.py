"""A server that knows the passphrase and sends a client models and tasks of its own making: refused in words, before
anything is fetched, built or imported."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scripted_server import COMPILED, scripted_server
from test_hostile_server import answer, give, lease, score, survey, welcomed

from lanfit.errors import LanfitError, RemoteProtocolError
from lanfit.models.architecture import MAX_LAYERS
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, block_of
from lanfit.wire.messages import AnyMessage, ClientData, Failed, Fetch, Fold, Lease, Model, Runtime, Unsuitable
from lanfit_client.limits import check_evaluation, check_lease, check_survey

replaced = msgspec.structs.replace


def layer(kind: str, module: Any = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": f"the {kind}", **config}, "registered_name": None}


def function(module: str, name: str, registered: str = "function") -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered}


def network(*layers: Any, **more: Any) -> str:
    return json.dumps(
        {"module": "keras", "class_name": "Sequential", "config": {"name": "n", "layers": layers}, **more}
    )


def dense(**config: Any) -> str:
    return network(layer("Dense", units=1, **config))


LAMBDA = layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEAAAA="}})
#: name → an architecture that would run code, read a file, or break the check.
ARCHITECTURES: Mapping[str, str] = {
    "Lambda": network(LAMBDA),
    "TFSMLayer": network(layer("TFSMLayer", filepath="/tmp/program")),
    "TorchModuleWrapper": network(layer("TorchModuleWrapper", module="gASV")),
    "JaxLayer": network(layer("JaxLayer", call_fn="x")),
    "FlaxLayer": network(layer("FlaxLayer", module="x")),
    "a vocabulary in a file": network(layer("StringLookup", vocabulary="/etc/passwd")),
    "Lambda in TimeDistributed": network(layer("TimeDistributed", layer=LAMBDA)),
    "Lambda in Bidirectional(RNN(cell))": network(layer("Bidirectional", layer=layer("RNN", cell=LAMBDA))),
    "Lambda in StackedRNNCells": network(layer("RNN", cell=layer("StackedRNNCells", cells=[LAMBDA]))),
    "Lambda in Wrapper": network(layer("Wrapper", layer=LAMBDA)),
    "a Torch module in TimeDistributed": network(layer("TimeDistributed", layer=layer("TorchModuleWrapper"))),
    "Lambda in a model in a model": network(json.loads(network(json.loads(network(LAMBDA))))),
    "a function of os": dense(activation=function("os", "system")),
    "a function of builtins": dense(activation=function("builtins", "eval")),
    "a function of keras.utils": dense(activation=function("keras.utils", "get_file")),
    "a function of Keras that makes objects": dense(activation=function("keras.activations", "deserialize")),
    "a registered function": dense(activation=function("builtins", "relu", "evil>relu")),
    "a registered class": network({**layer("Dense", units=1), "registered_name": "evil>Dense"}),
    "a class of another package": network(layer("Popen", "subprocess", args="id")),
    "a class of Keras that is no layer": network(layer("LambdaCallback", "keras.callbacks")),
    "a function of Keras as a layer": network(layer("load_model", "keras.saving", filepath="/tmp/x.keras")),
    "__typespec__": dense(extra={"class_name": "__typespec__", "spec_name": "TensorSpec", "module": "tensorflow"}),
    "__bytes__": dense(extra={"class_name": "__bytes__", "config": {"value": "x"}}),
    "__tuple__": dense(extra={"class_name": "__tuple__", "items": [LAMBDA]}),
    "__lambda__ as an initializer": dense(kernel_initializer={"class_name": "__lambda__", "config": {"value": "4wE="}}),
    "an array of objects": dense(extra={"class_name": "__numpy__", "config": {"value": [None], "dtype": "object"}}),
    "doubled keys, the last one counts": network(layer("Dense", units=1)).replace(
        '"class_name": "Dense"', '"class_name": "Dense", "class_name": "Lambda"'
    ),
    "a nested compile_config": network(compile_config={"loss": function("os", "system")}),
    "a depth of 5,000": network("HERE").replace('"HERE"', "[" * 5000 + "]" * 5000),
    "a Lambda under a key that Keras does not know": network({**layer("Dense", units=1), "more": [LAMBDA]}),
}
OPTIMIZER = {"module": "keras.optimizers", "class_name": "SGD", "config": {}}
COMPILE_OPTIONS: Mapping[str, str] = {
    "a loss of os": json.dumps({"optimizer": OPTIMIZER, "loss": function("os", "system")}),
    "an optimizer of another package": json.dumps({"optimizer": {**OPTIMIZER, "module": "os"}, "loss": "mse"}),
    "a metric that is a Lambda": json.dumps({"optimizer": OPTIMIZER, "loss": "mse", "metrics": [LAMBDA]}),
    "a schedule that is a Lambda": json.dumps(
        {"optimizer": {**OPTIMIZER, "config": {"learning_rate": LAMBDA}}, "loss": "mse"}
    ),
}
HOSTILE = {name: (text, COMPILED) for name, text in ARCHITECTURES.items()} | {
    name: (network(layer("Dense", units=1)), text) for name, text in COMPILE_OPTIONS.items()
}


def partitioned(**changes: Any) -> Lease:
    """A lease of rows that were dealt, in which something is not as it should be."""
    fit = replaced(lease().fit, own=None, batch_size=8, local_steps=0)
    shard = (ArraySpec("x_train", "float32", (9, 2)), ArraySpec("y_train", "float32", (9, 1)))
    sound = replaced(lease(), fit=fit, shard=BlockSpec("0" * 64, shard))
    here = {key: value for key, value in changes.items() if key in Lease.__struct_fields__}
    return replaced(sound, fit=replaced(fit, **{k: v for k, v in changes.items() if k not in here}), **here)


def of(architecture: str, compiled: str = COMPILED) -> Model:
    return replaced(lease().fit.model, architecture=architecture, compile=compiled)


def refusal(check: Callable[[], None]) -> LanfitError:
    with pytest.raises(LanfitError) as caught:
        check()
    return caught.value


ROWS_TO_SHOW = BlockSpec("1" * 64, (ArraySpec("x", "float32", (24, 2)),))


@pytest.mark.parametrize(
    ("arrays", "own", "named"),
    [
        ([("x", "float32", (25, 2))], False, "1 to 24"),
        ([("x", "float32", (0, 2))], False, "1 to 24"),
        ([("x", "float32", ())], False, "as many rows"),
        ([("y", "float32", (3, 2))], False, "as many rows"),
        ([("x", "float32", (3, 2)), ("x:left", "float32", (3, 2))], False, "as many rows"),
        ([], False, "as many rows"),
        ([("x", "float32", (3, 2))], True, "client's own data"),
    ],
)
def test_rows_to_predict_that_can_not_be_are_refused(arrays: list[Any], own: bool, named: str) -> None:
    check_lease(partitioned(model=of(network(layer("Dense", units=1))), shown=ROWS_TO_SHOW))
    shown = BlockSpec("1" * 64, tuple(ArraySpec(*each) for each in arrays))
    given = {"own": lease().fit.own} if own else {}
    wrong = refusal(lambda: check_lease(partitioned(model=of(network(layer("Dense", units=1))), shown=shown, **given)))
    assert wrong.code == "task.impossible"
    assert named in wrong.message + wrong.hint


def test_rows_to_predict_of_any_size_are_refused() -> None:
    shown = BlockSpec("1" * 64, (ArraySpec("x", "float32", (3, 2**60)),))
    with pytest.raises(RemoteProtocolError):
        check_lease(partitioned(model=of(network(layer("Dense", units=1))), shown=shown))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_of_a_server_that_would_run_code_is_refused_in_words_without_keras(name: str) -> None:
    model, before = of(*HOSTILE[name]), set(sys.modules)
    for check in (
        lambda: check_lease(partitioned(model=model)),
        lambda: check_survey(replaced(survey(BATCHES), model=model)),
        lambda: check_evaluation(replaced(score(BATCHES), model=model)),
    ):
        wrong = refusal(check)
        assert wrong.hint
        assert wrong.code
    if "Lambda" in name and name != "a metric that is a Lambda" and name != "a schedule that is a Lambda":
        assert "the Lambda" in wrong.message or "Lambda" in wrong.message
    assert not {"keras", "tensorflow", "torch", "jax"} & (set(sys.modules) - before)


def test_the_sound_model_beside_them_is_taken() -> None:
    check_lease(partitioned(model=of(network(layer("Dense", units=1)))))
    check_survey(survey(BATCHES))
    check_evaluation(score(BATCHES))


def test_a_model_that_comes_again_with_the_next_round_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hundreds of layers it takes a fifth of a second, in the loop that also keeps the link alive."""
    looked: list[str] = []
    monkeypatch.setattr("lanfit_client.limits.check_architecture", looked.append)
    for number in range(3):
        model = of(network(layer("Dense", units=1, name="".join(("again ", "and again")))))
        check_lease(partitioned(model=model, round=number))
    assert len(looked) == 1


def test_a_model_of_thousands_of_layers_is_refused_before_it_is_built() -> None:
    many = network(*[layer("Dense", units=1)] * 3000)
    wrong = refusal(lambda: check_lease(partitioned(model=of(many))))
    assert (wrong.code, "3000 layers" in wrong.message) == ("model.too-many-layers", True)
    nested = network(*[json.loads(network(*[layer("ReLU")] * 100))] * 21)
    assert refusal(lambda: check_lease(partitioned(model=of(nested)))).code == "model.too-many-layers"
    check_lease(partitioned(model=of(network(*[layer("ReLU")] * MAX_LAYERS))))


BATCHES = ClientData(8, 0.0, 0.0, 0, 7, None)
NAN = float("nan")
#: what of a task is odd → the field that is named.
ODD: Mapping[str, tuple[Lease, str]] = {
    "no epochs": (partitioned(epochs=0), "epochs"),
    "10^9 epochs": (partitioned(epochs=10**9), "epochs"),
    "epochs below 0": (partitioned(epochs=-1), "epochs"),
    "a batch of 0": (partitioned(batch_size=0), "batch_size"),
    "a batch below 0": (partitioned(batch_size=-8), "batch_size"),
    "a seed below 0": (partitioned(seed=-1), "seed"),
    "a huge seed": (partitioned(seed=-(2**63)), "seed"),
    "patience below 0": (partitioned(patience=-1), "patience"),
    "steps below 0": (partitioned(local_steps=-1), "local_steps"),
    "a first step below 0": (partitioned(first_step=-1), "first_step"),
    "mu that is no number": (partitioned(proximal=NAN), "proximal"),
    "mu without end": (partitioned(proximal=float("inf")), "proximal"),
    "an attempt below 0": (partitioned(attempt=-1), "attempt"),
    "fold 0": (partitioned(fold=Fold(0, 3, 7, 0.0)), "fold.number"),
    "fold 4 of 3": (partitioned(fold=Fold(4, 3, 7, 0.0)), "fold.number"),
    "one fold": (partitioned(fold=Fold(1, 1, 7, 0.0)), "fold.of"),
    "no folds": (partitioned(fold=Fold(1, 0, 7, 0.0)), "fold.of"),
    "a share of 2": (partitioned(fold=Fold(1, 3, 7, 2.0)), "fold.validation_split"),
    "a share that is no number": (partitioned(own=ClientData(8, NAN, 0.0, 0, 7, None)), "own.test_split"),
    "a share below 0": (partitioned(own=ClientData(8, 0.0, -0.1, 0, 7, None)), "own.validation_split"),
    "part 0": (partitioned(own=ClientData(8, 0.0, 0.0, 0, 7, None, 4, 0, 2)), "own.first_part"),
    "part 5 of 4": (partitioned(own=ClientData(8, 0.0, 0.0, 0, 7, None, 4, 1, 5)), "own.last_part"),
    "threads below 0": (partitioned(runtime=Runtime("", "", -1)), "runtime.threads"),
    "another backend": (partitioned(runtime=Runtime("os", "", 0)), "runtime.backend"),
    "another device": (partitioned(runtime=Runtime("", "gpu:99", 0)), "runtime.device"),
    "another target": (partitioned(model=replaced(lease().fit.model, target="evil")), "model.target"),
    "another normalizer": (partitioned(model=replaced(lease().fit.model, normalizer="evil")), "model.normalizer"),
    "a shape below 0": (partitioned(model=replaced(lease().fit.model, input_shape=(None, -2))), "model.input_shape"),
    "no shape": (partitioned(model=replaced(lease().fit.model, output_shape=())), "model.output_shape"),
    "ids of nobody": (partitioned(model=replaced(lease().fit.model, ids=0)), "model.ids"),
}


def chosen(arrays: Mapping[str, AnyArray], **fields: Any) -> Lease:
    return replaced(partitioned(**fields), rows=block_of(arrays))


NO_ROWS = np.array([], np.int64)
LISTS: Mapping[str, AnyArray] = {"train": np.array([0, 1]), "validation": NO_ROWS}
ODD = {
    **ODD,
    "no rows": (chosen({"train": NO_ROWS, "validation": NO_ROWS}), "rows.train"),
    "rows of one kind": (chosen({"train": np.array([0])}), "rows"),
    "rows of another kind": (chosen({**LISTS, "test": NO_ROWS}), "rows"),
    "rows that are no indices": (chosen({**LISTS, "train": np.array([0.5])}), "rows"),
    "rows in two dimensions": (chosen({**LISTS, "train": np.array([[0]])}), "rows"),
    "rows and a fold": (chosen(LISTS, fold=Fold(1, 3, 7, 0.0)), "rows"),
    "rows of the client's own": (chosen(LISTS, own=BATCHES), "rows"),
}


def test_indices_of_rows_are_no_odd_task() -> None:
    check_lease(chosen(LISTS))


@pytest.mark.parametrize("name", ODD)
def test_a_task_that_can_not_be_is_refused_by_the_name_of_its_field(name: str) -> None:
    odd, field = ODD[name]
    wrong = refusal(lambda: check_lease(odd))
    assert wrong.code == "task.impossible"
    assert f"invalid task: {field} is " in wrong.message


@pytest.mark.parametrize("place", ["weights", "shard"])
@pytest.mark.parametrize(
    ("specs", "output"),
    [
        ((ArraySpec("x", "O", (3,)),), "dtype 'O'"),
        ((ArraySpec("x", "float32", (-3, 2)),), r"impossible shape \(-3, 2\)"),
        ((ArraySpec("x", "float32", (3,)), ArraySpec("x", "float32", (3,))), "two arrays are named 'x'"),
        ((ArraySpec("x", "uint8", (2**50,)),), "1125899906842624 bytes was announced"),
        ((ArraySpec("x", "uint8", (1,) * 99),), "impossible shape"),
    ],
)
def test_arrays_that_can_not_be_are_refused_before_any_room_is_taken(
    place: str, specs: tuple[ArraySpec, ...], output: str
) -> None:
    odd = partitioned(**{place: BlockSpec("0" * 64, specs)})
    with pytest.raises(RemoteProtocolError, match=output):
        check_lease(odd)


@pytest.mark.parametrize(
    ("specs", "output"),
    [
        ((ArraySpec("x_train", "float32", (9, 2)), ArraySpec("y_train", "float32", (8, 1))), "y_train [8, 1]"),
        ((ArraySpec("x_train", "float32", (2, 9)), ArraySpec("y_train", "float32", (9, 1))), "x_train [2, 9]"),
        ((ArraySpec("x_train", "float32", ()), ArraySpec("y_train", "float32", (9, 1))), "x_train []"),
        ((ArraySpec("y_train", "float32", (9, 1)),), "no x_train"),
        ((ArraySpec("x_train", "float32", (0, 2)), ArraySpec("y_train", "float32", (0, 1))), "no x_train"),
    ],
)
def test_rows_that_do_not_go_together_are_refused_before_they_are_fetched(
    specs: tuple[ArraySpec, ...], output: str
) -> None:
    wrong = refusal(lambda: check_lease(partitioned(shard=BlockSpec("0" * 64, specs))))
    assert wrong.code == "task.impossible"
    assert output in wrong.message


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "Infinity", "1e999"])
def test_a_learning_rate_that_is_none_is_refused(rate: str) -> None:
    compiled = COMPILED.replace('"config": {}', f'"config": {{"learning_rate": {rate}}}')
    wrong = refusal(lambda: check_lease(partitioned(model=of(network(layer("Dense", units=1)), compiled))))
    assert wrong.code in ("compile.learning-rate", "compile.unreadable")


def test_an_agent_refuses_them_before_anything_is_fetched_and_serves_the_next_good_task(tmp_path: Path) -> None:
    """Through a real login and a real agent: what is odd is answered, and the next good task is fetched for."""
    hostile, output = of(*HOSTILE["Lambda in Bidirectional(RNN(cell))"]), list[str]()

    async def run_script() -> None:
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, output, warm=False, data=give(tmp_path / "own", 90)) as (
            scripted,
            agent,
            _,
        ):
            link = await welcomed(scripted)
            for message in (
                partitioned(model=hostile),
                replaced(survey(BATCHES), model=hostile),
                replaced(score(BATCHES), model=hostile),
                *(odd for odd, _ in ODD.values()),
            ):
                await link.send(message)
                wrong = await answer(link, seen, Failed, Unsuitable)
                assert "ZeroDivision" not in wrong.error
                assert "IndexError" not in wrong.error
            assert not any(isinstance(each, Fetch) for each in seen)
            assert agent.worker.trainer._child is None
            await link.send(partitioned(task="shard-2"))
            await answer(link, seen, Fetch)

    asyncio.run(run_script())
    assert any("'the Lambda'" in line and "contains code" in line for line in output)


@pytest.mark.parametrize("field", ["run", "task"])
def test_a_nul_in_a_name_and_a_backend_that_is_a_program_end_the_link(field: str, tmp_path: Path) -> None:
    async def run_script() -> None:
        async with scripted_server(tmp_path, output := [], warm=False) as (scripted, agent, _):
            agent.sleep = lambda seconds: asyncio.sleep(0)
            for odd in (partitioned(**{field: "a\0b"}), partitioned(runtime=Runtime("os; import", "", 0))):
                link = await welcomed(scripted)
                await link.send(odd)
                await link.closed.wait()
            await (await welcomed(scripted)).send(partitioned(task="shard-2"))
            while not any("shard-2" in line for line in output):
                await asyncio.sleep(0.005)

    asyncio.run(run_script())
