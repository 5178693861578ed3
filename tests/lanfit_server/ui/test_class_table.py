"""The table that shows who has how many rows of which class fits a terminal, however many clients there are."""

from __future__ import annotations

import numpy as np

from lanfit_server.ui.class_table import class_table


def test_a_row_for_each_class_and_a_column_for_each_client() -> None:
    classes = [np.array([0, 0, 2]), np.array([2] * 100)]
    assert class_table(classes, ["lab-1", "a-client-with-a-long-name"], None) == [
        "Rows per class on each client:",
        "class  lab-1  a-client-with-a…",
        "0          2                 0",
        "2          1               100",
        "all        3               100",
    ]


def test_classes_have_their_words() -> None:
    lines = class_table([np.array([0, 1]), np.array([1])], ["a", "b"], ["cat", "dog"])
    assert lines[2:4] == ["cat    1  0", "dog    1  1"]


def test_of_many_clients_the_first_and_last_are_shown_and_the_least_and_the_most() -> None:
    classes = [np.array([0] * number) for number in range(1, 101)]
    classes[50] = np.array([1])
    lines = class_table(classes, [f"c{number}" for number in range(1, 101)], None)
    assert lines[1:] == [
        "class  c1  c2  c3  c4  …  c99  c100  least  most  clients",
        "0       1   2   3   4  …   99   100      0   100       99",
        "1       0   0   0   0  …    0     0      0     1        1",
        "all     1   2   3   4  …   99   100      1   100      100",
    ]


def test_of_many_classes_the_first_are_shown_and_how_many_more_there_are() -> None:
    lines = class_table([np.arange(1000), np.arange(1000)], ["a", "b"], None)
    assert len(lines) == 44
    assert lines[-2] == "… and 960 more classes"
    assert lines[-1].split() == ["all", "1000", "1000"]
