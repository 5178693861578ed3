"""What logs/README.md shows of the code: the lines of `events.jsonl` and `predictions.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from tables_markdown import table

from lanfit_server.run import events


def kinds() -> list[type[events.RunEvent]]:
    """Return the events of a run that are written into `events.jsonl`, in the order of the module."""
    found = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, events.RunEvent)]
    return [each for each in found if each is not events.RunEvent and each not in events.ELSEWHERE]


def _table(kinds: Iterable[type[msgspec.Struct]]) -> str:
    rows = []
    for kind in kinds:
        facts = ", ".join(f"`{name}`" for name in kind.__struct_fields__ if name != "figures")
        facts += ", and each metric by its name" if "figures" in kind.__struct_fields__ else ""
        first = (kind.__doc__ or "").split("\n\n")[0]
        rows.append([f"`{kind.__struct_config__.tag}`", facts, " ".join(first.split())])
    return table(["event", "facts", ""], rows)


#: Those of `predictions.jsonl`.
PREDICTIONS = (events.RowsShown, events.RowsPredicted, events.ConfusionCounted)

TABLES: dict[str, Callable[[], str]] = {
    "events": lambda: _table(kinds()),
    "predictions": lambda: _table(PREDICTIONS),
}
