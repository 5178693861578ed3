"""Access control of the live page: tokens, cookies, and the requirements of every request.

Theory of operation. The server makes two tokens of 192 bits when it starts: one for the teacher, one for the class,
which may only look. A link has a token in its query; a browser that opens it gets a cookie of the role, and is
redirected to the same address without it, so that it stays in no history and goes to no other site. The cookie is
another secret, which no script can read (HttpOnly) and no other site can send (SameSite=Strict).

Every request must name one of the addresses that are served as its Host, exactly: a name that an attacker points at
this machine (DNS rebinding) is refused before anything else. Changes are POST only, with JSON, with the header
`X-Lanfit`, which no form can send, and with an Origin that is exactly the page's own. Every answer forbids scripts
that are not files of the page, frames, and guessing of types.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lanfit_server.ui.dashboard.answers import error
from lanfit_server.ui.dashboard.board import TEACHER, VIEWER

TOKEN_BYTES = 24
#: The largest body of a request.
MOST_BYTES = 1024 * 1024
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
OPEN_LINK = "Open the link that the server has printed."
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Keys:
    """The secrets of a running page; nowhere on disk."""

    def __init__(self) -> None:
        self._tokens = {role: secrets.token_urlsafe(TOKEN_BYTES) for role in (TEACHER, VIEWER)}
        self._cookies = {role: secrets.token_urlsafe(TOKEN_BYTES) for role in (TEACHER, VIEWER)}

    def token(self, role: str) -> str:
        """Return the token of a link."""
        return self._tokens[role]

    def cookie(self, role: str) -> str:
        """Return the value of the cookie that the token is traded for."""
        return self._cookies[role]

    def role_of_token(self, token: str) -> str | None:
        return _role_of(token, self._tokens)

    def role_of_cookie(self, cookie: str) -> str | None:
        return _role_of(cookie, self._cookies)


def _role_of(secret: str, secrets_: dict[str, str]) -> str | None:
    given = secret.encode("utf-8", "surrogatepass")
    found = [role for role, known in secrets_.items() if hmac.compare_digest(given, known.encode())]
    return found[0] if found else None


class Guard:
    """Lets requests through to an application that fulfil all of the above; it finds the role in `scope["role"]`.

    Args:
        hosts: returns the values of Host that are served, such as `127.0.0.1:8471`, in lower case.
        scheme: "http" or "https".
        cookie: the name of the cookie. Cookies belong to a host with all its ports: two pages on one machine need two.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, hosts: Callable[[], Collection[str]], scheme: str, cookie: str
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = hosts
        self._scheme = scheme
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_safely)
            return
        await self._app(scope, _limited(receive), send_safely)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that goes no further; None for one that may."""
        headers = Headers(scope=scope)
        hosts, method = headers.getlist("host"), scope["method"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts():
            return error(421, "This server is not known by that name.", OPEN_LINK, "page.host")
        if method not in ("GET", "HEAD", "POST"):
            return error(405, f"{method} is not possible.", "", "page.method", {"Allow": "GET, HEAD, POST"})
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if method == "GET" and (tokens := [value for name, value in query if name == "token"]):
            return self._trade(scope["path"], tokens, [(name, value) for name, value in query if name != "token"])
        role = self._role(headers)
        if role is None:
            if scope["path"].startswith("/api/") or method == "POST":
                return error(401, "This browser has no access.", OPEN_LINK, "page.no-cookie")
            text = "This page needs the link that the server has printed: open that one, with its token.\n"
            return PlainTextResponse(text, 401)
        scope["role"] = role
        return self._refused_change(headers, hosts[0].lower(), role) if method == "POST" else None

    def _trade(self, path: str, tokens: list[str], query: list[tuple[str, str]]) -> Response:
        role = self._keys.role_of_token(tokens[0]) if len(tokens) == 1 else None
        if role is None:
            text = "This link is not valid any more: its server has ended, or was started again. Open the new link.\n"
            return PlainTextResponse(text, 401)
        # One slash: "//other.example" would be an address of another site.
        answer = RedirectResponse("/" + path.lstrip("/\\") + (f"?{urlencode(query)}" if query else ""), 303)
        answer.set_cookie(
            self._cookie,
            self._keys.cookie(role),
            httponly=True,
            samesite="strict",
            secure=self._scheme == "https",
            path="/",
        )
        return answer

    def _role(self, headers: Headers) -> str | None:
        for line in headers.getlist("cookie"):
            value = cookie_parser(line).get(self._cookie)
            if value is not None and (role := self._keys.role_of_cookie(value)) is not None:
                return role
        return None

    def _refused_change(self, headers: Headers, host: str, role: str) -> Response | None:
        if headers.getlist("origin") != [f"{self._scheme}://{host}"]:
            return error(403, "This request comes from another site.", "Use the page itself.", "page.origin")
        if headers.getlist("x-lanfit") != ["1"]:
            return error(403, "The header X-Lanfit is missing.", "Send X-Lanfit: 1.", "page.header")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return error(415, "Changes are sent as JSON.", "Send Content-Type: application/json.", "page.json")
        if role != TEACHER:
            hint = "Open the link for the teacher, which the server has printed."
            return error(403, "This link only lets you look.", hint, "page.read-only")
        if (length := headers.get("content-length")) is not None and int(length) > MOST_BYTES:
            return error(413, "The request is too large.", "", "page.too-large")
        return None


def _limited(receive: Receive) -> Receive:
    """Return a body that ends as if its sender had gone when it is too long, for senders without a length."""
    came = 0

    async def limited() -> Message:
        nonlocal came
        message = await receive()
        if message["type"] == "http.request":
            came += len(message.get("body", b""))
            if came > MOST_BYTES:
                return {"type": "http.disconnect"}
        return message

    return limited
