"""Builds models from the page: an MLP, or a small CNN, for the shapes of the chosen data.

What is wanted is checked here; the model process, which has Keras, builds and writes the file. An existing file is
never replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lanfit.core.loop import in_thread
from lanfit.core.workspace import Workspace
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.models.compiling import check_name
from lanfit.models.model_file import is_model_name
from lanfit.settings.fields import Value, int_range, names, one_of, positive, share
from lanfit.settings.job import COMPILED
from lanfit_server.data.row_shapes import RowShape, shape_of_files
from lanfit_server.models.building import KERNELS, Blueprint
from lanfit_server.models.handle import BuildModel, Built, ModelProcess
from lanfit_server.models.keras_datasets import check_dataset
from lanfit_server.ui.dashboard.form import DIGITS

#: The rows of the datasets of Keras.
SHAPES_OF_DATASETS: Mapping[str, RowShape] = {
    "mnist": RowShape((28, 28, 1), 10, is_classes=True),
    "fashion_mnist": RowShape((28, 28, 1), 10, is_classes=True),
    "cifar10": RowShape((32, 32, 3), 10, is_classes=True),
    "cifar100": RowShape((32, 32, 3), 100, is_classes=True),
    "california_housing": RowShape((8,), 1, is_classes=False),
    "boston_housing": RowShape((13,), 1, is_classes=False),
}
OF_DIGITS = RowShape((8, 8, 1), 10, is_classes=True)
MOST_UNITS = 100_000
MOST_HIDDEN = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


class WrongFields(Exception):
    """Fields of a builder are wrong; `errors` has them by field, "" for the whole."""

    def __init__(self, errors: Mapping[str, LanfitError]) -> None:
        super().__init__()
        self.errors = errors


def _field(key: str, label: str, help_: str, kind: str, default: object, **more: object) -> dict[str, object]:
    return {"key": key, "label": label, "help": help_, "type": kind, "default": default, **more}


def described() -> list[dict[str, Any]]:
    """Return the kinds of models, and their fields, for JSON."""
    dropout = _field("dropout", "Dropout", "The fraction of units that are dropped while training.", "float", 0.0)
    both = [
        _field(
            "input_shape", "Input shape", "Of one row, such as 28x28x1.", "text", None, optional=True, of="the data"
        ),
        _field("outputs", "Outputs", "The number of classes, or of values.", "int", None, optional=True, of="the data"),
        _field("name", "Name", "Of the file in model/.", "text", None, optional=True, of="the layers"),
    ]
    hidden = _field("hidden", "Hidden units", "The units of each hidden layer, such as 64,32.", "text", "64,32")
    kernels = _field(
        "kernels",
        "Kernels",
        "Of the four 3×3 convolutions.",
        "choice",
        KERNELS[1],
        choices=[{"value": each, "label": each} for each in KERNELS],
    )
    dense = _field("dense", "Dense units", "Of the layer before the output.", "int", 64)
    return [
        {"kind": "mlp", "label": "MLP", "fields": [hidden, dropout, *both]},
        {"kind": "cnn", "label": "CNN", "fields": [kernels, dense, {**dropout, "default": 0.25}, *both]},
    ]


def data_described() -> list[dict[str, Any]]:
    """Return the data whose shapes are known, for JSON."""
    known = {DIGITS: OF_DIGITS, **SHAPES_OF_DATASETS}
    return [{"name": name, "input_shape": list(each.inputs), "outputs": each.outputs} for name, each in known.items()]


def shape_of(text: str) -> tuple[int, ...]:
    """Parse a shape, such as `28x28x1`.

    Raises:
        InputError: it is not valid.
    """
    found = re.fullmatch(r"\s*(\d{1,6})(?:\s*[x×*,]\s*(\d{1,6}))?(?:\s*[x×*,]\s*(\d{1,6}))?\s*", text)
    sizes = tuple(int(size) for size in found.groups() if size) if found else ()
    if not sizes or min(sizes) < 1:
        raise lanfit_error("build.wrong-shape", value=text)
    return sizes


def units_of(text: str) -> tuple[int, ...]:
    """Parse the units of hidden layers, such as `64,32`.

    Raises:
        InputError: they are not valid.
    """
    found = tuple(int_range(1, MOST_UNITS)(each) for each in names(text))
    if len(found) > MOST_HIDDEN:
        raise lanfit_error("value.not-whole-in-range", value=f"{len(found)} layers", least=1, most=MOST_HIDDEN)
    return found


def name_of(text: str) -> str:
    """Parse the name of a model file; it gets an ending.

    Raises:
        InputError: it is not a plain name of a file.
    """
    name = text.strip()
    if not _NAME.fullmatch(name):
        raise lanfit_error("build.wrong-name", value=text[:80])
    return name if is_model_name(name) and name.endswith(".keras") else f"{name}.keras"


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "hidden": units_of,
    "dropout": share,
    "kernels": one_of(KERNELS),
    "dense": int_range(1, MOST_UNITS),
    "input_shape": shape_of,
    "outputs": int_range(1, MOST_UNITS),
    "name": name_of,
}


def parsed(kind: object, raw: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of a builder's fields, with defaults.

    Raises:
        InputError: there is no such kind.
        WrongFields: fields are wrong.
    """
    kinds = {each["kind"]: each for each in described()}
    if not isinstance(kind, str) or kind not in kinds:
        raise lanfit_error("build.unknown-kind", kind=str(kind)[:80], known=", ".join(kinds))
    given = {each["key"]: each["default"] for each in kinds[kind]["fields"]}
    found: dict[str, Any] = {}
    errors: dict[str, LanfitError] = {}
    for key in raw.keys() - given.keys():
        errors[key] = lanfit_error("settings.unknown-key", key=key, guess="")
    for key, default in given.items():
        value = raw.get(key)
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if value is None or not str(value).strip():
            value = default
        try:
            found[key] = None if value is None else _PARSERS[key](str(value))
        except InputError as error:
            errors[key] = error
    if errors:
        raise WrongFields(errors)
    return found


