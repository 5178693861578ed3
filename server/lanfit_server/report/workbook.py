"""`report.xlsx`: the summary, all histories and predictions for the test rows, for people. Computes nothing.

Numbers are written as numbers, and text as text, even if it begins with "=". With many test rows, only the wrong
predictions are here, and all are in `predictions.csv` (docs/decisions/0023).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lanfit.core.durable import atomic_file
from lanfit.core.logs import sanitize_cell
from lanfit.wire.figures import part_of
from lanfit_server.replay.curves import TRAINING
from lanfit_server.report.predictions import MOST_COLUMNS, Cell, Predictions, Table, sheet_of
from lanfit_server.report.predictions_file import predictions_files
from lanfit_server.store.ledger import RecordedLabels
from lanfit_server.store.summary import SECONDS, ClientFacts, RoundFacts, Summary

#: Widths of columns, in characters.
_FIRST_COLUMN, _OTHER_COLUMNS = 22, 14
#: Number formats: four digits, as everywhere, but not 0.0000 for 1e-7.
_USUAL, _EXTREME = "0.0000", "0.00E+00"
#: What a cell holds, in characters.
LONGEST_TEXT = 32_767


def write_workbook(path: Path, summary: Summary, predictions: Mapping[str, Predictions]) -> None:
    """Write the workbook atomically: "summary", "histories" and, if there are any, "rounds", "predictions".

    Of several outputs each has a sheet of its own, "predictions 1" and so on, with its name in the heads. Epochs are
    counted from 1. Rows are written as they are made, so memory does not grow with their number.

    Raises:
        InputError: the targets do not have the shape that the predictions ask for.
    """
    from xlsxwriter import Workbook
    from xlsxwriter.exceptions import FileCreateError

    tables = {name: sheet_of(each) for name, each in predictions.items()}
    try:
        with (
            atomic_file(path) as temporary,
            TemporaryDirectory(prefix="lanfit-") as scratch,
            Workbook(str(temporary), {"constant_memory": True, "tmpdir": scratch}) as book,
        ):
            book.set_properties({"author": "lanfit", "title": f"Run {summary.run}"})
            styles = _Styles.of(book)
            overview = _Sheet(book, styles, "summary", frozen=(0, 1))
            _write_summary(overview, summary, tables, list(predictions_files(predictions)))
            if summary.rounds:
                _write_rounds(_Sheet(book, styles, "rounds", frozen=(1, 1)), summary.rounds)
            _write_histories(_Sheet(book, styles, "histories", frozen=(1, 3)), summary.clients)
            for number, (name, table) in enumerate(tables.items(), 1):
                title = "predictions" if len(tables) == 1 else f"predictions {number}"
                sheet = _Sheet(book, styles, title, frozen=(1, 1))
                first, *others = table.heads
                sheet.heads(table.heads if len(tables) == 1 else [first, *(f"{name}: {head}" for head in others)])
                for row in table.rows:
                    sheet.line(row)
    except FileCreateError as error:  # it is not derived from the error that it wraps
        raise OSError(f"{error}") from error


def _write_summary(sheet: _Sheet, summary: Summary, tables: Mapping[str, Table], files: Sequence[str]) -> None:
    model, data = summary.model, summary.data
    where = "the server's test rows" if summary.metrics_from == "server" else "the clients' own rows"
    facts: dict[str, Cell] = {
        "run": summary.run,
        "status": summary.status,
        "why": summary.error,
        "method": summary.method,
        "seed": summary.seed,
        "model": model.file,
        "parameters": model.parameters,
        "data": data.source,
        "rows": data.samples,
        "training rows": data.train,
        "validation rows": data.validation,
        "test rows": data.test,
        "normalizer": data.normalizer,
        "labels": _labels(data.labels),
        "metrics measured on": where,
        "seconds, total": summary.seconds.get("total"),
        "seconds, training": summary.seconds.get("train"),
        "in predictions": next((table.left_out for table in tables.values() if table.left_out), None),
        "all predictions": ", ".join(files) or None,
    }
    sheet.section("Run")
    for name, value in facts.items():
        if value is not None:
            sheet.line([name, value])
    _write_outcome(sheet, summary)
    _write_clients(sheet, summary.clients)
    if any(client.folds for client in summary.clients):
        _write_folds(sheet, summary.clients)


def _labels(labels: RecordedLabels) -> str | None:
    if isinstance(labels, dict):
        return "; ".join(f"{name}: {', '.join(words)}" for name, words in labels.items()) or None
    return None if labels is None else ", ".join(labels)


def _write_outcome(sheet: _Sheet, summary: Summary) -> None:
    """Write the models of the run as a whole."""
    models: list[tuple[list[Cell], dict[str, float]]] = []
    if summary.final is not None:
        client, number = summary.final.client, summary.final.round
        of = f"the best client's: {client}" if client is not None else f"all clients', after round {number}"
        models.append((["final", of, summary.final.model], summary.final.metrics))
    models += [([one.name, "all clients' models", one.model], one.metrics) for one in summary.merged]
    if not models:
        return
    sheet.section("Models")
    scores = _names(metrics for _, metrics in models)
    sheet.heads(["model", "made of", "file", *scores])
    for cells, metrics in models:
        sheet.line([*cells, *(metrics.get(name) for name in scores)])


def _write_clients(sheet: _Sheet, clients: Sequence[ClientFacts]) -> None:
    sheet.section("Clients")
    scores = _names(client.metrics for client in clients)
    seconds = list(dict.fromkeys([*SECONDS, *_names(client.seconds for client in clients)]))
    sheet.heads(
        ["client", "status", "rows", *scores, "best epoch", "backend", "device", "threads", "tasks"]
        + [f"seconds, {name}" for name in seconds]
        + ["bytes received", "bytes sent", "model", "errors"]
    )
    for client in clients:
        cells: list[Cell] = [client.name, client.status, client.samples]
        cells += [client.metrics.get(name) for name in scores]
        cells += [_from_one(client.best_epoch), client.backend, client.device, client.threads, client.tasks]
        cells += [client.seconds.get(name) for name in seconds]
        cells += [client.bytes.received, client.bytes.sent, client.model, "; ".join(client.errors) or None]
        sheet.line(cells)


def _write_folds(sheet: _Sheet, clients: Sequence[ClientFacts]) -> None:
    """Write every fold and, below those of a client, the mean and the standard deviation of their metrics."""
    sheet.section("Folds")
    folds = [fold for client in clients for fold in client.folds]
    scores, metrics = _names(fold.scores for fold in folds), _names(fold.metrics for fold in folds)
    sheet.heads(
        ["client", "fold", "best epoch"]
        + [f"{name}, held-out rows" for name in scores]
        + [f"{name}, test rows" for name in metrics]
        + ["model"]
    )
    for client in clients:
        for fold in client.folds:
            cells: list[Cell] = [client.name, fold.fold, _from_one(fold.best_epoch)]
            cells += [fold.scores.get(name) for name in scores]
            cells += [fold.metrics.get(name) for name in metrics]
            sheet.line([*cells, fold.model])
        for name, values in (("mean", client.mean), ("sd", client.sd)):
            if values:
                sheet.line([client.name, name, None, *(values.get(score) for score in scores)])


def _write_rounds(sheet: _Sheet, rounds: Sequence[RoundFacts]) -> None:
    """Write one line per round: metrics of its new weights, times, participants."""
    metrics, training = _names(each.metrics for each in rounds), _names(each.training for each in rounds)
    facts = ("seconds", "seconds, overhead", "clients", "left out", "model")
    sheet.heads(["round", *metrics, *map(_of_clients, training), *facts])
    for each in rounds:
        cells: list[Cell] = [each.round, *(each.metrics.get(name) for name in metrics)]
        cells += [each.training.get(name) for name in training]
        left_out = "; ".join(f"{client}: {why}" for client, why in each.left_out.items())
        sheet.line([*cells, each.seconds, each.overhead_seconds, ", ".join(each.clients), left_out or None, each.model])


def _of_clients(name: str) -> str:
    """Return what the mean over the clients is called beside the metrics of the global model."""
    metric, part = part_of(name)
    return f"{metric}, in training" if part == TRAINING else f"{metric}, clients' validation"


def _write_histories(sheet: _Sheet, clients: Sequence[ClientFacts]) -> None:
    """Write one line per epoch: of every fold, or of the single training of a client without folds."""
    histories = [
        (client.name, fold.fold if fold else None, fold.history if fold else client.history)
        for client in clients
        for fold in client.folds or (None,)
    ]
    metrics = _names(history for _, _, history in histories)
    sheet.heads(["client", "fold", "epoch", *metrics])
    for client, number, history in histories:
        columns = [history.get(name, []) for name in metrics]
        for epoch, values in enumerate(zip_longest(*columns), 1):
            sheet.line([client, number, epoch, *values])


def _names(all_metrics: Iterable[Mapping[str, object]]) -> list[str]:
    """Return every name once, in the order of appearance."""
    return list(dict.fromkeys(name for metrics in all_metrics for name in metrics))


def _from_one(epoch: int | None) -> int | None:
    return None if epoch is None else epoch + 1


@dataclass(frozen=True)
class _Styles:
    """The formats of cells in a book."""

    head: Any
    usual: Any
    extreme: Any

    @classmethod
    def of(cls, book: Any) -> _Styles:
        head = book.add_format({"bold": True, "text_wrap": True, "valign": "top"})
        return cls(head, book.add_format({"num_format": _USUAL}), book.add_format({"num_format": _EXTREME}))


class _Sheet:
    """A sheet that is written from top to bottom.

    Args:
        frozen: how many rows and columns stay in sight.
    """

    def __init__(self, book: Any, styles: _Styles, name: str, frozen: tuple[int, int]) -> None:
        self._sheet = book.add_worksheet(name)
        self._styles = styles
        self._next = 0
        self._sheet.freeze_panes(*frozen)
        self._sheet.set_column(0, 0, _FIRST_COLUMN)
        self._sheet.set_column(1, MOST_COLUMNS - 1, _OTHER_COLUMNS)

    def section(self, title: str) -> None:
        """Begin a section of the sheet, below the existing rows."""
        if self._next:
            self._next += 1
        self.heads([title])

    def heads(self, names: Iterable[str]) -> None:
        """Append a line of bold text."""
        for column, name in enumerate(names):
            self._text(column, name, self._styles.head)
        self._next += 1

    def line(self, cells: Iterable[Cell]) -> None:
        """Append a line of numbers and text."""
        for column, value in enumerate(cells):
            if isinstance(value, str):
                self._text(column, value)
            elif isinstance(value, float) and not isfinite(value):
                self._text(column, str(value))  # Excel has no such number
            elif value is not None:
                self._sheet.write_number(self._next, column, value, self._style(value))
        self._next += 1

    def _style(self, value: float) -> Any:
        if isinstance(value, int) or value.is_integer():
            return None
        return self._styles.usual if 1e-3 <= abs(value) < 1e6 else self._styles.extreme

    def _text(self, column: int, text: str, style: Any = None) -> None:
        self._sheet.write_string(self._next, column, sanitize_cell(text)[:LONGEST_TEXT], style)
