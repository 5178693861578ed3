"""`history.png`: the curves of one training, or of a run. Needs no display, changes no global state."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.core.durable import atomic_file
from lanfit.core.text import sanitize
from lanfit_server.replay.curves import (
    GLOBAL,
    LARGEST,
    TRAINING,
    VALIDATION,
    Curves,
    History,
    by_metric,
    curves_of_rounds,
    global_by_client,
    histories_of,
    is_drawable,
    mean_history,
)
from lanfit_server.store.summary import ClientFacts, RoundFacts, Summary

logger = logging.getLogger("lanfit.server")
_drawing = threading.Lock()
_ACROSS = 3
#: Inches: of the curves of a panel, and around them. Fixed, because fitting them to the text takes half the time.
_WIDTH, _HEIGHT, _LEFT, _BESIDE, _TOP, _BELOW = 3.4, 2.3, 0.85, 0.15, 0.3, 0.55
_TITLE, _LEGEND = 0.4, 0.35
#: Of the legend: a line, an entry without its text, and a character of it.
_LEGEND_LINE, _ENTRY, _CHARACTER = 0.2, 0.6, 0.08
#: Up to this many epochs each one is also a dot: a single epoch is not a line.
_DOTTED = 30


async def draw_chart(path: Path, chart: Callable[..., None], *what: object) -> None:
    """Draw a chart into a file. A failure never loses a result."""

    def draw() -> None:
        with _drawing:  # matplotlib must not draw in two threads at once
            chart(path, *what)

    try:
        await asyncio.to_thread(draw)
    except (OSError, ImportError) as error:
        logger.warning("%s was not drawn: %s", path, error)


def draw_run(path: Path, summary: Summary) -> None:
    """Draw the curves of a run: of its rounds, or of all its trainings. Nothing without any numbers.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file can't be written.
    """
    title = f"Run {summary.run}"
    with _drawing:
        if summary.rounds:
            best_round = summary.final.round if summary.final is not None else None
            draw_rounds(path, summary.rounds, summary.clients, title, best_round)
        elif histories := histories_of(summary.clients):
            draw_histories(
                path, histories, title, "each fold" if len(histories) > len(summary.clients) else "each client"
            )


@dataclass(frozen=True)
class Legend:
    """The labels of the parts of a chart."""

    step: str = "epoch"
    training: str = "training"
    validation: str = "validation"
    global_model: str = "global model"
    faint: str = ""
    best: str = "best epoch:"


def draw_history(path: Path, history: History, title: str, best_epoch: int | None) -> None:
    """Draw a history as PNG: a panel for each metric, the loss first; training and validation as two lines.

    The same history gives the same bytes. Values that are not finite are left out. Not for two threads at a time.

    Args:
        history: a list of numbers for each metric, one an epoch; `val_` in front for validation rows.
        best_epoch: from 0, as in the summary; it is drawn, as all epochs, from 1.
    """
    _draw_figure(path, by_metric(history), {}, title, best_epoch, Legend())


def draw_rounds(
    path: Path, rounds: Sequence[RoundFacts], clients: Sequence[ClientFacts], title: str, best_round: int | None
) -> None:
    """Draw the rounds of a run as PNG: the global model, on each client faint, and the means of the clients' training.

    The same rounds give the same bytes. Values that are not finite are left out. Not for two threads at a time.

    Args:
        best_round: from 1.
    """
    curves = curves_of_rounds(rounds, clients)
    own = {name: global_by_client(rounds, name) for name in curves}
    legend = Legend(
        "round",
        "training, mean of the clients",
        "validation, mean of the clients",
        faint="global model, on each client",
        best="final model: round",
    )
    _draw_figure(path, curves, own, title, None if best_round is None else best_round - 1, legend)


def draw_histories(path: Path, histories: Sequence[History], title: str, each: str) -> None:
    """Draw several trainings as PNG: their mean, and faint each one, on validation rows if it has any.

    The same histories give the same bytes. Values that are not finite are left out. Not for two threads at a time.

    Args:
        each: what a faint line is.
    """
    curves = by_metric(mean_history(histories))
    faint: dict[str, list[Sequence[float]]] = {}
    if len(histories) > 1:
        trainings = [by_metric(history) for history in histories]
        for name, parts in curves.items():
            part = VALIDATION if VALIDATION in parts else TRAINING
            faint[name] = [own[name][part] for own in trainings if part in own.get(name, {})]
    of = f", mean of {len(histories)}" if len(histories) > 1 else ""
    _draw_figure(path, curves, faint, title, None, Legend("epoch", f"training{of}", f"validation{of}", faint=each))


def _draw_figure(
    path: Path,
    curves: Curves,
    faint: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    best_epoch: int | None,
    legend: Legend,
) -> None:
    """Draw it.

    Args:
        faint: by metric, further lines behind its parts.
    """
    from matplotlib.figure import Figure

    epochs = max((len(values) for parts in curves.values() for values in parts.values()), default=0)
    across = min(len(curves), _ACROSS) or 1
    down = math.ceil(len(curves) / across) or 1
    width = across * (_LEFT + _WIDTH + _BESIDE)
    best = f"{legend.best} {best_epoch + 1}" if best_epoch is not None else ""
    labels = _labels(curves, faint, legend, best)
    columns = _columns(labels, width)
    below = _LEGEND + _LEGEND_LINE * (max(1, math.ceil(len(labels) / columns)) - 1)
    height = _TITLE + down * (_TOP + _HEIGHT + _BELOW) + below
    figure = Figure(figsize=(width, height), dpi=100)
    figure.subplots_adjust(
        left=_LEFT / width,
        right=1 - _BESIDE / width,
        top=1 - (_TITLE + _TOP) / height,
        bottom=(_BELOW + below) / height,
        wspace=(_LEFT + _BESIDE) / _WIDTH,
        hspace=(_TOP + _BELOW) / _HEIGHT,
    )
    figure.suptitle(sanitize(title), parse_math=False, fontsize="medium", wrap=True, y=1 - 0.1 / height, va="top")
    lines: dict[str, Any] = {}
    for number, (name, parts) in enumerate(curves.items(), 1):
        panel = figure.add_subplot(down, across, number)
        _draw_faint(panel, faint.get(name, ()), legend)
        _draw(panel, name, parts, epochs, legend)
        if best_epoch is not None:
            panel.axvline(best_epoch + 1, label=best, color="0.4", ls="--", lw=1, zorder=1)
        lines |= {label: line for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend([lines[label] for label in labels], labels, loc="lower center", ncols=columns, frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _labels(curves: Curves, faint: Mapping[str, Sequence[Sequence[float]]], legend: Legend, best: str) -> list[str]:
    """Return what the legend names: the lines that are drawn."""
    labels = {TRAINING: legend.training, VALIDATION: legend.validation, GLOBAL: legend.global_model}
    drawn = {part for parts in curves.values() for part, values in parts.items() if any(map(is_drawable, values))}
    found = [label for part, label in labels.items() if part in drawn]
    if any(is_drawable(value) for name in curves for line in faint.get(name, ()) for value in line):
        found.append(legend.faint)
    return [*found, best] if best and curves else found


def _columns(labels: Sequence[str], width: float) -> int:
    """Return how many entries of the legend fit beside each other."""
    entries = sorted((_ENTRY + _CHARACTER * len(label) for label in labels), reverse=True)
    return max((count for count in range(1, len(entries) + 1) if sum(entries[:count]) <= width), default=1)


def _draw_faint(panel: Any, lines: Sequence[Sequence[float]], legend: Legend) -> None:
    for number, values in enumerate(_drawable(line) for line in lines):
        if not np.isnan(values).all():
            label = "" if number else legend.faint
            panel.plot(np.arange(1, len(values) + 1), values, label=label, color="0.8", lw=0.8, zorder=0.5)


def _drawable(line: Sequence[float]) -> NDArray[np.float64]:
    values = np.array(line, np.float64)
    values[~(np.abs(values) <= LARGEST)] = np.nan
    return values


def _draw(panel: Any, name: str, parts: Mapping[str, Sequence[float]], epochs: int, legend: Legend) -> None:
    """Draw the parts of one metric into a panel."""
    from matplotlib.ticker import MaxNLocator

    empty = True
    lines = (
        (TRAINING, legend.training, "tab:blue"),
        (VALIDATION, legend.validation, "tab:orange"),
        (GLOBAL, legend.global_model, "tab:green"),
    )
    for part, label, color in lines:
        values = _drawable(parts.get(part, ()))
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
