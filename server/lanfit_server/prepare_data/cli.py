"""The commands `lanfit prepare` and `lanfit predict`: read the command line, print the outcome, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from lanfit.core.commands import interrupt_on_termination, reported
from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.core.workspace import find_workspace
from lanfit.data.tables import DECIMALS, THOUSANDS
from lanfit.errors import lanfit_error

_SETTINGS = {"help_option_names": ["-h", "--help"]}
_COLUMN = "A column to {what}: its name or number. Can be repeated, or separate names with commas."


@click.command(context_settings=_SETTINGS)
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TABLE...")
@click.option("--target", metavar="COLUMN", help="The column to predict: its name or number; none for no target.")
@click.option("--task", help="classification or regression.  [default: inferred from the target]")
@click.option("--model", help="Also create a compiled model and its script: mlp, cnn or none.  [default: none]")
@click.option(
    "--size", metavar="HxW", help="The size of images, such as 64x64.  [default: their own, if all have the same size]"
)
@click.option("--number", multiple=True, metavar="COLUMN", help=_COLUMN.format(what="use as a number"))
@click.option("--category", multiple=True, metavar="COLUMN", help=_COLUMN.format(what="use as a category"))
@click.option("--date", multiple=True, metavar="COLUMN", help=_COLUMN.format(what="use as a date"))
@click.option("--drop", multiple=True, metavar="COLUMN", help=_COLUMN.format(what="leave out"))
@click.option("--decimal", help="The decimal separator: point or comma.  [default: detected]")
@click.option("--thousands", help="The thousands separator: comma, point, space or none.  [default: detected]")
@click.option("--day-first/--month-first", default=None, help="How to read dates such as 01/02/2020.")
@click.option(
    "--missing", multiple=True, metavar="TEXT", help="An additional text that marks a missing value. Can be repeated."
)
@click.option(
    "--replace", is_flag=True, help="Move existing files in dataset/X and dataset/Y aside; overwrite the model."
)
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder with model/ and dataset/.")
@click.option("--yes", is_flag=True, help="Accept the default of every remaining question.")
@click.option("--json", "as_json", is_flag=True, help="Print only one JSON object on standard output.")
def prepare(
    tables: Sequence[Path],
    target: str | None,
    task: str | None,
    model: str | None,
    size: str | None,
    number: Sequence[str],
    category: Sequence[str],
    date: Sequence[str],
    drop: Sequence[str],
    decimal: str | None,
    thousands: str | None,
    day_first: bool | None,
    missing: Sequence[str],
    replace: bool,
    workspace: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Create dataset/ from tables, or from a folder of images with one subfolder per class.

    Shows how each column will be used, accepts corrections, and writes dataset/X, dataset/Y and dataset/recipe.json,
    with which `lanfit predict` converts new rows in the same way.
    """
    interrupt_on_termination()
    with reported(as_json=as_json):
        from lanfit_server.prepare_data.app import Request, prepare_any
        from lanfit_server.prepare_data.decide import Corrections

        uses = _uses({"number": number, "category": category, "date": date, "drop": drop})
        signs = (_sign(decimal, "--decimal", DECIMALS), _sign(thousands, "--thousands", THOUSANDS))
        corrections = Corrections(uses, *signs, day_first, tuple(missing))
        request = Request(
            find_workspace(workspace, Path.cwd()), tuple(tables), target, task, model, size, corrections, replace
        )
        outcome = prepare_any(request, Terminal(take_defaults=yes).take_logs())
        if as_json:
            click.echo(msgspec.json.encode(outcome))
        else:
            click.echo("\n".join(outcome.lines()))


def _sign(given: str | None, flag: str, known: Mapping[str, str]) -> str | None:
    """Return a separator by its name, or the separator itself."""
    if given is None or (given and given in known.values()):
        return given
    if given not in known:
        raise lanfit_error("prepare.no-sign", flag=flag, sign=given, known=", ".join(known))
    return known[given]


def _uses(given: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the uses of columns given by flags; a name may contain commas, so both readings are looked up later."""
    return {name: use for use, names in given.items() for text in names for name in _split(text)}


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@click.command(context_settings=_SETTINGS)
@click.argument("model", metavar="MODEL")
@click.argument("rows", type=click.Path(path_type=Path), metavar="ROWS")
@click.option("--out", default="predictions.csv", type=click.Path(path_type=Path), help="The file to write.")
@click.option("--recipe", type=click.Path(path_type=Path), help="A recipe.json.  [default: the one next to the model]")
@click.option("--replace", is_flag=True, help="Overwrite the file.")
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder with model/ and dataset/.")
@click.option("--json", "as_json", is_flag=True, help="Print only one JSON object on standard output.")
def predict(
    model: str, rows: Path, out: Path, recipe: Path | None, replace: bool, workspace: Path | None, as_json: bool
) -> None:
    """Predict the rows of a table, an npz file or images with a trained model.

    MODEL is a file such as model/collected/RUN/final.keras, or the name of a run. The recipe and the class names are
    found next to it.
    """
    interrupt_on_termination()
    with reported(as_json=as_json):
        from lanfit_server.prepare_data.dialog import print_notes
        from lanfit_server.prepare_data.predict import predict as predict_rows

        outcome = predict_rows(find_workspace(workspace, Path.cwd()), model, rows, out, recipe, replace=replace)
        print_notes(outcome.notes)
        if as_json:
            click.echo(msgspec.json.encode(outcome))
        else:
            click.echo(f"{outcome.out}: {pluralize(outcome.rows, 'row')} predicted.")
