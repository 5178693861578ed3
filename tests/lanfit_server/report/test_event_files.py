"""Event files: TensorBoard's own reader finds in them what was written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from event_reader import read
from hypothesis import given
from hypothesis import strategies as st

from lanfit_server.report.event_files import EventFile, crc32c, scalars_record, steps_in, version_record

pytest.importorskip("tensorboard")


def test_the_checksum_is_that_of_the_standard() -> None:
    """RFC 3720, B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def test_tensorboard_reads_steps_times_and_numbers(tmp_path: Path) -> None:
    file = EventFile(tmp_path, 1_700_000_000.5)
    for step in range(300):
        file.write(1_700_000_000.5 + step, step, {"epoch_loss": 1 / (step + 1), "epoch_Ünïcode": -step})
    found = read(tmp_path)
    assert found.Tags()["scalars"] == ["epoch_loss", "epoch_Ünïcode"]
    events = found.Scalars("epoch_loss")
    assert [event.step for event in events] == list(range(300))
    assert [event.wall_time for event in events] == [1_700_000_000.5 + step for step in range(300)]
    assert [event.value for event in events] == [np.float32(1 / (step + 1)) for step in range(300)]


@given(
    st.integers(0, 2**62),
    st.dictionaries(st.text(min_size=1, max_size=300), st.floats(), min_size=1, max_size=9),
)
def test_any_numbers_of_any_name_come_back(step: int, scalars: dict[str, float]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event

    record = scalars_record(1.5, step, scalars)
    event = Event.FromString(record[12:-4])
    assert (event.wall_time, event.step) == (1.5, step)
    found = [(value.tag, value.simple_value) for value in event.summary.value]
    assert [tag for tag, _ in found] == [tag.encode("utf-8", "replace").decode() for tag in scalars]
    with np.errstate(over="ignore"):
        expected = [float(np.float32(value)) for value in scalars.values()]
    for (_, value), wanted in zip(found, expected, strict=True):
        assert value == wanted or (math.isnan(value) and math.isnan(wanted))


def test_a_step_is_written_once_also_by_a_later_process(tmp_path: Path) -> None:
    first = EventFile(tmp_path, 1.0)
    for step in (0, 1, 1, 200):
        first.write(2.0, step, {"epoch_loss": float(step)})
    later = EventFile(tmp_path, 3.0)
    for step in (1, 200, 201):
        later.write(4.0, step, {"epoch_loss": float(step)})
    assert len(list(tmp_path.iterdir())) == 2
    assert [event.step for event in read(tmp_path).Scalars("epoch_loss")] == [0, 1, 200, 201]


def test_a_record_that_a_crash_has_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1.lanfit"
    whole = version_record(1.0) + scalars_record(1.0, 7, {"a": 1.0})
    for cut in range(1, len(scalars_record(1.0, 8, {"a": 1.0}))):
        path.write_bytes(whole + scalars_record(1.0, 8, {"a": 1.0})[:-cut])
        assert list(steps_in(path)) == [7]


def test_a_damaged_record_is_noticed_by_tensorboard(tmp_path: Path) -> None:
    """What shows that the checksums are looked at: with a wrong one nothing behind it is read."""
    EventFile(tmp_path, 1.0).write(1.0, 3, {"epoch_loss": 1.0})
    [path] = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    assert read(tmp_path).Tags()["scalars"] == []
