"""`history.png`: the curves of one training, or of a run. Needs no display, changes no global state."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.core.durable import atomic_file
from lanfit.core.text import sanitize
from lanfit_server.store.summary import ClientFacts, RoundFacts, Summary

logger = logging.getLogger("lanfit.server")
_drawing = threading.Lock()
_VALIDATION = "val_"
_ACROSS = 3
#: Inches: of the curves of a panel, and around them. Fixed, because fitting them to the text takes half the time.
_WIDTH, _HEIGHT, _LEFT, _BESIDE, _TOP, _BELOW = 3.4, 2.3, 0.85, 0.15, 0.3, 0.55
_TITLE, _LEGEND = 0.4, 0.35
#: Up to this many epochs each one is also a dot: a single epoch is not a line.
_DOTTED = 30
#: Beyond this the arithmetic of axes overflows.
_LARGEST = 1e100


async def draw_chart(path: Path, chart: Callable[..., None], *what: object) -> None:
    """Draw a chart into a file. A failure never loses a result."""

    def draw() -> None:
        with _drawing:  # matplotlib must not draw in two threads at once
            chart(path, *what)

    try:
        await asyncio.to_thread(draw)
    except (OSError, ImportError) as wrong:
        logger.warning("%s was not drawn: %s", path, wrong)


def draw_run(path: Path, summary: Summary) -> None:
    """Draw the curves of a run: of its rounds, or of all its trainings. Nothing without any numbers.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file can't be written.
    """
    title = f"Run {summary.run}"
    with _drawing:
        if summary.rounds:
            draw_rounds(path, summary.rounds, title, summary.final.round if summary.final is not None else None)
        elif histories := histories_of(summary.clients):
            draw_histories(
                path, histories, title, "each fold" if len(histories) > len(summary.clients) else "each client"
            )


def histories_of(clients: Sequence[ClientFacts]) -> list[Mapping[str, Sequence[float]]]:
    """Return the histories of all trainings: of every fold, or of the single one of a client without folds."""
    found = [each.history for client in clients for each in (client.folds or (client,))]
    return [history for history in found if any(history.values())]


def mean_history(histories: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return the mean of each metric in every epoch, over the trainings that have come so far and have a number."""
    mean = {}
    for name in dict.fromkeys(name for history in histories for name in history):
        columns = zip_longest(
            *(_drawable(history[name]) for history in histories if name in history), fillvalue=math.nan
        )
        mean[name] = [_mean([value for value in column if not math.isnan(value)]) for column in columns]
    return mean


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Legend:
    """The labels of the parts of a chart."""

    step: str = "epoch"
    training: str = "training"
    validation: str = "validation"
    faint: str = ""
    best: str = "best epoch:"


def draw_history(path: Path, history: Mapping[str, Sequence[float]], title: str, best_epoch: int | None) -> None:
    """Draw a history as PNG: a panel for each metric, the loss first; training and validation as two lines.

    The same history gives the same bytes. Values that are not finite are left out. Not for two threads at a time.

    Args:
        history: a list of numbers for each metric, one an epoch; `val_` in front for validation rows.
        best_epoch: from 0, as in the summary; it is drawn, as all epochs, from 1.
    """
    _draw_figure(path, history, {}, title, best_epoch, Legend())


def draw_rounds(path: Path, rounds: Sequence[RoundFacts], title: str, best_round: int | None) -> None:
    """Draw the rounds of a run as PNG: the global model, the mean of what clients trained, and each client, faint.

    The same rounds give the same bytes. Values that are not finite are left out. Not for two threads at a time.

    Args:
        best_round: from 1.
    """
    trained = {name for each in rounds for name in each.training}
    evaluated = {name for each in rounds for name in each.metrics}
    history = {name: [each.training.get(name, math.nan) for each in rounds] for name in sorted(trained)}
    history |= {_VALIDATION + name: [each.metrics.get(name, math.nan) for each in rounds] for name in sorted(evaluated)}
    clients = sorted({client for each in rounds for client in each.validation})
    own = {
        name: [[each.validation.get(client, {}).get(name, math.nan) for each in rounds] for client in clients]
        for name in metrics_of(history)
    }
    legend = Legend(
        "round", "training, mean of the clients", "global model", "global model, on each client", "final model: round"
    )
    _draw_figure(path, history, own, title, None if best_round is None else best_round - 1, legend)