def chosen_shape(values: Mapping[str, Any], workspace: Workspace, job: Mapping[str, Value]) -> RowShape:
    """Return the shape of the rows: as given, else that of the chosen data.

    Args:
        values: of the builder.
        job: of the form.

    Raises:
        InputError: it is not known, or no model can be built for such rows.
    """
    given, outputs = values["input_shape"], values["outputs"]
    if given is not None and outputs is not None:
        return RowShape(given, outputs, is_classes=outputs > 1)
    found = _shape_of_data(workspace, job)
    return RowShape(given or found.inputs, outputs or found.outputs, found.is_classes)


def _shape_of_data(workspace: Workspace, job: Mapping[str, Value]) -> RowShape:
    data = job.get("data") or "files"
    if data == DIGITS:
        return OF_DIGITS
    if data == "client":
        raise lanfit_error("build.no-shape", reason="the rows are on the clients")
    if data == "keras":
        if not job.get("dataset"):
            raise lanfit_error("job.no-dataset")
        name = check_dataset(str(job["dataset"]))
        if name not in SHAPES_OF_DATASETS:
            raise lanfit_error("build.sequences", name=name)
        return SHAPES_OF_DATASETS[name]
    return shape_of_files(workspace.inputs, workspace.targets)


def blueprint(kind: str, values: Mapping[str, Any], rows: RowShape, job: Mapping[str, Value]) -> Blueprint:
    """Return what to build.

    Raises:
        InputError: the rows are not images, for a CNN; or the optimizer or the loss is unknown.
    """
    inputs = rows.inputs
    if kind == "cnn":
        inputs = (*inputs, 1) if len(inputs) == 2 else inputs
        if len(inputs) != 3:
            raise lanfit_error("build.not-an-image", shape="×".join(map(str, inputs)))
    chosen = {key: str(value) for key in ("optimizer", "loss") if (value := job.get(key)) and value != COMPILED}
    for key, value in chosen.items():
        check_name(key, value)
    rate = job.get("learning_rate")
    return Blueprint(
        input_shape=inputs,
        outputs=rows.outputs,
        kind_of_target="classes" if rows.is_classes else "values",
        hidden=values["hidden"] if kind == "mlp" else (values["dense"],),
        kernels=tuple(int(each) for each in values["kernels"].split("-")) if kind == "cnn" else (),
        dropout=values["dropout"],
        optimizer=chosen.get("optimizer", "adam"),
        loss=chosen.get("loss", ""),
        learning_rate=positive(str(rate)) if rate not in (None, "") else None,
        seed=int_range(0, 2**32 - 1)(str(job.get("seed") or 0)),
    )


def file_name(kind: str, values: Mapping[str, Any], workspace: Workspace) -> str:
    """Return the name of a new file: as given, else one that describes the model, such as `mlp-64-32.keras`.

    Raises:
        InputError: there is such a file.
    """
    if (given := values["name"]) is not None:
        if (workspace.models / given).exists():
            raise lanfit_error("build.name-taken", file=f"{workspace.relative(workspace.models)}/{given}")
        return str(given)
    sizes = "-".join(map(str, values["hidden"][:6])) if kind == "mlp" else values["kernels"]
    base = f"{kind}-{sizes}"
    number, name = 1, f"{base}.keras"
    while (workspace.models / name).exists():
        number += 1
        name = f"{base}-{number}.keras"
    return name


#: Beside which field of a builder an error is shown.
_FIELD_OF = {"build.no-shape": "input_shape", "build.not-an-image": "input_shape", "build.name-taken": "name"}


async def build(body: Mapping[str, Any], workspace: Workspace, models: ModelProcess) -> dict[str, Any]:
    """Build the model of a request and write it into model/; return its file.

    Args:
        body: `kind`, `fields` of the builder, and `values` of the form.

    Raises:
        InputError: it can't be built.
        WrongFields: fields of the builder are wrong.
        OSError: it can't be written.
    """
    raw, job = body.get("fields") or {}, body.get("values") or {}
    if not isinstance(raw, dict) or not isinstance(job, dict):
        raise lanfit_error("page.no-object", reason="fields or values is not an object")
    kind = body.get("kind")
    values = parsed(kind, raw)
    try:
        rows = await in_thread(partial(chosen_shape, values, workspace, job))
        wanted = blueprint(str(kind), values, rows, job)
        name = file_name(str(kind), values, workspace)
    except InputError as error:
        if (key := _FIELD_OF.get(error.code)) is None:
            raise
        raise WrongFields({key: error}) from error
    path = workspace.models / name
    path.parent.mkdir(parents=True, exist_ok=True)
    built = await models.ask(BuildModel(str(path), wanted), Built)
    return {"file": name, "parameters": built.parameters}
