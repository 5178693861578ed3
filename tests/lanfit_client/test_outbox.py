from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from lanfit.core.workspace import Workspace
from lanfit.errors import InputError
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.messages import Result
from lanfit_client.settings import FIELDS
from lanfit_client.store.outbox import Entry, Outbox
from lanfit_client.store.state import ClientState


def add(outbox: Outbox, task: str, server: bytes = b"s" * 16, value: float = 1.0) -> Entry:
    file = ArrayFile.write(outbox.new_block(task), {"w": np.full(3, value)})
    result = Result("run-1", task, 1, file.block, ("loss",), 0, {}, {}, "tensorflow", "cpu", 1)
    entry = Entry(server, result)
    outbox.add(outbox.new_block(task), entry)
    return entry


def test_results_survive_a_restart_and_are_offered_to_their_own_server_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    ours, theirs = add(outbox, "shard-1"), add(outbox, "shard-2", b"o" * 16, value=2.0)
    again = Outbox(tmp_path)
    assert len(again) == 2
    assert list(again.for_server(b"s" * 16)) == [ours]
    assert again.find(b"o" * 16, b"", "run-1", "shard-2") == theirs
    assert again.find(b"s" * 16, b"", "run-1", "shard-2") is None
    again.remove(ours.result.block.id)
    assert list(Outbox(tmp_path).for_server(b"s" * 16)) == []
    assert len(Outbox(tmp_path)) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_not_finished_is_removed_and_what_is_no_result_is_left_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    entry = add(outbox, "shard-1")
    ArrayFile.write(outbox.new_block("shard-2"), {"w": np.zeros(3)})
    (tmp_path / "torn.result").write_bytes(b"\x81")
    again = Outbox(tmp_path)
    assert again.get(entry.result.block.id) == entry
    assert len(again) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "torn.result", f"{entry.result.block.id}.block", f"{entry.result.block.id}.result",
    }  # fmt: skip


def test_what_could_not_be_synced_is_written_again_elsewhere_and_held_against_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second sync of one file may succeed with nothing on disk."""
    outbox = Outbox(tmp_path)
    file = ArrayFile.write(outbox.new_block("shard-1"), {"w": np.full(3, 1.0)})
    entry = Entry(b"s" * 16, Result("run-1", "shard-1", 1, file.block, ("loss",), 0, {}, {}, "tensorflow", "cpu", 1))
    synced: list[int] = []
    real = os.fsync

    def once(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        if len(synced) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", once)
    with pytest.raises(OSError, match="No space left"):
        outbox.add(outbox.new_block("shard-1"), entry)
    assert len(outbox) == 0
    outbox.add(outbox.new_block("shard-1"), entry)
    assert synced[1] != synced[0]  # the one file is there while the other is written
    assert list(Outbox(tmp_path).for_server(b"s" * 16)) == [entry]
    assert len(list(tmp_path.iterdir())) == 2

    synced.clear()
    ArrayFile.write(outbox.new_block("shard-1"), {"w": np.full(3, 1.0)})
    with pytest.raises(OSError, match="No space left"):
        outbox.add(outbox.new_block("shard-1"), entry)
    ArrayFile.write(outbox.new_block("shard-1"), {"w": np.zeros(3)})
    with pytest.raises(OSError, match="the disk lost data that was written"):
        outbox.add(outbox.new_block("shard-1"), entry)


def test_an_outbox_says_how_many_results_wait_for_whom(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    add(outbox, "shard-1")
    add(outbox, "shard-2", value=2.0)
    add(outbox, "shard-3", b"o" * 16, value=3.0)
    assert outbox.servers() == {b"s" * 16: 2, b"o" * 16: 1}


@pytest.mark.parametrize("content", [b"", b"00", b"zz" * 16, b"00" * 17, b"\xff\xfe\x00", b"\x00" * 4096])
@pytest.mark.parametrize("name", ["client_id", "processes"])
def test_a_corrupted_file_of_who_a_client_is_gives_it_a_new_id_and_ends_nothing(
    name: str, content: bytes, tmp_path: Path
) -> None:
    place = Workspace(tmp_path)
    before = ClientState.take(place)
    before.lock.release()
    (before.lock.folder / name).write_bytes(content)
    after = ClientState.take(place)
    assert len(after.client_id) == 16
    assert (after.client_id == before.client_id) == (name == "processes")
    after.lock.release()
    again = ClientState.take(place)
    assert again.client_id == after.client_id
    again.lock.release()


def test_a_second_client_in_one_workspace_gets_a_state_and_an_id_of_its_own(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    first, second = ClientState.take(place), ClientState.take(place)
    assert first.client_id != second.client_id
    assert first.lock.folder != second.lock.folder
    first.lock.release()
    again = ClientState.take(place)
    assert again.client_id == first.client_id
    again.lock.release()
    second.lock.release()


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("20 GB", 20 * 10**9), ("500MB", 5 * 10**8), ("1.5 tb", 1.5e12), ("4096", 4096), ("7 kB", 7000)],
)
def test_sizes_are_read_with_their_unit(text: str, bytes_: float) -> None:
    assert FIELDS["cache_limit"].read(text, "cache_limit") == bytes_


@pytest.mark.parametrize("text", ["much", "GB", "-1 GB", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a number above 0"):
        FIELDS["cache_limit"].read(text, "cache_limit")
