"""A pool of played trainers: who gets what, what happens when one dies, hangs, or is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes.fake_cluster import run_script

from lanfit.errors import ChildDied, InputError, LanfitError
from lanfit.training.commands import Answer, NotDone, NotReady, Ready, Step, Trained
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import BlockSpec
from lanfit.wire.messages import Runtime
from lanfit_server.clusters.pool import TrainerPool

READY = Ready("tensorflow", "cpu", 1, 0.5)


class FakeTrainer:
    """A trainer whose answers the test gives."""

    def __init__(
        self,
        runtime: Runtime,
        fixed: frozenset[str],
        on_answer: Callable[[Answer], None],
        on_death: Callable[[LanfitError, Sequence[str]], None],
    ) -> None:
        assert fixed == {"threads"}, "results depend on them: no task may change them"
        self.answer, self._die = on_answer, on_death
        self.ready: Ready | None = None
        self.hung = False
        self.orders: list[Any] = []
        self.stopped: list[int] = []
        self.closed = False

    async def start(self) -> None:
        self.ready = READY
        self.answer(READY)

    async def do(self, order: Any) -> None:
        self.orders.append(order)

    async def stop(self, number: int) -> None:
        self.stopped.append(number)

    async def close(self) -> None:
        self.closed = True

    def finish(self) -> None:
        self.answer(Trained(self.orders[-1][0], ArrayFile("", BlockSpec("", ())), (), 0, {}, {}))

    def die(self, *, hung: bool = False) -> None:
        self.hung = hung
        self._die(ChildDied("the trainer was killed by signal 9", ""), ["last words"])
        self.hung = False


class Wanted:
    """A work item that remembers what it heard."""

    def __init__(self, name: str, warm: str = "", wrong: LanfitError | OSError | None = None, lives: int = 0) -> None:
        self.name, self.warm, self._wrong, self._lives = name, warm, wrong, lives
        self.received: list[Answer] = []
        self.failed: list[tuple[LanfitError, Sequence[str]]] = []

    async def make_command(self, number: int) -> Any:
        if self._wrong is not None:
            raise self._wrong
        return (number, self.name)

    def on_answer(self, answer: Answer, ready: Ready) -> None:
        self.received.append(answer)

    @property
    def adjustment(self) -> None:
        return None

    def again(self, died: LanfitError) -> bool:
        self._lives -= 1
        return self._lives >= 0

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.failed.append((error, last_lines))


class Scenario:
    def __init__(self, size: int) -> None:
        self.output: list[str] = []
        self.unusable: list[LanfitError] = []
        self.pool = TrainerPool(
            Runtime("tensorflow", "auto", 1), size, on_death=self.output.append, on_unusable=self.unusable.append
        )
        self.trainers: list[Any] = [slot.trainer for slot in self.pool._slots]

    async def submit(self, *items: Wanted) -> None:
        for item in items:
            self.pool.submit(item)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def given(self) -> list[list[str]]:
        """Names of what each trainer was given."""
        return [[name for _, name in trainer.orders] for trainer in self.trainers]


@pytest.fixture(autouse=True)
def _with_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanfit.training.executor.TrainerProcess", FakeTrainer)


def test_each_trainer_has_one_order_at_a_time_and_what_waits_keeps_its_order() -> None:
    async def act() -> None:
        scenario = Scenario(2)
        await scenario.pool.start()
        items = [Wanted(name) for name in "abcd"]
        await scenario.submit(*items)
        assert scenario.given() == [["a"], ["b"]]
        assert [item.name for item in scenario.pool.waiting()] == ["c", "d"]  # type: ignore[attr-defined]
        scenario.trainers[1].finish()
        await scenario.settle()
        assert scenario.given() == [["a"], ["b", "c"]]
        scenario.trainers[0].finish()
        await scenario.settle()
        assert scenario.given() == [["a", "d"], ["b", "c"]]
        assert [len(item.received) for item in items] == [1, 1, 0, 0]

    run_script(act())


def test_of_equal_trainers_the_one_that_read_the_same_rows_last_is_taken() -> None:
    async def act() -> None:
        scenario = Scenario(2)
        await scenario.pool.start()
        await scenario.submit(Wanted("a", "shard 1"), Wanted("b", "shard 2"))
        for trainer in scenario.trainers:
            trainer.finish()
        await scenario.submit(Wanted("c", "shard 2"), Wanted("d", "shard 1"))
        assert scenario.given() == [["a", "d"], ["b", "c"]]

    run_script(act())


def test_an_answer_to_another_order_is_not_heard() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        item = Wanted("a")
        await scenario.submit(item)
        scenario.trainers[0].answer(Step(99, "training", 1, 1, 1, 1, 0.5, 10))
        assert item.received == []
        scenario.trainers[0].answer(Step(1, "training", 1, 1, 1, 1, 0.5, 10))
        assert item.received == [], "it has said nothing before its backend was ready"
        await scenario.pool.start()
        scenario.trainers[0].answer(Step(1, "training", 1, 1, 1, 1, 0.5, 10))
        assert len(item.received) == 1

    run_script(act())


def test_what_a_trainer_cannot_do_fails_and_the_next_one_has_its_turn() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        await scenario.pool.start()
        failing, unable, full = Wanted("a"), Wanted("b", wrong=InputError("no")), Wanted("c", wrong=OSError("full"))
        last = Wanted("d")
        await scenario.submit(failing, unable, full, last)
        scenario.trainers[0].answer(NotDone(1, False, "the loss is NaN", "Lower it."))
        await scenario.settle()
        assert [(str(error), list(lines)) for error, lines in failing.failed] == [("the loss is NaN", [])]
        assert failing.failed[0][0].hint == "Lower it."
        assert len(unable.failed) == len(full.failed) == 1
        assert scenario.given() == [["a", "d"]]

    run_script(act())


def test_a_trainer_that_dies_is_given_the_same_again_while_that_gets_on_and_then_the_next() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        deadly, last = Wanted("a", lives=1), Wanted("b")
        await scenario.submit(deadly, last)
        scenario.trainers[0].die()
        await scenario.settle()
        assert scenario.given() == [["a", "a"]]
        assert deadly.failed == []
        scenario.trainers[0].die()
        await scenario.settle()
        assert scenario.given() == [["a", "a", "b"]]
        [(error, lines)] = deadly.failed
        assert isinstance(error, ChildDied)
        assert list(lines) == ["last words"]
        assert scenario.output == ["The trainer was killed by signal 9."] * 2

    run_script(act())


def test_a_trainer_that_dies_idle_takes_nothing_with_it() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        scenario.trainers[0].die()
        await scenario.submit(Wanted("a"))
        assert scenario.given() == [["a"]]

    run_script(act())


def test_what_is_withdrawn_is_stopped_and_nothing_is_received_of_it() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        await scenario.pool.start()
        running, waiting, last = Wanted("a"), Wanted("b"), Wanted("c")
        await scenario.submit(running, waiting, last)
        await scenario.pool.withdraw(waiting)
        await scenario.pool.withdraw(running)
        assert scenario.trainers[0].stopped == [1]
        assert scenario.given() == [["a"]], "it has not stopped yet"
        scenario.trainers[0].answer(Step(1, "training", 1, 1, 1, 1, 0.5, 10))
        scenario.trainers[0].answer(NotDone(1, True, "the task was stopped", ""))
        await scenario.settle()
        assert scenario.given() == [["a", "c"]]
        assert running.received == running.failed == waiting.received == waiting.failed == []

    run_script(act())


def test_what_is_withdrawn_but_was_done_before_is_dropped() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        await scenario.pool.start()
        running, last = Wanted("a"), Wanted("b")
        await scenario.submit(running, last)
        await scenario.pool.withdraw(running)
        scenario.trainers[0].finish()
        await scenario.settle()
        assert running.received == []
        assert scenario.given() == [["a", "b"]]

    run_script(act())


def test_what_is_withdrawn_before_its_order_is_made_reaches_no_trainer() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        running, last = Wanted("a"), Wanted("b")
        scenario.pool.submit(running)
        scenario.pool.submit(last)
        await scenario.pool.withdraw(running)
        await scenario.settle()
        assert scenario.given() == [["b"]]

    run_script(act())


def test_a_trainer_that_hangs_is_killed_and_the_next_order_is_not_blamed() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        hanging, last = Wanted("a", lives=9), Wanted("b")
        await scenario.submit(hanging, last)
        await scenario.pool.withdraw(hanging)
        scenario.trainers[0].die(hung=True)
        await scenario.settle()
        assert scenario.given() == [["a", "b"]]
        assert hanging.failed == last.failed == []
        assert "did not stop" in scenario.output[0]

    run_script(act())


def test_a_backend_that_cannot_be_used_is_reported_and_fails_what_was_begun() -> None:
    async def act() -> None:
        scenario = Scenario(1)
        item = Wanted("a")
        await scenario.submit(item)
        scenario.trainers[0].answer(NotReady("there is no gpu", "Take --device cpu."))
        assert [type(error) for error in scenario.unusable] == [InputError]
        assert [str(error) for error, _ in item.failed] == ["there is no gpu"]

    run_script(act())


def test_closing_ends_all_trainers() -> None:
    async def act() -> None:
        scenario = Scenario(2)
        await scenario.submit(Wanted("a"), Wanted("b"), Wanted("c"))
        await scenario.pool.close()
        assert [trainer.closed for trainer in scenario.trainers] == [True, True]

    run_script(act())
