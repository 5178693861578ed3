"""Checkpoints: a fit that is cut off and gone on with, by a backend that knows nothing of it, ends the same."""

from __future__ import annotations

import random
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.data.labels import Target
from lanfit.data.shard import Samples, Shard
from lanfit.models.compiling import CompileSpec, override
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import get_weights
from lanfit.training import checkpoint
from lanfit.training.checkpoint import Checkpointer, Damaged, Snapshot, epochs_kept, read_checkpoint, write_checkpoint
from lanfit.training.folds import TaskRows, rows_of_fold
from lanfit.training.keras.backend import KerasBackend
from lanfit.training.loop import FitJob, FitResult, fit
from lanfit.wire.messages import Fold, Model

pytestmark = pytest.mark.keras

RANDOM = np.random.RandomState(0)
X, Y = RANDOM.rand(75, 6, 6, 1).astype(np.float32), RANDOM.randint(0, 3, 75)
X_VALIDATION, Y_VALIDATION = RANDOM.rand(21, 6, 6, 1).astype(np.float32), RANDOM.randint(0, 3, 21)
SPARSE = "sparse_categorical_crossentropy"
KEY = b"what it is for"
#: What the starting weights are drawn with: the best epoch of the fit with patience is neither the first nor the last.
SEED = 0


@pytest.fixture(autouse=True)
def _a_checkpoint_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)


class Cut(Exception):
    """Training ends here, as if it was killed."""


class Notes:
    """Writes down what happens, and cuts the training off in the middle of an epoch."""

    def __init__(self, cut: int | None = None) -> None:
        self.cut = cut
        self.trained: list[int] = []
        self.resumed: list[dict[str, float]] = []

    def on_progress(self, epoch: int, *args: Any) -> None:
        if epoch == self.cut:
            raise Cut

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        self.trained.append(epoch)

    def on_resume(self, history: Any) -> None:
        self.resumed = list(history)


class Waiting(Checkpointer):
    """Waits for each checkpoint to be on disk: a test must know which one is."""

    def __init__(self, folder: Path, key: bytes = KEY) -> None:
        folder.mkdir(exist_ok=True)
        self.output: list[str] = []
        super().__init__(folder / "state.checkpoint", key, self.output.append)

    def offer(self, take: Callable[[], Snapshot]) -> None:
        super().offer(take)
        self.close()


Given = tuple[str, str, Any]


