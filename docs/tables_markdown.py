"""Tables in a Markdown document, between markers: how they are written and found. Knows nothing of what they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

_MARKED = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def fill(document: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return a document with the tables between its markers made anew.

    Raises:
        ValueError: a table that there is has no place in the document, or a place has no table.
    """
    places = {match["name"] for match in _MARKED.finditer(document)}
    if places != set(tables):
        raise ValueError(f"the document has places for {sorted(places)}, the tables are {sorted(tables)}")
    return _MARKED.sub(lambda match: f"{match[1]}\n{tables[match['name']]()}\n\n{match[3]}", document)
