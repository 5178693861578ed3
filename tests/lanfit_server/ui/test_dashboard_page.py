"""The live page in a browser, against a server of made-up runs: each view, each control, and what holds for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from browser import PATIENCE_MS, browsers, needs_chromium, opened, serious
from fakes import dashboard_states as states
from fakes.dashboard_server import FakeDashboard

from lanfit_server.start.page_settings import PageSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = needs_chromium

#: The views, and what is there when all of it is.
VIEWS = {
    "lobby": "table",
    "setup": "form",
    "machines": ".tile",
    "curves": ".small-chart canvas",
    "samples": ".sample",
    "confusion": ".confusion",
    "timeline": "tbody tr",
    "model": "tbody tr",
    "steer": "form",
    "runs": ".run",
    "compare": ".pick",
    "versus": ".comparison",
}
EVIL = "<img src=x onerror=\"document.title='broken in'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers() as browser:
        yield browser


OpenPage = Callable[..., tuple["Page", FakeDashboard]]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open a view of a server in some state; returns the page and the server."""
    with ExitStack() as stack:

        def open_it(state: dict[str, Any], view: str = "", **options: Any) -> tuple[Page, FakeDashboard]:
            server = stack.enter_context(FakeDashboard(state, **{**states.answers(), **options.pop("get", {})}))
            page = stack.enter_context(look(browser, server, view, **options))
            return page, server

        yield open_it


def look(browser: Browser, server: FakeDashboard, view: str = "", **options: Any) -> AbstractContextManager[Page]:
    return opened(browser, f"{server.url}/#/{view}" if view else f"{server.url}/", **options)


def shows(place: Page | Locator, *texts: str) -> None:
    """Wait until a text is there to see."""
    for text in texts:
        place.get_by_text(text).filter(visible=True).first.wait_for()


def go(page: Page, view: str) -> None:
    page.evaluate("view => { location.hash = `#/${view}`; }", view)
    page.wait_for_selector(f"body[data-view={view}]")


def wait(page: Page, condition: str) -> None:
    """Wait until an expression is true on the page; whose policy allows no `wait_for_function`."""
    until(page, lambda: page.evaluate(condition), condition)


