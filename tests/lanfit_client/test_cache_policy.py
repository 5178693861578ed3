"""What a client keeps when it has no room to write, and when a run has ended."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.core.workspace import Workspace
from lanfit.errors import ChildDied, LanfitError
from lanfit.training import executor
from lanfit.training.commands import Answer, Ready, Trained
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.messages import Message, Runtime
from lanfit_client.store.state import ClientState
from lanfit_client.work import CachePolicy, Work, Worker


class Item:
    """One whose result can't be written a few times."""

    key = ("task", "run-1", "shard-1")
    run = "run-1"

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.received = 0
        self.failed: list[str] = []

    def on_answer(self, answer: Answer, ready: Ready) -> None:
        self.received += 1
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, "No space left on device" if code == errno.ENOSPC else "Input/output error", "a.block")

    @property
    def adjustment(self) -> None:
        return None

    def again(self, died: LanfitError) -> bool:
        raise AssertionError("it is trained")

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.failed.append(error.message)


def worker(folder: Path, output: list[str], cache_policy: CachePolicy | None = None) -> Worker:
    place = Workspace(folder)
    sent: list[Message] = []
    runtime = Runtime("tensorflow", "cpu", 1)
    state = ClientState.take(place)
    state.lock.release()
    return Worker(state, place, folder, runtime, frozenset(), sent.append, output.append, cache_policy or CachePolicy())


async def trained(ours: Worker, item: Item, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer has done the item, and says so."""

    async def no_message(number: int) -> Any:
        return None

    ours.trainer.ready = Ready("tensorflow", "cpu", 1, 0.0)
    monkeypatch.setattr(ours.trainer, "do", no_message)
    ours._work = Work(item, None)  # type: ignore[arg-type]
    ours.executor.begin(item, no_message)
    assert ours.executor.working is not None
    await ours.executor.working
    block = ArrayFile.write(folder / "a.block", {"w": np.ones(1)})
    ours.executor._on_answer(Trained(1, block, ("loss",), 0, {}, {}))


def hand_in(folder: Path, item: Item, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    output: list[str] = []
    monkeypatch.setattr(executor, "AGAIN_SECONDS", 0.0)

    async def go() -> None:
        ours = worker(folder, output)
        await trained(ours, item, folder, monkeypatch)
        assert ours.executor.working is not None
        async with asyncio.timeout(60):
            await ours.executor.working
        assert ours._work is None

    asyncio.run(go())
    return output


def test_a_trainer_that_dies_while_its_result_waits_for_space_takes_nothing_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, output = Item(*[errno.ENOSPC] * 3), list[str]()
    monkeypatch.setattr(executor, "AGAIN_SECONDS", 0.0)

    async def go() -> None:
        ours = worker(tmp_path, output)
        await trained(ours, item, tmp_path, monkeypatch)
        ours.executor._on_death(ChildDied("the trainer was killed by signal 9"), ["last words"])
        assert ours.executor.working is not None
        async with asyncio.timeout(60):
            await ours.executor.working

    asyncio.run(go())
    assert (item.received, item.failed) == (4, [])
    assert [output[0], output[-1]] == ["The trainer was killed by signal 9.", "The result fits on the disk again."]


def test_a_result_that_waits_for_space_is_let_go_when_something_else_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item(*[errno.ENOSPC] * 3)

    async def go() -> None:
        ours = worker(tmp_path, [])
        await trained(ours, item, tmp_path, monkeypatch)
        await ours.stop()
        assert ours.executor.item is None
        assert ours.executor.working is not None
        assert ours.executor.working.cancelled()

    asyncio.run(go())
    assert (item.received, item.failed) == (1, [])


def test_a_result_that_there_is_no_space_for_is_tried_again_until_there_is_and_that_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item(errno.ENOSPC, errno.ENOSPC, errno.ENOSPC)
    output = hand_in(tmp_path, item, monkeypatch)
    assert (item.received, item.failed) == (4, [])
    assert len(output) == 2
    assert "No space left on device" in output[0]
    assert output[1] == "The result fits on the disk again."


def test_a_result_that_can_not_be_written_for_another_reason_is_reported_to_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item(errno.ENOSPC, errno.EIO)
    hand_in(tmp_path, item, monkeypatch)
    [failed] = item.failed
    assert "Input/output error: a.block" in failed


@pytest.mark.parametrize(
    ("cache_policy", "status", "stays"),
    [
        (CachePolicy(), "done", False),
        (CachePolicy(), "partial", False),
        (CachePolicy(), "interrupted", True),
        (CachePolicy(data=True), "done", True),
    ],
)
def test_what_was_received_goes_when_the_run_has_ended_unless_it_is_to_be_kept(
    tmp_path: Path, cache_policy: CachePolicy, status: str, stays: bool
) -> None:
    ours = worker(tmp_path, [], cache_policy)
    block = tmp_path / "client" / "state" / "1" / "cache" / f"{'0' * 64}.block"
    ArrayFile.write(block, {"w": np.ones(1)})
    asyncio.run(ours.end_run("run-1", status))
    assert block.exists() == stays


@pytest.mark.parametrize("restarts", [True, False])
def test_what_was_received_outlives_the_client_but_not_one_that_a_server_started(
    tmp_path: Path, restarts: bool
) -> None:
    ours = worker(tmp_path, [], CachePolicy(restarts=restarts))
    block = tmp_path / "client" / "state" / "1" / "cache" / f"{'0' * 64}.block"
    ArrayFile.write(block, {"w": np.ones(1)})
    asyncio.run(ours.close())
    worker(tmp_path, [])
    assert block.exists() == restarts
