"""Every mistake in how rows are dealt, provoked from the outside."""

from __future__ import annotations

import pytest
from provoke import Scenario, Scenarios, Start, check
from tiny import TINY_JOB, Tiny

pytestmark = pytest.mark.story
SCENARIOS = Scenarios()
provokes = SCENARIOS.provokes


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_what_is_wrong_with_the_deal_is_named(tiny_place: Tiny, scenario: Scenario) -> None:
    check(tiny_place, scenario, **TINY_JOB)


@provokes("deal.no-classes", "--deal dirichlet", "--deal equal")
def labels_skewed_where_there_are_none(place: Tiny) -> Start:
    return Start({"model": "numbers.h5", "deal": "dirichlet"})


@provokes("deal.too-skewed", "9 rows", "4 clients gets 3", "alpha 0.1", "--alpha")
def a_skew_that_leaves_somebody_nothing(place: Tiny) -> Start:
    return Start({"clients": 4, "deal": "dirichlet", "alpha": 0.1})


@provokes("deal.more-pieces-than-rows", "9 rows", "5 pieces", "2 clients")
def more_classes_a_client_than_there_are_rows(place: Tiny) -> Start:
    return Start({"clients": 2, "deal": "classes", "classes_per_client": 5})


@provokes("deal.own-files", "--deal equal", "--data client")
def a_deal_of_what_clients_have_already(place: Tiny) -> Start:
    return Start({"data": "client", "deal": "equal"})
