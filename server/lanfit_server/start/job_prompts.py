"""Questions 4 to 16: from answers to a job that fits the model.

The model, and then the Keras dataset, are loaded while the operator answers further questions.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lanfit.core.loop import LoopThread
from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.errors import InputError
from lanfit.models.custom_files import AllowedFile
from lanfit.settings.fields import Value
from lanfit.settings.job import COMPILED, FIELDS, Job, check_local, make_job
from lanfit_server.data.keras_datasets import load_dataset
from lanfit_server.data.model_source import ReadyModel, compile_request
from lanfit_server.data.prepare import model_of
from lanfit_server.models.custom_files import files_of, stored_names
from lanfit_server.models.handle import Compiled, Loaded, LoadedDataset, LoadModel, ModelProcess, Problem
from lanfit_server.models.keras_datasets import check_dataset
from lanfit_server.models.model_folder import find_model, models_in
from lanfit_server.requests import RunRequest
from lanfit_server.start.job_checks import check_compiled, check_data, check_rows
from lanfit_server.start.prompts import Answers


@dataclass(frozen=True)
class _Begun:
    """The answers to the first questions, while the model is being loaded."""

    name: str
    loading: concurrent.futures.Future[Loaded]
    values: dict[str, Value]
    local: int


class JobPrompts:
    """Asks for a job: `ask_first`, then `ask_rest`.

    Args:
        scratch: the folder for the model's weights and the arrays of a dataset.
    """

    def __init__(
        self,
        answers: Answers,
        terminal: Terminal,
        workspace: Workspace,
        models: ModelProcess,
        loop: LoopThread,
        scratch: Path,
    ) -> None:
        self._answers = answers
        self._terminal = terminal
        self._workspace = workspace
        self._models = models
        self._loop = loop
        self._scratch = scratch
        self._custom: tuple[AllowedFile, ...] = ()

    def ask_first(self, host: str, port: int) -> _Begun:
        """Ask questions 4 and 5: the model and the number of clients. The model is loaded from now on.

        Raises:
            InputError: an answer is invalid, or answers contradict each other. The same for `ask_rest`.
        """
        check_data(self._answers.given("data"))  # of a job file: its model is not there, either
        self._custom = files_of(self._answers.given("custom_objects"), self._workspace)
        name = self._ask_model()
        loading = self._load(name)
        values: dict[str, Value] = {"host": host, "port": port}
        values |= {key: value for key in NEVER_ASKED if (value := self._answers.given(key)) is not None}
        values["custom_objects"] = stored_names(self._custom, self._workspace)
        if self._answers.was_given("parts_of") and not self._answers.was_given("deal"):
            values["deal"] = "parts"  # even if server.toml has another value
        local = int(str(values.get("local") or 0))
        values["clients"] = self._answers.ask(
            "clients", check=lambda n: check_local(local, int(str(n))), default=local or None
        )
        return _Begun(name, loading, values, local)

    def ask_rest(self, begun: _Begun) -> RunRequest:
        """Ask questions 7 to 16; return the requested run."""
        ask, values = self._answers.ask, dict(begun.values)
        values["epochs"] = ask("epochs")
        values["batch_size"] = ask("batch_size")
        name, loaded = self._loaded(begun.name, begun.loading)
        values["model"] = name
        values["optimizer"] = self._ask_compiled("optimizer", loaded.optimizer, loaded.problems)
        values["loss"] = self._ask_compiled("loss", loaded.loss, loaded.problems)
        compiled = self._compile(values)
        values |= ask_data(self._answers)
        loading_dataset = self._load_dataset(values, loaded)
        values["normalizer"] = ask("normalizer")
        values["method"] = ask("method")
        values["order"] = ask("order", check=lambda order: self._check_order(str(order), compiled, values, loaded))
        if begun.local and values.get("threads") is None:
            values["threads"] = max(1, (os.cpu_count() or 1) // begun.local)
        job = make_job(values)
        model = model_of(job, loaded, compiled, self._custom)
        return RunRequest(job, ReadyModel(loaded, model, self._custom), self._loaded_dataset(job, loading_dataset))

    # --- the model ----------------------------------------------------------------------------------------------

    def _ask_model(self) -> str:
        found = models_in(self._workspace)
        if not found and self._answers.given("model") is None and not self._terminal.interactive:
            find_model(self._workspace, "")
        newest = found[0].name if found else None
        return str(
            self._answers.ask("model", check=lambda name: find_model(self._workspace, str(name)), default=newest)
        )

    def _load(self, name: str) -> concurrent.futures.Future[Loaded]:
        path = find_model(self._workspace, name)
        request = LoadModel(str(path), str(self._scratch / "weights.block"), self._custom)
        return self._loop.submit(self._models.ask(request, Loaded))

    def _loaded(self, name: str, loading: concurrent.futures.Future[Loaded]) -> tuple[str, Loaded]:
        """Wait for the model; at a terminal, explain an unusable one and ask again."""
        while True:
            if not loading.done():
                self._terminal.log(f"Reading {name}: Keras is still being imported …")
            try:
                loaded = self._loop.result(loading)
            except InputError as error:
                if not self._terminal.interactive or self._answers.was_given("model"):
                    raise
                self._terminal.explain(error)
                name = self._ask_model()
                loading = self._load(name)
                continue
            path = self._workspace.relative(find_model(self._workspace, name))
            known = ", ".join(filter(None, [loaded.optimizer, loaded.loss]))
            compiled = f"compiled with {known}" if known else "not compiled"
            sizes = _sizes(loaded)
            self._terminal.log(
                f"{path}: {pluralize(loaded.parameters, 'parameter', grouped=True)}, {sizes}, {compiled}."
            )
            for note in loaded.notes:
                self._terminal.log(f"Note: {note}.")
            return path, loaded

    def _ask_compiled(self, key: str, compiled: str, problems: Mapping[str, Problem]) -> Value:
        """Ask for optimizer or loss: the compiled one is the default; without one there is no default."""

        none = "none: that of the file can't be used" if key in problems else "none: the model is not compiled"
        return self._answers.ask(
            key,
            check=lambda value: check_compiled(key, value, compiled, problems),
            default=COMPILED,
            shown_default=f"{compiled}, as compiled" if compiled else none,
        )

    def _compile(self, values: Mapping[str, Value]) -> Compiled:
        compiled = self._loop.call(self._models.ask(compile_request(values), Compiled))
        for note in compiled.notes:
            self._terminal.log(f"Note: {note}.")
        return compiled

    # --- the data -----------------------------------------------------------------------------------------------

    def _check_order(self, order: str, compiled: Compiled, values: Mapping[str, Value], loaded: Loaded) -> None:
        check_rows(self._workspace, values, order, compiled.loss, is_single=loaded.is_single)

    def _load_dataset(
        self, values: Mapping[str, Value], model: Loaded
    ) -> concurrent.futures.Future[LoadedDataset] | None:
        if values["data"] != "keras":
            return None
        name, args = str(values["dataset"]), str(values.get("dataset_args") or "")
        return self._loop.submit(load_dataset(self._models, name, args, model.input_shape, self._scratch))

    def _loaded_dataset(
        self, job: Job, loading: concurrent.futures.Future[LoadedDataset] | None
    ) -> LoadedDataset | None:
        if loading is None:
            return None
        if not loading.done():
            self._terminal.log(f"Loading {job.dataset}: Keras downloads it on first use …")
        return self._loop.result(loading)


NEVER_ASKED = tuple(key for key, field in FIELDS.items() if not field.question)


def ask_data(answers: Answers) -> dict[str, Value]:
    """Ask questions 11 to 13: the source of the rows. Naming a dataset implies --data keras; files are used completely.

    Raises:
        InputError: there is no such Keras dataset.
    """
    named = answers.was_given("dataset") and not answers.was_given("data")
    if (data := "keras" if named else answers.ask("data", check=check_data)) == "keras":
        dataset = check_dataset(str(answers.ask("dataset", check=lambda name: check_dataset(str(name)))))
        return {"data": data, "dataset": dataset, "samples": answers.ask("samples", shown_default="all")}
    # A flag that is for a set of Keras is an error, which `make_job` reports; a line of server.toml is not meant.
    found: dict[str, Value] = {"data": data, "dataset": answers.given("dataset")}
    found["samples"] = answers.unasked("samples") if data == "files" else answers.given("samples")
    return found if answers.was_given("dataset_args") else {**found, "dataset_args": None}


def _sizes(loaded: Loaded) -> str:
    """Return the shapes of inputs and outputs: 8×8×1 → 10, or with names where there are several."""
    if loaded.is_single:
        return f"{_shape(loaded.inputs[0].shape)} → {_shape(loaded.outputs[0].shape)}"
    sides = ([f"{each.name} {_shape(each.shape)}" for each in side] for side in (loaded.inputs, loaded.outputs))
    return " → ".join(", ".join(side) for side in sides)


def _shape(shape: tuple[int | None, ...]) -> str:
    return "×".join("?" if n is None else str(n) for n in shape[1:]) or "1"
