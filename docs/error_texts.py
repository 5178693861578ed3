"""The errors of all packages together, which only documents, tests and benchmarks need."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import lanfit
import lanfit_client
import lanfit_server
from lanfit.errors import ErrorText


def _tables() -> dict[str, Mapping[str, ErrorText]]:
    """Return the tables by the name of their package."""
    found: dict[str, Mapping[str, ErrorText]] = {}
    for top in (lanfit, lanfit_client, lanfit_server):
        root = Path(top.__path__[0])
        for path in sorted(root.rglob("errors.py")):
            name = ".".join((top.__name__, *path.parent.relative_to(root).parts))
            if name != "lanfit":  # the error tree
                found[name] = importlib.import_module(f"{name}.errors").ERRORS
    return found


TABLES = _tables()
ERRORS: Mapping[str, ErrorText] = {code: text for table in TABLES.values() for code, text in table.items()}
