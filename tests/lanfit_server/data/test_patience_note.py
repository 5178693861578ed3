"""Patience without validation rows is announced before anybody works."""

from __future__ import annotations

import pytest

from lanfit.settings.job import Job
from lanfit_server.data.prepare import patience_note


@pytest.mark.parametrize(
    ("job", "validation"),
    [(Job(patience=3), 0), (Job(patience=3, method="kfold", validation_split=0.0), 0)],
)
def test_patience_without_validation_rows_is_reported_as_watching_training_rows(job: Job, validation: int) -> None:
    assert "no validation rows: patience monitors the training loss" in patience_note(job, validation)


@pytest.mark.parametrize(
    ("job", "validation"),
    [
        (Job(patience=3), 10),
        (Job(), 0),
        (Job(patience=3, method="kfold"), 0),
        (Job(patience=3, method="federated"), 0),
    ],
)
def test_nothing_is_reported_where_patience_has_validation_rows_or_there_is_none(job: Job, validation: int) -> None:
    assert patience_note(job, validation) == ""
