"""Checks of a job's values beyond their form: the same for a question, a flag and a field of the live page."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.core.workspace import Workspace
from lanfit.data.labels import check_order
from lanfit.data.named import find_npz
from lanfit.data.sources import check_folders
from lanfit.errors import lanfit_error
from lanfit.models.compiling import check_name
from lanfit.settings.fields import Value
from lanfit.settings.job import ARRAYS, COMPILED
from lanfit_server.models.handle import Problem

NOT_COMPILED = "--optimizer and --loss, e.g. --optimizer adam --loss sparse_categorical_crossentropy"


def check_data(data: Value) -> None:
    """Check that a user can choose this source of rows.

    Raises:
        InputError: only a Python program can.
    """
    if data == ARRAYS:
        raise lanfit_error("job.arrays")


def check_compiled(key: str, value: Value, compiled: str, problems: Mapping[str, Problem]) -> None:
    """Check an optimizer or a loss.

    Args:
        key: "optimizer" or "loss".
        compiled: that of the model file; empty if it has none.
        problems: the problems of the model file.

    Raises:
        InputError: it is unknown, or the one of the file was chosen and can't be used.
    """
    if value != COMPILED:
        check_name(key, str(value))
    elif key in problems:
        raise problems[key].error()
    elif not compiled:
        raise lanfit_error("compile.incomplete", missing=key, flags=NOT_COMPILED)


def check_rows(workspace: Workspace, values: Mapping[str, Value], order: str, loss: str, *, is_single: bool) -> None:
    """Check that the loss suits the order, and that the files are there, before anything is read.

    Args:
        loss: by its full Keras name.
        is_single: whether the model has one input and one output.

    Raises:
        InputError: they don't suit each other, or a folder or file is missing.
    """
    if is_single:
        check_order(loss, order)
    if values["data"] != "files":
        return
    if not is_single or values.get("inputs") or values.get("targets"):
        find_npz(workspace.inputs)
    else:
        check_folders(workspace.inputs, workspace.targets if order == "XY" else None)
