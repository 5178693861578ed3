"""A trainer that dies before it was given anything of a task: another one takes its place. Without a backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from memory_links import memory_links
from scripted_server import COMPILED, NETWORK

from lanfit.core.workspace import Workspace
from lanfit.errors import ChildDied
from lanfit.net.link import Link
from lanfit.training import commands
from lanfit.training.commands import Answer, Ready
from lanfit.training.executor import MOST_BUILDS
from lanfit.wire.arrays import block_of, block_size, buffers
from lanfit.wire.messages import Failed, Fetch, FitTask, Lease, Message, Model, Runtime
from lanfit_client.store.state import ClientState
from lanfit_client.work import CachePolicy, Worker
from lanfit_client.work_items import Training

WEIGHTS, ROWS = {"w": np.zeros(3)}, {"x_train": np.ones((4, 3))}


class FakeTrainer:
    """Stands where TrainerProcess does; the test lets it die, and answers for it."""

    def __init__(
        self, runtime: Runtime, fixed: frozenset[str], on_answer: Callable[[Answer], None], on_death: object
    ) -> None:
        self.answer = on_answer
        self._on_death = on_death
        self.ready = Ready("tensorflow", "cpu", 1, 0.0)
        self.hung = False
        self.given: asyncio.Queue[commands.Work] = asyncio.Queue()

    async def do(self, order: commands.Work) -> None:
        self.given.put_nowait(order)

    def die(self) -> None:
        self._on_death(ChildDied("the trainer was killed by signal 9"), ["last words"])  # type: ignore[operator]

    async def stop(self, number: int) -> None: ...

    async def close(self) -> None: ...


class Scenario:
    """A worker, and the server's end of its link."""

    def __init__(
        self, worker: Worker, link: Link, server: Link, sent: Sequence[Message], output: Sequence[str]
    ) -> None:
        self.worker, self.link, self.server, self.sent, self.output = worker, link, server, sent, output
        self.trainer: FakeTrainer = worker.trainer  # type: ignore[assignment]

    async def lease(self) -> None:
        model = Model(NETWORK, COMPILED, (None, 3), (None, 3), "values", "none", "none")
        fit = FitTask(model, 2, 2, 7, 0, Runtime(), None, None)
        lease = Lease("run-1", "shard-1", 1, "lab", fit, block_of(WEIGHTS), block_of(ROWS))
        await self.worker.take(Training(self.worker.context, lease, b"s" * 16, "lab", 0.0), self.link)

    async def fetched(self) -> Fetch:
        fetch = await self.server.receive()
        assert isinstance(fetch, Fetch)
        return fetch

    async def send(self, fetch: Fetch) -> None:
        block = next(arrays for arrays in (WEIGHTS, ROWS) if block_of(arrays).id == fetch.block)
        await self.server.send_block(fetch, buffers(block))

    @property
    def failures(self) -> list[Failed]:
        return [message for message in self.sent if isinstance(message, Failed)]


def run_script(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Scenario], Awaitable[None]]
) -> Scenario:
    monkeypatch.setattr("lanfit.training.executor.TrainerProcess", FakeTrainer)
    sent: list[Message] = []
    output: list[str] = []

    async def run() -> Scenario:
        state = ClientState.take(Workspace(folder))
        worker = Worker(
            state,
            Workspace(folder),
            folder,
            Runtime(),
            frozenset(),
            sent.append,
            output.append,
            CachePolicy(restarts=False),
        )
        link, server = memory_links()
        try:
            async with asyncio.timeout(60):
                with_clients = Scenario(worker, link, server, sent, output)
                await scenario(with_clients)
                return with_clients
        finally:
            await worker.close()
            await link.close()
            await server.close()
            state.lock.release()

    return asyncio.run(run())


def test_a_trainer_that_is_killed_while_its_task_is_on_its_way_is_replaced_and_the_task_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Scenario) -> None:
        await it.lease()
        weights = await it.fetched()
        it.trainer.die()
        await it.send(weights)
        await it.send(await it.fetched())
        assert isinstance(await it.trainer.given.get(), commands.Fit)

    with_clients = run_script(tmp_path, monkeypatch, scenario)
    assert with_clients.failures == []
    assert "The trainer was killed by signal 9; it is restarted. Receiving continues." in with_clients.output


def test_what_is_received_for_a_task_is_reported_to_both_sides_and_only_if_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = block_size(block_of(WEIGHTS).arrays) + block_size(block_of(ROWS).arrays)

    async def scenario(it: Scenario) -> None:
        await it.lease()
        await it.send(await it.fetched())
        rows = await it.fetched()
        progress = it.worker.progress()
        assert progress is not None
        assert (progress.state, progress.step) == ("receiving", block_size(block_of(WEIGHTS).arrays))
        assert progress.steps == total
        assert it.worker.receiving is not None
        await it.send(rows)
        await it.trainer.given.get()
        assert it.worker.progress().state == "preparing"  # type: ignore[union-attr]
        await it.worker.stop()
        await it.lease()
        await it.trainer.given.get()

    with_clients = run_script(tmp_path, monkeypatch, scenario)
    assert [line for line in with_clients.output if "run-1" in line] == [
        f"Task shard-1 of run run-1: receiving {total} bytes.",
        "Task shard-1 of run run-1: all that it needs is here already.",
    ]


def test_a_model_that_kills_a_trainer_while_it_is_built_is_tried_once_more_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit_client.work.keras_version", lambda: "1")

    async def scenario(it: Scenario) -> None:
        it.worker.server_keras = "2"
        await it.lease()
        for _ in range(MOST_BUILDS):
            assert it.failures == []
            assert isinstance(await it.trainer.given.get(), commands.Build)
            it.trainer.die()

    [failed] = run_script(tmp_path, monkeypatch, scenario).failures
    assert failed.died
    assert failed.error == "the trainer was killed by signal 9"
    assert failed.log == ("last words",)


def test_a_model_that_is_built_at_the_second_attempt_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit_client.work.keras_version", lambda: "1")

    async def scenario(it: Scenario) -> None:
        it.worker.server_keras = "2"
        await it.lease()
        await it.trainer.given.get()
        it.trainer.die()
        build = await it.trainer.given.get()
        it.trainer.answer(commands.Built(build.number))
        await it.send(await it.fetched())
        await it.send(await it.fetched())
        assert isinstance(await it.trainer.given.get(), commands.Fit)

    assert run_script(tmp_path, monkeypatch, scenario).failures == []
