"""What `report.html` shows of samples, pairs of runs, the timeline and versions, from the files of a run."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_html import EVIL, Page
from test_workbook import client, summary

from lanfit_server.replay.baseline_runs import partner_of, remark
from lanfit_server.replay.shown_predictions import PredictionsFile
from lanfit_server.report import sections
from lanfit_server.report.html import html_of
from lanfit_server.report.reports import write_reports
from lanfit_server.run import events
from lanfit_server.run.events import RowsPredicted, RowsShown, RunEvent, ShownRow, facts_of
from lanfit_server.store.summary import FinalFacts, Summary

PICTURE = "data:image/png;base64,iVBORw0KGgo="
SHOWN = RowsShown("y", "classes", (8, 8, 1), (ShownRow(4, "cat", PICTURE), ShownRow(9, "dog", PICTURE)), ("cat", "dog"))


def final(name: str | None, model: str = "final.keras", round_: int | None = None) -> Summary:
    return summary(final=FinalFacts(f"model/collected/r/{model}", name, {"loss": 0.5}, round_))


def write_predictions(folder: Path, *seen: RunEvent) -> None:
    file = PredictionsFile(folder)
    for event in seen:
        file.add(event)


def write_events(folder: Path, *seen: tuple[float, RunEvent]) -> None:
    lines = (msgspec.json.encode({"time": at, **facts_of(event)}) + b"\n" for at, event in seen)
    (folder / "events.jsonl").write_bytes(b"".join(lines))


def samples_in(text: str) -> list[tuple[str, str, str]]:
    """Of each row: what is predicted, the probability, and whether that is right."""
    cell = r'"prediction">(.*?)</span> <span class="probability">(.*?)</span>'
    found = re.findall(rf'<li class="sample"(?: data-right="(\w+)")?>.*?{cell}', text)
    return [(unescape(output), more.replace("\N{NO-BREAK SPACE}", " "), right) for right, output, more in found]


# --- samples ------------------------------------------------------------------------------------------------------


def test_samples_are_those_of_the_final_model_in_its_best_epoch(tmp_path: Path) -> None:
    write_predictions(
        tmp_path,
        SHOWN,
        RowsPredicted("lab-1", 1, (0.9, 0.1, 0.25, 0.75)),
        RowsPredicted("lab-1", 2, (0.4, 0.6, 0.8, 0.2)),
        RowsPredicted("lab-1", 1, (0.9, 0.1, 0.25, 0.75), final=True),
        RowsPredicted("lab-2", 2, (0.1, 0.9, 0.9, 0.1)),
    )
    text = html_of(final("lab-1"), tmp_path)
    assert samples_in(text) == [("cat", "90 %", "true"), ("dog", "75 %", "true")]
    assert "predicted by the model of lab-1, epoch 1: 2 of 2 right." in text
    assert samples_in(html_of(final("lab-2"), tmp_path)) == [("dog", "90 %", "false"), ("cat", "90 %", "false")]
    assert [found["src"] for tag, found in Page(text).tags if tag == "img"] == [PICTURE, PICTURE]


def test_the_fold_of_the_final_model_and_the_global_model_are_found(tmp_path: Path) -> None:
    rows = {fold: (0.5 + fold / 10, 0.5 - fold / 10) * 2 for fold in (1, 2, 3)}
    write_predictions(tmp_path, SHOWN, *(RowsPredicted("lab-1", 4, each, fold) for fold, each in rows.items()))
    assert samples_in(sections.samples(final("lab-1", "lab-1-fold-2.keras"), tmp_path))[0][1] == "70 %"
    assert samples_in(sections.samples(final("lab-1"), tmp_path))[0][1] == "60 %"
    write_predictions(tmp_path, RowsPredicted("", 3, (0.99, 0.01) * 2))
    text = sections.samples(final(None, round_=3), tmp_path)
    assert "the global model, round 3: 1 of 2 right" in text
    assert samples_in(text)[0] == ("cat", "99 %", "true")


def test_values_have_no_right_and_wrong(tmp_path: Path) -> None:
    shown = RowsShown("y", "values", (6,), (ShownRow(1, "2.5", "", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)),))
    write_predictions(tmp_path, shown, RowsPredicted("lab-1", 1, (2.123456,)))
    text = sections.samples(final("lab-1"), tmp_path)
    assert samples_in(text) == [("2.12", "", "")]
    assert "<span>4</span>…" in text
    assert "is 2.5" in text


def test_without_predictions_there_are_no_samples(tmp_path: Path) -> None:
    assert sections.samples(final("lab-1"), tmp_path) == ""
    write_predictions(tmp_path, SHOWN)
    assert sections.samples(final("lab-1"), tmp_path) == ""
    (tmp_path / "predictions.jsonl").write_bytes(b"{torn")
    assert sections.samples(final("lab-1"), tmp_path) == ""


@pytest.mark.parametrize("picture", ["https://10.0.0.1/x.png", 'data:image/png;base64,AA" onerror="alert(1)', EVIL])
def test_no_name_and_no_picture_is_markup(tmp_path: Path, picture: str) -> None:
    shown = RowsShown("y", "classes", (8, 8, 1), (ShownRow(1, EVIL, picture, (1.0,)),), (EVIL, "b"))
    write_predictions(tmp_path, shown, RowsPredicted(EVIL, 1, (0.1, 0.9)))
    write_events(
        tmp_path,
        (0.0, events.RunBegan("r", versions={EVIL: EVIL})),
        (1.0, events.ClientJoined(EVIL, "10.0.0.7", EVIL)),
        (2.0, events.TaskLeased("shard-1", EVIL, 1, EVIL)),
        (4.0, events.ResultCommitted("shard-1", EVIL, 0.5, EVIL, spent={"train": 1.0})),
    )
    page = Page(html_of(final(EVIL), tmp_path))
    assert page.text.count("alert(1)") > 3
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "link", "a", "object"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


# --- pairs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a run on all clients and of the one on one machine."""
    both = summary(run="both", seconds={"total": 10.0})
    alone = summary(run="alone", seconds={"total": 25.0}, clients=(client("lab-1"),), final=None)
    found = []
    for made, text in ((both, remark("0a1b2c3d")), (alone, remark("0a1b2c3d", alone=True))):
        folder = tmp_path / made.run
        folder.mkdir()
        (folder / "job.toml").write_text(text + "epochs = 2\n")
        (folder / "summary.json").write_bytes(made.to_json())
        found.append(folder)
    (tmp_path / "another").mkdir()
    return found[0], found[1]


