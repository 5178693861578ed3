"""The names of metrics: any name that Keras accepts and that files, terminals and tables can show.

A name is sent unchanged, including spaces. Terminals, CSV files and log lines contain it, so it has no control
characters and no line breaks. Some names have a special meaning in a history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

#: The maximum number of metrics of a model, and of the bytes of their names: metrics are sent in messages, a second
#: time with the prefix `val_`.
MOST_METRICS = 256
MOST_BYTES = 8000
#: The maximum number of characters of one name.
LONGEST_NAME = 200
#: The maximum number of metrics in a message: of training, of validation, and standard metrics of both.
MOST_FIGURES = 2 * MOST_METRICS + 16
#: The prefix of validation metrics, and of a compiled metric that has the name of a standard metric.
VALIDATION = "val_"
COMPILED = "compiled_"
#: The standard metrics that lanfit computes itself.
STANDARD_METRICS = ("loss", "accuracy", "precision", "recall", "f1", "mae", "r2")
#: If a compiled metric has the name of a standard metric but another value, both are reported.
COMPILED_METRICS = {f"{COMPILED}{name}": name for name in STANDARD_METRICS}


def standard_metric(name: str) -> str:
    """Return the standard metric that has the name of this compiled metric; empty if there is none.

    With several outputs, the name of the output comes before the metric: `compiled_kind_precision`.
    """
    score = name.removeprefix(COMPILED)
    return score if score != name and score.endswith(STANDARD_METRICS) else ""


def part_of(name: str) -> tuple[str, str]:
    """Return the metric of a column of a history, and its part: `training` or `validation`."""
    metric = name.removeprefix(VALIDATION)
    return metric, "training" if metric == name else "validation"


def is_figure_name(name: str) -> bool:
    """Return whether a peer may use this name for a metric."""
    return 0 < len(name) <= LONGEST_NAME + len(VALIDATION) and name.isprintable()


def are_figure_names(names: Collection[str]) -> bool:
    """Return whether a peer may use these names for its metrics."""
    return len(names) <= MOST_FIGURES and all(map(is_figure_name, names))


def why_no_metric(name: str) -> str:
    """Return why a model can't be compiled with a metric of this name; empty if it can."""
    if name == "loss":
        return "that is what the loss itself is called"
    if name.startswith(VALIDATION):
        return f"{VALIDATION} is the prefix of validation metrics"
    if name in COMPILED_METRICS:
        return f"it is reserved for a metric {COMPILED_METRICS[name]} with which the model is compiled"
    if len(name) > LONGEST_NAME:
        return f"it has {len(name)} characters, and may have {LONGEST_NAME}"
    if not is_figure_name(name):
        return "it is empty" if not name else "it holds characters that can't be shown"
    return ""


def size_of(names: Iterable[str]) -> int:
    """Return the number of bytes of all these names."""
    return sum(len(name.encode(errors="replace")) for name in names)
