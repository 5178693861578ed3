"""A trainer that is killed, and another one that goes on from its checkpoint: against a server that a test plays."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from breakpoints import Breakpoint
from scripted_server import COMPILED, NETWORK, scripted_server, task, until

from lanfit.data.labels import Target
from lanfit.net.link import Link
from lanfit.training.commands import Fit
from lanfit.training.trainer import checkpoint_key
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import AnyArray, block_of, buffers
from lanfit.wire.messages import (
    Ack,
    AnyMessage,
    Cancel,
    ClientData,
    Epoch,
    Failed,
    Fetch,
    FitTask,
    Fold,
    Lease,
    LogLines,
    Model,
    Offer,
    RunEnded,
    Runtime,
    Welcome,
)
from lanfit_client.agent import Agent
from lanfit_client.store.checkpoints import Checkpoints

EPOCHS = 4


@pytest.fixture(autouse=True)
def _a_checkpoint_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANFIT_CHECKPOINT_SECONDS", "0")


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Breakpoint:
    """Trainers stand still after their first epoch, and after the one that they go on from."""
    hold = Breakpoint(tmp_path / "hold")
    for name, value in hold.environment.items():
        monkeypatch.setenv(name, value)
    return hold


@asynccontextmanager
async def training(
    folder: Path, output: list[str]
) -> AsyncIterator[tuple[Link, Agent, asyncio.Task[None], Lease, list[AnyMessage]]]:
    """An agent that was given a lease and what goes with it; with the link to it, and what it sent meanwhile."""
    lease, blocks = task()
    lease = msgspec.structs.replace(lease, fit=msgspec.structs.replace(lease.fit, epochs=EPOCHS))
    seen: list[AnyMessage] = []
    async with scripted_server(folder, output) as (scripted, agent, running):
        link = await scripted.links.get()
        await link.receive()
        await link.send(Welcome("0", "lab", False))
        await link.send(lease)
        for _ in range(2):
            fetch = await until(link, Fetch, seen)
            assert isinstance(fetch, Fetch)
            await link.send_block(fetch, buffers(blocks[fetch.block]))
        yield link, agent, running, lease, seen


async def logged(link: Link, pattern: str, seen: list[AnyMessage]) -> re.Match[str]:
    """Wait for a line of the client's log."""
    while True:
        message = await until(link, LogLines, seen)
        assert isinstance(message, LogLines)
        seen.append(message)
        if found := re.search(pattern, message.lines[0]):
            return found


def kill_trainer(agent: Agent) -> None:
    child = agent.worker.trainer._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)


async def kept(folder: Path) -> None:
    """Wait until there is a checkpoint."""
    while not list(folder.rglob("state.checkpoint")):
        await asyncio.sleep(0.01)


def epochs_of(messages: list[AnyMessage]) -> list[int]:
    """The epochs that were trained, from 1, as the log has them."""
    lines = [message.lines[0] for message in messages if isinstance(message, LogLines)]
    return [int(found[1]) for line in lines if (found := re.match(rf"Epoch (\d+)/{EPOCHS} ", line))]


def test_a_killed_trainer_is_replaced_and_continues_to_the_same_bits(tmp_path: Path, hold: Breakpoint) -> None:
    output: list[str] = []

    async def run_script() -> None:
        async with training(tmp_path, output) as (link, agent, running, lease, seen):
            await kept(tmp_path / "client")
            kill_trainer(agent)
            after = int(
                (await logged(link, r"^The trainer was killed by signal 9; resuming after epoch (\d+)\.$", seen))[1]
            )
            hold.let_go()
            before, later = epochs_of(seen), list[AnyMessage]()
            offer = await until(link, Offer, later)
            assert isinstance(offer, Offer)
            assert before == list(range(1, len(before) + 1))
            assert epochs_of(later) == list(range(after + 1, EPOCHS + 1)), "epochs of before were trained again"
            assert not any(isinstance(message, Failed) for message in [*seen, *later])
            assert {message.epoch for message in [*seen, *later] if isinstance(message, Epoch)} == set(range(EPOCHS))
            history = (tmp_path / "logs" / "trained" / "run-1" / "lab" / "history.csv").read_text().splitlines()
            assert [line.partition(",")[0] for line in history] == ["epoch", *map(str, range(EPOCHS))]
            assert not list((tmp_path / "client").rglob("*.checkpoint")), "kept longer than needed"
            await link.send(Ack(offer.result.block.id))

            # The same, undisturbed: the hash of all bytes of the result is the same.
            await link.send(msgspec.structs.replace(lease, task="shard-2"))
            baseline = await until(link, Offer, later)
            assert isinstance(baseline, Offer)
            assert baseline.result.block.id == offer.result.block.id
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running

    asyncio.run(run_script())
    assert any("resuming after epoch" in line for line in output)


def test_a_task_that_kills_its_trainers_is_reported_and_gone_on_with_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: Breakpoint
) -> None:
    monkeypatch.setenv("LANFIT_CHECKPOINT_SECONDS", "1000")
    output: list[str] = []

    async def run_script() -> None:
        async with training(tmp_path, output) as (link, agent, running, lease, seen):
            # Before there is a checkpoint: reported at once.
            while agent.worker.trainer.ready is None:
                await asyncio.sleep(0.01)
            kill_trainer(agent)
            failed = await until(link, Failed, seen)
            assert isinstance(failed, Failed)
            assert "killed by signal 9" in failed.error

            # Twice in a row at the same epoch: the second time.
            monkeypatch.setenv("LANFIT_CHECKPOINT_SECONDS", "0")
            await link.send(lease)
            await kept(tmp_path / "client")
            kill_trainer(agent)
            after = (await logged(link, r"resuming after epoch (\d+)", seen))[1]
            while agent.worker.trainer._child is None:
                await asyncio.sleep(0.01)
            kill_trainer(agent)
            failed = await until(link, Failed, seen)
            assert isinstance(failed, Failed)
            assert "killed by signal 9" in failed.error

            # What is done is not lost, should the task come here again.
            await link.send(lease)
            assert (await logged(link, r"Resuming shard-1 from the checkpoint after epoch (\d+)", seen))[1] == after
            await link.send(Cancel("run-1", "shard-1", "lab-2 finished it"))
            while not any("lab-2 finished it" in line for line in output):
                await asyncio.sleep(0.01)
            hold.let_go()
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running
        assert not list((tmp_path / "client").rglob("*.checkpoint"))

    asyncio.run(run_script())


