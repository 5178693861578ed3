"""A result on a client's disk that is not what was trained: dropped, said, and trained again."""

from __future__ import annotations

from pathlib import Path

import pytest
from corrupted_files import DAMAGES
from test_outbox import add

from lanfit.core.durable import seal, unseal
from lanfit_client.store.outbox import Outbox


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_block_that_the_disk_has_corrupted_is_dropped_and_reported_at_the_next_start(
    damage: str, tmp_path: Path
) -> None:
    outbox, output = Outbox(tmp_path), []
    entry, other = add(outbox, "shard-1"), add(outbox, "shard-2", value=2.0)
    DAMAGES[damage](outbox.block(entry.result.block.id))
    again = Outbox(tmp_path, output.append)
    assert again.find(entry.server_id, b"", "run-1", "shard-1") is None
    assert again.find(other.server_id, b"", "run-1", "shard-2") == other
    assert len(list(tmp_path.iterdir())) == 2
    [line] = output
    assert "shard-1 of run run-1 can't be read back" in line
    assert "trained again" in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_block_that_is_corrupted_while_the_client_runs_is_noticed_before_it_is_sent(
    damage: str, tmp_path: Path
) -> None:
    output: list[str] = []
    outbox = Outbox(tmp_path, output.append)
    entry = add(outbox, "shard-1")
    assert outbox.drop_if_damaged(entry.result.block.id) == ""
    DAMAGES[damage](outbox.block(entry.result.block.id))
    assert outbox.drop_if_damaged(entry.result.block.id)
    assert len(outbox) == 0
    assert len(output) == 1


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "gone"])
def test_a_corrupted_note_of_a_result_is_left_alone_and_reported(damage: str, tmp_path: Path) -> None:
    outbox, output = Outbox(tmp_path), []
    entry = add(outbox, "shard-1")
    note = outbox.block(entry.result.block.id).with_suffix(".result")
    DAMAGES[damage](note)
    assert len(Outbox(tmp_path, output.append)) == 0
    assert note.exists()
    [line] = output
    assert str(note) in line


def test_every_byte_of_what_is_sealed_is_guarded() -> None:
    stored = seal(b"\x83 some content")
    assert unseal(stored) == b"\x83 some content"
    assert unseal(b"\x83 of an earlier version") == b"\x83 of an earlier version"
    for position in range(1, len(stored)):  # without its first byte it is decoded, and is no message
        flipped = bytearray(stored)
        flipped[position] ^= 1
        with pytest.raises(ValueError, match="differs from what was written"):
            unseal(bytes(flipped))
