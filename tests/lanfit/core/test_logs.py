"""What is written for people: nothing in it steers a terminal or a spreadsheet."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.core.logs import HistoryFile, append_log, csv_line, sanitize_cell
from lanfit.core.text import sanitize


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", "\n=1+1", "＝1+1"])
def test_text_that_a_spreadsheet_takes_for_a_formula_gets_a_quote_in_front(text: str) -> None:
    assert sanitize_cell(text) == "'" + text


def test_a_return_before_a_formula_is_no_way_around_it() -> None:
    assert sanitize_cell("\r=1+1") == "'\ufffd=1+1"


@pytest.mark.parametrize("text", ["cat", "a=b", "3-4", "", "naïve – 猫", "'quoted'", " =1"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert sanitize_cell(text) == text


@given(st.text(st.characters()))
def test_text_of_a_cell_can_be_written_as_utf_8_and_has_no_control_characters(text: str) -> None:
    cleaned = sanitize_cell(text)
    cleaned.encode("utf-8")
    assert not any(ord(letter) < 32 and letter not in "\t\n" for letter in cleaned)
    assert not cleaned.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_half_of_a_surrogate_pair_does_not_break_a_log(tmp_path: Path) -> None:
    append_log(tmp_path / "x.log", ["half \ud800 and \x1b[2J"])
    assert (tmp_path / "x.log").read_text("utf-8").endswith("half \ufffd and \ufffd[2J\n")
    assert sanitize("\uffff") == "\ufffd"


def test_numbers_in_a_csv_line_stay_numbers_and_text_is_harmless() -> None:
    [cells] = csv.reader(io.StringIO(csv_line([-1.5, "-1.5", "a,b", "=cmd|' /C calc'!A0", 3])))
    assert cells == ["-1.5", "'-1.5", "a,b", "'=cmd|' /C calc'!A0", "3"]


def test_a_metric_named_like_a_formula_is_harmless_in_a_history(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "history.csv")
    file.add(0, {"loss": -0.5, "=evil": 1.0})
    assert (tmp_path / "history.csv").read_text("utf-8") == "epoch,'=evil,loss\n0,1.0,-0.5\n"


def test_any_name_of_a_metric_has_a_column_of_its_own_over_all_rounds(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    for number in (1, 2):
        HistoryFile(path, number).add(0, {"round": 0.5, "epoch": 0.25, "=evil": number, "cross entropy": 2.0})
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    names = ["epoch", "round", "metric epoch", "metric round", "'=evil", "cross entropy"]
    assert [[line[name] for name in names] for line in lines] == [
        ["0", "1", "0.25", "0.5", "1", "2.0"],
        ["1", "2", "0.25", "0.5", "2", "2.0"],
    ]


def test_a_history_continues_over_the_rounds_whoever_writes_it_and_however_often(tmp_path: Path) -> None:
    """A client that is started again, joins late, or trains a round a second time."""
    path = tmp_path / "history.csv"
    for number, epochs in ((3, 2), (4, 1), (4, 2), (6, 1)):
        history = HistoryFile(path, number)
        for epoch in range(epochs):
            history.add(epoch, {"val_loss": 0.5, "loss": number + epoch / 10})
    lines = ["0,3.0,3,0.5", "1,3.1,3,0.5", "2,4.0,4,0.5", "3,4.1,4,0.5", "4,6.0,6,0.5"]
    assert path.read_text() == "\n".join(["epoch,loss,round,val_loss", *lines, ""])
    with path.open("a") as file:
        file.write("5,6.")  # what a crash leaves
    HistoryFile(path, 7).add(0, {"val_loss": 0.5, "loss": 7.0})
    assert path.read_text() == "\n".join(["epoch,loss,round,val_loss", *lines, "5,7.0,7,0.5", ""])


@pytest.mark.parametrize("content", ["", "epoch,loss\n0,1.0\n", "epoch,round\n0,x\n", "epoch,loss,round\n0\n"])
def test_a_file_that_is_no_history_over_rounds_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(content)
    HistoryFile(path, 1).add(0, {"loss": 1.0})
    assert path.read_text() == "epoch,loss,round\n0,1.0,1\n"


def test_an_epoch_that_is_reported_again_stands_in_the_history_once(tmp_path: Path) -> None:
    """A trainer that was killed repeats an epoch; a result's whole history may come before the last of its epochs."""
    history = HistoryFile(tmp_path / "history.csv")
    for epoch in (0, 1, 0, 1, 2):
        history.add(epoch, {"loss": 0.5})
    assert (tmp_path / "history.csv").read_text() == "epoch,loss\n0,0.5\n1,0.5\n2,0.5\n"
    history.write({"loss": [1.0, 2.0]})
    history.add(1, {"loss": 2.0})
    assert (tmp_path / "history.csv").read_text() == "epoch,loss\n0,1.0\n1,2.0\n"