def test_a_trainer_that_hangs_is_killed_when_its_task_is_taken_away_and_the_next_task_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: Breakpoint
) -> None:
    output: list[str] = []

    async def run_script() -> None:
        async with training(tmp_path, output) as (link, agent, running, lease, seen):
            await until(link, Epoch, seen)
            child = agent.worker.trainer._child
            assert child is not None
            os.kill(child.pid, signal.SIGSTOP)
            monkeypatch.setattr("lanfit.training.trainer_process.STOP_SECONDS", 0.1)
            await link.send(Cancel("run-1", "shard-1", "it made no progress"))
            short = msgspec.structs.replace(lease.fit, epochs=1)
            await link.send(msgspec.structs.replace(lease, task="shard-2", fit=short))
            offer = await until(link, Offer, seen)
            assert isinstance(offer, Offer)
            assert offer.result.task == "shard-2"
            assert not any(isinstance(message, Failed) for message in seen)
            assert agent.worker.failures == 0
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running

    asyncio.run(run_script())
    assert any("did not stop when requested" in line for line in output)


# --- what they are for -----------------------------------------------------------------------------------------------


def test_a_checkpoint_is_for_one_training_and_for_what_computes_it() -> None:
    """Whatever decides which bits come out gives another key; where files lie and which order it is do not."""

    def file(value: float) -> ArrayFile:
        return ArrayFile(f"{value}.block", block_of(rows(value)))

    def rows(value: float) -> dict[str, AnyArray]:
        return {"x_train": np.full((4, 2), value)}

    model = Model(NETWORK, COMPILED, (None, 2), (None, 3), Target.CLASSES, "minmax", "none")
    order = Fit(1, FitTask(model, 2, 32, 7, 0, Runtime(), None, None), file(1), file(2), "data", "to", "copy", "kept")
    fits = [
        msgspec.structs.replace(order.fit, **change)
        for change in (
            {"seed": 8},
            {"epochs": 3},
            {"batch_size": 16},
            {"patience": 1},
            {"model": msgspec.structs.replace(model, architecture="{ }")},
            {"model": msgspec.structs.replace(model, compile="{}")},
            {"model": msgspec.structs.replace(model, normalizer="zscore")},
            {"fold": Fold(1, 3, 7, 0.1)},
            {"fold": Fold(2, 3, 7, 0.1)},
        )
    ]
    others = [msgspec.structs.replace(order, fit=fit) for fit in fits]
    others += [msgspec.structs.replace(order, weights=file(3)), msgspec.structs.replace(order, shard=file(3))]
    here = ("0.1.0", "3.15.1", "2.21.0", "tensorflow", "1", "cpu")
    elsewhere = [(*here[:place], "another", *here[place + 1 :]) for place in range(len(here))]
    keys = [checkpoint_key(each, each.shard.block, here) for each in (order, *others)]
    keys += [checkpoint_key(order, order.shard.block, each) for each in elsewhere]
    # Of own files only the rows themselves say what they are.
    own = msgspec.structs.replace(
        order, fit=msgspec.structs.replace(order.fit, own=ClientData(32, 0.2, 0.1, 0, 7, None))
    )
    keys += [checkpoint_key(own, block_of(rows(value)), here) for value in (4, 5)]
    assert len(set(keys)) == len(keys)

    moved = msgspec.structs.replace(order, number=2, data="a", result="b", copy="c", checkpoint="d")
    assert checkpoint_key(moved, moved.shard.block, here) == keys[0]


# --- the folders ----------------------------------------------------------------------------------------------------


def test_what_a_server_calls_a_task_is_never_a_path(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "state" / "checkpoints")
    names = ["../../../x", "/etc/x", "a/b", "..", "", "\0", "x" * 5000, "naïve 猫"]
    paths = [checkpoints.of(run, task) for run in names for task in names[:2]]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert path.parent.parent == tmp_path / "state" / "checkpoints"
        assert re.fullmatch(r"[0-9a-f]{32}-[0-9a-f]{32}", path.parent.name)


def test_few_tasks_that_are_not_at_hand_keep_theirs(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    paths = []
    for number in range(5):
        paths.append(checkpoints.of("run", f"task-{number}"))
        paths[-1].write_bytes(b"x")
        os.utime(paths[-1].parent, (number, number))
    assert [path.exists() for path in paths] == [False, False, True, True, True]
    assert checkpoints.of("run", "task-2") == paths[2]
    assert [path.exists() for path in paths[2:]] == [True, True, True]


def test_a_task_or_a_run_that_is_over_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    one, other, apart = (checkpoints.of(*name) for name in (("a", "1"), ("a", "2"), ("b", "1")))
    for path in (one, other, apart):
        path.write_bytes(b"x")
    checkpoints.forget("a", "1")
    checkpoints.forget("a", "unknown")
    assert [path.exists() for path in (one, other, apart)] == [False, True, True]
    checkpoints.end_run("a")
    assert [path.name for path in tmp_path.iterdir()] == [apart.parent.name]
