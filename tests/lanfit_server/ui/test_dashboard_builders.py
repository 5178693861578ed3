"""Models that are built from the page: what is asked for, for which data, and the files that plain Keras loads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.dashboards import fake_place, page_of
from fakes.fake_cluster import run_script
from fakes.places import Place
from running import plain_keras
from warm import WarmModels

from lanfit.core.workspace import Workspace
from lanfit.errors import InputError, LanfitError
from lanfit_server.data.row_shapes import RowShape, look, shape_of_files
from lanfit_server.models.building import KERNELS, Blueprint, _check_size
from lanfit_server.models.handle import BuildModel, Built
from lanfit_server.ui.dashboard.builders import (
    WrongFields,
    blueprint,
    build,
    chosen_shape,
    data_described,
    described,
    file_name,
    parsed,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with fake_place(tmp_path, monkeypatch) as made:
        yield made


class Asked:
    """A model process that only notes what it is asked."""

    def __init__(self) -> None:
        self.blueprint: Blueprint
        self.path = Path()

    async def ask(self, request: Any, answer: Any) -> Any:
        assert isinstance(request, BuildModel)
        self.blueprint, self.path = request.blueprint, Path(request.path)
        return Built(1)


def wanted(workspace: Workspace, **body: Any) -> tuple[Blueprint, str]:
    models: Any = Asked()
    built = asyncio.run(build(body, workspace, models))
    assert models.path == workspace.models / built["file"]
    return models.blueprint, built["file"]


# --- what is asked for ------------------------------------------------------------------------------------------


def test_the_fields_have_defaults_that_are_right(tmp_path: Path) -> None:
    for kind in described():
        assert parsed(kind["kind"], {}).keys() == {each["key"] for each in kind["fields"]}
    mlp, name = wanted(Workspace(tmp_path), kind="mlp", values={"data": "digits"})
    assert mlp == Blueprint((8, 8, 1), 10, "classes", (64, 32))
    assert (name, mlp.suitable_loss) == ("mlp-64-32.keras", "sparse_categorical_crossentropy")
    cnn, name = wanted(Workspace(tmp_path), kind="cnn", values={"data": "keras", "dataset": "cifar10"})
    assert cnn == Blueprint((32, 32, 3), 10, "classes", (64,), (16, 32, 32, 32), 0.25)
    assert name == "cnn-16-32-32-32.keras"


def test_optimizer_loss_rate_and_seed_are_those_of_the_form(tmp_path: Path) -> None:
    values = {"data": "keras", "dataset": "Boston-Housing", "optimizer": "adamw", "loss": "mae", "learning_rate": 0.5}
    mlp, _ = wanted(Workspace(tmp_path), kind="mlp", fields={"hidden": [8]}, values={**values, "seed": 4})
    assert mlp == Blueprint((13,), 1, "values", (8,), (), 0.0, "adamw", "mae", 0.5, 4)
    mlp, _ = wanted(Workspace(tmp_path), kind="mlp", values={**values, "optimizer": "compiled", "loss": "compiled"})
    assert (mlp.optimizer, mlp.suitable_loss) == ("adam", "mse")


def test_a_new_file_never_takes_the_name_of_another(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.models.mkdir()
    values = parsed("mlp", {"hidden": "8"})
    assert file_name("mlp", values, workspace) == "mlp-8.keras"
    (workspace.models / "mlp-8.keras").touch()
    assert file_name("mlp", values, workspace) == "mlp-8-2.keras"
    assert file_name("mlp", parsed("mlp", {"name": "mine"}), workspace) == "mine.keras"
    assert file_name("mlp", parsed("mlp", {"name": "mine.keras"}), workspace) == "mine.keras"


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"kind": "rnn"}, "", "build.unknown-kind"),
        ({"kind": ["mlp"]}, "", "build.unknown-kind"),
        ({"kind": "mlp", "fields": {"hidden": "64,x"}}, "hidden", "value.not-whole-in-range"),
        ({"kind": "mlp", "fields": {"hidden": "0"}}, "hidden", "value.not-whole-in-range"),
        ({"kind": "mlp", "fields": {"hidden": "1," * 30}}, "hidden", "value.not-whole-in-range"),
        ({"kind": "mlp", "fields": {"dropout": 1}}, "dropout", "value.not-below-one"),
        ({"kind": "mlp", "fields": {"kernels": "1"}}, "kernels", "settings.unknown-key"),
        ({"kind": "cnn", "fields": {"kernels": "8-8-8-8"}}, "kernels", "value.no-choice"),
        ({"kind": "cnn", "fields": {"input_shape": "8x"}}, "input_shape", "build.wrong-shape"),
        ({"kind": "cnn", "fields": {"input_shape": "13", "outputs": 2}}, "input_shape", "build.not-an-image"),
        ({"kind": "mlp", "fields": {"name": "../x"}}, "name", "build.wrong-name"),
        ({"kind": "mlp", "fields": {"name": "net.keras"}}, "name", "build.name-taken"),
        ({"kind": "mlp", "values": {"data": "client"}}, "input_shape", "build.no-shape"),
        ({"kind": "mlp", "values": {"data": "keras", "dataset": "imdb"}}, "", "build.sequences"),
        ({"kind": "mlp", "values": {"data": "keras"}}, "", "job.no-dataset"),
        ({"kind": "mlp", "values": {"data": "digits", "optimizer": "adamm"}}, "", "compile.unknown-name"),
        ({"kind": "mlp", "values": {"data": "digits", "learning_rate": -1}}, "", "value.not-positive"),
        ({"kind": "mlp", "fields": []}, "", None),
        ({"kind": "mlp", "fields": [1]}, "", "page.no-object"),
        ({"kind": "mlp", "values": {"data": "files"}}, "", "folder.missing"),
    ],
)
def test_what_can_not_be_built_is_reported_beside_its_field(
    tmp_path: Path, body: dict[str, Any], field: str, code: str | None
) -> None:
    workspace = Workspace(tmp_path)
    workspace.models.mkdir()
    (workspace.models / "net.keras").touch()
    if code is None:
        wanted(workspace, **{"values": {"data": "digits"}, **body})
        return
    if "values" not in body:
        body = {**body, "values": {"data": "digits"}}
    with pytest.raises((LanfitError, WrongFields)) as wrong:
        wanted(workspace, **body)
    found = wrong.value.errors if isinstance(wrong.value, WrongFields) else {"": wrong.value}
    assert {key: each.code for key, each in found.items()} == {field: code}  # type: ignore[attr-defined]


def test_a_model_that_would_fill_the_memory_is_refused_before_it_is_made() -> None:
    for plan in (
        Blueprint((1000, 1000, 3), 10, "classes", (100_000,)),
        Blueprint((4000, 4000, 3), 10, "classes", (64,), (16, 32, 32, 32)),
    ):
        with pytest.raises(InputError) as wrong:
            _check_size(plan)
        assert wrong.value.code == "build.too-large"
    _check_size(Blueprint((32, 32, 3), 10, "classes", (64,), (32, 64, 64, 64)))


def test_the_page_gets_the_errors_of_a_builder_by_field(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            body = {"kind": "mlp", "fields": {"hidden": "x", "dropout": 2}, "values": {"data": "digits"}}
            answer = await page.post("/api/models", body, status=422)
            assert answer["fields"].keys() == {"hidden", "dropout"}
            built = await page.post("/api/models", {"kind": "mlp", "values": {"data": "digits"}})
            assert built == {"file": "mlp-64-32.keras", "parameters": 3}
            assert "mlp-64-32.keras" in {each["file"] for each in (await page.get("/api/form"))["models"]}

    run_script(script())


# --- the rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "shape"),
    [
        (np.zeros((20, 5)), np.arange(20) % 3, RowShape((5,), 3, is_classes=True)),
        (np.zeros((20, 5)), np.linspace(0, 1, 20), RowShape((5,), 1, is_classes=False)),
        (np.zeros((20, 5)), np.zeros((20, 4)), RowShape((5,), 4, is_classes=False)),
        (np.zeros((20, 4, 4)), np.arange(20) % 2, RowShape((4, 4), 2, is_classes=True)),
        (np.zeros((20, 5)), np.arange(20) * 1000, RowShape((5,), 1, is_classes=False)),
        (np.zeros((20, 5)), -np.arange(20), RowShape((5,), 1, is_classes=False)),
        (np.zeros((20, 5)), np.array(["a", "b"] * 10), RowShape((5,), 2, is_classes=True)),
    ],
)
def test_the_shape_of_files_is_found_without_a_model(tmp_path: Path, x: Any, y: Any, shape: RowShape) -> None:
    workspace = Workspace(tmp_path)
    for folder, array in ((workspace.inputs, x), (workspace.targets, y)):
        folder.mkdir(parents=True)
        np.save(folder / "rows.npy", array)
    assert look(workspace.inputs, workspace.targets) == shape
    found = chosen_shape(parsed("mlp", {"outputs": 7}), workspace, {})
    assert found == RowShape(shape.inputs, 7, shape.is_classes)


def test_files_are_looked_at_in_another_process_and_what_is_wrong_is_reported(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for folder in (workspace.inputs, workspace.targets):
        folder.mkdir(parents=True)
        (folder / "rows.csv").write_text("1,2\n3,4\n")
    assert shape_of_files(workspace.inputs, workspace.targets) == RowShape((2,), 2, is_classes=False)
    (workspace.inputs / "rows.csv").rename(workspace.inputs / "rows.npy")
    with pytest.raises(InputError, match="rows"):
        shape_of_files(workspace.inputs, workspace.targets)


def test_an_image_without_channels_gets_one(tmp_path: Path) -> None:
    cnn = blueprint("cnn", parsed("cnn", {}), RowShape((28, 28), 10, is_classes=True), {})
    assert cnn.input_shape == (28, 28, 1)


# --- the files --------------------------------------------------------------------------------------------------


@pytest.mark.keras
def test_plain_keras_loads_what_is_built(tmp_path: Path, warm: WarmModels) -> None:
    workspace = Workspace(tmp_path)
    models = warm.lend()
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"kind": "mlp", "fields": {"hidden": "12,6", "dropout": 0.5}}, {"data": "digits", "optimizer": "sgd"}),
        ({"kind": "cnn", "fields": {"kernels": KERNELS[0]}}, {"data": "digits", "learning_rate": 0.25}),
        ({"kind": "cnn"}, {"data": "keras", "dataset": "cifar10", "optimizer": "rmsprop"}),
        ({"kind": "mlp"}, {"data": "keras", "dataset": "boston_housing"}),
    ]

    async def make() -> list[dict[str, Any]]:
        return [await build({**body, "values": values}, workspace, models) for body, values in cases]

    built = run_script(make())
    code = """
