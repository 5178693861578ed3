"""Logging in over real sockets: who gets in, who is told why not, and who is cut off."""

import asyncio
import errno
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
import spake2.ed25519_basic  # noqa: F401  # a login that is timed does not wait for it

from lanfit.errors import ConnectionFailed, InputError, LanfitError, RefusedError
from lanfit.net.link import Link
from lanfit.net.reasons import ENDED, why_lost, why_not_reached
from lanfit.net.tls import Identity, client_context, format_fingerprint, server_context
from lanfit.wire.auth import (
    CLIENT_HELLO,
    LOGIN_TO_CLIENT,
    MAGIC,
    ClientLogin,
    NeedPassword,
    Refusal,
    Refused,
)
from lanfit.wire.frames import Frame, FrameReader, Kind, encode_frame, feed
from lanfit.wire.messages import Join, Welcome
from lanfit_client import connect as connect_module
from lanfit_client.connect import ServerIdentity, TryLater, connect
from lanfit_server.clusters.listen import LOGINS, listen, plain_address

PASSPHRASE = "tiger lamp seven oceans"
CLIENT_ID = b"c" * 16
WAIT = 20.0
HELLO = encode_frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, bytes(32), CLIENT_ID))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def open_tls(port: int, alpn: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection of somebody who need not keep to the protocol."""
    context = client_context()
    if not alpn:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")


async def until_cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the server ends the connection; fails when it does not."""
    try:
        async with asyncio.timeout(WAIT):
            await reader.read()
    except OSError:
        pass
    finally:
        writer.transport.abort()


async def join(port: int) -> Link:
    """Log in, with patience: on a busy machine a login takes longer than the short deadline of some tests."""
    async with asyncio.timeout(WAIT):
        while True:
            try:
                link, _ = await connect("127.0.0.1", port, CLIENT_ID, PASSPHRASE)
            except ConnectionFailed:
                continue
            return link


def test_a_connection_that_comes_as_the_listener_is_closed_is_no_error(serve: Any) -> None:
    """The loop knows of it, and has not come to taking it, when the listener is closed."""

    async def test() -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        async with serve() as server:
            await asyncio.sleep(0)
            with socket.create_connection(("127.0.0.1", server.port)):
                await asyncio.sleep(0)
                await server.listener.close()
                await asyncio.sleep(0)
        assert not errors

    run(test())


def test_who_knows_the_passphrase_gets_a_link(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server:
            link, identity = await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            assert identity == ServerIdentity(server.identity.server_id, server.identity.fingerprint)
            assert await server.gate.joins.get() == CLIENT_ID
            there = await server.links.get()
            await link.send(Join("lab-07", "0.1.0", "numpy", "cpu", 1, 0))
            assert isinstance(await there.receive(), Join)
            await there.send(Welcome("0.1.0", "lab-07", collecting=False))
            assert isinstance(await link.receive(), Welcome)
            assert there.peer.startswith("127.0.0.1:")
            assert server.gate.failures.empty()
            await link.close()

    run(test())


def test_a_wrong_passphrase_is_refused_and_shown_nowhere(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    guess = "gorilla umbrella guess"

    async def test() -> None:
        async with serve() as server:
            with pytest.raises(RefusedError, match="wrong passphrase") as refused:
                await connect("127.0.0.1", server.port, CLIENT_ID, guess)
            assert refused.value.exit_code == 3
            assert await server.gate.failures.get() == "127.0.0.1"
            shown = f"{refused.value!r} {refused.value.hint} {server.gate.joins} {server.listener!r} {caplog.text}"
            for secret in (guess, PASSPHRASE, server.gate.stretched.hex(), str(server.gate.stretched)):
                assert secret not in shown

    run(test())


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [(Refused(Refusal.BANNED, 77), 77), (Refused(Refusal.NOT_READY, 2), 2), (Refused(Refusal.FULL, 5), 5)],
)
def test_who_is_refused_for_now_learns_when_to_come_back(serve: Any, refusal: Refused, seconds: int) -> None:
    async def test() -> None:
        async with serve() as server:
            server.gate.refusal = refusal
            with pytest.raises(TryLater) as refused:
                await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            assert refused.value.retry_after == seconds
            assert server.gate.failures.empty()
            server.gate.refusal = None
            link, _ = await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            await link.close()

    run(test())


def test_another_version_is_refused_with_what_to_do(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serve() as server:
            monkeypatch.setattr("lanfit.wire.auth.VERSION", 2)
            login = ClientLogin(CLIENT_ID, bytes(32))
            monkeypatch.setattr("lanfit.wire.auth.VERSION", 1)
            monkeypatch.setattr(connect_module, "ClientLogin", lambda *_: login)
            with pytest.raises(RefusedError, match="the server uses version 1 of the protocol") as refused:
                await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            assert "Install the same version of lanfit" in refused.value.hint
            assert server.gate.admitted == []

    run(test())


@pytest.mark.parametrize("way", ["expected", "known"])
def test_another_fingerprint_is_refused_before_anything_is_reported(serve: Any, way: str) -> None:
    def known(address: str, fingerprint: bytes) -> None:
        raise RefusedError(f"{address} is known with another fingerprint than {fingerprint.hex()}")

    async def test() -> None:
        async with serve() as server:
            options: dict[str, Any] = {"expect_fingerprint": "ab" * 10} if way == "expected" else {"known": known}
            with pytest.raises(RefusedError, match="fingerprint") as refused:
                await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE, **options)
            assert f"127.0.0.1:{server.port}" in refused.value.message
            shown = server.identity.fingerprint
            assert (format_fingerprint(shown) if way == "expected" else shown.hex()) in refused.value.message
            assert server.gate.admitted == []

    run(test())


def test_the_expected_fingerprint_is_let_in(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server:
            asked: list[tuple[str, bytes]] = []
            link, _ = await connect(
                "127.0.0.1",
                server.port,
                CLIENT_ID,
                PASSPHRASE,
                expect_fingerprint=server.identity.fingerprint.hex()[:20],
                known=lambda address, fingerprint: asked.append((address, fingerprint)),
            )
            assert asked == [], "what the user says is not held against what is remembered"
            await link.close()

    run(test())


# --- what is at the other end is no server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def failure(port: int, host: str = "127.0.0.1", timeout: float = 10.0) -> LanfitError:
    async def test() -> LanfitError:
        try:
            link, _ = await connect(host, port, CLIENT_ID, PASSPHRASE, timeout=timeout)
        except LanfitError as error:
            return error
        await link.close()
        raise AssertionError("it connected")

    return asyncio.run(asyncio.wait_for(test(), 60))


def test_nobody_listening_is_reported_as_refused() -> None:
    error = failure(free_port())
    assert isinstance(error, ConnectionFailed)
    assert "refused the connection" in error.message
    assert "Start the server" in error.hint


def test_an_unknown_name_is_reported_as_one() -> None:
    error = failure(8470, host="no..name")
    assert "the name 'no..name' can't be resolved" in error.message
    assert "IP address" in error.hint


def test_a_port_that_is_none_is_wrong_input() -> None:
    error = failure(70000)
    assert isinstance(error, InputError)
    assert error.code == "connect.no-port"


def test_a_name_that_is_not_found_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        found.wait(WAIT)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def test() -> LanfitError:
        try:
            await connect("slow.example", 8470, CLIENT_ID, PASSPHRASE, timeout=0.1)
        except LanfitError as error:
            return error
        finally:
            found.set()
        raise AssertionError("it connected")

    error = asyncio.run(test())
    assert error.code == "connect.name-not-found-in-time"
    assert "'slow.example' could not be resolved within 0.1 s" in error.message


#: What asyncio puts in the place of the system's own words.
ASYNCIO = "Connect call failed ('10.0.0.5', 8470)"


def test_every_way_of_not_getting_through_has_its_own_message_and_hint() -> None:
    errors = [
        why_not_reached(error, "10.0.0.5:8470", after, 10.0)
        for error, after in (
            (TimeoutError(), 10.0),
            (OSError(errno.ETIMEDOUT, ASYNCIO), 10.0),
            (ConnectionRefusedError(errno.ECONNREFUSED, ASYNCIO), 0.0),
            (OSError(errno.EHOSTUNREACH, ASYNCIO), 0.01),
            (PermissionError(errno.EACCES, ASYNCIO), 0.01),
            (PermissionError(errno.EPERM, ASYNCIO), 3.0),
            (OSError(errno.EHOSTUNREACH, ASYNCIO), 3.1),
            (OSError(errno.EHOSTDOWN, ASYNCIO), 3.1),
            (OSError(errno.ENETUNREACH, ASYNCIO), 0.0),
            (OSError(errno.EINVAL, ASYNCIO), 0.0),
        )
    ]
    assert [error.code for error in errors] == [
        *["connect.no-answer"] * 2, "connect.nobody-listens", *["connect.rejected"] * 3, *["connect.nobody-there"] * 2,
        "connect.no-way", "connect.failed",
    ]  # fmt: skip
    assert all(error.hint and "10.0.0.5:8470" in error.message for error in errors)
    assert not any("Connect call failed" in f"{error.message} {error.hint}" for error in errors)
    assert all("firewall" in f"{error.message} {error.hint}" for error in errors[:2] + errors[3:8])
    assert "8470" in errors[0].hint
    assert "--add-port=8470/tcp" in errors[3].hint
    assert errors[8].message.endswith("Network is unreachable")


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (None, "the other side closed the connection without a message"),
        (
            ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:2580)"),
            "the other side closed the connection without a message",
        ),
        (ssl.SSLError(1, "[SSL: UNEXPECTED_EOF_WHILE_READING]"), "TLS failed"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ENDED),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ENDED),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "the other machine can no longer be reached"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "the other machine can no longer be reached"),
    ],
)
def test_a_peer_that_died_is_one_that_ended_and_no_trouble_with_tls(error: Exception | None, output: str) -> None:
    assert why_lost(error).startswith(output)
    assert "violation of protocol" not in why_lost(error)


