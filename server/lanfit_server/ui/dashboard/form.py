"""The form of the live page: generated from the table of settings, and checked by the checks of the prompts.

`fields` describes the form. `Form.check` takes what the page sends, in any order and of any type, and returns a job or
an error for each field that is wrong. Both are functions of the workspace; nothing is started here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lanfit import backends
from lanfit.core.text import printable
from lanfit.core.workspace import Workspace
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.models.allowlist import LOSS_NAMES, OPTIMIZER_NAMES
from lanfit.models.compiling import loss_name, override, read_spec
from lanfit.models.custom_files import AllowedFile
from lanfit.settings.fields import Field, Value, did_you_mean, text_of
from lanfit.settings.job import (
    ARRAYS,
    COMPILED,
    DATA_CHOICES,
    DEFAULTS,
    DEVICES,
    FIELDS,
    KEEPS,
    NORMALIZER_CHOICES,
    ORDER_CHOICES,
    Job,
    default_of,
    make_job,
)
from lanfit.settings.methods import METHODS, methods_with
from lanfit.settings.partition import PARTITION_OF_FIELD, PARTITIONS
from lanfit.settings.rounds import AGGREGATIONS, SERVER_OPTIMIZERS, STRATEGIES
from lanfit_server.data.demo_data import check_digits
from lanfit_server.data.model_source import ModelFile, compile_request
from lanfit_server.methods import registry
from lanfit_server.models.custom_files import files_of, stored_names
from lanfit_server.models.handle import Inspected
from lanfit_server.models.keras_datasets import DATASETS, check_dataset
from lanfit_server.models.model_folder import find_model, models_in
from lanfit_server.start.job_checks import check_compiled, check_data, check_rows

#: The source of rows that only the page offers: the digits, which are copied into dataset/ and read as files.
DIGITS = "digits"
#: The fields, by group, in the order in which the page shows them.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Model": ("model", "optimizer", "loss", "learning_rate", "metrics", "custom_objects"),
    "Data": (
        "data",
        "dataset",
        "dataset_args",
        "samples",
        "normalizer",
        "normalize_targets",
        "order",
        "validation_split",
        "test_split",
        "npz_key",
        "inputs",
        "targets",
        "decimal",
        "thousands",
    ),
    "Training": (
        "method",
        "epochs",
        "batch_size",
        "patience",
        "keep",
        "seed",
        "folds",
        "merge",
        "rounds",
        "local_steps",
        "strategy",
        "aggregation",
        "share",
        "round_deadline",
        "norm_limit",
        "server_learning_rate",
        "server_momentum",
        "server_beta_1",
        "server_beta_2",
        "server_tau",
        "proximal_mu",
        "trim",
        "byzantine",
        "krum_keep",
    ),
    "Clients": (
        "clients",
        "local",
        "threads",
        "start_after",
        "min_clients",
        "backend",
        "device",
        "deal",
        "alpha",
        "classes_per_client",
        "parts_of",
        "parts",
        "deadline",
        "max_weight",
        "keep_runs",
    ),
}
KEYS = tuple(key for keys in GROUPS.values() for key in keys)
_OF_FILES = {"data": ["files", "client"]}
#: When a field is shown, apart from its methods: other fields, and the values that they have then.
_SHOWN_IF: Mapping[str, Mapping[str, list[str]]] = {
    "dataset": {"data": ["keras"]},
    "dataset_args": {"data": ["keras"]},
    "samples": {"data": ["files", "keras", DIGITS]},
    **dict.fromkeys(("npz_key", "decimal", "thousands"), _OF_FILES),
    **{key: {"data": ["files"]} for key in ("inputs", "targets")},
    **{key: {"data": ["client"]} for key in ("deadline", "max_weight")},
    **{key: {"strategy": list(s)} for key, s in SERVER_OPTIMIZERS.items()},
    "trim": {"aggregation": ["trimmed-mean"]},
    **{key: {"aggregation": ["krum"]} for key in ("byzantine", "krum_keep")},
    **{key: {"deal": [partition]} for key, partition in PARTITION_OF_FIELD.items()},
}
#: The optimizers that come first.
_USUAL = ("adam", "sgd", "rmsprop", "adamw")
_LABELS = {
    **OPTIMIZER_NAMES,
    "files": "files in dataset/",
    "client": "each client's own files",
    "keras": "a Keras dataset",
    DIGITS: "the included digits",
    COMPILED: "as compiled",
    "XX": "XX: the target is the input",
    "XY": "XY: targets of their own",
}
_DURATIONS = frozenset({"start_after", "deadline", "round_deadline"})
#: The numbers of choices at a terminal, as in "0 none, 1 scale"; the page lists the choices themselves.
_NUMBERED = re.compile(r"(?<=[:;,] )\d (?=\w)")


def _choices(key: str) -> list[str] | None:
    """Return the values of a field with a fixed choice; None for others."""
    tables: dict[str, Callable[[], list[str]]] = {
        "data": lambda: [*DATA_CHOICES.values(), DIGITS],
        "method": lambda: list(METHODS),
        "normalizer": lambda: list(NORMALIZER_CHOICES.values()),
        "normalize_targets": lambda: list(NORMALIZER_CHOICES.values()),
        "order": lambda: list(ORDER_CHOICES.values()),
        "device": lambda: list(DEVICES),
        "deal": lambda: list(PARTITIONS),
        "strategy": lambda: list(STRATEGIES),
        "aggregation": lambda: list(AGGREGATIONS),
        "keep": lambda: list(KEEPS),
        "merge": lambda: ["average", "ensemble", "average,ensemble"],
        "decimal": lambda: ["point", "comma"],
        "thousands": lambda: ["comma", "point", "space", "none"],
        "backend": lambda: list(backends.names()),
        "dataset": lambda: list(DATASETS),
        "optimizer": lambda: [COMPILED, *_USUAL, *sorted(OPTIMIZER_NAMES.keys() - set(_USUAL))],
        "loss": lambda: [COMPILED, *sorted(set(LOSS_NAMES.values()))],
    }
    return tables[key]() if key in tables else None


def shown_if(key: str) -> Mapping[str, list[str]]:
    """Return when a field is shown: other fields, and the values that they have then."""
    methods = methods_with(key)
    return {**({"method": methods} if methods else {}), **_SHOWN_IF.get(key, {})}


def _name(value: str) -> str:
    """Return a choice as the page shows it."""
    return f"{value}: {METHODS[value].label}" if value in METHODS else _LABELS.get(value, value)


def _type(key: str) -> str:
    """Return the type of a field's input on the page."""
    if _choices(key) is not None or key == "model":
        return "choice"
    if key in _DURATIONS or key == "samples":  # numbers, with a unit or a word
        return "text"
    kind = str(Job.__annotations__[key]).partition(" ")[0]
    return {"int": "int", "float": "float", "bool": "bool"}.get(kind, "text")


