"""Every error in answers, triggered from the outside: flags, questions, job and settings files, passphrases."""

from __future__ import annotations

from pathlib import Path

import pytest
from error_cases import Dialogue, ErrorCase, ErrorCases, Start, assert_reported, check
from running import Place, Program, client, free_port
from warm import WarmModels

pytestmark = pytest.mark.story
ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "work")


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_a_wrong_answer_is_named(place: Place, case: ErrorCase, warm: WarmModels) -> None:
    check(place, case, warm)


# --- values -----------------------------------------------------------------------------------------------------


@fails_with("value.not-whole", "--clients", "0")
def no_clients(place: Place) -> Start:
    return Start({"clients": 0})


@fails_with("value.not-whole", "--epochs", "-3")
def negative_epochs(place: Place) -> Start:
    return Start({"epochs": -3})


@fails_with("value.not-whole-in-range", "--port", "70000", "from 0 to 65535")
def impossible_port(place: Place) -> Start:
    return Start({"port": 70000})


@fails_with("value.not-a-share", "--test-split", "1.5")
def more_than_all_rows(place: Place) -> Start:
    return Start({"test_split": 1.5})


@fails_with("value.not-positive", "--learning-rate", "'0'")
def no_learning(place: Place) -> Start:
    return Start({"learning_rate": 0})


@fails_with("value.not-below-one", "--server-momentum", "'1'")
def momentum_that_never_forgets(place: Place) -> Start:
    return Start({"server_momentum": 1})


@fails_with("value.not-up-to-one", "--share", "'1.5'")
def more_than_all_clients(place: Place) -> Start:
    return Start({"share": 1.5})


@fails_with("value.no-absence", "--absent", "'lab-3'")
def an_absent_client_by_its_name(place: Place) -> Start:
    return Start({"absent": "lab-3"})


@fails_with("value.no-choice", "--aggregation", "'medain'", "did you mean 'median'?")
def misspelt_aggregation(place: Place) -> Start:
    return Start({"aggregation": "medain"})


@fails_with("value.no-choice", "'minmx'", "did you mean 'minmax'?")
def misspelt_normalizer(place: Place) -> Start:
    return Start({"normalizer": "minmx"})


@fails_with("value.empty", "--model")
def empty_model(place: Place) -> Start:
    return Start({"model": " "})


@fails_with("value.not-yes-or-no", "Start training?", "--collect", "'perhaps'")
def undecided(place: Place) -> Start:
    return Start({"host": "127.0.0.1", "port": free_port()}, answers="perhaps\n")


# --- questions --------------------------------------------------------------------------------------------------


@fails_with("question.input-ended", "'Server IP'", "--host")
def no_answers(place: Place) -> Start:
    return Start(answers="", options={"passphrase": None})


@fails_with("question.input-ended", "'Start training?", "--collect")
def too_few_answers(place: Place) -> Start:
    return Start(answers=f"127.0.0.1\n{free_port()}\n", options={"passphrase": None})


# --- files of settings ------------------------------------------------------------------------------------------


def job_of(place: Place, content: bytes) -> Start:
    path = place.root / "job.toml"
    path.write_bytes(content)
    return Start(arguments=["--job", path])


@fails_with("settings.missing", "nothing.toml")
def no_job_file(place: Place) -> Start:
    return Start(arguments=["--job", place.root / "nothing.toml"])


@fails_with("settings.unreadable", "the job file", "model")
def a_folder_as_job_file(place: Place) -> Start:
    return Start(arguments=["--job", place.root / "model"])


@fails_with("settings.not-utf8", "job.toml")
def a_job_in_latin_1(place: Place) -> Start:
    return job_of(place, "model = 'größe.h5'\n".encode("latin-1"))


@fails_with("settings.backslash", "job.toml", "line 1", "single quotes")
def a_windows_path_in_double_quotes(place: Place) -> Start:
    return job_of(place, b'model = "C:\\Users\\mia\\net.h5"\n')


