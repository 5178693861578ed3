import random
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanfit.errors import LocalProtocolError, RemoteProtocolError
from lanfit.wire.auth import LOGIN_TO_CLIENT, LOGIN_TO_SERVER
from lanfit.wire.frames import (
    CONTROL_LIMIT,
    CONTROL_LIMIT_FROM_CLIENT,
    DATA_LIMIT,
    LOGIN_LIMIT,
    OPEN_TO_CLIENT,
    OPEN_TO_SERVER,
    Chunk,
    Frame,
    FrameReader,
    Kind,
    encode_data_header,
    encode_frame,
    feed,
    slices,
)


def data(stream: int, offset: int, payload: bytes) -> bytes:
    return encode_data_header(stream, offset, len(payload)) + payload


def events_of(reader: FrameReader, stream: bytes, step: int | None = None) -> list[Frame | Chunk]:
    parts = [stream] if step is None else [stream[i : i + step] for i in range(0, len(stream), step)]
    return [event for part in parts for event in feed(reader, part) if event is not None]


#: The same table serves reading whole, reading byte by byte, and mutating.
STREAM = (
    encode_frame(Kind.CONTROL, b"one")
    + data(7, 0, bytes(range(100)))
    + encode_frame(Kind.CONTROL, b"2" * 300)
    + data(7, 100, bytes(range(100, 200)))
    + data(8, 50, b"x" * 50)
    + encode_frame(Kind.CONTROL, b"end")
)
EVENTS = [
    Frame(Kind.CONTROL, b"one"),
    Chunk(7, 0, 100, last=False),
    Frame(Kind.CONTROL, b"2" * 300),
    Chunk(7, 100, 100, last=True),
    Chunk(8, 50, 50, last=True),
    Frame(Kind.CONTROL, b"end"),
]


def reader_for_stream() -> tuple[FrameReader, bytearray, bytearray]:
    reader, seven, eight = FrameReader(OPEN_TO_SERVER), bytearray(200), bytearray(100)
    reader.expect(7, memoryview(seven), 0)
    reader.expect(8, memoryview(eight), 50)
    return reader, seven, eight


@pytest.mark.parametrize("step", [None, 1, 2, 5, 17, 64])
def test_frames_come_out_the_same_however_the_bytes_are_cut(step: int | None) -> None:
    reader, seven, eight = reader_for_stream()
    assert events_of(reader, STREAM, step) == EVENTS
    assert seven == bytes(range(200))
    assert eight == bytes(50) + b"x" * 50


def test_a_blocks_bytes_are_read_into_the_block_itself() -> None:
    reader, block = FrameReader(OPEN_TO_CLIENT), bytearray(100)
    reader.expect(1, memoryview(block), 0)
    feed(reader, encode_data_header(1, 0, 100))
    reader.get_buffer()[:3] = b"abc"
    assert block[:3] == b"abc"


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (struct.pack("!IB", 3, 99), "kind 99"),
        (struct.pack("!IB", 60, Kind.CLIENT_HELLO), "kind 1"),
        (struct.pack("!IB", 0, Kind.CONTROL), "0 bytes"),
        (struct.pack("!IB", 2**32 - 1, Kind.CONTROL), "4294967295"),
        (struct.pack("!IB", CONTROL_LIMIT_FROM_CLIENT + 1, Kind.CONTROL), "65537"),
        (struct.pack("!IB", DATA_LIMIT + 13, Kind.DATA), str(DATA_LIMIT + 13)),
        (struct.pack("!IB", 12, Kind.DATA), "12 bytes"),
        (data(9, 0, b"x"), "stream 9, which was not requested"),
        (data(7, 1, b"x"), "byte 1; 0 is the next"),
        (data(7, 0, b"x") + data(7, 0, b"x"), "byte 0; 1 is the next"),
        (data(7, 0, b"x" * 201), "201 bytes came for stream 7, of which only 200"),
        (data(8, 0, b"x"), "byte 0; 50 is the next"),
        (data(8, 50, b"x" * 50) + data(8, 100, b"x"), "stream 8, which was not requested"),
        (b"GET / HTTP/1.1\r\n\r\n", "kind 47"),
    ],
)
def test_what_breaks_the_rules_is_refused_by_its_header(stream: bytes, complaint: str) -> None:
    reader, seven, eight = reader_for_stream()
    before = bytes(seven), bytes(eight)
    with pytest.raises(RemoteProtocolError, match=complaint):
        feed(reader, stream)
    if complaint not in ("byte 0; 1 is the next", "stream 8, which was not requested"):
        assert (bytes(seven), bytes(eight)) == before


