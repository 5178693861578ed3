"""A pool of played trainers: who gets what, what happens when one dies, hangs, or is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from played import play

from lanfit.errors import ChildDied, InputError, LanfitError
from lanfit.training.commands import Answer, NotDone, NotReady, Ready, Step, Trained
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import BlockSpec
from lanfit.wire.messages import Runtime
from lanfit_server.clusters.pool import TrainerPool

READY = Ready("tensorflow", "cpu", 1, 0.5)


class PlayedTrainer:
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
        self.heard: list[Answer] = []
        self.failed: list[tuple[LanfitError, Sequence[str]]] = []

    async def order(self, number: int) -> Any:
        if self._wrong is not None:
            raise self._wrong
        return (number, self.name)

    def on_answer(self, answer: Answer, ready: Ready) -> None:
        self.heard.append(answer)

    def again(self, died: LanfitError) -> bool:
        self._lives -= 1
        return self._lives >= 0

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.failed.append((error, last_lines))


class Scene:
    def __init__(self, size: int) -> None:
        self.said: list[str] = []
        self.unusable: list[LanfitError] = []
        self.pool = TrainerPool(
            Runtime("tensorflow", "auto", 1), size, on_death=self.said.append, on_unusable=self.unusable.append
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
def _played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanfit.training.executor.TrainerProcess", PlayedTrainer)


def test_each_trainer_has_one_order_at_a_time_and_what_waits_keeps_its_order() -> None:
    async def act() -> None:
        scene = Scene(2)
        await scene.pool.start()
        items = [Wanted(name) for name in "abcd"]
        await scene.submit(*items)
        assert scene.given() == [["a"], ["b"]]
        assert [item.name for item in scene.pool.waiting()] == ["c", "d"]  # type: ignore[attr-defined]
        scene.trainers[1].finish()
        await scene.settle()
        assert scene.given() == [["a"], ["b", "c"]]
        scene.trainers[0].finish()
        await scene.settle()
        assert scene.given() == [["a", "d"], ["b", "c"]]
        assert [len(item.heard) for item in items] == [1, 1, 0, 0]

    play(act())


def test_of_equal_trainers_the_one_that_read_the_same_rows_last_is_taken() -> None:
    async def act() -> None:
        scene = Scene(2)
        await scene.pool.start()
        await scene.submit(Wanted("a", "shard 1"), Wanted("b", "shard 2"))
        for trainer in scene.trainers:
            trainer.finish()
        await scene.submit(Wanted("c", "shard 2"), Wanted("d", "shard 1"))
        assert scene.given() == [["a", "d"], ["b", "c"]]

    play(act())


def test_an_answer_to_another_order_is_not_heard() -> None:
    async def act() -> None:
        scene = Scene(1)
        item = Wanted("a")
        await scene.submit(item)
        scene.trainers[0].answer(Step(99, "training", 1, 1, 1, 1, 0.5, 10))
        assert item.heard == []
        scene.trainers[0].answer(Step(1, "training", 1, 1, 1, 1, 0.5, 10))
        assert item.heard == [], "it has said nothing before its backend was ready"
        await scene.pool.start()
        scene.trainers[0].answer(Step(1, "training", 1, 1, 1, 1, 0.5, 10))
        assert len(item.heard) == 1

    play(act())


def test_what_a_trainer_cannot_do_fails_and_the_next_one_has_its_turn() -> None:
    async def act() -> None:
        scene = Scene(1)
        await scene.pool.start()
        failing, unable, full = Wanted("a"), Wanted("b", wrong=InputError("no")), Wanted("c", wrong=OSError("full"))
        last = Wanted("d")
        await scene.submit(failing, unable, full, last)
        scene.trainers[0].answer(NotDone(1, False, "the loss is NaN", "Lower it."))
        await scene.settle()
        assert [(str(error), list(lines)) for error, lines in failing.failed] == [("the loss is NaN", [])]
        assert failing.failed[0][0].hint == "Lower it."
        assert len(unable.failed) == len(full.failed) == 1
        assert scene.given() == [["a", "d"]]

    play(act())


def test_a_trainer_that_dies_is_given_the_same_again_while_that_gets_on_and_then_the_next() -> None:
    async def act() -> None:
        scene = Scene(1)
        deadly, last = Wanted("a", lives=1), Wanted("b")
        await scene.submit(deadly, last)
        scene.trainers[0].die()
        await scene.settle()
        assert scene.given() == [["a", "a"]]
        assert deadly.failed == []
        scene.trainers[0].die()
        await scene.settle()
        assert scene.given() == [["a", "a", "b"]]
        [(error, lines)] = deadly.failed
        assert isinstance(error, ChildDied)
        assert list(lines) == ["last words"]
        assert scene.said == ["The trainer was killed by signal 9."] * 2

    play(act())


def test_a_trainer_that_dies_idle_takes_nothing_with_it() -> None:
    async def act() -> None:
        scene = Scene(1)
        scene.trainers[0].die()
        await scene.submit(Wanted("a"))
        assert scene.given() == [["a"]]

    play(act())


def test_what_is_withdrawn_is_stopped_and_nothing_is_heard_of_it() -> None:
    async def act() -> None:
        scene = Scene(1)
        await scene.pool.start()
        running, waiting, last = Wanted("a"), Wanted("b"), Wanted("c")
        await scene.submit(running, waiting, last)
        await scene.pool.withdraw(waiting)
        await scene.pool.withdraw(running)
        assert scene.trainers[0].stopped == [1]
        assert scene.given() == [["a"]], "it has not stopped yet"
        scene.trainers[0].answer(Step(1, "training", 1, 1, 1, 1, 0.5, 10))
        scene.trainers[0].answer(NotDone(1, True, "the task was stopped", ""))
        await scene.settle()
        assert scene.given() == [["a", "c"]]
        assert running.heard == running.failed == waiting.heard == waiting.failed == []

    play(act())


def test_what_is_withdrawn_but_was_done_before_is_dropped() -> None:
    async def act() -> None:
        scene = Scene(1)
        await scene.pool.start()
        running, last = Wanted("a"), Wanted("b")
        await scene.submit(running, last)
        await scene.pool.withdraw(running)
        scene.trainers[0].finish()
        await scene.settle()
        assert running.heard == []
        assert scene.given() == [["a", "b"]]

    play(act())


def test_what_is_withdrawn_before_its_order_is_made_reaches_no_trainer() -> None:
    async def act() -> None:
        scene = Scene(1)
        running, last = Wanted("a"), Wanted("b")
        scene.pool.submit(running)
        scene.pool.submit(last)
        await scene.pool.withdraw(running)
        await scene.settle()
        assert scene.given() == [["b"]]

    play(act())


def test_a_trainer_that_hangs_is_killed_and_the_next_order_is_not_blamed() -> None:
    async def act() -> None:
        scene = Scene(1)
        hanging, last = Wanted("a", lives=9), Wanted("b")
        await scene.submit(hanging, last)
        await scene.pool.withdraw(hanging)
        scene.trainers[0].die(hung=True)
        await scene.settle()
        assert scene.given() == [["a", "b"]]
        assert hanging.failed == last.failed == []
        assert "did not stop" in scene.said[0]

    play(act())


def test_a_backend_that_cannot_be_used_is_said_and_fails_what_was_begun() -> None:
    async def act() -> None:
        scene = Scene(1)
        item = Wanted("a")
        await scene.submit(item)
        scene.trainers[0].answer(NotReady("there is no gpu", "Take --device cpu."))
        assert [type(error) for error in scene.unusable] == [InputError]
        assert [str(error) for error, _ in item.failed] == ["there is no gpu"]

    play(act())


def test_closing_ends_all_trainers() -> None:
    async def act() -> None:
        scene = Scene(2)
        await scene.submit(Wanted("a"), Wanted("b"), Wanted("c"))
        await scene.pool.close()
        assert [trainer.closed for trainer in scene.trainers] == [True, True]

    play(act())