def until(page: Page, found: Callable[[], Any], what: str) -> None:
    for _ in range(PATIENCE_MS // 20):
        if found():
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never: {what}")


def posted(page: Page, server: FakeDashboard, path: str, count: int = 1) -> dict[str, Any]:
    """Wait until so many requests have come, and return the last one."""
    until(page, lambda: len(server.posted(path)) >= count, f"{count} × {path}")
    return server.posted(path)[-1]


# --- the lobby ------------------------------------------------------------------------------------------------------


def test_the_lobby_shows_how_to_join_who_has_and_how_many_are_missing(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(4, 6))
    shows(page, "Join the run", "of 6 joined", "lab-4")
    assert page.locator(".join-line").inner_text().split() == states.JOIN.split()
    assert page.locator(".people .here").count() == 4
    assert page.locator(".people .missing").count() == 2
    assert page.locator(".qr img").evaluate("each => each.naturalWidth") > 0
    server.push(set={"lobby": states.lobby(6, 6)["lobby"]})
    page.get_by_text("lab-6").wait_for()
    assert page.locator(".people .missing").count() == 0


def test_the_passphrase_is_shown_when_the_teacher_wants_it(open_page: OpenPage) -> None:
    page, _ = open_page(states.lobby())
    page.get_by_role("button", name="Show or hide the passphrase").click()
    shows(page, "maple orbit copper tulip")
    page.get_by_role("button", name="Show or hide the passphrase").click()
    assert "maple" not in page.content()


def test_lines_for_each_system_and_the_page_of_the_code(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(), permissions=["clipboard-read", "clipboard-write"])
    page.get_by_text("lanfit is not installed yet?").click()
    shows(page.locator(".systems"), "py -m pip install")
    page.get_by_role("radio", name="macOS").check(force=True)
    shows(page.locator(".systems"), "python3 -m pip install")
    page.get_by_role("button", name="Copy the join line").click()
    shows(page, "Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == states.JOIN
    page.get_by_role("button", name="Dismiss").click()
    page.get_by_role("link", name="How to join, step by step").click()
    page.wait_for_url(f"{server.url}/join")
    shows(page, "Join with this machine", "python3 -m pip install")
    page.get_by_role("radio", name="Windows").check(force=True)
    shows(page, "py -m pip install")
    page.get_by_role("button", name="Copy the join line").or_(page.get_by_role("button", name="Copy: py")).first.click()
    shows(page, "Copied.")
    assert not serious(page)


def test_a_run_starts_without_those_who_are_missing(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby())
    page.get_by_role("button", name="Start now").click()
    assert posted(page, server, "/api/start_now") == {}
    page.get_by_role("button", name="Set up a run").click()
    shows(page, "Train on one machine too")


def test_the_lobby_of_a_run_in_progress_leads_to_its_machines(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "lobby")
    page.get_by_role("button", name="See the machines").click()
    page.locator(".tile").first.wait_for()


def test_bans_are_shown_and_lifted(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby())
    shows(page, "Refused addresses", "3 wrong passphrases")
    page.get_by_role("button", name="Admit 10.0.0.77 again").click()
    assert posted(page, server, "/api/bans/lift") == {"address": "10.0.0.77"}


# --- set up ---------------------------------------------------------------------------------------------------------


def test_a_run_is_set_up_and_started(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(2, 2), "setup")
    page.get_by_label("Epochs").fill("7")
    page.get_by_label("Method").select_option("federated")
    page.get_by_label("Rounds").fill("12")
    page.get_by_label("Train on one machine too").check()
    page.get_by_label("Which machine").select_option("lab-2")
    page.get_by_role("button", name="Start the run").click()
    sent = posted(page, server, "/api/runs")
    assert sent["also_one_machine"] is True
    assert sent["one_machine"] == "lab-2"
    assert (
        sent["values"].items() >= {"epochs": "7", "method": "federated", "rounds": "12", "model": "digits.h5"}.items()
    )
    assert sent["values"].keys().isdisjoint({"dataset", "server_tau", "learning_rate"}), "not shown, or left empty"
    page.wait_for_selector("body[data-view=machines]")


def test_fields_are_shown_when_they_mean_something(open_page: OpenPage) -> None:
    page, _ = open_page(states.lobby(), "setup")
    page.get_by_label("Epochs").wait_for()
    assert page.get_by_label("Rounds").is_hidden()
    assert page.get_by_label("Keras dataset").is_hidden()
    page.get_by_label("Data", exact=True).select_option("keras")
    page.get_by_label("Keras dataset").wait_for()
    page.get_by_label("Method").select_option("federated")
    page.get_by_label("Strategy").select_option("fedadam")
    page.get_by_text("More settings").nth(2).click()
    page.get_by_label("Server tau").wait_for()
    page.get_by_label("Method").select_option("fit")
    page.get_by_label("Server tau").wait_for(state="hidden")


def test_an_error_stands_beside_its_field_while_one_types(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(), "setup")
    wrong = {"epochs": {"error": "-1 is not a whole number of at least 1.", "hint": "Write 5.", "code": "x"}}
    server.answers["/api/check"] = lambda body: {"fields": wrong if body["values"].get("epochs") == "-1" else {}}
    page.get_by_label("Epochs").fill("-1")
    shows(page.locator(".field[data-key=epochs]"), "-1 is not a whole number of at least 1. Write 5.")
    assert page.get_by_label("Epochs").get_attribute("aria-invalid") == "true"
    page.get_by_label("Epochs").fill("3")
    wait(page, "document.querySelector('[name=epochs]').getAttribute('aria-invalid') === null")


def test_what_the_server_refuses_is_shown_where_it_can_be_corrected(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(), "setup")
    seed = {"error": "the seed is wrong", "hint": "", "code": "x"}
    whole = {"error": "the disk is full", "hint": "Remove old runs.", "code": "y"}
    server.answers["/api/runs"] = (422, {**seed, "fields": {"seed": seed, "": whole}})
    page.get_by_role("button", name="Start the run").click()
    shows(page, "the seed is wrong", "the disk is full Remove old runs.")
    assert page.evaluate("document.activeElement.name") == "seed", "although it was folded away"
    server.answers["/api/runs"] = (409, {"error": "the server is ending", "hint": "", "code": "z"})
    page.get_by_role("button", name="Start the run").click()
    shows(page, "the server is ending")
    assert page.get_by_text("the seed is wrong").is_hidden()


def test_a_run_that_must_wait_says_so_and_can_be_withdrawn(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "setup")
    server.answers["/api/runs"] = {"id": 9, "position": 2}
    page.get_by_role("button", name="Start the run").click()
    shows(page, "2 runs come before it")
    page.get_by_role("button", name="Withdraw number 1 of the queue").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert not server.posted("/api/queue/8/withdraw")
    page.get_by_role("button", name="Withdraw number 1 of the queue").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    posted(page, server, "/api/queue/8/withdraw")
    server.push(set={"queue": []})
    shows(page, "The queue is empty.")


def test_what_was_entered_stays_until_the_defaults_are_wanted(open_page: OpenPage) -> None:
    page, _ = open_page(states.lobby(), "setup")
    page.get_by_label("Epochs").fill("9")
    page.get_by_role("link", name="Lobby").click()
    page.get_by_role("link", name="Set up").click()
    assert page.get_by_label("Epochs").input_value() == "9"
    page.get_by_role("button", name="Back to the defaults").click()
    wait(page, "document.querySelector('[name=epochs]').value === '5'")


def test_a_model_is_built_on_the_page(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(), "setup")
    page.get_by_role("button", name="Build an MLP").click()
    dialog = page.get_by_role("dialog")
    wrong = {"error": "'many' is not a whole number", "hint": "", "code": "x"}
    server.answers["/api/models"] = (422, {**wrong, "fields": {"hidden": wrong}})
    dialog.get_by_label("Hidden units").fill("many")
    dialog.get_by_role("button", name="Build the model").click()
    shows(dialog, "'many' is not a whole number")
    server.answers["/api/models"] = {"file": "mlp-64-32.keras", "parameters": 6570}
    dialog.get_by_label("Hidden units").fill("64,32")
    dialog.get_by_role("button", name="Build the model").click()
    shows(page, "mlp-64-32.keras is built: 6,570 parameters.")
    sent = server.posted("/api/models")[-1]
    assert sent["kind"] == "mlp"
    assert sent["fields"] == {"hidden": "64,32", "dropout": "0"}
    assert sent["values"]["data"] == "files"
    wait(page, "document.querySelector('[name=model]').value === 'mlp-64-32.keras'")
    page.get_by_role("button", name="Build a CNN").click()
    page.get_by_label("Kernels").select_option("16-32-32-32")
    page.get_by_role("button", name="Close").click()


def test_a_form_that_can_not_be_loaded_can_be_tried_again(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(), "setup", get={"/api/form": None})
    shows(page, "The form could not be loaded.")
    server.get["/api/form"] = states.form()
    page.get_by_role("button", name="Try again").click()
    page.get_by_label("Epochs").wait_for()


# --- machines -------------------------------------------------------------------------------------------------------


def test_a_tile_tells_what_a_client_does_and_what_it_waits_for(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "machines")
    tile = page.get_by_role("article", name="lab-5")
    shows(tile, "Waiting", "waits for lab-6", "Round 7", "239 rows")
    shows(page.get_by_role("article", name="lab-2"), "1,210 samples/s", "jax · gpu")
    server.push(clients={"lab-5": {"state": "training", "says": "trains", "batch": 3, "progress": 0.9}})
    shows(tile, "Training", "batch 3 of 8")
    assert tile.get_by_role("progressbar").get_attribute("aria-valuenow") == "90"
    server.push(clients={"lab-5": None})
    tile.wait_for(state="detached")
    page.get_by_role("button", name="Silent 1").click()
    wait(page, "document.querySelectorAll('.tile').length === 1")
    page.get_by_role("button", name="All 5").click()
    wait(page, "document.querySelectorAll('.tile').length === 5")


def test_the_log_of_a_client_is_one_click_away(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "machines")
    page.get_by_role("button", name="Log of lab-6").click()
    shows(page.get_by_role("dialog"), "has been silent for 15 s", "trains shard 1")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent") == "Log", "the focus goes back"


def test_a_client_is_stopped_after_a_question(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "machines")
    page.get_by_role("button", name="Stop lab-2").click()
    page.get_by_role("button", name="Stop the client").click()
    assert posted(page, server, "/api/clients/lab-2/stop") == {}


def test_two_hundred_machines_have_a_tile_each(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(200), "machines")
    wait(page, "document.querySelectorAll('.tile').length === 200")
    assert page.locator(".tile h2").first.inner_text() == "lab-6", "those with trouble come first"


def test_what_clients_say_is_text(open_page: OpenPage) -> None:
    state = states.running()
    state["clients"][EVIL] = {**state["clients"]["lab-1"], "name": EVIL, "says": EVIL}
    state["lobby"]["joined"].append(EVIL)
    state["log"].append({"at": states.BEGAN, "level": "error", "text": EVIL, "client": EVIL})
    state["run"] |= {"error": EVIL, "run": EVIL, "warnings": [EVIL], "job": {EVIL: EVIL}}
    state["samples"]["models"][EVIL] = state["samples"]["models"]["lab-1"]
    state["confusion"]["models"][EVIL] = state["confusion"]["models"]["lab-1"]
    state["series"]["evil"] = {**state["series"]["lab-1/loss/training/round"], "client": EVIL}
    state["timeline"].append({**state["timeline"][0], "client": EVIL})
    page, _ = open_page(state, "machines")
    shows(page, EVIL)
    for view in VIEWS:
        go(page, view)
    assert page.locator("img[src=x]").count() == 0
    assert "broken" not in page.title()


# --- curves ---------------------------------------------------------------------------------------------------------


def plot(page: Page, metric: str) -> Locator:
    return page.get_by_role("img", name=re.compile(f"^{metric} over time"))


def label(page: Page, metric: str) -> str:
    return plot(page, metric).get_attribute("aria-label") or ""


def lines(page: Page, metric: str) -> int:
    found = re.search(r"\. (\d+) lines?\.", label(page, metric))
    return int(found[1]) if found else 0


def until_lines(page: Page, metric: str, count: int) -> None:
    plot(page, metric).and_(page.locator(f'[aria-label*=". {count} {"line" if count == 1 else "lines"}."]')).wait_for()


def test_curves_grow_during_a_run(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "curves")
    until_lines(page, "Loss", 13)
    server.push(append={"/loss/validation/round": {"points": [[7, 0.0625]]}})
    page.locator('[aria-label*="Model of all, validation: 0.0625"]').wait_for()
    new = {"client": "", "metric": "mae", "part": "validation", "per": "round"}
    server.push(append={"/mae/validation/round": {"new": new, "points": [[1, 0.5], [2, 0.25]]}})
    until_lines(page, "MAE", 1)
    new |= {"metric": "loss", "part": "test"}
    server.push(append={"/loss/test/round": {"new": new, "points": [[7, 0.125]]}})
    page.locator('[aria-label*="Model of all, test: 0.125"]').wait_for()
    page.get_by_label("Test", exact=True).uncheck()
    until_lines(page, "Loss", 13)


def test_the_learning_rate_has_one_axis_and_that_of_rounds_is_preferred_with_them(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "curves")
    until_lines(page, "Learning rate", 6)
    meta = {"client": "", "fold": 0, "metric": "learning_rate", "part": "training", "per": "round"}
    server.push(append={"|0|learning_rate|training|round": {"new": meta, "points": [[1, 0.001], [2, 0.0005]]}})
    until_lines(page, "Learning rate", 1)
    plot(page, "Learning rate").and_(page.locator('[aria-label*="Learning rate: 0.0005"]')).wait_for()
    page.get_by_role("radio", name="Epoch").check(force=True)
    until_lines(page, "Learning rate", 6)


def test_the_controls_of_the_curves(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "curves")
    until_lines(page, "Loss", 13)
    before = label(page, "Loss")
    page.get_by_label("Clients", exact=True).uncheck()
    until_lines(page, "Loss", 1)
    page.get_by_label("Clients", exact=True).check()
    page.get_by_label("Validation", exact=True).uncheck()
    until_lines(page, "Loss", 6 + 1)  # and the mean of the clients
    page.get_by_label("Validation", exact=True).check()
    page.get_by_label("Training", exact=True).uncheck()
    until_lines(page, "Loss", 7)
    page.get_by_label("Training", exact=True).check()
    page.get_by_role("button", name="lab-3").click()
    until_lines(page, "Loss", 11)
    page.get_by_role("button", name="lab-3").click()
    until_lines(page, "Loss", 13)
    page.get_by_label("Smoothing").fill("0.9")
    until(page, lambda: label(page, "Loss") != before, "smoothed curves")
    page.get_by_label("Smoothing").fill("0")
    page.get_by_role("radio", name="Batch").check(force=True)
    until_lines(page, "Loss", 7)
    page.get_by_role("radio", name="Epoch").check(force=True)
    until_lines(page, "Loss", 14)
    page.get_by_role("radio", name="Log").check(force=True)
    page.get_by_role("radio", name="Linear").check(force=True)
    until_lines(page, "Learning rate", 6)


def test_the_pointer_reads_values_off_a_curve(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "curves")
    until_lines(page, "Loss", 13)
    page.locator(".u-over").first.hover()
    shows(page.locator(".plot-tip").first, "Round")
    page.locator(".u-over").first.click()


def test_many_points_of_many_clients_are_thinned(open_page: OpenPage) -> None:
    page, server = open_page(states.running(50), "curves")
    until_lines(page, "Loss", 101)
    page.get_by_role("radio", name="Batch").check(force=True)
    for begin in range(400, 10_400, 2_000):
        points = [[x, 1.0 + (x % 7) / 10] for x in range(begin, begin + 2_000)]
        server.push(append={f"lab-{i}/loss/training/batch": {"points": points} for i in range(1, 51)})
    wait(page, "lanfitStore.live.series['lab-50/loss/training/batch'].points.at(-1)[0] === 10399")
    most = page.evaluate("Math.max(...Object.values(lanfitStore.live.series).map((each) => each.points.length))")
    assert most <= 2000


def test_the_figures_above_the_curves(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "curves")
    shows(page.locator(".figures"), "60 %", "about 50 s left", "94.72", "0.1713", "4 of 6", "1 change")
    assert page.locator("#progress").get_attribute("aria-valuenow") == "60"
    server.push(set={"run": {**states.ended()["run"]}})
    shows(page.locator(".figures"), "done", "in 1 min 36 s")
    shows(page.locator(".top"), "is done")


# --- samples and confusion ------------------------------------------------------------------------------------------


def test_samples_are_marked_right_or_wrong_by_sign_and_shape(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "samples")
    wait(page, "document.querySelectorAll('.sample').length === 24")
    right, wrong = page.locator(".sample[data-right=true]"), page.locator(".sample[data-right=false]")
    assert right.count() + wrong.count() == 24
    assert set(right.locator(".sign").all_inner_texts()) == {"✓"}
    assert set(wrong.locator(".sign").all_inner_texts()) == {"✗"}
    radius = "each => getComputedStyle(each).borderRadius"
    assert right.locator(".sign").first.evaluate(radius) != wrong.locator(".sign").first.evaluate(radius)
    shows(page, f"{right.count()} of 24 right")
    samples = server.state["samples"]
    for row in samples["rows"]:
        history = samples["models"][""]["probabilities"][str(row["id"])]
        history.append([1.0 if str(i) == row["truth"] else 0.0 for i in range(10)])
    samples["models"][""]["at"].append(7)
    server.push(samples=samples)
    shows(page, "24 of 24 right", "Round 7, the latest")


def test_the_reader_chooses_whose_model_and_when(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "samples")
    wait(page, "document.querySelectorAll('.sample').length === 24")
    score = page.locator(".score").inner_text()
    page.get_by_label("Moment").fill("0")
    shows(page, "Round 1")
    assert page.locator(".score").inner_text() != score
    page.get_by_label("Whose model").select_option("lab-2")
    page.get_by_label("Moment").fill("5")
    shows(page, "Round 6, the latest")
    page.get_by_role("link", name="Confusion matrix").click()
    assert page.get_by_label("Whose model").input_value() == "lab-2", "the choice holds for both views"
    page.get_by_label("Whose model").select_option("")


def test_a_sample_shows_all_probabilities_and_how_they_changed(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "samples")
    page.locator(".sample").first.click()
    dialog = page.get_by_role("dialog")
    shows(dialog, "Probability of each class", "How it changed", "truth")
    assert dialog.locator(".probabilities li").count() == 10
    dialog.get_by_role("img", name=re.compile("^Probability of each class over time. 6 lines")).wait_for()
    dialog.get_by_role("button", name="Close").click()
    dialog.wait_for(state="detached")


def test_samples_without_classes_show_values(open_page: OpenPage) -> None:
    state = states.running()
    state["run"]["classes"] = None
    rows = [{"id": i, "truth": "21.5", "picture": None, "values": [0.5, 1.25, -3.0]} for i in range(24)]
    models = {"": {"at": [1, 2], "probabilities": {str(i): [[20.0], [21.0]] for i in range(24)}}}
    state["samples"] = {"kind": "values", "shape": [3], "rows": rows, "models": models}
    page, _ = open_page(state, "samples")
    shows(page.locator(".sample").first, "1.25", "21", "is 21.5")
    assert page.locator(".sample[data-right]").count() == 0
    page.locator(".sample").first.click()
    shows(page.get_by_role("dialog"), "Outputs")


def test_a_cell_of_the_confusion_matrix_shows_its_rows(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "confusion")
    matrix = server.state["confusion"]["models"][""]["matrix"]
    shows(page, "After round 6")
    i, j = next((i, j) for i in range(10) for j in range(10) if i != j and matrix[i][j])
    page.get_by_role("button", name=f"{matrix[i][j]} of {i} predicted as {j}").click()
    shows(page, f"{i} predicted as {j}")
    assert page.locator(".row-list li").count() == matrix[i][j]
    assert page.locator(".row-list img").count() == matrix[i][j]
    server.state["confusion"]["models"][""]["rows"][f"{i},{j}"].append(1234)
    server.push(confusion=server.state["confusion"])
    shows(page.locator(".row-list"), "Row 1234")
    page.locator(".row-list .values").wait_for()
    matrix[i][j] = 77
    server.push(confusion=server.state["confusion"])
    page.get_by_role("button", name=f"77 of {i} predicted as {j}").wait_for()


# --- timeline, model, steering --------------------------------------------------------------------------------------


def test_the_timeline_can_be_searched_by_round_and_zoomed(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "timeline")
    canvas = page.get_by_role("img", name=re.compile("^What 7 lanes did"))
    canvas.wait_for()
    shows(page, "Receive", "Aggregate", "Seconds of each")
    assert page.locator("tbody tr").count() == 7
    whole = page.locator(".lanes + p").inner_text()
    page.get_by_label("Round").select_option("2")
    assert page.locator(".lanes + p").inner_text() != whole
    page.get_by_label("Round").select_option("")
    page.get_by_role("button", name="Zoom in").click()
    zoomed = page.locator(".lanes + p").inner_text()
    assert zoomed != whole
    canvas.press("ArrowRight")
    assert page.locator(".lanes + p").inner_text() != zoomed
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="All", exact=True).click()
    assert page.locator(".lanes + p").inner_text() == whole
    canvas.hover(position={"x": 120, "y": 45})
    shows(page.locator(".plot-tip"), "lab-1 · Import")
    page.get_by_role("heading").first.hover()
    page.locator(".plot-tip").wait_for(state="hidden")
    server.push(timeline=[{"client": "lab-9", "what": "train", "from": 1.0, "to": 2.0, "round": 7, "epoch": 1}])
    shows(page.locator("tbody"), "lab-9")


def test_the_timeline_is_zoomed_and_moved_by_keyboard_and_by_pointer(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "timeline")
    canvas = page.get_by_role("img", name=re.compile("^What 7 lanes did"))
    canvas.wait_for()
    range_ = page.locator(".lanes + p")
    whole = range_.inner_text()
    canvas.press("+")
    zoomed = range_.inner_text()
    canvas.press("ArrowRight")
    moved = range_.inner_text()
    canvas.press("ArrowLeft")
    assert range_.inner_text() == zoomed
    assert len({whole, zoomed, moved}) == 3
    canvas.press("-")
    assert range_.inner_text() == whole
    canvas.press("+")
    canvas.press("Home")
    assert range_.inner_text() == whole

    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    until(page, lambda: range_.inner_text() != whole, "zoomed by the wheel")
    before = range_.inner_text()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 40, box["y"] + 30)
    until(page, lambda: range_.inner_text() != before, "dragged")
    page.mouse.up()
    dragged = range_.inner_text()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    assert range_.inner_text() == dragged, "it is let go"


