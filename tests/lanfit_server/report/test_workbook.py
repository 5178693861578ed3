"""The workbook, read back with two libraries that are not used together: openpyxl and calamine."""

from __future__ import annotations

import errno
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from python_calamine import CalamineWorkbook

from lanfit.data.labels import Target
from lanfit.errors import InputError
from lanfit_server.report import workbook
from lanfit_server.report.predictions import Predictions
from lanfit_server.store.summary import (
    SECONDS,
    Bytes,
    ClientFacts,
    DataFacts,
    FinalFacts,
    FoldFacts,
    MergedFacts,
    ModelFacts,
    RoundFacts,
    Summary,
)

HISTORY = {"loss": [2.0, 1.25], "accuracy": [0.5, 0.75], "val_loss": [2.25, float("nan")]}


def write_report(path: Path, made: Summary, predictions: Predictions | None) -> None:
    """The report of a model of one output."""
    workbook.write_workbook(path, made, {} if predictions is None else {"output": predictions})


def client(name: str, **changes: Any) -> ClientFacts:
    fields: dict[str, Any] = {
        "name": name, "backend": "tensorflow", "device": "cpu", "threads": 2, "samples": 718, "tasks": 1,
        "status": "done", "model": f"model/collected/r/{name}.h5", "history": HISTORY, "best_epoch": 1,
        "metrics": {"loss": 0.1709, "accuracy": 0.9389}, "bytes": Bytes(1000, 2000),
        "seconds": {part: number / 8 for number, part in enumerate(SECONDS)},
    }  # fmt: skip
    return ClientFacts(**{**fields, **changes})


def summary(**changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "run": "20260101-120000", "status": "done", "method": "fit", "seed": 7, "metrics_from": "server",
        "model": ModelFacts("model/digits.h5", 23946), "clients": (client("lab-1"), client("lab-2")),
        "data": DataFacts("files", 1797, 1293, 144, 360, "minmax", None),
        "final": FinalFacts("model/collected/r/final.keras", "lab-1", {"loss": 0.1709, "accuracy": 0.9389}),
        "seconds": {"total": 10.25, "train": 1.5},
    }  # fmt: skip
    return Summary(**{**fields, **changes})


def round_facts(number: int = 1, **changes: Any) -> RoundFacts:
    fields: dict[str, Any] = {
        "round": number, "clients": ("a", "b"), "seconds": 1.0, "overhead_seconds": 0.1, "metrics": {}, "model": None,
        "training": {}, "validation": {}, "drift": {}, "left_out": {}, "parts": {},
    }  # fmt: skip
    return RoundFacts(**{**fields, **changes})


def fold(number: int, **scores: float) -> FoldFacts:
    return FoldFacts(number, f"lab-1-fold-{number}.h5", {"loss": [float(number)]}, 0, scores, {"loss": number / 4})


def rows(path: Path, sheet: str) -> list[list[Any]]:
    """A sheet without its empty ends, as openpyxl reads it."""
    found = [list(row) for row in openpyxl.load_workbook(path)[sheet].iter_rows(values_only=True)]
    return [row[: max((place for place, cell in enumerate(row, 1) if cell is not None), default=0)] for row in found]


def section(path: Path, title: str) -> list[dict[str, Any]]:
    """A table of the summary sheet: its lines by their heads."""
    lines = rows(path, "summary")
    heads, *rest = lines[lines.index([title]) + 1 :]
    end = rest.index([]) if [] in rest else len(rest)
    return [dict(zip(heads, [*line, *[None] * len(heads)], strict=False)) for line in rest[:end]]


def facts(path: Path) -> dict[str, Any]:
    lines = rows(path, "summary")
    return dict(lines[1 : lines.index([])])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.xlsx"


def test_the_facts_of_the_run_are_there_and_numbers_are_numbers(path: Path) -> None:
    write_report(path, summary(), None)
    found = facts(path)
    assert found["run"] == "20260101-120000"
    assert found["seed"] == 7
    assert found["parameters"] == 23946
    assert [found[name] for name in ("rows", "training rows", "validation rows", "test rows")] == [1797, 1293, 144, 360]
    assert found["seconds, total"] == 10.25
    assert found["metrics measured on"] == "the server's test rows"
    assert "why" not in found
    assert "labels" not in found
    assert rows(path, "summary")[0] == ["Run"]


def test_rounds_tell_what_clients_trained_from_what_they_validated(path: Path) -> None:
    one = round_facts(training={"loss": 0.8, "val_loss": 0.9}, metrics={"loss": 0.7})
    write_report(path, summary(rounds=(one,)), None)
    heads, line, *_ = rows(path, "rounds")
    assert heads[:4] == ["round", "loss", "loss, in training", "loss, clients' validation"]
    assert line[:4] == [1, 0.7, 0.8, 0.9]


