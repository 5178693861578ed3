"""The reference says what the code says, whatever fields and flags there are."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import pytest

from lanfit import errors
from lanfit.cli import COMMANDS
from lanfit.settings import fields, job
from lanfit.settings.fields import Field
from lanfit_client import settings
from lanfit_server.cli import EXIT_CODES
from lanfit_server.start import prompts

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference.md"
sys.path.insert(0, str(DOCS))
import tables as documents  # noqa: E402
import tables_of_reference as reference  # noqa: E402


def lines(name: str) -> list[list[str]]:
    """The cells of a table, without its heads."""
    text = reference.TABLES[name]()
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.splitlines()[2:]]


def test_the_tables_in_the_reference_are_those_of_the_code() -> None:
    assert documents.filled(REFERENCE) == REFERENCE.read_text("utf-8"), "run: python docs/tables.py docs/reference.md"


def test_writing_the_tables_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "reference.md"
    path.write_text(REFERENCE.read_text("utf-8").replace("batch_size", "stale"), "utf-8")
    documents.main([str(path)])
    assert path.read_text("utf-8") == REFERENCE.read_text("utf-8")


def test_questions_are_numbered_in_the_order_in_which_the_tutorial_is_asked_them() -> None:
    """A test runs the tutorial, so its order is the real one; it may leave out what is asked only sometimes."""
    tutorial = (DOCS / "tutorial.md").read_text("utf-8").partition("```console questions\n")[2].partition("```")[0]
    shown = [re.sub(r"( \([^)]*\))? \[.*", "", line).rstrip(": ") for line in tutorial.splitlines()]
    questions = [line[1] for line in lines("questions")]
    assert [question for question in questions if question in shown] == shown
    assert [int(line[0]) for line in lines("questions")] == list(range(1, len(questions) + 1))


def test_every_field_has_one_line() -> None:
    listed = [line[3] for line in lines("questions")] + [line[1] for line in lines("never-asked")]
    assert sorted(set(listed) - {"–"}) == sorted(f"`{key}`" for key in job.FIELDS)
    assert len(listed) == len(job.FIELDS) + 1, "the fields and the passphrase"
    assert [line[0] for line in lines("client-settings")] == [f"`{key}`" for key in settings.SETTINGS]
    assert [line[0] for line in lines("server-settings")] == [f"`{key}`" for key in reference.SERVER_SETTINGS]
    assert set(prompts.SETTINGS) - set(job.FIELDS) == set(reference.SERVER_SETTINGS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_command_is_in_the_reference(name: str) -> None:
    text = REFERENCE.read_text("utf-8")
    for parameter in reference.command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.hidden or all(f"`{flag}`" in text for flag in parameter.opts), parameter.opts
        else:
            assert f"`{parameter.metavar}`" in text
    assert f"`lanfit {name}`" in text


@pytest.mark.parametrize("name", ["server", "simulate"])
@pytest.mark.parametrize("flag", ["--deal", "--partition"])
def test_partition_is_another_name_of_the_flag_deal(name: str, flag: str) -> None:
    command = reference.command(name)
    job_file = ["job.toml"] if name == "simulate" else []
    with command.make_context(name, [*job_file, flag, "equal"]) as context:
        assert context.params["deal"] == "equal"


def test_hidden_flags_are_not_told() -> None:
    assert "--child" not in REFERENCE.read_text("utf-8")


def test_a_default_stands_in_the_words_of_the_field_or_as_its_value() -> None:
    assert reference.default(job.FIELDS["model"], None) == job.FIELDS["model"].default
    assert reference.default(job.FIELDS["epochs"], 5) == "5"
    assert reference.default(job.FIELDS["local"], 0) == "0"
    assert reference.default(job.FIELDS["seed"], ("average", "ensemble")) == "average,ensemble"
    assert [reference.default(job.FIELDS["seed"], value) for value in ((), None, False)] == ["none", "–", "false"]
    by_flag = {line[2]: line for line in lines("questions")}
    assert by_flag["`--collect`"][4:6] == ["Y or n", "Y"]


@pytest.mark.parametrize(
    ("parse", "reported"),
    [
        (fields.int_range(2), "a whole number of at least 2"),
        (fields.int_range(1, 9), "a whole number from 1 to 9"),
        (fields.fraction, "a fraction of the rows: at least 0 and less than 1, such as 0.2"),
        (fields.positive, "a number above 0"),
        (fields.choice({"1": "kfold", "2": "fit"}), "1 kfold, 2 fit"),
        (fields.choice({"XY": "XY", "XX": "XX"}, upper=True), "XY, XX"),
        (fields.yes_or_no, "Y or n"),
        (fields.text, "text"),
        (fields.names, "names, separated by commas"),
    ],
)
def test_answers_are_described_in_the_words_in_which_a_wrong_one_is_refused(parse: object, reported: str) -> None:
    assert reference.answers(Field("new", parse, "A field of tomorrow.")) == reported  # type: ignore[arg-type]


def test_a_field_that_is_added_gets_its_line_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(text: str) -> str:
        raise errors.InputError("write NAME=VALUE")

    asked = Field("cheese", parse, "Which | cheese.", "Cheese (1 brie)", default="brie")
    never = Field("wine_cellar", fields.text, "Where it is.", default="below")
    added = {"host": job.FIELDS["host"], "clients": job.FIELDS["clients"], "cheese": asked, "wine_cellar": never}
    monkeypatch.setattr(job, "FIELDS", added)
    monkeypatch.setattr(job, "default_of", lambda key: None)
    cheese = "4 | Cheese | `--cheese` | `cheese` | write NAME=VALUE | brie | Which \\| cheese."
    assert cheese in reference.TABLES["questions"]()
    assert lines("never-asked") == [["`--wine-cellar`", "`wine_cellar`", "text", "below", "Where it is."]]


def test_every_cause_of_every_exit_code_has_a_line_of_its_own() -> None:
    reported = [(int(code), when) for code, when, _ in lines("exit-codes")]
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LanfitError) and kind is not errors.LanfitError
    ]
    assert {(kind.exit_code, kind.__doc__) for kind in kinds} <= set(reported)
    assert {(code, f"The run's status is {status}.") for status, code in EXIT_CODES.items()} <= set(reported)
    assert len(reported) == len(kinds) + len(EXIT_CODES) + 1
    assert all(what for _, _, what in lines("exit-codes"))
