"""A block that arrives goes on where it was, and nothing that a disk spoilt is taken for good."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from lanfit.core.logs import cut_torn_line
from lanfit.errors import lanfit_error
from lanfit.transfer.partial import CHUNK, CorruptBlock, PartialBlock, is_full, sums_of

SIZE = 3 * CHUNK + 100
BYTES = os.urandom(CHUNK) * 3 + os.urandom(100)
ID = hashlib.sha256(BYTES).hexdigest()


def interrupted(path: Path, came: int) -> None:
    """A block of which so many bytes came before its process was killed."""
    part = PartialBlock.open(path, SIZE)
    assert (part.offset, part.damaged) == (0, False)
    for position in range(0, came, 1 << 20):
        end = min(position + (1 << 20), came)
        part.view[position:end] = BYTES[position:end]
        part.on_progress(end)


@pytest.mark.parametrize(("came", "kept"), [(100, 0), (CHUNK, 1), (2 * CHUNK + 5, 2), (SIZE - 1, 3), (SIZE, 3)])
def test_at_most_one_chunk_is_sent_again_and_always_something(tmp_path: Path, came: int, kept: int) -> None:
    interrupted(tmp_path / "a.part", came)
    again = PartialBlock.open(tmp_path / "a.part", SIZE)
    assert (again.offset, again.damaged) == (kept * CHUNK, False)
    assert bytes(again.view[: again.offset]) == BYTES[: again.offset]
    again.close()


def test_it_continues_over_several_links_and_is_whole_in_the_end(tmp_path: Path) -> None:
    interrupted(tmp_path / "a.part", CHUNK + 1)
    for end in (2 * CHUNK, SIZE):
        part = PartialBlock.open(tmp_path / "a.part", SIZE)
        assert part.offset == end - CHUNK if end < SIZE else 2 * CHUNK
        part.view[part.offset : end] = BYTES[part.offset : end]
        part.on_progress(end)
    part.finish(ID).close()
    assert (tmp_path / "a.part").read_bytes() == BYTES
    assert not sums_of(tmp_path / "a.part").exists()


def test_a_bit_that_flipped_costs_its_chunk_and_all_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    interrupted(path, SIZE)
    with path.open("r+b") as file:
        file.seek(CHUNK + 17)
        file.write(bytes([BYTES[CHUNK + 17] ^ 1]))
    again = PartialBlock.open(path, SIZE)
    assert (again.offset, again.damaged) == (CHUNK, True)
    again.view[CHUNK:] = BYTES[CHUNK:]
    again.on_progress(SIZE)
    again.close()
    healed = PartialBlock.open(path, SIZE)
    assert (healed.offset, healed.damaged) == (3 * CHUNK, False)
    healed.drop()
    assert list(tmp_path.iterdir()) == []


def test_what_no_sum_shows_is_found_by_the_id_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    interrupted(path, SIZE)
    with path.open("r+b") as file:  # two words changed places
        file.seek(CHUNK)
        file.write(BYTES[CHUNK + 8 : CHUNK + 16] + BYTES[CHUNK : CHUNK + 8])
    part = PartialBlock.open(path, SIZE)
    assert (part.offset, part.damaged) == (3 * CHUNK, False)
    part.view[part.offset :] = BYTES[part.offset :]
    with pytest.raises(CorruptBlock, match="everything is fetched again"):
        part.finish(ID)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_list_of_sums_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    interrupted(path, SIZE)
    sums_of(path).write_bytes(sums_of(path).read_bytes()[:12])
    again = PartialBlock.open(path, SIZE)
    assert (again.offset, again.damaged) == (CHUNK, True)
    again.close()


def test_a_file_of_another_size_or_without_sums_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    interrupted(path, SIZE)
    other = PartialBlock.open(path, SIZE + 1)
    assert other.offset == 0
    other.close()
    sums_of(path).unlink(missing_ok=True)
    again = PartialBlock.open(path, SIZE + 1)
    assert again.offset == 0
    again.close()


def test_a_small_block_leaves_nothing(tmp_path: Path) -> None:
    part = PartialBlock.open(tmp_path / "a.part", 1000)
    part.view[:] = bytes(1000)
    part.on_progress(1000)
    part.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_full_disk_is_called() -> None:
    assert is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert is_full(OSError(errno.EFBIG, "File too large"))
    assert is_full(sqlite3.OperationalError("database or disk is full"))
    assert is_full(lanfit_error("disk.full", file="a", size=1))
    assert not is_full(OSError(errno.EIO, "Input/output error"))
    assert not is_full(sqlite3.OperationalError("database is locked"))


@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("a\nb\n", "a\nb\n"), ("a\nb", "a\n"), ("torn", ""), ("a\n" + "x" * 9000, "a\n")],
)
def test_half_a_last_line_is_cut_off(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(before)
    assert cut_torn_line(path) == (before != after)
    assert path.read_text() == after
    assert not cut_torn_line(tmp_path / "none")