def test_a_run_that_failed_says_why(path: Path) -> None:
    broken = client(
        "lab-2", status="failed", errors=("out of memory", "again"), metrics={}, model=None, best_epoch=None
    )
    write_report(path, summary(status="failed", error="again", final=None, clients=(client("lab-1"), broken)), None)
    assert facts(path)["why"] == "again"
    assert section(path, "Clients")[1]["errors"] == "out of memory; again"
    assert section(path, "Clients")[1]["loss"] is None
    assert ["Models"] not in rows(path, "summary")


def test_each_client_has_one_line_with_what_the_summary_says(path: Path) -> None:
    made = summary()
    write_report(path, made, None)
    lines = section(path, "Clients")
    for line, facts_ in zip(lines, made.clients, strict=True):
        assert line["client"] == facts_.name
        assert line["rows"] == facts_.samples
        assert {name: line[name] for name in facts_.metrics} == facts_.metrics
        assert {part: line[f"seconds, {part}"] for part in SECONDS} == facts_.seconds
        assert (line["bytes received"], line["bytes sent"]) == (1000, 2000)
        assert line["best epoch"] == 2, "counted from 1"
        assert line["model"] == facts_.model


def test_folds_have_their_metrics_and_below_them_mean_and_deviation(path: Path) -> None:
    folds = (fold(1, loss=0.5, accuracy=0.75), fold(2, loss=0.25, accuracy=1.0))
    first = client("lab-1", folds=folds, mean={"loss": 0.375, "accuracy": 0.875}, sd={"loss": 0.125, "accuracy": 0.1})
    write_report(path, summary(clients=(first, client("lab-2")), method="kfold"), None)
    lines = section(path, "Folds")
    assert [line["fold"] for line in lines] == [1, 2, "mean", "sd"]
    assert [line["loss, held-out rows"] for line in lines] == [0.5, 0.25, 0.375, 0.125]
    assert [line["accuracy, held-out rows"] for line in lines] == [0.75, 1, 0.875, 0.1]
    assert [line["loss, test rows"] for line in lines] == [0.25, 0.5, None, None]
    assert lines[0]["model"] == "lab-1-fold-1.h5"
    histories = rows(path, "histories")
    assert histories[1:3] == [["lab-1", 1, 1, 1], ["lab-1", 2, 1, 2]]
    assert histories[3][:3] == ["lab-2", None, 1]


def test_without_folds_there_is_no_part_for_them(path: Path) -> None:
    write_report(path, summary(), None)
    assert ["Folds"] not in rows(path, "summary")


def test_the_final_and_the_merged_models_stand_together(path: Path) -> None:
    merged = (MergedFacts("average", "average.h5", {"loss": 2.0}), MergedFacts("ensemble", "e.keras", {"loss": 0.125}))
    write_report(path, summary(merged=merged), None)
    lines = section(path, "Models")
    assert [line["model"] for line in lines] == ["final", "average", "ensemble"]
    assert [line["loss"] for line in lines] == [0.1709, 2.0, 0.125]
    assert [line["accuracy"] for line in lines] == [0.9389, None, None]
    assert "lab-1" in lines[0]["made of"]


def test_histories_have_one_line_an_epoch_from_one(path: Path) -> None:
    write_report(path, summary(), None)
    heads, *lines = rows(path, "histories")
    assert heads == ["client", "fold", "epoch", "loss", "accuracy", "val_loss"]
    assert lines[0] == ["lab-1", None, 1, 2, 0.5, 2.25]
    assert lines[1] == ["lab-1", None, 2, 1.25, 0.75, "nan"], "Excel has no NaN: it is said as text"
    assert [line[0] for line in lines] == ["lab-1", "lab-1", "lab-2", "lab-2"]


def test_predictions_come_back_as_the_numbers_they_were_in_both_libraries(path: Path) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    y = rng.integers(0, 4, 300)
    write_report(path, summary(), Predictions(Target.CLASSES, y, outputs, ("a", "b", "c", "d")))
    heads, *lines = rows(path, "predictions")
    assert heads[:4] == ["row", "true class", "predicted class", "probability of a"]
    assert (np.array([line[3:] for line in lines], np.float32) == outputs).all()
    assert [line[1] for line in lines] == ["abcd"[label] for label in y]
    assert [line[2] for line in lines] == ["abcd"[label] for label in outputs.argmax(axis=1)]
    assert all(type(cell) in (int, float) for line in lines for cell in (line[0], *line[3:]))
    calamine = CalamineWorkbook.from_path(path).get_sheet_by_name("predictions").to_python()
    assert [[*line[:3], *map(float, line[3:])] for line in calamine[1:]] == lines


def test_without_predictions_there_is_no_sheet_for_them(path: Path) -> None:
    write_report(path, summary(), None)
    assert openpyxl.load_workbook(path).sheetnames == ["summary", "histories"]


def test_what_is_left_out_of_the_predictions_is_reported_in_the_summary(path: Path) -> None:
    wide = np.zeros((2, 9_000), np.float32)
    write_report(path, summary(), Predictions(Target.VALUES, wide, wide, None))
    assert facts(path)["in predictions"] == "the 1 largest errors of 2 test rows and the first 16,384 of 18,001 columns"
    assert openpyxl.load_workbook(path)["predictions"].max_column == 16_384


