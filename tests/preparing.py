"""Runs `lanfit prepare` and `lanfit predict` in this process, as from a command line, in a workspace of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from lanfit.cli import main

#: People of whom each column holds another thing.
PEOPLE = """id,name,age,city,joined,income,bought
1,Ann Lee,31,Oslo,2020-01-02,"$1,200.50",yes
2,Bob Ray,40,Rome,2021-05-06,"$950.00",no
3,Cyd Foe,,Oslo,2021-07-08,"$1,100.00",yes
4,Dan Hay,25,,2020-02-03,"$2,000.00",no
5,Eve Kay,55,Rome,2019-12-31,"$700.00",no
6,Fay Doe,47,Oslo,2020-03-04,"$1,000.00",yes
"""


@dataclass(frozen=True)
class TableFolder:
    """A workspace, and the commands in it."""

    root: Path

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: object, answers: str | None = None) -> Result:
        """Run `lanfit` with these arguments and `--workspace`."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return CliRunner().invoke(main, [*map(str, arguments), "--workspace", str(self.root)], input=answers)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def prepare(self, *arguments: object) -> dict[str, Any]:
        """Run `lanfit prepare --yes --json` and return what it says."""
        done = self.run("prepare", *arguments, "--yes", "--json")
        assert done.exit_code == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def refused(self, *arguments: object, answers: str | None = None) -> Result:
        done = self.run(*arguments, answers=answers)
        assert done.exit_code == 2, (done.stdout, done.stderr, done.exception)
        return done

    def inputs(self) -> tuple[list[str], list[list[float]]]:
        """The names and rows of X."""
        lines = self._only("X")
        return lines[0], [[float(cell) for cell in line] for line in lines[1:]]

    def targets(self) -> list[str]:
        """The header and the cells of Y."""
        return [line[0] for line in self._only("Y")]

    def recipe(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "dataset" / "recipe.json").read_text(encoding="utf-8"))
        return found

    def _only(self, folder: str) -> list[list[str]]:
        import csv

        [path] = (self.root / "dataset" / folder).iterdir()
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))


def column(prepared: TableFolder, name: str) -> list[float]:
    """A column of X."""
    names, rows = prepared.inputs()
    return [row[names.index(name)] for row in rows]


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The text of a csv file without quotes."""
    return "\n".join(",".join(map(str, line)) for line in [names, *rows]) + "\n"
