"""`history.png`: the curves of one training, drawn from a history. Needs no display and leaves no global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.durable import written_whole
from lanfit.text import sanitize

_VALIDATION = "val_"
_ACROSS = 3
#: Inches: of the curves of a panel, and around them. Fixed, because fitting them to the text takes half the time.
_WIDTH, _HEIGHT, _LEFT, _BESIDE, _TOP, _BELOW = 3.4, 2.3, 0.85, 0.15, 0.3, 0.55
_TITLE, _LEGEND = 0.4, 0.35
#: Up to so many epochs each one is a dot, too: a single epoch is no line.
_DOTTED = 30
#: Beyond this the arithmetic of axes overflows.
_LARGEST = 1e100


def draw_history(path: Path, history: Mapping[str, Sequence[float]], title: str, best_epoch: int | None) -> None:
    """Draw a history as PNG: a panel for each metric, the loss first; training and validation as two lines.

    The same history gives the same bytes. Values that are not finite are left out. Not for two threads at a time.

    Args:
        history: a list of numbers for each metric, one an epoch; `val_` in front for validation rows.
        best_epoch: from 0, as in the summary; it is drawn, as all epochs, from 1.
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
    best = f"best epoch: {best_epoch + 1}" if best_epoch is not None else ""
    lines: dict[str, Any] = {}
    for number, name in enumerate(names, 1):
        panel = figure.add_subplot(down, across, number)
        _draw(panel, name, history, epochs)
        if best_epoch is not None:
            panel.axvline(best_epoch + 1, label=best, color="0.4", ls="--", lw=1, zorder=1)
        lines |= {label: line for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    labels = [label for label in ("training", "validation", best) if label in lines]
    figure.legend([lines[label] for label in labels], labels, loc="lower center", ncols=3, frameon=False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def metrics_of(history: Mapping[str, Sequence[float]]) -> list[str]:
    """The metrics of a history without those of validation, the loss first, the others in their order."""
    names = dict.fromkeys(name.removeprefix(_VALIDATION) for name in history)
    return sorted(names, key=lambda name: name != "loss")


def _draw(panel: Any, name: str, history: Mapping[str, Sequence[float]], epochs: int) -> None:
    """Draw one metric, training and validation, into a panel."""
    from matplotlib.ticker import MaxNLocator

    empty = True
    lines = ((name, "training", "tab:blue"), (_VALIDATION + name, "validation", "tab:orange"))
    for key, label, color in lines:
        values = np.array(history.get(key, ()), np.float64)
        values[~(np.abs(values) <= _LARGEST)] = np.nan
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
    panel.set_xlabel("epoch")
    panel.grid(alpha=0.3)
