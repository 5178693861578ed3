from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lanfit.errors import LocalProtocolError
from lanfit_server.methods.base import Task
from lanfit_server.methods.independent import fit_tasks
from lanfit_server.run.tasks import MOST_DEATHS, MOST_FAILURES, State, TaskTable

NAMES = ("lab-1", "lab-2", "lab-3", "spare")


def table_of(*owners: str) -> TaskTable:
    table = TaskTable()
    for number, owner in enumerate(owners):
        table.add(Task(f"shard-{number + 1}", number, number), owner)
    return table


def leases(table: TaskTable, *clients: str) -> list[tuple[str, str, int]]:
    return [(each.client, each.task.key, each.attempt) for each in table.assign(clients, 0.0)]


def test_everyone_gets_its_own_shard() -> None:
    table = table_of("lab-1", "lab-2")
    assert leases(table, "lab-2", "lab-1") == [("lab-2", "shard-2", 1), ("lab-1", "shard-1", 1)]
    assert leases(table, "lab-1", "lab-2") == []


def test_a_spare_client_takes_nothing_while_the_owner_is_here() -> None:
    table = table_of("lab-1")
    assert leases(table, "spare", "lab-1") == [("lab-1", "shard-1", 1)]


def test_the_task_of_a_lost_client_goes_to_whoever_is_free() -> None:
    table = table_of("lab-1", "lab-2")
    leases(table, "lab-1", "lab-2")
    assert table.lose("lab-1") is table["shard-1"].task
    assert leases(table, "lab-2") == []
    assert table.commit("shard-2")
    assert leases(table, "lab-2") == [("lab-2", "shard-1", 2)]


def test_a_returning_owner_gets_its_task_back() -> None:
    table = table_of("lab-1", "lab-2")
    leases(table, "lab-1", "lab-2")
    table.lose("lab-1")
    assert leases(table, "lab-1", "lab-2") == [("lab-1", "shard-1", 2)]


def test_nobody_takes_over_what_is_of_a_client_that_is_on_its_way_back() -> None:
    table = table_of("lab-1", "lab-2")
    table.commit("shard-2")
    assert table.assign(["lab-2"], 0.0, expected=["lab-1", "lab-2"]) == []
    assert [each.task.key for each in table.assign(["lab-2"], 0.0)] == ["shard-1"]


def test_nobody_takes_over_a_task_that_is_bound_to_its_owner() -> None:
    table = TaskTable()
    table.add(Task("shard-1", 0, 0), "lab-1", bound=True)
    table.add(Task("shard-2", 1, 0), "lab-2", bound=True)
    leases(table, "lab-1", "lab-2")
    table.lose("lab-1")
    table.commit("shard-2")
    assert leases(table, "lab-2", "spare") == []
    assert leases(table, "lab-1", "lab-2") == [("lab-1", "shard-1", 2)]
    # What failed there is tried there again, because nobody else could.
    assert table.fail("shard-1", "lab-1", "NaN")
    assert leases(table, "lab-1", "lab-2") == [("lab-1", "shard-1", 3)]


def test_only_what_is_bound_to_a_client_is_given_up_with_it_and_a_late_result_counts() -> None:
    table = table_of("lab-1")
    table.add(Task("shard-2", 1, 0), "lab-1", bound=True)
    leases(table, "lab-1")
    assert [task.key for task in table.give_up("lab-1", "gone")] == ["shard-2"]
    assert table["shard-2"].state is State.GIVEN_UP
    assert table["shard-2"].failures == ["gone"]
    assert table["shard-1"].state is State.LEASED
    assert table.commit("shard-2")


def test_a_client_works_off_its_folds_one_after_another() -> None:
    table = TaskTable()
    for fold in (1, 2):
        for shard, owner in enumerate(("lab-1", "lab-2")):
            table.add(Task(f"shard-{shard + 1}-fold-{fold}", shard, 0, fold), owner)
    assert [each[1] for each in leases(table, "lab-1", "lab-2")] == ["shard-1-fold-1", "shard-2-fold-1"]
    table.commit("shard-1-fold-1")
    assert leases(table, "lab-1", "lab-2") == [("lab-1", "shard-1-fold-2", 1)]
    table.commit("shard-1-fold-2")
    # It has nothing left, and the other one's fold is the other one's while that is here.
    assert leases(table, "lab-1", "lab-2") == []


