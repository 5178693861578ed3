"""A backend that trains any weights in microseconds: deterministic, and as particular about its state as a real one.

It pulls every weight towards the mean of the rows of a batch, with momentum and some noise: so a result depends on the
weights, the rows, their order and weights, the seed, the steps before, and on all of the state that a checkpoint has.
What the architecture says is of no account, so a test needs no Keras to make a model.

A trainer does something else when the folder in the variable `FAKE_BACKEND` has a file for it (see `Behaviour`).
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lanfit.backends import BackendEntry, Device, register
from lanfit.core.durable import atomic_file
from lanfit.data.labels import Target
from lanfit.data.shard import NO_SAMPLES, Arrays, Samples
from lanfit.errors import lanfit_error
from lanfit.models.custom_files import AllowedFile
from lanfit.models.trained_model import TrainedModel
from lanfit.training.backend import Rows
from lanfit.training.folds import convert_targets
from lanfit.training.metrics import metrics
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model, OutputSpec

if TYPE_CHECKING:
    import pytest

NAME = "fake"
TESTS = Path(__file__).resolve().parent.parent
#: Has the folder of a `Behaviour`.
VARIABLE = "FAKE_BACKEND"
#: What a trainer can do instead of a step: end as one that the kernel killed, raise, give no number, never come back.
DEEDS = ("dies", "raises", "nan", "hangs")
MOMENTUM = 0.9
#: Of a model whose compile options have none.
LEARNING_RATE = 0.05


class Behaviour:
    """What the trainers of a test do beside training: made in the test, looked up in the trainer.

    Args:
        folder: for a file for each deed, which says how often it is still to be done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Behaviour:
        """That of all trainers which are started from now on."""
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(VARIABLE, str(folder))
        return cls(folder)

    def at(self, epoch: int | str, deed: str, times: int = 1) -> None:
        """Do this when an epoch (from 0) begins, or at "prepare", "model", "score" or "copy"."""
        assert deed in DEEDS
        (self.folder / f"{epoch}-{deed}").write_text(str(times))

    def wait_at(self, epoch: int) -> None:
        """Wait when an epoch begins, until `go_on`. A trainer that waits still hears that it is to stop."""
        (self.folder / f"{epoch}-waits").touch()

    def go_on(self) -> None:
        """Let whoever waits go on; nobody waits any more."""
        for file in self.folder.glob("*-waits"):
            file.unlink()

    def now(self, place: int | str) -> str:
        """In a trainer: do what is to be done at a place. Returns "nan" if there is to be no number."""
        if not self.folder.name:
            return ""
        while (self.folder / f"{place}-waits").exists():
            threading.Event().wait(0.002)
        for deed in DEEDS:
            file = self.folder / f"{place}-{deed}"
            with suppress(FileNotFoundError):
                if left := int(file.read_text()):
                    file.write_text(str(left - 1))
                    return _do(deed)
        return ""


def _do(deed: str) -> str:
    match deed:
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raises":
            raise RuntimeError("the fake backend was told to raise")
        case "hangs":
            threading.Event().wait()
    return deed


