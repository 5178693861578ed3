"""The tables of some documents are made from the code, so that the documents can't say anything else.

    python docs/tables.py docs/protocol.md docs/reference.md docs/errors.md docs/failures.md logs/README.md

writes them between their markers. The prose around them is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tables_of_errors
import tables_of_events
import tables_of_failures
import tables_of_protocol
import tables_of_reference
from tables_markdown import fill

#: The name of a document → its tables by their names.
DOCUMENTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "errors.md": tables_of_errors.TABLES,
    "failures.md": tables_of_failures.TABLES,
    "protocol.md": tables_of_protocol.TABLES,
    "reference.md": tables_of_reference.TABLES,
    "README.md": tables_of_events.TABLES,
}


def filled(path: Path) -> str:
    """A document as it should be."""
    return fill(path.read_text("utf-8"), DOCUMENTS[path.name])


def main(arguments: Sequence[str]) -> None:
    """Write the tables into the named documents."""
    for path in map(Path, arguments):
        path.write_text(filled(path), "utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