def test_a_failed_task_is_tried_elsewhere_once_and_then_given_up() -> None:
    table = table_of("lab-1", "lab-2")
    leases(table, "lab-1", "lab-2")
    table.commit("shard-2")
    assert table.fail("shard-1", "lab-1", "NaN")
    assert leases(table, "lab-1", "lab-2") == [("lab-2", "shard-1", 2)]
    assert not table.fail("shard-1", "lab-2", "NaN")
    assert table["shard-1"].state is State.GIVEN_UP
    assert table["shard-1"].failures == ["NaN", "NaN"]
    assert table.open == []


def test_a_client_that_is_alone_tries_again_itself() -> None:
    table = table_of("lab-1")
    leases(table, "lab-1")
    assert table.fail("shard-1", "lab-1", "out of memory")
    assert leases(table, "lab-1") == [("lab-1", "shard-1", 2)]


def test_a_failure_of_someone_who_no_longer_holds_the_task_changes_nothing() -> None:
    table = table_of("lab-1")
    leases(table, "lab-1")
    assert table.fail("shard-1", "spare", "late")
    assert table["shard-1"].state is State.LEASED
    assert table["shard-1"].failures == []


def test_a_late_result_counts_once() -> None:
    table = table_of("lab-1", "lab-2")
    leases(table, "lab-1", "lab-2")
    table.lose("lab-1")
    assert table.commit("shard-1")
    assert not table.commit("shard-1")


def test_who_comes_back_gets_what_it_had_before_its_own() -> None:
    table = table_of("lab-1")
    assert leases(table, "lab-2") == [("lab-2", "shard-1", 1)]
    table.add(Task("shard-2", 1, 0), "lab-2")
    table.lose("lab-2")
    assert leases(table, "lab-2") == [("lab-2", "shard-1", 2)], "it may still be training it"


def test_a_task_that_takes_twice_the_median_is_copied_once_and_the_first_result_counts() -> None:
    table = table_of("lab-1", "lab-2", "lab-3")
    table.assign(NAMES[:3], 100.0)
    assert table.commit("shard-1", "lab-1", 200.0)
    assert table.commit("shard-2", "lab-2", 220.0)
    assert table.assign(["lab-1", "lab-2", "lab-3"], 319.9) == [], "it took less than twice the median of 100 and 120"
    [copy] = table.assign(["lab-1", "lab-2", "lab-3"], 320.1)
    assert (copy.client, copy.task.key, copy.owner, copy.attempt) == ("lab-1", "shard-3", "lab-3", 2)
    assert table.assign(["lab-1", "lab-2", "lab-3"], 900.0) == [], "one copy is enough"
    assert table.lose("lab-3") is None, "the copy is still trained"
    assert table["shard-3"].state is State.LEASED
    assert table.commit("shard-3", "lab-1", 330.0)
    assert table["shard-3"].leases == {}


def test_the_time_of_a_client_that_was_lost_and_came_back_counts_from_its_first_lease() -> None:
    """What it hands back at once was not trained in a moment, so nobody else is slow."""
    table = table_of("lab-1", "lab-2", "lab-3")
    table.assign(["lab-1", "lab-2", "lab-3"], 0)
    assert table.commit("shard-3", "lab-3", 100)
    table.lose("lab-1")
    assert [each.client for each in table.assign(["lab-1"], 150)] == ["lab-1"]
    assert table.commit("shard-1", "lab-1", 151)
    assert table.assign(["lab-1", "lab-2", "lab-3"], 240) == [], "it took less than twice the median of 100 and 151"
    assert [each.client for each in table.assign(["lab-1", "lab-2", "lab-3"], 252)] == ["lab-1"]


def test_a_straggler_is_one_also_when_it_was_lost_meanwhile_but_not_who_has_just_taken_over() -> None:
    table = table_of("lab-1", "lab-2")
    table.assign(["lab-1", "lab-2"], 0)
    assert table.commit("shard-2", "lab-2", 70)
    table.lose("lab-1")
    table.assign(["lab-1"], 130)
    assert [each.client for each in table.assign(["lab-1", "lab-2"], 141)] == ["lab-2"]
    table = table_of("lab-1", "lab-2", "lab-3")
    table.assign(["lab-1", "lab-2", "lab-3"], 0)
    assert table.commit("shard-2", "lab-2", 70)
    assert table.commit("shard-3", "lab-3", 70)
    table.lose("lab-1")
    assert [each.client for each in table.assign(["lab-2", "lab-3"], 130)] == ["lab-2"]
    assert table.assign(["lab-2", "lab-3"], 200) == []