@fails_with("settings.wrong", "model: 'C:\\new.h5' contains a control character", named=("value.control-character",))
def a_windows_path_whose_backslash_means_a_newline(place: Place) -> Start:
    return job_of(place, b'model = "C:\\new.h5"\n')


@fails_with("settings.not-toml", "job.toml", "line 1")
def a_job_that_is_no_toml(place: Place) -> Start:
    return job_of(place, b"epochs: 3\n")


@fails_with(
    "settings.wrong",
    *("4 errors", "epochs: -1 is not", "normaliser", "did you mean 'normalizer'?", "order is a table"),
    named=("settings.unknown-key", "settings.passphrase", "settings.table", "value.not-whole"),
)
def a_job_with_four_errors(place: Place) -> Start:
    return job_of(place, b'epochs = -1\nnormaliser = "minmax"\npassphrase = "velvet otter"\n[order]\nx = 1\n')


@fails_with("settings.wrong", "settings file", "server.toml", "batch_size")
def wrong_settings_of_the_server(place: Place) -> None:
    (place.root / "server").mkdir()
    (place.root / "server" / "server.toml").write_text('batch_size = "many"\n')


@fails_with("settings.waits", "server.toml", "5, 15 and 10 seconds")
def waits_that_contradict_each_other(place: Place) -> None:
    (place.root / "server").mkdir()
    (place.root / "server" / "server.toml").write_text('lost = "10s"\n')


def test_a_passphrase_in_a_job_file_is_not_repeated(place: Place) -> None:
    start = job_of(place, b'passphrase = "velvet otter"\n')
    with place.server(*start.arguments) as server:
        server.finish(2)
    assert "velvet" not in server.output


# --- the workspace and the passphrase ---------------------------------------------------------------------------


@fails_with("workspace.is-a-file", "dataset/X/digits.csv")
def a_file_as_workspace(place: Place) -> Start:
    return Start({"workspace": "dataset/X/digits.csv"})


@fails_with("passphrase.unreadable-file", "nothing.txt")
def no_passphrase_file(place: Place) -> Start:
    return Start({"passphrase_file": place.root / "nothing.txt"}, options={"passphrase": None})


@fails_with("passphrase.empty-file", "empty.txt")
def empty_passphrase_file(place: Place) -> Start:
    (place.root / "empty.txt").write_text("\nvelvet otter\n")
    return Start({"passphrase_file": place.root / "empty.txt"}, options={"passphrase": None})


def test_errors_go_to_stderr_alone_unless_json_is_requested(place: Place) -> None:
    with place.server("--clients", 0, "--yes") as server:
        server.finish(2)
    assert_reported("value.not-whole", server.output)
    assert server.stdout == b""


# --- a client's answers -----------------------------------------------------------------------------------------


def test_a_question_without_a_default_needs_an_answer(tmp_path: Path) -> None:
    with Program("client", folder=tmp_path, answers="\n") as worker:
        worker.finish(2)
    assert_reported("question.no-default", worker.output)
    assert "'Server IP'" in worker.output
    assert "Traceback" not in worker.output


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "state").write_text("a file where a folder must be")
    with client(tmp_path, free_port(), "one") as worker:
        worker.finish(4)
    assert_reported("system.refused", worker.output)
    assert "client/state" in worker.output
    assert "Traceback" not in worker.output


# --- at a terminal ----------------------------------------------------------------------------------------------


def test_at_a_terminal_wrong_answers_are_explained_and_asked_again(place: Place) -> None:
    """In the same words as they end the program elsewhere."""
    with place.server(terminal=True, passphrase=None) as server:
        dialogue = Dialogue(server)
        dialogue.answer("Server IP", "127.0.0.1")
        dialogue.answer("Port", "70000")
        dialogue.explains("value.not-whole-in-range", "Port")
        dialogue.answer("Port", str(free_port()))
        dialogue.answer("Start training", "perhaps")
        dialogue.explains("value.not-yes-or-no", "Start training")
        server.interrupt()
        server.finish(130)
    assert "Traceback" not in server.output
