"""Who did what when: spans from what clients measure and from when the server hears of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lanfit_server.replay.timeline import MOST_SPANS, TimelineView, timeline_of_run
from lanfit_server.run import events
from lanfit_server.run.events import RunEvent, facts_of
from lanfit_server.run.journal import Journal
from lanfit_server.ui.dashboard import timeline_view

Span = tuple[str, str, float, float]


def view_of(*reported: tuple[float, RunEvent]) -> TimelineView:
    view = TimelineView()
    for now, event in reported:
        view.update(event, 100.0 + now)
    return view


def spans(view: TimelineView, client: str | None = None) -> list[Span]:
    return [
        (each["client"], each["what"], each["from"], each["to"])
        for each in view.snapshot()
        if client is None or each["client"] == client
    ]


BEGAN = (0.0, events.RunBegan("run-1"))


def joined(at: float, name: str = "lab-1") -> tuple[float, RunEvent]:
    return at, events.ClientJoined(name, "10.0.0.7", "tensorflow")


def leased(at: float, task: str = "shard-1", name: str = "lab-1", round_: int = 0) -> tuple[float, RunEvent]:
    return at, events.TaskLeased(task, name, 1, name, round=round_)


def epoch(at: float, number: int, **spent: float) -> tuple[float, RunEvent]:
    return at, events.EpochCompleted("lab-1", "lab-1", number, 2, {"loss": 1.0}, spent=spent)


def returned(
    at: float, upload: float, task: str = "shard-1", name: str = "lab-1", **spent: float
) -> tuple[float, RunEvent]:
    return at, events.ResultCommitted(task, name, upload, name, spent=spent)


FIRST = {"join": 0.3, "receive": 1.0, "import": 2.0, "prepare": 0.5, "compile": 1.0, "train": 3.0, "validate": 0.5}
FIT = (
    BEGAN,
    joined(0),
    leased(1),
    epoch(9, 0, **FIRST),
    epoch(12, 1, **{**FIRST, "train": 5.0, "validate": 1.5}),
    returned(13.5, 0.5, **{**FIRST, "train": 5.0, "validate": 1.5, "score": 1.0}),
    (14.0, events.ModelEvaluated("shard-1", {"loss": 1.0}, "lab-1")),
)


def test_a_task_is_laid_out_as_the_client_has_measured_it() -> None:
    view = view_of(*FIT)
    assert spans(view, "lab-1") == [
        ("lab-1", "wait", 0, 1),
        ("lab-1", "receive", 1, 2),
        ("lab-1", "import", 2, 4),
        ("lab-1", "compile", 4, 4.5),
        ("lab-1", "compile", 4.5, 5.5),
        ("lab-1", "train", 5.5, 8.5),
        ("lab-1", "validate", 8.5, 9),
        ("lab-1", "train", 9, 11),
        ("lab-1", "validate", 11, 12),
        ("lab-1", "evaluate", 12, 13),
        ("lab-1", "send", 13, 13.5),
    ]
    assert [each["epoch"] for each in view.snapshot() if each["what"] == "train"] == [1, 2]
    assert spans(view, "") == [("", "evaluate", 13.5, 14)]


def test_the_sum_of_each_kind_is_what_was_measured() -> None:
    view = view_of(*FIT)
    sums: dict[str, float] = {}
    for _, what, begin, end in spans(view, "lab-1"):
        sums[what] = sums.get(what, 0.0) + end - begin
    assert sums == pytest.approx(
        {"wait": 1, "receive": 1, "import": 2, "compile": 1.5, "train": 5, "validate": 1.5, "evaluate": 1, "send": 0.5}
    )


def test_rounds_show_what_clients_wait_for_and_what_the_server_does() -> None:
    trained = {"receive": 0.25, "import": 9.0, "train": 1.0, "score": 0.125}

    def came(at: float, name: str, **spent: float) -> tuple[float, RunEvent]:
        task = f"round-1-shard-{name[-1]}"
        return at, events.ResultCommitted(task, name, 0.25, name, round=1, spent={**trained, **spent})

    view = view_of(
        BEGAN,
        joined(0),
        joined(0, "lab-2"),
        leased(0, "round-1-shard-1", round_=1),
        leased(0, "round-1-shard-2", "lab-2", 1),
        came(2, "lab-1"),
        came(4, "lab-2", train=3.0),
        leased(5, "round-2-shard-1", round_=2),
        (5.5, events.RoundCompleted(1, 2, 2, 5.0, spent={"aggregate": 0.75, "checkpoint": 0.25, "evaluate": 0.5})),
        (5.5, events.ModelEvaluated("round-1", {"loss": 1.0})),
    )
    # The weights that a round begins with are evaluated first.
    assert spans(view, "lab-1") == [
        ("lab-1", "receive", 0, 0.25),
        ("lab-1", "import", 0.25, 0.625),
        ("lab-1", "evaluate", 0.625, 0.75),
        ("lab-1", "train", 0.75, 1.75),
        ("lab-1", "send", 1.75, 2),
        ("lab-1", "wait", 2, 5),
    ]
    assert spans(view, "") == [("", "evaluate", 5, 5.5), ("", "aggregate", 4, 4.75)]
    rounds = {(each["what"], each["round"]) for each in view.snapshot()}
    assert {("train", 1), ("wait", 2), ("aggregate", 1), ("evaluate", 1)} <= rounds


@pytest.mark.parametrize(
    "gone",
    [
        events.TaskLost("shard-1", "lab-1", "pulled out"),
        events.TaskFailed("shard-1", "lab-1", "nan"),
        events.TrainerDied("shard-1", "lab-1", "killed"),
        events.TaskLeftOut("shard-1", "lab-1", "late"),
        events.TaskGivenUp("shard-1", "lab-1", "away"),
    ],
)
def test_a_task_that_was_lost_has_no_spans_of_its_lost_part_and_the_next_one_begins_again(gone: RunEvent) -> None:
    view = view_of(BEGAN, joined(0), leased(0), (3, gone), leased(4), returned(6, 0.5, train=1.0))
    assert spans(view) == [
        ("lab-1", "wait", 3, 4),
        ("lab-1", "train", 4.5, 5.5),
        ("lab-1", "send", 5.5, 6),
    ]
    late = view_of(BEGAN, joined(0), leased(0), (3, gone), returned(4, 0.5, train=1.0))
    assert spans(late) == []


def test_claims_of_any_length_never_overlap_or_go_back() -> None:
    huge = dict.fromkeys(("receive", "import", "prepare", "compile", "train", "validate", "score"), 1000000000.0)
    view = view_of(
        BEGAN, joined(0), leased(1), epoch(2, 0, **huge), epoch(3, 1), epoch(3.5, 1, train=0.5),
        returned(4, 1e9, **huge), leased(5), returned(7, 0.0),
    )  # fmt: skip
    end = 0.0
    for _, _, begin, finish in spans(view):
        assert end <= begin < finish <= 7
        end = finish


def test_a_client_that_measures_nothing_trains_from_one_message_to_the_next() -> None:
    view = view_of(BEGAN, joined(0), leased(0), epoch(2, 0), epoch(5, 1), returned(6, 0.5))
    assert spans(view) == [
        ("lab-1", "train", 0, 2),
        ("lab-1", "train", 2, 5),
        ("lab-1", "train", 5, 5.5),
        ("lab-1", "send", 5.5, 6),
    ]


def test_the_end_of_a_run_ends_the_wait() -> None:
    view = view_of(BEGAN, joined(0), joined(0, "spare"), leased(0), returned(4, 1.0), (6, events.RunEnded("done")))
    assert ("spare", "wait", 0, 6) in spans(view)
    assert ("lab-1", "wait", 4, 6) in spans(view)


def test_the_number_of_spans_has_a_bound() -> None:
    view = TimelineView()
    for number in range(MOST_SPANS):
        for now, event in (leased(2 * number), returned(2 * number + 1, 0.25, train=0.5)):
            view.update(event, now)
    assert len(view.snapshot()) == MOST_SPANS
    assert view.snapshot()[-1]["to"] == 2 * MOST_SPANS - 1
    assert len(view.take_new()) <= MOST_SPANS
    assert view.take_new() == []


class Board:
    """What a board has of this."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def add_spans(self, spans: Sequence[dict[str, Any]]) -> None:
        assert spans
        self.spans += spans