class FakeBackend:
    """A `lanfit.training.backend.Backend`."""

    def __init__(self, name: str = NAME) -> None:
        self._name = name
        self._first_rate = self.learning_rate = LEARNING_RATE
        self._behaviour = Behaviour(Path(os.environ.get(VARIABLE, "")))
        self._custom: tuple[AllowedFile, ...] = ()
        self._start: dict[str, AnyArray] = {}

    # --- once in a process, and what is no training -----------------------------------------------------------------

    def prepare(self, threads: int, device: str) -> Device:
        self._behaviour.now("prepare")
        if device == "gpu":
            raise lanfit_error("backend.no-gpu", backend=self._name, found=Device())
        return Device()

    @property
    def versions(self) -> tuple[str, ...]:
        return ("1",)

    def use_custom(self, files: Sequence[AllowedFile]) -> None:
        self._custom = tuple(files)

    def check_model(self, model: Model, server_keras: str) -> None:
        self._behaviour.now("model")
        if "unknown" in model.architecture:
            raise lanfit_error("model.other-keras", here="1", there=server_keras, reason="it knows no such layer")

    def check_batch(self, model: Model, weights: Mapping[str, AnyArray], batch: Samples) -> None:
        if not all(np.isfinite(array).all() for array in batch.inputs.values()):
            raise lanfit_error("batch.not-finite")

    def evaluate(self, model: Model, members: Sequence[TrainedModel], rows: Samples) -> dict[str, float]:
        self._behaviour.now("score")
        if not len(rows):
            return {}
        normalizers = members[0].normalizers.inputs
        inputs = {name: normalizers[name].apply(array) for name, array in rows.inputs.items()}
        targets = convert_targets(model, rows.targets, inputs)
        level, of_rows = float(np.mean([_mean(member.weights) for member in members])), _of_rows(inputs)
        scores = {"loss": float(np.mean((of_rows - level) ** 2))}
        for each in model.gives:
            true, target = targets[each.name], Target(each.target)
            shape = (*true.shape, int(each.shape[-1] or 1)) if target is Target.CLASSES else true.shape
            column = (of_rows + level).reshape(-1, *[1] * (len(shape) - 1))
            predicted = np.broadcast_to(np.cos(column + np.arange(shape[-1])), shape).astype(np.float32)
            front = f"{each.name}_" if len(model.gives) > 1 else ""
            scores |= {front + key: value for key, value in metrics(target, true, predicted, each.ignored).items()}
        return scores

    def write_model(self, path: Path, model: Model, weights: Mapping[str, AnyArray]) -> None:
        if self._behaviour.now("copy"):
            raise ValueError("the fake backend was told not to write")
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps({name: array.tolist() for name, array in weights.items()}))

    def place(self, array: AnyArray) -> AnyArray:
        return np.array(array)

    def predict(self, model: Model, inputs: Arrays) -> dict[str, AnyArray]:
        self._behaviour.now("predict")
        level = _mean(self._weights)
        return {each.name: self._outputs(each, _of_rows(inputs) + level) for each in model.gives}

    @staticmethod
    def _outputs(output: OutputSpec, of_rows: AnyArray) -> AnyArray:
        row = tuple(int(n or 1) for n in output.shape[1:])
        places = np.arange(int(np.prod(row)))
        values = np.cos(of_rows[:, None] + places) ** 2
        if Target(output.target) is Target.CLASSES:
            values = values / values.sum(axis=1, keepdims=True)
        return values.reshape(len(of_rows), *row).astype(np.float32)

    # --- training ---------------------------------------------------------------------------------------------------

    def load(self, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
        self._start = {name: np.array(array) for name, array in weights.items()}
        optimizer = (json.loads(compile_json or "{}").get("optimizer") or {}).get("config") or {}
        self._first_rate = optimizer.get("learning_rate", LEARNING_RATE)

    def start(
        self,
        seed: int,
        batch_size: int,
        train: Samples,
        validation: Samples,
        proximal: float = 0.0,
        first_step: int = 0,
    ) -> None:
        self._trained = {name: array for name, array in self._start.items() if array.dtype.kind == "f"}
        self._weights = {name: array.astype(np.float64) for name, array in self._trained.items()}
        self._velocity = {name: np.zeros(array.shape) for name, array in self._trained.items()}
        self._random = np.random.RandomState(seed % 2**32)
        self._batch_size, self._proximal, self._step, self._epoch = batch_size, proximal, first_step, 0
        self.learning_rate = self._first_rate
        self._data, self._validation = train, validation
        self._began = False
        self._losses: list[AnyArray] = []

    def train(self, rows: Rows) -> float:
        if not self._began:
            self._began = True
            if self._behaviour.now(self._epoch):
                return float("nan")
        for first in range(0, len(rows), self._batch_size):
            self._one_step(rows[first : first + self._batch_size])
        return self._mean_loss()

    def _one_step(self, batch: Rows) -> None:
        of_rows, weights = self._rows(self._data, batch)
        self._losses.append(weights * (of_rows - self._level()) ** 2)
        goal = float(np.mean(weights * of_rows))
        rate = self.learning_rate / (1 + 0.001 * self._step)
        for name, array in self._weights.items():
            pull = array - goal + self._random.uniform(-0.01, 0.01, array.shape)
            pull = pull + self._proximal * (array - self._trained[name])
            self._velocity[name] = MOMENTUM * self._velocity[name] + pull
            self._weights[name] = array - rate * self._velocity[name]
        self._step += 1

    def _rows(self, samples: Samples, rows: Rows) -> tuple[AnyArray, AnyArray]:
        chosen = samples.take(rows)
        weights = np.ones(len(rows)) if chosen.weights is None else np.asarray(chosen.weights, np.float64)
        return _of_rows(chosen.inputs) + 0.1 * _of_rows(chosen.targets), weights

    def _level(self) -> float:
        return _mean(self._weights)

    def _mean_loss(self) -> float:
        return float(np.concatenate(self._losses).mean())

    def finish_epoch(self) -> dict[str, float]:
        self._epoch += 1
        self._began = False
        return self.finish_validation()

    def validate(self, rows: Rows) -> float:
        of_rows, weights = self._rows(self._validation, rows)
        self._losses.append(weights * (of_rows - self._level()) ** 2)
        return self._mean_loss()

    def finish_validation(self) -> dict[str, float]:
        loss, self._losses = self._mean_loss(), []
        return {"loss": loss, "accuracy": 1 / (1 + loss)}

    def weights(self) -> dict[str, AnyArray]:
        trained = {name: array.astype(self._trained[name].dtype) for name, array in self._weights.items()}
        return {name: trained.get(name, array).copy() for name, array in self._start.items()}

    def state(self) -> dict[str, AnyArray]:
        _, keys, position, *_ = self._random.get_state()
        return {
            **{f"weights/{name}": array.copy() for name, array in self._weights.items()},
            **{f"velocity/{name}": array.copy() for name, array in self._velocity.items()},
            "random": np.array(keys),
            "counts": np.array([position, self._step, self._epoch]),
            "rate": np.array(self.learning_rate, np.float64),
        }

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        for name, array in self.state().items():
            if name not in state or state[name].shape != array.shape:
                raise ValueError(f"it has no {name} of {array.shape}")
        for name in self._weights:
            self._weights[name] = np.array(state[f"weights/{name}"])
            self._velocity[name] = np.array(state[f"velocity/{name}"])
        position, self._step, self._epoch = (int(count) for count in state["counts"])
        self.learning_rate = float(state["rate"])
        self._random.set_state(("MT19937", np.array(state["random"]), position, 0, 0.0))

    def release(self) -> None:
        self._data = self._validation = NO_SAMPLES

    def forget_start(self) -> None:
        self._start = {}

    def set_learning_rate(self, rate: float) -> None:
        self.learning_rate = rate


def _of_rows(arrays: Arrays) -> AnyArray:
    """A number for each row, of all that is in it."""
    flat = [np.asarray(array, np.float64).reshape(len(array), -1) for array in arrays.values() if array.size]
    return np.concatenate(flat, axis=1).mean(axis=1) if flat else np.zeros(len(next(iter(arrays.values()))))


def _mean(weights: Mapping[str, AnyArray]) -> float:
    numbers = [np.asarray(array, np.float64).ravel() for array in weights.values() if array.size]
    return float(np.concatenate(numbers).mean()) if numbers else 0.0


def _variables(threads: int | None) -> Mapping[str, str]:
    """Where a trainer finds this module; and that it is not forked from one that has TensorFlow."""
    paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "KERAS_BACKEND": ""}


def entry(name: str = NAME) -> BackendEntry:
    """What the registry has of it, under one name or another."""
    return BackendEntry(name, "fakes.backend:FakeBackend", (), _variables)


@contextmanager
def registered(*names: str) -> Iterator[None]:
    """Have it in this process, and in the trainers that it starts: as `fake`, and under other names."""
    with ExitStack() as entries:
        for name in (NAME, *names):
            entries.enter_context(register(entry(name)))
        yield
