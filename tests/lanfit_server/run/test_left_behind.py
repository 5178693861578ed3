"""A run that an earlier server left behind: offered at a terminal, and never gone on with unasked."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from test_retention import make_run

from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.settings.fields import Value
from lanfit_server.report.text import lines
from lanfit_server.run.resume import how_to_resume
from lanfit_server.start.options import Options
from lanfit_server.start.startup import left_behind
from lanfit_server.store.summary import DataFacts, ModelFacts, Summary


class AtTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def asked(
    folder: Path, *, answer: str = "\n", given: Mapping[str, Value] | None = None, yes: bool = False
) -> tuple[str | None, str]:
    """The run that is gone on with, and what was said."""
    talk = io.StringIO()
    terminal = Terminal(AtTerminal(answer), talk, take_defaults=yes)
    return left_behind(Options(Workspace(folder), given or {}), terminal), talk.getvalue()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_run(Workspace(tmp_path), "run-1", "done")
    make_run(Workspace(tmp_path), "run-2", "unfinished")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "dataset").mkdir()
    return tmp_path


def test_who_says_nothing_of_a_job_is_asked(place: Path) -> None:
    assert asked(place) == ("run-2", "Run run-2 is unfinished. Resume it? (Y/n) [Y]: ")
    assert asked(place, answer="n\n")[0] is None
    assert asked(place, given={"host": "127.0.0.1", "port": 8470})[0] == "run-2", "that is no job"


@pytest.mark.parametrize("given", [{"epochs": 3}, {"host": "127.0.0.1", "model": "net.h5"}, {"clients": 2}])
def test_a_job_begins_a_new_run_and_says_how_to_resume_the_other(place: Path, given: dict[str, Value]) -> None:
    run, output = asked(place, given=given)
    assert run is None
    assert output == "Run run-2 is unfinished; this is a new run. Resume that one with: lanfit server --resume run-2\n"


def test_yes_never_means_the_run_that_is_unfinished(place: Path) -> None:
    run, output = asked(place, yes=True)
    assert run is None
    assert "this is a new run" in output


def test_one_that_was_interrupted_is_offered_until_another_is_begun(tmp_path: Path) -> None:
    make_run(Workspace(tmp_path), "run-1", "interrupted")
    assert asked(tmp_path) == ("run-1", "Run run-1 was interrupted. Resume it? (Y/n) [Y]: ")
    make_run(Workspace(tmp_path), "run-2", "done")
    assert asked(tmp_path) == (None, "")


@pytest.mark.parametrize("status", ["done", "partial", "failed"])
def test_a_run_that_has_ended_is_not_offered(tmp_path: Path, status: str) -> None:
    make_run(Workspace(tmp_path), "run-1", status)
    assert asked(tmp_path) == (None, "")


def test_the_line_that_resumes_a_run_works_from_where_one_is(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workspace = Workspace(place)
    assert how_to_resume(workspace, "run-2") == "lanfit server --resume run-2"
    assert how_to_resume(workspace, "run-2", simulated=True) == "lanfit simulate --resume run-2"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    line = how_to_resume(workspace, "run-2")
    assert line == f"lanfit server --resume run-2 --workspace {shlex.quote(str(place))}"
    (place / "server").mkdir()
    (place / "server" / "__main__.py").touch()
    monkeypatch.chdir(place)
    assert how_to_resume(workspace, "run-2") == "python server --resume run-2"


def test_a_run_without_figures_shows_no_table_of_them_and_how_it_is_gone_on_with() -> None:
    data = DataFacts("files", 12, 8, 1, 3, "none", None)
    summary = Summary(run="run-1", status="interrupted", method="fit", seed=0, metrics_from="server",
        model=ModelFacts("net.h5", 8), data=data, clients=(), final=None, seconds={"total": 3.2})  # fmt: skip
    reported = lines(summary, "logs/run-1", "model/collected/run-1", "lanfit server --resume run-1")
    assert reported[0] == "Run run-1: interrupted, 3.2 s."
    assert "Measured" not in "\n".join(reported)
    assert reported[-1] == "Resume it with: lanfit server --resume run-1"