def test_nothing_is_copied_where_clients_share_their_machines() -> None:
    table = table_of("lab-1", "lab-2")
    table.assign(NAMES[:2], 0.0)
    table.commit("shard-1", "lab-1", 1.0)
    assert table.assign(NAMES[:2], 1000.0, copies=False) == []
    assert len(table.assign(NAMES[:2], 1000.0)) == 1


def test_of_several_stragglers_each_is_copied_by_another_client_the_oldest_first() -> None:
    table = table_of(*NAMES)
    table.assign(["lab-2"], 0.0)
    table.assign(["lab-1"], 10.0)
    table.assign(["lab-3", "spare"], 20.0)
    table.commit("shard-3", "lab-3", 21.0)
    table.commit("shard-4", "spare", 21.0)
    found = table.assign(NAMES, 1000.0)
    assert [(each.client, each.task.key) for each in found] == [("lab-3", "shard-2"), ("spare", "shard-1")]


def test_nobody_copies_what_is_bound_or_on_its_way_in() -> None:
    table = table_of("lab-1", "lab-2")
    table.add(Task("shard-3", 2, 0), "lab-3", bound=True)
    table.assign(NAMES[:3], 0.0)
    table.commit("shard-1", "lab-1", 1.0)
    table.offer("shard-2", "lab-2", 0.0)
    assert table["shard-2"].state is State.RETURNED
    assert table.assign(NAMES[:3], 1000.0) == []


def test_a_result_that_does_not_arrive_leaves_the_task_to_those_who_have_it() -> None:
    table = table_of("lab-1", "lab-2")
    table.assign(["lab-1", "lab-2"], 0.0)
    table.commit("shard-2", "lab-2", 1.0)
    assert table.assign(["lab-1", "lab-2"], 59.0) == [], "so short a time tells nothing"
    [copy] = table.assign(["lab-1", "lab-2"], 61.0)
    table.offer("shard-1", "lab-1", 0.0)
    assert table.lose("lab-1") is None
    assert table["shard-1"].state is State.LEASED
    assert table.lose(copy.client) is table["shard-1"].task
    assert table["shard-1"].state is State.WAITING
    # Somebody who was lost offers its result: it is not trained meanwhile.
    table.offer("shard-1", "lab-1", 0.0)
    assert leases(table, "lab-2") == []
    assert table.lose("lab-1") is table["shard-1"].task
    assert leases(table, "lab-2") == [("lab-2", "shard-1", 3)]


def test_a_task_that_kills_three_trainers_is_given_up() -> None:
    table = table_of("lab-1", "lab-2", "lab-3")
    for number, name in enumerate(("lab-1", "lab-2", "lab-3")):
        table.commit(f"shard-{number + 1}") if number else None
        assert leases(table, name)[0][1] == "shard-1"
        assert table.fail("shard-1", name, "killed by signal 9", died=True) is (number < 2)
    assert table["shard-1"].state is State.GIVEN_UP
    assert table["shard-1"].deaths == MOST_DEATHS


def test_what_an_earlier_server_wrote_down_is_taken_up() -> None:
    table = table_of("lab-1", "lab-2", "lab-3")
    table.commit("shard-3")
    table.restore("shard-1", "lab-3", 2, now=5.0)
    table.restore("shard-1", "lab-1", 3, now=5.0)
    table.remember("shard-2", "lab-1", 1, "lab-1: killed", died=True)
    table.remember("shard-2", "lab-2", 2, "lab-2: killed", died=True)
    assert table.holders() == {"lab-1", "lab-3"}
    # Who failed at it gets it only when nobody else is there; the attempts and the deaths are counted on.
    assert leases(table, "lab-2", "spare") == [("spare", "shard-2", 3)]
    assert not table.fail("shard-2", "spare", "killed", died=True)
    assert table.lose("lab-1") is None
    assert table.lose("lab-3") is table["shard-1"].task
    assert leases(table, "lab-1", "lab-3")[0] == ("lab-1", "shard-1", 4)