def test_the_model_and_the_settings_of_a_run(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "model")
    shows(page, "158,922", "parameters in 9 layers", "(None, 8, 8, 32)", "3.15.1", "batch_size", "are the same")
    assert page.get_by_role("region", name="Layers of the model").locator("tbody tr").count() == 9
    assert page.get_by_role("region", name="Devices").locator("tbody tr").count() == 6


def test_a_run_is_steered(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "steer")
    page.get_by_role("button", name="Pause").click()
    assert posted(page, server, "/api/command") == {"command": "pause"}
    server.push(merge={"run": {"paused": True}})
    page.get_by_role("button", name="Resume").click()
    assert posted(page, server, "/api/command", 2) == {"command": "resume"}
    shows(page.locator(".top"), "is paused")
    for count, (name, value) in enumerate([("Learning rate", "0.0001"), ("Epochs", "8"), ("Rounds", "20")], 3):
        form = page.locator("form").filter(has_text=name)
        form.get_by_label(name).fill(value)
        form.get_by_role("button", name="Change").click()
        sent = posted(page, server, "/api/command", count)
        assert sent == {"command": "change", "setting": name.lower().replace(" ", "_"), "value": float(value)}
    shows(page, "Changes so far", "learning rate 0.0005 from round 5")
    page.get_by_role("button", name="Stop lab-3").click()
    page.get_by_role("button", name="Stop the client").click()
    posted(page, server, "/api/clients/lab-3/stop")
    page.get_by_role("button", name="Stop the run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stop the run").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop the run").click()
    assert posted(page, server, "/api/command", 6) == {"command": "stop"}
    server.push(set={"run": states.ended()["run"]})
    shows(page, "No run to steer.")


