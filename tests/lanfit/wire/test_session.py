import random
from collections.abc import Iterator

import msgspec
import pytest

from lanfit.errors import LocalProtocolError, RemoteProtocolError
from lanfit.wire.arrays import BlockSpec
from lanfit.wire.auth import ClientLogin, Guesses, Knocks, LoggedIn, NeedPassword, ServerLogin
from lanfit.wire.frames import CONTROL_LIMIT, CONTROL_LIMIT_FROM_CLIENT, Chunk, Kind, encode_frame
from lanfit.wire.messages import (
    Ack,
    Commit,
    Epoch,
    Fetch,
    Join,
    LogLines,
    Offer,
    Ping,
    Pong,
    Result,
    RunEnded,
    Status,
    Welcome,
)
from lanfit.wire.session import UNANSWERED_FETCHES, Event, Session, Side

BLOCK = "ab" * 32
FINGERPRINT = b"f" * 32
RESULT = Result("run", "task", 1, BlockSpec(BLOCK, ()), ("loss",), 0, {}, {"train": 1.5}, "numpy", "cpu", 1)
FROM_CLIENT = [
    Join("lab-07", "0.1.0", "tensorflow", "cpu", 2, 0),
    Epoch("run", "task", 0, {"loss": 0.5}),
    LogLines("run", ("a", "b")),
    Offer(RESULT),
    Commit(BLOCK),
]
FROM_SERVER = [Welcome("0.1.0", "lab-07", collecting=False), Status("waiting for 2 clients"), Ack(BLOCK)]
EITHER = [Ping(), Pong(), Fetch(BLOCK, 3, 64)]


def open_sessions() -> tuple[Session, Session]:
    return Session(Side.CLIENT, None), Session(Side.SERVER, None)


def test_two_sessions_log_in_and_talk_without_a_socket() -> None:
    client = Session(Side.CLIENT, ClientLogin(b"c" * 16, FINGERPRINT))
    server = Session(Side.SERVER, ServerLogin(b"s" * 16, b"salt" * 4, FINGERPRINT))
    assert isinstance(client.login, ClientLogin)
    assert isinstance(server.login, ServerLogin)
    logged_in = []
    while output := (client.take_output(), server.take_output()):
        if output == (b"", b""):
            break
        for event in server.receive_bytes(output[0]):
            if isinstance(event, Knocks):
                server.login.admit(b"p" * 32)
            if isinstance(event, Guesses):
                server.login.begin()
            logged_in += [event] if isinstance(event, LoggedIn) else []
        for event in client.receive_bytes(output[1]):
            if isinstance(event, NeedPassword):
                client.login.password(b"p" * 32)
            logged_in += [event] if isinstance(event, LoggedIn) else []
    assert logged_in == [LoggedIn(b"c" * 16), LoggedIn(b"s" * 16)]
    assert server.receive_bytes(client.encode(FROM_CLIENT[0])) == [FROM_CLIENT[0]]
    assert client.receive_bytes(server.encode(FROM_SERVER[0])) == [FROM_SERVER[0]]


@pytest.mark.parametrize("message", FROM_CLIENT + EITHER)
def test_a_clients_messages_arrive_as_they_were_said(message: Join) -> None:
    client, server = open_sessions()
    assert server.receive_bytes(client.encode(message)) == [message]


@pytest.mark.parametrize("message", FROM_SERVER + EITHER)
def test_a_servers_messages_arrive_as_they_were_said(message: Status) -> None:
    client, server = open_sessions()
    assert client.receive_bytes(server.encode(message)) == [message]


def echo_bytes(message: msgspec.Struct) -> bytes:
    """A message as whoever keeps to no rules would send it."""
    return encode_frame(Kind.CONTROL, msgspec.msgpack.encode(message))


@pytest.mark.parametrize("side", list(Side))
def test_neither_side_says_or_takes_what_is_the_others_to_say(side: Side) -> None:
    for message in FROM_SERVER if side is Side.CLIENT else FROM_CLIENT:
        with pytest.raises(LocalProtocolError, match=type(message).__name__):
            Session(side, None).encode(message)
    for message in FROM_CLIENT if side is Side.CLIENT else FROM_SERVER:
        with pytest.raises(RemoteProtocolError, match="can't be read"):
            Session(side, None).receive_bytes(echo_bytes(message))


def test_nothing_is_reported_or_taken_before_the_login() -> None:
    client = Session(Side.CLIENT, ClientLogin(b"c" * 16, FINGERPRINT))
    with pytest.raises(LocalProtocolError, match="before the login"):
        client.encode(Ping())
    server = Session(Side.SERVER, ServerLogin(b"s" * 16, b"salt" * 4, FINGERPRINT))
    with pytest.raises(RemoteProtocolError, match="kind 16"):
        server.receive_bytes(echo_bytes(Ping()))


def test_a_login_frame_after_the_login_is_refused() -> None:
    _, server = open_sessions()
    with pytest.raises(RemoteProtocolError, match="kind 5"):
        server.receive_bytes(encode_frame(Kind.CLIENT_PROOF, bytes(32)))


