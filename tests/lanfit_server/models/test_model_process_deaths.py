"""The model process is killed: it is replaced at once, its work is repeated, and that is said. Real processes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.core.child import Child
from lanfit.errors import InputError, LanfitError
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.messages import Model
from lanfit_server.models.handle import (
    MOST_DEATHS,
    Compile,
    Compiled,
    Done,
    Evaluate,
    Loaded,
    LoadModel,
    Metrics,
    ModelProcess,
    TryBatch,
    UseData,
    UseModel,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="only POSIX tells that a process was killed")
MODEL = Model("{}", "{}", (None, 3), (None, 3), "values", "none", "none")
KILLED = "The model process was killed by signal 9, probably because memory ran out: it is restarted"


class Recording:
    """A folder, a fake model process (fake_models.py), and what was said of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output: list[str] = []
        self.received = asyncio.Event()
        (folder / "net.h5").write_text("2.5")
        self.load = LoadModel(str(folder / "net.h5"), str(folder / "weights.block"))
        self.data = UseData(ArrayFile.write(folder / "data.block", {"x": np.zeros(2), "y": np.zeros(2)}))

    def kill(self, request: str, times: int = 1) -> None:
        """Let this request kill so many processes."""
        (self.folder / request).write_text(str(times))

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().split()

    def log(self, line: str) -> None:
        self.output.append(line)
        self.received.set()


Scenario = Callable[[Recording, ModelProcess], Awaitable[None]]
RunScript = Callable[[Scenario], Recording]


@pytest.fixture
def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunScript:
    tests = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("FAKE_MODELS", str(tmp_path))

    def run_script(scenario: Scenario) -> Recording:
        async def run() -> Recording:
            recording = Recording(tmp_path)
            models = await ModelProcess.start(recording.log, "fake_models")
            try:
                async with asyncio.timeout(60):
                    await scenario(recording, models)
            finally:
                await models.stop()
            return recording

        return asyncio.run(run())

    return run_script


def test_an_evaluation_that_is_killed_is_done_again_by_a_process_that_knows_what_the_first_knew(
    run_script: RunScript,
) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        await models.ask(UseModel(MODEL), Done)
        await models.ask(recording.data, Done)
        recording.kill("Evaluate", 2)
        assert await models.ask(Evaluate(()), Metrics) == Metrics({"loss": 1.0})

    recording = run_script(scenario)
    again = ["UseModel", "UseData", "Evaluate"]
    assert recording.asked == [*again, *again, *again]
    assert recording.output == [f"{KILLED}, and its work is repeated."] * 2


def test_a_process_that_is_killed_while_idle_is_replaced_at_once_and_that_is_reported_once(
    run_script: RunScript,
) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        await models.ask(UseModel(MODEL), Done)
        first = models.pid
        os.kill(first, signal.SIGKILL)
        await recording.received.wait()
        await models.ask(recording.data, Done)
        assert models.pid != first

    recording = run_script(scenario)
    assert recording.output == [f"{KILLED}."]
    assert recording.asked == ["UseModel", "UseModel", "UseData"]


def test_kills_of_an_idle_process_never_end_what_is_asked_later(run_script: RunScript) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        await models.ask(UseModel(MODEL), Done)
        for _ in range(MOST_DEATHS):
            recording.received.clear()
            os.kill(models.pid, signal.SIGKILL)
            await recording.received.wait()
        os.kill(models.pid, signal.SIGKILL)  # nobody starts one any more before it is needed
        assert await models.ask(Evaluate(()), Metrics) == Metrics({"loss": 1.0})

    assert run_script(scenario).asked.count("Evaluate") == 1


def test_a_request_that_kills_process_after_process_is_given_up_with_the_reason_and_the_last_lines(
    run_script: RunScript,
) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        await models.ask(UseModel(MODEL), Done)
        recording.kill("Evaluate", MOST_DEATHS)
        with pytest.raises(LanfitError) as wrong:
            await models.ask(Evaluate(()), Metrics)
        assert wrong.value.code == "model-process.keeps-dying"
        assert wrong.value.exit_code == 4
        assert "3 times" in wrong.value.message
        assert "killed by signal 9" in wrong.value.message
        assert "killed by Evaluate" in wrong.value.hint
        assert "--resume" in wrong.value.hint
        # A service has other jobs.
        assert await models.ask(UseModel(MODEL), Done) == Done()

    assert len(run_script(scenario).output) == MOST_DEATHS


