"""The routes of the live page.

Other modules of this package bring more of them: each has a function `routes(context)`. Routes raise a `LanfitError`
for what users did wrong, which becomes an answer with its text, hint and code.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from lanfit.errors import LanfitError
from lanfit_server.ui.dashboard.context import Context

#: The modules with routes.
MODULES = ("requests_api", "runs", "compare", "downloads", "form", "builders")


def make_app(context: Context) -> Starlette:
    """Return the application of the page."""
    routes: list[BaseRoute] = []
    for name in MODULES:
        module = f"{__package__}.{name}"
        if find_spec(module) is not None:
            routes += getattr(importlib.import_module(module), "routes", _no_routes)(context)
    return Starlette(routes=routes, exception_handlers={LanfitError: _on_error})


def _no_routes(context: Context) -> list[BaseRoute]:
    return []


def error(status: int, message: str, hint: str = "", code: str = "", **more: Mapping[str, object]) -> JSONResponse:
    """Return an answer that says what is wrong."""
    return JSONResponse({"error": message, "hint": hint, "code": code, **more}, status)


def _on_error(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, LanfitError)
    return error(422, wrong.message, wrong.hint, wrong.code)
