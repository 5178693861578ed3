"""What can be wrong with a model: its file, what it is made of, how it is compiled, what it makes of the data."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError
from lanfit.mistakes.entry import Mistake

MISTAKES: Mapping[str, Mistake] = {
    "model.too-large-to-send": Mistake(
        InputError,
        "{file} has an architecture of {size:,} bytes; {most:,} can be sent to clients",
        "Use a model with fewer layers.",
    ),
    "model.out-of-memory": Mistake(
        InputError,
        "the model process ran out of memory",
        "Use a smaller model or fewer rows.",
    ),
}
