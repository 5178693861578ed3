"""Files that somebody made for the operator of a server: read in words, with nothing of them raw in what is said, and
with nothing from outside of them. What else is in such files is tried in tests/lanfit/data and tests/lanfit/models."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lanfit.core.text import printable
from lanfit.data.files import open_file, read_labels
from lanfit.errors import LanfitError
from lanfit.models.architecture import check_architecture

STEERS = "\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202ecod"


def reported(read: Callable[[], object]) -> str:
    with pytest.raises(LanfitError) as caught:
        read()
    return f"{caught.value.message} {caught.value.hint}"


def assert_shown_safely(text: str) -> None:
    assert "OWNED" in text, "it is quoted"
    assert text == printable(text)


# --- what would steer a terminal --------------------------------------------------------------------------------


def test_a_header_of_a_csv_file_does_not_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{STEERS},b\n1,2\nx,4\n", "utf-8")
    assert_shown_safely(reported(lambda: open_file(path).read_all()))
    path.write_text(f'a,b\n1,2\n"{STEERS}",4\n', "utf-8")
    assert_shown_safely(reported(lambda: open_file(path).read_all()))


def test_the_name_of_an_array_in_an_npz_file_does_not_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{STEERS: np.ones(3), "b": np.ones(3)})
    assert_shown_safely(reported(lambda: open_file(path).read_all()))
    np.savez(path, **{STEERS: np.array([None], object)})
    assert printable(text := reported(lambda: open_file(path).read_all())) == text


def test_the_name_of_a_layer_does_not_steer_a_terminal() -> None:
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": STEERS}}
    network = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    assert_shown_safely(reported(lambda: check_architecture(json.dumps(network))))


def test_the_name_of_a_file_does_not_steer_a_terminal(tmp_path: Path) -> None:
    try:
        (path := tmp_path / f"{STEERS}.csv").write_text("1,2\nx,4\n", "utf-8")
    except OSError:
        pytest.skip("this system has no such names")
    assert_shown_safely(reported(lambda: open_file(path).read_all()))


# --- what would run, or reach out -------------------------------------------------------------------------------


def test_what_stands_in_the_header_of_an_array_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "PWNED"
    text = f"{{'descr': __import__('pathlib').Path({str(mark)!r}).touch() or '<f8', 'fortran_order': False}}\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    for read in (lambda: open_file(tmp_path / "a.npz").read_all(), lambda: read_labels(tmp_path / "a.npz")):
        assert "can't be read as an npz file" in reported(read)
    assert not mark.exists()


def test_an_npz_file_of_many_members_is_named_by_some_of_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"array-{number}.npy", b"")
    assert len(reported(lambda: open_file(tmp_path / "a.npz").read_all())) < 2000
