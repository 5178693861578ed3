from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lanfit.core.durable import atomic_write
from lanfit.core.lock import FolderLock, scratch_folder, take_free
from lanfit.core.workspace import Workspace, find_workspace
from lanfit.errors import LanfitError, LocalProtocolError
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import block_of, block_size


def some_arrays() -> dict[str, np.ndarray]:
    return {
        "empty": np.zeros((0, 3), np.float32),
        "bytes": np.arange(7, dtype=np.uint8),
        "scalar": np.array(2.5),
        "matrix": np.arange(12, dtype=np.float32).reshape(3, 4).T,  # not contiguous
    }


def test_arrays_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    file = ArrayFile.write(tmp_path / "sub" / "a.block", some_arrays())
    found = file.load()
    assert list(found) == list(some_arrays())
    for name, array in some_arrays().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert file.block == block_of(some_arrays())


def test_a_block_is_received_into_its_file(tmp_path: Path) -> None:
    spec = block_of(some_arrays())
    source = BlockFile.write(tmp_path / "a.block", some_arrays())
    received = BlockFile.create(tmp_path / "b.block", block_size(spec.arrays))
    received.view[: block_size(spec.arrays)] = (tmp_path / "a.block").read_bytes()
    received.sync()
    received.close()
    assert (tmp_path / "b.block").read_bytes() == (tmp_path / "a.block").read_bytes()
    assert source == spec


def test_a_file_that_is_too_short_for_its_arrays_is_refused(tmp_path: Path) -> None:
    file = ArrayFile.write(tmp_path / "a.block", some_arrays())
    with open(tmp_path / "a.block", "rb+") as raw:
        raw.truncate(64)
    with pytest.raises(LocalProtocolError, match="too short"):
        file.load()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="only there is room taken at once")
def test_a_full_disk_is_reported_before_anything_is_received(tmp_path: Path) -> None:
    with pytest.raises(LanfitError, match="the disk is full") as caught:
        BlockFile.create(tmp_path / "a.block", 1 << 60)
    assert caught.value.code == "disk.full"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_completely_and_nothing_else_is_left(tmp_path: Path) -> None:
    atomic_write(tmp_path / "deep" / "a.json", "old")
    atomic_write(tmp_path / "deep" / "a.json", "new")
    assert [(path.name, path.read_text()) for path in (tmp_path / "deep").iterdir()] == [("a.json", "new")]


def test_a_folder_is_locked_once_and_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lanfit.core.lock import take_free\n"
        "lock = take_free(Path(sys.argv[1])); print(lock.folder.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        ours = take_free(tmp_path)
        assert ours.folder.name == "2"
        assert FolderLock.take(tmp_path / "1") is None
        other.kill()
    again = take_free(tmp_path)
    assert again.folder.name == "1"
    again.release()
    ours.release()


def test_a_scratch_folder_removes_what_killed_processes_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "12345").mkdir()
    (tmp_path / "12345" / "x.block").write_bytes(b"1")
    living = FolderLock.take(tmp_path / "54321")
    assert living is not None
    ours = scratch_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"54321", str(os.getpid())}
    ours.remove()
    living.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_folder_with_model_and_dataset_is_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "dataset" / "X").mkdir(parents=True)
    deep = tmp_path / "dataset" / "X"
    assert find_workspace(None, deep) == Workspace(tmp_path.resolve())
    assert find_workspace(deep, tmp_path) == Workspace(deep.resolve())


def test_without_one_the_workspace_is_a_new_folder_that_is_not_made_yet(tmp_path: Path) -> None:
    found = find_workspace(None, tmp_path)
    assert found.root.name == "lanfit"
    assert not found.root.exists()


def test_paths_are_shown_from_the_workspace(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    assert place.relative(tmp_path / "model" / "a.h5") == "model/a.h5"
    assert place.relative(Path("/elsewhere/a.h5")) == str(Path("/elsewhere/a.h5"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_private_file_is_private_also_when_it_replaces_one_that_was_not(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    atomic_write(path, "old", mode=0o644)
    (tmp_path / f".secret.{os.getpid()}").write_text("left by a killed process that had our id")
    atomic_write(path, "new", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
