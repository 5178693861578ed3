"""Requests for the rows of a model of one input and one output, as most tests want them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from lanfit.data.prepare import DataRequest
from lanfit.wire.tasks import InputSpec, OutputSpec, X, Y

#: What is said of the only input, and of the only output: by the names that the specs have for it.
OF_INPUT = {"input_shape": "shape", "normalizer": "normalizer", "ids": "ids"}
OF_OUTPUT = {"output_shape": "shape", "target": "target", "normalize_targets": "normalizer", "ignored": "ignored"}


def data_request(**facts: Any) -> DataRequest:
    """A request; shape, normalizer and target are said as if there were nothing else."""
    given = {new: facts.pop(old) for old, new in OF_INPUT.items() if old in facts}
    output = {new: facts.pop(old) for old, new in OF_OUTPUT.items() if old in facts}
    return DataRequest(inputs=(InputSpec(X, **given),), outputs=(OutputSpec(Y, **output),), **facts)


def changed(request: DataRequest, **facts: Any) -> DataRequest:
    """The same with changes, said in this way."""
    given = {new: facts.pop(old) for old, new in OF_INPUT.items() if old in facts}
    output = {new: facts.pop(old) for old, new in OF_OUTPUT.items() if old in facts}
    [one], [other] = request.inputs, request.outputs
    inputs, outputs = (msgspec.structs.replace(one, **given),), (msgspec.structs.replace(other, **output),)
    return replace(request, inputs=inputs, outputs=outputs, **facts)
