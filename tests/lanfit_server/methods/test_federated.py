"""Method federated: who takes part in which round, and when the rounds are over. Nothing but the seed decides."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.errors import InputError
from lanfit.settings.fields import Value
from lanfit.settings.job import make_job
from lanfit_server.methods.federated.schedule import Schedule, optimizer_of, schedule_of, steps_of_epoch


def federated(**values: Value) -> Schedule:
    job = make_job({"method": "federated", "clients": 10, **values})
    optimizer_of(job, ())
    return schedule_of(job)


def shards(method: Schedule, number: int) -> list[int]:
    return [task.shard for task in method.tasks(number)]


def test_in_every_round_each_shard_has_a_task_with_a_seed_of_its_own() -> None:
    method = federated(rounds=3, seed=5)
    tasks = [task for number in (1, 2, 3) for task in method.tasks(number)]
    assert [task.shard for task in tasks] == list(range(10)) * 3
    assert len({task.seed for task in tasks}) == len({task.key for task in tasks}) == 30
    assert tasks[12].key == "round-2-shard-3"
    assert tasks[12].round == 2


@given(
    clients=st.integers(1, 60),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 2**32 - 1),
    number=st.integers(1, 1000),
)
def test_a_share_of_the_clients_takes_part_in_a_round_and_the_seed_alone_says_which(
    clients: int, share: float, seed: int, number: int
) -> None:
    method = federated(clients=clients, share=share, seed=seed)
    drawn = shards(method, number)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(clients))
    assert len(drawn) == min(clients, max(1, math.floor(share * clients + 0.5)))
    assert drawn == shards(federated(clients=clients, share=share, seed=seed), number)


def test_rounds_draw_different_clients_and_all_of_them_in_the_long_run() -> None:
    method = federated(share=0.2)
    drawn = [tuple(shards(method, number)) for number in range(1, 60)]
    assert len(set(drawn)) > 20
    assert {shard for each in drawn for shard in each} == set(range(10))


def test_at_least_as_many_are_drawn_as_a_round_needs() -> None:
    assert len(shards(federated(share=0.1, min_clients=4), 1)) == 4
    assert len(shards(federated(share=0.1, aggregation="krum", byzantine=2), 1)) == 7


def test_who_was_absent_is_when_the_run_is_repeated_and_who_is_away_is_left_out() -> None:
    method = federated(absent=("2:1", "2:10", "3:4"))
    assert shards(method, 1) == list(range(10))
    assert shards(method, 2) == list(range(1, 9))
    assert [task.shard for task in method.tasks(3, away=[0])] == [1, 2, 4, 5, 6, 7, 8, 9]
    seeds = {task.shard: task.seed for task in method.tasks(2)}
    assert all(task.seed == seeds.get(task.shard, task.seed) for task in federated().tasks(2))


def test_the_rounds_are_over_when_there_were_so_many() -> None:
    method = federated(rounds=3)
    assert not method.is_over([])
    assert not method.is_over([math.nan, 0.5])
    assert method.is_over([0.3, 0.2, 0.1])
    assert method.outcome([0.1, 0.3, 0.2]) == 3, "the last one's"
    assert method.outcome([]) == 0


@pytest.mark.parametrize(
    ("losses", "over", "best"),
    [
        ([0.5], False, 1),
        ([0.5, 0.6], False, 1),
        ([0.5, 0.6, 0.5], True, 1),
        ([0.5, 0.4, 0.6], False, 2),
        ([math.nan, 0.4, 0.6, 0.6], True, 2),
        ([0.5, math.nan, math.nan], True, 1),
    ],
)
def test_with_patience_they_end_after_so_many_without_a_lower_loss(losses: list[float], over: bool, best: int) -> None:
    method = federated(patience=2)
    assert method.is_over(losses) is over
    assert method.outcome(losses) == best


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"min_clients": 11}, "job.min-above-clients"),
        ({"aggregation": "krum", "byzantine": 4}, "aggregation.krum"),
        ({"aggregation": "trimmed-mean", "trim": 0.5}, "aggregation.trim"),
        ({"server_momentum": 0.9}, "job.other-strategy"),
        ({"strategy": "fedadam", "server_momentum": 0.9}, "job.other-strategy"),
        ({"proximal_mu": 0.1}, "job.other-strategy"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_begins(values: dict[str, Value], code: str) -> None:
    with pytest.raises(InputError) as refused:
        federated(**values)
    assert refused.value.code == code


def test_each_strategy_takes_its_own_parameters() -> None:
    federated(strategy="fedavgm", server_momentum=0.9, server_learning_rate=0.5)
    federated(strategy="fedyogi", server_beta_1=0.9, server_beta_2=0.99, server_tau=0.01)
    assert make_job({"method": "federated", "strategy": "fedprox"}).proximal == 0.01
    assert make_job({"method": "federated", "strategy": "fedprox", "proximal_mu": 0.5}).proximal == 0.5
    assert make_job({"method": "federated"}).proximal == 0


def test_a_round_moves_schedules_by_the_batches_of_a_mean_shard() -> None:
    assert steps_of_epoch((48, 48), 16) == 3
    assert steps_of_epoch((40, 60), 16) == 4
    assert steps_of_epoch((1, 1), 32) == 1
