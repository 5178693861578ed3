"""Which library writes the predictions of a run fastest? Child processes, one for each way, taking turns.

    python bench/report.py [--rows 10000] [--turns 5]

Each child imports what it needs and writes the predictions for the test rows of ten classes, as the end of a run does;
the time of the imports counts, because a server has not done them before. Printed: the median processor seconds of
each way, its ratio to the fastest, and the size of its file.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lanfit.data.labels import Target
from lanfit_server.report.predictions import Predictions, table_of

CLASSES = 10
#: As many cells as the workbook may have of the predictions.
FEW = 20_000


def predictions(rows: int) -> Predictions:
    random = np.random.default_rng(0)
    outputs = random.dirichlet(np.full(CLASSES, 0.05), rows).astype(np.float32)
    y = np.where(random.random(rows) < 0.97, outputs.argmax(1), random.integers(0, CLASSES, rows))
    return Predictions(Target.CLASSES, y, outputs, tuple(f"class {number}" for number in range(CLASSES)))


def lines(made: Predictions, cells: int | None = None) -> Iterable[list[object]]:
    table = table_of(made) if cells is None else table_of(made, cells)
    yield list(table.heads)
    yield from table.rows


def with_openpyxl(path: Path, made: Predictions, cells: int | None = None) -> None:
    from openpyxl import Workbook
    from openpyxl.cell import Cell

    book = Workbook(write_only=True)
    sheet = book.create_sheet("predictions")
    style = Cell(sheet, 1, 1)
    style.number_format = "0.0000"

    def cell(value: object) -> object:
        if isinstance(value, int):
            return value
        found = Cell(sheet, 1, 1, value, style._style)
        if isinstance(value, str):
            found.data_type = "s"
        return found

    for line in lines(made, cells):
        sheet.append([cell(value) for value in line])
    book.save(path)


def with_xlsxwriter(path: Path, made: Predictions, cells: int | None = None) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(str(path), {"constant_memory": True}) as book:
        sheet, style = book.add_worksheet("predictions"), book.add_format({"num_format": "0.0000"})
        for at, line in enumerate(lines(made, cells)):
            for column, value in enumerate(line):
                if isinstance(value, str):
                    sheet.write_string(at, column, value)
                else:
                    sheet.write_number(at, column, value, style)


def with_csv(path: Path, made: Predictions) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines(made))


def with_npz(path: Path, made: Predictions) -> None:
    with path.open("wb") as file:
        np.savez(file, y=made.y, predictions=made.predictions)


WAYS = {
    "openpyxl, all rows": with_openpyxl,
    "XlsxWriter, all rows": with_xlsxwriter,
    "CSV, all rows": with_csv,
    "npz, all rows": with_npz,
    f"openpyxl, {FEW:,} cells": lambda path, made: with_openpyxl(path, made, FEW),
    f"XlsxWriter, {FEW:,} cells": lambda path, made: with_xlsxwriter(path, made, FEW),
}


def child(way: str, rows: int, path: Path) -> None:
    made = predictions(rows)
    began = time.process_time()
    WAYS[way](path, made)
    print(time.process_time() - began, path.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        child(given.way, given.rows, given.path)
        return
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.turns):
            for way in WAYS:
                command = [sys.executable, __file__, "--rows", str(given.rows), "--way", way]
                command += ["--path", str(Path(folder) / "predictions")]
                found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                seconds[way].append(float(found[0]))
                sizes[way] = int(found[1])
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    fastest = min(medians.values())
    print(f"{'way':26}{'seconds':>9}{'ratio':>9}{'bytes':>12}")
    for way, median in medians.items():
        print(f"{way:26}{median:9.3f}{median / fastest:9.1f}{sizes[way]:12,}")


if __name__ == "__main__":
    main()
