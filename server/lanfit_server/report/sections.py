"""Sections of `report.html` that the live page has as well: samples, comparison, timeline, versions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanfit.data.files import natural_key
from lanfit_server.replay.baseline_runs import pair_of, partner_of
from lanfit_server.replay.comparison import Times, differences, figures_of, verdict
from lanfit_server.replay.samples import samples_of_run
from lanfit_server.replay.timeline import SERVER, Span, read_events, timeline_of_run
from lanfit_server.report.markup import card, table, text_of
from lanfit_server.run.events import RunBegan
from lanfit_server.store.summary import Summary, read_summary

#: The kinds of spans, in the order of a client's work; the last two are the server's.
KINDS = ("receive", "import", "compile", "train", "validate", "send", "wait", "evaluate", "aggregate")
#: The most spans that are drawn: the longest ones.
MOST_DRAWN = 4_000
_WIDTH, _LEFT, _LANE, _AXIS, _TICKS = 960, 130, 22, 22, 5
#: Their colors are those of the page.
STYLES = "".join(f".span-{kind} {{ fill: var(--span-{kind}); }} " for kind in KINDS)
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]*")


# --- samples ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictionText:
    """What a model makes of a row, in words; `right` is None without classes."""

    text: str
    more: str = ""
    right: bool | None = None


def prediction_text(truth: str, outputs: Sequence[float] | None, classes: Sequence[str] | None) -> PredictionText:
    """Return what a model makes of a row, as `predict` in the page's `samples.js` does."""
    if not outputs:
        return PredictionText("–")
    if not classes:
        return PredictionText(", ".join(f"{value:.3g}" for value in outputs[:3]))
    best = max(range(len(outputs)), key=outputs.__getitem__)
    text = classes[best] if best < len(classes) else str(best)
    return PredictionText(text, f"{100 * outputs[best]:.0f}\N{NO-BREAK SPACE}%", text == truth)


def samples(summary: Summary, folder: Path) -> str:
    """Return the test rows that were shown, with the predictions of the final model."""
    found = samples_of_run(folder)["samples"]
    if not found or not found["models"]:
        return ""
    name = _shown_model(found["models"], summary)
    model = found["models"][name]
    moment = model["at"].index(model["best"]) if model.get("best") in model["at"] else len(model["at"]) - 1
    predictions = [
        (row, prediction_text(row["truth"], _at(model["probabilities"].get(str(row["id"])), moment), found["classes"]))
        for row in found["rows"]
    ]
    whose = f"the model of {text_of(name)}" if name else "the global model"
    when = f"{'epoch' if name else 'round'} {model['at'][moment]}"
    verdicts = [each.right for _, each in predictions if each.right is not None]
    score = f": {sum(verdicts)} of {len(verdicts)} right" if verdicts else ""
    cells = "".join(_sample(row, each) for row, each in predictions)
    return card("Samples", f'<p>Test rows, predicted by {whose}, {when}{score}.</p><ul class="samples">{cells}</ul>')


def _shown_model(models: Mapping[str, Any], summary: Summary) -> str:
    """Return the name of the final model; that of another one if it has no predictions."""
    final = summary.final
    name = (final.client or "") if final is not None else ""
    fold = re.search(r"fold-(\d+)", final.model) if final is not None else None
    wanted = [f"{name}, fold {fold[1]}"] if fold else []
    wanted += [name, *(each for each in models if each.startswith(f"{name}, fold "))]
    return next((each for each in wanted if each in models), list(models)[-1])


def _at(history: Sequence[Sequence[float]] | None, moment: int) -> Sequence[float] | None:
    return history[moment] if history and moment < len(history) else None


def _sample(row: Mapping[str, Any], predicted: PredictionText) -> str:
    if _PICTURE.fullmatch(row["picture"] or ""):
        shown = f'<img class="pixels" src="{row["picture"]}" alt="" width="64" height="64">'
    else:
        values = row["values"] or []
        shown = "".join(f"<span>{value:.3g}</span>" for value in values[:4]) + ("…" if len(values) > 4 else "")
        shown = f'<div class="values">{shown}</div>'
    right = "" if predicted.right is None else f' data-right="{str(predicted.right).lower()}"'
    sign = {None: "", True: "✓", False: "✗"}[predicted.right]
    label = {None: "", True: "right: ", False: "wrong: "}[predicted.right]
    truth = "" if predicted.right else f"is {text_of(row['truth'])}"
    return (
        f'<li class="sample"{right}><div class="picture">{shown}</div><span class="sign" aria-hidden="true">{sign}'
        f'</span><span class="answer"><span class="offscreen">{label}</span><span class="prediction">'
        f'{text_of(predicted.text)}</span> <span class="probability">{predicted.more}</span></span>'
        f'<span class="truth">{truth}</span></li>'
    )


