"""A lesson on the live page: a real server, real clients, a browser."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from breakpoints import Breakpoint
from browser import PATIENCE_MS, browsers, needs_chromium, opened, serious
from running import Place, Program, client

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

#: The number of points of all curves that the page has.
POINTS = "Object.values(lanfitStore.live.series).reduce((sum, each) => sum + each.points.length, 0)"
LOADS = """
import json, sys, keras, numpy
model = keras.saving.load_model(sys.argv[1], compile=False)
rows = numpy.loadtxt(sys.argv[2], delimiter=",", skiprows=1, max_rows=200, dtype="float32")
digits = numpy.loadtxt(sys.argv[3], delimiter=",", skiprows=1, max_rows=200)
right = model.predict(rows.reshape(-1, *model.input_shape[1:]), verbose=0).argmax(axis=1) == digits
print(json.dumps(float(right.mean())))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers() as browser:
        yield browser


def go(page: Page, view: str) -> None:
    page.evaluate("view => { location.hash = `#/${view}`; }", view)
    page.wait_for_selector(f"body[data-view={view}]")


def until(page: Page, expression: str, good: Callable[[Any], bool] = bool) -> Any:
    """Wait until an expression has a value that is good, and return it."""
    for _ in range(PATIENCE_MS * 4 // 50):
        if good(found := page.evaluate(expression)):
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}; it is {found!r}")


@pytest.mark.story
def test_a_lesson_on_the_page(tmp_path: Path, browser: Browser) -> None:
    place, hold = Place(tmp_path / "teacher"), Breakpoint(tmp_path / "hold")
    with contextlib.ExitStack() as lesson:
        server = lesson.enter_context(
            Program(
                *("dashboard", "--yes", "--host", "127.0.0.1", "--port", 0, "--dashboard-port", 0), folder=place.root
            )
        )
        port = int(server.expect(r"client 127\.0\.0\.1:(\d+) ")[1])
        link = server.expect(r"Live page: (http://\S+)")[1]
        page = lesson.enter_context(opened(browser, link))
        assert "token" not in page.url, "it is traded for a cookie"
        for name in ("pc-1", "pc-2"):
            pc = client(tmp_path / name, port, name, "--backend", "jax", environment=hold.environment)
            lesson.enter_context(pc)
            page.locator(".people .here", has_text=name).wait_for()

        # Set up, and start.
        page.get_by_role("button", name="Set up a run").click()
        page.get_by_label("Epochs").fill("0")
        page.locator(".field[data-key=epochs] .field-error").wait_for()
        page.get_by_label("Epochs").fill("2")
        page.get_by_label("Method").select_option("federated")
        page.get_by_label("Rounds").fill("3")
        page.get_by_label("Train on one machine too").check()
        page.get_by_label("Which machine").select_option("here")
        page.get_by_role("button", name="Start the run").click()
        page.get_by_role("article", name="pc-2").get_by_text("Training").wait_for()

        # Curves grow, samples come.
        go(page, "curves")
        page.get_by_role("img", name=re.compile(r"^Loss over time\. \d+ lines?\.")).wait_for()
        before = page.evaluate(POINTS)
        go(page, "samples")
        page.locator(".sample").first.wait_for()

        # The learning rate is changed, and a client stopped.
        go(page, "steer")
        page.get_by_label("Learning rate").fill("0.0005")
        page.get_by_label("Learning rate").press("Enter")
        page.get_by_text("learning rate 0.0005 from round").wait_for()
        go(page, "machines")
        page.get_by_role("button", name="Stop pc-2").click()
        page.get_by_role("button", name="Stop the client").click()
        page.get_by_text("pc-2 is being stopped.").wait_for()
        page.get_by_role("article", name="pc-2").get_by_text("the operator stopped it").wait_for()

        # Curves have grown when the run ends, and it is trained on one machine too.
        run = page.evaluate("lanfitStore.live.run.run")
        hold.let_go()
        until(page, f"{POINTS} > {before}")
        until(page, f"lanfitStore.live.run.state === 'ended' && lanfitStore.live.run.run !== '{run}'")
        [alone] = [name for name in place.runs if name != run]
        assert len(place.summary(run)["rounds"]) == 3
        assert [each["name"] for each in place.summary(alone)["clients"]] == ["local-1"]
        go(page, "versus")
        page.get_by_text(re.compile(r"^Distributing (paid|did not pay|made no difference)")).wait_for()
        for name in (run, alone):
            found = place.summary(name)["final"]["metrics"]["accuracy"]
            page.get_by_text(f"{100 * found:.2f}").first.wait_for()

        # A model is downloaded, and is one that Keras loads and that knows digits.
        go(page, "runs")
        page.get_by_role("button", name=f"Download files of {run}").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="models/final.keras").click()
        model = tmp_path / "final.keras"
        download.value.save_as(model)
        rows, digits = (place.root / "dataset" / each / "digits.csv" for each in "XY")
        loads = [sys.executable, "-c", LOADS, model, rows, digits]
        right = float(subprocess.run(loads, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        assert right > 0.5


@pytest.mark.story
def test_fifty_simulated_clients_on_the_page(tmp_path: Path, browser: Browser) -> None:
    place, hold = Place(tmp_path / "teacher"), Breakpoint(tmp_path / "hold")
    job = {"clients": 50, "batch-size": 16, "method": "federated", "rounds": 2, "epochs": 2, "normalizer": "minmax"}
    words = [word for key, value in job.items() for word in (f"--{key}", value)]
    page_at = ("--dashboard", "--dashboard-port", 0)
    options: dict[str, Any] = {"folder": place.root, "passphrase": None, "environment": hold.environment}
    with Program("simulate", *words, *page_at, **options) as program:
        link = program.expect(r"Live page: (http://\S+)")[1]
        with opened(browser, link) as page:
            go(page, "machines")
            page.get_by_role("article", name="sim-050").wait_for()
            assert page.get_by_role("article").count() == 50
            page.get_by_role("article").get_by_text("Training").first.wait_for()
            hold.let_go()
            go(page, "curves")
            page.get_by_role("img", name=re.compile(r"^Loss over time\. \d+ lines?\.")).wait_for()
            until(page, "lanfitStore.live.run.round === 2")
            until(page, "Object.keys(lanfitStore.live.series).filter(key => key.startsWith('sim-')).length >= 50")
            assert serious(page) == []
        program.finish()
    assert len(place.summary()["clients"]) == 50
