"""A run that is set up over HTTP: a real server, its model process, clients on this machine, and plain Keras."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics
from fakes.pages import Browser
from running import Program, plain_keras

from lanfit.core.workspace import Workspace

pytestmark = pytest.mark.story


class Teacher:
    """The page as scripts use it."""

    def __init__(self, server: Program) -> None:
        link = server.expect(r"(http://127\.0\.0\.1:(\d+)/\?token=\S+)")
        self.browser = Browser(int(link[2]))
        self.browser.open(link[1])

    def get(self, path: str) -> Any:
        answer = self.browser.get(path)
        assert answer.status == 200, answer.body
        return answer.json

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.browser.post(path, body)
        assert answer.status == 200, answer.body
        return answer.json

    def runs(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many runs are done; return them, the newest first."""
        while True:
            found: list[dict[str, Any]] = self.get("/api/runs")["runs"]
            if len([run for run in found if run["status"] == "done"]) == count:
                return found
            run = self.get("/api/state")["run"]
            assert not run or not run["error"], run["error"]
            threading.Event().wait(0.1)


def test_a_model_is_built_trained_by_two_clients_and_by_one_compared_downloaded_and_loaded(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for folder in (workspace.models, workspace.dataset):
        folder.mkdir()
    arguments = ("--host", "127.0.0.1", "--port", "0", "--yes", "--dashboard-port", "0", "--workspace", tmp_path)
    with Program("dashboard", *arguments, folder=tmp_path) as server:
        page = Teacher(server)
        form = page.get("/api/form")
        assert form["models"] == []
        data = {"data": "digits", "optimizer": "adam", "learning_rate": 0.01}
        built = page.post("/api/models", {"kind": "mlp", "fields": {"hidden": "16"}, "values": data})
        assert built == {"file": "mlp-16.keras", "parameters": 64 * 16 + 16 + 16 * 10 + 10}
        values = {**data, "model": built["file"], "clients": 2, "local": 2, "epochs": 2, "normalizer": "minmax"}
        wrong = page.post("/api/check", {"values": {**values, "loss": "binary_crossentropyy"}})["fields"]
        assert wrong["loss"]["code"] == "compile.unknown-name"
        assert page.post("/api/check", {"values": values}) == {"fields": {}}
        page.post("/api/runs", {"values": values, "also_one_machine": True, "one_machine": "here"})
        alone, both = page.runs(2)
        assert both["one_machine"] == alone["run"]
        assert (both["clients"], alone["clients"]) == (2, 1)
        found = page.get(f"/api/compare?runs={both['run']},{alone['run']}&baseline={alone['run']}")
        assert found["runs"][0]["sentence"].startswith("Distributing ")
        assert {each["key"] for each in found["settings"]} >= {"clients", "local"}
        for each in found["runs"]:
            summary = json.loads((workspace.run_folder(each["run"]) / "summary.json").read_text())
            assert each["metrics"] == summary["final"]["metrics"], "the numbers of the page are those of the summary"
            assert_as_scikit_learn(page, each)
        texts = [(workspace.run_folder(run["run"]) / "summary.json").read_text() for run in (both, alone)]
        rows = [json.loads(text)["data"] for text in texts]
        assert rows[0] == rows[1], "the same rows, of which the same are test rows"
        model = page.browser.get(f"/api/runs/{both['run']}/files/models/final.keras")
        (tmp_path / "downloaded.keras").write_bytes(model.body)
        code = "print(keras.models.load_model(sys.argv[1]).output_shape)"
        assert "(None, 10)" in plain_keras(code, tmp_path / "downloaded.keras")


def test_a_run_whose_server_was_killed_is_resumed_from_the_page_of_the_next_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for folder in (workspace.models, workspace.dataset):
        folder.mkdir()
    arguments = ("--host", "127.0.0.1", "--port", "0", "--yes", "--dashboard-port", "0", "--workspace", tmp_path)
    data = {"data": "digits", "optimizer": "sgd"}
    with Program("dashboard", *arguments, folder=tmp_path) as server:
        page = Teacher(server)
        page.post("/api/models", {"kind": "mlp", "fields": {"hidden": "8", "name": "mine"}, "values": data})
        values = {**data, "model": "mine.keras", "clients": 2, "local": 2, "epochs": 1}
        page.post("/api/runs", {"values": {**values, "method": "federated", "rounds": 40}})
        while ((page.get("/api/state")["run"] or {}).get("round") or 0) < 2:
            threading.Event().wait(0.05)
        run = page.get("/api/state")["run"]["run"]
        server.kill()
    with Program("dashboard", *arguments, folder=tmp_path) as server:
        page = Teacher(server)
        [entry] = page.get("/api/runs")["runs"]
        assert (entry["run"], entry["status"], entry["resumable"]) == (run, "unfinished", True)
        assert page.post(f"/api/runs/{run}/resume")["position"] == 0
        [done] = page.runs(1)
        assert done["run"] == run
        view = page.get(f"/api/runs/{run}")
        assert len(view["series"]["|0|loss|test|round"]["points"]) == 40
        answer = page.browser.post(f"/api/runs/{run}/delete", {"confirm": run})
        assert answer.status == 200, answer.body
        assert page.get("/api/runs")["runs"] == []
        assert not workspace.run_folder(run).exists()
        assert not workspace.collected(run).exists()


def assert_as_scikit_learn(page: Teacher, run: dict[str, Any]) -> None:
    """The metrics on the page are those of scikit-learn on the predictions that are stored."""
    answer = page.browser.get(f"/api/runs/{run['run']}/files/predictions.csv")
    lines = list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"))))
    assert len(lines) > 100
    true, predicted = ([line[f"{what} class"] for line in lines] for what in ("true", "predicted"))
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        true, predicted, average="macro", zero_division=0
    )
    accuracy = sklearn.metrics.accuracy_score(true, predicted)
    for name, value in {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}.items():
        assert abs(run["metrics"][name] - value) <= 1e-9, name
