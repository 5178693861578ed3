"""docs/threats.md: every promise in it names its tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threats.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def section(title: str) -> str:
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(TEXT)
    assert named
    for file, function in named:
        path = ROOT / file
        assert path.is_file(), file
        functions = {
            node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)
        }
        assert not function or function in functions, f"{file}::{function}"
        assert any(name.startswith("test_") for name in functions), file


def test_every_promise_has_a_test_and_a_weakness() -> None:
    table = rows("Promise, test and weakness side by side")
    reported = re.findall(r"^- \*\*", section("What is promised"), re.MULTILINE)
    assert len(table) == len(reported)
    for promise, tests, weakness in table:
        assert NAMED.search(tests), promise
        assert weakness, promise
