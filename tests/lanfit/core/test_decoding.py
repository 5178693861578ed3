"""Whatever is wrong with what was stored is a ValueError."""

from __future__ import annotations

import msgspec
import pytest

from lanfit.core.decoding import decode_json, decode_msgpack

DEEP = 5_000


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b'"\xff"', b"[" * DEEP, b'{"a":' * DEEP, b'["a"]', b"null", b"9" * DEEP]
)
def test_json_of_another_form_type_or_depth_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_json(data, dict[str, object])


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xa1\xff", b"\x91" * DEEP, b"\x81\xa1a" * DEEP, b"\x90", b"\xc0"])
def test_msgpack_of_another_form_type_or_depth_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_msgpack(data, dict[str, object])


def test_what_is_right_is_given() -> None:
    value = {"a": [1, 0.5, None, "é"]}
    assert decode_json(msgspec.json.encode(value), dict[str, object]) == value
    assert decode_json(msgspec.json.encode(value).decode(), dict[str, object]) == value
    assert decode_msgpack(msgspec.msgpack.encode(value), dict[str, object]) == value
