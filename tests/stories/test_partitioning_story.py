"""How rows get to clients, from the outside: skewed on request, and shown before training starts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from running import assert_same_weights, each_model, flags, free_port
from small_workspace import TINY_JOB, SmallWorkspace, as_csv

pytestmark = pytest.mark.story
RUN_OF_TWO = {**TINY_JOB, "clients": 2, "local": 2, "epochs": 1}


def give(place: SmallWorkspace, rows: int) -> None:
    """So many rows of three classes that can be told apart."""
    classes = np.arange(rows) % 3
    place.x("x.csv", as_csv(np.stack([classes, np.arange(rows)], 1), "a,b"))
    place.y("y.csv", as_csv(classes.reshape(-1, 1), "label"))


def table(output: str) -> dict[str, list[int]]:
    """What the server shows of a deal: the rows of each client by class."""
    lines = output.partition("Rows per class on each client:\n")[2].splitlines()[1:]
    found = [re.fullmatch(r"(\S+)((?: +\d+)+)", line) for line in lines]
    shown = found[: found.index(None)] if None in found else found
    return {row[1]: [int(cell) for cell in row[2].split()] for row in shown if row is not None}


def run_of_two(place: SmallWorkspace, **job: object) -> dict[str, list[int]]:
    """Let two local clients do a job; returns the table that is shown before they begin."""
    with place.server(*flags(free_port(), **{**RUN_OF_TWO, **job})) as server:
        server.finish()
    shown = table(server.output)
    assert not shown or shown["all"] == [client["samples"] for client in place.summary()["clients"]]
    return shown


def test_folds_of_clients_that_lack_classes(small_workspace: SmallWorkspace) -> None:
    give(small_workspace, 90)
    shown = run_of_two(small_workspace, deal="classes", classes_per_client=1, method="kfold", folds=2)
    zeros, ones, twos = shown["0"], shown["1"], shown["2"]
    assert sorted(zeros) == sorted(twos) == [0, 24]
    assert (ones, shown["all"]) == ([12, 12], [36, 36])
    assert all(len(client["folds"]) == 2 for client in small_workspace.summary()["clients"])


def test_labels_are_skewed_as_wanted_and_repeating_the_job_repeats_it_to_the_bit(
    small_workspace: SmallWorkspace,
) -> None:
    give(small_workspace, 90)
    shown = run_of_two(small_workspace, deal="dirichlet", alpha=0.3)
    assert sum(shown["all"]) == 72
    assert max(abs(a - b) for a, b in shown.values()) > 5
    summary = small_workspace.summary()
    run = summary["run"]
    with small_workspace.server("--job", small_workspace.root / "logs" / run / "job.toml", "--yes") as again:
        again.finish()
    assert table(again.output) == shown
    for ours, theirs in zip(*(each_model(small_workspace, name) for name in small_workspace.runs), strict=True):
        assert_same_weights(ours, theirs)


def test_equal_shares_are_shown_and_the_usual_ones_are_not(small_workspace: SmallWorkspace) -> None:
    give(small_workspace, 30)
    assert run_of_two(small_workspace, deal="equal")["all"] == [12, 12]
    assert run_of_two(small_workspace) == {}