def test_both_reports_of_a_pair_compare_it_as_soon_as_both_runs_have_ended(pair: tuple[Path, Path]) -> None:
    both, alone = pair
    made = {folder: summary_in(folder) for folder in pair}
    (alone / "summary.json").rename(alone / "later")
    assert write_reports(both, made[both], dict) == []
    assert "one machine" not in (both / "report.html").read_text("utf-8")
    (alone / "later").rename(alone / "summary.json")
    assert write_reports(alone, made[alone], dict) == []
    for folder in pair:
        text = (folder / "report.html").read_text("utf-8")
        assert f"<h1>Run {folder.name}</h1>" in text
        table = text[text.index("Distributed against one machine") :]
        assert "Distributing paid: it was 2.50 times as fast" in table
        assert "both, all clients" in table
        seconds = re.search(r"<td>seconds</td>(.*?)</tr>", table)
        assert seconds
        assert re.findall(r'value="([\d.]+)"', seconds[1]) == ["10.0", "25.0"]
        assert "-60.0\N{NO-BREAK SPACE}%" in seconds[1]


def summary_in(folder: Path) -> Summary:
    return sections.read_summary((folder / "summary.json").read_bytes())


def test_a_partner_that_is_damaged_or_gone_is_left_out(pair: tuple[Path, Path]) -> None:
    both, alone = pair
    made = summary_in(both)
    assert sections.comparison(made, both) != ""
    for content in (b"", b"{}", b"\xff", b"[" * 100_000):
        (alone / "summary.json").write_bytes(content)
        assert sections.comparison(made, both) == ""
    (alone / "summary.json").unlink()
    assert partner_of(both) is None
    assert sections.comparison(made, both) == ""


# --- timeline and versions ----------------------------------------------------------------------------------------


def timed(*clients: str) -> list[tuple[float, RunEvent]]:
    spent: dict[str, float] = {"receive": 1.0, "train": 2.0}
    found: list[tuple[float, RunEvent]] = [(100.0, events.RunBegan("r"))]
    for name in clients:
        found += [
            (100.0, events.ClientJoined(name, "10.0.0.7", "jax")),
            (101.0, events.TaskLeased(name, name, 1, name)),
        ]
    for number, name in enumerate(clients):
        found.append((105.0 + number, events.ResultCommitted(name, name, 0.5, name, spent=spent)))
    return [*found, (110.0, events.RunEnded("done"))]


def rects(text: str) -> list[dict[str, Any]]:
    return [found for tag, found in Page(text).tags if tag == "rect" and "x" in found]


def test_the_timeline_has_a_lane_for_each_client_and_ends_with_the_run(tmp_path: Path) -> None:
    write_events(tmp_path, *timed("lab-10", "lab-2"))
    text = sections.timeline(tmp_path)
    assert text.index(">lab-2</text>") < text.index(">lab-10</text>"), "in natural order"
    found = rects(text)
    assert {each["class"] for each in found} >= {"span-wait", "span-receive", "span-train", "span-send"}
    assert max(float(each["x"]) + float(each["width"]) for each in found) == pytest.approx(950, abs=0.2)
    [train] = [each for each in found if each["class"] == "span-train" and float(each["y"]) < 22]
    assert float(train["width"]) == pytest.approx(820 * 2 / 10, abs=0.2)
    assert ">10 s</text>" in text


def test_of_very_many_spans_the_longest_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_events(tmp_path, *timed("lab-1", "lab-2"))
    everything = rects(sections.timeline(tmp_path))
    monkeypatch.setattr(sections, "MOST_DRAWN", 3)
    text = sections.timeline(tmp_path)
    widest = sorted(everything, key=lambda each: -float(each["width"]))[:3]
    assert [each["width"] for each in rects(text)] == [each["width"] for each in widest]
    assert f"The longest 3 of {len(everything)} spans are drawn." in text


def test_without_events_there_is_neither_timeline_nor_version(tmp_path: Path) -> None:
    assert (sections.timeline(tmp_path), sections.versions(tmp_path)) == ("", "")


def test_versions_are_those_with_which_the_run_began_last(tmp_path: Path) -> None:
    write_events(
        tmp_path,
        (1.0, events.RunBegan("r", versions={"lanfit": "1.0", "keras": "3.15.1"})),
        (2.0, events.RunBegan("r", resumed=True, versions={"lanfit": "1.1", "keras": "3.15.1"})),
    )
    assert sections.versions_of_run(tmp_path) == {"lanfit": "1.1", "keras": "3.15.1"}
    assert "<td>1.1</td>" in sections.versions(tmp_path)
