"""Models that clients evaluate on their own rows: who is asked, who is waited for and for how long, what counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from only_tasks import terms_of

from lanfit_server.clusters.events import (
    ClientJoined,
    ClientLeft,
    EpochCompleted,
    Evaluated,
    Event,
    ResultCommitted,
    TaskFailed,
)
from lanfit_server.methods.claims import weighted
from lanfit_server.methods.federated.schedule import Schedule
from lanfit_server.methods.independent import EvaluateResult, Independent, fit_tasks
from lanfit_server.run import events
from lanfit_server.run.engine import RunEngine
from lanfit_server.run.evaluations import Evaluations
from lanfit_server.run.instructions import Ask, AskClients, Do, Emit, EndRun, Instruction, Lease, Tick, WorkDone
from lanfit_server.run.tasks import TaskTable
from lanfit_server.ui.narrator import sentence


class Scripted:
    """The evaluations of a run whose clients are gone, or not, as the test says."""

    def __init__(self, *owners: str, deadline: float = 60.0) -> None:
        self.gone: dict[str, float] = {}
        self.now = 100.0
        self.done: list[Instruction] = []
        self.evaluations = Evaluations(
            owners, lambda name, now: self.gone.get(name, math.inf) + deadline - now, waits=deadline > 0
        )
        self.owners = owners

    def ask(self, model: str = "one", *, limit: float = 600.0, grace: float = 0.0, rows: str = "test") -> None:
        asked = AskClients(model, rows, range(len(self.owners)), limit, grace)
        self.done += self.evaluations.add(asked, self.now)

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.done += self.evaluations.look(self.now)

    def answers(self, client: str, loss: float, model: str = "one", rows: int = 5) -> None:
        self.evaluations.answer(Evaluated(client, "run-1", model, rows, {"loss": loss}))

    def asked(self) -> list[str]:
        found = [each.client for each in self.done if isinstance(each, Ask)]
        self.done = [each for each in self.done if not isinstance(each, Ask)]
        return found

    def output(self) -> list[str]:
        return [sentence(each.event) for each in self.done if isinstance(each, Emit)]

    def outcome(self) -> dict[str, float] | None:
        """The losses of those that answered; None while somebody is waited for."""
        if (found := self.evaluations.finished(self.now)) is None:
            return None
        self.done += found[2]
        return {client: answer.metrics["loss"] for client, answer in found[1].items()}


def test_figures_are_weighted_by_rows() -> None:
    answers = [Evaluated("a", "r", "t", 30, {"loss": 1.0}), Evaluated("b", "r", "t", 10, {"loss": 3.0})]
    assert weighted(answers) == {"loss": 1.5}
    assert weighted([*answers, Evaluated("c", "r", "t", 0, {})]) == {"loss": 1.5}
    assert weighted([Evaluated("c", "r", "t", 0, {})]) == {}


def test_figures_of_a_client_that_are_no_numbers_end_nothing_and_choose_no_model() -> None:
    """A client may claim NaN as it may claim any number: the model that it is claimed of is not the best one."""
    bad = weighted([Evaluated("a", "r", "t", 30, {"loss": math.nan}), Evaluated("b", "r", "t", 10, {"loss": 3.0})])
    good = weighted([Evaluated("a", "r", "t", 30, {"loss": 2.0}), Evaluated("b", "r", "t", 10, {"loss": 3.0})])
    assert math.isnan(bad["loss"])
    assert Schedule.best([bad["loss"], good["loss"], bad["loss"]]) == 2


def test_all_are_asked_and_answers_to_other_questions_do_not_count() -> None:
    scripted = Scripted("b", "a")
    scripted.ask("shard-1")
    assert scripted.asked() == ["b", "a"]
    scripted.answers("a", 9.0, "shard-2")
    scripted.answers("stranger", 9.0, "shard-1")
    assert scripted.outcome() is None
    scripted.answers("a", 1.0, "shard-1")
    scripted.answers("a", 9.0, "shard-1")
    assert scripted.outcome() is None
    scripted.answers("b", 2.0, "shard-1")
    assert list((scripted.outcome() or {}).items()) == [("b", 2.0), ("a", 1.0)], "in the order of the shards"


def test_a_client_that_can_not_evaluate_is_named_and_left_out() -> None:
    scripted = Scripted("a", "b")
    scripted.ask("average")
    scripted.done += scripted.evaluations.fail("a", "average", "its files are gone")
    scripted.answers("b", 2.0, "average")
    assert scripted.outcome() == {"b": 2.0}
    assert scripted.output() == ["a could not evaluate average: its files are gone."]


def test_a_client_that_breaks_the_protocol_with_its_answer_is_not_asked_again() -> None:
    scripted = Scripted("a", "b")
    scripted.ask()
    scripted.asked()
    scripted.done += scripted.evaluations.leave("a", "it sent nonsense", broken=True)
    scripted.done += scripted.evaluations.join("a")
    assert scripted.asked() == []
    scripted.answers("b", 2.0)
    assert scripted.outcome() == {"b": 2.0}
    assert scripted.output() == ["a could not evaluate one: it sent nonsense."]


def test_clients_that_a_resumed_run_expects_back_are_waited_for_however_short_the_deadline_is() -> None:
    scripted = Scripted("a", "b", deadline=0)
    scripted.gone["b"] = 0.0
    scripted.ask(grace=60)
    scripted.look(59)
    assert not any("does not evaluate" in line for line in scripted.output())
    del scripted.gone["b"]
    scripted.done += scripted.evaluations.join("b")
    assert scripted.asked() == ["a", "b", "b"]
    for name in ("a", "b"):
        scripted.answers(name, 2.0)
    assert set(scripted.outcome() or {}) == {"a", "b"}


def test_a_lost_client_is_waited_for_once_and_not_for_every_model() -> None:
    scripted = Scripted("a", "b", deadline=20)
    scripted.ask()
    scripted.gone["b"] = scripted.now
    scripted.answers("a", 1.0)
    scripted.look(19)
    assert scripted.outcome() is None
    scripted.look(2)
    assert scripted.outcome() == {"a": 1.0}
    scripted.asked()
    scripted.ask("two")
    assert scripted.asked() == ["a"]
    assert scripted.output() == [
        f"b does not evaluate {model}: it was away for longer than --deadline." for model in ("one", "two")
    ]


def test_a_client_that_never_answers_is_waited_for_until_the_deadline_and_once() -> None:
    scripted = Scripted("a", "b")
    scripted.ask(limit=600)
    scripted.answers("a", 1.0)
    scripted.look(599)
    assert scripted.outcome() is None
    scripted.look(2)
    assert scripted.outcome() == {"a": 1.0}
    assert scripted.output()[-1] == "b does not evaluate one: it has not answered for 10 min."
    scripted.asked()
    scripted.ask("two")
    assert scripted.asked() == ["a"]
    assert scripted.output()[-1] == "b is not asked to evaluate two: it did not answer in time before."


@pytest.mark.parametrize("how", ["it comes back", "it answers at last"])
def test_a_client_that_returns_is_asked_again(how: str) -> None:
    scripted = Scripted("b")
    scripted.ask(limit=1)
    scripted.look(2)
    assert scripted.outcome() == {}
    if how == "it comes back":
        scripted.evaluations.join("b")
    else:
        scripted.answers("b", 1.0)
    scripted.asked()
    scripted.ask("two")
    assert scripted.asked() == ["b"]


def test_what_is_waited_for_is_reported_now_and_then() -> None:
    scripted = Scripted("a", "b")
    scripted.ask(rows="validation")
    scripted.look(29)
    assert scripted.output() == []
    scripted.look(2)
    scripted.look(2)
    assert scripted.output() == ["Waiting for a, b to evaluate one on their validation rows."]


def test_the_next_evaluation_begins_when_the_last_one_is_over() -> None:
    scripted = Scripted("a")
    scripted.ask("one")
    scripted.ask("two")
    assert scripted.asked() == ["a"]
    scripted.answers("a", 1.0, "one")
    assert scripted.outcome() == {"a": 1.0}
    assert scripted.asked() == ["a"]
    scripted.answers("a", 2.0, "two")
    assert scripted.outcome() == {"a": 2.0}


# --- in a run ---------------------------------------------------------------------------------------------------


class Run:
    """An engine whose clients have their own data, and evaluate each other's models at the end."""

    def __init__(self, *owners: str) -> None:
        table = TaskTable()
        self.method = Independent(fit_tasks(len(owners), 0), table, compares=True, limit=600.0, max_weight=10.0)
        self.engine = RunEngine(terms_of(owners, bound=True), self.method, table)
        self.done: list[Instruction] = self.engine.begin([ClientJoined(owner) for owner in owners], {}, None, 0.0)
        self.now = 0.0

    def happens(self, event: Event | WorkDone | Tick, seconds: float = 0.0) -> Sequence[Instruction]:
        self.now += seconds
        following = self.engine.handle(event, self.now)
        self.done += following
        return following

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.done if isinstance(each, kind)]

    def events(self, kind: type[Any]) -> list[Any]:
        return [each.event for each in self.of(Emit) if isinstance(each.event, kind)]

    def trained(self) -> None:
        """All tasks come back, and their models are evaluated by the server."""
        for record in self.engine.table.records():
            self.happens(ResultCommitted(record.owner, "run-1", record.task.key, 0.1))
        for each in self.of(Do):
            assert isinstance(each.work, EvaluateResult)
            self.happens(WorkDone(each.work, {"loss": 0.5}))


