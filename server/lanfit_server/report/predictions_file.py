"""`predictions.csv`: what the final model predicts for every test row, with targets; for people and programs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from lanfit.core.durable import atomic_file
from lanfit.core.logs import sanitize_cell
from lanfit_server.report.predictions import Cell, Predictions, table_of


def predictions_files(predictions: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Return the predictions of each output by the name of their file, numbered like the sheets of the workbook."""
    several = len(predictions) > 1
    return {
        f"predictions-{number}.csv" if several else "predictions.csv": each
        for number, each in enumerate(predictions.values(), 1)
    }


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the file atomically. Text is never a formula.

    Raises:
        InputError: the targets do not have the shape that the predictions ask for.
    """
    table = table_of(predictions)
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        for line in chain[Sequence[Cell]]([table.heads], table.rows):
            lines.writerow([sanitize_cell(cell) if isinstance(cell, str) else cell for cell in line])