def test_a_change_that_is_refused_says_why(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "steer")
    server.push(merge={"run": {"learning_rate": None}})
    shows(page, "now: that of the optimizer")
    server.answers["/api/command"] = (422, {"error": "0 is not a positive number.", "hint": "", "code": "x"})
    page.get_by_label("Learning rate").fill("0")
    page.get_by_label("Learning rate").press("Enter")
    shows(page, "0 is not a positive number.")
    assert page.evaluate("document.activeElement.name") == "learning_rate"


# --- runs and comparisons -------------------------------------------------------------------------------------------


def test_runs_are_listed_filtered_and_compared(open_page: OpenPage) -> None:
    page, server = open_page(states.ended(), "runs")
    shows(page, "5 runs", "The newest 20 are kept", "interrupted", "96.11", "1 min 36 s")
    page.get_by_placeholder("name, model, method").fill("kfold")
    wait(page, "document.querySelectorAll('.run').length === 1")
    page.get_by_placeholder("name, model, method").fill("")
    page.get_by_label("Status").select_option("failed")
    wait(page, "document.querySelectorAll('.run').length === 1")
    page.get_by_label("Status").select_option("")
    for name in (states.RUNS[2][0], states.RUNS[0][0]):
        page.get_by_label(f"Choose {name}").check()
    server.get["/api/runs"]["runs"][0]["model"] = "renamed.keras"
    server.push(set={"runs_changed": 2})
    shows(page, "renamed.keras")
    page.get_by_role("button", name="Compare 2").click()
    page.locator(".comparison").wait_for()
    assert page.get_by_label(f"{states.RUNS[2][0]} is the baseline").is_checked()


