"""What a command prints when it can't go on, and how it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lanfit.core.commands import reported
from lanfit.errors import InputError
from lanfit.settings.fields import read_file, read_toml
from lanfit.settings.job import FIELDS, make_job


def test_memory_that_runs_out_is_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, reported(as_json=True):
        raise MemoryError
    assert ended.value.code == 4
    output, printed = capsys.readouterr()
    assert "system.out-of-memory" in output
    assert printed.startswith("Error: there is not enough memory on this machine\n")


@pytest.mark.parametrize("text", ["a=" + "[" * 100_000, "a=" + "{b=" * 100_000])
def test_settings_that_are_nested_too_deep_are_no_toml(text: str) -> None:
    with pytest.raises(InputError) as wrong:
        read_toml(text, "settings file server.toml", {})
    assert wrong.value.code == "settings.not-toml"


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "[1, 0x" + "f" * 5000 + "]"])
@pytest.mark.parametrize("key", ["epochs", "seed", "inputs"])
def test_a_number_of_thousands_of_digits_is_an_error_of_the_file(number: str, key: str) -> None:
    with pytest.raises(InputError) as wrong:
        make_job({"model": "net.h5", **read_toml(f"{key} = {number}", "job file job.toml", FIELDS)})
    assert wrong.value.code in ("settings.not-toml", "settings.wrong")
    assert "a number has thousands of digits" in wrong.value.message or (
        f"{key}: the number has thousands of digits" in wrong.value.message
    )


def test_a_program_that_gives_such_a_number_is_reported() -> None:
    with pytest.raises(InputError) as wrong:
        FIELDS["epochs"].read(1 << 100_000, "epochs")
    assert wrong.value.code == "value.too-many-digits"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_settings_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "server.toml")
    with pytest.raises(InputError) as wrong:
        read_file(tmp_path / "server.toml", "settings file", {})
    assert wrong.value.code == "settings.unreadable"
    assert "pipe" in wrong.value.message
