"""What the page shows of predictions, from events while a run goes on, and from its files afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.pages import served
from fakes.places import Place, place_of  # noqa: F401

from lanfit_server.replay.samples import (
    MOST_CELLS,
    MOST_MODELS,
    MOST_MOMENTS,
    MOST_NUMBERS,
    SamplesView,
    rows_of_run,
    samples_of_run,
    shown_numbers,
)
from lanfit_server.replay.shown_predictions import FILE, PredictionsFile, read_predictions
from lanfit_server.run.events import ConfusionCounted, RowsPredicted, RowsShown, RunBegan, RunEvent, ShownRow
from lanfit_server.ui.dashboard import samples_view
from lanfit_server.ui.dashboard.rows_api import LONGEST_LIST, numbers_of

SHOWN = RowsShown(
    "y",
    "classes",
    (8, 8, 1),
    (ShownRow(4, "cat", "data:image/png;base64,AA"), ShownRow(9, "dog", "data:…")),
    ("cat", "dog"),
)
ALL = (0.25, 0.75, 0.5, 0.5)


def predicted(model: str, at: int, outputs: tuple[float, ...] = ALL, **more: Any) -> RowsPredicted:
    return RowsPredicted(model, at, outputs, **more)


def view_of(*events: RunEvent) -> SamplesView:
    view = SamplesView()
    for event in events:
        view.update(event, 0.0)
    return view


def test_the_page_sees_rows_predictions_and_the_last_confusion_matrix() -> None:
    view = SamplesView()
    assert view.snapshot() == {"samples": None, "confusion": None}
    assert not view.update(RunBegan("run-1"), 0.0)
    assert not view.update(predicted("lab-1", 1), 0.0), "of rows that nobody has seen"
    assert view.update(SHOWN, 0.0)
    assert view.snapshot()["confusion"] is None
    for event in (
        predicted("lab-1", 1),
        predicted("lab-1", 2, (0.75, 0.25, 0.123456, 0.876544)),
        predicted("lab-2", 1, fold=2),
        ConfusionCounted("", 1, ((5, 1), (0, 3)), {"0,1": (9,)}),
        ConfusionCounted("", 2, ((6, 0), (1, 2)), {"1,0": (4,)}),
    ):
        assert view.update(event, 0.0)
    found = view.snapshot()
    assert found["samples"] == {
        "kind": "image",
        "shape": [8, 8, 1],
        "target": "classes",
        "classes": ["cat", "dog"],
        "rows": [
            {"id": 4, "truth": "cat", "picture": "data:image/png;base64,AA", "values": None},
            {"id": 9, "truth": "dog", "picture": "data:…", "values": None},
        ],
        "models": {
            "lab-1": {
                "at": [1, 2],
                "probabilities": {"4": [[0.25, 0.75], [0.75, 0.25]], "9": [[0.5, 0.5], [0.1235, 0.8765]]},
            },
            "lab-2, fold 2": {"at": [1], "probabilities": {"4": [[0.25, 0.75]], "9": [[0.5, 0.5]]}},
        },
    }
    assert found["confusion"] == {
        "classes": ["cat", "dog"],
        "models": {"": {"at": 2, "matrix": [[6, 0], [1, 2]], "rows": {"1,0": [4]}}},
    }
    msgspec.json.encode(found)


def test_the_model_that_was_returned_is_known_and_stands_at_its_epoch() -> None:
    view = view_of(SHOWN, *(predicted("lab-1", at) for at in (1, 2, 3)))
    view.update(predicted("lab-1", 2, (1.0, 0.0, 1.0, 0.0), final=True))
    found = view.snapshot()["samples"]["models"]["lab-1"]
    assert found["at"] == [1, 2, 3]
    assert found["best"] == 2
    assert found["probabilities"]["4"][1] == [1.0, 0.0]
    # Its epoch may have had no predictions before.
    view.update(predicted("lab-2", 5))
    view.update(predicted("lab-2", 3, final=True))
    assert view.snapshot()["samples"]["models"]["lab-2"]["at"] == [3, 5]


@pytest.mark.parametrize("outputs", [(), (0.5,), (0.5, 0.5, 0.5)])
def test_predictions_that_do_not_fit_the_rows_are_not_shown(outputs: tuple[float, ...]) -> None:
    view = view_of(SHOWN)
    assert not view.update(predicted("lab-1", 1, outputs))
    assert view.snapshot()["samples"]["models"] == {}


def test_any_output_of_a_classifier_becomes_a_probability_for_each_class() -> None:
    assert shown_numbers("binary", [[0.2], [1.0]]) == [[0.8, 0.2], [0.0, 1.0]]
    assert shown_numbers("one_hot", [[0.2, 0.8]]) == [[0.2, 0.8]]
    [logits] = shown_numbers("classes", [[1000.0, 1000.0, -5.0]])
    assert logits == [0.5, 0.5, 0.0]
    assert shown_numbers("values", [[1234.56789, 0.1]]) == [[1234.57, 0.1]]


def test_what_is_kept_of_a_long_run_with_many_clients_has_a_bound() -> None:
    view = view_of(SHOWN, *(predicted("lab-1", at) for at in range(1, 1001)))
    moments = view.snapshot()["samples"]["models"]["lab-1"]["at"]
    assert MOST_MOMENTS // 2 <= len(moments) <= MOST_MOMENTS
    assert moments[0] == 1
    assert moments[-1] == 1000
    assert moments == sorted(moments)
    wide = msgspec.structs.replace(SHOWN, rows=tuple(ShownRow(n, "cat") for n in range(24)))
    view = view_of(wide)
    outputs = tuple([0.1] * 240)
    for at in range(1, 41):
        for number in range(50):
            view.update(predicted(f"lab-{number}", at, outputs))
    models = view.snapshot()["samples"]["models"]
    assert sum(240 * len(each["at"]) for each in models.values()) <= MOST_NUMBERS
    assert {each["at"][-1] for each in models.values()} == {40}
    for number in range(MOST_MODELS + 5):
        view.update(predicted(f"pc-{number}", 1, outputs))
    assert len(view.snapshot()["samples"]["models"]) == MOST_MODELS
    line = (1,) * 100
    for number in range(40):
        view.update(ConfusionCounted(f"pc-{number}", 1, (line,) * 100, {}))
    assert sum(100 * 100 for _ in view.snapshot()["confusion"]["models"]) <= MOST_CELLS


def test_the_best_epoch_is_never_thinned_out() -> None:
    view = view_of(SHOWN, predicted("lab-1", 2, final=True), *(predicted("lab-1", at) for at in range(3, 400)))
    assert 2 in view.snapshot()["samples"]["models"]["lab-1"]["at"]


class Board:
    """What a board has of this."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, set[str]]] = []
        self.meta: dict[str, Any] = {}

    def show(self, section: str, meta: dict[str, Any], models: Mapping[str, Any]) -> None:
        self.shown.append((section, set(models)))
        self.meta[section] = meta


