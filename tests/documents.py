"""The documents of the project, and the fenced blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from running import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
HOWTO = ROOT / "docs" / "howto"
#: Of the how-tos these are not run as they stand: their commands are Windows'. (stories/test_classroom.py and
#: stories/test_page_story.py run what the commands of the lessons are elsewhere.)
NOT_RUN = ("windows-client.md", "classroom.md", "lesson.md")


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a document: the words after the fence, and the text."""
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield found[1].strip(), found[2]


def commands(path: Path) -> set[str]:
    """The lines of the blocks that a test of the document runs."""
    return {line for info, text in blocks(path) if info.startswith("console") for line in text.splitlines()}
