"""The live page of real servers: its link, how long it is there, and servers without it."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.pages import Browser
from running import Place, Program, flags
from small_workspace import TINY_JOB, SmallWorkspace

pytestmark = pytest.mark.story
#: Any free port for the page, so that no two tests wait for each other's.
ANY_PORT = ("--dashboard-port", "0")


def browser_of(server: Program) -> Browser:
    """A browser in which the link of the server was opened."""
    link = server.expect(r"Live page: (http://127\.0\.0\.1:(\d+)/\?token=[\w-]{32})\s")
    browser = Browser(int(link[2]))
    assert browser.open(link[1]).status == 303
    return browser


def test_the_dashboard_serves_its_page_until_it_is_asked_to_end(small_workspace: SmallWorkspace) -> None:
    arguments = [
        "dashboard",
        "--host",
        "127.0.0.1",
        "--port",
        0,
        *ANY_PORT,
        "--yes",
        "--workspace",
        small_workspace.root,
    ]
    with Program(*arguments, folder=small_workspace.root) as server:
        browser = browser_of(server)
        server.expect("The live page stays open for further runs")
        state = browser.get("/api/state").json
        assert state["run"] is None
        assert re.fullmatch(r"\S+ client 127\.0\.0\.1:\d+ --fingerprint \S+", state["server"]["join"])
        assert state["server"]["passphrase"] == "velvet otter rinse cargo"
        with browser.stream() as messages:
            next(messages)
            server.process.send_signal(signal.SIGTERM)
            server.finish(0)


def test_a_server_with_questions_keeps_its_page_after_the_run_until_enter(small_workspace: SmallWorkspace) -> None:
    given = [each for each in flags(0, local=1, **TINY_JOB, epochs=1) if each != "--yes"]
    rest = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "data": "files", "normalizer": "none"}
    rest |= {"method": "fit", "order": "XY", "samples": 0}
    given += [part for key, value in rest.items() for part in (f"--{key}", value)]
    with small_workspace.server(*given, *ANY_PORT, terminal=True) as server:
        server.expect("Start training")
        server.type("y")
        browser = browser_of(server)
        server.expect("The live page stays open for further runs; Enter or Ctrl-C ends it.")
        assert browser.get("/training_status").json["state"] == "done"
        assert b"Models:" in server.stdout, "the outcome is printed before"
        server.type("")
        server.finish(0)


@pytest.fixture
def imported(small_workspace: Place) -> dict[str, list[str]]:
    """The modules of the page that a server has imported that found no model, with and without --no-dashboard."""
    code = """
import sys
from lanfit.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 2, end.code
tops = ("starlette", "uvicorn", "segno", "anyio", "h11")
print(sorted(name for name in sys.modules if ".dashboard" in name or name.split(".")[0] in tops))
"""
    found = {}
    for flag in ("", "--no-dashboard"):
        arguments = ["server", "--host", "127.0.0.1", "--port", "0", "--yes", "--model", "none.h5", *ANY_PORT]
        arguments += [flag] * bool(flag)
        ended = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments, "--workspace", str(small_workspace.root)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "none.h5" in ended.stderr
        assert ("Live page: " in ended.stderr) == (not flag)
        found[flag] = ast.literal_eval(ended.stdout.splitlines()[-1])
    return found


def test_without_the_page_none_of_its_modules_is_imported(imported: dict[str, list[str]]) -> None:
    assert "lanfit_server.ui.dashboard.serving" in imported[""], "else the other half says nothing"
    assert imported["--no-dashboard"] == []


def test_the_core_does_not_import_the_page() -> None:
    """Not even inside functions: only what starts it knows of it."""
    root = Path(__file__).parents[2] / "server" / "lanfit_server"
    knowing = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "ui/dashboard" not in path.as_posix() and "ui.dashboard" in path.read_text("utf-8")
    }
    assert knowing == {"start/watchers.py", "start/startup.py"}
