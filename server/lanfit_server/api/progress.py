"""The output of a fit in a program or a notebook, on standard output as in Keras' fit. Decides nothing.

A bar at a terminal or in a notebook, if tqdm is installed; plain lines elsewhere: no control characters in a log.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

from lanfit.core.encoding import encodable
from lanfit.core.text import sanitize


class Progress:
    """Shows the progress of a fit.

    Args:
        verbose: as Keras has it: 0 nothing, 1 all, 2 a line for each epoch or round.
        what: "epoch" or "round".
        total: how many there will be; 0: there is no bar.
    """

    def __init__(self, verbose: int, what: str, total: int) -> None:
        self._verbose = verbose
        self._what = what
        self._total = total
        self._bar: Any = _bar(total, what) if verbose == 1 and total else None

    def note(self, text: str) -> None:
        """Show a line, unless the output is silent."""
        if self._verbose:
            self._write(text)

    def detail(self, text: str) -> None:
        """Show a line if the output is verbose."""
        if self._verbose == 1:
            self._write(text)

    def step(self, number: int, logs: Mapping[str, float]) -> None:
        """Show a finished epoch or round, from 1."""
        if not self._verbose:
            return
        shown = " - ".join(f"{name}: {value:.4f}" for name, value in logs.items())
        if self._bar is not None:
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(number - self._bar.n)
        else:
            self._write(f"{self._what.capitalize()} {number}/{self._total} - {shown}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _write(self, text: str) -> None:
        line = "\n".join(sanitize(part) for part in text.splitlines())
        if self._bar is not None:
            self._bar.write(line)
        else:
            sys.stdout.write(encodable(line, sys.stdout) + "\n")
            sys.stdout.flush()


def _bar(total: int, what: str) -> Any:
    """Return a tqdm bar if it can be drawn, else None."""
    if not (_in_notebook() or sys.stdout.isatty()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a notebook without widgets gets a text bar
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit=what, file=sys.stdout)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