def test_of_many_test_rows_the_sheet_has_the_wrong_ones_and_says_where_all_are(path: Path) -> None:
    y = np.arange(4_000) % 4
    outputs = np.eye(4, dtype=np.float32)[y]
    outputs[[7, 3001]] = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.2]]  # rows 8 and 3002 are wrong
    write_report(path, summary(), Predictions(Target.CLASSES, y, outputs, None))
    assert [row[:3] for row in rows(path, "predictions")[1:]] == [[8, 3, 0], [3002, 1, 2]]
    assert facts(path)["in predictions"] == "the 2 wrong predictions of 4,000 test rows"
    assert facts(path)["all predictions"] == "predictions.csv"


def test_a_file_that_can_not_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / f".report.{os.getpid()}.xlsx").mkdir()
    with pytest.raises(OSError):
        write_report(tmp_path / "folder" / "report.xlsx", summary(), None)


EVIL = ('=HYPERLINK("http://x","y")', "+1", "-1", "@x", "\t=1", "\r=1", "#N/A", "\x00\x1b[2J", "\ud800", "\uffff")


def test_a_class_named_like_a_formula_or_an_error_is_text(path: Path) -> None:
    outputs = np.eye(len(EVIL), dtype=np.float32)
    data = DataFacts("files", 1, 1, 0, 0, "none", EVIL)
    write_report(path, summary(data=data), Predictions(Target.CLASSES, np.arange(len(EVIL)), outputs, EVIL))
    book = openpyxl.load_workbook(path)
    for sheet in book:
        for line in sheet.iter_rows():
            for cell in line:
                assert cell.data_type in ("s", "n"), f"{cell.coordinate} is {cell.data_type}: {cell.value!r}"
                if isinstance(cell.value, str):
                    assert not cell.value.startswith(("=", "+", "-", "@", "\t", "\r"))
    named = [row[1] for row in rows(path, "predictions")[1:]]
    assert named == [
        "'" + EVIL[0], "'+1", "'-1", "'@x", "'\t=1", "'\ufffd=1", "#N/A", "\ufffd\ufffd[2J", "\ufffd", "\ufffd"
    ]  # fmt: skip
    assert [line[1] for line in CalamineWorkbook.from_path(path).get_sheet_by_name("predictions").to_python()[1:]]
    with zipfile.ZipFile(path) as archive:
        assert not any(b"<f>" in archive.read(name) for name in archive.namelist() if "sheet" in name)


def test_a_number_below_zero_stays_a_number(path: Path) -> None:
    write_report(path, summary(), Predictions(Target.VALUES, np.array([-1.5]), np.array([[-2.5]], np.float32), None))
    assert rows(path, "predictions")[1] == [1, -1.5, -2.5]


def test_a_name_longer_than_a_cell_holds_is_cut(path: Path) -> None:
    data = DataFacts("files", 1, 1, 0, 0, "none", tuple(f"label {n}" for n in range(9_000)))
    write_report(path, summary(data=data), None)
    assert len(facts(path)["labels"]) == 32_767


def test_heads_are_bold_panes_are_frozen_and_columns_wide_enough(path: Path) -> None:
    values = np.array([[0.5], [1e-7]], np.float32)
    write_report(path, summary(), Predictions(Target.VALUES, np.array([3, 4]), values, None))
    book = openpyxl.load_workbook(path)
    assert [sheet.freeze_panes for sheet in book] == ["B1", "D2", "B2"]
    for name in ("histories", "predictions"):
        assert all(cell.font.bold for cell in next(book[name].iter_rows(max_row=1)))
        assert not book[name]["A2"].font.bold
        assert book[name].column_dimensions["A"].width >= 20
    formats = [book["predictions"][place].number_format for place in ("B2", "C2", "C3")]
    assert formats == ["General", "0.0000", "0.00E+00"]


def test_an_interrupted_run_without_any_history_has_a_report_too(path: Path) -> None:
    nothing = client("lab-1", history={}, metrics={}, best_epoch=None, model=None, status="interrupted", seconds={})
    write_report(path, summary(clients=(nothing,), final=None, status="interrupted", seconds={}), None)
    assert rows(path, "histories") == [["client", "fold", "epoch"]]
    write_report(path, summary(clients=(), final=None), None)
    assert facts(path)["status"] == "done"


def test_the_workbook_is_written_completely_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(path, summary(), None)
    before = path.read_bytes()
    with pytest.raises(InputError):
        write_report(path, summary(), Predictions(Target.VALUES, np.zeros((5, 3)), np.zeros((5, 2), np.float32), None))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(path, summary(seed=8), None)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_memory_does_not_grow_with_the_rows(path: Path) -> None:
    def peak(count: int) -> int:
        outputs = np.full((count, 2), 0.5, np.float32)
        made = Predictions(Target.CLASSES, np.zeros(count, np.int64), outputs, None)
        tracemalloc.start()
        try:
            write_report(path, summary(), made)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    small, large = peak(1_000), peak(4_000)
    assert large < small + 500_000
