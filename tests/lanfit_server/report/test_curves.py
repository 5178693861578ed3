"""The curves of a run: validation is a part of its metric, never a metric of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_workbook import client, round_facts

from lanfit_server.replay.curves import (
    GLOBAL,
    TRAINING,
    VALIDATION,
    by_metric,
    curves_of_rounds,
    mean_history,
    points_of_round,
)

METRICS = st.sampled_from(["loss", "accuracy", "mae", "top 5", "f1"])
FIGURES = st.dictionaries(METRICS | METRICS.map("val_{}".format), st.floats(0, 1), max_size=8)


@given(FIGURES.map(lambda figures: {name: [value] for name, value in figures.items()}))
def test_every_column_of_a_history_is_a_part_of_its_metric(history: Mapping[str, list[float]]) -> None:
    found = by_metric(history)
    assert list(found) == sorted(found, key=lambda name: name != "loss"), "the loss comes first"
    assert not [name for name in found if name.startswith("val_")]
    columns = {
        f"{'val_' if part == VALIDATION else ''}{name}": values
        for name, parts in found.items()
        for part, values in parts.items()
    }
    assert columns == dict(history)


@given(FIGURES, FIGURES, st.dictionaries(st.sampled_from(["a", "b"]), FIGURES))
def test_no_part_of_a_round_is_a_metric_of_its_own(
    training: dict[str, float], metrics: dict[str, float], validation: dict[str, dict[str, float]]
) -> None:
    found = curves_of_rounds(
        [round_facts(training=training, metrics=metrics, validation=validation)], [client("a"), client("b")]
    )
    assert not [name for name in found if name.startswith("val_")]
    assert all(parts.keys() <= {TRAINING, VALIDATION, GLOBAL} for parts in found.values())


def test_a_round_has_what_clients_trained_what_they_validated_and_the_global_model() -> None:
    rounds = [
        round_facts(n, training={"loss": 1.0 / n, "val_loss": 2.0 / n}, metrics={"loss": 3.0 / n, "f1": 0.5})
        for n in (1, 2)
    ]
    assert curves_of_rounds(rounds, []) == {
        "loss": {TRAINING: [1.0, 0.5], VALIDATION: [2.0, 1.0], GLOBAL: [3.0, 1.5]},
        "f1": {GLOBAL: [0.5, 0.5]},
    }


def test_without_test_rows_the_global_model_has_the_mean_of_the_clients_weighted_by_their_rows() -> None:
    clients = [client("a", samples=30), client("b", samples=10)]
    rounds = [round_facts(validation={"a": {"loss": 1.0}, "b": {"loss": 2.0}}), round_facts(2)]
    (first, second) = curves_of_rounds(rounds, clients)["loss"][GLOBAL]
    assert first == pytest.approx(1.25, abs=1e-12)
    assert math.isnan(second), "a round that was not evaluated is a gap"


def test_points_of_a_round_are_training_and_the_global_model_on_the_rows_that_there_are() -> None:
    logs = {"loss": 1.0, "val_loss": 3.0}
    assert sorted(points_of_round({"loss": 3.0}, logs)) == [("loss", "test", 3.0), ("loss", "training", 1.0)]
    alone = sorted(points_of_round({"val_loss": 3.0}, logs))
    assert alone == [("loss", "training", 1.0), ("loss", "validation", 3.0)]


def test_the_mean_of_an_epoch_is_that_of_the_trainings_that_have_come_so_far() -> None:
    histories = [{"loss": [4.0, 2.0], "val_loss": [1.0, float("nan")]}, {"loss": [2.0]}]
    mean = mean_history(histories)
    assert mean["loss"] == [3.0, 2.0]
    assert mean["val_loss"][0] == 1.0
    assert math.isnan(mean["val_loss"][1])
