"""All reports of a run: each is written by itself, and one that fails is told."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from sklearn.metrics import accuracy_score
from test_workbook import client, summary

from lanfit.data.labels import Target
from lanfit.errors import InputError
from lanfit_server.report import reports
from lanfit_server.report.predictions import Predictions
from lanfit_server.report.reports import write_reports

Y = np.arange(6_000) % 3
OUTPUTS = np.random.default_rng(0).dirichlet(np.ones(3), len(Y)).astype(np.float32)
PREDICTED = Predictions(Target.CLASSES, Y, OUTPUTS, ("=a", "b", "c"))


def lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_run_has_a_workbook_a_chart_and_all_its_predictions(tmp_path: Path) -> None:
    assert write_reports(tmp_path, summary(), lambda: {"output": PREDICTED}) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "history.png",
        "predictions.csv",
        "report.html",
        "report.xlsx",
    ]
    heads, *rows = lines(tmp_path / "predictions.csv")
    assert heads[:4] == ["row", "true class", "predicted class", "probability of =a"]
    assert (np.array([row[3:] for row in rows], np.float32) == OUTPUTS).all()
    names = np.array(["'=a", "b", "c"])
    assert [row[1] for row in rows] == names[Y].tolist(), "no label is a formula"
    right = accuracy_score([row[1] for row in rows], [row[2] for row in rows])
    assert right == pytest.approx((OUTPUTS.argmax(1) == Y).mean(), abs=1e-12)


def test_the_sheet_has_the_first_of_the_wrong_rows_of_the_file(tmp_path: Path) -> None:
    write_reports(tmp_path, summary(), lambda: {"output": PREDICTED})
    _, *rows = lines(tmp_path / "predictions.csv")
    sheet = openpyxl.load_workbook(tmp_path / "report.xlsx")["predictions"]
    shown = list(sheet.iter_rows(min_row=2, values_only=True))
    assert len(shown) == 20_000 // 6
    assert all(row[1] != row[2] for row in shown)
    for row in shown:
        assert [str(cell) for cell in row[:3]] == rows[row[0] - 1][:3]
    certain = [max(row[3:]) for row in shown]
    assert certain == sorted(certain, reverse=True)


def test_several_outputs_have_a_file_each(tmp_path: Path) -> None:
    values = Predictions(Target.VALUES, np.array([1.0]), np.array([[-2.5]], np.float32), None)
    write_reports(tmp_path, summary(), lambda: {"digit": PREDICTED, "size": values})
    assert lines(tmp_path / "predictions-2.csv") == [["row", "target", "prediction"], ["1", "1.0", "-2.5"]]
    assert len(lines(tmp_path / "predictions-1.csv")) == 6_001
    found = dict(openpyxl.load_workbook(tmp_path / "report.xlsx")["summary"].iter_rows(max_col=2, values_only=True))
    assert found["all predictions"] == "predictions-1.csv, predictions-2.csv"


def test_without_test_rows_there_are_no_predictions(tmp_path: Path) -> None:
    assert write_reports(tmp_path, summary(), dict) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.png", "report.html", "report.xlsx"]


def test_a_run_without_any_history_has_no_chart(tmp_path: Path) -> None:
    nothing = client("lab-1", history={}, metrics={}, best_epoch=None, model=None, status="interrupted", seconds={})
    assert write_reports(tmp_path, summary(clients=(nothing,), final=None), dict) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.xlsx"]


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [(OSError("No space left on device"), "No space left on device."), (KeyError("a bug"), "KeyError.")],
)
def test_a_report_that_can_not_be_written_is_reported_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Exception, reported: str
) -> None:
    def fails(*what: object) -> None:
        raise wrong

    monkeypatch.setattr(reports, "write_workbook", fails)
    [note] = write_reports(tmp_path, summary(), lambda: {"output": PREDICTED})
    assert note.startswith(f"{tmp_path / 'report.xlsx'} was not written: {reported}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.png", "predictions.csv", "report.html"]


def test_predictions_that_do_not_fit_the_targets_leave_the_other_reports(tmp_path: Path) -> None:
    def fails() -> dict[str, Predictions]:
        raise InputError("targets of another shape", "Look.")

    [note] = write_reports(tmp_path, summary(), fails)
    assert "predictions.csv was not written: targets of another shape" in note
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.png", "report.html", "report.xlsx"]
