"""The names of metrics: whatever Keras takes, as long as files, terminals and tables can show it.

A name travels as it is, spaces and all. A terminal shows it, a CSV file quotes it, a log line holds it: so it has no
control character and no line break. Some names have a meaning of their own in a history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

#: So many metrics a model may be compiled with, and so many bytes their names may have together: figures travel in
#: messages, with `val_` in front a second time.
MOST_METRICS = 256
MOST_BYTES = 8000
#: Characters of one name.
LONGEST_NAME = 200
#: A message holds no more figures than this: of training, of validation, and scores of the same.
MOST_FIGURES = 2 * MOST_METRICS + 16
#: In front of the figures of validation, and of a compiled metric whose name one of the scores has.
VALIDATION = "val_"
COMPILED = "compiled_"
#: The scores that lanfit computes itself.
SCORES = ("loss", "accuracy", "precision", "recall", "f1", "mae", "r2")
#: Where a compiled metric has the name of a score, and another meaning, both are given.
COMPILED_SCORES = {f"{COMPILED}{name}": name for name in SCORES}


def is_figure_name(name: str) -> bool:
    """Whether a peer may call a figure so."""
    return 0 < len(name) <= LONGEST_NAME + len(VALIDATION) and name.isprintable()


def are_figure_names(names: Collection[str]) -> bool:
    """Whether a peer may call its figures so."""
    return len(names) <= MOST_FIGURES and all(map(is_figure_name, names))


def why_no_metric(name: str) -> str:
    """Why a model can't be compiled with a metric of this name; empty when it can."""
    if name == "loss":
        return "that is what the loss itself is called"
    if name.startswith(VALIDATION):
        return f"{VALIDATION} stands in front of figures of validation"
    if name in COMPILED_SCORES:
        return f"it stands for a metric {COMPILED_SCORES[name]} that the model is compiled with"
    if len(name) > LONGEST_NAME:
        return f"it has {len(name)} characters, and may have {LONGEST_NAME}"
    if not is_figure_name(name):
        return "it is empty" if not name else "it holds characters that can't be shown"
    return ""


def size_of(names: Iterable[str]) -> int:
    """The bytes of all these names."""
    return sum(len(name.encode(errors="replace")) for name in names)