def test_of_several_addresses_the_one_that_says_most_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an IPv6 address that nothing leads to, and an IPv4 one where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("255.255.255.255", port)),
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    error = failure(port, host="two.example")
    assert error.code == "connect.nobody-listens"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_something_else_that_answers_is_reported_as_no_lanfit_server(answer: bytes) -> None:
    async def test() -> LanfitError:
        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await reader.read(100)
            writer.close()

        async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
            with pytest.raises(ConnectionFailed) as failed:
                await connect("127.0.0.1", server.sockets[0].getsockname()[1], CLIENT_ID, PASSPHRASE)
            return failed.value

    error = asyncio.run(asyncio.wait_for(test(), 60))
    assert "not a lanfit server" in error.message
    assert error.hint


def test_who_drops_the_connection_in_the_handshake_may_be_a_server_that_ends() -> None:
    async def test() -> LanfitError:
        async def ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(ending, "127.0.0.1", 0) as server:
            with pytest.raises(ConnectionFailed) as failed:
                await connect("127.0.0.1", server.sockets[0].getsockname()[1], CLIENT_ID, PASSPHRASE)
            return failed.value

    error = asyncio.run(asyncio.wait_for(test(), 60))
    assert error.code == "connect.dropped"
    assert "a server that is shutting down" in error.message
    assert "another program answers" not in error.message


