"""The live page holds against other sites, other names, other links, and whoever has none: each rule is attacked."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fakes.pages import Browser, Served, served
from fakes.places import Place, place_of  # noqa: F401
from starlette.routing import Route

from lanfit.settings.timeouts import Timeouts
from lanfit_server.ui.dashboard.app import make_app
from lanfit_server.ui.dashboard.board import TEACHER, VIEWER
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.security import MOST_BYTES
from lanfit_server.ui.dashboard.serving import hosts_of
from lanfit_server.ui.dashboard.stream import Publisher

#: What changes something, for the teacher only.
CHANGES = (
    "/api/command",
    "/api/start_now",
    "/api/clients/lab-1/stop",
    "/api/bans/lift",
    "/api/check",
    "/api/models",
    "/api/runs",
    "/api/queue/1/withdraw",
    "/api/runs/20260101-120000/delete",
    "/api/runs/20260101-120000/resume",
)
SECRETS = (
    "/",
    "/join",
    "/qr.svg",
    "/api/state",
    "/api/poll",
    "/api/events",
    "/api/bans",
    "/training_status",
    "/static/",
    "/api/form",
    "/api/compare",
    "/api/rows",
    "/api/runs",
    "/api/runs/20260101-120000",
    "/api/runs/20260101-120000/curves.csv",
    "/api/runs/20260101-120000/files",
    "/api/runs/20260101-120000/files/summary.json",
    "/api/runs/20260101-120000/log/lab-1",
)


@pytest.fixture
def page(place: Place) -> Iterator[Served]:
    with served(place, "lab-1") as found:
        yield found


def routes_of(page: Served) -> list[Route]:
    """What the page serves, without the folder of its own files."""

    async def made() -> list[Route]:
        context = Context(page.place.workspace, page.session, page.place.host, page.page.board, Timeouts(), {})
        publisher = Publisher(page.page.board)
        found = make_app(context, publisher).routes
        await publisher.close()
        return [each for each in found if isinstance(each, Route)]

    return page.loop.call(made())


def test_every_route_is_attacked_here(page: Served) -> None:
    routes = routes_of(page)
    assert len(routes) > 20
    for route in routes:
        methods = route.methods or set()
        assert methods <= {"GET", "HEAD", "POST"}, route.path
        paths = CHANGES if "POST" in methods else SECRETS
        assert any(route.path_regex.match(path) for path in paths), route.path


# --- tokens and cookies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SECRETS)
def test_nothing_is_shown_to_who_has_no_cookie(page: Served, path: str) -> None:
    for cookie in ("", "lanfit=x", f"lanfit-{page.page.port}=", f"lanfit-{page.page.port}={'A' * 32}"):
        page.stranger.cookie = cookie
        answer = page.stranger.get(path)
        assert answer.status == 401
        assert b"lab-1" not in answer.body


@pytest.mark.parametrize("token", ["", "x", "A" * 32, "\udcff", "%00", "%FF%FE", "token"])
def test_a_wrong_token_opens_nothing(page: Served, token: str) -> None:
    answer = page.stranger.get(f"/?token={token}".encode("utf-8", "replace").decode("ascii", "replace"))
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


def test_a_part_of_the_token_or_the_token_of_another_server_opens_nothing(page: Served) -> None:
    token = page.page.link(TEACHER).partition("token=")[2]
    for wrong in (token[:-1], token + "A", token.swapcase(), f"{token}&token={token}", f"x&token={token}"):
        assert page.stranger.get(f"/?token={wrong}").status == 401, wrong


def test_a_token_has_192_bits_and_is_traded_for_a_cookie_that_is_another_secret(page: Served) -> None:
    links = [page.page.link(role) for role in (TEACHER, VIEWER)]
    tokens = [link.partition("token=")[2] for link in links]
    assert len({*tokens}) == 2
    assert all(len(token) == 32 for token in tokens), "24 bytes in base64"
    answer = Browser(page.page.port).open(links[0])
    assert (answer.status, answer.headers["location"]) == (303, "/"), "the token stays in no history"
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert "path=/" in cookie.lower()
    assert not any(token in cookie for token in tokens)
    assert not any(token in page.teacher.get("/api/state").body.decode() for token in tokens), "it is on loopback only"


def test_the_cookie_is_no_token_and_the_token_no_cookie(page: Served) -> None:
    secret = page.teacher.cookie.partition("=")[2]
    assert page.stranger.get(f"/?token={secret}").status == 401
    page.stranger.cookie = f"lanfit-{page.page.port}={page.page.link(TEACHER).partition('token=')[2]}"
    assert page.stranger.get("/api/state").status == 401


def test_a_link_can_not_redirect_to_another_site(page: Served) -> None:
    token = page.page.link(VIEWER).partition("token=")[2]
    for path in (
        "//other.example/",
        "/\\other.example/",
        "///other.example",
        "/%2F%2Fother.example",
        "/%5Cother.example",
    ):
        answer = page.stranger.get(f"{path}?token={token}")
        location = answer.headers.get("location", "/")
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\")), location


def test_a_link_keeps_the_rest_of_its_query(page: Served) -> None:
    token = page.page.link(VIEWER).partition("token=")[2]
    assert page.stranger.get(f"/join?a=1&token={token}&b=2").headers["location"] == "/join?a=1&b=2"


# --- hosts and origins -------------------------------------------------------------------------------------------


def test_a_name_that_somebody_points_at_this_machine_is_refused(page: Served) -> None:
    """DNS rebinding: the browser believes to speak to evil.example, and sends that as the Host."""
    port = page.page.port
    wrong = [
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        f"127.0.0.2:{port}",
        f"[::1]:{port}",
        f"0.0.0.0:{port}",
        f"127.1:{port}",
        f"2130706433:{port}",
        f"localhost.:{port}",
        f"user@127.0.0.1:{port}",
        f"127.0.0.1:{port}/",
        f" 127.0.0.1:{port},evil.example",
        "",
    ]
    for host in wrong:
        for answer in (
            page.teacher.get("/api/state", Host=host),
            page.teacher.post("/api/command", {"command": "pause"}, Host=host, Origin=f"http://{host}"),
            page.stranger.get(f"/?token={page.page.link(TEACHER).partition('token=')[2]}", Host=host),
        ):
            assert answer.status in (400, 421), host
            assert "set-cookie" not in answer.headers
    assert page.teacher.get("/api/state", Host=f"LOCALHOST:{port}").status == 200


def test_a_request_without_a_host_or_with_two_is_refused(page: Served) -> None:
    for lines in (b"", f"Host: 127.0.0.1:{page.page.port}\r\nHost: evil.example\r\n".encode()):
        with socket.create_connection(("127.0.0.1", page.page.port), timeout=60) as link:
            cookie = f"Cookie: {page.teacher.cookie}\r\n".encode()
            link.sendall(b"GET /api/state HTTP/1.1\r\n" + lines + cookie + b"Connection: close\r\n\r\n")
            assert link.makefile("rb").readline().split()[1] in (b"400", b"421")


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_from_another_site_is_refused(page: Served, path: str) -> None:
    port = page.page.port
    for origin in (
        None,
        "null",
        "",
        "http://evil.example",
        f"http://evil.example:{port}",
        "http://127.0.0.1",
        f"http://127.0.0.1:{port + 1}",
        f"https://127.0.0.1:{port}",
        f"http://localhost:{port}",  # another origin than the Host of the request
        f"http://127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}.evil.example",
    ):
        answer = page.teacher.post(path, {}, Origin=origin)
        assert (answer.status, answer.json["code"]) == (403, "page.origin"), origin


@pytest.mark.parametrize("path", CHANGES)
def test_a_form_or_a_simple_request_of_another_site_changes_nothing(page: Served, path: str) -> None:
    """They can't have the header, nor JSON, without asking first, which is answered with no."""
    for kind in (
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
    ):
        assert page.teacher.post(path, {}, Content_Type=kind).json["code"] == "page.json", kind
    for value in (None, "0", "true", "1, 1"):
        assert page.teacher.post(path, {}, X_Lanfit=value).json["code"] == "page.header", value


