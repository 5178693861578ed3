from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from lanfit.data.labels import Target
from lanfit.data.normalize import Moments
from lanfit.data.plan import plan_rows
from lanfit.data.shard import NO_SAMPLES, Shard
from lanfit.data.text_labels import LABELS, words_to_array
from lanfit.errors import InputError
from lanfit.models.trained_model import TrainedModel
from lanfit.training.client_data import ClientFiles, rows_to_test, shard_of, statistics
from lanfit.wire.messages import ClientData, InputSpec, Model

X = np.random.RandomState(0).normal(size=(60, 4))
Y = np.array(["dog", "ant", "cat"])[np.arange(60) % 3]
MODEL = Model("{}", "{}", (None, 4), (None, 5), Target.CLASSES, "zscore", "none")
OWN = ClientData(8, 0.2, 0.1, 0, 3, None)


def from_server(*words: str) -> Shard:
    return Shard(NO_SAMPLES, NO_SAMPLES, labels={"y": words})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("X", "Y"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "X" / "rows.npz", X)
    np.savez(tmp_path / "Y" / "rows.npz", Y)
    return tmp_path


def test_rows_are_drawn_as_anyone_can_draw_them(folder: Path) -> None:
    rows = ClientFiles().read(folder, MODEL, OWN)
    plan = plan_rows(60, 1, 0.2, 0.1, 3, np.unique(Y, return_inverse=True)[1])
    partitioned = from_server("ant", "bee", "cat", "dog")
    shard = shard_of(rows, partitioned)
    number = {"ant": 0, "cat": 2, "dog": 3}
    for samples, drawn in (
        (shard.train, plan.shards[0].train),
        (shard.validation, plan.shards[0].validation),
        (rows_to_test(rows, partitioned), plan.test),
    ):
        np.testing.assert_array_equal(samples.x, X[drawn])
        assert samples.y.tolist() == [number[word] for word in Y[drawn]]


def test_own_rows_are_for_models_of_one_input_and_one_output(folder: Path) -> None:
    several = replace(MODEL, inputs=(InputSpec("a", (None, 4)), InputSpec("b", (None, 4))), outputs=MODEL.gives)
    with pytest.raises(InputError) as wrong:
        ClientFiles().read(folder, several, OWN)
    assert wrong.value.code == "own-data.several-arrays"


def test_what_is_reported_are_statistics_of_the_training_rows_and_names(folder: Path) -> None:
    rows = ClientFiles().read(folder, MODEL, OWN)
    reported = statistics(rows)
    assert list(reported) == [*Moments.ARRAYS, LABELS]
    np.testing.assert_allclose(reported["mean"], rows.shards[0].train.x.mean(axis=0))
    assert all(array.size <= 4 for name, array in reported.items() if name != LABELS)
    assert reported[LABELS].tobytes() == b'["ant","cat","dog"]'


def test_of_numbers_as_targets_statistics_are_reported_and_no_labels(folder: Path) -> None:
    np.savez(folder / "Y" / "rows.npz", X[:, :1] * 2)
    regression = Model("{}", "{}", (None, 4), (None, 1), Target.VALUES, "none", "minmax")
    reported = statistics(ClientFiles().read(folder, regression, OWN))
    assert list(reported) == [*Moments.ARRAYS, *(f"target_{name}" for name in Moments.ARRAYS)]


def test_rows_are_read_once_and_again_for_another_model(folder: Path) -> None:
    files = ClientFiles()
    first = files.read(folder, MODEL, OWN)
    assert files.read(folder, MODEL, OWN) is first
    other = files.read(folder, MODEL, ClientData(8, 0.5, 0.1, 0, 3, None))
    assert other is not first
    files.forget()
    again = files.read(folder, MODEL, OWN)
    np.testing.assert_array_equal(again.shards[0].train.x, first.shards[0].train.x)


def test_with_folds_no_validation_rows_are_drawn_and_folds_are_checked(folder: Path) -> None:
    rows = ClientFiles().read(folder, MODEL, ClientData(8, 0.2, 0.1, 4, 3, None))
    assert (rows.train, rows.validation) == (48, 0)
    with pytest.raises(InputError, match="17 folds need 17 rows of every class"):
        ClientFiles().read(folder, MODEL, ClientData(8, 0.2, 0.1, 17, 3, None))
    with pytest.raises(InputError, match=r"a batch of 24 rows is larger than the 21 training rows of a fold"):
        ClientFiles().read(folder, MODEL, ClientData(24, 0.2, 0.1, 2, 3, None))


@pytest.mark.parametrize("partitioned", [{}, {LABELS: words_to_array(("ant", "bee"))}, {LABELS: np.zeros(3, np.uint8)}])
def test_labels_that_the_server_does_not_know_are_an_error(folder: Path, partitioned: dict[str, np.ndarray]) -> None:
    rows = ClientFiles().read(folder, MODEL, OWN)
    with pytest.raises(InputError, match="not those that this client reported"):
        shard_of(rows, Shard.of_block(MODEL, {**TrainedModel({}).constants(), **partitioned}))


def test_a_light_client_that_has_no_pandas_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "X" / "rows.npz").unlink()
    np.savetxt(folder / "X" / "rows.csv", X, delimiter=",")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="requires pandas") as missing:
        ClientFiles().read(folder, MODEL, OWN)
    assert "pip install" in missing.value.hint