def test_what_else_happens_while_clients_evaluate_is_received_at_once() -> None:
    """A run that waited for evaluations used to look at nothing else."""
    run = Run("a", "b")
    run.trained()
    assert [ask.client for ask in run.of(Ask)] == ["a", "b"]
    run.happens(ClientJoined("c", "10.0.0.9", "jax"))
    assert [event.client for event in run.events(events.ClientJoined)] == ["a", "b", "c"]
    run.happens(ClientLeft("b", "it was pulled out", lost=True))
    [left] = run.events(events.ClientLeft)
    assert sentence(left) == (
        "b was lost (it was pulled out); no other client has its rows; waiting 600 s more for it (--deadline)."
    )
    run.happens(EpochCompleted("a", "run-1", "shard-1", 3, {"loss": 1.0}))
    run.happens(ResultCommitted("c", "an earlier run", "shard-1", 0.1))
    assert [event.run for event in run.events(events.EarlierResult)] == ["an earlier run"]
    before = len(run.of(Ask))
    run.happens(ClientJoined("b"), seconds=5)
    assert [(ask.client, ask.model) for ask in run.of(Ask)[before:]] == [("b", "shard-1")], "it is asked again"
    for model in ("shard-1", "shard-2"):
        for client in ("a", "b"):
            run.happens(Evaluated(client, "run-1", model, 5, {"loss": 2.0 if model == "shard-1" else 1.0}))
    assert run.of(EndRun)
    assert run.method.status() == "done"
    best = run.method.outcome().best
    assert best is not None
    assert best.key == "shard-2", "by what all clients have measured"


def test_a_client_that_does_not_come_back_to_evaluate_ends_no_run() -> None:
    run = Run("a", "b")
    run.trained()
    run.happens(ClientLeft("b", "it was pulled out", lost=True))
    run.happens(Evaluated("a", "run-1", "shard-1", 5, {"loss": 2.0}))
    run.happens(Tick({}, {}), seconds=599)
    assert not run.of(EndRun)
    run.happens(Tick({}, {}), seconds=2)
    run.happens(Evaluated("a", "run-1", "shard-2", 5, {"loss": 3.0}))
    assert run.of(EndRun)
    assert len(run.of(Lease)) == 2


def test_an_evaluation_that_fails_counts_for_no_task() -> None:
    run = Run("a")
    run.trained()
    run.happens(TaskFailed("a", "run-1", "average", "no such model"))
    assert not run.events(events.TaskFailed)
    run.happens(Evaluated("a", "run-1", "shard-1", 5, {"loss": 2.0}))
    assert run.of(EndRun)
