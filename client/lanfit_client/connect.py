"""The client's end: connect to the server, log in, and return the link, or explain what went wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from lanfit.errors import ConnectionFailed, LanfitError, LocalProtocolError, RefusedError, lanfit_error, texts
from lanfit.net.addresses import with_port
from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import Budget, Link
from lanfit.net.reasons import explains_more, is_gone, why_not_reached
from lanfit.net.secure import open_tls
from lanfit.net.tls import ALPN, client_context, fingerprint_of, grouped, has_fingerprint
from lanfit.net.transport import Wire
from lanfit.wire.auth import (
    VERSION,
    ClientLogin,
    Distrust,
    LoggedIn,
    NeedPassword,
    Refusal,
    Refused,
    client_refusal,
    stretch,
)
from lanfit.wire.session import Session, Side

#: The passphrase as typed; or stretched with the salt of the server that is joined.
Passphrase = str | bytes
#: An impostor can choose the delay of a refusal, because it is not authenticated yet. So a client retries after at
#: most this many seconds, which costs a server almost nothing.
LONGEST_RETRY = 300
LONGEST_SHOWN = 24 * 3600


@dataclass(frozen=True)
class ServerIdentity:
    """The server that a client logged in to, as it is remembered."""

    server_id: bytes
    fingerprint: bytes


class TryLater(ConnectionFailed):
    """The server refused temporarily: banned, full, or still being set up."""

    def __init__(self, retry_after: float, *lines: str) -> None:
        super().__init__(*lines)
        self.retry_after = retry_after


class WrongPassphrase(RefusedError):
    """The server does not know this passphrase."""


async def connect(
    host: str,
    port: int,
    client_id: bytes,
    passphrase: Passphrase,
    *,
    expect_fingerprint: str | None = None,
    known: Callable[[str, bytes], None] | None = None,
    timeout: float = 10.0,
    times: LinkTimes | None = None,
) -> tuple[Link, ServerIdentity]:
    """Connect to a server and log in.

    After the TLS handshake, and before anything is sent, the fingerprint is compared with the expected one (hex digits,
    the first 20 or more); without one, `known(address, fingerprint)` is called, which raises if another one is known
    for this address. `timeout` is in seconds, for each step: resolving the name, connecting, TLS, each answer of the
    login.

    Raises:
        RefusedError: wrong passphrase (WrongPassphrase), version, or fingerprint.
        TryLater: refused temporarily.
        ConnectionFailed: the server can't be reached, or is not a lanfit server.
        InputError: `host` or `port` is invalid.
    """
    address = with_port(host, port)
    connection = await _reach(host, port, address, timeout)
    wire = Wire()
    try:
        fingerprint = await _handshake(connection, wire, address, timeout)
        try:
            _check(address, fingerprint, expect_fingerprint, known)
        except RefusedError:
            # So that its operator learns why a client does not join.
            wire.write([client_refusal(Distrust.FINGERPRINT)])
            await wire.close("its fingerprint differs")
            raise
        server_id = await _log_in(wire, client_id, passphrase, fingerprint, address, timeout)
        return Link(wire, address, times or LinkTimes(), Budget()), ServerIdentity(server_id, fingerprint)
    except BaseException:
        wire.abort("not logged in")
        raise


def _check(address: str, fingerprint: bytes, expected: str | None, known: Callable[[str, bytes], None] | None) -> None:
    """Compare the server's fingerprint with the one that the user expects, or else with the one known for the address.

    Raises:
        RefusedError: it differs.
    """
    if expected is not None and not has_fingerprint(fingerprint, expected):
        raise lanfit_error(
            "join.other-fingerprint",
            address=address,
            shown=grouped(fingerprint.hex()[: len(expected)]),
            expected=grouped(expected),
        )
    if expected is None and known is not None:
        known(address, fingerprint)


async def _reach(host: str, port: int, address: str, timeout: float) -> socket.socket:
    """Return a TCP connection; the addresses of a name are tried one after another."""
    loop = asyncio.get_running_loop()
    if not 1 <= port <= 65535:
        raise lanfit_error("connect.no-port", port=port)
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise lanfit_error("connect.name-not-found-in-time", host=host, seconds=timeout) from None
    except (OSError, UnicodeError) as error:
        raise lanfit_error("connect.unknown-name", host=host) from error
    failures: list[tuple[OSError, float]] = []
    for family, kind, protocol, _, target in found:
        connection = socket.socket(family, kind, protocol)
        began = loop.time()
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeout):
                await loop.sock_connect(connection, target)
            return connection
        except OSError as error:  # TimeoutError is one
            connection.close()
            failures.append((error, loop.time() - began))
        except BaseException:
            connection.close()
            raise
    failure, after = max(failures, key=lambda each: explains_more(each[0]))
    raise why_not_reached(failure, address, after, timeout) from failure


async def _handshake(connection: socket.socket, wire: Wire, address: str, timeout: float) -> bytes:
    """Start TLS; return the fingerprint of the server's certificate."""
    try:
        transport = await open_tls(connection, wire, client_context(), server_side=False, seconds=timeout)
    except TimeoutError:
        raise lanfit_error("connect.silent", address=address, seconds=timeout) from None
    except OSError as error:
        if is_gone(error):
            raise lanfit_error("connect.dropped", address=address) from error
        raise lanfit_error("connect.no-lanfit", address=address) from error
    tls: ssl.SSLObject | ssl.SSLSocket = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True)
    if tls.selected_alpn_protocol() != ALPN or not certificate:
        raise lanfit_error("connect.other-tls", address=address)
    return fingerprint_of(certificate)


async def _log_in(
    wire: Wire, client_id: bytes, passphrase: Passphrase, fingerprint: bytes, address: str, timeout: float
) -> bytes:
    """Log in; return the server's id."""
    login = ClientLogin(client_id, fingerprint)
    wire.begin(Session(Side.CLIENT, login))
    while True:
        try:
            async with asyncio.timeout(timeout):
                event = await wire.next_event()
        except TimeoutError:
            raise lanfit_error("join.silent", address=address, seconds=timeout) from None
        except ConnectionFailed as error:
            raise lanfit_error("join.cut-short", address=address, reason=error.message) from None
        match event:
            case NeedPassword(salt):
                if isinstance(passphrase, str):
                    # scrypt takes 0.1 s, in which the loop must not be blocked.
                    login.password(await asyncio.to_thread(stretch, passphrase, salt))
                else:
                    login.password(passphrase)
                wire.flush()
            case LoggedIn(server_id):
                return server_id
            case Refused(why, seconds):
                raise _refusal(why, seconds, address)
            case _:
                raise LocalProtocolError(f"{type(event).__name__} came before the login was done")


def _refusal(why: Refusal, seconds: int, address: str) -> LanfitError:
    shown_seconds = min(seconds, LONGEST_SHOWN)
    match why:
        case Refusal.PASSPHRASE:
            return WrongPassphrase(*texts("join.passphrase", address=address))
        case Refusal.VERSION:
            theirs = f"version {seconds}" if seconds else "another version"
            return lanfit_error("join.version", address=address, theirs=theirs, ours=VERSION)
        case Refusal.BANNED:
            lines = texts("join.banned", address=address, seconds=shown_seconds)
        case Refusal.FULL:
            lines = texts("join.full", address=address, seconds=shown_seconds)
        case Refusal.NOT_READY:
            lines = texts("join.not-ready", address=address)
    return TryLater(float(min(max(1, seconds), LONGEST_RETRY)), *lines)
