"""Text that Windows programs wrote is read; text that a stream does not hold is written with escapes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import click
import pytest

from lanfit.core.commands import print_json, reported
from lanfit.core.encoding import accept_all_text, decode_text, encodable
from lanfit.core.passphrase import read_passphrase_file
from lanfit.settings.fields import read_file
from lanfit.settings.job import FIELDS


def legacy() -> io.TextIOWrapper:
    """A redirected standard output as Windows opens it."""
    return io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="strict", newline="\n")


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode("cp1252")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_utf_8_and_in_utf_16_with_a_byte_order_mark(encoding: str) -> None:
    assert decode_text("größe 猫\r\n".encode(encoding)) == "größe 猫\r\n"


def test_text_in_another_encoding_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text("größe".encode("latin-1"))


@pytest.mark.parametrize("end", ["\r\n", "\n", ""])
def test_a_passphrase_file_that_powershell_wrote_is_read(tmp_path: Path, end: str) -> None:
    (tmp_path / "pass.txt").write_bytes(f"correct horse battery staple{end}".encode("utf-16"))
    assert read_passphrase_file(tmp_path / "pass.txt") == "correct horse battery staple"


def test_a_job_file_that_powershell_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes("epochs = 3\r\nmodel = 'C:\\Users\\mia\\net.h5'\r\n".encode("utf-16"))
    read = read_file(tmp_path / "job.toml", "job file", FIELDS)
    assert read == {"epochs": 3, "model": "C:\\Users\\mia\\net.h5"}


def test_a_stream_that_does_not_hold_a_character_gets_an_escape() -> None:
    stream = legacy()
    accept_all_text(stream, None, io.StringIO())
    stream.write("café: 猫 → 0.9\n")
    assert written(stream) == "café: \\u732b \\u2192 0.9\n"
    assert encodable("café: 猫", legacy()) == "café: \\u732b"


def test_a_command_never_fails_for_a_character_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = legacy()
    monkeypatch.setattr(sys, "stdout", stream)
    with reported():
        click.echo("猫")
    assert written(stream) == "\\u732b\n"


def test_json_on_such_a_stream_is_still_json(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = legacy()
    monkeypatch.setattr(sys, "stdout", stream)
    document = {"labels": ["猫", "😀", "é"]}
    print_json(json.dumps(document, ensure_ascii=False).encode())
    assert json.loads(written(stream)) == document


def test_json_stays_as_it_is_where_the_stream_holds_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_json('{"label": "猫"}\n'.encode())
    assert capsys.readouterr().out == '{"label": "猫"}\n'
