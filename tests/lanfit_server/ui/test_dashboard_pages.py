"""The routes of the live page, over real connections: states, streams, commands, bans."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fakes.pages import Served, served
from fakes.places import Place, place_of  # noqa: F401
from test_dashboard_board import Reader

from lanfit.errors import InputError
from lanfit.settings.timeouts import Timeouts
from lanfit_server.clusters.gate import GateShell
from lanfit_server.requests import State
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.ui.dashboard.board import TEACHER
from lanfit_server.ui.dashboard.serving import Page

#: Of a page on loopback.
NO_CERTIFICATE = Path("none")


@pytest.fixture
def page(place: Place) -> Iterator[Served]:
    with served(place, "lab-1") as found:
        yield found


class Streamed(Reader):
    """A page that reads what a stream brings."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"seq": -1}
        self.delta: dict[str, Any] = {}
        self.board = self  # type: ignore[assignment]
        self.role = TEACHER

    def encoded(self, since: int, role: str) -> bytes:
        return json.dumps(self.delta).encode()

    def takes(self, delta: dict[str, Any]) -> None:
        self.delta = delta
        self.reads()


# --- looking --------------------------------------------------------------------------------------------------------


def test_a_stream_and_polling_bring_what_happens_and_end_with_the_same_state(place: Place) -> None:
    with served(place, simulated=True) as page:
        polled = Streamed()
        polled.takes({"snapshot": page.teacher.get("/api/state").json})
        with page.teacher.stream() as messages:
            streamed = Streamed()
            streamed.takes(next(messages))
            handle = page.submit(epochs=3)
            while (streamed.state["run"] or {}).get("state") != "ended":
                streamed.takes(next(messages))
                polled.takes(page.teacher.get(f"/api/poll?since={polled.state['seq']}").json)
            page.loop.call(handle.ended())
        final = page.teacher.get("/api/state").json
        for reader in (streamed, polled):
            reader.takes(page.teacher.get(f"/api/poll?since={reader.state['seq']}").json)
            assert reader.state == final
        assert final["run"]["status"] == "done"


def test_a_page_that_lost_its_stream_gets_the_rest(page: Served) -> None:
    board = page.page.board
    with page.viewer.stream() as messages:
        reader = Streamed()
        reader.takes(next(messages))
    page.loop.call(_in_loop(lambda: board.notice("info", "while nobody looked")))
    for query, headers in (
        (f"?since={reader.state['seq']}", {}),
        ("", {"Last-Event-ID": str(reader.state["seq"])}),
        ("?since=1", {"Last-Event-ID": str(reader.state["seq"])}),
    ):
        with page.viewer.stream(f"/api/events{query}", **headers) as messages:
            delta = next(messages)
            assert [line["text"] for line in delta["log"]] == ["while nobody looked"]
            assert "snapshot" not in delta


async def _in_loop(work: Any) -> None:
    work()


@pytest.mark.parametrize("since", ["", "x", "-1", "99999", "1e3", "٣", "9" * 40])
def test_who_says_nothing_useful_about_its_version_gets_everything(page: Served, since: str) -> None:
    assert "snapshot" in page.viewer.get(f"/api/poll?since={quote(since)}").json


def test_nothing_is_flushed_while_nobody_looks(page: Served) -> None:
    publisher = page.page._publisher
    assert publisher is not None
    with page.viewer.stream() as messages:
        next(messages)
        assert publisher.readers == 1
    while publisher.readers:  # the server notices that the reader is gone when it next writes
        page.loop.call(_in_loop(lambda: page.page.board.notice("info", "x")))
        time.sleep(0.01)
    while publisher._flushing is not None and not publisher._flushing.done():
        time.sleep(0.01)


def test_the_page_ends_at_once_while_streams_are_open(place: Place) -> None:
    with served(place, "lab-1") as page, page.viewer.stream() as messages:
        next(messages)
        page.loop.call(page.page.close())
        assert list(itertools.islice(messages, 1)) == []


def test_a_page_is_opened_on_the_next_port_if_its_own_is_taken(place: Place) -> None:
    with served(place, "lab-1") as page:
        other = Page(PageSettings(port=page.page.port), list)
        opening = other.open(place.workspace, page.session, place.host, NO_CERTIFICATE, Timeouts(), {})
        page.loop.call(opening)
        try:
            assert other.port > page.page.port
            assert f"Port {page.page.port} is in use" in "\n".join(other.lines())
        finally:
            page.loop.call(other.close())


def test_a_page_that_finds_no_free_port_says_so(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanfit_server.ui.dashboard.serving.PORTS", 1)
    other = Page(PageSettings(port=page.page.port), list)
    with pytest.raises(InputError) as refused:
        page.loop.call(other.open(page.place.workspace, page.session, page.place.host, NO_CERTIFICATE, Timeouts(), {}))
    assert refused.value.code == "page.no-port"


def test_the_training_status_and_the_code_to_join_are_served(page: Served) -> None:
    assert page.viewer.get("/training_status").json["state"] == "idle"
    svg = page.viewer.get("/qr.svg")
    assert svg.headers["content-type"] == "image/svg+xml"
    assert svg.body.startswith(b"<?xml")
    assert b'xmlns="http://www.w3.org/2000/svg"' in svg.body


def test_the_files_of_the_page_are_served(page: Served) -> None:
    for path, kind in (("/", "text/html"), ("/join", "text/html"), ("/static/app.css", "text/css")):
        answer = page.viewer.get(path)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)


