"""What the targets of fuzzing share."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lanfit.errors import LanfitError

ID, FINGERPRINT, SECRET = b"i" * 16, b"f" * 32, b"p" * 32
Chance = random.Random


class Base:
    """A target in a folder of its own."""

    fine: tuple[type[BaseException], ...] = (LanfitError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def all_of(self, *calls: Callable[[], object]) -> None:
        """Do all of them, whatever lanfit says to one."""
        for call in calls:
            with contextlib.suppress(*self.fine):
                call()


JSON = (
    b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800", b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 5000,
    b"[" * 2000, b'{"a":' * 300, b"\xff", b"\xef\xbb\xbf", b",", b":",
)  # fmt: skip


MSGPACK = (
    b"\xc0", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff", b"\x91" * 2000,
    b"\xc6\xff\xff\xff\xff", b"\xd9\xff", b"\xcf" + b"\xff" * 8, b"\xcb\x7f\xf0" + bytes(6), b"\xd6\xff",
    b"\xa4type",
)  # fmt: skip


def to_msgpack(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


#: Targets by their names: how many of a million inputs each gets, and how it is made, with a folder of its own.
Targets = dict[str, tuple[int, Callable[[Path], Any]]]