def test_a_board_is_fed_with_what_has_changed_only() -> None:
    board = Board()
    samples_view.began(board, None)
    for event in (RunBegan("run-1"), SHOWN, predicted("a", 1), predicted("b", 1), predicted("a", 2)):
        samples_view.feed(board, event, 0.0)
    samples_view.feed(board, ConfusionCounted("a", 2, ((1, 0), (0, 1)), {}), 0.0)
    samples_view.feed(board, SHOWN, 0.0)  # a run that is resumed
    expected = [("samples", set()), ("samples", {"a"}), ("samples", {"b"}), ("samples", {"a"}), ("confusion", {"a"})]
    assert [each for each in board.shown if each != ("samples", set()) or each is board.shown[0]][:5] == expected
    assert board.meta["samples"]["rows"][0]["id"] == 4
    samples_view.began(board, None)
    samples_view.feed(board, predicted("a", 1), 0.0)
    assert board.shown[-1][0] != "samples" or board.shown[-1][1] == set(), "the next run has not shown its rows yet"


# --- the file -----------------------------------------------------------------------------------------------------


def test_a_finished_run_shows_what_was_seen(tmp_path: Path) -> None:
    events = [
        SHOWN,
        predicted("lab-1", 1),
        predicted("lab-1", 2, final=True),
        ConfusionCounted("lab-1", 2, ((1,),), {}),
    ]
    file = PredictionsFile(tmp_path)
    for event in [RunBegan("run-1"), *events]:
        file.add(event)
    assert list(read_predictions(tmp_path)) == events
    assert samples_of_run(tmp_path) == view_of(*events).snapshot()
    # A server that died in the middle of a line, and another that goes on.
    with (tmp_path / FILE).open("ab") as torn:
        torn.write(b'{"event":"predicted","mo')
    PredictionsFile(tmp_path).add(predicted("lab-1", 3))
    assert list(read_predictions(tmp_path)) == [*events, predicted("lab-1", 3)]
    assert samples_of_run(tmp_path / "another") == {"samples": None, "confusion": None}