def test_nobody_is_allowed_to_ask_from_another_site(page: Served) -> None:
    headers: dict[str, str | None] = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-lanfit,content-type",
    }
    answers = [page.teacher.send("OPTIONS", "/api/command", headers=headers), page.teacher.get("/api/state", **headers)]
    assert answers[0].status == 405
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]


# --- methods and roles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in CHANGES if path not in SECRETS])
def test_a_change_is_not_made_by_looking(page: Served, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "post"):
        assert page.teacher.send(method, path).status in (400, 404, 405), method
    assert page.session.queue() == ()


def test_the_link_for_the_class_only_lets_one_look(page: Served) -> None:
    state = page.viewer.get("/api/state").json
    assert (state["server"]["role"], state["server"]["passphrase"]) == ("viewer", None)
    for path in CHANGES:
        answer = page.viewer.post(path, {"command": "pause"})
        assert (answer.status, answer.json["code"]) == (403, "page.read-only")
        assert page.stranger.post(path, {"command": "pause"}).status == 401
    assert page.teacher.get("/api/state").json["server"]["role"] == "teacher"


def test_who_has_both_cookies_has_the_role_of_the_first(page: Served) -> None:
    """Only the server sets this cookie: two of a name come from another path or site, and give nothing more."""
    page.stranger.cookie = f"{page.viewer.cookie}; {page.viewer.cookie}"
    assert page.stranger.get("/api/state").json["server"]["role"] == "viewer"


