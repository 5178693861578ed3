"""Text encodings: files written by Windows programs, and standard streams that can't encode every character."""

from __future__ import annotations

import codecs
import io
from typing import TextIO

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(data: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark, as written by PowerShell.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")


def accept_all_text(*streams: TextIO | None) -> None:
    """Make streams write characters that they can't encode as escapes (`\\u732b`) instead of raising.

    Windows gives pipes and redirected files a legacy code page such as cp1252.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_utf(stream: TextIO) -> bool:
    """Return whether a stream can encode every character."""
    encoding = getattr(stream, "encoding", None)
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with an escape for each character that the stream can't encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