def test_another_tls_server_is_reported_as_no_lanfit_server(identity: Identity) -> None:
    async def test() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.path)

        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(other, "127.0.0.1", 0, ssl=context) as server:
            with pytest.raises(ConnectionFailed, match=r"not a lanfit server.* another TLS server"):
                await connect("127.0.0.1", server.sockets[0].getsockname()[1], CLIENT_ID, PASSPHRASE)

    run(test())


def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = failure(silent.getsockname()[1], timeout=0.2)
    assert "did not answer within 0.2 s" in error.message
    assert error.code == "connect.silent"


def test_a_server_that_does_not_continue_the_login_is_given_up(identity: Identity) -> None:
    async def test() -> None:
        over = asyncio.Event()

        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.close()

        async with await asyncio.start_server(other, "127.0.0.1", 0, ssl=server_context(identity)) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionFailed, match="did not continue the login") as failed:
                await connect("127.0.0.1", port, CLIENT_ID, PASSPHRASE, timeout=1.0)
            assert failed.value.code == "join.silent"
            over.set()

    run(test())


def test_a_server_that_goes_away_during_the_login_is_reported(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server:
            server.gate.admit = lambda *_: (_ for _ in ()).throw(ConnectionFailed("gone"))
            with pytest.raises(ConnectionFailed, match="was not completed"):
                await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)

    run(test())


# --- who does not keep to the protocol


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!IB", 2**32 - 1, Kind.CLIENT_HELLO),
        struct.pack("!IB", 2**31, Kind.DATA) + bytes(1000),
        encode_frame(Kind.CONTROL, b"\x81\xa4type\xa4ping"),
        encode_frame(Kind.CLIENT_HELLO, bytes(CLIENT_HELLO.size)),
        HELLO + HELLO,
        HELLO + encode_frame(Kind.CLIENT_EXCHANGE, b"A" + b"\xff" * 32),
        bytes(100_000),
    ],
)
def test_garbage_is_cut_off_at_once(serve: Any, garbage: bytes) -> None:
    async def test() -> None:
        async with serve(login_seconds=3600) as server:
            reader, writer = await open_tls(server.port)
            writer.write(garbage)
            await until_cut(reader, writer)
            link, _ = await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            await link.close()

    run(test())


def test_who_speaks_no_tls_is_cut_off_at_once(serve: Any) -> None:
    async def test() -> None:
        async with serve(login_seconds=3600) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: lan\r\n\r\n")
            await until_cut(reader, writer)
            reader, writer = await open_tls(server.port, alpn=False)
            await until_cut(reader, writer)

    run(test())


@pytest.mark.parametrize("sent", [b"", HELLO[:30], HELLO])
def test_half_a_login_is_cut_off_when_its_time_is_up(serve: Any, sent: bytes) -> None:
    async def test() -> None:
        async with serve(login_seconds=2) as server:
            reader, writer = await open_tls(server.port)
            writer.write(sent)
            await until_cut(reader, writer)
            assert server.gate.failures.empty()

    run(test())


