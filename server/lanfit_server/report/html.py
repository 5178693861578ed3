"""`report.html`: a run in one file that needs no network and no script. It has the styles of the live page.

It is made from the files of the run alone, so it can be made again at any time. All text is escaped: names, errors and
metrics come from clients.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from lanfit.core.durable import atomic_write
from lanfit_server.replay.curves import (
    GLOBAL,
    TRAINING,
    VALIDATION,
    by_metric,
    curves_of_rounds,
    global_by_client,
    histories_of,
    is_drawable,
    mean_history,
)
from lanfit_server.report import sections
from lanfit_server.report.markup import card, number_of, table, text_of
from lanfit_server.store.summary import SECONDS, ClientFacts, Summary

#: The styles of the live page.
STYLES = Path(__file__).parent.parent / "ui" / "dashboard" / "static" / "app.css"
#: Nothing is loaded from anywhere, and no script is executed.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
#: The most classes of a confusion matrix, which is to be read.
MOST_CLASSES = 30
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _EDGE = 460, 240, 56, 28, 10
_OWN_STYLES = """
main { max-width: 76rem; margin: 0 auto; padding: 1.2rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
.curves svg { width: 100%; height: auto; } .wide { overflow-x: auto; }
svg text { fill: var(--muted); font-size: 12px; } .grid { stroke: var(--line); }
polyline, circle { fill: none; stroke-width: 2; } .faint { stroke: var(--faint); stroke-width: 1; opacity: 0.5; }
.training { stroke: var(--series-0); } .validation { stroke: var(--series-1); stroke-dasharray: 6 4; }
.global { stroke: var(--series-2); }
.key { display: flex; gap: 1.2rem; flex-wrap: wrap; color: var(--muted); font-size: 0.85rem; }
.key svg { width: 1.6rem; height: 0.7rem; } td.number, th.number { text-align: right; } td { white-space: nowrap; }
td.why { white-space: normal; min-width: 14rem; } .spans { display: flex; height: 1.1rem; min-width: 16rem; }
.kind { display: inline-block; width: 0.8rem; height: 0.8rem; } .spans i { display: block; height: 100%; }
table.matrix, .facts table { width: auto; } .matrix td { text-align: center; }
.matrix .right { font-weight: 700; outline: 2px solid var(--good); outline-offset: -3px; }
ul.samples { list-style: none; padding: 0; } .lanes svg { min-width: 44rem; width: 100%; }
pre { overflow-x: auto; font-size: 0.85rem; } @media print { .card { break-inside: avoid; box-shadow: none; } }
"""


def write_html(path: Path, summary: Summary) -> None:
    """Write the report of a run beside the other files of the run.

    Raises:
        OSError: a file can't be read or written.
    """
    atomic_write(path, html_of(summary, path.parent))


def html_of(summary: Summary, folder: Path) -> str:
    """Return the report of the run whose files are in a folder."""
    parts = [
        _outcome(summary),
        _warnings(summary),
        _curves(summary),
        _clients(summary),
        _rounds(summary),
        sections.comparison(summary, folder),
        _confusion(folder / "predictions.csv"),
        sections.samples(summary, folder),
        sections.timeline(folder),
        _times(summary.clients),
        _settings(summary, folder / "job.toml"),
        sections.versions(folder),
    ]
    title = text_of(f"Run {summary.run}")
    styles = STYLES.read_text("utf-8").replace('url("/static/icon.svg")', "none") if STYLES.is_file() else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{styles}{_OWN_STYLES}{sections.STYLES}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main></body></html>\n"
    )


def _outcome(summary: Summary) -> str:
    final = summary.final
    figures: dict[str, float] = dict(final.metrics) if final is not None else {}
    shown = "".join(
        f'<div class="figure"><div class="figure-name">{text_of(name)}</div>'
        f'<div class="figure-value">{number_of(value)}</div></div>'
        for name, value in figures.items()
    )
    where = "on the server's test rows" if summary.metrics_from == "server" else "on the clients' own rows"
    if final is None:
        made = "There is no final model."
    elif final.client is None:
        made = (
            f"The final model is the global model after round {final.round}, measured {where}: {text_of(final.model)}"
        )
    else:
        made = f"The final model is that of {text_of(final.client)}, measured {where}: {text_of(final.model)}"
    state = (
        f"{text_of(summary.status)}, method {text_of(summary.method)}, {summary.seconds.get('total', 0.0):.1f} seconds"
    )
    merged = table(
        ["merged model", "file", *(names := _names(each.metrics for each in summary.merged))],
        ([each.name, each.model, *(each.metrics.get(name) for name in names)] for each in summary.merged),
    )
    head = (
        f'<section class="card"><h1>Run {text_of(summary.run)}</h1><p class="lead">{state}</p><p>{made}</p></section>'
    )
    return f'{head}<div class="figures">{shown}</div>{card("Merged models", merged)}'


def _warnings(summary: Summary) -> str:
    lines = [summary.error] if summary.error else []
    lines += [f"{client.name}: {error}" for client in summary.clients for error in client.errors]
    for each in summary.rounds:
        lines += [f"round {each.round} without {client}: {why}" for client, why in each.left_out.items()]
    if summary.clients_wanted is not None:
        lines.append(f"The run started with fewer clients than the {summary.clients_wanted} requested.")
    return card("Warnings", "".join(f"<p>{text_of(line)}</p>" for line in dict.fromkeys(lines)))


def _names(all_metrics: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for metrics in all_metrics for name in metrics))


# --- curves ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chart:
    """One metric: its parts, and faint lines behind them."""

    name: str
    parts: Mapping[str, Sequence[float]]
    faint: Sequence[Sequence[float]]


#: What the lines of a chart are, in the order of the key.
_KEY_OF_ROUNDS = {
    TRAINING: "training, mean of the clients",
    VALIDATION: "validation, mean of the clients",
    GLOBAL: "global model",
    "faint": "global model, on each client",
}
_KEY_OF_EPOCHS = {TRAINING: "training", VALIDATION: "validation", "faint": "each training"}


def _curves(summary: Summary) -> str:
    """Return a chart for each metric: the mean of the trainings or the rounds, and faint each one."""
    if summary.rounds:
        step, key = "round", _KEY_OF_ROUNDS
        charts = [
            _Chart(name, parts, global_by_client(summary.rounds, name))
            for name, parts in curves_of_rounds(summary.rounds, summary.clients).items()
        ]
    else:
        step, key, own = "epoch", _KEY_OF_EPOCHS, histories_of(summary.clients)
        each = list(map(by_metric, own)) if len(own) > 1 else []
        charts = [
            _Chart(name, parts, [line for training in each for line in training.get(name, {}).values()])
            for name, parts in by_metric(mean_history(own)).items()
        ]
    drawn = [_chart(chart, step) for chart in charts]
    kinds = {kind for _, found in drawn for kind in found}
    line = '<svg viewBox="0 0 26 11" aria-hidden="true"><polyline class="{}" points="0,6 26,6"/></svg>'
    said = "".join(f"<span>{line.format(kind)} {text}</span>" for kind, text in key.items() if kind in kinds)
    figures = "".join(figure for figure, _ in drawn)
    return card("Curves", f'<p class="key">{said}</p><div class="curves">{figures}</div>' if figures else "")


def _chart(chart: _Chart, step: str) -> tuple[str, set[str]]:
    """Return a chart, and the kinds of its lines."""
    lines = [*(("faint", each) for each in chart.faint), *chart.parts.items()]
    values = [value for _, line in lines for value in line if is_drawable(value)]
    if not values:
        return "", set()
    low, high, longest = min(values), max(values), max(len(line) for _, line in lines)
    spread = (high - low) or abs(high) or 1.0

    def at(number: int, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT - _EDGE) * (number / (longest - 1) if longest > 1 else 0.5)
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _EDGE) * (value - low) / spread
        return f"{x:.1f},{y:.1f}"

    drawn = ""
    kinds = set()
    for kind, line in lines:
        points = [at(n, value) for n, value in enumerate(line) if is_drawable(value)]
        if points:
            kinds.add(kind)
        if len(points) == 1:
            x, y = points[0].split(",")
            drawn += f'<circle class="{kind}" cx="{x}" cy="{y}" r="3"/>'
        elif points:
            drawn += f'<polyline class="{kind}" points="{" ".join(points)}"/>'
    ticks = ""
    for value in (low, low + spread / 2, low + spread):
        height = float(at(0, value).split(",")[1])
        ticks += f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _EDGE}" y1="{height}" y2="{height}"/>'
        ticks += f'<text x="{_LEFT - 6}" y="{height + 4}" text-anchor="end">{value:.3g}</text>'
    ticks += f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{step} 1</text>'
    if longest > 1:
        ticks += f'<text x="{_WIDTH - _EDGE}" y="{_HEIGHT - 8}" text-anchor="end">{longest}</text>'
    shown = text_of(chart.name)
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{shown} by {step}">'
    return f"<figure><h3>{shown}</h3>{head}{ticks}{drawn}</svg></figure>", kinds


# --- tables ------------------------------------------------------------------------------------------------------


def _clients(summary: Summary) -> str:
    names = _names(client.metrics for client in summary.clients)
    heads = [
        "client",
        "status",
        "rows",
        *names,
        "best epoch",
        "backend",
        "device",
        "seconds of training",
        "MB received",
        "MB sent",
    ]
    rows = (
        [
            client.name, client.status, client.samples, *(client.metrics.get(name) for name in names),
            None if client.best_epoch is None else client.best_epoch + 1, client.backend, client.device,
            client.seconds.get("train", 0.0), client.bytes.received / 1e6, client.bytes.sent / 1e6,
        ]
        for client in summary.clients
    )  # fmt: skip
    folds = [(client, fold) for client in summary.clients for fold in client.folds]
    scores = _names(fold.scores for _, fold in folds)
    listed = table(
        ["client", "fold", *(f"{name}, held-out rows" for name in scores)],
        ([client.name, fold.fold, *(fold.scores.get(name) for name in scores)] for client, fold in folds),
    )
    return card("Clients", table(heads, rows)) + card("Folds", listed)


def _rounds(summary: Summary) -> str:
    names = _names(each.metrics for each in summary.rounds)
    rows = ([r.round, *(r.metrics.get(n) for n in names), r.seconds, len(r.clients)] for r in summary.rounds)
    return card("Rounds", table(["round", *names, "seconds", "clients"], rows))


def _confusion(path: Path) -> str:
    """Return the confusion matrix of the predictions for the test rows, with true classes as lines."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            if not {"true class", "predicted class"} <= set(lines.fieldnames or ()):
                return ""
            prefixes = ("probability of ", "output for ")
            heads = [name for name in lines.fieldnames or () if name.startswith(prefixes)]
            counts = Counter((line["true class"], line["predicted class"]) for line in lines)
    except FileNotFoundError:
        return ""
    order = [name.split(" ", 2)[2] for name in heads]
    found = {name for pair in counts for name in pair}
    classes = sorted(found, key=lambda name: (order.index(name) if name in order else -1, name))
    if not classes or len(classes) > MOST_CLASSES:
        return ""
    head = "".join(f'<th scope="col">{text_of(name)}</th>' for name in classes)
    body = "".join(
        f'<tr><th scope="row">{text_of(true)}</th>'
        + "".join(f"<td{' class=right' if true == made else ''}>{counts[true, made] or '·'}</td>" for made in classes)
        + "</tr>"
        for true in classes
    )
    table = (
        f'<table class="matrix"><thead><tr><th>true \\ predicted</th>{head}</tr></thead><tbody>{body}</tbody></table>'
    )
    return card(
        "Confusion matrix", f'<p>Of the final model on the server\'s test rows.</p><div class="wide">{table}</div>'
    )


def _times(clients: Sequence[ClientFacts]) -> str:
    """Return what each client spent its time on."""
    kinds = [kind for kind in SECONDS if any(client.seconds.get(kind) for client in clients)]
    longest = max((sum(client.seconds.get(kind, 0.0) for kind in kinds) for client in clients), default=0.0)
    if not longest:
        return ""

    def bar(kind: str, seconds: float) -> str:
        color = f"background:var(--span-{kind}, var(--edge));width:{100 * seconds / longest:.2f}%"
        return f'<i style="{color}" title="{kind}: {seconds:.2f} s"></i>'

    key = "".join(
        f'<span><i class="kind" style="background:var(--span-{kind}, var(--edge))"></i> {kind}</span>' for kind in kinds
    )
    rows = "".join(
        f'<tr><th scope="row">{text_of(client.name)}</th><td class="why"><div class="spans">'
        + "".join(bar(kind, client.seconds.get(kind, 0.0)) for kind in kinds if client.seconds.get(kind))
        + "</div></td></tr>"
        for client in clients
    )
    return card("Time of the clients", f'<p class="key">{key}</p><div class="wide"><table>{rows}</table></div>')


def _settings(summary: Summary, job: Path) -> str:
    facts = {
        "model": summary.model.file, "parameters": summary.model.parameters, "data": summary.data.source,
        "training rows": summary.data.train, "validation rows": summary.data.validation,
        "test rows": summary.data.test, "normalizer": summary.data.normalizer, "seed": summary.seed,
    }  # fmt: skip
    text = job.read_text("utf-8", "replace") if job.is_file() else ""
    settings = f"<h3>job.toml</h3><pre>{escape(text)}</pre>" if text else ""
    values = table(["setting", "value"], ((name, str(value)) for name, value in facts.items()))
    return card("Settings", f'<div class="facts">{values}</div>{settings}')
