"""Event files as TensorBoard reads them: scalars, without TensorFlow, whose import takes seconds.

A file is a sequence of records, as TensorFlow's `TFRecord`: the length of the data and its masked CRC-32C, the data and
its masked CRC-32C. The data are messages of Protocol Buffers, `tensorflow.Event`, of which these fields are written:

    Event    1 wall_time: double   2 step: int64   3 file_version: string   5 summary: Summary
    Summary  1 value: repeated Value
    Value    1 tag: string   2 simple_value: float
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

_VERSION = "brain.Event:2"
#: The polynomial of CRC-32C (Castagnoli), its bits reversed.
_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_WORD = 0xFFFFFFFF
#: Types of fields: an integer of any length, eight bytes, bytes with their length, four bytes.
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5


def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes, as in RFC 3720."""
    crc = _WORD
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ _WORD


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & _WORD)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def _field(number: int, kind: int, content: bytes) -> bytes:
    head = _varint(number << 3 | kind)
    return head + _varint(len(content)) + content if kind == _BYTES else head + content


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _masked(length) + event + _masked(event)


def version_record(seconds: float) -> bytes:
    """Return the first record of a file; `seconds` are since 1970."""
    return _record(_field(1, _DOUBLE, struct.pack("<d", seconds)) + _field(3, _BYTES, _VERSION.encode()))


def scalars_record(seconds: float, step: int, scalars: Mapping[str, float]) -> bytes:
    """Return a record with a number for each tag; `seconds` are since 1970."""
    values = b"".join(
        _field(
            1,
            _BYTES,
            _field(1, _BYTES, tag.encode("utf-8", "replace")) + _field(2, _FLOAT, _float(value)),
        )
        for tag, value in scalars.items()
    )
    time = _field(1, _DOUBLE, struct.pack("<d", seconds))
    return _record(time + _field(2, _VARINT, _varint(step)) + _field(5, _BYTES, values))


def _float(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def steps_in(file: Path) -> Iterator[int]:
    """Yield the steps of the records in a file that was written here; an incomplete last one is left out."""
    data, at = file.read_bytes(), 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = data[at + 12 : at + 12 + length]
        at += 16 + length
        if at <= len(data) and event[9:10] == b"\x10":
            step, shift = 0, 0
            for byte in event[10:]:
                step |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            yield step


class EventFile:
    """A file of scalars in a folder, beside those of earlier processes. It is open only while something is written.

    Each step is written once: an epoch that is trained again gives the same numbers.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        earlier = sorted(folder.glob("events.out.tfevents.*"))
        self._steps = {step for file in earlier for step in steps_in(file)}
        self._path = folder / f"events.out.tfevents.{int(seconds):010d}.{os.getpid()}.{len(earlier)}.lanfit"

    def write(self, seconds: float, step: int, scalars: Mapping[str, float]) -> None:
        """Append the numbers of a step, unless it is there.

        Raises:
            OSError: they can't be written.
        """
        if step in self._steps or not scalars:
            return
        record = scalars_record(seconds, step, scalars)
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            record = version_record(seconds) + record
        with self._path.open("ab") as file:
            file.write(record)
        self._steps.add(step)
