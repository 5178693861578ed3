"""The history of rounds against the same figures computed from all records."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lanfit_server.methods.federated.facts import evaluated, validation_of
from lanfit_server.methods.federated.history import RoundHistory
from lanfit_server.store.ledger import RoundClient, RoundRecord

SAMPLES = {"lab-1": 10, "lab-2": 30}
LOSSES = st.dictionaries(st.just("loss"), st.floats(0, 10), max_size=1)
CLIENTS = st.builds(
    lambda shard, scores, left_out, absent: RoundClient(
        "", f"lab-{shard + 1}", shard, 10, scores=scores, left_out="late" if left_out else "", absent=absent
    ),
    st.integers(0, 1),
    LOSSES,
    st.booleans(),
    st.booleans(),
)
ROUNDS = st.lists(
    st.builds(
        lambda clients, metrics, validation: RoundRecord(
            0, tuple(clients), metrics=metrics, validation={"lab-1": validation} if validation else {}
        ),
        st.lists(CLIENTS, max_size=2, unique_by=lambda client: client.shard),
        LOSSES,
        LOSSES,
    ),
    max_size=8,
)


def losses_of(records: Sequence[RoundRecord]) -> list[float]:
    figures = [
        evaluated(record.metrics, validation_of(records, index), SAMPLES) for index, record in enumerate(records)
    ]
    return [each.get("loss", math.nan) for each in figures]


@given(ROUNDS, st.integers(0, 3))
def test_losses_are_those_of_all_records(rounds: list[RoundRecord], behind: int) -> None:
    """Rounds are stored some rounds after they are closed; their metrics are only known then."""
    history, records = RoundHistory(SAMPLES), list[RoundRecord]()
    for number, record in enumerate(rounds, 1):
        records.append(replace(record, number=number, metrics={}, validation={}))
        history.add([records[-1]])
        if number > behind:
            at = number - behind - 1
            records[at] = replace(
                records[at], stored=True, metrics=rounds[at].metrics, validation=rounds[at].validation
            )
            history.replace(records[at])
        assert len(history) == number
        assert history.last == records[-1]
        assert str(history.losses()) == str(losses_of(records))
        assert len(history._records) <= behind + 1
    clients = [client for record in records for client in record.clients]
    assert history.trained == {client.shard for client in clients if not client.left_out}
    assert history.has_absent == any(client.absent for client in clients)


@given(ROUNDS, st.integers(0, 8))
def test_the_rounds_of_an_earlier_server_are_added_at_once(rounds: list[RoundRecord], stored: int) -> None:
    records = [replace(record, number=number, stored=number <= stored) for number, record in enumerate(rounds, 1)]
    history = RoundHistory(SAMPLES)
    history.add(records)
    assert str(history.losses()) == str(losses_of(records))
    assert history._records == records[min(stored, max(len(records) - 1, 0)) :]
