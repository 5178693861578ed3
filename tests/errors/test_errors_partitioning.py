"""Every error in how rows are dealt, triggered from the outside."""

from __future__ import annotations

import pytest
from error_cases import ErrorCase, ErrorCases, Start, check
from small_workspace import TINY_JOB, SmallWorkspace
from warm import WarmModels

pytestmark = pytest.mark.story
ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_what_is_wrong_with_the_partition_is_named(
    small_workspace: SmallWorkspace, case: ErrorCase, warm: WarmModels
) -> None:
    check(small_workspace, case, warm, **TINY_JOB)


@fails_with("deal.no-classes", "--deal dirichlet", "--deal equal")
def labels_skewed_where_there_are_none(place: SmallWorkspace) -> Start:
    return Start({"model": "numbers.h5", "deal": "dirichlet"})


@fails_with("deal.too-skewed", "9 rows", "4 clients gets 3", "alpha 0.1", "--alpha")
def a_skew_that_leaves_somebody_nothing(place: SmallWorkspace) -> Start:
    return Start({"clients": 4, "deal": "dirichlet", "alpha": 0.1})


@fails_with("deal.more-pieces-than-rows", "9 rows", "5 chunks", "2 clients")
def more_classes_a_client_than_there_are_rows(place: SmallWorkspace) -> Start:
    return Start({"clients": 2, "deal": "classes", "classes_per_client": 5})


@fails_with("deal.own-files", "--deal equal", "--data client")
def a_deal_of_what_clients_have_already(place: SmallWorkspace) -> Start:
    return Start({"data": "client", "deal": "equal"})


@fails_with("deal.other-deal", "--alpha 0.1", "--deal dirichlet", "--deal stratified")
def a_skew_without_the_deal_that_skews(place: SmallWorkspace) -> Start:
    return Start({"alpha": 0.1})


# --- parts ------------------------------------------------------------------------------------------------------


@fails_with("deal.more-parts-than-rows", "9 rows", "10 parts")
def more_parts_than_there_are_rows(place: SmallWorkspace) -> Start:
    return Start({"parts_of": 10})


@fails_with("parts.no-list", '"lab-1=3"', "--parts")
def a_list_of_parts_that_is_none(place: SmallWorkspace) -> Start:
    return Start({"parts_of": 3, "parts": "lab-1=3"})


@fails_with("parts.named-twice", "lab-1")
def one_client_with_two_ranges(place: SmallWorkspace) -> Start:
    return Start({"clients": 2, "parts_of": 3, "parts": "lab-1:1,lab-1:3"})


@fails_with("parts.more-clients", "2 clients", "1")
def parts_for_more_clients_than_take_part(place: SmallWorkspace) -> Start:
    return Start({"parts_of": 3, "parts": "lab-1:1,lab-2:3"})


@fails_with("parts.smaller-than-batch", "local-1", "3 training rows of part 2", "--batch-size 3")
def a_part_smaller_than_a_batch(place: SmallWorkspace) -> Start:
    return Start({"local": 1, "parts_of": 3, "parts": "local-1:2", "batch_size": 4, "validation_split": 0})
