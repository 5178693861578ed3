"""What the model process answers when something goes wrong in it: an error in the table's words, and it lives on."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from lanfit.data.labels import Target
from lanfit.data.shard import NO_SAMPLES, Samples, Shard
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.models.trained_model import TrainedModel
from lanfit.transfer.blocks import ArrayFile
from lanfit.transfer.disk_space import RetryWhenFull
from lanfit.wire.messages import Model
from lanfit_server.models.handle import (
    Compile,
    Compiled,
    Done,
    Evaluate,
    Loaded,
    LoadModel,
    Metrics,
    ModelProcess,
    Problem,
    UseData,
    UseModel,
    WriteFinal,
    WriteModel,
)
from lanfit_server.models.model_process import ModelHolder, problem

ROOT = Path(__file__).resolve().parents[3]


def test_memory_that_does_not_suffice_is_an_answer() -> None:
    assert problem(MemoryError()).code == "model.out-of-memory"


def test_an_error_is_an_answer_by_its_nearest_class_of_the_tree() -> None:
    class Special(InputError):
        """Of a module of its own."""

    assert problem(Special("a", "b", "c")) == Problem("InputError", "a", "b", "c")
    full = lanfit_error("disk.full", file="weights.block", size=9)
    assert problem(full) == Problem("LanfitError", full.message, full.hint, "disk.full")


@pytest.mark.cold
@pytest.mark.keras
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there limits of a running process change")
def test_a_disk_without_space_is_waited_for_in_a_run_and_that_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit.transfer.disk_space.AGAIN_SECONDS", 0.05)
    output: list[str] = []

    async def ask() -> None:
        models = await ModelProcess.start(print)
        [process] = [
            child for child in psutil.Process().children() if "lanfit_server.models.model_process" in child.cmdline()
        ]

        def is_logged(line: str) -> None:
            output.append(line)
            process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))

        try:
            digits = str(ROOT / "model" / "digits.h5")
            loaded = await models.ask(LoadModel(digits, str(tmp_path / "weights.block")), Loaded)
            compiled = await models.ask(Compile(), Compiled)
            shapes = loaded.inputs[0].shape, loaded.outputs[0].shape
            await models.ask(
                UseModel(Model(loaded.architecture, compiled.compile, *shapes, "classes", "none", "none")), Done
            )
            member = {**loaded.weights.load(), **TrainedModel({}).constants()}
            result = ArrayFile.write(tmp_path / "result.block", member)
            for order in (
                WriteModel(str(tmp_path / "a.h5"), result),
                WriteFinal(str(tmp_path / "a.keras"), (result,)),
            ):
                process.rlimit(psutil.RLIMIT_FSIZE, (1000, psutil.RLIM_INFINITY))
                models.retry_when_full = None
                with pytest.raises(LanfitError) as wrong:
                    await models.ask(order, LanfitError)
                assert wrong.value.code == "disk.full", repr(wrong.value)
                models.retry_when_full = RetryWhenFull("A model can't be written", is_logged)
                await models.ask(order, Metrics if isinstance(order, WriteFinal) else Done)
        finally:
            await models.stop()

    asyncio.run(ask())
    assert len(output) == 2
    assert all(line.startswith("A model can't be written: ") and "free some space" in line for line in output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.keras", "result.block", "weights.block"]


@pytest.mark.keras
def test_what_the_system_refuses_is_an_answer_and_the_process_lives_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder must be")

    async def ask() -> None:
        models = await ModelProcess.start(print)
        try:
            digits = str(ROOT / "model" / "digits.h5")
            with pytest.raises(LanfitError) as wrong:
                await models.ask(LoadModel(digits, str(tmp_path / "file" / "weights.block")), Loaded)
            assert wrong.value.code == "system.refused"
            assert str(tmp_path / "file") in wrong.value.message

            loaded = await models.ask(LoadModel(digits, str(tmp_path / "weights.block")), Loaded)
            compiled = await models.ask(Compile(), Compiled)
            shapes = loaded.inputs[0].shape, loaded.outputs[0].shape
            model = Model(loaded.architecture, compiled.compile, *shapes, "classes", "none", "none")
            await models.ask(UseModel(model), Done)
            member = {**loaded.weights.load(), **TrainedModel({}).constants()}
            result = ArrayFile.write(tmp_path / "result.block", member)
            for request in (
                WriteModel(str(tmp_path / "file" / "a.h5"), result),
                WriteFinal(str(tmp_path / "file" / "a.keras"), (result,)),
            ):
                with pytest.raises(LanfitError) as wrong:
                    await models.ask(request, Done)
                assert wrong.value.code == "system.refused"
            assert await models.ask(WriteModel(str(tmp_path / "a.h5"), result), Done) == Done()
            assert (tmp_path / "a.h5").is_file()
        finally:
            await models.stop()

    asyncio.run(ask())


@pytest.mark.keras
def test_a_final_model_is_evaluated_with_the_metrics_it_was_compiled_with_by_the_names_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr("lanfit_server.models.model_process.limit_memory", lambda limit: True)  # not of this process
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=["mse", keras.metrics.AUC(name="my area")])
    model.save(tmp_path / "net.keras")
    x, y = np.random.default_rng(0).random((40, 3)).astype(np.float32), np.arange(40) % 2
    holder = ModelHolder()
    loaded = holder.answer(LoadModel(str(tmp_path / "net.keras"), str(tmp_path / "weights.block")))
    assert isinstance(loaded, Loaded)
    compiled = holder.answer(Compile())
    assert isinstance(compiled, Compiled)
    named = Model(loaded.architecture, compiled.compile, (None, 3), (None, 1), Target.BINARY, "none", "none")
    holder.answer(UseModel(named))
    holder.answer(UseData(ArrayFile.write(tmp_path / "data.block", Shard(Samples.of(x, y), NO_SAMPLES).block())))
    member = ArrayFile.write(tmp_path / "m.block", {**loaded.weights.load(), **TrainedModel({}).constants()})
    found = [
        holder.answer(request)
        for request in (Evaluate((member,)), WriteFinal(str(tmp_path / "final.keras"), (member,)))
    ]
    theirs = model.evaluate(x, y, verbose=0, return_dict=True)
    for evaluated in found:
        assert isinstance(evaluated, Metrics)
        assert {name: evaluated.metrics[name] for name in theirs} == pytest.approx(theirs, rel=1e-5)
