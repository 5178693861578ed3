"""A server of the live page with made-up runs: what the browser tests and the screenshots look at.

It has the routes of the real one, and answers from `state`, `runs` and `form`. `push` sends what is new to all pages.
What pages ask for is kept in `posts`.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import lanfit_server

STATIC = Path(lanfit_server.__file__).parent / "ui" / "dashboard" / "static"
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
#: What the answers to POSTs are, unless a test says otherwise.
ANSWERS: Mapping[str, Any] = {
    "/api/check": {"fields": {}},
    "/api/runs": {"id": 7, "position": 0},
    "/api/models": {"file": "mlp-64-32.keras", "parameters": 6_570},
}
SECONDS = 0.02


class FakeDashboard:
    """The server; a context manager.

    Attributes:
        state: the snapshot.
        posts: requests for changes: path and content.
        answers: to POSTs, by path: an object, or a status and an object.
        streams: whether event streams are let through.
    """

    def __init__(self, state: dict[str, Any], **answers: Any) -> None:
        self.state = state
        self.history: list[dict[str, Any]] = []
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = dict(ANSWERS)
        self.get: dict[str, Any] = answers
        self.streams = True
        self.holds_back = False
        """Whether streams open and say nothing, as behind a proxy that waits for the end of an answer."""
        self.open = 0
        self.polls = 0
        self.violations: list[str] = []
        self._lock = threading.Lock()
        self._server = uvicorn.Server(
            uvicorn.Config(self._app(), log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._run, name="fake dashboard")

    def __enter__(self) -> FakeDashboard:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._ready = threading.Event()
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        async def serve() -> None:
            task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
            while not self._server.started and not task.done():
                await asyncio.sleep(SECONDS)
            self._ready.set()
            await task

        asyncio.run(serve())

    # --- what happens ---------------------------------------------------------------------------------------------

    def push(self, **delta: Any) -> None:
        """Send a delta, and put it into the snapshot."""
        with self._lock:
            state = self.state
            state["seq"] += 1
            for section, value in delta.get("set", {}).items():
                state[section] = copy.deepcopy(value)
            for section, values in delta.get("merge", {}).items():
                state[section] = {**state[section], **values}
            for name, tile in delta.get("clients", {}).items():
                if tile is None:
                    state["clients"].pop(name, None)
                else:
                    state["clients"].setdefault(name, {}).update(tile)
            for key, more in delta.get("append", {}).items():
                if "new" in more:
                    state["series"].setdefault(key, {**more["new"], "points": []})
                state["series"][key]["points"] += more["points"]
            for section in ("samples", "confusion"):
                if section in delta:
                    state[section] = delta[section]
            for section in ("timeline", "log"):
                state[section] = state[section] + delta.get(section, [])
            self.history.append({"seq": state["seq"], **delta})

    def cut_streams(self) -> None:
        """End all event streams; new ones are refused until `streams` is true again."""
        self.streams = False

    # --- the routes -----------------------------------------------------------------------------------------------

    def _app(self) -> Starlette:
        def page(name: str) -> Any:
            async def answer(request: Request) -> Response:
                return FileResponse(STATIC / name)

            return answer

        app = Starlette(
            routes=[
                Route("/", page("index.html")),
                Route("/join", page("join.html")),
                Route("/qr.svg", self._qr),
                Mount("/static", StaticFiles(directory=STATIC)),
                Route("/api/state", self._state),
                Route("/api/events", self._events),
                Route("/api/poll", self._poll),
                Route("/api/{path:path}", self._get, methods=["GET"]),
                Route("/api/{path:path}", self._post, methods=["POST"]),
            ]
        )

        async def with_policy(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"].append((b"content-security-policy", CSP.encode()))
                await send(message)

            await app(scope, receive, sending)

        return with_policy  # type: ignore[return-value]

    async def _qr(self, request: Request) -> Response:
        squares = "".join(
            f'<rect x="{x}" y="{y}" width="1" height="1"/>'
            for x in range(25)
            for y in range(25)
            if (x * 7 + y * 13 + x * y) % 3 == 0
        )
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 25 25">{squares}</svg>'
        return Response(svg, media_type="image/svg+xml")

    async def _state(self, request: Request) -> Response:
        with self._lock:
            return JSONResponse(self.state)

    def _since(self, seq: int) -> list[dict[str, Any]]:
        with self._lock:
            return [delta for delta in self.history if delta["seq"] > seq]

    async def _poll(self, request: Request) -> Response:
        self.polls += 1
        since = int(request.query_params["since"])
        found = self._since(since)
        with self._lock:
            return JSONResponse({"seq": self.state["seq"], **({"snapshot": self.state} if found else {})})

    async def _events(self, request: Request) -> Response:
        if not self.streams:
            return PlainTextResponse("blocked", 502)
        since = int(request.query_params["since"])

        async def lines() -> Any:
            at = since
            self.open += 1
            try:
                yield ": here\n\n"
                while self.streams and not self._server.should_exit:
                    for delta in [] if self.holds_back else self._since(at):
                        at = delta["seq"]
                        yield f"id: {at}\ndata: {json.dumps(delta)}\n\n"
                    await asyncio.sleep(SECONDS)
            finally:
                self.open -= 1

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def _get(self, request: Request) -> Response:
        path = request.url.path
        found = self.get.get(path)
        if callable(found):
            found = found(request)
        if found is None:
            return JSONResponse({"error": f"There is no {path}.", "hint": "", "code": ""}, 404)
        return PlainTextResponse(found) if isinstance(found, str) else JSONResponse(found)

    async def _post(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/json"
        assert request.headers["x-lanfit"] == "1"
        path, body = request.url.path, await request.json()
        self.posts.append((path, body))
        found = self.answers.get(path, {})
        if callable(found):
            found = found(body)
        status, found = found if isinstance(found, tuple) else (200, found)
        return JSONResponse(found, status)

    def posted(self, path: str) -> list[dict[str, Any]]:
        """Return the contents of all requests for a change at this path."""
        return [body for at, body in self.posts if at == path]


def picture(values: Any) -> str:
    """Return a small grey picture as a data address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(values.astype("uint8")).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
