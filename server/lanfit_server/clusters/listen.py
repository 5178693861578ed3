"""The server's end: accept connections, admit clients that know the passphrase, and hand over their links.

The gate decides which addresses may try to log in (gate.py); the caller decides how a link is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from lanfit.errors import ConnectionFailed, RemoteProtocolError
from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import Budget, Link
from lanfit.net.secure import can_watch, open_tls, until_ready
from lanfit.net.tls import ALPN, Identity, server_context
from lanfit.net.transport import Wire
from lanfit.wire.auth import (
    Distrusted,
    Guesses,
    Knocks,
    LoggedIn,
    OtherVersion,
    Refusal,
    Refused,
    ServerLogin,
    WrongProof,
)
from lanfit.wire.session import Session, Side
from lanfit_server.clusters.binding import address_of, bind, places_of

#: From the connection to the exchange, and from the exchange to the proof.
LOGIN_SECONDS = 10.0
#: The maximum number of connections that are logging in.
LOGINS = 32
#: Further connections, which get the reply that the server is full; any others wait in the system's queue.
REFUSALS = 32
#: The delay for a client that is refused because the server is full, in seconds.
FULL_SECONDS = 2

logger = logging.getLogger(__name__)

#: Called with an address and the reason why its client can't log in.
OnFailedLogin = Callable[[str, OtherVersion | Distrusted], None]
OnLink = Callable[[Link, bytes, str], Awaitable[None]]


class Gate(Protocol):
    """The policy on login attempts. Addresses are IP addresses as text."""

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        """Return the stretched passphrase for this client to prove, or why it may not try."""
        ...

    def begin(self, address: str, client_id: bytes) -> Refused | float | None:
        """Register the start of a guess: return for how many seconds to delay its answer.

        One of the calls below ends it. Refusal: it may not start. None: it waits for the end of another guess.
        """
        ...

    def failed(self, address: str, client_id: bytes) -> None:
        """Register the end of a guess: this client guessed wrong, or did not wait for the answer."""
        ...

    def abandoned(self, address: str, client_id: bytes) -> None:
        """Register a login that failed without a guess: the server is shutting down."""
        ...

    def joined(self, address: str, client_id: bytes) -> None:
        """Register the end of a guess: this client proved that it knows the passphrase."""
        ...


class Listener:
    """A listening server; created by `listen`."""

    def __init__(
        self,
        sockets: list[socket.socket],
        identity: Identity,
        gate: Gate,
        on_link: OnLink,
        on_failed_login: OnFailedLogin,
    ) -> None:
        self.addresses: list[str] = [address_of(sock) for sock in sockets]
        self.port: int = sockets[0].getsockname()[1]
        self._identity, self._gate, self._on_link, self._on_failed_login = identity, gate, on_link, on_failed_login
        self._context = server_context(identity)
        self._times = LinkTimes()
        self._login_seconds = LOGIN_SECONDS
        self._budget = Budget()
        self._slots = asyncio.Semaphore(LOGINS + REFUSALS)
        self._logging_in = 0
        self._guess_ended = asyncio.Event()
        self._sockets = sockets
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []

    def start(self, times: LinkTimes, login_seconds: float) -> None:
        """Start to accept connections."""
        self._times, self._login_seconds = times, login_seconds
        self._accepting = [asyncio.create_task(self._accept(sock)) for sock in self._sockets]

    async def close(self) -> None:
        """Stop listening; close pending logins, and the links with their handlers."""
        # First stop accepting: new clients are refused instead of being dropped during the handshake.
        await _cancelled(self._accepting)
        for sock in self._sockets:
            sock.close()
        await _cancelled(self._connections)

    async def _accept(self, sock: socket.socket) -> None:
        while True:
            await self._slots.acquire()
            try:
                connection, address = await _accepted(sock)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:  # no descriptors left, or a connection that died in the queue
                self._slots.release()
                logger.warning("a connection could not be taken: %s", error)
                await asyncio.sleep(0.1)
                continue
            task = asyncio.create_task(self._serve(connection, plain_address(address[0]), address[1]))
            self._connections.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a connection ended with a bug", exc_info=error)

    async def _serve(self, connection: socket.socket, address: str, port: int) -> None:
        wire = Wire()
        self._logging_in += 1
        try:
            client_id = await self._let_in(connection, wire, address, full=self._logging_in > LOGINS)
        except (OSError, ConnectionFailed, RemoteProtocolError) as error:  # TimeoutError is an OSError
            logger.info("%s did not log in: %s", address, error or "it took too long")
            wire.abort("the login failed")
            return
        except BaseException:
            wire.abort("the login was given up")
            raise
        finally:
            self._logging_in -= 1
            self._slots.release()
        if client_id is None:
            await wire.close("refused")
            return
        link = Link(wire, f"{address}:{port}", self._times, self._budget)
        try:
            await self._on_link(link, client_id, address)
        except ConnectionFailed as error:
            logger.info("%s", error.message)
        finally:
            await link.close("closed by the server")

    async def _let_in(self, connection: socket.socket, wire: Wire, address: str, full: bool) -> bytes | None:
        """Do the TLS handshake and the login; return the client's id, or None if it was refused."""
        loop = asyncio.get_running_loop()
        seconds = FULL_SECONDS if full else self._login_seconds
        login = ServerLogin(self._identity.server_id, self._identity.salt, self._identity.fingerprint)
        guessing: bytes | None = None
        try:
            async with asyncio.timeout(seconds) as deadline:
                transport = await open_tls(connection, wire, self._context, server_side=True, seconds=seconds)
                if transport.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN:
                    raise ConnectionFailed("it uses TLS, but is not a lanfit client")
                wire.begin(Session(Side.SERVER, login))
                if full:
                    login.refuse(Refusal.FULL, FULL_SECONDS)
                    wire.flush()
                    return None
                while True:
                    match await wire.next_event():
                        case Knocks(client_id):
                            answer = self._gate.admit(address, client_id)
                            if isinstance(answer, Refused):
                                login.refuse(answer.why, answer.seconds)
                                wire.flush()
                                return None
                            login.admit(answer)
                            wire.flush()
                        case Guesses(client_id):
                            begun = await self._begin(wire, address, client_id)
                            if isinstance(begun, Refused):
                                login.refuse(begun.why, begun.seconds)
                                wire.flush()
                                return None
                            guessing = client_id
                            deadline.reschedule(loop.time() + begun + seconds)
                            await asyncio.sleep(begun)
                            login.begin()
                            wire.flush()
                        case WrongProof():
                            return None
                        case LoggedIn(client_id):
                            guessing = None
                            self._gate.joined(address, client_id)
                            return client_id
                        case OtherVersion() | Distrusted() as why:
                            self._on_failed_login(address, why)
                            return None
                        case _:
                            return None
        except asyncio.CancelledError:
            if guessing is not None:
                self._gate.abandoned(address, guessing)
                guessing = None
            raise
        finally:
            if guessing is not None:  # wrong, too late, or cut off: it counts as a guess
                self._gate.failed(address, guessing)
            self._guess_ended.set()
            self._guess_ended = asyncio.Event()

    async def _begin(self, wire: Wire, address: str, client_id: bytes) -> Refused | float:
        """Wait until a guess may begin; return for how long to delay its answer, or why it may not begin.

        Raises:
            ConnectionFailed: the client did not wait for it.
        """
        while (begun := self._gate.begin(address, client_id)) is None:
            await self._guess_ended.wait()
            if wire.closed.is_set():
                raise ConnectionFailed(wire.reason)
        return begun


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and return when they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _accepted(sock: socket.socket) -> tuple[socket.socket, Any]:
    """Accept one connection.

    If the loop can watch sockets, it only signals that there is one: `loop.sock_accept` accepts it in a callback, so a
    connection that arrives while the listener is being closed would be an error in the log, and be lost.
    """
    loop = asyncio.get_running_loop()
    if not can_watch(loop, sock):
        return await loop.sock_accept(sock)
    while True:
        await until_ready(loop.add_reader, loop.remove_reader, sock)
        with contextlib.suppress(BlockingIOError, InterruptedError):  # it has disconnected again
            connection, address = sock.accept()
            connection.setblocking(False)
            return connection, address


async def listen(
    host: str,
    port: int,
    identity: Identity,
    gate: Gate,
    on_link: OnLink,
    *,
    times: LinkTimes | None = None,
    login_seconds: float = LOGIN_SECONDS,
    on_failed_login: OnFailedLogin = lambda address, why: None,
) -> Listener:
    """Listen on an address or name ("0.0.0.0", "::" and "*": all addresses) and a port (0: any free one).

    `on_link(link, client_id, address)` is awaited for each client that logged in; when it returns, its link is closed.
    `on_failed_login(address, why)` is called for each client that can't log in: anyone who can connect can trigger it.

    Raises:
        InputError: the name is unknown, the address does not belong to this machine, or the port is in use.
    """
    sockets = bind(await asyncio.to_thread(places_of, host), port)
    for sock in sockets:
        sock.setblocking(False)
    listener = Listener(sockets, identity, gate, on_link, on_failed_login)
    listener.start(times or LinkTimes(), login_seconds)
    return listener


def plain_address(address: str) -> str:
    """Return an IP address without its zone, and an IPv4-mapped one as IPv4."""
    return address.partition("%")[0].removeprefix("::ffff:")
