"""Runs on the page: the list, one of them, downloads and tricks with paths, deleting, resuming, comparing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from fakes.dashboards import RIGHT, fake_place, page_of
from fakes.fake_cluster import run_script
from fakes.places import Place

from lanfit.core.lock import FolderLock
from lanfit.core.workspace import Workspace
from lanfit.data.labels import Target
from lanfit.settings.job import make_job
from lanfit.training.metrics import classification_metrics
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.run.resume import summary_of
from lanfit_server.run.runner import lock_of
from lanfit_server.ui.dashboard.board import TEACHER, Board
from lanfit_server.ui.dashboard.compare import Times, compare, differences, different_settings, figures_of, verdict
from lanfit_server.ui.dashboard.downloads import curves_of_run, files_of_run
from lanfit_server.ui.dashboard.runs import list_runs, log_of, names_of_runs, series_of_run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with fake_place(tmp_path, monkeypatch) as made:
        yield made


async def trained(place: Place, session: Any, **values: Any) -> str:
    run: str = (await (await session.submit(place.request(**values))).ended()).run
    return run


# --- the list and one run -----------------------------------------------------------------------------------------


def test_the_list_has_every_run_and_marks_those_in_progress(place: Place) -> None:
    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session, page_of(place, session, {"keep_runs": 7}) as page:
            assert await page.get("/api/runs") == {"runs": [], "keep_runs": 7}
            first = await trained(place, session)
            handle = await session.submit(place.request(channel=rounds, method="federated", rounds=2))
            await rounds.next()
            running, done = (await page.get("/api/runs"))["runs"]
            assert (running["run"], running["status"], running["resumable"]) == (handle.run, "running", False)
            assert (done["run"], done["status"], done["method"], done["clients"]) == (first, "done", "fit", 2)
            assert (done["model"], done["resumable"], done["one_machine"]) == ("net.keras", False, None)
            assert done["metrics"] == {"loss": 1.0}
            assert done["size_bytes"] > 0
            assert done["started"] > 1_600_000_000
            view = await page.get(f"/api/runs/{handle.run}")
            assert view["run"]["state"] == "running"
            rounds.close()
            await handle.ended()
            assert [each["status"] for each in (await page.get("/api/runs"))["runs"]] == ["done", "done"]

    run_script(script())


@pytest.mark.parametrize("method", ["fit", "kfold", "federated"])
def test_a_run_is_shown_with_the_numbers_of_its_summary(place: Place, method: str) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            run = await trained(place, session, method=method, epochs=3, rounds=2, folds=2)
            summary = summary_of(place.workspace, run)
            view = await page.get(f"/api/runs/{run}")
            assert {"run", "clients", "series", "samples", "confusion", "timeline", "log"} <= view.keys()
            shown = view["run"]
            assert (shown["state"], shown["status"], shown["method"]) == ("ended", "done", method)
            assert shown["metrics"] == dict(summary.final.metrics if summary.final else {})
            assert shown["job"]["epochs"] == 3
            assert set(view["clients"]) == {client.name for client in summary.clients}
            for client in summary.clients:
                for fold in client.folds or (client,):
                    number = getattr(fold, "fold", 0)
                    for name, values in fold.history.items():
                        part, metric = ("validation", name[4:]) if name.startswith("val_") else ("training", name)
                        series = view["series"][f"{client.name}|{number}|{metric}|{part}|epoch"]
                        assert series["points"] == [[x, y] for x, y in enumerate(values, 1)]
            if method == "federated":
                losses = view["series"]["|0|loss|test|round"]["points"]
                assert losses == [[each.round, each.metrics["loss"]] for each in summary.rounds]
            else:
                mean = view["series"]["|0|loss|training|epoch"]["points"]
                all_ = [each for client in summary.clients for each in client.folds or (client,)]
                assert mean[0][1] == pytest.approx(np.mean([each.history["loss"][0] for each in all_]), abs=1e-12)
            assert any(span["what"] == "train" for span in view["timeline"])

    run_script(script())


def test_a_run_without_a_summary_has_the_curves_of_its_files(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session:
            run = await trained(place, session, epochs=3)
            whole = series_of_run(place.workspace, run, summary_of(place.workspace, run))
            from_files = series_of_run(place.workspace, run, None)
            assert from_files.keys() == whole.keys()
            for key, each in whole.items():
                np.testing.assert_allclose(from_files[key]["points"], each["points"], atol=1e-12)

    run_script(script())


@pytest.mark.parametrize(
    "values",
    [
        {"method": "fit"},
        {"method": "kfold", "folds": 2},
        {"method": "federated", "rounds": 3},
        {"method": "federated", "rounds": 3, "test_split": 0.0},
    ],
    ids=["fit", "kfold", "federated", "federated without test rows"],
)
def test_a_finished_run_has_the_curves_that_it_had_while_it_continued(place: Place, values: dict[str, Any]) -> None:
    board = Board(list, {"name": "lab"})
    place.watchers.append(board)

    async def script() -> None:
        async with place.simulation() as session:
            run = await trained(place, session, epochs=2, **values)
            live = {key: each for key, each in board.snapshot(TEACHER)["series"].items() if each["per"] != "batch"}
            for summary in (summary_of(place.workspace, run), None):
                found = series_of_run(place.workspace, run, summary)
                assert sorted(found) == sorted(live)
                for key, each in live.items():
                    np.testing.assert_allclose(found[key]["points"], each["points"], atol=1e-12)
            assert {each["part"] for each in live.values()} >= {"training", "validation"}

    run_script(script())


def test_a_damaged_run_is_in_the_list_and_hides_no_other(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session:
            runs = [await trained(place, session), await trained(place, session)]
            (place.workspace.run_folder(runs[0]) / "summary.json").write_text('{"run": 3}')
            found = {each["run"]: each for each in list_runs(place.workspace, set())}
            assert found[runs[0]]["status"] == "damaged"
            assert found[runs[0]]["error"]
            assert found[runs[1]]["status"] == "done"

    run_script(script())


def test_numbers_that_are_not_finite_break_no_answer(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            run = await trained(place, session)
            path = place.workspace.run_folder(run) / "summary.json"
            text = json.loads(path.read_text())
            text["final"]["metrics"] = {"loss": None, "accuracy": 0.5}
            text["clients"][0]["history"]["loss"] = [None]
            path.write_text(json.dumps(text))
            assert (await page.get("/api/runs"))["runs"][0]["metrics"] == {"loss": None, "accuracy": 0.5}
            assert (await page.get(f"/api/runs/{run}"))["run"]["metrics"]["loss"] is None
            assert (await page.get(f"/api/compare?runs={run}"))["runs"][0]["metrics"]["loss"] is None

    run_script(script())


def test_the_log_of_a_client_is_shown_and_no_other_file(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            run = await trained(place, session)
            folder = place.workspace.run_folder(run) / "clients" / "sim-001"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "client.log").write_text("<script>alert(1)</script>\n")
            answer = await page.get(f"/api/runs/{run}/log/sim-001")
            assert answer.text == "<script>alert(1)</script>\n"
            assert answer.headers["content-type"].startswith("text/plain")
            for client in ("..", "%2e%2e", "nobody", "sim-001%2f..", "%00"):
                assert (await page.raw(f"/api/runs/{run}/log/{client}"))[0] == 404
            assert (await page.get(f"/api/runs/{run}/log/nobody", status=404))["code"] == "page.no-log"
            (folder / "client.log").write_bytes(b"x" * 300_000 + b"\xff")
            assert len(log_of(place.workspace, run, "sim-001")) == 256 * 1024

    run_script(script())


# --- downloads ----------------------------------------------------------------------------------------------------


def test_models_curves_and_reports_are_downloaded_byte_by_byte(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            run = await trained(place, session, epochs=2)
            files = {each["path"]: each["bytes"] for each in (await page.get(f"/api/runs/{run}/files"))["files"]}
            assert {"models/final.keras", "summary.json", "job.toml", "events.jsonl"} <= files.keys()
            assert not [name for name in files if "ledger" in name or name.endswith(".block")]
            for name, path in files_of_run(place.workspace, run).items():
                answer = await page.get_bytes(f"/api/runs/{run}/files/{name}")
                assert answer.content == path.read_bytes()
                assert len(answer.content) == files[name]
                assert answer.headers["content-disposition"].startswith("attachment")
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "sandbox" in answer.headers["content-security-policy"]
            answer = await page.get_bytes(f"/api/runs/{run}/curves.csv")
            lines = list(csv.DictReader(io.StringIO(answer.text)))
            summary = summary_of(place.workspace, run)
            for client in summary.clients:
                values = [
                    float(line["value"])
                    for line in lines
                    if (line["client"], line["metric"], line["part"]) == (client.name, "loss", "training")
                ]
                assert values == client.history["loss"], "with all their digits"

    run_script(script())


@pytest.mark.parametrize(
    "path",
    [
        "../summary.json",
        "%2e%2e/summary.json",
        "..%2fsummary.json",
        "%2e%2e%2f%2e%2e%2fsecret.txt",
        "..\\summary.json",
        "%5c..%5csecret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "C:%5cWindows%5cwin.ini",
        "summary.json%00",
        "%00",
        "summary.json%00.png",
        "./summary.json",
        "clients/../summary.json",
        "models/../../../../secret.txt",
        "models/%2e%2e/net.keras",
        "models",
        "models/",
        "",
        "ledger.sqlite",
        "ledger.sqlite-wal",
        "link.txt",
        "linked/secret.txt",
        ".hidden.txt",
        "SUMMARY.JSON",
        "~/secret.txt",
        "secret.txt",
        "%ff%fe",
        "summary.json/..",
        "..%252fsummary.json",
        "﹒﹒/summary.json",
    ],
)
def test_path_tricks_get_nothing(place: Place, path: str) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            run = await trained(place, session)
            folder = place.workspace.run_folder(run)
            secret = place.workspace.root / "secret.txt"
            secret.write_text("secret")
            (folder / ".hidden.txt").write_text("secret")
            (folder / "link.txt").symlink_to(secret)
            (folder / "linked").symlink_to(place.workspace.root)
            status, content = await page.raw(f"/api/runs/{run}/files/{path}")
            assert status in ((404, 307) if path in ("", "models/") else (404,)), content
            assert b"secret" not in content.replace(b"secret.txt", b"")

    run_script(script())


@pytest.mark.parametrize("name", ["..", "%2e%2e", ".", "trained", "other%2f..", "%00", "..%2flogs", "a" * 5000, "link"])
def test_names_that_are_no_runs_get_nothing(place: Place, name: str) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            run = await trained(place, session)
            (place.workspace.logs / "trained").mkdir()
            (place.workspace.logs / "trained" / "notes.txt").write_text("of clients here")
            (place.workspace.logs / "link").symlink_to(place.workspace.run_folder(run))
            assert names_of_runs(place.workspace) == [run]
            for rest in ("", "/files", "/files/summary.json", "/curves.csv", "/log/sim-001"):
                assert (await page.raw(f"/api/runs/{name}{rest}"))[0] == 404
            for what in ("delete", "resume"):
                body = json.dumps({"confirm": name}).encode()
                assert (await page.raw(f"/api/runs/{name}/{what}", "POST", body))[0] == 404
            assert place.workspace.run_folder(run).is_dir()

    run_script(script())


def test_a_file_of_another_run_is_not_given_out_under_the_name_of_this_one(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            first, second = await trained(place, session), await trained(place, session)
            (place.workspace.run_folder(second) / "own.txt").write_text("of the second")
            answer = await page.get(f"/api/runs/{first}/files/own.txt", status=404)
            assert answer["code"] == "page.no-file"
            assert (await page.get(f"/api/runs/{first}x/files", status=404))["code"] == "page.run-gone"
            assert (await page.get_bytes(f"/api/runs/{second}/files/own.txt")).text == "of the second"

    run_script(script())


# --- deleting and resuming ----------------------------------------------------------------------------------------


def test_a_run_is_deleted_with_its_models_if_that_is_confirmed_and_never_one_in_progress(place: Place) -> None:
    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session, page_of(place, session) as page:
            run, other = await trained(place, session), await trained(place, session)
            for body in ({}, {"confirm": other}, {"confirm": True}, {"confirm": [run]}):
                answer = await page.post(f"/api/runs/{run}/delete", body, status=422)
                assert answer["code"] == "page.not-confirmed"
            handle = await session.submit(place.request(channel=rounds, method="federated", rounds=2))
            await rounds.next()
            answer = await page.post(f"/api/runs/{handle.run}/delete", {"confirm": handle.run}, status=422)
            assert answer["code"] == "page.run-goes-on"
            await page.post(f"/api/runs/{run}/delete", {"confirm": run})
            assert not place.workspace.run_folder(run).exists()
            assert not place.workspace.collected(run).exists()
            assert place.workspace.run_folder(other).exists()
            assert place.workspace.collected(other).exists()
            held = FolderLock.take(lock_of(place.workspace, other))
            assert held is not None
            answer = await page.post(f"/api/runs/{other}/delete", {"confirm": other}, status=422)
            assert answer["code"] == "page.run-goes-on", "another process works on it"
            held.remove()
            rounds.close()
            assert (await handle.ended()).status == "done"

    run_script(script())


def test_an_interrupted_run_is_resumed_once_and_a_finished_one_is_not(place: Place) -> None:
    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session, page_of(place, session) as page:
            handle = await session.submit(place.request(channel=rounds, method="federated", rounds=3))
            await rounds.next()
            session.interrupt(handle)
            rounds.close()
            run = (await handle.ended()).run
            [entry] = (await page.get("/api/runs"))["runs"]
            assert (entry["status"], entry["resumable"]) == ("interrupted", True)
            answer = await page.post(f"/api/runs/{run}/resume")
            assert answer["position"] == 0
            again = await page.post(f"/api/runs/{run}/resume", status=422)
            assert again["code"] == "page.nothing-to-resume"
            deleting = await page.post(f"/api/runs/{run}/delete", {"confirm": run}, status=422)
            assert deleting["code"] == "page.run-goes-on"
            [resumed] = [each for each in (session.current, *session.queue()) if each is not None]
            summary = await resumed.ended()
            assert (summary.run, summary.status, len(summary.rounds)) == (run, "done", 3)
            done = await page.post(f"/api/runs/{run}/resume", status=422)
            assert done["code"] == "page.nothing-to-resume"

    run_script(script())


# --- comparing ----------------------------------------------------------------------------------------------------


def test_metrics_of_the_page_are_those_of_the_summary_and_of_scikit_learn(place: Place) -> None:
    """On stored predictions."""
    dice = np.random.RandomState(3)
    true, outputs = dice.randint(0, 7, 500), dice.rand(500, 7).astype(np.float32)
    predicted = outputs.argmax(axis=1)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        true, predicted, average="macro", zero_division=0
    )
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(true, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "loss": 1.2345678901234567,
    }
    own = {**classification_metrics(Target.CLASSES, true, outputs), "loss": expected["loss"]}

    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            run = await trained(place, session)
            path = place.workspace.run_folder(run) / "summary.json"
            text = json.loads(path.read_text())
            text["final"]["metrics"] = own
            path.write_text(json.dumps(text))
            answers = [
                (await page.get(f"/api/compare?runs={run}"))["runs"][0]["metrics"],
                (await page.get("/api/runs"))["runs"][0]["metrics"],
                (await page.get(f"/api/runs/{run}"))["run"]["metrics"],
            ]
            assert list(answers[0]) == ["accuracy", "precision", "recall", "f1", "loss"]
            for answer in answers:
                assert answer == own, "not rounded"
                for name, value in expected.items():
                    assert abs(answer[name] - value) <= 1e-9

    run_script(script())


def test_runs_are_side_by_side_with_their_differences(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            runs = [await trained(place, session, epochs=1 + number, seed=number) for number in range(3)]
            found = await page.get(f"/api/compare?runs={','.join(runs)}&baseline={runs[1]}")
            assert found["baseline"] == runs[1]
            assert [each["run"] for each in found["runs"]] == runs
            settings = {each["key"]: each["values"] for each in found["settings"]}
            assert settings == {
                "epochs": dict(zip(runs, (1, 2, 3), strict=True)),
                "seed": dict(zip(runs, (0, 1, 2), strict=True)),
            }
            assert set(found["curves"]) == set(runs)
            summaries = [summary_of(place.workspace, run) for run in runs]
            for each, summary in zip(found["runs"], summaries, strict=True):
                assert each["seconds"] == summary.seconds["total"]
                assert each["bytes"] == sum(one.bytes.received + one.bytes.sent for one in summary.clients)
                assert each["diff"]["seconds"]["percent"] == pytest.approx(
                    100 * (summary.seconds["total"] / summaries[1].seconds["total"] - 1)
                )
            assert (await page.get(f"/api/compare?runs={runs[0]},nothing", status=404))["code"] == "page.run-gone"
            assert (await page.get(f"/api/compare?runs={runs[0]}&baseline=x", status=404))["code"] == "page.run-gone"
            (place.workspace.run_folder(runs[0]) / "summary.json").unlink()
            answer = await page.get(f"/api/compare?runs={runs[0]}", status=422)
            assert answer["code"] == "page.not-comparable"

    run_script(script())


def test_differences_are_in_points_and_per_cent() -> None:
    found = differences(
        {"accuracy": 0.9, "loss": 0.2, "bytes": 5, "f1": float("nan"), "other": 1},
        {"accuracy": 0.8, "loss": 0.4, "bytes": 0},
    )
    assert found["accuracy"]["points"] == pytest.approx(10)
    assert found["accuracy"]["percent"] == pytest.approx(12.5)
    assert (found["loss"]["points"], found["loss"]["percent"]) == (None, pytest.approx(-50))
    assert found["bytes"]["percent"] is None
    assert found.keys() == {"accuracy", "loss", "bytes"}


def test_settings_that_are_the_same_are_left_out() -> None:
    jobs = {"a": make_job({**RIGHT, "port": 1}), "b": make_job({**RIGHT, "port": 2})}
    assert different_settings(jobs) == []


# --- against one machine ------------------------------------------------------------------------------------------


def test_a_pair_has_a_verdict_and_each_finds_the_other(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            body = {"values": RIGHT, "also_one_machine": True, "one_machine": "sim-001"}
            await page.post("/api/runs", body)
            handles = [handle for handle in (session.current, *session.queue()) if handle is not None]
            both, alone = [(await handle.ended()).run for handle in handles]
            entries = {each["run"]: each for each in (await page.get("/api/runs"))["runs"]}
            assert (entries[both]["one_machine"], entries[alone]["one_machine"]) == (alone, None)
            found = {each["run"]: each for each in compare(place.workspace, [both, alone], alone)["runs"]}
            assert found[both]["sentence"].startswith("Distributing ")
            assert found[alone]["sentence"] == ""
            assert compare(place.workspace, [both], both)["runs"][0]["sentence"] == "", "the other is not compared"
            figures = figures_of(summary_of(place.workspace, both))
            assert list(figures)[-2:] == ["seconds", "bytes"]

    run_script(script())


@pytest.mark.parametrize(
    ("distributed", "alone", "sentence"),
    [
        (
            Times(50, 30, 5),
            Times(100, 95, 1),
            "Distributing paid: it was 2.00 times as fast, because the slowest of 4 clients computed for 30 s instead "
            "of 95 s on one machine, and moving models and data took 5.0 s.",
        ),
        (
            Times(100, 30, 60),
            Times(50, 45, 1),
            "Distributing did not pay: it took 2.00 times as long; it saved 15 s of computing, but moving models and "
            "data took 60 s.",
        ),
        (
            Times(100, 30, 2),
            Times(50, 45, 1),
            "Distributing did not pay: it took 2.00 times as long; it saved 15 s of computing, but moving models and "
            "data took 2.0 s, and waiting and the server 68 s.",
        ),
        (
            Times(100, 90, 2),
            Times(50, 45, 1),
            "Distributing did not pay: it took 2.00 times as long; the slowest of 4 clients computed for 90 s instead "
            "of 45 s on one machine: there was no computing to save.",
        ),
        (
            Times(50, 30, 0.05),
            Times(50, 45, 0),
            "Distributing made no difference in time: the slowest of 4 clients computed for 30 s instead of 45 s on "
            "one machine, but moving models and data took 0.05 s, and waiting and the server 20 s.",
        ),
    ],
)
def test_one_sentence_says_whether_distributing_paid_and_why(distributed: Times, alone: Times, sentence: str) -> None:
    assert verdict(4, distributed, alone) == sentence


def test_a_workspace_without_runs_has_none(tmp_path: Path) -> None:
    assert list_runs(Workspace(tmp_path), set()) == []
    assert curves_of_run(Workspace(tmp_path), "x") == "client,fold,metric,part,per,x,value\n"
