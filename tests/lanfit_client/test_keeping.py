"""What a client keeps when it has no room to write, and when a run has ended."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lanfit.errors import LanfitError
from lanfit.files import ArrayFile
from lanfit.training.orders import Answer, Ready, Trained
from lanfit.wire.messages import Message, Runtime
from lanfit.workspace import Workspace
from lanfit_client import work as working
from lanfit_client.state import ClientState
from lanfit_client.work import Keeping, Work, Worker


class Errand:
    """One whose result can't be written a few times."""

    key = ("task", "run-1", "shard-1")
    run = "run-1"

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.heard = 0
        self.failed: list[str] = []

    def hear(self, answer: Answer, ready: Ready) -> bool:
        self.heard += 1
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, "No space left on device" if code == errno.ENOSPC else "Input/output error", "a.block")
        return True

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.failed.append(error.message)


def worker(folder: Path, said: list[str], keeping: Keeping | None = None) -> Worker:
    place = Workspace(folder)
    sent: list[Message] = []
    runtime = Runtime("tensorflow", "cpu", 1)
    state = ClientState.take(place)
    state.lock.release()
    return Worker(state, place, folder, runtime, frozenset(), sent.append, said.append, keeping or Keeping())


def hand_in(folder: Path, errand: Errand, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(working, "AGAIN_SECONDS", 0.0)

    async def go() -> None:
        ours = worker(folder, said)
        ours.trainer.ready = Ready("tensorflow", "cpu", 1, 0.0)
        work = ours._work = Work(1, errand, None)  # type: ignore[arg-type]
        block = ArrayFile.write(folder / "a.block", {"w": np.ones(1)})
        ours._on_answer(Trained(1, block, ("loss",), 0, {}, {}))
        if work.writing is not None:
            await asyncio.wait_for(work.writing, 60)
        assert ours._work is None

    asyncio.run(go())
    return said


def test_a_result_that_there_is_no_room_for_is_tried_again_until_there_is_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errand = Errand(errno.ENOSPC, errno.ENOSPC, errno.ENOSPC)
    said = hand_in(tmp_path, errand, monkeypatch)
    assert (errand.heard, errand.failed) == (4, [])
    assert len(said) == 2
    assert "No space left on device" in said[0]
    assert said[1] == "There was room for the result."


def test_a_result_that_can_not_be_written_for_another_reason_is_told_to_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errand = Errand(errno.ENOSPC, errno.EIO)
    hand_in(tmp_path, errand, monkeypatch)
    [failed] = errand.failed
    assert "Input/output error: a.block" in failed


@pytest.mark.parametrize(
    ("keeping", "status", "stays"),
    [
        (Keeping(), "done", False),
        (Keeping(), "partial", False),
        (Keeping(), "interrupted", True),
        (Keeping(data=True), "done", True),
    ],
)
def test_what_was_received_goes_when_the_run_has_ended_unless_it_is_to_be_kept(
    tmp_path: Path, keeping: Keeping, status: str, stays: bool
) -> None:
    ours = worker(tmp_path, [], keeping)
    block = tmp_path / "client" / "state" / "1" / "cache" / f"{'0' * 64}.block"
    ArrayFile.write(block, {"w": np.ones(1)})
    asyncio.run(ours.end_run("run-1", status))
    assert block.exists() == stays


@pytest.mark.parametrize("restarts", [True, False])
def test_what_was_received_outlives_the_client_but_not_one_that_a_server_started(
    tmp_path: Path, restarts: bool
) -> None:
    ours = worker(tmp_path, [], Keeping(restarts=restarts))
    block = tmp_path / "client" / "state" / "1" / "cache" / f"{'0' * 64}.block"
    ArrayFile.write(block, {"w": np.ones(1)})
    asyncio.run(ours.close())
    worker(tmp_path, [])
    assert block.exists() == restarts
