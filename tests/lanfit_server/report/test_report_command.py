"""`lanfit report`: the page of a run is made again from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_workbook import summary

from lanfit.core.workspace import Workspace
from lanfit.errors import InputError
from lanfit_server.cli import report
from lanfit_server.run.resume import run_with_summary


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "logs" / "20260101-120000"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_bytes(summary().to_json())
    return tmp_path


def test_the_report_of_a_run_is_made_again_and_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    found = CliRunner().invoke(report, ["20260101-120000", "--open", "--workspace", str(place)])
    path = place / "logs" / "20260101-120000" / "report.html"
    assert found.exit_code == 0, found.output
    assert "Run 20260101-120000" in path.read_text("utf-8")
    assert opened == [path.resolve().as_uri()]
    assert json.loads(path.with_name("summary.json").read_text())["run"] == "20260101-120000"


@pytest.mark.parametrize("run", ["yesterday", "..", "../logs/20260101-120000", ""])
def test_a_run_that_is_not_there_is_named(place: Path, run: str) -> None:
    with pytest.raises(InputError) as wrong:
        run_with_summary(Workspace(place), run)
    assert wrong.value.code == "report.no-run"
    assert "20260101-120000" in wrong.value.message
    assert CliRunner().invoke(report, [run, "--workspace", str(place)]).exit_code == 2
    assert not (place / "report.html").exists()
