"""Files that matter get their names even while another program holds them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lanfit.core import durable

Replace = Callable[[object, object], None]


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[float]]:
    """Let `os.replace` be denied so many times, as by a scanner on Windows; returns the pauses that were made."""
    real, pauses = os.replace, list[float]()
    monkeypatch.setattr(durable.time, "sleep", pauses.append)

    def deny(times: int) -> list[float]:
        left = [times]

        def replace(source: object, target: object) -> None:
            if left[0]:
                left[0] -= 1
                raise PermissionError(13, "Access is denied", str(source), 5, str(target))
            real(source, target)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "replace", replace)
        return pauses

    return deny


def test_a_file_that_is_held_for_some_moments_is_written(busy: Callable[[int], list[float]], tmp_path: Path) -> None:
    pauses = busy(3)
    durable.atomic_write(tmp_path / "summary.json", "{}")
    assert (tmp_path / "summary.json").read_text() == "{}"
    assert len(pauses) == 3
    assert pauses == sorted(pauses)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_file_that_stays_held_is_an_error_after_two_seconds_and_the_old_one_stays(
    busy: Callable[[int], list[float]], tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_text("old")
    pauses = busy(99)
    with pytest.raises(PermissionError, match="Access is denied"):
        durable.atomic_write(tmp_path / "summary.json", "new")
    assert sum(pauses) == pytest.approx(2.0)
    assert (tmp_path / "summary.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
