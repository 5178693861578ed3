"""Who does not know the passphrase: plays messages back, stands in the way, sends points that are none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from peer import PASSPHRASE, LoginServer, run_script, who

from lanfit.errors import RemoteProtocolError
from lanfit.net.tls import client_context, fingerprint_of
from lanfit.wire.auth import (
    CLIENT_HELLO,
    LOGIN_TO_CLIENT,
    LOGIN_TO_SERVER,
    MAGIC,
    SERVER_HELLO,
    SUITE,
    VERSION,
    ClientLogin,
    Guesses,
    Knocks,
    LoggedIn,
    NeedPassword,
    Refusal,
    Refused,
    ServerLogin,
    State,
    WrongProof,
)
from lanfit.wire.frames import Frame, FrameReader, Kind, encode_frame, feed
from lanfit_client.connect import connect
from lanfit_server.clusters.listen import LOGINS, REFUSALS

CLIENT, SERVER, SALT, CERTIFICATE, PASSWORD = b"c" * 16, b"s" * 16, b"salt" * 4, b"f" * 32, b"p" * 32
HEADER = len(encode_frame(Kind.REFUSE, b""))


def frame_in(reader: FrameReader, data: bytes) -> Frame:
    [frame] = [event for event in feed(reader, data) if isinstance(event, Frame)]
    return frame


def guessing(password: bytes = PASSWORD) -> tuple[ClientLogin, bytes, bytes]:
    """A client that has sent its exchange; its hello and its exchange message."""
    client, reader = ClientLogin(CLIENT, CERTIFICATE), FrameReader(LOGIN_TO_SERVER)
    hello = frame_in(reader, client.take_output()).payload
    greeting = SERVER_HELLO.pack(VERSION, SUITE, b"n" * 32, SERVER, SALT)
    assert client.receive(Frame(Kind.SERVER_HELLO, greeting)) == [NeedPassword(SALT)]
    client.password(password)
    return client, hello, frame_in(reader, client.take_output()).payload


def answering() -> ServerLogin:
    """A server that waits for the exchange."""
    server = ServerLogin(SERVER, SALT, CERTIFICATE)
    assert server.receive(Frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, b"n" * 32, CLIENT)))
    server.admit(PASSWORD)
    server.take_output()
    return server


@pytest.fixture(autouse=True)
def no_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is sent, the server takes it for the peer's fault and not for its own."""
    yield
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("side", [b"A", b"B"], ids=["as it was", "as from the other side"])
def test_a_client_does_not_take_its_own_exchange_for_an_answer(side: bytes) -> None:
    client, _, own = guessing()
    with pytest.raises(RemoteProtocolError, match="no point of the group"):
        client.receive(Frame(Kind.SERVER_EXCHANGE, side + own[1:]))


def test_a_server_that_plays_a_clients_proof_back_is_not_the_server() -> None:
    client, _, own = guessing()
    server = answering()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, own))
    server.begin()
    client.receive(frame_in(FrameReader(LOGIN_TO_CLIENT), server.take_output()))
    proof = frame_in(FrameReader(LOGIN_TO_SERVER), client.take_output()).payload
    with pytest.raises(RemoteProtocolError):
        client.receive(Frame(Kind.SERVER_PROOF, proof))


@pytest.mark.parametrize(("version", "suite"), [(0, SUITE), (2, SUITE), (65535, SUITE), (VERSION, 0), (VERSION, 2)])
def test_a_server_of_another_version_or_suite_is_left_before_the_passphrase_is_used(version: int, suite: int) -> None:
    client = ClientLogin(CLIENT, CERTIFICATE)
    client.take_output()
    with pytest.raises(RemoteProtocolError):
        client.receive(Frame(Kind.SERVER_HELLO, SERVER_HELLO.pack(version, suite, b"n" * 32, SERVER, SALT)))
    assert client.take_output() == b""


# --- points -----------------------------------------------------------------------------------------------------

P = 2**255 - 19
EIGHTH = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
#: The y of the points of small order, and those that are spelled with a number that is not below p.
SMALL = [0, 1, P - 1, EIGHTH, P - EIGHTH]
TOO_LARGE = list(range(P, 2**255))
SPELLINGS = {
    f"{name}, x {sign}": (y | (sign == "odd") << 255).to_bytes(32, "little")
    for name, y in [
        *zip(["order 4", "neutral", "order 2", "order 8", "order 8 too"], SMALL, strict=True),
        *((f"y = p + {number}", y) for number, y in enumerate(TOO_LARGE)),
    ]
    for sign in ("even", "odd")
}