# --- steering ---------------------------------------------------------------------------------------------------------


def test_who_waits_for_clients_can_be_started_without_them(page: Served) -> None:
    answer = page.teacher.post("/api/start_now")
    assert (answer.status, answer.json["code"]) == (422, "page.nothing-to-start")
    request = page.place.request(clients=2)
    handle = page.loop.call(page.session.submit(replace(request, enter_starts=True)))
    page.loop.call(page.place.waits_for_clients())
    lobby = page.teacher.get("/api/state").json["lobby"]
    assert (lobby["wanted"], lobby["joined"], lobby["missing"]) == (2, ["lab-1"], 1)
    while page.teacher.post("/api/start_now").status != 200:
        time.sleep(0.01)
    page.loop.call(handle.reach(State.RUNNING))
    page.loop.call(_in_loop(lambda: page.session.interrupt(handle)))
    page.loop.call(handle.reach(State.ENDED))


def test_a_run_is_steered_from_the_page(page: Served) -> None:
    assert page.teacher.post("/api/command", {"command": "pause"}).json["code"] == "page.no-run"
    page.loop.call(_in_loop(lambda: page.place.host.cluster.join("lab-2")))
    handle = page.submit(clients=2, epochs=4)
    page.loop.call(handle.reach(State.RUNNING))
    while page.teacher.post("/api/command", {"command": "pause"}).status != 200:
        time.sleep(0.01)
    assert page.teacher.get("/api/state").json["run"]["paused"]
    assert page.teacher.get("/training_status").json["state"] == "paused"
    assert page.teacher.post("/api/command", {"command": "resume"}).status == 200
    assert not page.teacher.get("/api/state").json["run"]["paused"]

    # One client is stopped: it is told so, and its task waits.
    cluster = page.place.host.cluster
    assert page.teacher.post("/api/clients/lab-2/stop").status == 200
    assert any(client == "lab-2" and "the operator stopped it" in text for client, text in cluster.messages)
    tile = page.teacher.get("/api/state").json["clients"]["lab-2"]
    assert "the operator stopped it" in tile["says"]
    again = page.teacher.post("/api/clients/lab-2/stop")
    assert (again.status, again.json["code"]) == (422, "command.no-client")

    assert page.teacher.post("/api/command", {"command": "stop"}).status == 200
    page.loop.call(handle.reach(State.ENDED))
    assert page.teacher.get("/api/state").json["run"]["state"] == "ended"


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        ("epochs", 0, "value.not-whole"),
        ("learning_rate", "fast", "value.not-positive"),
        ("rounds", None, "value.not-whole"),
    ],
)
def test_a_wrong_value_is_refused_with_the_sentence_of_the_prompts(
    page: Served, setting: str, value: Any, code: str
) -> None:
    answer = page.teacher.post("/api/command", {"command": "change", "setting": setting, "value": value})
    assert (answer.status, answer.json["code"]) == (422, code)
    assert answer.json["error"]
    assert answer.json["hint"]


def test_what_is_not_a_command_is_refused(page: Served) -> None:
    for body in ({}, {"command": "dance"}, {"command": ["pause"]}):
        assert page.teacher.post("/api/command", body).json["code"] == "page.no-command"
    for setting in ("batch_size", None, ["epochs"]):
        body = {"command": "change", "setting": setting, "value": 1}
        assert page.teacher.post("/api/command", body).json["code"] == "page.no-setting"


def test_a_body_that_is_not_an_object_is_refused(page: Served) -> None:
    assert page.teacher.post("/api/command", [1]).json["code"] == "page.no-object"


# --- bans -----------------------------------------------------------------------------------------------------------


def test_bans_are_shown_and_lifted(page: Served) -> None:
    gate = GateShell(page.place.workspace.server_state / "gate.json")
    page.place.host.bans, page.place.host.lift_ban = gate.bans, gate.lift
    for _ in range(3):
        gate.failed("192.0.2.7", b"c" * 16)
    [ban] = page.teacher.get("/api/bans").json["bans"]
    assert ban["address"] == "192.0.2.7"
    assert 0 < ban["seconds_left"] <= 30
    for wrong in ("192.0.2.8", "nobody", "", None):
        assert page.teacher.post("/api/bans/lift", {"address": wrong}).json["code"] == "page.no-ban"
    assert page.teacher.post("/api/bans/lift", {"address": "192.0.2.7"}).status == 200
    assert page.teacher.get("/api/bans").json == {"bans": []}
    gate.stretched = b"it is known"
    assert gate.admit("192.0.2.7", b"c" * 16) == b"it is known"