def test_a_model_file_that_is_never_read_is_refused_and_the_next_is_read(run_script: RunScript) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        endless = recording.folder / "LoadModel-endless"
        endless.touch()
        with pytest.raises(InputError) as wrong:
            await models.ask(recording.load, Loaded)
        assert wrong.value.code == "model.endless"
        assert "net.h5: reading it took more than 180 s of processor time" in wrong.value.message
        endless.unlink()
        assert isinstance(await models.ask(recording.load, Loaded), Loaded)

    assert run_script(scenario).asked == ["LoadModel"] * 2, "it is not tried again and again"


def test_a_model_that_was_loaded_is_loaded_again_and_its_first_weights_stay_as_they_are(run_script: RunScript) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        loaded = await models.ask(recording.load, Loaded)
        weights = loaded.weights.load()["w"]  # a view of the file
        os.kill(models.pid, signal.SIGKILL)
        await models.ask(Compile(), Compiled)
        await models.ask(UseModel(MODEL), Done)
        recording.kill("TryBatch")
        await models.ask(TryBatch(recording.data.arrays, loaded.weights), Done)
        assert weights.tolist() == [2.5] * 3
        assert not (recording.folder / "loaded-again.block").exists()

    asked = run_script(scenario).asked
    assert asked == ["LoadModel", "LoadModel", "Compile", "UseModel", "TryBatch", "UseModel", "TryBatch"]


def test_a_process_that_is_killed_while_it_loads_a_model_loads_it_again(run_script: RunScript) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        recording.kill("LoadModel")
        assert (await models.ask(recording.load, Loaded)).parameters == 3

    assert run_script(scenario).asked == ["LoadModel", "LoadModel"]


def test_a_model_file_that_is_another_by_then_is_refused(run_script: RunScript) -> None:
    async def scenario(recording: Recording, models: ModelProcess) -> None:
        await models.ask(recording.load, Loaded)
        (recording.folder / "net.h5").write_text("3.5")
        os.kill(models.pid, signal.SIGKILL)
        with pytest.raises(LanfitError) as wrong:
            await models.ask(Compile(), Compiled)
        assert wrong.value.code == "model.changed"
        assert "net.h5" in wrong.value.message

    run_script(scenario)


def test_what_a_process_is_asked_when_it_is_ended_is_given_up_and_no_error_that_nobody_fetches(
    run_script: RunScript,
) -> None:
    unfetched: list[str] = []

    async def scenario(recording: Recording, models: ModelProcess) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unfetched.append(context["message"]))
        (recording.folder / "Evaluate-hangs").touch()
        waiting = asyncio.create_task(models.ask(Evaluate(()), Metrics))
        gone = asyncio.create_task(models.ask(Evaluate(()), Metrics))
        while not (recording.folder / "asked").exists():
            await asyncio.sleep(0.01)
        gone.cancel()  # as Ctrl-C does with who waits in the main thread
        await models.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        del waiting, gone
        gc.collect()
        await asyncio.sleep(0)

    run_script(scenario)
    assert unfetched == []


def test_stop_waits_for_a_process_that_is_being_started_in_the_place_of_another() -> None:
    """It was left behind by a Ctrl-C that had killed the first. Here both are interpreters that read their input."""

    async def script() -> None:
        begun, go = asyncio.Event(), asyncio.Event()
        children: list[Child[Any]] = []

        async def start() -> Child[Any]:
            if children:
                begun.set()
                await go.wait()
            children.append(await Child.start("code", Done, "model process"))
            return children[-1]

        models = ModelProcess(start, await start(), lambda text: None)
        children[0].kill()
        await begun.wait()
        stopping = asyncio.create_task(models.stop())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stopping.done()
        go.set()
        await stopping
        assert [child.exit_code is not None for child in children] == [True, True]

    asyncio.run(script())