def test_the_list_says_how_many_runs_are_kept(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "runs")
    shows(page, "The newest 20 are kept (keep_runs).")
    page, _ = open_page(states.running(), "runs", get={"/api/runs": {"runs": [], "keep_runs": None}})
    shows(page, "All are kept (keep_runs is not set).")


def test_a_run_of_the_past_is_opened_and_left_again(open_page: OpenPage) -> None:
    page, server = open_page(states.lobby(), "runs")
    page.get_by_role("button", name=f"Open {states.RUNS[2][0]}").click()
    until_lines(page, "Loss", 13)
    shows(page, f"You see run {states.RUNS[2][0]}")
    page.get_by_role("link", name="Samples").click()
    wait(page, "document.querySelectorAll('.sample').length === 24")
    page.get_by_role("button", name="Back to the live run").click()
    shows(page, "No predictions yet.")
    server.get[f"/api/runs/{states.RUNS[4][0]}"] = None
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("button", name=f"Open {states.RUNS[4][0]}").click()
    shows(page.locator(".toast.error"), "There is no")


def test_files_of_a_run_are_downloaded(open_page: OpenPage) -> None:
    page, _ = open_page(states.ended(), "runs")
    name = states.RUNS[0][0]
    page.get_by_role("button", name=f"Download files of {name}").click()
    dialog = page.get_by_role("dialog")
    for text, path in (
        ("All curves (CSV)", "curves.csv"),
        ("Report (HTML)", "files/report.html"),
        ("models/final.keras", "files/models/final.keras"),
    ):
        assert dialog.get_by_role("link", name=text).get_attribute("href") == f"/api/runs/{name}/{path}"