import json, keras, pathlib
found = []
for name in json.loads(sys.argv[2]):
    model = keras.models.load_model(pathlib.Path(sys.argv[1]) / name)
    kinds = [type(layer).__name__ for layer in model.layers]
    kernels = [layer.filters for layer in model.layers if type(layer).__name__ == "Conv2D"]
    sizes = [layer.kernel_size for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert all(size == (3, 3) for size in sizes)
    found.append([model.count_params(), kinds.count("Dense"), kinds.count("Dropout"), kernels,
                  type(model.optimizer).__name__, float(model.optimizer.learning_rate), model.loss,
                  list(model.input_shape[1:]), list(model.output_shape[1:])])
print(json.dumps(found))
"""
    reported = plain_keras(code, workspace.models, json.dumps([each["file"] for each in built]))
    found = json.loads(reported.strip().splitlines()[-1])
    assert [each[0] for each in found] == [each["parameters"] for each in built]
    classes, numbers = "sparse_categorical_crossentropy", "mse"
    assert [each[1:7] for each in found] == [
        [3, 2, [], "SGD", pytest.approx(0.01), classes],
        [2, 1, [32, 64, 64, 64], "Adam", 0.25, classes],
        [2, 1, [16, 32, 32, 32], "RMSprop", pytest.approx(0.001), classes],
        [3, 0, [], "Adam", pytest.approx(0.001), numbers],
    ]
    assert [each[7:] for each in found] == [[[8, 8, 1], [10]], [[8, 8, 1], [10]], [[32, 32, 3], [10]], [[13], [1]]]
    assert {each["name"] for each in data_described()} >= {"digits", "mnist", "boston_housing"}