def test_nothing_is_allocated_for_a_frame_that_is_refused() -> None:
    reader = FrameReader(OPEN_TO_CLIENT)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            feed(reader, struct.pack("!IB", CONTROL_LIMIT + 1, Kind.CONTROL))
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_a_client_takes_larger_messages_than_a_server() -> None:
    header = struct.pack("!IB", CONTROL_LIMIT, Kind.CONTROL)
    assert feed(FrameReader(OPEN_TO_CLIENT), header) == [None]
    with pytest.raises(RemoteProtocolError):
        feed(FrameReader(OPEN_TO_SERVER), header)


def test_before_login_no_frame_is_larger_than_512_bytes() -> None:
    for sizes in (LOGIN_TO_SERVER, LOGIN_TO_CLIENT):
        assert max(size.largest for size in sizes.values()) <= LOGIN_LIMIT
        assert not {Kind.CONTROL, Kind.DATA} & set(sizes)


def test_a_dropped_stream_is_read_to_its_end_and_thrown_away() -> None:
    reader, seven, _ = reader_for_stream()
    first = data(7, 0, b"a" * 120)
    feed(reader, first[:60])
    seven_so_far = bytes(seven)
    reader.drop(7)
    events = events_of(reader, first[60:] + data(7, 120, b"b" * 80) + encode_frame(Kind.CONTROL, b"on"))
    assert events == [Chunk(7, 0, 120, last=False), Chunk(7, 120, 80, last=True), Frame(Kind.CONTROL, b"on")]
    assert bytes(seven) == seven_so_far
    seven.clear()  # fails while the reader still holds a view of it


def test_a_stream_can_only_be_expected_into_writable_memory_that_has_room() -> None:
    reader = FrameReader(OPEN_TO_CLIENT)
    for into, offset in ((memoryview(b"fixed"), 0), (memoryview(bytearray(4)), 4), (memoryview(bytearray(4)), -1)):
        with pytest.raises(LocalProtocolError):
            reader.expect(1, into, offset)
    reader.expect(1, memoryview(bytearray(4)), 0)
    with pytest.raises(LocalProtocolError):
        reader.expect(1, memoryview(bytearray(4)), 0)


def test_a_data_frame_larger_than_allowed_is_not_written() -> None:
    with pytest.raises(LocalProtocolError):
        encode_data_header(1, 0, DATA_LIMIT + 1)


def mutated(random_: random.Random, stream: bytes) -> bytes:
    changed = bytearray(stream)
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(changed))
        match random_.randrange(3):
            case 0:
                changed[place] ^= 1 << random_.randrange(8)
            case 1:
                del changed[place : place + random_.randint(1, 9)]
            case 2:
                changed[place:place] = random_.randbytes(random_.randint(1, 9))
    return bytes(changed)


def outcome(stream: bytes, step: int) -> tuple[list[str], bytes, bytes]:
    """Read a stream; return the frames or the error at their end, and what lies in the blocks."""
    reader, seven, eight = reader_for_stream()
    seen = []
    try:
        for start in range(0, len(stream), step):
            part = stream[start : start + step]
            while part:
                count = min(len(reader.get_buffer()), len(part))
                seen += [str(event) for event in feed(reader, part[:count]) if event]
                part = part[count:]
    except RemoteProtocolError as error:
        seen.append(error.message)
    return seen, bytes(seven), bytes(eight)


def test_2000_mutated_streams_raise_nothing_but_the_peers_error_however_they_are_cut() -> None:
    random_ = random.Random(20)
    refused = 0
    for _ in range(2000):
        stream = mutated(random_, STREAM)
        whole = outcome(stream, len(stream))
        assert outcome(stream, 1) == whole
        assert (len(whole[1]), len(whole[2])) == (200, 100)
        assert whole[2][:50] == bytes(50)
        refused += any(" came " in seen or "announced" in seen for seen in whole[0])
    assert 100 < refused < 2000


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_garbage_raises_nothing_but_the_peers_error(garbage: bytes) -> None:
    assert outcome(garbage, 1) == outcome(garbage, 300)


@given(st.lists(st.binary(max_size=40)), st.integers(0, 200), st.integers(1, 30))
@settings(deadline=None)
def test_slices_are_the_bytes_of_the_chunks_from_the_offset_on(chunks: list[bytes], offset: int, size: int) -> None:
    cut = [b"".join(slice_) for slice_ in slices(map(memoryview, chunks), offset, lambda: size)]
    assert b"".join(cut) == b"".join(chunks)[offset:]
    assert all(len(slice_) == size for slice_ in cut[:-1])
    assert all(0 < len(slice_) <= size for slice_ in cut)


def test_frames_in_a_log_show_their_kind_and_size_and_nothing_of_a_login() -> None:
    assert str(Frame(Kind.CONTROL, b"\x81\xa4")) == "CONTROL 2 bytes: 81 a4"
    assert str(Frame(Kind.CLIENT_PROOF, b"\x81" * 32)) == "CLIENT_PROOF 32 bytes"
    assert str(Chunk(3, 100, 50, last=True)) == "DATA stream 3: 50 bytes at 100, the last"