def test_a_run_is_resumed(open_page: OpenPage) -> None:
    page, server = open_page(states.ended(), "runs")
    page.get_by_role("button", name=f"Resume {states.RUNS[3][0]}").click()
    posted(page, server, f"/api/runs/{states.RUNS[3][0]}/resume")
    shows(page, "is resumed.")


def test_a_run_is_deleted_only_when_its_name_is_typed(open_page: OpenPage) -> None:
    page, server = open_page(states.ended(), "runs")
    name = states.RUNS[4][0]
    page.get_by_role("button", name=f"Delete {name}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name of the run").fill("something else")
    assert dialog.get_by_role("button", name="Delete for ever").is_disabled()
    dialog.get_by_label("Name of the run").fill(name)
    server.answers[f"/api/runs/{name}/delete"] = (409, {"error": "it is in progress", "hint": "", "code": "x"})
    dialog.get_by_role("button", name="Delete for ever").click()
    shows(dialog, "it is in progress")
    server.answers[f"/api/runs/{name}/delete"] = {}
    dialog.get_by_role("button", name="Delete for ever").click()
    assert posted(page, server, f"/api/runs/{name}/delete", 2) == {"confirm": name}
    dialog.wait_for(state="detached")


def test_runs_side_by_side(open_page: OpenPage) -> None:
    page, _ = open_page(states.ended(), "compare")
    shows(page, "Choose runs to compare.")
    first, second, third = (each[0] for each in states.RUNS[:3])
    for name in (first, second, third):
        page.get_by_label(re.compile(f"^{name}")).first.check()
    shows(page, "Distributing paid", "Settings that differ", "+0.28 points, +0.3 %", "1 min 36 s", "−34.6 %")
    page.get_by_label(f"{second} is the baseline").check()
    shows(page, "−0.28 points, −0.3 %")
    page.get_by_role("img", name=re.compile(r"^Curves of the runs\. 3 lines")).wait_for()
    page.get_by_label("Metric").select_option("loss")
    page.get_by_role("radio", name="Training").check(force=True)
    page.get_by_label(re.compile(f"^{third}")).first.uncheck()
    page.get_by_role("img", name=re.compile(r"^Curves of the runs\. 2 lines")).wait_for()


