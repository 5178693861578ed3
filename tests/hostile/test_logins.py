"""Who does not know the passphrase: plays messages back, stands in the way, sends points that are none."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest
from peer import LoginServer, play, who

from lanfit.errors import RemoteProtocolError
from lanfit.net.tls import client_context
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
    ServerLogin,
    WrongProof,
)
from lanfit.wire.frames import Frame, FrameReader, Kind, encode_frame, feed

CLIENT, SERVER, SALT, CERTIFICATE, PASSWORD = b"c" * 16, b"s" * 16, b"salt" * 4, b"f" * 32, b"p" * 32


def frame_in(reader: FrameReader, data: bytes) -> Frame:
    [frame] = [event for event in feed(reader, data) if isinstance(event, Frame)]
    return frame


def guessing() -> tuple[ClientLogin, bytes, bytes]:
    """A client that has sent its exchange; its hello and its exchange message."""
    client, reader = ClientLogin(CLIENT, CERTIFICATE), FrameReader(LOGIN_TO_SERVER)
    hello = frame_in(reader, client.take_output()).payload
    greeting = SERVER_HELLO.pack(VERSION, SUITE, b"n" * 32, SERVER, SALT)
    assert client.receive(Frame(Kind.SERVER_HELLO, greeting)) == [NeedPassword(SALT)]
    client.password(PASSWORD)
    return client, hello, frame_in(reader, client.take_output()).payload


def answering() -> ServerLogin:
    """A server that waits for the exchange."""
    server = ServerLogin(SERVER, SALT, CERTIFICATE)
    assert server.receive(Frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, b"n" * 32, CLIENT)))
    server.admit(PASSWORD)
    server.take_output()
    return server


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
EIGHTH = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
OTHER_EIGHTH = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
SMALL = [n.to_bytes(32, "little") for n in (0, 1, P - 1, P)] + [bytes.fromhex(EIGHTH), bytes.fromhex(OTHER_EIGHTH)]
OTHER_SIGN = [point[:31] + bytes([point[31] | 0x80]) for point in SMALL]
NEUTRAL = (P + 1).to_bytes(32, "little")


@pytest.mark.parametrize("side", [b"B", b"\0", b"\xff"])
def test_points_for_another_side_are_refused(side: bytes) -> None:
    for point in [*SMALL, *OTHER_SIGN, b"\xff" * 32]:
        server = answering()
        server.receive(Frame(Kind.CLIENT_EXCHANGE, side + point))
        with pytest.raises(RemoteProtocolError, match="no point of the group"):
            server.begin()


def test_a_point_with_a_part_of_small_order_is_refused() -> None:
    from spake2.ed25519_basic import Base, bytes_to_unknown_group_element

    mixed = Base.scalarmult(7).add(bytes_to_unknown_group_element(bytes.fromhex(EIGHTH))).to_bytes()
    server = answering()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, b"A" + mixed))
    with pytest.raises(RemoteProtocolError, match="no point of the group"):
        server.begin()


def test_the_neutral_element_in_another_spelling_lets_nobody_in() -> None:
    """spake2 0.9 takes y = p + 1 for a point; what follows from it still depends on the passphrase."""
    from spake2.ed25519_basic import Base

    server = answering()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, b"A" + NEUTRAL))
    server.begin()
    client, _, _ = guessing()  # one that does not know the passphrase of this server, but its exchange
    theirs = frame_in(FrameReader(LOGIN_TO_CLIENT), server.take_output()).payload
    client.receive(Frame(Kind.SERVER_EXCHANGE, theirs))
    proof = frame_in(FrameReader(LOGIN_TO_SERVER), client.take_output()).payload
    assert server.receive(Frame(Kind.CLIENT_PROOF, proof)) == [WrongProof(CLIENT)]
    assert Base.to_bytes() != NEUTRAL


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
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return certificate


def login_events(login: ClientLogin, reader: FrameReader, data: bytes) -> list[object]:
    return [event for frame in feed(reader, data) if isinstance(frame, Frame) for event in login.receive(frame)]


@pytest.mark.parametrize("versions", [(0, 0), (2, 2), (2, 9), (9, 2), (65535, 65535)])
def test_a_client_of_other_versions_is_refused_and_learns_nothing_else(
    versions: tuple[int, int], tmp_path: Path
) -> None:
    async def script() -> None:
        async with LoginServer(tmp_path).listening() as server:
            hello = CLIENT_HELLO.pack(MAGIC, *versions, bytes(32), who("10.0.0.7"))
            said = await answer_to(server.port, encode_frame(Kind.CLIENT_HELLO, hello))
            assert said == encode_frame(Kind.REFUSE, bytes([Refusal.VERSION]) + VERSION.to_bytes(4))

    play(script())


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
                said = await reader.read()
                writer.transport.abort()
                assert said == b""
            # The same in the right way is answered.
            reader, writer = await opened(server.port, client_context())
            writer.write(hello)
            assert await reader.readexactly(5)
            writer.transport.abort()

    play(script())


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