def _label(each: Field) -> str:
    text = each.question.partition(" (")[0] or each.key.replace("_", " ").capitalize()
    return {"Order of input and output": "Order", "Training method": "Method"}.get(text, text)


def fields(workspace: Workspace, defaults: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Return the groups of fields, for JSON.

    Args:
        defaults: instead of the built-in ones.
    """
    return [
        {"title": title, "fields": [_described(FIELDS[key], workspace, defaults) for key in keys]}
        for title, keys in GROUPS.items()
    ]


def _described(each: Field, workspace: Workspace, defaults: Mapping[str, Value]) -> dict[str, Any]:
    key = each.key
    choices = _choices(key)
    if key == "model":
        choices = [path.name for path in models_in(workspace)]
    default = defaults.get(key, default_of(key))
    if key == "model":
        default = _model_name(str(default), workspace) if default else next(iter(choices or ()), None)
    if key == "samples" and not default:
        default = "all"
    shown: dict[str, Any] = {
        "key": key,
        "label": _label(each),
        "help": each.help if choices is None else _NUMBERED.sub("", each.help),
        "type": _type(key),
        "default": ",".join(default) if isinstance(default, tuple) else default,
        "optional": default is None,
        "default_in_words": each.default,
        "shown_if": shown_if(key),
    }
    if choices is not None:
        shown["choices"] = [{"value": value, "label": _name(value)} for value in choices]
    return shown


def problem(wrong: LanfitError) -> dict[str, str]:
    """Return an error for JSON."""
    return {"error": wrong.message, "hint": wrong.hint, "code": wrong.code}


# --- what the page sends ----------------------------------------------------------------------------------------


@dataclass
class Checked:
    """The result of checking a form: a job, or errors by field; "" is the form as a whole."""

    values: dict[str, Value]
    errors: dict[str, LanfitError] = field(default_factory=dict)
    job: Job | None = None
    custom: tuple[AllowedFile, ...] = ()
    uses_digits: bool = False

    def put(self, key: str, wrong: LanfitError) -> None:
        """Note an error; the first one of a field is kept."""
        self.errors.setdefault(key, wrong)

    def problems(self) -> dict[str, dict[str, str]]:
        """Return the errors for JSON."""
        return {key: problem(wrong) for key, wrong in self.errors.items()}


def parsed(raw: Mapping[str, object]) -> Checked:
    """Parse each field by itself."""
    found = Checked({})
    for key, value in raw.items():
        if key == "passphrase":
            found.put(key, lanfit_error("settings.passphrase"))
        elif key not in KEYS:
            found.put(key, lanfit_error("settings.unknown-key", key=key, guess=did_you_mean(key, KEYS)))
        elif isinstance(value, dict) or (isinstance(value, list) and any(isinstance(x, dict | list) for x in value)):
            found.put(key, lanfit_error("settings.table", key=key))
        elif value is None or value == [] or (isinstance(value, str) and not value.strip()):
            continue
        elif key == "data" and value == DIGITS:
            found.values["data"], found.uses_digits = "files", True
        else:
            try:
                found.values[key] = _read(FIELDS[key], value)
            except InputError as error:
                found.put(key, error)
    return found


def _read(each: Field, raw: object) -> Value:
    """Return the value of a field; its error does not repeat the name of the field next to it."""
    try:
        value = each.parse(text_of(raw))
    except InputError as error:
        raise type(error)(error.message, f"{error.hint} {each.help}".strip(), error.code) from None
    if each.key == "dataset":
        return check_dataset(str(value))
    if each.key == "data":
        check_data(value)
    return value


def with_defaults(values: Mapping[str, Value], defaults: Mapping[str, Value]) -> dict[str, Value]:
    """Return values with defaults for what was left out, without those of fields that are not shown then."""
    both = {**{key: defaults[key] for key in KEYS if defaults.get(key) is not None}, **values}
    if both.get("data") == ARRAYS:
        del both["data"]
    shown = {key: value for key, value in both.items() if key in values or _is_shown(key, both)}
    return {key: value for key, value in shown.items() if key in values or _is_shown(key, shown)}


def _is_shown(key: str, values: Mapping[str, Value]) -> bool:
    wanted = shown_if(key)
    return all(str(values.get(other, default_of(other))) in allowed for other, allowed in wanted.items())


def _model_name(name: str, workspace: Workspace) -> str:
    """Return the name of a file in model/; a path to it is accepted, too."""
    return name.removeprefix(f"{workspace.relative(workspace.models)}/")


def check(
    raw: Mapping[str, object],
    workspace: Workspace,
    defaults: Mapping[str, Value],
    fixed: Mapping[str, Value],
    looked: Callable[[str], Inspected | None] = lambda name: None,
) -> Checked:
    """Check a form: each field, then combinations of fields, then the model and the files.

    Args:
        raw: as the page sends it.
        defaults: of fields that it leaves out.
        fixed: values that are not a matter of the form, such as the port.
        looked: returns what the file of a model holds, if that is known; raises its error.
    """
    found = parsed(raw)
    found.values = with_defaults(found.values, defaults)
    _check_model(found, workspace)
    _check_custom(found, workspace)
    local = found.values.get("local")
    if isinstance(local, int) and local:
        found.values.setdefault("clients", local)
        found.values.setdefault("threads", max(1, (os.cpu_count() or 1) // local))
    job = _job_of(found, fixed)
    _check_contents(found, job, workspace, looked)
    found.job = None if found.errors else job
    return found


def _check_model(found: Checked, workspace: Workspace) -> None:
    """Check that the model is a file in model/: the page can't read any other file of this machine."""
    names = [path.name for path in models_in(workspace)]
    if "model" not in found.values:
        if "model" not in found.errors:
            if names:
                found.values["model"] = names[0]
            else:
                found.put("model", _error_of(lambda: find_model(workspace, "")))
        return
    name = _model_name(str(found.values["model"]), workspace)
    found.values["model"] = name
    if name not in names:
        known = ", ".join(names) or "no model"
        folder = workspace.relative(workspace.models)
        found.put("model", lanfit_error("model.not-found", name=printable(name), folder=folder, found=known))


def _check_custom(found: Checked, workspace: Workspace) -> None:
    """Check that files with custom objects, which are executed, are in model/."""
    given = found.values.get("custom_objects")
    if not isinstance(given, tuple):
        return
    try:
        for text in given:
            name = text.partition("#")[0]
            path = (workspace.models / _model_name(name, workspace)).resolve()
            if path.parent != workspace.models.resolve():
                raise lanfit_error("custom.no-file", path=f"{workspace.relative(workspace.models)}/{name}")
        named = tuple(str(workspace.models / _model_name(text, workspace)) for text in given)
        found.custom = files_of(named, workspace)
        found.values["custom_objects"] = stored_names(found.custom, workspace)
    except LanfitError as error:
        found.put("custom_objects", error)


def _error_of(call: Callable[[], object]) -> LanfitError:
    try:
        call()
    except LanfitError as error:
        return error
    raise AssertionError("it should be wrong")


def _job_of(found: Checked, fixed: Mapping[str, Value]) -> Job:
    """Return the job, without what contradicts the rest: every contradiction is noted beside one of its fields."""
    values = {key: value for key, value in found.values.items() if key not in found.errors}
    while True:
        try:
            job = make_job({**values, **fixed})
            registry.METHODS[job.method].check(job)
            return job
        except LanfitError as error:
            key = key_of(error)
            found.put(key, error)
            # One contradiction may hide another.
            if key not in values:
                return DEFAULTS
            del values[key]


#: Beside which field an error is shown that names another flag first, or none.
_FIELD_OF = {
    "deal.own-files": "deal",
    "compile.learning-rate": "learning_rate",
    "targets.classes-with-xx": "order",
    "parts.more-clients": "parts",
    "job.no-dataset": "dataset",
}


def key_of(wrong: LanfitError) -> str:
    """Return the field that an error is about: that of the first flag in its text; "" if there is none."""
    if wrong.code in _FIELD_OF:
        return _FIELD_OF[wrong.code]
    text = f"{wrong.message} {wrong.hint}"
    flags = {each.flag: key for key, each in FIELDS.items() if key in KEYS}
    places = [(place, -len(flag), key) for flag, key in flags.items() if (place := text.find(flag)) >= 0]
    return min(places)[2] if places else ""


def _check_contents(found: Checked, job: Job, workspace: Workspace, looked: Callable[[str], Inspected | None]) -> None:
    """Check the contents of the model file and of the folders with data."""
    if found.uses_digits:
        _note(found, "data", partial(check_digits, workspace))
    facts = None
    if "model" not in found.errors and not found.custom:
        try:
            facts = looked(str(found.values["model"]))
        except LanfitError as error:
            found.put("model", error)
    for key in ("optimizer", "loss"):
        value = found.values.get(key, COMPILED)
        if key not in found.errors and (facts is not None or value != COMPILED):
            compiled = getattr(facts, key) if facts is not None else ""
            _note(found, key, partial(check_compiled, key, value, compiled, facts.problems if facts else {}))
    if facts is None or found.errors.keys() & {"optimizer", "loss", "learning_rate", "metrics"}:
        return
    try:
        chosen = compile_request(found.values)
        spec = read_spec(facts.compile) if facts.compile else None
        spec = override(spec, chosen.optimizer, chosen.loss, chosen.learning_rate, chosen.metrics)
    except LanfitError as error:
        found.put(key_of(error) or "model", error)
        return
    if found.errors.keys() & {"data", "order", "inputs", "targets"}:
        return
    values = {**found.values, "data": DIGITS if found.uses_digits else job.data}
    try:
        check_rows(workspace, values, job.order, loss_name(spec), is_single=facts.is_single)
    except LanfitError as error:
        found.put("order" if error.code in _FIELD_OF else "data", error)


def _note(found: Checked, key: str, call: Callable[[], object]) -> None:
    try:
        call()
    except LanfitError as error:
        found.put(key, error)


def model_file(checked: Checked, workspace: Workspace) -> ModelFile:
    """Return the model of a form without errors, to be read when its run starts."""
    assert checked.job is not None
    path = find_model(workspace, checked.job.model)
    return ModelFile(str(path), compile_request(checked.values), checked.custom)