def test_distributed_against_one_machine(open_page: OpenPage) -> None:
    page, server = open_page(states.ended(), "versus")
    shows(page, "Distributing paid: it was 1.78 times as fast", "× 1.78", "one machine: 96.39", "baseline")
    page.get_by_label(re.compile("^Run")).select_option(states.RUNS[0][0])
    del server.get["/api/runs"]["runs"][0]["one_machine"]
    server.push(set={"runs_changed": 5})
    shows(page, "No run was trained on one machine too.")
    page.get_by_role("link", name="Set up a run").click()
    page.get_by_label("Epochs").wait_for()


# --- the stream -----------------------------------------------------------------------------------------------------


def test_where_streams_are_blocked_the_page_polls_and_takes_a_stream_again(open_page: OpenPage) -> None:
    state = states.running()
    state["server"]["poll_seconds"] = 0.1
    page, server = open_page(state, "machines")
    shows(page, "Live")
    server.cut_streams()
    shows(page, "Live, every few seconds")
    server.push(clients={"lab-1": {"says": "is polled"}})
    shows(page, "is polled")
    server.streams = True
    page.evaluate("dispatchEvent(new Event('online'))")
    wait(page, "document.getElementById('link-state').dataset.state === 'live'")
    polls = server.polls
    server.push(clients={"lab-1": {"says": "is streamed"}})
    shows(page, "is streamed")
    assert server.polls == polls


