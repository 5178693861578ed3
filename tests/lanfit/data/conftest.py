"""Sheets are read here in this process, but where that counts: another one costs, and tests stand in for readers."""

from __future__ import annotations

import pytest

from lanfit.data import reader_process


@pytest.fixture(autouse=True)
def reading_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.module.__name__ != "test_reader_process":
        monkeypatch.setattr(reader_process, "HERE", True)
