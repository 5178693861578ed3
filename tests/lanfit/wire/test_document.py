import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
PROTOCOL = DOCS / "protocol.md"
sys.path.insert(0, str(DOCS))
import tables as documents  # noqa: E402
from tables_markdown import fill  # noqa: E402


def test_the_tables_in_the_protocol_document_are_those_of_the_code() -> None:
    assert documents.filled(PROTOCOL) == PROTOCOL.read_text("utf-8"), "run: python docs/tables.py docs/protocol.md"


def test_the_table_of_errors_is_that_of_the_code() -> None:
    path = DOCS / "errors.md"
    assert documents.filled(path) == path.read_text("utf-8"), "run: python docs/tables.py docs/errors.md"


def test_the_tables_tell_the_docstrings_of_messages_and_fields() -> None:
    table = documents.DOCUMENTS["protocol.md"]["from-client"]()
    assert "**`join`** The first message of a client: its identity and its capabilities." in table
    assert "| `free_memory` | Size | In bytes; 0 if unknown. |" in table


def test_a_document_that_lacks_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="places for"):
        fill("<!-- table: frames -->\n<!-- end -->", documents.DOCUMENTS["protocol.md"])


def test_writing_the_tables_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "protocol.md"
    path.write_text(PROTOCOL.read_text("utf-8").replace("CLIENT_PROOF", "STALE"), "utf-8")
    documents.main([str(path)])
    assert path.read_text("utf-8") == PROTOCOL.read_text("utf-8")
