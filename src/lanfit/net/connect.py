"""The client's end: finds the server, logs in, and returns the link; says what went wrong when it did not work."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from lanfit.errors import ConnectionFailed, InputError, RefusedError
from lanfit.net.link import Link, make_budget
from lanfit.net.pulse import LinkTimes
from lanfit.net.secure import open_tls
from lanfit.net.tls import ALPN, client_context, fingerprint_of, format_fingerprint
from lanfit.net.transport import Wire
from lanfit.wire.auth import ClientLogin, LoggedIn, NeedPassword, Refusal, Refused, stretch
from lanfit.wire.session import Session, Side


@dataclass(frozen=True)
class ServerIdentity:
    """The server that a client logged in to: what to remember."""

    server_id: bytes
    fingerprint: bytes


class TryLater(ConnectionFailed):
    """The server refused for now: banned, full, or still being set up."""

    def __init__(self, message: str, hint: str, retry_after: float) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class WrongPassphrase(RefusedError):
    """The server does not know this passphrase."""


async def connect(
    host: str,
    port: int,
    client_id: bytes,
    passphrase: str,
    *,
    expect_fingerprint: bytes | None = None,
    known: Callable[[str, bytes], None] | None = None,
    timeout: float = 10.0,
    times: LinkTimes | None = None,
) -> tuple[Link, ServerIdentity]:
    """Connect to a server and log in.

    `known(address, fingerprint)` is asked once TLS stands and before anything is said; it raises when another
    fingerprint is known for this address. `timeout` is in seconds, for each of: finding the name, connecting, TLS,
    each answer of the login.

    Raises:
        RefusedError: wrong passphrase (WrongPassphrase), version, or fingerprint.
        TryLater: refused for now.
        ConnectionFailed: no way to the server, or no lanfit server there.
        InputError: `host` or `port` can't be one.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    connection = await _reach(host, port, address, timeout)
    wire = Wire()
    try:
        fingerprint = await _handshake(connection, wire, address, timeout)
        if expect_fingerprint is not None and fingerprint != expect_fingerprint:
            raise RefusedError(
                f"{address} has the fingerprint {format_fingerprint(fingerprint)}, "
                f"but {format_fingerprint(expect_fingerprint)} is expected",
                "compare with what the server shows; if it differs, something stands between you and the server",
            )
        if known is not None:
            known(address, fingerprint)
        server_id = await _log_in(wire, client_id, passphrase, fingerprint, address, timeout)
        return Link(wire, address, times or LinkTimes(), make_budget()), ServerIdentity(server_id, fingerprint)
    except BaseException:
        wire.abort("not logged in")
        raise


async def _reach(host: str, port: int, address: str, timeout: float) -> socket.socket:
    """Return a TCP connection; the addresses of a name are tried in turn."""
    loop = asyncio.get_running_loop()
    if not 1 <= port <= 65535:
        raise InputError(f"{port} is no port", "give one from 1 to 65535, as the server shows it")
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise ConnectionFailed(f"the name {host!r} was not found within {timeout:g} s", _USE_ADDRESS) from None
    except (OSError, UnicodeError) as error:
        raise ConnectionFailed(f"no machine named {host!r} is known here", _USE_ADDRESS) from error
    failure: OSError | None = None
    for family, kind, protocol, _, target in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeout):
                await loop.sock_connect(connection, target)
            return connection
        except OSError as error:  # TimeoutError is one
            connection.close()
            failure = failure or error
        except BaseException:
            connection.close()
            raise
    assert failure is not None
    raise _unreachable(failure, address, timeout) from failure


_USE_ADDRESS = "check the spelling, or use the IP address that the server shows"


def _unreachable(error: OSError, address: str, timeout: float) -> ConnectionFailed:
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return ConnectionFailed(
            f"nothing answered at {address} within {timeout:g} s: a firewall, most likely, or a wrong address",
            "check the address, that both machines are in the same network, and that the server's firewall lets "
            f"TCP port {address.rpartition(':')[2]} in",
        )
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFailed(
            f"{address} refused the connection: the machine is there, but no server listens on this port",
            "start the server, or check the port",
        )
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return ConnectionFailed(
            f"there is no way to {address}: {error.strerror}",
            "check the address, and that both machines are in the same network",
        )
    return ConnectionFailed(f"{address} can't be reached: {error.strerror or error}", "check address and network")


async def _handshake(connection: socket.socket, wire: Wire, address: str, timeout: float) -> bytes:
    """Start TLS; return the fingerprint of the server's certificate."""
    try:
        transport = await open_tls(connection, wire, client_context(), server_side=False, seconds=timeout)
    except TimeoutError:
        raise ConnectionFailed(
            f"{address} takes connections, but did not answer within {timeout:g} s: no lanfit server, or a busy one",
            "check the port; if it is right, try again in a moment",
        ) from None
    except OSError as error:
        raise ConnectionFailed(f"no lanfit server is at {address}: something else answers there", _OTHER) from error
    tls: ssl.SSLObject | ssl.SSLSocket = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True)
    if tls.selected_alpn_protocol() != ALPN or not certificate:
        raise ConnectionFailed(f"no lanfit server is at {address}: another TLS server answers there", _OTHER)
    return fingerprint_of(certificate)


_OTHER = "check the port that the server shows"


async def _log_in(
    wire: Wire, client_id: bytes, passphrase: str, fingerprint: bytes, address: str, timeout: float
) -> bytes:
    """Do the login; return the server's id."""
    login = ClientLogin(client_id, fingerprint)
    wire.begin(Session(Side.CLIENT, login))
    while True:
        try:
            async with asyncio.timeout(timeout):
                event = await wire.next_event()
        except TimeoutError:
            raise ConnectionFailed(
                f"{address} did not go on with the login for {timeout:g} s", "try again in a moment"
            ) from None
        except ConnectionFailed as error:
            raise ConnectionFailed(
                f"the login at {address} did not come to its end: {error.message}", "try again in a moment"
            ) from None
        match event:
            case NeedPassword(salt):
                # scrypt takes 0.1 s; the loop has other things to do meanwhile.
                login.password(await asyncio.to_thread(stretch, passphrase, salt))
                wire.flush()
            case LoggedIn(server_id):
                return server_id
            case Refused(why, seconds):
                raise _refusal(why, seconds, address)
            case _:
                raise ConnectionFailed(f"{address} sent messages before the login was done", _OTHER)


def _refusal(why: Refusal, seconds: int, address: str) -> RefusedError | TryLater:
    message = f"{address}: {why.sentence.format(seconds=seconds)}"
    if why is Refusal.PASSPHRASE:
        return WrongPassphrase(message, "the server shows the passphrase; upper and lower case are different")
    if why is Refusal.VERSION:
        return RefusedError(message, "install the same lanfit on both machines")
    return TryLater(message, "it is tried again by itself", float(max(1, seconds)))
