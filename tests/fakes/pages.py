"""A live page on loopback, and browsers without a screen that speak to it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fakes.places import Place
from lanfit.core.loop import LoopThread
from lanfit.net.tls import Identity
from lanfit.settings.timeouts import Timeouts
from lanfit_server.requests import RunHandle
from lanfit_server.session import Session
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.ui.dashboard.board import TEACHER, VIEWER
from lanfit_server.ui.dashboard.serving import Page


@dataclass
class Answer:
    """What a server has answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Keeps a cookie, and sends what a page's scripts send."""

    port: int
    host: str = "127.0.0.1"
    cookie: str = ""
    secure: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        if self.secure:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return http.client.HTTPSConnection(self.host, self.port, timeout=60, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    @property
    def origin(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str | None] | None = None
    ) -> Answer:
        """Send a request; a header that is None is left out."""
        sent: dict[str, str | None] = {"Host": f"{self.host}:{self.port}", **self.headers, **(headers or {})}
        if self.cookie:
            sent.setdefault("Cookie", self.cookie)
        connection = self.connect()
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str | None) -> Answer:
        """As the scripts of the page do; `headers` with _ for - change that."""
        sent: dict[str, str | None] = {
            "Content-Type": "application/json",
            "X-Lanfit": "1",
            "Origin": self.origin,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self.send("POST", path, json.dumps({} if body is None else body).encode(), sent)

    def open(self, link: str) -> Answer:
        """Open a link with a token, and keep the cookie."""
        answer = self.get("/" + link.split("/", 3)[3])
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    @contextmanager
    def stream(self, path: str = "/api/events?since=-1", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The messages of an event stream."""
        connection = self.connect()
        try:
            sent = {"Host": f"{self.host}:{self.port}", "Cookie": self.cookie, **headers}
            connection.request("GET", path, headers=sent)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
            yield self._messages(answer)
        finally:
            connection.close()

    @staticmethod
    def _messages(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        number = None
        while line := answer.readline():
            if line.startswith(b"id: "):
                number = int(line[4:])
            if line.startswith(b"data: "):
                message = json.loads(line[6:])
                assert message["seq"] == number
                yield message


class Served:
    """A page, its session, and browsers with either role."""

    def __init__(self, place: Place, loop: LoopThread, page: Page, session: Session) -> None:
        self.place, self.loop, self.page, self.session = place, loop, page, session
        self.stranger = Browser(page.port, secure=page.is_public)
        self.teacher, self.viewer = Browser(page.port), Browser(page.port)
        self.teacher.secure = self.viewer.secure = page.is_public
        self.teacher.open(page.link(TEACHER))
        self.viewer.open(page.link(VIEWER))

    def submit(self, **values: Any) -> RunHandle:
        return self.loop.call(self.session.submit(self.place.request(**values)))


@contextmanager
def served(place: Place, *names: str, simulated: bool = False, host: str = "127.0.0.1") -> Iterator[Served]:
    """A page whose clients the test plays, or that are simulated."""
    identity = Identity.load_or_create(place.workspace.server_state)
    members = lambda: place.host.cluster.roster.members() if place.host else []  # noqa: E731
    page = Page(PageSettings(host=host, port=0), members)
    place.watchers.append(page.board)
    with LoopThread() as loop:
        hosting = place.simulation() if simulated else place.with_clients(*names)
        with loop.within(hosting) as session:
            loop.call(page.open(place.workspace, session, place.host, identity.path, Timeouts(), {}))
            try:
                yield Served(place, loop, page, session)
            finally:
                loop.call(page.close())