def given(kind: str) -> Given:
    """Architecture, compile options and weights; each draws on another state that must not be lost."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(SEED)
    hidden: dict[str, list[Any]] = {
        "random layers": [
            layers.RandomFlip(),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            layers.Dropout(0.3),
        ],
    }
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            *hidden.get(kind, [layers.Flatten(), layers.Dense(16, activation="relu")]),
            layers.Dense(3, activation="softmax"),
        ]
    )
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
    compiled = {
        "schedule": lambda: spec("sgd", momentum=0.9, learning_rate=keras.optimizers.schedules.serialize(decay)),
        "averages": lambda: spec("adamw", use_ema=True, ema_momentum=0.9),
    }.get(kind, spec)
    return model.to_json(), compiled().to_json(), get_weights(model)


def spec(optimizer: str = "adam", **options: Any) -> CompileSpec:
    chosen = override(None, optimizer, SPARSE, 0.01, ("accuracy",))
    assert chosen.optimizer is not None
    chosen.optimizer["config"].update(options)
    return chosen


def train(
    model: Given, job: FitJob, notes: Notes, checkpointer: Checkpointer | None = None, rows: TaskRows | None = None
) -> FitResult:
    """Train in a new backend, whose process has drawn random numbers before."""
    import keras

    keras.utils.set_random_seed(random.SystemRandom().randrange(2**32))
    backend = KerasBackend()
    backend.load(*model)
    plain = (Samples.of(X, Y), Samples.of(X_VALIDATION, Y_VALIDATION))
    return fit(backend, job, *((rows.train, rows.validation) if rows else plain), notes, checkpointer)


def assert_equal(one: FitResult, other: FitResult) -> None:
    assert list(one.weights) == list(other.weights)
    for name, array in one.weights.items():
        np.testing.assert_array_equal(array, other.weights[name])
    assert (one.metrics, one.best_epoch) == (other.metrics, other.best_epoch)
    np.testing.assert_array_equal(one.history, other.history)


def cut_off(folder: Path, model: Given, job: FitJob, cut: int, rows: TaskRows | None = None) -> None:
    with pytest.raises(Cut):
        train(model, job, Notes(cut), Waiting(folder), rows)


@pytest.mark.parametrize("kind", ["dense", "random layers", "schedule", "averages"])
def test_a_fit_that_is_cut_off_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    """Cut off twice, so that a checkpoint of a fit that was gone on with is gone on with, too."""
    model, job = given(kind), FitJob(epochs=6, batch_size=16, seed=5)
    baseline = train(model, job, Notes())
    cut_off(tmp_path, model, job, 2)
    cut_off(tmp_path, model, job, 4)
    notes, checkpointer = Notes(), Waiting(tmp_path)
    assert_equal(train(model, job, notes, checkpointer), baseline)
    assert notes.trained == [4, 5], "only the epoch that was cut off is trained again"
    assert len(notes.resumed) == 4
    assert checkpointer.written == 1, "there is nothing to keep after the last epoch"
    assert epochs_kept(tmp_path / "state.checkpoint") == 5
    assert checkpointer.output == []


@pytest.mark.parametrize("cut", [1, 5])
def test_patience_and_the_best_weights_so_far_are_gone_on_with(cut: int, tmp_path: Path) -> None:
    model, job = given("dense"), FitJob(epochs=40, batch_size=16, seed=5, patience=5)
    model = (model[0], spec(learning_rate=0.05).to_json(), model[2])
    baseline = train(model, job, Notes())
    last = len(baseline.history) - 1
    assert 5 < last < 39
    cut_off(tmp_path, model, job, cut if cut == 1 else last)
    assert_equal(train(model, job, Notes(), Waiting(tmp_path)), baseline)


def test_a_fold_is_gone_on_with(tmp_path: Path) -> None:
    architecture, compiled, weights = given("random layers")
    message = Model(
        architecture, compiled, (None, 6, 6, 1), (None, 3), Target.CLASSES, normalizer="zscore", target_normalizer=""
    )
    shard = {"x_train": X, "y_train": Y, **TrainedModel({}).constants()}
    job = FitJob(4, 16, 5)
    baseline, *others = (rows_of_fold(message, Shard.of_block(message, shard), Fold(2, 3, 7, 0.2)) for _ in range(3))
    model = (architecture, compiled, weights)
    expected = train(model, job, Notes(), rows=baseline)
    cut_off(tmp_path, model, job, 2, others[0])
    notes = Notes()
    assert_equal(train(model, job, notes, Waiting(tmp_path), others[1]), expected)
    assert notes.trained == [2, 3]


def test_an_epoch_uses_no_random_state_but_the_one_that_is_kept() -> None:
    """Python's and NumPy's generators are in no checkpoint."""
    states: list[Any] = []

    class Watching(Notes):
        def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
            states.append((random.getstate(), np.random.get_state()[1].tolist()))  # type: ignore[index, union-attr]

    train(given("random layers"), FitJob(3, 16, 5), Watching())
    assert states[0] == states[1] == states[2]


def test_seconds_count_what_went_before(tmp_path: Path) -> None:
    model, job = given("dense"), FitJob(3, 16, 5)
    cut_off(tmp_path, model, job, 2)
    path = tmp_path / "state.checkpoint"
    last = read_checkpoint(path, KEY)
    assert last is not None
    before = Snapshot(last.history, last.best_epoch, last.best, last.state, {"compile": 50.0, "train": 100.0})
    write_checkpoint(path, KEY, before)
    seconds = train(model, job, Notes(), Waiting(tmp_path)).seconds
    assert seconds["compile"] > 50
    assert seconds["train"] > 100


# --- the file -------------------------------------------------------------------------------------------------------


def small() -> Snapshot:
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "empty": np.zeros((0, 2), np.uint32)}
    return Snapshot([{"loss": 0.1, "b": 2.0}, {"loss": 1e-300, "b": -0.0}], 0, {"best": np.ones(3)}, arrays, {"x": 0.5})


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", KEY, small())
    read = read_checkpoint(tmp_path / "a", KEY)
    assert read is not None
    assert (read.history, read.best_epoch, read.seconds) == (small().history, 0, {"x": 0.5})
    for ours, theirs in ((read.state, small().state), (read.best, small().best)):
        assert list(ours) == list(theirs)
        for name, array in theirs.items():
            assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(ours[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert epochs_kept(tmp_path / "a") == 2


@pytest.mark.parametrize("content", [b"", b"lanfit checkpoint 1\n", b"lanfit checkpoint 1\n\xff\0\0\0x", b"?" * 99])
def test_what_has_no_header_has_no_epochs(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert epochs_kept(tmp_path / "a") == epochs_kept(tmp_path / "none") == 0


def test_a_checkpoint_of_something_else_is_not_used(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", KEY, small())
    assert read_checkpoint(tmp_path / "a", b"another task") is None
    assert read_checkpoint(tmp_path / "none", KEY) is None


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_checkpoint(path, KEY, small())
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(Damaged):
            read_checkpoint(path, KEY)
        path.write_bytes(whole[:place])
        with pytest.raises(Damaged):
            read_checkpoint(path, KEY)


def test_a_damaged_checkpoint_is_reported_and_the_fit_starts_again(tmp_path: Path) -> None:
    model, job = given("dense"), FitJob(3, 16, 5)
    baseline = train(model, job, Notes())
    cut_off(tmp_path, model, job, 2)
    path = tmp_path / "state.checkpoint"
    path.write_bytes(path.read_bytes()[:-1])
    notes, checkpointer = Notes(), Waiting(tmp_path)
    assert_equal(train(model, job, notes, checkpointer), baseline)
    assert notes.trained == [0, 1, 2]
    assert len(checkpointer.output) == 1
    assert "training starts over" in checkpointer.output[0]


def test_a_state_of_another_model_is_reported_and_the_fit_starts_again(tmp_path: Path) -> None:
    """Should a key ever lie: nothing of it gets into the model."""
    job = FitJob(3, 16, 5)
    cut_off(tmp_path, given("random layers"), job, 2)
    model = given("dense")
    baseline = train(model, job, Notes())
    checkpointer = Waiting(tmp_path)
    assert_equal(train(model, job, Notes(), checkpointer), baseline)
    assert len(checkpointer.output) == 1


def test_with_another_key_the_fit_starts_again_without_a_word(tmp_path: Path) -> None:
    model, job = given("dense"), FitJob(3, 16, 5)
    cut_off(tmp_path, model, job, 2)
    notes, checkpointer = Notes(), Waiting(tmp_path, b"another")
    train(model, job, notes, checkpointer)
    assert notes.trained == [0, 1, 2]
    assert checkpointer.output == []


# --- when it is written ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_reported_once_and_training_continues(tmp_path: Path) -> None:
    model, job = given("dense"), FitJob(4, 16, 5)
    baseline = train(model, job, Notes())
    checkpointer, notes = Waiting(tmp_path), Notes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert_equal(train(model, job, notes, checkpointer), baseline)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(checkpointer.output) == 1
    assert "Training continues" in checkpointer.output[0]
    assert checkpointer.written == 0
    assert list(tmp_path.iterdir()) == [], "half a checkpoint was left"


def test_without_memory_for_a_copy_training_continues(tmp_path: Path) -> None:
    def take() -> Snapshot:
        raise MemoryError

    checkpointer = Waiting(tmp_path)
    checkpointer.offer(take)
    checkpointer.offer(take)
    assert len(checkpointer.output) == 1


def test_without_space_for_a_thread_training_waits_for_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit.data.threads.TO_BEGIN", 1 << 50)
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("Python would wait for it for ever"))
    checkpointer = Checkpointer(tmp_path / "state.checkpoint", KEY, print)
    checkpointer.offer(small)
    assert checkpointer.written == 1


def test_nothing_is_written_where_the_folder_is_gone(tmp_path: Path) -> None:
    """The task was cancelled: nobody would remove it again."""
    checkpointer = Waiting(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    checkpointer.offer(small)
    assert (checkpointer.output, checkpointer.written) == ([], 0)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".state.123.checkpoint").write_bytes(b"half")
    Waiting(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_checkpoint_at_a_time_is_written_and_training_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, writing = threading.Event(), threading.Event()
    write = checkpoint.write_checkpoint

    def slow(*arguments: Any) -> None:
        writing.set()
        assert go.wait(60)
        write(*arguments)

    monkeypatch.setattr(checkpoint, "write_checkpoint", slow)
    checkpointer = Checkpointer(tmp_path / "state.checkpoint", KEY, print)
    checkpointer.offer(small)
    assert writing.wait(60)
    taken: list[int] = []

    def second() -> Snapshot:
        taken.append(1)
        return small()

    checkpointer.offer(second)
    assert taken == []
    go.set()
    checkpointer.close()
    checkpointer.offer(second)
    checkpointer.close()
    assert (taken, checkpointer.written) == ([1], 2)


def test_short_epochs_do_not_write_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 2.0)
    monkeypatch.setattr(checkpoint, "perf_counter", lambda: clock[0])
    checkpointer = Waiting(tmp_path)
    for _ in range(50):
        clock[0] += 0.125
        checkpointer.offer(small)
    assert checkpointer.written == 3
