"""With data on the clients, how many rows one has is what it says. One that lies does not take the whole weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanfit.data.normalize import Moments
from lanfit.errors import RemoteProtocolError
from lanfit.models.mean import Mean
from lanfit.wire.arrays import block_of
from lanfit.wire.messages import ClientData, Model, Surveyed
from lanfit_server.clusters.events import Evaluated
from lanfit_server.data.prepare import RunData
from lanfit_server.data.survey import ClientSurvey, check_survey, unite
from lanfit_server.methods.claims import capped, weighted

MODEL = Model("{}", "{}", (None, 2), (None, 2), "values", "zscore", "zscore")
OWN = ClientData(8, 0.2, 0.1, 0, 0, None)
LIE = 10**15


def survey(client: str, rows: np.ndarray, claim: int | None = None) -> tuple[ClientSurvey, Surveyed]:
    """What a client tells of these rows, if it says that it has so many of them."""
    arrays = Moments.of(rows).to_arrays() | Moments.of(rows * 2).to_arrays("target_")
    count = claim or len(rows)
    surveyed = Surveyed(count, 0, 0, count, count, block_of(arrays), ())
    return ClientSurvey.of(client, MODEL, surveyed, arrays), surveyed


def rows(count: int, around: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(around, 1.0, (count, 2))


def together(*reported: tuple[ClientSurvey, Surveyed], limit: float = 10.0) -> tuple[RunData, tuple[str, ...]]:
    return unite([each for each, _ in reported], MODEL, OWN, limit)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.floats(1.0, 100.0))
def test_nobody_counts_more_than_so_many_times_the_median_and_others_count_what_they_say(
    claims: list[int], limit: float
) -> None:
    counts = capped(claims, limit)
    middle = sorted(claims)[(len(claims) - 1) // 2]
    assert max(counts) <= limit * middle
    assert all(count == claim for count, claim in zip(counts, claims, strict=True) if claim <= limit * middle)
    # What fewer than half of all claim does not move the median beyond what honest ones have.
    liars = capped([*claims, *[LIE] * ((len(claims) - 1) // 2)], limit)
    assert max(liars) <= limit * max(claims)


@pytest.mark.parametrize("honest", [[40], [40, 60], [40, 60, 35, 50]])
def test_a_claim_of_a_million_milliards_does_not_take_the_whole_mean(honest: Sequence[int]) -> None:
    reported = [survey(f"lab-{number}", rows(count, 0.0, number)) for number, count in enumerate(honest)]
    data, notes = together(*reported, survey("liar", rows(1000, -3.0), LIE))
    middle = sorted([*honest, LIE])[len(honest) // 2]
    assert data.trained == (*honest, 10 * middle)
    assert data.claimed == (*honest, LIE)
    assert data.samples == data.trained
    [note] = notes
    assert note.startswith("liar reports 1,000,000,000,000,000 training rows")
    # The weights of a round.
    start = {"w": np.zeros(1, np.float32)}
    mean = Mean(start)
    for count in data.trained[:-1]:
        mean.add({"w": np.ones(1, np.float32)}, count)
    mean.add({"w": np.full(1, -3.0, np.float32)}, data.trained[-1])
    assert float(mean.result()["w"][0]) > -2.99
    # The constants that all are normalized with.
    assert float(data.normalizers.x.subtract[0]) > -2.95
    assert float(data.normalizers.y.subtract[0]) > -5.9


def test_the_spread_of_a_client_that_is_capped_stays_what_it_is() -> None:
    data, _ = together(survey("a", rows(100, 0.0)), survey("b", rows(50, 0.0, 1)), survey("liar", rows(10_000, 0.0, 2)))
    assert data.trained == (100, 50, 1000)
    assert math.isclose(1 / float(data.normalizers.x.multiply[0]), 1.0, abs_tol=0.1)


@settings(deadline=None)
@given(st.lists(st.integers(10, 100), min_size=1, max_size=6))
def test_where_nobody_is_over_the_limit_every_bit_is_as_without_one(counts: list[int]) -> None:
    reported = [survey(f"lab-{number}", rows(count, number, number)) for number, count in enumerate(counts)]
    (limited, notes), (free, _) = together(*reported), together(*reported, limit=1e12)
    assert notes == ()
    assert limited.claimed == ()
    assert (limited.trained, limited.samples, limited.train) == (free.trained, free.samples, free.train)
    block = limited.shards[0].block()
    for name, array in free.shards[0].block().items():
        assert block[name].tobytes() == array.tobytes()


def test_metrics_of_rows_that_only_a_client_has_seen_are_weighed_alike() -> None:
    answers = [Evaluated("a", "r", "t", 40, {"loss": 1.0}), Evaluated("liar", "r", "t", LIE, {"loss": 0.0})]
    assert math.isclose(weighted(answers)["loss"], 40 / 440)
    assert math.isclose(weighted(answers, 2.0)["loss"], 40 / 120)


@pytest.mark.parametrize("field", ["train", "validation", "test"])
def test_numbers_of_rows_that_nobody_can_have_are_refused(field: str) -> None:
    _, surveyed = survey("liar", rows(10, 0.0))
    check_survey(surveyed)
    with pytest.raises(RemoteProtocolError, match="impossible numbers"):
        check_survey(msgspec.structs.replace(surveyed, **{field: 2**63 - 1}))