def test_a_board_gets_each_span_once_and_each_run_again() -> None:
    board = Board()
    for _ in range(2):
        timeline_view.began(board, None)
        board.spans.clear()
        for now, event in FIT:
            timeline_view.feed(board, event, now)
        assert board.spans == view_of(*FIT).snapshot()


def test_a_finished_run_has_a_timeline_from_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    for now, event in FIT:
        monkeypatch.setattr("time.time", lambda now=now: 1_000_000 + now)
        journal(event, now)
    journal.close()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time":1,"event":"something new"}\nno line\n{"event":"began","run":"x"}\n{"time":"1"}\n')
    sums: dict[tuple[str, str], float] = {}
    for each in timeline_of_run(tmp_path):
        key = each["client"], each["what"]
        sums[key] = sums.get(key, 0.0) + each["to"] - each["from"]
    expected = {"wait": 1, "receive": 1, "import": 2, "compile": 1.5, "train": 5, "validate": 1.5, "evaluate": 1}
    assert sums == pytest.approx(
        {**{("lab-1", what): each for what, each in expected.items()}, ("lab-1", "send"): 0.5, ("", "evaluate"): 0.5}
    )
    assert timeline_of_run(tmp_path / "none") == []


def test_what_a_client_has_measured_is_in_the_journal() -> None:
    facts = facts_of(events.ResultCommitted("shard-1", "lab-1", 0.5, "lab-1", spent={"train": 2.0}))
    assert json.loads(json.dumps(facts))["spent"] == {"train": 2.0}
