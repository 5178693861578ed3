"""The routes of the live page.

Other modules of this package bring more of them: each has a function `routes(context)`. Routes raise a `LanfitError`
for errors of users, which becomes a response with its text, hint and code. Permissions are checked before that, in
security.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from lanfit.errors import LanfitError, lanfit_error
from lanfit_server.clusters.gate import subject
from lanfit_server.methods.changes import read_change
from lanfit_server.requests import State
from lanfit_server.run.instructions import Change, Command, Pause, Resume, Stop, StopClient
from lanfit_server.ui.dashboard import compare, downloads, requests_api, rows_api, runs
from lanfit_server.ui.dashboard.answers import answer_to, as_json, body_of, error
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.status import training_status
from lanfit_server.ui.dashboard.stream import Publisher

#: The modules with more routes.
MODULES = (requests_api, runs, compare, downloads, rows_api)
STATIC = Path(__file__).with_name("static")
COMMANDS: dict[str, Callable[[], Command]] = {"pause": Pause, "resume": Resume, "stop": Stop}


def make_app(context: Context, publisher: Publisher) -> Starlette:
    """Return the application of the page."""
    routes = _Routes(context, publisher).routes()
    for module in MODULES:
        routes += module.routes(context)
    handlers: dict[Any, Any] = {
        LanfitError: _on_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_disconnect,
        Exception: _on_fault,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


class _Routes:
    def __init__(self, context: Context, publisher: Publisher) -> None:
        self._context = context
        self._publisher = publisher

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", _file("index.html")),
            Route("/join", _file("join.html")),
            Route("/qr.svg", self.qr),
            Route("/training_status", self.status),
            Route("/api/state", self.state),
            Route("/api/events", self.events),
            Route("/api/poll", self.poll),
            Route("/api/bans", self.bans),
            Route("/api/bans/lift", self.lift, methods=["POST"]),
            Route("/api/command", self.command, methods=["POST"]),
            Route("/api/start_now", self.start_now, methods=["POST"]),
            Route("/api/clients/{name}/stop", self.stop_client, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    # --- looking ------------------------------------------------------------------------------------------------

    async def state(self, request: Request) -> Response:
        return _json(self._publisher.state(_role(request)))

    async def poll(self, request: Request) -> Response:
        return _json(self._publisher.poll(_since(request), _role(request)))

    async def events(self, request: Request) -> Response:
        events: AsyncIterator[bytes] = self._publisher.events(_since(request), _role(request))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def status(self, request: Request) -> Response:
        return as_json(training_status(self._publisher.snapshot(_role(request))))

    async def qr(self, request: Request) -> Response:
        import segno

        server = self._context.board.section("server")
        what = server.get("class_link") or server.get("join") or ""
        code = segno.make(what or "lanfit", error="m", micro=False)
        svg: str = code.svg_inline(scale=8, border=4, dark="#000", light="#fff", omitsize=True)
        return Response(f'<?xml version="1.0" encoding="utf-8"?>{_with_namespace(svg)}', media_type="image/svg+xml")

    # --- steering -----------------------------------------------------------------------------------------------

    async def command(self, request: Request) -> Response:
        body = await body_of(request)
        await self._give(_command_of(body))
        return as_json({})

    async def stop_client(self, request: Request) -> Response:
        await self._give(StopClient(request.path_params["name"]))
        return as_json({})

    async def _give(self, command: Command) -> None:
        session = self._context.session
        taken, current = session.command(command), session.current
        if taken is not None:
            await taken
        elif isinstance(command, Stop) and current is not None and current.state <= State.STARTING:
            session.interrupt(current)  # it waits for its clients, or reads its rows
        else:
            raise lanfit_error("page.no-run")

    async def start_now(self, request: Request) -> Response:
        board = self._context.board
        self._publisher.flush()
        if not board.section("lobby")["can_start_now"]:
            raise lanfit_error("page.nothing-to-start")
        self._context.session.start_now()
        return as_json({})

    # --- bans ---------------------------------------------------------------------------------------------------

    async def bans(self, request: Request) -> Response:
        reason = "wrong passphrases"
        listed = [
            {"address": ban.address, "seconds_left": round(ban.seconds), "reason": reason} for ban in self._gate_bans()
        ]
        return as_json({"bans": listed})

    def _gate_bans(self) -> Any:
        return getattr(self._context.host, "bans", list)()

    async def lift(self, request: Request) -> Response:
        address = str((await body_of(request)).get("address", ""))
        try:
            known = subject(address)
        except ValueError:
            raise lanfit_error("page.no-ban", address=address) from None
        lift = getattr(self._context.host, "lift_ban", None)
        if lift is None or not lift(known):
            raise lanfit_error("page.no-ban", address=address)
        return as_json({})


def _command_of(body: dict[str, Any]) -> Command:
    name = body.get("command")
    if name == "change":
        setting, value = body.get("setting"), body.get("value")
        if setting not in ("learning_rate", "epochs", "rounds"):
            raise lanfit_error("page.no-setting", setting=setting)
        return Change(setting, read_change(setting, value))
    if not isinstance(name, str) or name not in COMMANDS:
        raise lanfit_error("page.no-command", command=name)
    return COMMANDS[name]()


def _file(name: str) -> Any:
    async def answer(request: Request) -> Response:
        return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})

    return answer


def _with_namespace(svg: str) -> str:
    return svg if "xmlns" in svg else svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def _role(request: Request) -> str:
    role: str = request.scope["role"]
    return role


def _since(request: Request) -> int:
    """Return the version that the reader has; -1 if it has none."""
    text = request.headers.get("last-event-id") or request.query_params.get("since") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1


def _json(data: bytes) -> Response:
    return Response(data, media_type="application/json")


async def _on_error(request: Request, wrong: LanfitError) -> Response:
    return answer_to(wrong)


async def _on_http_error(request: Request, wrong: HTTPException) -> Response:
    return error(wrong.status_code, wrong.detail, code=f"page.{wrong.status_code}")


async def _on_disconnect(request: Request, wrong: ClientDisconnect) -> Response:
    return error(413, "The request is too large, or was cut off.", code="page.too-large")


async def _on_fault(request: Request, wrong: Exception) -> Response:
    return error(500, "The server has made an error; its log has the details.", code="page.fault")
