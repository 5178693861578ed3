"""What is refused before it is sent: rows and models that a client has no memory for."""

from __future__ import annotations

import numpy as np
import pytest

from lanfit.data.shard import Normalizers, Samples, Shard
from lanfit.errors import InputError
from lanfit_server.clusters.roster import Member
from lanfit_server.data.prepare import RunData
from lanfit_server.run.dispatch import check_memory

WEIGHTS = {"dense/kernel": np.zeros(1_000, np.float32)}  # 16,000 bytes while it trains


def data(rows: int) -> RunData:
    all_rows = Samples.of(np.zeros((rows, 9), np.uint8), np.zeros(rows, np.int64))
    shard = Shard(all_rows.take(slice(rows - 100)), all_rows.take(slice(rows - 100, None)))
    both = (rows - 100,) * 2
    return RunData([shard, shard], (rows, rows), 2 * rows - 200, 200, 0, Normalizers.single(), {}, both)


def member(free: int) -> Member:
    return Member("lab-7", b"", "10.0.0.7", "tensorflow", "cpu", 4, free)


def test_what_fits_is_sent_and_a_client_that_does_not_know_is_believed() -> None:
    check_memory(data(1_000), 0, WEIGHTS, member(16_000 + 40_000))
    check_memory(data(1_000), 0, WEIGHTS, member(0))


def test_a_shard_that_does_not_fit_is_named_with_what_would() -> None:
    with pytest.raises(InputError) as refused:
        check_memory(data(1_000), 1, WEIGHTS, member(16_000 + 10_000))
    assert refused.value.message == (
        "lab-7 has 26.0 kB of free memory, but its shard of 1,000 rows takes 40.0 kB, and the model 16.0 kB"
    )
    # 250 rows take 10,000 bytes, and 2,000 rows in shards of 250 are 8.
    assert refused.value.hint == "250 rows would fit: use 8 clients or more, or --samples."
    check_memory(data(250), 0, WEIGHTS, member(16_000 + 10_000))


def test_rows_and_model_must_fit_together() -> None:
    with pytest.raises(InputError, match=r"its shard of 1,000 rows takes 40.0 kB, and the model 16.0 kB"):
        check_memory(data(1_000), 0, WEIGHTS, member(16_000 + 40_000 - 1))


def test_a_model_that_does_not_fit_is_named_as_that() -> None:
    with pytest.raises(InputError, match=r"lab-7 has 15.0 kB of free memory, but training the model takes 16.0 kB"):
        check_memory(data(1_000), 0, WEIGHTS, member(15_000))
