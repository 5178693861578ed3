"""Text for people: sanitizing, and numbers with their nouns.

Text from a peer is sanitized when its message is decoded (lanfit.wire.texts), so that no other code has to do it. Text
from other sources, such as names in a file of the operator, is sanitized where it is shown.
"""

from __future__ import annotations

import re

#: Never shown, as the inside of a character class: control characters except tab and newline; bidirectional
#: overrides, isolates and marks; zero-width characters, which make two names look alike; surrogates, and characters
#: that XML can't contain. The two joiners that scripts need (U+200C, U+200D) are allowed.
HOSTILE = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ud800-\\udfff"
    "\\ufeff\\ufff9-\\ufffb\\ufffe\\uffff\\U000e0000-\\U000e007f"
)
#: What ends a line somewhere.
LINE_ENDS = "\\n\\r\\x0b\\x0c\\x1c-\\x1e\\x85\\u2028\\u2029"
_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_HOSTILE = re.compile(f"[{HOSTILE}]")
_LINE_END = re.compile(f"\\r\\n|[{LINE_ENDS}]")
_BREAK = re.compile(f"[ \\t]*[{LINE_ENDS}][{LINE_ENDS} \\t]*")
#: The prefix of every further line of a text, so that none of them looks like a line of ours.
CONTINUED = "\n  | "
_MARK = "\ufffd"


def sanitize(text: str, limit: int | None = None) -> str:
    """Return text as one line that can be shown anywhere, truncated to `limit` characters.

    Line breaks become spaces, other invisible characters `U+FFFD`.
    """
    # A line break at the end has no meaning.
    line = _HOSTILE.sub(_MARK, _BREAK.sub(" ", text.strip(_ENDS)).replace("\t", " "))
    return _cut(line, limit)


def sanitize_lines(text: str, limit: int | None = None) -> str:
    """Return text of several lines that can be shown anywhere; every further line has a prefix."""
    lines = _LINE_END.split(text.strip(_ENDS))
    cleaned = [_HOSTILE.sub(_MARK, line) for line in lines]
    kept = [cleaned[0], *(line.removeprefix(CONTINUED[1:]) for line in cleaned[1:])]
    return _cut(CONTINUED.join(kept), limit)


def printable(text: str) -> str:
    """Return the text of a cell, which may have line breaks."""
    return _HOSTILE.sub(_MARK, text.replace("\u2028", "\n").replace("\u2029", "\n"))


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"


def pluralize(number: int, what: str, plural: str = "", *, grouped: bool = False) -> str:
    """Return a number with its noun: `1 row`, `2 rows`; `grouped` writes `1,000 rows`.

    Of several words the last one is pluralized, unless `plural` is given.
    """
    return f"{number:,} {noun(what, number, plural)}" if grouped else f"{number} {noun(what, number, plural)}"


def noun(what: str, number: int, plural: str = "") -> str:
    """Return the noun alone, as it follows a number: `row`, `rows`, `class`, `classes`."""
    if number == 1:
        return what
    return plural or (f"{what}es" if what.endswith(("s", "x", "ch", "sh")) else f"{what}s")


def sentence(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[:1].upper() + text[1:]