def draw_histories(path: Path, histories: Sequence[Mapping[str, Sequence[float]]], title: str, each: str) -> None:
    """Draw several trainings as PNG: their mean, and faint each one, on validation rows if it has any.

    The same histories give the same bytes. Values that are not finite are left out. Not for two threads at a time.

    Args:
        each: what a faint line is.
    """
    mean = mean_history(histories)
    faint = {}
    for name in metrics_of(mean):
        shown = _VALIDATION + name if _VALIDATION + name in mean else name
        faint[name] = [history[shown] for history in histories if shown in history] if len(histories) > 1 else []
    of = f", mean of {len(histories)}" if len(histories) > 1 else ""
    _draw_figure(path, mean, faint, title, None, Legend("epoch", f"training{of}", f"validation{of}", each))


def _draw_figure(
    path: Path,
    history: Mapping[str, Sequence[float]],
    faint: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    best_epoch: int | None,
    legend: Legend,
) -> None:
    """Draw it.

    Args:
        faint: by metric, further lines behind those of the history.
    """
    from matplotlib.figure import Figure

    names = metrics_of(history)
    epochs = max((len(values) for values in history.values()), default=0)
    across = min(len(names), _ACROSS) or 1
    down = math.ceil(len(names) / across) or 1
    width = across * (_LEFT + _WIDTH + _BESIDE)
    height = _TITLE + down * (_TOP + _HEIGHT + _BELOW) + _LEGEND
    figure = Figure(figsize=(width, height), dpi=100)
    figure.subplots_adjust(
        left=_LEFT / width,
        right=1 - _BESIDE / width,
        top=1 - (_TITLE + _TOP) / height,
        bottom=(_BELOW + _LEGEND) / height,
        wspace=(_LEFT + _BESIDE) / _WIDTH,
        hspace=(_TOP + _BELOW) / _HEIGHT,
    )
    figure.suptitle(sanitize(title), parse_math=False, fontsize="medium", wrap=True, y=1 - 0.1 / height, va="top")
    best = f"{legend.best} {best_epoch + 1}" if best_epoch is not None else ""
    lines: dict[str, Any] = {}
    for number, name in enumerate(names, 1):
        panel = figure.add_subplot(down, across, number)
        _draw_faint(panel, faint.get(name, ()), legend)
        _draw(panel, name, history, epochs, legend)
        if best_epoch is not None:
            panel.axvline(best_epoch + 1, label=best, color="0.4", ls="--", lw=1, zorder=1)
        lines |= {label: line for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    labels = [label for label in (legend.training, legend.validation, legend.faint, best) if label in lines]
    figure.legend([lines[label] for label in labels], labels, loc="lower center", ncols=4, frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def metrics_of(history: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the metrics of a history without those of validation, the loss first, the others in their order."""
    names = dict.fromkeys(name.removeprefix(_VALIDATION) for name in history)
    return sorted(names, key=lambda name: name != "loss")


def _draw_faint(panel: Any, lines: Sequence[Sequence[float]], legend: Legend) -> None:
    for number, values in enumerate(_drawable(line) for line in lines):
        if not np.isnan(values).all():
            label = "" if number else legend.faint
            panel.plot(np.arange(1, len(values) + 1), values, label=label, color="0.8", lw=0.8, zorder=0.5)


def _drawable(line: Sequence[float]) -> NDArray[np.float64]:
    values = np.array(line, np.float64)
    values[~(np.abs(values) <= _LARGEST)] = np.nan
    return values


def _draw(panel: Any, name: str, history: Mapping[str, Sequence[float]], epochs: int, legend: Legend) -> None:
    """Draw one metric, training and validation, into a panel."""
    from matplotlib.ticker import MaxNLocator

    empty = True
    lines = ((name, legend.training, "tab:blue"), (_VALIDATION + name, legend.validation, "tab:orange"))
    for key, label, color in lines:
        values = _drawable(history.get(key, ()))
        if not np.isnan(values).all():
            empty = False
            dots = len(values) <= _DOTTED or np.isnan(values).any()  # between two gaps is no line either
            panel.plot(
                np.arange(1, len(values) + 1), values, label=label, color=color, lw=1.5, marker="." if dots else ""
            )
    if empty:
        box = {"facecolor": "white", "edgecolor": "none"}
        panel.text(0.5, 0.5, "no numbers", transform=panel.transAxes, ha="center", va="center", bbox=box)
        panel.set_yticks([])
    margin = 0.02 * (epochs - 1) or 0.5
    panel.set_xlim(1 - min(margin, 0.5), max(epochs, 1) + margin)  # there is no epoch 0
    panel.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    panel.set_title(sanitize(name), parse_math=False, fontsize="medium")
    panel.set_xlabel(legend.step)
    panel.grid(alpha=0.3)
