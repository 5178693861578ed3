"""Read the compile options of a model file as strictly as those of a peer."""

from __future__ import annotations

from lanfit.errors import InputError
from lanfit.models.compiling import CompileSpec, read_options


def read_config(text: str) -> CompileSpec | None:
    """Return the spec in a file's own JSON; None if it says no optimizer and no loss.

    Raises:
        InputError: a function or class is not Keras' own, or there is more than one loss.
    """
    options = read_options(text)
    for problem in options.problems.values():
        raise problem
    if options.left_out:
        raise InputError(f"Keras knows no metric {options.left_out}")
    return options.spec
