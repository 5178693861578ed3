"""The bodies of requests of the live page and of their responses: JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lanfit.core.decoding import decode_json
from lanfit.errors import LanfitError, lanfit_error

#: The status of errors that are not about what was entered, by code.
STATUS = {"page.run-gone": 404, "page.no-file": 404, "page.no-log": 404, "page.not-queued": 409}
#: The status of all others.
INVALID = 422


async def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request has.

    Raises:
        InputError: it has none.
    """
    try:
        return decode_json(await request.body() or b"{}", dict)
    except ValueError as error:
        raise lanfit_error("page.no-object", reason=error) from None


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer; a number that is not finite is null."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def error(
    status: int, message: str, hint: str = "", code: str = "", headers: Mapping[str, str] | None = None, **more: object
) -> Response:
    """Return a response with an error."""
    return as_json({"error": message, "hint": hint, "code": code, **more}, status, headers)


def answer_to(wrong: LanfitError) -> Response:
    """Return the answer to a request that failed with this error."""
    return error(STATUS.get(wrong.code, INVALID), wrong.message, wrong.hint, wrong.code)