# --- answers ------------------------------------------------------------------------------------------------------


def test_every_answer_forbids_scripts_of_others_frames_and_guessing(page: Served) -> None:
    for answer in (
        page.teacher.get("/api/state"),
        page.teacher.get("/no/such/page"),
        page.stranger.get("/"),
        page.stranger.get("/", Host="evil.example"),
        page.teacher.post("/api/command", {"command": "dance"}),
        page.stranger.open(page.page.link(VIEWER)),
        page.teacher.get("/static/no-such-file.js"),
    ):
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"]
        assert "server" not in answer.headers


def test_what_is_not_json_or_far_too_long_is_refused(page: Served) -> None:
    def send(body: bytes, **headers: str) -> int:
        sent: dict[str, str | None] = {
            "Content-Type": "application/json",
            "X-Lanfit": "1",
            "Origin": page.teacher.origin,
            **headers,
        }
        return page.teacher.send("POST", "/api/command", body, sent).status

    for body in (b"[]", b"1", b"{", b'"x"', b"\xff\xfe", b"[" * 100_000, b"nul"):
        assert send(body) == 422, body[:10]
    assert send(b"", **{"Content-Length": str(MOST_BYTES + 1)}) == 413
    chunk = b"%x\r\n%b\r\n" % (MOST_BYTES + 1, b" " * (MOST_BYTES + 1))
    assert send(chunk + b"0\r\n\r\n", **{"Transfer-Encoding": "chunked", "Content-Length": None}) == 413  # type: ignore[arg-type]


def test_a_path_does_not_leave_the_folder_of_the_page(page: Served) -> None:
    for path in (
        "/static/../security.py",
        "/static/..%2fsecurity.py",
        "/static/%2e%2e/security.py",
        "/static/..\\security.py",
        "/static/....//security.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/js/../../security.py",
    ):
        answer = page.teacher.get(path)
        assert answer.status in (400, 404, 405), path
        assert b"HttpOnly" not in answer.body


def test_a_name_with_a_script_stays_text(page: Served) -> None:
    """The server gives JSON with a type that no browser runs; `front` puts it in as text."""
    name = "<script>alert(1)</script>"
    answer = page.teacher.post(f"/api/clients/{name.replace('/', '%2F')}/stop")
    assert answer.headers["content-type"] == "application/json"
    page.page.board.notice("info", name)
    answer = page.teacher.get("/api/state")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["log"][-1]["text"] == name


# --- beyond this machine ---------------------------------------------------------------------------------------------


def test_beyond_loopback_the_page_is_served_over_tls_with_the_servers_certificate(place: Place) -> None:
    with served(place, host="0.0.0.0") as page:
        assert page.page.link(TEACHER).startswith("https://")
        assert page.teacher.get("/api/state").status == 200
        answer = Browser(page.page.port, secure=True).open(page.page.link(TEACHER))
        assert "secure" in answer.headers["set-cookie"].lower()
        with pytest.raises((ConnectionError, OSError)):
            Browser(page.page.port).get("/api/state").status  # noqa: B018 - it is not served in clear
        assert page.teacher.get("/api/state", Host=f"evil.example:{page.page.port}").status == 421
        assert page.teacher.get("/api/state").json["server"]["class_link"] == page.page.link(VIEWER, "/join")
        assert page.viewer.get("/api/state").json["server"]["class_link"] is None


def test_the_hosts_of_all_addresses_are_those_of_this_machine() -> None:
    hosts = hosts_of("0.0.0.0", ["0.0.0.0", "::"], 8471)
    assert {"127.0.0.1:8471", "localhost:8471", "[::1]:8471"} <= hosts
    assert "0.0.0.0:8471" not in hosts
    assert hosts_of("127.0.0.1", ["127.0.0.1"], 1) == {"127.0.0.1:1", "localhost:1"}
    assert hosts_of("Lab.local", ["192.0.2.7"], 1) == {"192.0.2.7:1", "lab.local:1"}
