"""Questions about the data: which are asked, and what flags and server.toml say to them."""

from __future__ import annotations

import io

import pytest

from lanfit.core.terminal import Terminal
from lanfit.errors import InputError
from lanfit.settings.fields import Value
from lanfit.settings.job import make_job
from lanfit_server.start.job_prompts import ask_data
from lanfit_server.start.prompts import Answers


def asked(
    answers: str, given: dict[str, Value] | None = None, settings: dict[str, Value] | None = None
) -> tuple[dict[str, Value], str]:
    """What was found out, without what was left open, and what was asked."""
    talk = io.StringIO()
    found = ask_data(Answers(Terminal(io.StringIO(answers), talk), given or {}, settings or {}))
    return {key: value for key, value in found.items() if value is not None}, talk.getvalue()


def test_only_a_keras_dataset_needs_a_name_and_rows() -> None:
    found, talk = asked("3\nFashion-MNIST\n500\n")
    assert found == {"data": "keras", "dataset": "fashion_mnist", "samples": 500}
    questions = ["Data (1 files, 2 client, 3 keras) [files]: ", "Keras dataset: ", "How many rows [all]: "]
    assert talk.split("\n") == [*questions, ""]
    assert asked("keras\nmnist\n\n")[0]["samples"] == asked("keras\nmnist\nall\n")[0]["samples"] == 0
    assert asked("\n") == ({"data": "files"}, f"{questions[0]}\n")
    assert asked("2\n") == ({"data": "client"}, f"{questions[0]}\n")


def test_to_name_a_set_is_to_say_that_the_data_is_one() -> None:
    assert asked("\n", {"dataset": "Mnist"}) == (
        {"data": "keras", "dataset": "mnist", "samples": 0},
        "How many rows [all]: \n",
    )
    # What contradicts it is not overlooked.
    found, _ = asked("", {"data": "files", "dataset": "mnist"})
    with pytest.raises(InputError, match="--dataset mnist is for Keras datasets"):
        make_job(found)


def test_a_wrong_name_is_refused_at_its_question_and_as_a_flag() -> None:
    for answers, given in (("keras\nmnits\n", {}), ("", {"dataset": "mnits"})):
        with pytest.raises(InputError, match="did you mean 'mnist'"):
            asked(answers, given)


def test_a_flag_for_rows_counts_for_files_too() -> None:
    assert asked("1\n", {"samples": 100})[0] == {"data": "files", "samples": 100}


def test_lines_of_server_toml_are_defaults_where_they_are_meant_and_nothing_elsewhere() -> None:
    settings: dict[str, Value] = {"data": "keras", "dataset": "cifar10", "samples": 50, "dataset_args": "num_words=9"}
    assert asked("\n\n\n", {}, settings)[0] == {"data": "keras", "dataset": "cifar10", "samples": 50}
    assert asked("1\n", {}, settings)[0] == {"data": "files", "samples": 50}
    assert asked("2\n", {}, settings)[0] == {"data": "client"}
    # Not asked for: the line counts for a set, and for nothing else.
    assert ask_data(Answers(Terminal(io.StringIO("1\n"), io.StringIO()), {}, settings))["dataset_args"] is None
    assert "dataset_args" not in ask_data(Answers(Terminal(io.StringIO("3\n\n\n"), io.StringIO()), {}, settings))