def test_a_proxy_that_holds_streams_back_is_noticed_and_asked_every_three_seconds(browser: Browser) -> None:
    state = states.running()
    state["server"]["poll_seconds"] = PageSettings().poll_seconds
    with FakeDashboard(state) as server:
        server.holds_back = True
        context = browser.new_context()
        page = context.new_page()
        page.clock.install()
        page.goto(f"{server.url}/#/machines")
        shows(page, "Live")
        server.push(clients={"lab-1": {"says": "was held back"}})
        page.clock.fast_forward(9_000)
        shows(page, "was held back", "Live, every few seconds")
        server.push(clients={"lab-1": {"says": "is polled"}})
        until(page, lambda: server.open == 0, "the stream is closed")
        asked = server.polls
        page.clock.fast_forward(3_100)
        until(page, lambda: server.polls > asked, "the page asks again after 3 s")
        shows(page, "is polled")
        server.holds_back = False
        page.clock.fast_forward(30_000)
        server.push(clients={"lab-1": {"says": "is streamed"}})
        shows(page, "is streamed")
        wait(page, "document.getElementById('link-state').dataset.state === 'live'")
        context.close()


def test_a_view_that_can_not_be_loaded_can_be_tried_again(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "machines")
    page.route("**/js/timeline.js", lambda route: route.abort())
    page.get_by_role("link", name="Timeline").click()
    shows(page, "This view could not be loaded.")
    page.unroute("**/js/timeline.js")
    page.get_by_role("button", name="Load the page again").click()
    page.get_by_role("img", name=re.compile("^What 7 lanes did")).wait_for()


def test_nothing_is_missed_or_counted_twice_over_a_break(open_page: OpenPage) -> None:
    page, server = open_page(states.running(), "curves")
    until_lines(page, "Loss", 13)
    key = "/loss/validation/round"
    server.push(append={key: {"points": [[7, 0.5]]}})
    wait(page, "lanfitStore.live.seq === 2")
    server.streams = False
    wait(page, "lanfitStore.connection !== 'live'")
    server.push(append={key: {"points": [[8, 0.4]]}})
    server.push(append={key: {"points": [[9, 0.3]]}})
    server.streams = True
    wait(page, "lanfitStore.live.seq === 4")
    points = page.evaluate("key => lanfitStore.live.series[key].points.slice(-4)", key)
    assert [x for x, _ in points] == [6, 7, 8, 9]


def test_a_page_that_is_not_signed_in_says_how(browser: Browser) -> None:
    with FakeDashboard(states.lobby()) as server:
        context = browser.new_context()
        page = context.new_page()
        page.route("**/api/state", lambda route: route.fulfill(status=401, json={"error": "no cookie"}))
        page.goto(server.url)
        shows(page, "Open the link that the server printed at its start; it signs this browser in.")
        context.close()


# --- what holds for all views ---------------------------------------------------------------------------------------


def test_a_reader_has_no_controls(open_page: OpenPage) -> None:
    page, server = open_page(states.running(role="viewer"), "machines")
    page.locator(".tile").first.wait_for()
    assert page.get_by_role("button", name=re.compile("^Stop")).count() == 0
    links = page.locator("#views a").all_inner_texts()
    assert {"Set up", "Steer"}.isdisjoint(links)
    page.evaluate("location.hash = '#/steer'")
    page.wait_for_selector("body[data-view=curves]")
    page.get_by_role("link", name="Lobby").click()
    shows(page, "Join the run")
    assert page.get_by_text("passphrase").count() == 0
    page.get_by_role("link", name="Runs", exact=True).click()
    page.locator(".run").first.wait_for()
    assert page.get_by_role("button", name=re.compile("^(Delete|Resume)")).count() == 0
    assert not server.posts


def test_the_theme_follows_the_system_or_is_chosen(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "curves", color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Theme: system").click()
    assert page.evaluate(ground) != dark
    page.reload()
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Theme: dark").click()


def test_the_page_is_used_by_keyboard(open_page: OpenPage) -> None:
    page, _ = open_page(states.running(), "samples")
    page.locator(".sample").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    page.locator(".sample").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_view_has_a_serious_violation_of_accessibility(open_page: OpenPage, theme: str) -> None:
    page, _ = open_page(states.running(), "lobby", color_scheme=theme, reduced_motion="reduce")
    for view, there in VIEWS.items():
        go(page, view)
        page.locator(there).first.wait_for()
        assert not serious(page), view
    page.evaluate("location.hash = '#/samples'")
    page.locator(".sample").first.click()
    page.locator("dialog .plot canvas").wait_for()
    assert not serious(page)


@pytest.mark.parametrize("size", [(390, 844), (1366, 768), (1920, 1080)])
def test_no_view_is_wider_than_the_screen(open_page: OpenPage, size: tuple[int, int]) -> None:
    page, _ = open_page(states.running(), "lobby", viewport={"width": size[0], "height": size[1]})
    for view, there in VIEWS.items():
        go(page, view)
        page.locator(there).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_every_view_says_what_will_come_when_there_is_nothing_yet(open_page: OpenPage) -> None:
    state = states.lobby(0, 0)
    empty = {"/api/runs": {"runs": [], "keep_runs": None}}
    page, _ = open_page(state, "machines", get=empty)
    for view in (
        "machines",
        "curves",
        "samples",
        "confusion",
        "timeline",
        "model",
        "steer",
        "runs",
        "compare",
        "versus",
    ):
        go(page, view)
        page.locator(".empty").filter(visible=True).first.wait_for()