def test_a_byte_now_and_then_does_not_keep_a_login_alive_nor_others_out(serve: Any) -> None:
    async def test() -> None:
        async with serve(login_seconds=2) as server:
            reader, writer = await open_tls(server.port)

            async def trickle() -> None:
                for byte in HELLO[:-1]:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(trickle())
            link = await join(server.port)
            await until_cut(reader, writer)
            dripping.cancel()
            await link.close()

    run(test())


def test_no_more_than_32_logins_at_once_and_the_next_must_come_back(serve: Any) -> None:
    async def test() -> None:
        async with serve(login_seconds=5) as server:
            silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(LOGINS)]
            with pytest.raises(TryLater, match="busy") as refused:
                await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            assert refused.value.retry_after > 0
            for reader, writer in silent:
                await until_cut(reader, writer)
            link = await join(server.port)
            await link.close()

    run(test())


def test_a_hundred_silent_connections_end_by_themselves(serve: Any) -> None:
    async def test() -> None:
        async with serve(login_seconds=1) as server:
            silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
            for reader, writer in silent:
                await until_cut(reader, writer)
            link = await join(server.port)
            await link.close()

    run(test())


async def guess_half(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Go as far as the exchange, and then owe the proof."""
    reader, writer = await open_tls(port)
    login, frames = ClientLogin(CLIENT_ID, bytes(32)), FrameReader(LOGIN_TO_CLIENT)
    writer.write(login.take_output())
    while True:
        data = await reader.read(1)
        assert data, "the server cut the link"
        for frame in feed(frames, data):
            if isinstance(frame, Frame) and frame.kind is Kind.SERVER_EXCHANGE:
                return reader, writer
            if isinstance(frame, Frame):
                assert isinstance(login.receive(frame)[0], NeedPassword)
                login.password(bytes(32))
                writer.write(login.take_output())


def test_a_guess_that_is_never_confirmed_counts_as_failed(serve: Any) -> None:
    async def test() -> None:
        async with serve(login_seconds=2) as server:
            reader, writer = await guess_half(server.port)
            await until_cut(reader, writer)
            assert await server.gate.failures.get() == "127.0.0.1"

    run(test())


def test_half_a_login_counts_as_a_guess_too(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server:
            _, writer = await guess_half(server.port)
            writer.transport.abort()
            assert await server.gate.failures.get() == "127.0.0.1"
            link, _ = await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            assert server.gate.failures.empty()
            await link.close()

    run(test())


# --- where the server listens


def test_a_port_in_use_is_named(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server:
            with pytest.raises(InputError, match=f"port {server.port} is in use") as error:
                await listen("127.0.0.1", server.port, server.identity, server.gate, server.on_link)
            assert "--port" in error.value.hint

    run(test())


async def never(*_: object) -> None:
    """Nobody comes in."""


@pytest.mark.parametrize(
    ("host", "complaint"), [("192.0.2.1", "not an address of this machine"), ("no..name", "no..name")]
)
def test_an_address_that_is_not_ours_is_named(identity: Identity, host: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        asyncio.run(listen(host, 0, identity, None, never))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "port", "error", "code"),
    [
        ("127.0.0.1", 70000, None, "listen.no-port"),
        ("no..name", 0, None, "listen.unknown-name"),
        ("192.0.2.1", 0, None, "listen.other-machine"),
        ("127.0.0.1", 80, PermissionError(13, "Permission denied"), "listen.port-forbidden"),
        ("127.0.0.1", 8470, PermissionError(13, "forbidden by its access permissions"), "listen.port-reserved"),
        ("127.0.0.1", 80, OSError(99999, "Something else"), "listen.failed"),
    ],
)
def test_every_way_of_not_listening_has_its_own_words(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, host: str, port: int, error: OSError | None, code: str
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        assert error is not None
        raise error

    if error is not None:
        monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(InputError) as caught:
        asyncio.run(listen(host, port, identity, None, never))  # type: ignore[arg-type]
    assert caught.value.code == code
    assert str(port or host) in caught.value.message


def test_a_closed_listener_takes_its_links_and_its_port_with_it(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server:
            link, _ = await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)
            assert server.listener.addresses == ["127.0.0.1"]
        await asyncio.wait_for(link.closed.wait(), WAIT)
        with pytest.raises(ConnectionFailed, match="refused"):
            await connect("127.0.0.1", server.port, CLIENT_ID, PASSPHRASE)

    run(test())


def test_an_address_is_the_same_in_all_its_clothes() -> None:
    assert plain_address("::ffff:10.0.0.5") == "10.0.0.5"
    assert plain_address("fe80::1%eth0") == "fe80::1"