def test_these_are_all_eight_points_of_small_order() -> None:
    from spake2.ed25519_basic import NotOnCurve, bytes_to_unknown_group_element

    found: dict[bytes, list[str]] = {}
    for name, spelling in SPELLINGS.items():
        try:
            point = bytes_to_unknown_group_element(spelling)
        except NotOnCurve:
            continue
        if point.scalarmult(8).to_bytes() == (1).to_bytes(32, "little"):
            found.setdefault(point.to_bytes(), []).append(name)
    assert len(found) == 8
    assert len(found[(1).to_bytes(32, "little")]) == 4, "the neutral element has four spellings"
    assert not {name for name in SPELLINGS if not name.startswith("y =")} - {
        n for names in found.values() for n in names
    }


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the library is given to read."""
    from spake2.spake2 import SPAKE2_A

    messages: list[bytes] = []
    monkeypatch.setattr(SPAKE2_A.__mro__[2], "finish", lambda self, message: messages.append(message) or b"k" * 32)
    return messages


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_point_of_small_order_is_refused_in_every_spelling_before_the_library_sees_it(
    spelling: bytes, seen: list[bytes]
) -> None:
    server = answering()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, b"A" + spelling))
    with pytest.raises(RemoteProtocolError, match="no point of the group that may be used"):
        server.begin()
    assert server.take_output() == b"", "the client has learnt nothing to try guesses on"
    client, _, _ = guessing()
    with pytest.raises(RemoteProtocolError, match="no point of the group that may be used"):
        client.receive(Frame(Kind.SERVER_EXCHANGE, b"B" + spelling))
    assert client.take_output() == b""
    assert not seen


def test_every_other_number_is_left_to_the_library(seen: list[bytes]) -> None:
    points = [y.to_bytes(32, "little") for y in (2, P - 2, EIGHTH + 1)]
    for point in points:
        server = answering()
        server.receive(Frame(Kind.CLIENT_EXCHANGE, b"A" + point))
        server.begin()
    assert seen == [b"A" + point for point in points]


@pytest.mark.parametrize("side", [b"B", b"S", b"\0", b"\xff"])
def test_a_point_for_another_side_is_refused(side: bytes) -> None:
    _, _, own = guessing()
    server = answering()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, side + own[1:]))
    with pytest.raises(RemoteProtocolError, match="no point of the group"):
        server.begin()


def test_a_point_with_a_part_of_small_order_is_refused() -> None:
    from spake2.ed25519_basic import Base, bytes_to_unknown_group_element

    eighth = bytes_to_unknown_group_element(EIGHTH.to_bytes(32, "little"))
    server = answering()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, b"A" + Base.scalarmult(7).add(eighth).to_bytes()))
    with pytest.raises(RemoteProtocolError, match="no point of the group"):
        server.begin()


@pytest.mark.parametrize("spelling", [1 | 1 << 255, P + 1, P + 1 | 1 << 255], ids=["1, odd", "p + 1", "p + 1, odd"])
@pytest.mark.parametrize("known", [b"x" * 32, PASSWORD], ids=["who does not know", "who knows"])
def test_if_the_neutral_element_were_taken_it_would_let_nobody_in(
    spelling: int, known: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """spake2 0.9 takes three of its spellings; the key is then of a point whose logarithm nobody knows."""
    monkeypatch.setattr("lanfit.wire.exchange._check_point", lambda message: None)
    server = answering()
    point = spelling.to_bytes(32, "little")
    server.receive(Frame(Kind.CLIENT_EXCHANGE, b"A" + point))
    server.begin()
    client, _, _ = guessing(known)
    # It goes on as if it had sent that with the secret number 0: all that it can compute.
    spake = client._exchange._spake  # type: ignore[union-attr]
    spake.outbound_message, spake.xy_scalar = point, 0
    theirs = frame_in(FrameReader(LOGIN_TO_CLIENT), server.take_output()).payload
    client.receive(Frame(Kind.SERVER_EXCHANGE, theirs))
    proof = frame_in(FrameReader(LOGIN_TO_SERVER), client.take_output()).payload
    assert server.receive(Frame(Kind.CLIENT_PROOF, proof)) == [WrongProof(CLIENT)]


# --- over a real socket -----------------------------------------------------------------------------------------


async def opened(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")


async def answer_to(port: int, sent: bytes) -> bytes:
    """All that the server says to these bytes, until it cuts."""
    reader, writer = await opened(port, client_context())
    try:
        writer.write(sent)
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.transport.abort()


def server_certificate(writer: asyncio.StreamWriter) -> bytes:
    return fingerprint_of(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))


def login_events(login: ClientLogin, reader: FrameReader, data: bytes) -> list[object]:
    return [event for frame in feed(reader, data) if isinstance(frame, Frame) for event in login.receive(frame)]


async def logged_in(server: LoginServer, client_id: bytes) -> tuple[list[bytes], asyncio.StreamWriter]:
    """Log in with the right passphrase; returns the frames that it took, and the connection."""
    reader, writer = await opened(server.port, client_context())
    login, frames, sent = ClientLogin(client_id, server_certificate(writer)), FrameReader(LOGIN_TO_CLIENT), []
    while login.state is not State.DONE:
        if output := login.take_output():
            writer.write(output)
            sent.append(output)
        if login_events(login, frames, await reader.readexactly(1)) == [NeedPassword(server.identity.salt)]:
            login.password(server.right)
    return sent, writer


async def played_back(port: int, frames: list[bytes]) -> Frame:
    """Send these frames, each when the one before was answered; returns the last answer."""
    reader, writer = await opened(port, client_context())
    answer = None
    try:
        for frame in frames:
            writer.write(frame)
            header = await reader.readexactly(HEADER)
            answer = Frame(Kind(header[4]), await reader.readexactly(int.from_bytes(header[:4])))
            if answer.kind is Kind.REFUSE:
                break
        assert answer is not None
        return answer
    finally:
        writer.transport.abort()


def test_a_login_that_was_listened_to_is_of_no_use_a_second_time(tmp_path: Path) -> None:
    wrong = Frame(Kind.REFUSE, bytes([Refusal.PASSPHRASE]) + bytes(4))

    async def script() -> None:
        async with LoginServer(tmp_path).listening() as server:
            sent, writer = await logged_in(server, who("10.0.0.7"))
            assert len(sent) == 3
            assert await played_back(server.port, sent) == wrong  # while its owner is here
            assert not writer.is_closing()
            writer.transport.abort()
            assert await played_back(server.port, sent) == wrong
            assert await answer_to(server.port, b"".join(sent)) == b"", "all at once: it hurries ahead"
            # It is a guess as any other: who plays somebody's bytes back under another id is banned.
            sent[0] = sent[0][:-16] + who("10.0.0.8")
            for _ in range(3):
                assert await played_back(server.port, sent) == wrong
            banned = await played_back(server.port, sent)
            assert (banned.kind, banned.payload[0]) == (Kind.REFUSE, Refusal.BANNED)

    run_script(script())


def first_frames() -> dict[str, bytes]:
    """What a stranger may send instead of a hello."""
    sizes = {kind: LOGIN_TO_SERVER[kind].largest if kind in LOGIN_TO_SERVER else 33 for kind in Kind}
    frames = {kind.name: encode_frame(kind, bytes(size)) for kind, size in sizes.items()}
    frames["a hello of zeros"] = frames.pop(Kind.CLIENT_HELLO.name)
    magic = CLIENT_HELLO.pack(b"LANFIT\n\n", 1, 1, bytes(32), who("10.0.0.7"))
    return frames | {
        "a message": encode_frame(Kind.CONTROL, b"\x81\xa4type\xa4ping"),
        "a hello of 2^32 - 1 bytes": struct.pack("!IB", 2**32 - 1, Kind.CLIENT_HELLO),
        "data of 2^32 - 1 bytes": struct.pack("!IB", 2**32 - 1, Kind.DATA),
        "a hello that is one byte too long": struct.pack("!IB", CLIENT_HELLO.size + 1, Kind.CLIENT_HELLO),
        "a hello of another program": encode_frame(Kind.CLIENT_HELLO, magic),
        "a kind that is none": struct.pack("!IB", 1, 255),
        "HTTP": b"GET / HTTP/1.1\r\nHost: lan\r\n\r\n",
        "much": bytes(100_000),
    }


def test_who_begins_with_anything_but_a_hello_is_cut_without_a_word(tmp_path: Path) -> None:
    async def script() -> None:
        async with LoginServer(tmp_path).listening(login_seconds=3600) as server:
            for name, sent in first_frames().items():
                assert await answer_to(server.port, sent) == b"", name
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)  # without TLS
            writer.write(first_frames()["HTTP"])
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in await reader.read(), "at most an alert of TLS"
            writer.transport.abort()
            assert await server.guess(who("10.0.0.7")) == LoggedIn(server.identity.server_id)

    run_script(script())


def a_hello() -> bytes:
    return encode_frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, bytes(32), who("10.0.0.7")))


def test_who_says_nothing_or_not_all_of_a_hello_is_cut_when_its_time_is_up(tmp_path: Path) -> None:
    async def script() -> None:
        async with LoginServer(tmp_path).listening(login_seconds=0.3) as server:
            for printed in (b"", a_hello()[:-1]):
                with contextlib.suppress(OSError):  # on a slow machine the time is up within the handshake
                    reader, writer = await opened(server.port, client_context())
                    writer.write(printed)
                    assert await reader.read() == b""
                    writer.transport.abort()

    run_script(script())


def test_a_hello_byte_by_byte_is_answered_and_a_proof_before_its_time_is_not(tmp_path: Path) -> None:
    async def script() -> None:
        async with LoginServer(tmp_path).listening(login_seconds=3600) as server:
            reader, writer = await opened(server.port, client_context())
            for byte in a_hello():
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await reader.readexactly(HEADER))[4] == Kind.SERVER_HELLO
            writer.transport.abort()
            printed = await answer_to(server.port, a_hello() + encode_frame(Kind.CLIENT_PROOF, bytes(32)))
            assert len(printed) in (0, HEADER + SERVER_HELLO.size), "at most the answer to the hello"

    run_script(script())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors")
def test_300_silent_connections_take_64_descriptors_and_cost_a_client_that_is_here_nothing(tmp_path: Path) -> None:
    async def script() -> None:
        server = LoginServer(tmp_path)
        async with server.listening() as server:
            link, _ = await connect("127.0.0.1", server.port, who("10.0.0.7"), PASSPHRASE)
            silent = [socket.socket() for _ in range(300)]
            before = len(os.listdir("/proc/self/fd"))
            for each in silent:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", server.port))
            while not server.listener._slots.locked():
                await asyncio.sleep(0)
            for _ in range(5):
                assert await link.answers(60.0)
                assert len(server.listener._connections) == LOGINS + REFUSALS + 1, "one is in"
                assert len(os.listdir("/proc/self/fd")) - before <= LOGINS + REFUSALS
            for each in silent:
                each.close()
            # There are places again at once, and not only when their time is up.
            while isinstance(await server.guess(who("10.0.0.8")), Refused):
                pass
            assert await link.answers(60.0)
            await link.close("enough")

    run_script(script())


@pytest.mark.parametrize("versions", [(0, 0), (2, 2), (2, 9), (9, 2), (65535, 65535)])
def test_a_client_of_other_versions_is_refused_and_learns_nothing_else(
    versions: tuple[int, int], tmp_path: Path
) -> None:
    async def script() -> None:
        async with LoginServer(tmp_path).listening() as server:
            hello = CLIENT_HELLO.pack(MAGIC, *versions, bytes(32), who("10.0.0.7"))
            printed = await answer_to(server.port, encode_frame(Kind.CLIENT_HELLO, hello))
            assert printed == encode_frame(Kind.REFUSE, bytes([Refusal.VERSION]) + VERSION.to_bytes(4))

    run_script(script())


def plain(alpn: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def old() -> ssl.SSLContext:
    context = plain(client_alpn())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def client_alpn() -> list[str]:
    from lanfit.net.tls import ALPN

    return [*ALPN] if not isinstance(ALPN, str) else [ALPN]


@pytest.mark.parametrize("how", ["TLS 1.2", "no ALPN", "another ALPN"])
def test_who_offers_another_tls_gets_no_answer_to_a_hello(how: str, tmp_path: Path) -> None:
    context = {"TLS 1.2": old, "no ALPN": lambda: plain([]), "another ALPN": lambda: plain(["h2", "http/1.1"])}[how]()
    hello = encode_frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, bytes(32), who("10.0.0.7")))

    async def script() -> None:
        async with LoginServer(tmp_path).listening() as server:
            with contextlib.suppress(OSError):
                reader, writer = await opened(server.port, context)
                writer.write(hello)
                printed = await reader.read()
                writer.transport.abort()
                assert printed == b""
            # The same in the right way is answered.
            reader, writer = await opened(server.port, client_context())
            writer.write(hello)
            assert await reader.readexactly(5)
            writer.transport.abort()

    run_script(script())


def test_guessing_is_the_only_way_in() -> None:
    """The control of what stands above: the same steps with the right passphrase get in."""
    server, client = ServerLogin(SERVER, SALT, CERTIFICATE), ClientLogin(CLIENT, CERTIFICATE)
    to_server, to_client = FrameReader(LOGIN_TO_SERVER), FrameReader(LOGIN_TO_CLIENT)
    ends: list[object] = []
    while data := client.take_output():
        for event in server.receive(frame_in(to_server, data)):
            if isinstance(event, Knocks):
                server.admit(PASSWORD)
            if isinstance(event, Guesses):
                server.begin()
        ends = list(client.receive(frame_in(to_client, server.take_output())))
        if ends == [NeedPassword(SALT)]:
            client.password(PASSWORD)
    assert ends == [LoggedIn(SERVER)]
