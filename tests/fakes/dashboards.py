"""The routes of the live page over a session whose clients train with the fake backend, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
from starlette.applications import Starlette

from fakes.backend import NAME, registered
from fakes.places import Place
from lanfit.settings.fields import Value
from lanfit.settings.timeouts import Timeouts
from lanfit_server.requests import RunHandle
from lanfit_server.session import Session
from lanfit_server.ui.dashboard.app import make_app
from lanfit_server.ui.dashboard.board import Board
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.stream import Publisher
from lanfit_server.watchers import Watcher


class Later(Watcher):
    """Watches for a board that is made after the session."""

    board: Board | None = None

    def request(self, handle: RunHandle) -> None:
        if self.board is not None:
            self.board.request(handle)


@contextmanager
def fake_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A workspace with a model and files with 40 rows; no charts, and an empty report."""

    async def draw(*what: object) -> None:
        pass

    monkeypatch.setattr("lanfit_server.methods.independent_workshop.draw_chart", draw)
    monkeypatch.setattr("lanfit_server.run.finish.write_reports", lambda *what: [])
    with registered():
        place = Place(folder)
        place.watchers.append(Later())
        for side in (place.workspace.inputs, place.workspace.targets):
            side.mkdir(parents=True)
            lines = [f"{row / 40},{row / 80},{row / 120}" for row in range(40)]
            (side / "rows.csv").write_text("\n".join(lines) + "\n")
        yield place


#: A form that is right, for 2 simulated clients.
RIGHT: dict[str, object] = {"model": "net.keras", "clients": 2, "epochs": 1, "batch_size": 4, "backend": NAME}


class Page:
    """What a browser sends, and what it gets."""

    def __init__(self, client: httpx.AsyncClient, app: Starlette, place: Place, session: Session) -> None:
        self.client = client
        self.app = app
        self.place = place
        self.session = session

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.headers["content-type"].startswith("application/json") else answer

    async def get_bytes(self, path: str) -> httpx.Response:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer

    async def raw(self, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
        """Send a path as it is: clients remove dots. The server decodes it, as uvicorn does."""
        encoded = quote(path, safe="/%\\:~")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(encoded),
            "raw_path": encoded.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"lanfit"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        sent: list[Any] = []
        asked: list[bool] = []

        async def receive() -> dict[str, Any]:
            if asked:
                return {"type": "http.disconnect"}
            asked.append(True)
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent)

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self.client.post(path, json=body or {}, headers={"X-Lanfit": "1"})
        assert answer.status_code == status, answer.text
        return answer.json()


@asynccontextmanager
async def page_of(place: Place, session: Session, defaults: Mapping[str, Value] | None = None) -> AsyncIterator[Page]:
    """The page of a session."""
    board = Board(place.host.cluster.roster.members, {})
    for each in place.watchers:
        if isinstance(each, Later):
            each.board = board
    context = Context(place.workspace, session, place.host, board, Timeouts(), defaults or {})
    publisher = Publisher(board)
    app = make_app(context, publisher)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://lanfit") as client:
            yield Page(client, app, place, session)
    finally:
        await publisher.close()
