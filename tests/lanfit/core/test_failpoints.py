"""The labelled failpoints: each stands exactly once, where its half of the table says, and kills for sure."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys

import pytest
from test_architecture import modules

from lanfit.core.failpoints import CLIENT_POINTS, ROUND_POINTS, SERVER_POINTS, VARIABLE

TABLES = {"lanfit_server": {**SERVER_POINTS, **ROUND_POINTS}, "lanfit_client": CLIENT_POINTS}


def labels_in(package: str) -> list[str]:
    """The label of every call of `failpoint` in a package."""
    found = []
    for module, path in modules().items():
        if module.split(".")[0] == package:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                    found.append(ast.literal_eval(node.args[0]))
    return found


@pytest.mark.parametrize("package", TABLES)
def test_every_label_of_the_table_is_passed_at_one_place_and_no_other_label_is(package: str) -> None:
    assert sorted(labels_in(package)) == sorted(TABLES[package])


def passes(wanted: str | None, times: int) -> subprocess.CompletedProcess[str]:
    """A process that passes a failpoint several times, and says so each time."""
    environment = {**os.environ, VARIABLE: wanted or ""}
    if wanted is None:
        del environment[VARIABLE]
    code = "from lanfit.core.failpoints import failpoint\n" + "failpoint('a.b'); print('passed', flush=True)\n" * times
    return subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.skipif(os.name == "nt", reason="there are no signals")
@pytest.mark.parametrize(("wanted", "survived"), [("a.b", 0), ("a.b:1", 0), ("a.b:3", 2)])
def test_a_process_dies_as_by_kill_9_where_it_passes_the_label_for_the_nth_time(wanted: str, survived: int) -> None:
    died = passes(wanted, 4)
    assert died.returncode == -signal.SIGKILL
    assert died.stdout == "passed\n" * survived


@pytest.mark.parametrize("wanted", [None, "", "a.b:5", "a", "b.a"])
def test_nothing_happens_without_the_label(wanted: str | None) -> None:
    lived = passes(wanted, 4)
    assert lived.returncode == 0, lived.stderr
    assert lived.stdout == "passed\n" * 4
