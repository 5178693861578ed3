"""Words for people: a number and its noun agree, wherever they stand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lanfit.errors import InputError
from lanfit.mistakes import MISTAKES, mistake
from lanfit.text import noun, pluralize

#: What there may be one of.
NOUNS = (
    "byte|cell|character|class|classe|client|column|epoch|file|fold|image|label|machine|message|metric|model|number|"
    "output|parameter|part|piece|result|round|row|sample|shard|step|task|thread|trainer|value|weight"
)
#: Read by programmers alone.
INSIDE = "src/lanfit/wire/"
#: A number that is never 1, or no number at all.
NEVER_ONE = (
    "the first line has {} cells, the next {}",
    "sequences are padded with zeros in front",
    "{} bytes of the array are missing",
    "can't have one of each of the {} classes",
    "to decide where each of {} rows goes takes",
    "the plan deals one of {} rows twice",
    "{} values",
    "{} messages came faster than they could be handled",
    "{} labels can't be compared with {} predictions",
    "{} images take",
    "on their own {} rows.",
    "{} clients are simulated; they share",
    "{} of {} bytes are here already",
    "on this client's own {} rows.",
    "{kinds} files",
)


@pytest.mark.parametrize(
    ("number", "what", "said"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (2, "row", "2 rows"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
        (1, "finished result", "1 finished result"),
        (2, "finished result", "2 finished results"),
    ],
)
def test_a_number_and_its_noun_agree(number: int, what: str, said: str) -> None:
    assert pluralize(number, what) == said
    assert f"{number} {noun(what, number)}" == said


def test_large_numbers_are_written_in_groups_where_that_is_wanted() -> None:
    assert pluralize(1234567, "row", grouped=True) == "1,234,567 rows"
    assert pluralize(1, "result waits", "results wait") == "1 result waits"
    assert pluralize(2, "result waits", "results wait") == "2 results wait"


@pytest.mark.parametrize(("cells", "said"), [(1, "has 1 cell,"), (2, "has 2 cells,")])
def test_the_table_of_errors_has_no_wrong_plural(cells: int, said: str) -> None:
    wrong = mistake("csv.uneven-line", file="x.csv", line=3, found=cells, expected=7)
    assert isinstance(wrong, InputError)
    assert said in wrong.message


def test_no_template_of_an_error_puts_a_noun_into_the_plural_by_itself() -> None:
    for code, entry in MISTAKES.items():
        for text in (entry.message, entry.hint):
            plural = re.search(rf"\{{\w+(:,)?\}} ({NOUNS})s\b", text)
            assert plural is None or plural[0] in NEVER_ONE, f"{code}: write {{number:noun}}: {text}"


def sentences() -> Iterator[tuple[str, str]]:
    """Every f-string of the sources, with `{}` where a value stands, by file and line."""
    root = Path(__file__).parents[2]
    for folder in ("src", "server", "client"):
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
                    yield f"{path.relative_to(root)}:{node.lineno}", "".join(parts)


def test_no_sentence_of_the_sources_puts_a_noun_into_the_plural_by_itself() -> None:
    """Behind a number stands what `pluralize` makes of it; what programmers alone read is not scanned."""
    wrong = [
        f"{where}: {text}"
        for where, text in sentences()
        if re.search(rf"\{{\}} ({NOUNS})s\b", text)
        and not where.startswith(INSIDE)
        and not any(known in text for known in NEVER_ONE)
    ]
    assert wrong == []
