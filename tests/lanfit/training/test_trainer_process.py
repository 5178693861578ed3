"""A real trainer process, ordered round after round: what it gives, and that nothing of one is left in the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lanfit.data.labels import Target
from lanfit.data.shard import Normalizers, Samples
from lanfit.models.compiling import override
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import get_weights
from lanfit.training.commands import Answer, EpochDone, Fit, NotDone, Ready, Step, Trained
from lanfit.training.keras.evaluation import Evaluator
from lanfit.training.trainer_process import TrainerProcess
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import FitTask, Model, Runtime

pytestmark = pytest.mark.keras

RANDOM = np.random.RandomState(0)


def net() -> Any:
    """A model with everything that must be put back between two rounds: statistics, random states, averages, a rate."""
    import keras
    from keras import layers

    hidden = [layers.Flatten(), layers.Dense(12, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.3)]
    return keras.Sequential([keras.Input((6, 6, 1)), *hidden, layers.Dense(3, activation="softmax")])


def compiled() -> str:
    import keras

    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
    spec = override(None, "adam", "sparse_categorical_crossentropy", None, ("accuracy",))
    assert spec.optimizer is not None
    spec.optimizer["config"].update(
        learning_rate=keras.optimizers.schedules.serialize(decay), use_ema=True, ema_momentum=0.9
    )
    return spec.to_json()


def shard(rows: int = 75, **more: AnyArray) -> dict[str, AnyArray]:
    return {
        "x_train": RANDOM.randint(0, 256, (rows, 6, 6, 1)).astype(np.uint8),
        "y_train": RANDOM.randint(0, 3, rows),
        "x_validation": RANDOM.randint(0, 256, (21, 6, 6, 1)).astype(np.uint8),
        "y_validation": RANDOM.randint(0, 3, 21),
        "subtract": np.asarray(0.0),
        "multiply": np.asarray(1 / 255),
        "target_subtract": np.asarray(0.0),
        "target_multiply": np.asarray(1.0),
        **more,
    }


class Bench:
    """Trainer processes, the files of their orders, and what they answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()
        model = net()
        architecture = model.to_json()
        self.model = Model(architecture, compiled(), (None, 6, 6, 1), (None, 3), Target.CLASSES, "scale", "none")
        self.task = FitTask(self.model, 2, 16, 5, 0, Runtime(), None, None, round=1, keep_last=True)
        self.weights = [self.file("weights", get_weights(net())) for _ in range(2)]
        self.shards = [self.file("shard", shard()), self.file("shard", shard(60))]

    def file(self, name: str, arrays: Mapping[str, AnyArray]) -> ArrayFile:
        self.count += 1
        return ArrayFile.write(self.folder / f"{name}-{self.count}.block", arrays)

    @asynccontextmanager
    async def trainer(self) -> AsyncIterator[TrainerProcess]:
        def died(why: Exception, lines: Sequence[str]) -> None:
            raise AssertionError(lines)

        trainer = TrainerProcess(Runtime("tensorflow", "cpu", 1), frozenset(), self.answers.put_nowait, died)
        await trainer.start()
        try:
            yield trainer
        finally:
            await trainer.close()

    async def train(
        self, trainer: TrainerProcess, task: FitTask, weights: int = 0, shard: int | ArrayFile = 0, copy: str = ""
    ) -> tuple[Trained, list[Answer]]:
        self.count += 1
        (self.folder / "checkpoints").mkdir(exist_ok=True)
        paths = [str(self.folder / name) for name in ("data", f"result-{self.count}", f"checkpoints/{self.count}")]
        rows = self.shards[shard] if isinstance(shard, int) else shard
        await trainer.do(Fit(self.count, task, self.weights[weights], rows, paths[0], paths[1], copy, paths[2]))
        output: list[Answer] = []
        while not isinstance(answer := await asyncio.wait_for(self.answers.get(), 300), Trained):
            assert not isinstance(answer, NotDone), answer
            output.append(answer)
        return answer, [each for each in output if not isinstance(each, Ready)]


def changed(task: FitTask, **changes: Any) -> FitTask:
    return msgspec.structs.replace(task, **changes)


def test_the_nth_round_of_a_warm_trainer_is_that_of_a_fresh_one_to_the_bit(tmp_path: Path) -> None:
    """Equal blocks: weights, constants and history."""

    async def run_script() -> None:
        bench = Bench(tmp_path)
        plain = bench.task
        tasks = {
            "plain": (plain, 0, 0),
            "other weights and seed": (changed(plain, round=2, seed=6), 1, 0),
            "other rows": (plain, 0, 1),
            "fedprox": (changed(plain, proximal=0.5), 0, 0),
            "steps": (changed(plain, local_steps=7, batch_size=8), 0, 0),
        }
        fresh, warm = {}, {}
        for name in ("plain", "fedprox"):
            async with bench.trainer() as trainer:
                fresh[name], _ = await bench.train(trainer, *tasks[name])
        async with bench.trainer() as trainer:
            for _ in range(3):
                for name, task in tasks.items():
                    trained, _ = await bench.train(trainer, *task)
                    assert warm.setdefault(name, trained.block.block) == trained.block.block, name
        assert warm["plain"] == fresh["plain"].block.block
        assert warm["fedprox"] == fresh["fedprox"].block.block
        assert len({block.id for block in warm.values()}) == len(tasks)

    asyncio.run(run_script())


def test_a_round_evaluates_its_starting_weights_weighs_rows_and_writes_no_copy(tmp_path: Path) -> None:
    async def run_script() -> None:
        bench = Bench(tmp_path)
        rows = bench.shards[0].load()
        heavy = bench.file(
            "shard", {**rows, "w_train": np.ones(75, np.float32), "w_validation": np.full(21, 2.0, "f4")}
        )
        async with bench.trainer() as trainer:
            task = changed(bench.task, score_start=True, local_steps=8)
            trained, output = await bench.train(trainer, task, shard=heavy)
            member = TrainedModel(bench.weights[0].load(), Normalizers.of(bench.model, rows))
            expected = Evaluator(bench.model).evaluate([member], Samples.of(rows["x_validation"], rows["y_validation"]))
            assert trained.scores == pytest.approx(expected)
            assert list(trained.scores) == ["loss", "accuracy", "precision", "recall", "f1"]
            assert trained.best_epoch == 1
            steps = {(each.epoch, each.epochs, each.steps) for each in output if isinstance(each, Step)}
            assert steps == {(1, 2, 5), (2, 2, 3)}
            assert [each.epoch for each in output if isinstance(each, EpochDone)] == [0, 1]
            assert not list(tmp_path.rglob("*.h5"))

            copy = tmp_path / "a.h5"
            other, _ = await bench.train(trainer, changed(task, score_start=False), copy=str(copy))
            assert other.scores == {}
            assert copy.is_file()
            # Rows that all weigh one train the same; validation rows that weigh two have twice the loss.
            one, two = (ArrayFile(each.block.path, each.block.block).load() for each in (other, trained))
            at = trained.metrics.index("val_loss")
            np.testing.assert_allclose(two["history"][:, at], 2 * one["history"][:, at], rtol=1e-6)
            np.testing.assert_allclose(two["history"][:, :at], one["history"][:, :at], rtol=1e-6)

    asyncio.run(run_script())