def test_a_lease_that_does_not_get_on_is_found_and_gets_its_full_time_after_an_own_pause() -> None:
    table = table_of("lab-1", "lab-2")
    table.assign(["lab-1", "lab-2"], 0.0)
    assert [(record.task.key, name) for record, name in table.stalled(601.0, {"lab-2": 2.0}, {}, 600.0)] == [
        ("shard-1", "lab-1")
    ]
    table.renew(601.0)
    assert table.stalled(1200.0, {"lab-2": 2.0}, {}, 600.0) == []


def test_a_result_that_is_offered_and_does_not_come_is_found_whatever_its_client_says_of_its_work() -> None:
    table = table_of("lab-1", "lab-2")
    table.assign(["lab-1"], 0.0)
    table.offer("shard-1", "lab-1", 100.0)
    table.offer("shard-2", "lab-2", 100.0)  # it had the task before it was lost
    reply_to = {"lab-1": 1e9, "lab-2": 1e9}

    def late(now: float, delivered: dict[str, float]) -> list[str]:
        return [name for _, name in table.stalled(now, reply_to, delivered, 600.0)]

    assert late(700.0, {}) == []
    assert late(701.0, {}) == ["lab-1", "lab-2"]
    assert late(701.0, {"lab-1": 102.0}) == ["lab-2"], "some of it came"
    table.offer("shard-1", "lab-1", 650.0)
    assert late(701.0, {}) == ["lab-1", "lab-2"], "offering it again gives no more time"
    table.renew(701.0)
    assert late(1301.0, {}) == []
    assert late(1302.0, {}) == ["lab-1", "lab-2"]


def test_what_the_table_does_not_allow_is_our_own_error() -> None:
    table = table_of("lab-1")
    with pytest.raises(LocalProtocolError, match="waiting: it can't lose"):
        table["shard-1"].move("lose")


class Life(RuleBasedStateMachine):
    """Clients come, go, fail and deliver in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table_of("lab-1", "lab-2", "lab-3")
        self.connected: set[str] = set()
        self.committed: set[str] = set()

    @rule(name=st.sampled_from(NAMES))
    def join(self, name: str) -> None:
        self.connected.add(name)

    @rule(name=st.sampled_from(NAMES))
    def go(self, name: str) -> None:
        self.connected.discard(name)
        self.table.lose(name)

    @rule()
    def assign(self) -> None:
        for each in self.table.assign(sorted(self.connected), 0.0):
            assert each.client in self.connected
            assert each.attempt >= 1

    @rule(name=st.sampled_from(NAMES))
    def deliver(self, name: str) -> None:
        held = self.table.held_by(name)
        if held is not None:
            assert self.table.commit(held.task.key)
            self.committed.add(held.task.key)

    @rule(name=st.sampled_from(NAMES), key=st.sampled_from(["shard-1", "shard-2", "shard-3"]))
    def fail(self, name: str, key: str) -> None:
        self.table.fail(key, name, "bad luck")

    @rule(key=st.sampled_from(["shard-1", "shard-2", "shard-3"]))
    def late_result(self, key: str) -> None:
        assert self.table.commit(key) == (key not in self.committed)
        self.committed.add(key)

    @precondition(lambda self: self.connected)
    @rule()
    def nobody_is_idle_while_there_is_something_to_do(self) -> None:
        self.table.assign(sorted(self.connected), 0.0)
        idle = [name for name in self.connected if self.table.held_by(name) is None]
        for record in self.table.open:
            if record.state is State.WAITING:
                fit = [name for name in idle if name not in record.failed_at]
                owner_will_do_it = record.owner in self.connected and record.owner not in record.failed_at
                assert record.owner not in fit
                assert owner_will_do_it or not fit, f"{record} waits while {fit} are idle"

    @invariant()
    def what_is_committed_stays_committed(self) -> None:
        for key in self.committed:
            assert self.table[key].state is State.COMMITTED

    @invariant()
    def nobody_holds_two_tasks(self) -> None:
        holders = [client for record in self.table.records() for client in record.leases]
        assert len(holders) == len(set(holders))
        assert all(len(record.failures) <= MOST_FAILURES for record in self.table.records())


Life.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase


def test_the_seeds_of_tasks_depend_on_the_run_and_the_shard_alone() -> None:
    assert [task.seed for task in fit_tasks(2, 1)] == [task.seed for task in fit_tasks(3, 1)][:2]
    assert len({task.seed for seed in (0, 1) for task in fit_tasks(3, seed)}) == 6