def test_a_session_takes_nothing_after_the_peer_broke_the_protocol() -> None:
    _, server = open_sessions()
    with pytest.raises(RemoteProtocolError):
        server.receive_bytes(encode_frame(Kind.CONTROL, b"\xc1"))
    with pytest.raises(RemoteProtocolError, match="before"):
        server.receive_bytes(echo_bytes(Ping()))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"\x80",
        msgspec.msgpack.encode({"type": "nonsense"}),
        msgspec.msgpack.encode({"type": "ping", "more": 1}),
        msgspec.msgpack.encode({"type": "commit"}),
        msgspec.msgpack.encode({"type": "commit", "block": 5}),
        msgspec.msgpack.encode({"type": "fetch", "block": "../../etc", "stream": 0}),
        msgspec.msgpack.encode({"type": "fetch", "block": BLOCK, "stream": -1}),
        msgspec.msgpack.encode({"type": "fetch", "block": BLOCK, "stream": 2**32}),
        msgspec.msgpack.encode({"type": "fetch", "block": BLOCK, "stream": 0, "offset": -1}),
        msgspec.msgpack.encode({"type": "ping"})[:-1],
        msgspec.msgpack.encode({"type": "commit", "block": "x"}).replace(b"x", b"\xff"),
        msgspec.msgpack.encode({"type": "ping"}) + b"\x00",
        b"\x91" * 60000,
    ],
)
def test_a_message_that_can_not_be_read_breaks_the_protocol(payload: bytes) -> None:
    _, server = open_sessions()
    with pytest.raises(RemoteProtocolError, match="can't be read"):
        server.receive_bytes(encode_frame(Kind.CONTROL, payload))


def test_a_message_that_is_too_large_is_not_sent() -> None:
    client, server = open_sessions()
    with pytest.raises(LocalProtocolError, match=str(CONTROL_LIMIT_FROM_CLIENT)):
        client.encode(LogLines("run", ("x" * CONTROL_LIMIT_FROM_CLIENT,)))
    with pytest.raises(LocalProtocolError, match=str(CONTROL_LIMIT)):
        server.encode(Status("x" * CONTROL_LIMIT))
    assert client.receive_bytes(server.encode(Status("x" * CONTROL_LIMIT_FROM_CLIENT)))


def test_a_block_is_fetched_into_its_memory() -> None:
    client, server = open_sessions()
    block, into = random.Random(1).randbytes(1000), bytearray(1000)
    into[:100] = block[:100]
    stream, request = client.begin_fetch(BLOCK, memoryview(into), 100)
    [fetch] = server.receive_bytes(request)
    assert fetch == Fetch(BLOCK, stream, 100)
    first = client.receive_bytes(server.encode_data_header(stream, 100, 500) + block[100:600])
    between = client.receive_bytes(server.encode(Ping()))
    last = client.receive_bytes(server.encode_data_header(stream, 600, 400) + block[600:])
    assert first + between + last == [Chunk(stream, 100, 500, last=False), Ping(), Chunk(stream, 600, 400, last=True)]
    assert into == block


def test_data_is_only_sent_when_it_was_requested() -> None:
    client, server = open_sessions()
    with pytest.raises(LocalProtocolError, match="did not ask"):
        server.encode_data_header(0, 0, 10)
    stream, request = client.begin_fetch(BLOCK, memoryview(bytearray(10)), 0)
    server.receive_bytes(request)
    assert server.encode_data_header(stream, 0, 10)
    server.end_answer(stream)
    with pytest.raises(LocalProtocolError, match="did not ask"):
        server.encode_data_header(stream, 0, 10)


def test_a_peer_can_not_ask_for_blocks_without_end() -> None:
    _, server = open_sessions()
    for stream in range(UNANSWERED_FETCHES):
        server.receive_bytes(echo_bytes(Fetch(BLOCK, stream)))
    with pytest.raises(RemoteProtocolError, match="at once"):
        server.receive_bytes(echo_bytes(Fetch(BLOCK, 99)))


def test_a_stream_is_requested_once() -> None:
    _, server = open_sessions()
    server.receive_bytes(echo_bytes(Fetch(BLOCK, 1)))
    with pytest.raises(RemoteProtocolError, match="twice"):
        server.receive_bytes(echo_bytes(Fetch(BLOCK, 1)))


def stepwise(session: Session, stream: bytes, step: int) -> Iterator[list[Event]]:
    for start in range(0, len(stream), step):
        yield session.receive_bytes(stream[start : start + step])


def test_2000_mutated_conversations_raise_nothing_but_the_peers_error() -> None:
    random_ = random.Random(23)
    printed = b"".join(echo_bytes(message) for message in [*FROM_CLIENT, *EITHER])
    broken = 0
    for _ in range(2000):
        stream = bytearray(printed)
        for _ in range(random_.randint(1, 3)):
            stream[random_.randrange(len(stream))] = random_.randrange(256)
        endings = []
        for step in (len(stream), 1):
            _, server = open_sessions()
            try:
                endings.append(repr([event for events in stepwise(server, bytes(stream), step) for event in events]))
            except RemoteProtocolError as error:
                endings.append(error.message)
                broken += step == 1
        assert endings[0] == endings[1]
    assert broken > 100


def test_the_end_of_a_run_is_a_servers_message() -> None:
    client, server = open_sessions()
    [ended] = client.receive_bytes(server.encode(RunEnded("run", "done", "all done")))
    assert ended == RunEnded("run", "done", "all done")
