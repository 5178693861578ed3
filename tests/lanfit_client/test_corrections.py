"""Own files that can't be used are corrected, and read again: on Enter at a terminal, else when they have changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import COMPILED, NETWORK, scripted_server

from lanfit.training import commands
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import block_of
from lanfit.wire.messages import ClientData, Model, RunEnded, Survey, Surveyed, Unsuitable, Welcome
from lanfit_client.corrections import Corrections, snapshot

PATIENCE = 60.0


class Keyboard:
    """Enter, pressed by the test."""

    def __init__(self) -> None:
        self.press: Callable[[], None] | None = None

    @contextlib.contextmanager
    def __call__(self, call: Callable[[], None]) -> Iterator[bool]:
        self.press = call
        try:
            yield True
        finally:
            self.press = None


def run_script(script: Any) -> None:
    async def within() -> None:
        async with asyncio.timeout(PATIENCE):
            await script()

    asyncio.run(within())


def test_enter_reads_them_again_until_training_begins(tmp_path: Path) -> None:
    keyboard, output = Keyboard(), []

    async def script() -> None:
        read: asyncio.Queue[None] = asyncio.Queue()
        corrections = Corrections(tmp_path, output.append, keyboard)
        corrections.begin(lambda: read.put(None))
        for _ in range(2):
            while keyboard.press is None:
                await asyncio.sleep(0)
            keyboard.press()
            await read.get()
        corrections.invite()
        await corrections.end()
        assert keyboard.press is None, "what is typed from now on is for others"

    run_script(script)
    assert output == ["Correct them and press Enter here to read them again."]


def test_without_a_terminal_they_are_read_again_when_they_have_changed(tmp_path: Path) -> None:
    output: list[str] = []
    (tmp_path / "X").mkdir()
    path = tmp_path / "X" / "rows.csv"
    path.write_text("1,2\n")

    async def script() -> None:
        read: asyncio.Queue[str] = asyncio.Queue()

        async def again() -> None:
            await read.put(path.read_text())

        corrections = Corrections(tmp_path, output.append, look_seconds=0.001)
        looked = asyncio.Event()

        async def look() -> Any:
            found = await asyncio.to_thread(snapshot, tmp_path)
            looked.set()
            return found

        corrections._look = look  # type: ignore[method-assign]
        corrections.begin(again)
        await looked.wait()
        for text in ("1,2\n3,4\n", "1,2\n3,4\n5,6\n"):
            path.write_text(text)
            assert await read.get() == text
        corrections.invite()
        await corrections.end()
        assert read.empty(), "once for each change"

    run_script(script)
    assert output == ["Correct them: they are read again as soon as they change."]


@pytest.mark.parametrize("change", ["content", "new", "gone", "in a folder"])
def test_whatever_is_changed_is_seen(tmp_path: Path, change: str) -> None:
    (tmp_path / "X" / "inner").mkdir(parents=True)
    (tmp_path / "X" / "a.csv").write_text("1")
    (tmp_path / "X" / "inner" / "b.csv").write_text("1")
    before = snapshot(tmp_path)
    assert before == snapshot(tmp_path)
    match change:
        case "content":
            (tmp_path / "X" / "a.csv").write_text("12")
        case "new":
            (tmp_path / "X" / "c.csv").write_text("1")
        case "gone":
            (tmp_path / "X" / "a.csv").unlink()
        case _:
            (tmp_path / "X" / "inner" / "b.csv").write_text("12")
    assert snapshot(tmp_path) != before


def test_a_client_tells_of_the_corrected_files_on_the_same_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer is a fake one, which finds fault with the files once."""
    output: list[str] = []
    keyboard = Keyboard()
    model = Model(NETWORK, COMPILED, (None, 1), (None, 1), "values", "none", "none")
    faults = ["X/rows.csv is empty"]

    async def do(self: Any, order: Any) -> None:
        if faults:
            answer: commands.Answer = commands.NotDone(order.number, False, faults.pop(), "Put rows there.")
        else:
            file = ArrayFile.write(tmp_path / "survey.block", {"w": np.zeros(1)})
            answer = commands.Surveyed(order.number, 4, 1, 2, 8, 0, file, ())
        self._on_answer(answer)

    async def script() -> None:
        async with scripted_server(tmp_path, output, data=tmp_path) as (scripted, agent, running):
            agent._corrections = Corrections(tmp_path, output.append, keyboard)
            link = await scripted.links.get()
            await link.send(Welcome("0", "lab", False))
            await link.send(Survey(model, ClientData(2, 0.0, 0.0, 0, 0, None), block_of({"w": np.zeros(1)})))
            wrong = await received(link, Unsuitable)
            assert wrong.error == "X/rows.csv is empty"
            assert keyboard.press is not None
            keyboard.press()
            reported = await received(link, Surveyed)
            assert reported.train == 4
            assert agent.worker.failures == 0
            assert not agent.worker.is_unsuitable
            await link.send(RunEnded("", "failed", "no run was started"))
            await running
            assert keyboard.press is None

    async def received(link: Any, kind: type[Any]) -> Any:
        while not isinstance(message := await link.receive(), kind):
            pass
        return message

    async def start(self: Any) -> None:
        self.ready = commands.Ready("tensorflow", "cpu", 1, 0.0)

    async def cached(*_: Any) -> list[ArrayFile]:
        return [ArrayFile.write(tmp_path / "weights.block", {"w": np.zeros(1)})]

    monkeypatch.setattr("lanfit.training.trainer_process.TrainerProcess.do", do)
    monkeypatch.setattr("lanfit.training.trainer_process.TrainerProcess.start", start)
    monkeypatch.setattr("lanfit_client.store.cache.Cache.get", cached)
    run_script(script)
    assert "Correct them and press Enter here to read them again." in output
