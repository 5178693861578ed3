"""Pictures of the live page, as people see it: every view, light and dark, on a phone, a laptop and a projector.

Somebody looks at them; nothing is judged here. The runs are made up (`tests/fakes/dashboard_states.py`). It needs
Playwright and Chromium.

    python bench/screenshots.py FOLDER [--only VIEW] [--size NAME] [--theme NAME]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fakes import dashboard_states as states  # noqa: E402
from fakes.dashboard_server import FakeDashboard  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

SIZES: Mapping[str, tuple[int, int]] = {"phone": (390, 844), "laptop": (1366, 768), "projector": (1920, 1080)}
THEMES = ("light", "dark")


def _click(selector: str) -> Callable[[Page], None]:
    return lambda page: page.click(selector)


def _choose_runs(page: Page) -> None:
    for index in (0, 1, 2):
        page.locator(".pick input[type=checkbox]").nth(index).check()
    page.wait_for_selector(".comparison")


def _federated(page: Page) -> None:
    page.select_option("select[name=method]", "federated")


#: Of each picture: the state of the server, the view, and what is done first.
PICTURES: Mapping[str, tuple[Callable[[], dict[str, Any]], str, Callable[[Page], None] | None]] = {
    "lobby": (states.lobby, "lobby", None),
    "setup": (states.lobby, "setup", _federated),
    "setup-builder": (states.lobby, "setup", _click("text=Build a CNN")),
    "machines": (states.running, "machines", None),
    "machines-50": (lambda: states.running(50), "machines", None),
    "machines-200": (lambda: states.running(200), "machines", None),
    "curves": (states.running, "curves", None),
    "curves-50": (lambda: states.running(50), "curves", None),
    "samples": (states.running, "samples", None),
    "samples-row": (states.running, "samples", _click(".sample >> nth=2")),
    "confusion": (states.running, "confusion", _click(".confusion td button.wrong >> nth=1")),
    "timeline": (states.running, "timeline", None),
    "model": (states.running, "model", None),
    "steer": (states.running, "steer", None),
    "runs": (states.ended, "runs", None),
    "compare": (states.ended, "compare", _choose_runs),
    "versus": (states.ended, "versus", None),
    "empty": (states.lobby, "curves", None),
    "join": (states.lobby, "join", None),
}


def chromium() -> str:
    """Return the path of Debian's Chromium."""
    return os.environ.get("LANFIT_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


def take(folder: Path, wanted: list[str], sizes: list[str], themes: list[str]) -> Iterator[Path]:
    """Take pictures, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for name in wanted:
            make, view, first = PICTURES[name]
            with FakeDashboard(make(), **states.answers()) as server:
                for size in sizes:
                    for theme in themes:
                        width, height = SIZES[size]
                        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
                        page = context.new_page()
                        page.on("console", lambda message: print(message.type, message.text, file=sys.stderr))
                        page.on("pageerror", lambda error: print(error, file=sys.stderr))
                        page.goto(f"{server.url}/join" if view == "join" else f"{server.url}/#/{view}")
                        page.wait_for_selector("#join pre" if view == "join" else f"body[data-view={view}]")
                        page.wait_for_load_state("load")
                        if first:
                            first(page)
                        page.wait_for_timeout(600)  # the transitions of bars
                        path = folder / f"{name}-{size}-{theme}.png"
                        page.screenshot(path=path, full_page=size == "phone")
                        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                        if wide > 0:
                            print(f"{path.name}: {wide} pixels too wide", file=sys.stderr)
                        context.close()
                        yield path
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", choices=PICTURES, help="only this picture")
    parser.add_argument("--size", action="append", choices=SIZES, help="only this size")
    parser.add_argument("--theme", action="append", choices=THEMES, help="only this theme")
    arguments = parser.parse_args()
    for taken in take(
        arguments.folder, arguments.only or list(PICTURES), arguments.size or list(SIZES), arguments.theme or [*THEMES]
    ):
        print(taken)
