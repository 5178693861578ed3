"""Text encodings: files that Windows programs wrote, and standard streams that do not hold every character."""

from __future__ import annotations

import codecs
import io
from typing import TextIO

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(data: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark, as PowerShell writes it.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")


def accept_all_text(*streams: TextIO | None) -> None:
    """Let streams write what their encoding does not hold as an escape (`\\u732b`) instead of raising.

    Windows gives pipes and redirected files a legacy code page such as cp1252.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_utf(stream: TextIO) -> bool:
    """Whether a stream holds every character."""
    encoding = getattr(stream, "encoding", None)
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with an escape for each character that the stream does not hold."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
