"""The table of docs/errors.md: every error, from the one table of the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tables_markdown import table

from lanfit.mistakes import MISTAKES


def _errors() -> str:
    """Every error, one table an area; what differs from case to case is in italics."""
    areas = dict.fromkeys(code.partition(".")[0] for code in MISTAKES)
    return "\n\n".join(f"### {area}\n\n{_errors_of(area)}" for area in areas)


def _errors_of(area: str) -> str:
    def shown(template: str) -> str:
        template = template.replace("{guess}", " (did you mean …?)")
        return re.sub(r"\{(\w+)[^}]*\}", lambda match: f"*{match[1].replace('_', ' ')}*", template)

    rows = [
        (f"`{code}`", entry.kind.exit_code, shown(entry.message), shown(entry.hint))
        for code, entry in MISTAKES.items()
        if code.startswith(f"{area}.")
    ]
    return table(["code", "exit code", "what it says", "what to do"], rows)


TABLES: Mapping[str, Callable[[], str]] = {"errors": _errors}
