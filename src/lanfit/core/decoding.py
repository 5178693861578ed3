"""Decode stored or received data: any defect raises the same kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode_json(data: bytes | str, kind: type[T]) -> T:
    """Return the value of this type that is encoded in JSON.

    Raises:
        ValueError: it is not valid JSON, has another type, or is nested too deeply.
    """
    return _flat(lambda: msgspec.json.decode(data, type=kind))


def decode_msgpack(data: bytes | memoryview, kind: type[T]) -> T:
    """Return the value of this type that is encoded in msgpack.

    Raises:
        ValueError: it is not valid msgpack, has another type, or is nested too deeply.
    """
    return _flat(lambda: msgspec.msgpack.decode(data, type=kind))


def _flat(decode: Callable[[], T]) -> T:
    try:
        return decode()
    except RecursionError as error:  # the decoder's own limit, which is not a ValueError like its other errors
        raise ValueError("it is nested too deeply") from error
