"""The facts about a run on the page that do not change during the run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import PurePath
from typing import Any

import msgspec

from lanfit.core.decoding import decode_json
from lanfit.models.compiling import unchecked_spec
from lanfit.models.runtime import versions
from lanfit.settings.changes import Changes
from lanfit.settings.job import Job
from lanfit.wire.arrays import ArraySpec
from lanfit_server.methods.registry import METHODS, folds_of
from lanfit_server.store.ledger import RunRecord, labels_by_target
from lanfit_server.watchers import RunFacts


def view_of(job: Job, facts: RunFacts | None = None, *, began: float) -> dict[str, Any]:
    """Return the section `run` of a run that is about to start, or that has started if there are `facts` about it.

    Args:
        began: seconds since 1970.
    """
    record = facts.record if facts else None
    changes = Changes.of(job.changes).entries
    first = job.learning_rate or (rate_of(record.model.compile) if record else None)
    rates = [each.value for each in changes if each.setting == "learning_rate" and isinstance(each.where, int)]
    return {
        "run": facts.run if facts else "",
        "state": "starting",
        "status": "",
        "method": job.method,
        "began": round(began, 3),
        "rounds": job.rounds if METHODS[job.method].in_rounds else None,
        "round": 0,
        "folds": folds_of(job),
        "epochs": job.epochs,
        "batch_size": job.batch_size,
        "learning_rate": rates[-1] if rates else first,
        "first_learning_rate": first,
        "paused": False,
        "stopping": False,
        "progress": 0.0,
        "seconds_left": None,
        "metrics": {},
        "error": "",
        "hint": "",
        "changes": [{"setting": e.setting, "value": f"{e.value:g}", "from": str(e.where)} for e in changes],
        "job": settings_of(job),
        "versions": versions(),
        "model": model_of(record) if record else {"name": job.model, "parameters": None, "layers": []},
        "classes": classes_of(record) if record else None,
        "warnings": [],
        "owners": list(facts.owners) if facts else [],
        "data": _data_of(record) if record else None,
    }


def rate_of(compiled: str) -> float | None:
    """Return the learning rate of a compiled model, from its options in JSON; None if a schedule changes it."""
    optimizer = unchecked_spec(compiled).optimizer or {}
    rate = optimizer.get("config", {}).get("learning_rate")
    return float(rate) if isinstance(rate, int | float) else None


def settings_of(job: Job) -> dict[str, Any]:
    """Return the settings of a job that have a value, by key."""
    return {key: value for key, value in msgspec.to_builtins(job).items() if value is not None}


def _data_of(record: RunRecord) -> dict[str, Any]:
    return {"train": record.train, "validation": record.validation, "test": record.test}


def classes_of(record: RunRecord) -> list[str] | None:
    """Return the names of the classes of the first target; None without."""
    labels = labels_by_target(record.model, record.labels).get(record.model.gives[0].name)
    return list(labels) if labels else None


def model_of(record: RunRecord) -> dict[str, Any]:
    """Return the name of a model, its parameters, and its layers."""
    layers = layers_of(record.model.architecture, record.weights, record.model.output_shape)
    return {
        "name": PurePath(record.file).name,
        "file": record.file,
        "parameters": record.parameters,
        "trainable": _parameters(spec for spec in record.weights if spec.name in record.trainable),
        "layers": layers,
    }


def layers_of(
    architecture: bytes | str, weights: Iterable[ArraySpec], output_shape: tuple[int | None, ...]
) -> list[dict[str, Any]]:
    """Return the layers of an architecture in Keras' JSON: name, type, output shape if it is known, parameters.

    A layer has the weights whose path has its name. Its output has the shape that the layers state which take it.
    """
    try:
        config = decode_json(architecture if isinstance(architecture, bytes) else architecture.encode(), dict)["config"]
        listed = [each for each in config["layers"] if isinstance(each, dict)]
    except (ValueError, LookupError, TypeError):
        return []
    weights = list(weights)
    shapes: dict[str, Any] = {}
    taken: set[int] = set()
    for each in listed:
        _collect_shapes(each.get("inbound_nodes"), shapes)
    found: list[dict[str, Any]] = []
    for number, each in enumerate(listed):
        settings = each.get("config") or {}
        name = str(settings.get("name") or each.get("name") or each.get("class_name", ""))
        own = [index for index, spec in enumerate(weights) if index not in taken and name in spec.name.split("/")]
        taken.update(own)
        shape = shapes.get(name) or settings.get("batch_shape")
        if shape is None and number + 1 == len(listed):
            shape = list(output_shape)
        elif shape is None and not shapes:  # of a Sequential
            shape = _input_shape(listed[number + 1]) or _convolved(each)
        found.append(
            {
                "name": name,
                "type": str(each.get("class_name", "")),
                "output_shape": shape,
                "parameters": _parameters(weights[index] for index in own),
            }
        )
    return found


def _input_shape(layer: Mapping[str, Any]) -> Any:
    """Return the input shape of a layer, if it states one."""
    config = layer.get("build_config")
    return config.get("input_shape") if isinstance(config, Mapping) else None


def _convolved(layer: Mapping[str, Any]) -> list[int | None] | None:
    """Return the output shape of a convolution; None for other layers. Pooling, which often follows, states none."""
    settings, shape = layer["config"], _input_shape(layer)
    try:
        kernel, strides, dilation = settings["kernel_size"], settings["strides"], settings["dilation_rate"]
        if settings["data_format"] != "channels_last" or settings["padding"] not in ("same", "valid"):
            return None
        lost = [0 if settings["padding"] == "same" else (k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        sizes = zip(shape[1:-1], lost, strides, strict=True)
        inner = [None if size is None else -(-(size - less) // stride) for size, less, stride in sizes]
        return [None, *inner, settings["filters"]]
    except (KeyError, TypeError, ValueError):
        return None


def _collect_shapes(node: Any, shapes: dict[str, Any]) -> None:
    """Collect the shapes that the inputs of a layer have, by the names of the layers that make them."""
    todo = [node]
    while todo:
        each = todo.pop()
        if isinstance(each, list):
            todo += each
        elif isinstance(each, dict):
            config = each.get("config")
            if each.get("class_name") == "__keras_tensor__" and isinstance(config, dict):
                history = config.get("keras_history") or [""]
                shapes[str(history[0])] = config.get("shape")
            else:
                todo += each.values()


def _parameters(specs: Iterable[ArraySpec]) -> int:
    return sum(prod(spec.shape) for spec in specs)
