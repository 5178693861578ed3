"""A client that takes parts of its own files trains on those, and nobody's test rows change."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit.training.client_data import ClientFiles, statistics
from lanfit.wire.messages import ClientData, Model

MODEL = Model("{}", "{}", (None, 1), (None, 3), "classes", "zscore", "none")
OWN = ClientData(4, 0.2, 0.1, 0, 3, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in (("X", np.arange(100.0).reshape(-1, 1)), ("Y", np.arange(100) % 3)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "rows.npz", rows)
    return tmp_path


def taking(first: int, last: int, **others: object) -> ClientData:
    return msgspec.structs.replace(OWN, parts_of=4, first_part=first, last_part=last, **others)


def numbers(rows: ClientData, folder: Path) -> tuple[set[float], set[float]]:
    found = ClientFiles().read(folder, MODEL, rows)
    [shard] = found.shards
    return set(np.concatenate([shard.train.x, shard.validation.x])[:, 0]), set(found.test_samples.x[:, 0])


def test_parts_are_cut_from_what_is_not_for_the_test(folder: Path) -> None:
    whole, test = numbers(OWN, folder)
    parts = [numbers(taking(part, part), folder) for part in (1, 2, 3, 4)]
    assert set.union(*(rows for rows, _ in parts)) == whole
    assert sum(len(rows) for rows, _ in parts) == len(whole) == 80
    assert all(each == test for _, each in parts)
    assert numbers(taking(2, 3), folder)[0] == parts[1][0] | parts[2][0]


def test_what_is_reported_is_of_the_parts_alone(folder: Path) -> None:
    rows = ClientFiles().read(folder, MODEL, taking(2, 2))
    reported = statistics(rows)
    np.testing.assert_allclose(reported["mean"], rows.shards[0].train.x.mean(axis=0))
    assert (rows.train, rows.validation, rows.test) == (18, 2, 20)


def test_files_are_read_again_when_other_parts_are_wanted(folder: Path) -> None:
    files = ClientFiles()
    first = files.read(folder, MODEL, taking(1, 2))
    assert files.read(folder, MODEL, taking(1, 2)) is first
    assert files.read(folder, MODEL, taking(1, 3)) is not first


def test_parts_that_are_too_small_are_named(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        ClientFiles().read(folder, MODEL, taking(4, 4, batch_size=19))
    assert caught.value.code == "parts.smaller-than-batch"
    with pytest.raises(InputError) as caught:
        ClientFiles().read(folder, MODEL, taking(4, 4, folds=9))
    assert caught.value.code == "split.folds-of-a-class"
