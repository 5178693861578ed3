"""Words for people: a number and its noun agree, wherever they stand."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from error_tables import ERRORS

from lanfit.core.text import noun, pluralize
from lanfit.errors import InputError, lanfit_error

#: What there may be one of.
NOUNS = (
    "byte|cell|character|chunk|class|classe|client|column|epoch|file|fold|image|label|machine|message|metric|model|number|"
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
    "{} messages arrived faster than they could be handled",
    "{} labels can't be compared with {} predictions",
    "{} images take",
    "on their {} rows.",
    "{} clients are simulated; they share",
    "{} of {} bytes are here already",
    "on the {} rows of this client.",
    "{kinds} files",
)


@pytest.mark.parametrize(
    ("number", "what", "output"),
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
def test_a_number_and_its_noun_agree(number: int, what: str, output: str) -> None:
    assert pluralize(number, what) == output
    assert f"{number} {noun(what, number)}" == output


def test_large_numbers_are_written_in_groups_where_that_is_wanted() -> None:
    assert pluralize(1234567, "row", grouped=True) == "1,234,567 rows"
    assert pluralize(1, "result waits", "results wait") == "1 result waits"
    assert pluralize(2, "result waits", "results wait") == "2 results wait"


@pytest.mark.parametrize(("cells", "output"), [(1, "has 1 cell,"), (2, "has 2 cells,")])
def test_the_table_of_errors_has_no_wrong_plural(cells: int, output: str) -> None:
    wrong = lanfit_error("csv.uneven-line", file="x.csv", line=3, found=cells, expected=7)
    assert isinstance(wrong, InputError)
    assert output in wrong.message


def test_no_template_of_an_error_puts_a_noun_into_the_plural_by_itself() -> None:
    for code, entry in ERRORS.items():
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


#: Phrases that were replaced, because they are riddles, archaic or literal translations, and what to write instead.
BANNED = {
    r"\bis no (?:port|address|fingerprint|table|image|recipe|backend|number|integer|setting)\b": "is not a valid …",
    r"\b(?:go|goes|going|gone|went) on with (?:it|(?:this|that|a|the|its) (?:run|round|one))\b": "resume",
    r"\bstands? in (?:the middle|between)\b": "a man in the middle",
    r"\blets? in who\b": "admits clients that",
    r"\bfound out for each\b|\bis found out\b": "detected",
    r"\blabels? (?:that )?are words\b|\bwords are labels\b": "string labels",
    r"\btells? (?:of|impossible|statistics)\b|\btold of its\b": "reports",
    r"\bdo(?:es)? not g[eo]t on\b|\bhas not got on\b": "makes no progress",
    r"\b(?:line|row|column|task|model) an? (?:epoch|round|shard|client|class)\b": "one … per …",
    r"\bwhich is said\b|\band that is said\b|\band says so\b": "with a note; is reported",
    r"\blies? beside\b": "is next to",
    r"\bis nothing that\b": "does not support",
    r"(?:^|[.:;] |\*\*)Who (?:has|is|comes|knows|guesses|listens|stands|wants|begins)\b[^?]*[.,]": "Clients that",
    r"\b(?:who|whoever) (?:guesses|listens|stands in)\b": "an attacker, an eavesdropper",
    r"\bhand(?:s|ed|ing)? back\b": "return",
    r"\b(?:is|are) waited for (?:by|who)\b": "waits for",
    r"\bfor ever\b": "forever",
    r"\bmakes? room\b": "free some space",
    r"\bwith commas between\b": "separated by commas",
    r"\bown (?:files|rows) can't be\b": "the data of … can't be",
    r"\bstood still (?:for|itself)\b": "was suspended",
    r"\bwhoever sits\b|\bwho sits\b": "the user of",
    r"\bthe model of all\b": "the global model",
    r"\bsets of Keras\b|\bdata sets?\b": "Keras datasets, dataset",
    r"\bthe whole thing\b": "everything",
    r"\bmakes? up to its end\b|\bcome to its end\b": "is complete",
    r"\b(?:goes|going|gone|went) on (?:from|where)\b": "resumes, resumed from",
    r"\bstands? still\b": "is suspended",
    r"\bthat are numbers\b": "numeric",
    r"\bhow it gets on\b|\bgets? on with\b": "the progress of",
    r"\blet(?:s|ting)? go of\b": "release",
    r"\bso many (?:seconds|bytes|rows|clients|epochs|tasks|batches)\b": "this many …, the number of …",
    r"\bat hand\b": "current",
    r"\bby lot\b": "at random",
    r"\bheld against\b": "compared with, checked against",
    r"\bis no (?:number|text|JSON|class|integer|sheet)\b": "is not a …",
}
ROOT = Path(__file__).parents[2]


def prose() -> Iterator[tuple[str, str]]:
    """Yield every message, docstring, comment and line of a document, by place."""
    for folder in ("src", "server", "client"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            source = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield name, " ".join(node.value.split())
            for token in tokenize.generate_tokens(io.StringIO(source).readline):
                if token.type == tokenize.COMMENT:
                    yield f"{name}:{token.start[0]}", token.string
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    documents += [ROOT / folder / "README.md" for folder in ("client", "dataset", "logs", "model", "server")]
    for path in documents:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(ROOT).as_posix()}:{number}", line


def test_phrases_that_were_replaced_do_not_come_back() -> None:
    banned = {re.compile(phrase): better for phrase, better in BANNED.items()}
    found = [
        f"{where}: write {better!r} instead of {hit[0]!r}"
        for where, text in prose()
        for phrase, better in banned.items()
        if (hit := phrase.search(text))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["0 is no port", "labels that are words", "the task has not got on for 30 s"])
def test_a_phrase_that_was_replaced_is_recognized(text: str) -> None:
    assert any(re.search(phrase, text) for phrase in BANNED)
