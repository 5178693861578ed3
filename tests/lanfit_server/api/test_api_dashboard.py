"""The live page of a Python program: opt-in, with the runs of the program and those that are set up on it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from fakes.pages import Browser

import lanfit

pytestmark = pytest.mark.keras

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(64, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
#: A form for the model and the rows in the workspace.
FORM = {"model": "tiny.keras", "clients": 2, "epochs": 1, "batch_size": 8}


def model() -> Any:
    import keras

    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")], name="tiny")
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


def browser_of(link: str) -> Browser:
    """A browser that has opened a link."""
    parts = urlsplit(link)
    browser = Browser(parts.port or 0, host=parts.hostname or "", secure=parts.scheme == "https")
    assert browser.open(link).status < 400
    assert browser.cookie
    return browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a model and rows of its own."""
    made = tmp_path_factory.mktemp("program")
    for name, values in (("X", X), ("Y", Y)):
        (made / "dataset" / name).mkdir(parents=True)
        np.savetxt(made / "dataset" / name / "rows.csv", values, delimiter=",", fmt="%.6g")
    (made / "model").mkdir()
    model().save(made / "model" / "tiny.keras")
    return made


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[lanfit.Cluster]:
    place: dict[str, Any] = {"simulated": 2, "pool": 1, "threads": 1, "workspace": folder}
    with lanfit.Cluster(**place, dashboard=True, dashboard_port=0) as made:
        yield made


@pytest.fixture
def browser(cluster: lanfit.Cluster) -> Browser:
    assert cluster.dashboard_url is not None
    return browser_of(cluster.dashboard_url)


def runs(browser: Browser) -> dict[str, str]:
    """The status of each run, when none goes on: `fit` returns before reports are written."""
    while True:
        found = {each["run"]: each["status"] for each in browser.get("/api/runs").json["runs"]}
        if "running" not in found.values():
            return found


def test_a_fit_is_shown_on_the_page(cluster: lanfit.Cluster, browser: Browser) -> None:
    assert cluster.class_url is None, "no other machine reaches it"
    history = cluster.fit(model(), X, Y, 8, rounds=2, validation_split=0.25, verbose=0)
    state = browser.get("/api/state").json
    assert (state["run"]["run"], state["run"]["method"]) == (history.run, "federated")
    assert set(state["clients"]) == {"sim-001", "sim-002"}
    losses = [value for _, value in state["series"]["|0|loss|training|round"]["points"]]
    np.testing.assert_allclose(losses, history.history["loss"], atol=1e-12)
    output = [line["text"] for line in state["log"]]
    assert "2 clients are simulated; they share 1 trainer of 1 thread." in output, "what the program is told, too"
    assert runs(browser)[history.run] == "done"


def test_a_fit_is_stopped_on_the_page(cluster: lanfit.Cluster, browser: Browser) -> None:
    import keras

    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            if epoch == 0:
                assert browser.get("/training_status").json["state"] == "running"
                assert browser.post("/api/command", {"command": "stop"}).status == 200

    history = cluster.fit(model(), X, Y, 8, rounds=200, callbacks=[Stop()], verbose=0)
    assert history.summary.status == "partial"
    assert len(history.epoch) < 200


def test_a_run_that_is_set_up_on_the_page_is_not_taken_for_one_of_the_program(
    cluster: lanfit.Cluster, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    received: list[int] = []
    hears = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: received.append(epoch))
    before = set(runs(browser))
    answer = browser.post("/api/runs", {"values": {**FORM, "method": "fit", "epochs": 30}})
    assert answer.status == 200, answer.body
    history = cluster.fit(model(), X, Y, 8, 2, method="fit", callbacks=[hears], verbose=2)
    assert received == [0, 1]
    assert len(history.history["loss"]) == 2
    found = {run: status for run, status in runs(browser).items() if run not in before}
    assert len(found) == 2
    assert history.run in found
    assert set(found.values()) == {"done"}
    assert "Epoch 30/30" not in capsys.readouterr().out


def test_on_the_network_there_is_a_second_link_that_allows_looking_only(tmp_path: Path) -> None:
    place: dict[str, Any] = {"simulated": 1, "pool": 1, "threads": 1, "workspace": tmp_path}
    with lanfit.Cluster(**place, dashboard=True, dashboard_host="0.0.0.0", dashboard_port=0) as made:
        assert made.dashboard_url is not None
        assert made.class_url is not None
        assert made.dashboard_url.startswith("https://")
        viewer = browser_of(made.class_url)
        assert viewer.get("/training_status").json["state"] == "idle"
        assert viewer.post("/api/command", {"command": "stop"}).status == 403
        assert browser_of(made.dashboard_url).post("/api/command", {"command": "stop"}).json["code"] == "page.no-run"


def test_the_lobby_shows_how_clients_of_the_lan_join(tmp_path: Path) -> None:
    secret = "only on this machine"
    place: dict[str, Any] = {"clients": 1, "passphrase": secret, "workspace": tmp_path}
    with lanfit.Cluster("127.0.0.1:0", **place, dashboard=True, dashboard_port=0) as made:
        shown = browser_of(str(made.dashboard_url)).get("/api/state").json["server"]
    assert re.match(r"lanfit client 127\.0\.0\.1:\d+ --fingerprint \S+", shown["join"])
    assert shown["passphrase"] == secret


def test_the_page_ends_with_the_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place: dict[str, Any] = {"simulated": 1, "pool": 1, "threads": 1, "workspace": tmp_path}
    with lanfit.Cluster(**place, dashboard=True, dashboard_port=0) as made:
        link = str(made.dashboard_url)
        browser_of(link)
    assert f"Live page: {link}" in capsys.readouterr().out
    with pytest.raises(ConnectionError):
        browser_of(link)


#: Opens a service as a program does, without a pipe, and prints which modules of the page it has.
SERVICE = """
import sys
from lanfit.core.loop import LoopThread
from lanfit_server.api.service import Service
from lanfit_server.api.service_messages import Close, Open

class Sender:
    def send(self, reply):
        print("reply", type(reply).__name__, getattr(reply, "dashboard_url", None), flush=True)
        if type(reply).__name__ in ("Opened", "Problem"):
            service.on_request(Close())

with LoopThread() as loop:
    service = Service(loop, Sender())
    opening = Open(sys.argv[1], "127.0.0.1", 0, 1, 0, 1, None, True, 1, dashboard=sys.argv[2] == "on", dashboard_port=0)
    service.on_request(opening)
    loop.see_through(service.serve(), service.interrupt)
tops = ("starlette", "uvicorn", "segno", "anyio", "h11")
print(sorted(name for name in sys.modules if ".dashboard" in name or name.split(".")[0] in tops))
"""


@pytest.mark.parametrize("switch", ["on", "off"])
def test_a_program_without_the_page_imports_none_of_its_modules(tmp_path: Path, switch: str) -> None:
    command = [sys.executable, "-P", "-c", SERVICE, str(tmp_path), switch]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert any(line.startswith("reply Opened") for line in lines), ended.stderr
    imported = ast.literal_eval(lines[-1])
    if switch == "on":
        assert "lanfit_server.ui.dashboard.serving" in imported
    else:
        assert imported == []
        assert "reply Opened None" in lines