def test_lines_that_are_no_events_are_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"event":"began","run":"x"}\n[]\n' + "[" * 100_000 + "\n")
    assert list(read_predictions(tmp_path)) == []


def test_the_file_has_a_bound_and_keeps_what_matters(tmp_path: Path) -> None:
    file = PredictionsFile(tmp_path, most_bytes=20_000)
    file.add(SHOWN)
    for at in range(1, 501):
        for model in ("lab-1", "lab-2"):
            file.add(predicted(model, at))
            file.add(ConfusionCounted(model, at, ((at, 1), (0, 3)), {"0,1": (9,)}))
    file.add(predicted("lab-1", 77, final=True))
    assert (tmp_path / FILE).stat().st_size <= 20_000
    found = samples_of_run(tmp_path)
    assert found["samples"]["rows"][0]["id"] == 4
    for model in ("lab-1", "lab-2"):
        assert found["samples"]["models"][model]["at"][-1] == 500
        assert len(found["samples"]["models"][model]["at"]) > 5
        assert found["confusion"]["models"][model]["at"] == 500
    assert found["samples"]["models"]["lab-1"]["best"] == 77


def test_a_list_of_row_numbers() -> None:
    assert numbers_of("3,17,,x,-1,²,3.5, 4,9999999999999999,5") == [3, 17, 5]
    assert numbers_of("") == []
    assert len(numbers_of("1," * LONGEST_LIST)) == LONGEST_LIST // 2


# --- on a page ------------------------------------------------------------------------------------------------------


def test_a_page_sees_predictions_confusion_timeline_and_looks_rows_up(place: Place) -> None:
    with served(place, simulated=True) as page:
        handle = page.submit(method="fit", epochs=3)
        page.loop.call(handle.ended())
        state = page.viewer.get("/api/state").json
        samples, confusion, spans = state["samples"], state["confusion"], state["timeline"]
        ids = [row["id"] for row in samples["rows"]]
        assert len(ids) == 8
        assert set(samples["models"]) == set(confusion["models"]) == {"sim-001", "sim-002"}
        for model in samples["models"].values():
            assert {1, 3} <= set(model["at"]) <= {1, 2, 3}
            assert list(model["probabilities"]) == [str(number) for number in ids]
            assert all(len(moments) == len(model["at"]) for moments in model["probabilities"].values())
        # How long something took with a backend as fast as this nobody knows, but somebody did something.
        assert {"sim-001", "sim-002"} <= {span["client"] for span in spans} <= {"", "sim-001", "sim-002"}
        assert all(0 <= span["from"] < span["to"] for span in spans)
        # The rows of a cell are looked up, of the current run and of any that is kept.
        for query in (f"run={handle.run}&ids=7,3", f"run={handle.run}&ids=3,x,7,999"):
            found = page.viewer.get(f"/api/rows?{query}").json["rows"]
            assert sorted(row["id"] for row in found) == [3, 7]
            assert all(row["picture"] is None and len(row["values"]) == 3 and row["truth"] for row in found)
        outside = place.workspace.server_state
        shutil.copy(place.workspace.run_folder(handle.run) / "shown_rows.npz", outside)
        assert rows_of_run(outside, [3])
        for query in (
            f"run=../{outside.relative_to(place.workspace.root)}&ids=3",
            f"run={outside}&ids=3",
            "ids=3",
            "run=../server&ids=3",
            "run=%2e%2e&ids=3",
            "run=none&ids=3",
            f"run={handle.run}",
        ):
            assert page.viewer.get(f"/api/rows?{query}").json == {"rows": []}
        # The next run begins with nothing.
        again = page.submit(method="federated", rounds=2, epochs=1)
        page.loop.call(again.ended())
        state = page.viewer.get("/api/state").json
        assert state["samples"]["models"].keys() == {""}
        assert state["samples"]["models"][""]["at"] == [1, 2]
        assert {span["round"] for span in state["timeline"]} <= {0, 1, 2}
