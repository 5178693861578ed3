"""Serves the live page in the loop of the session: its own port, TLS beyond this machine, and a quick end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from lanfit import __version__
from lanfit.core.workspace import Workspace
from lanfit.errors import LanfitError, lanfit_error
from lanfit.net.addresses import ALL_ADDRESSES, is_loopback, with_port
from lanfit.settings.fields import Value
from lanfit.settings.timeouts import Timeouts
from lanfit_server.clusters.binding import address_of, bind, places_of
from lanfit_server.clusters.roster import Member
from lanfit_server.run.runner import RunHost
from lanfit_server.session import Session
from lanfit_server.start.interfaces import interfaces_here, ranked
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.ui.dashboard import earlier, samples_view, timeline_view
from lanfit_server.ui.dashboard.app import make_app
from lanfit_server.ui.dashboard.board import TEACHER, VIEWER, Board
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.lobby import joining
from lanfit_server.ui.dashboard.security import Guard, Keys
from lanfit_server.ui.dashboard.stream import Publisher

#: So many ports are tried.
PORTS = 100
#: Requests that are open at the end have this long, in seconds.
END_SECONDS = 2
#: Connections at a time; the rest gets 503.
MOST_CONNECTIONS = 2000
#: The addresses of this machine are looked up again for a Host that is unknown, at most this often in seconds.
LOOK_SECONDS = 5.0
#: What shows more of each event; see `Board`.
FEEDS = (samples_view.feed, timeline_view.feed)
#: And those that are called with each run that begins.
BEGAN = (earlier.began, samples_view.began, timeline_view.began)

logger = logging.getLogger("lanfit.server")


class _Server(uvicorn.Server):
    """Ctrl-C belongs to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def install_signal_handlers(self) -> None:
        pass


class Page:
    """The live page of a server. Its board watches runs from the beginning; `open` serves it.

    Args:
        members: returns the clients.
    """

    def __init__(self, settings: PageSettings, members: Callable[[], Sequence[Member]]) -> None:
        self.settings = settings
        self._keys = Keys()
        server: dict[str, Any] = {
            "name": socket.gethostname(),
            "version": __version__,
            "address": "",
            "join": "",
            "join_lines": [],
            "passphrase": None,
            "class_link": None,
            "stream": "sse",
            "poll_seconds": settings.poll_seconds,
        }
        self.board = Board(members, server, FEEDS, BEGAN)
        self.port = 0
        self._addresses: list[str] = []
        self._hosts: frozenset[str] = frozenset()
        self._looked = 0.0
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._publisher: Publisher | None = None

    async def open(
        self,
        workspace: Workspace,
        session: Session,
        host: RunHost,
        certificate: Path,
        timeouts: Timeouts,
        defaults: Mapping[str, Value],
    ) -> None:
        """Serve the page from now on.

        Args:
            certificate: the file with the server's key and certificate, for a page beyond this machine.

        Raises:
            InputError: it is not possible to listen on the address, or no port is free.
        """
        sockets = await asyncio.get_running_loop().run_in_executor(None, self._bind)
        try:
            self.port = sockets[0].getsockname()[1]
            self._addresses = [address_of(each) for each in sockets]
            self._hosts = hosts_of(self.settings.host, self._addresses, self.port)
            if self.is_public:
                self.board.update("server", class_link=self.class_link)
            self._publisher = Publisher(self.board)
            context = Context(workspace, session, host, self.board, timeouts, defaults)
            app = make_app(context, self._publisher)
            guard = Guard(app, self._keys, self._served, self.scheme, f"lanfit-{self.port}")
            pem = str(certificate) if self.is_public else None
            config = uvicorn.Config(
                guard,
                log_config=None,
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws="none",
                http="h11",
                interface="asgi3",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=END_SECONDS,
                ssl_certfile=pem,
                ssl_keyfile=pem,
            )
            self._server = _Server(config)
            self._serving = asyncio.create_task(self._server.serve(sockets))
            while not self._server.started and not self._serving.done():
                await asyncio.sleep(0.005)
            if self._serving.done():
                self._serving.result()
        except BaseException:
            for each in sockets:
                each.close()
            raise

    def _bind(self) -> list[socket.socket]:
        """Bind the wanted port, or the next free one."""
        host, first = self.settings.host, self.settings.port
        places = places_of(host)
        last = min(first + PORTS, 65536) - 1 if first else 0
        for port in range(first, last + 1):
            try:
                return bind(places, port)
            except LanfitError as error:
                if error.code != "listen.port-in-use":
                    raise
        raise lanfit_error("page.no-port", first=first, last=last, host=host)

    async def close(self) -> None:
        """End all streams, then the server; harmless when that is done."""
        if self._publisher is not None:
            await self._publisher.close()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])

    def shows_joining(self, command: str) -> None:
        """Show this command, to be run on a client, in the lobby."""
        self.board.update("server", **joining(command))

    # --- its addresses ------------------------------------------------------------------------------------------

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return not all(map(is_loopback, self._addresses))

    @property
    def scheme(self) -> str:
        return "https" if self.is_public else "http"

    def link(self, role: str, path: str = "/") -> str:
        """Return the link that gives a browser this role."""
        place = with_port(_best(self.settings.host, self._addresses), self.port)
        return f"{self.scheme}://{place}{path}?token={self._keys.token(role)}"

    @property
    def teacher_link(self) -> str:
        return self.link(TEACHER)

    @property
    def class_link(self) -> str | None:
        """The link for those who only look, if other machines can reach the page."""
        return self.link(VIEWER, "/join") if self.is_public else None

    def lines(self) -> list[str]:
        """Return the message to the operator."""
        found = [f"Live page: {self.teacher_link}"]
        if self.settings.port and self.port != self.settings.port:
            found.append(f"Port {self.settings.port} is in use: the live page has port {self.port}.")
        if self.class_link is not None:
            found.append(f"For the class, to look only: {self.class_link}")
            found.append("Browsers warn of its certificate, which is this server's own: that is expected.")
        return found

    def _served(self) -> Collection[str]:
        """Return the values of Host that are this page; looked up again from time to time, for new networks."""
        now = time.monotonic()
        if self.settings.host in ALL_ADDRESSES and now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._hosts = hosts_of(self.settings.host, self._addresses, self.port)
        return self._hosts


def hosts_of(host: str, addresses: Sequence[str], port: int) -> frozenset[str]:
    """Return the values of Host by which a page is reached that listens on these addresses."""
    names = set(addresses)
    for everywhere, version in (("0.0.0.0", 4), ("::", 6)):
        if everywhere in names:
            names.discard(everywhere)
            names |= {"127.0.0.1" if version == 4 else "::1"}
            names |= {
                address
                for interface in interfaces_here()
                for address in interface.addresses
                if (":" in address) == (version == 6)
            }
    if any(map(is_loopback, names)):
        names.add("localhost")
    if host not in ALL_ADDRESSES:
        names.add(host.strip().removeprefix("[").removesuffix("]"))
    return frozenset(with_port(name, port).lower() for name in names)


def _best(host: str, addresses: Sequence[str]) -> str:
    """Return the address for links."""
    if host not in ALL_ADDRESSES:
        return host.strip().removeprefix("[").removesuffix("]")
    here = [each.address for each in ranked(interfaces_here()) if "%" not in each.address]
    return here[0] if here else "127.0.0.1" if "0.0.0.0" in addresses else "::1"