# --- comparison ---------------------------------------------------------------------------------------------------


def comparison(summary: Summary, folder: Path) -> str:
    """Return the run beside the other one of its pair: on all clients, and on one machine."""
    pair, partner = pair_of(folder), partner_of(folder)
    if pair is None or partner is None:
        return ""
    try:
        other = read_summary((partner / "summary.json").read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return ""
    alone, both = (summary, other) if pair[1] else (other, summary)
    found, base = figures_of(both), figures_of(alone)
    changes = differences(found, base)

    def line(name: str, value: float) -> list[object]:
        change = changes.get(name, {})
        points, percent = change.get("points"), change.get("percent")
        shown = "" if points is None else f"{points:+.2f} points"
        return [name, value, base.get(name), shown, "" if percent is None else f"{percent:+.1f}\N{NO-BREAK SPACE}%"]

    heads = ["", f"{both.run}, all clients", f"{alone.run}, one machine", "difference", "in per cent"]
    sentence = verdict(len(both.clients), Times.of(both), Times.of(alone))
    listed = table(heads, (line(name, value) for name, value in found.items()))
    return card("Distributed against one machine", f"<p>{text_of(sentence)}</p>{listed}")


# --- timeline -----------------------------------------------------------------------------------------------------


def timeline(folder: Path) -> str:
    """Return the timeline, drawn with one lane for each client."""
    spans = timeline_of_run(folder)
    if not spans:
        return ""
    names = {span["client"] for span in spans}
    lanes = [*([SERVER] if SERVER in names else []), *sorted(names - {SERVER}, key=natural_key)]
    end = max(span["to"] for span in spans) or 1.0
    drawn = sorted(spans, key=lambda span: span["from"] - span["to"])[:MOST_DRAWN]
    height = len(lanes) * _LANE

    def x(at: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 10) * at / end

    def rect(span: Span) -> str:
        thin = _LANE * (0.3 if span["what"] == "wait" else 0.1)
        top, wide = lanes.index(span["client"]) * _LANE + thin, max(0.5, x(span["to"]) - x(span["from"]))
        return (
            f'<rect class="span-{span["what"]}" x="{x(span["from"]):.1f}" y="{top:.1f}" width="{wide:.1f}" '
            f'height="{_LANE - 2 * thin:.1f}"/>'
        )

    texts = "".join(
        f'<text x="0" y="{number * _LANE + 15}">{text_of(name[:18] or "server")}</text>'
        for number, name in enumerate(lanes)
    )
    for number in range(_TICKS + 1):
        at = end * number / _TICKS
        anchor = ' text-anchor="end"' if number == _TICKS else ""
        texts += f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="0" y2="{height}"/>'
        texts += f'<text x="{x(at):.1f}" y="{height + 16}"{anchor}>{at:.3g} s</text>'
    kinds = [kind for kind in KINDS if any(span["what"] == kind for span in spans)]
    key = "".join(
        f'<span><svg viewBox="0 0 26 11"><rect class="span-{k}" width="26" height="11"/></svg> {k}</span>'
        for k in kinds
    )
    picture = (
        f'<svg viewBox="0 0 {_WIDTH} {height + _AXIS}" role="img" aria-label="What each client did, by time">{texts}'
        f"{''.join(map(rect, drawn))}</svg>"
    )
    cut = f"<p>The longest {MOST_DRAWN:,} of {len(spans):,} spans are drawn.</p>" if len(spans) > MOST_DRAWN else ""
    return card("Timeline", f'<p class="key">{key}</p><div class="wide lanes">{picture}</div>{cut}')


# --- versions -----------------------------------------------------------------------------------------------------


def versions_of_run(folder: Path) -> dict[str, str]:
    """Return the versions with which the server of a run began; nothing if it did not record them."""
    found: dict[str, str] = {}
    for event, _ in read_events(folder, b'"began"'):
        if isinstance(event, RunBegan):
            found = event.versions
    return found


def versions(folder: Path) -> str:
    """Return the versions with which the server of a run began."""
    return card("Versions", table(["of the server", "version"], versions_of_run(folder).items()))
