"""Histories as pictures, looked at through their pixels."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lanfit_server.report.charts import draw_histories, draw_history, draw_rounds
from lanfit_server.store.summary import RoundFacts

HISTORY = {"accuracy": [0.5, 0.7, 0.8], "loss": [2.0, 1.0, 0.7], "val_accuracy": [0.4, 0.6, 0.5], "val_loss": [2, 1, 2]}
BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)


def draw(
    folder: Path, history: Mapping[str, Sequence[float]], title: str = "lab-1", best_epoch: int | None = None
) -> Path:
    path = folder / "history.png"
    draw_history(path, history, title, best_epoch)
    return path


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(path: Path, color: tuple[int, int, int]) -> int:
    return int((pixels(path) == color).all(axis=-1).sum())


def test_training_and_validation_are_two_lines(tmp_path: Path) -> None:
    both = draw(tmp_path, HISTORY)
    assert count(both, BLUE) > 500
    assert count(both, ORANGE) > 500
    one = draw(tmp_path, {"loss": [2.0, 1.0]})
    assert count(one, BLUE) > 300
    assert count(one, ORANGE) == 0


def test_there_is_a_panel_for_each_metric_three_in_a_row(tmp_path: Path) -> None:
    sizes = {}
    for metrics in (1, 2, 3, 4, 6, 7):
        picture = pixels(draw(tmp_path, {f"metric {n}": [1.0, 2.0] for n in range(metrics)}))
        sizes[metrics] = picture.shape[:2]
    assert sizes[1][1] < sizes[2][1] < sizes[3][1] == sizes[4][1] == sizes[6][1] == sizes[7][1]
    assert sizes[1][0] == sizes[2][0] == sizes[3][0] < sizes[4][0] == sizes[6][0] < sizes[7][0]


def test_the_best_epoch_is_marked_where_it_is(tmp_path: Path) -> None:
    unmarked = pixels(draw(tmp_path, {"loss": [3.0, 1.0, 2.0]}))
    places = []
    for best in (0, 1, 2):
        changed = (pixels(draw(tmp_path, {"loss": [3.0, 1.0, 2.0]}, best_epoch=best)) != unmarked).any(axis=-1)
        column = int(changed.sum(axis=0).argmax())
        assert changed[:, column].sum() > 50, "no vertical line"
        places.append(column)
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=4)
    assert places[0] < places[1]


def test_the_same_history_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    first = draw(tmp_path, HISTORY, best_epoch=1).read_bytes()
    assert draw(tmp_path, HISTORY, best_epoch=1).read_bytes() == first
    assert draw(tmp_path, HISTORY, best_epoch=2).read_bytes() != first
    assert draw(tmp_path, HISTORY, "lab-2", best_epoch=1).read_bytes() != first
    assert draw(tmp_path, HISTORY | {"loss": [2.0, 1.0, 0.8]}, best_epoch=1).read_bytes() != first


def test_a_picture_does_not_say_what_drew_it_or_when(tmp_path: Path) -> None:
    with Image.open(draw(tmp_path, HISTORY)) as image:
        assert set(image.info) <= {"dpi"}


@pytest.mark.parametrize("epochs", [1, 2, 31, 1000])
def test_one_epoch_can_be_seen_and_so_can_a_thousand(tmp_path: Path, epochs: int) -> None:
    values = np.linspace(1, 0, epochs).tolist()
    path = draw(tmp_path, {"loss": values, "val_loss": [value + 1 for value in values]}, best_epoch=epochs - 1)
    curves = pixels(path)[: pixels(path).shape[0] - 50]  # without the legend
    for color in (BLUE, ORANGE):
        assert (curves == color).all(axis=-1).sum() >= 4


def test_a_value_between_two_that_are_missing_is_a_dot_even_in_a_long_history(tmp_path: Path) -> None:
    values = [float("nan")] * 100
    values[50] = 1.0
    curves = pixels(draw(tmp_path, {"loss": values}))[:-50]
    assert (curves == BLUE).all(axis=-1).sum() >= 4


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    nan, infinity = float("nan"), float("inf")
    whole = draw(tmp_path, {"loss": [1.0, nan, 2.0]}).read_bytes()
    for value in (infinity, -infinity, 1e300):
        assert draw(tmp_path, {"loss": [1.0, value, 2.0]}).read_bytes() == whole


def test_a_history_without_any_number_says_so(tmp_path: Path) -> None:
    nothing = draw(tmp_path, {"loss": [float("nan")] * 3})
    assert count(nothing, BLUE) == 0
    assert nothing.read_bytes() != draw(tmp_path, {"loss": [1.0] * 3}).read_bytes()


def test_a_history_without_an_epoch_is_a_picture_without_panels(tmp_path: Path) -> None:
    assert pixels(draw(tmp_path, {})).size > 0
    assert pixels(draw(tmp_path, {"loss": []})).size > 0


@pytest.mark.parametrize("text", ["$\\frac{$", "$x_1$", "a\nb", "\x1b[2J", "x" * 300, "{0}%s"])
def test_no_name_makes_it_fail(tmp_path: Path, text: str) -> None:
    assert count(draw(tmp_path, {text: [1.0, 2.0], f"val_{text}": [1.0, 2.0]}, text), BLUE) > 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(width=64), min_size=1, max_size=8))
def test_no_number_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    assert pixels(draw(tmp_path_factory.mktemp("any"), {"loss": values}, best_epoch=0)).size > 0


def test_a_picture_is_written_completely_or_the_old_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "history.png").write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            draw(tmp_path, HISTORY)
    assert (tmp_path / "history.png").read_bytes() == b"old"
    assert count(draw(tmp_path, HISTORY), BLUE) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["history.png"]


def test_drawing_needs_no_display_and_no_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lanfit_server.report.charts import draw_history;"
        "draw_history(Path(sys.argv[1]), {'loss': [1.0, 2.0]}, 'x', None);"
        "print('matplotlib.pyplot' in sys.modules, 'tkinter' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.png"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["False", "False"]


# --- rounds -----------------------------------------------------------------------------------------------------

GREY = (204, 204, 204)


def facts(number: int, validation: dict[str, dict[str, float]], trained: dict[str, float] | None = None) -> RoundFacts:
    metrics = {"loss": 1 / number, "accuracy": 1 - 1 / (number + 1)}
    return RoundFacts(number, ("a", "b"), 1.0, 0.1, metrics, None, trained or {}, validation, {}, {}, {})


def rounds_drawn(path: Path, *rounds: RoundFacts, best: int | None = None) -> Path:
    draw_rounds(path, rounds, [], "Run 1", best)
    return path


def test_rounds_are_drawn_with_the_global_model_the_mean_of_training_and_each_client_faint(tmp_path: Path) -> None:
    own = [{"a": {"loss": 1.5 / n}, "b": {"loss": 0.5 / n}} for n in range(1, 6)]
    trained = {"loss": 0.8, "accuracy": 0.4}
    whole = rounds_drawn(tmp_path / "a.png", *(facts(n, own[n - 1], trained) for n in range(1, 6)), best=4)
    assert count(whole, GREEN) > 500
    assert count(whole, BLUE) > 500
    assert count(whole, GREY) > 50
    alone = rounds_drawn(tmp_path / "b.png", *(facts(n, {}) for n in range(1, 6)))
    assert count(alone, GREEN) > 500
    assert count(alone, BLUE) == 0
    assert count(alone, GREY) < count(whole, GREY) / 2  # edges of the axes have some of it


def test_validation_of_the_clients_is_a_line_of_its_metric_in_rounds(tmp_path: Path) -> None:
    trained = {"loss": 0.8, "accuracy": 0.4}
    plain = rounds_drawn(tmp_path / "a.png", *(facts(n, {}, trained) for n in range(1, 6)))
    whole = trained | {"val_loss": 0.7, "val_accuracy": 0.45}
    both = rounds_drawn(tmp_path / "b.png", *(facts(n, {}, whole) for n in range(1, 6)))
    assert pixels(both).shape == pixels(plain).shape, "no panel more"
    assert count(plain, ORANGE) == 0
    assert min(count(both, color) for color in (BLUE, GREEN, ORANGE)) > 300


def test_the_legend_of_one_panel_is_not_cut(tmp_path: Path) -> None:
    trained = {"loss": 0.8, "val_loss": 0.9}
    rounds = [RoundFacts(n, (), 1.0, 0.1, {"loss": 1.0}, None, trained, {"a": trained}, {}, {}, {}) for n in (1, 2)]
    picture = pixels(rounds_drawn(tmp_path / "a.png", *rounds, best=2))
    below = picture[310:]
    assert (below[:, :5] == 255).all()
    assert (below[:, -5:] == 255).all()


def test_what_clients_validated_is_not_drawn_as_the_global_model(tmp_path: Path) -> None:
    rounds = [RoundFacts(n, (), 1.0, 0.1, {}, None, {"val_loss": 1.0 / n}, {}, {}, {}, {}) for n in range(1, 6)]
    path = rounds_drawn(tmp_path / "a.png", *rounds)
    assert count(path, ORANGE) > 300
    assert count(path, GREEN) == 0


def test_a_client_that_is_left_out_of_rounds_and_metrics_that_are_no_numbers_are_gaps(tmp_path: Path) -> None:
    gone = [facts(1, {"a": {"loss": 1.0}}), facts(2, {}), facts(3, {"a": {"loss": float("nan")}, "b": {}})]
    assert count(rounds_drawn(tmp_path / "a.png", *gone), GREEN) > 500
    empty = RoundFacts(1, (), 1.0, 0.1, {}, None, {}, {}, {}, {}, {})
    assert pixels(rounds_drawn(tmp_path / "b.png", empty)).size


def test_the_same_rounds_give_the_same_bytes(tmp_path: Path) -> None:
    reported = [facts(n, {"b": {"loss": 1.0}, "a": {"loss": 2.0}}) for n in range(1, 4)]
    assert (
        rounds_drawn(tmp_path / "a.png", *reported).read_bytes()
        == rounds_drawn(tmp_path / "b.png", *reported).read_bytes()
    )


# --- all trainings of a run --------------------------------------------------------------------------------------


def test_a_run_has_the_mean_of_its_trainings_and_each_one_faint(tmp_path: Path) -> None:
    path = tmp_path / "history.png"
    twice = {name: [2.0 * float(value) for value in np.asarray(values)] for name, values in HISTORY.items()}
    draw_histories(path, [HISTORY, twice], "r", "each fold")
    assert count(path, BLUE) > 500
    assert count(path, ORANGE) > 500
    assert count(path, (204, 204, 204)) > 50, "0.8 of white"
    draw_histories(path, [HISTORY], "r", "each fold")
    assert count(path, BLUE) > 500
    assert count(path, (204, 204, 204)) < 30, "one training is its own mean: only the legend's edges are grey"
