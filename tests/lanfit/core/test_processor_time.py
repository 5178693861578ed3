"""Reading that never ends: the process is ended, even where neither an exception nor a thread could do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lanfit.core.processor_time import ENDED, LEAST_SECONDS, most_seconds
from lanfit.data.processes import ReaderEnded

pytestmark = pytest.mark.skipif(ENDED is None, reason="this system has no such limit")
#: A regular expression that holds Python's lock for longer than the universe is old.
BUSY = "re.match('(a+)+$', 'a' * 64 + 'b')"


def ended_with(code: str, *arguments: object) -> int:
    return subprocess.run([sys.executable, "-P", "-c", code, *map(str, arguments)], timeout=120).returncode


def test_native_code_that_never_returns_is_ended_with_its_process() -> None:
    code = f"""
import re
from lanfit.core.processor_time import limit_processor_time
with limit_processor_time(0.05):
    {BUSY}
"""
    assert ended_with(code) == ENDED


def test_what_comes_after_the_block_may_take_as_long_as_it_likes() -> None:
    code = """
import time
from lanfit.core.processor_time import limit_processor_time
with limit_processor_time(0.2):
    pass
while time.process_time() < 0.8:
    pass
"""
    assert ended_with(code) == 0


@pytest.mark.parametrize(
    "reads",
    [
        """
from lanfit_server.models import model_process
model_process.load_model = busy
model_process.ModelHolder()._load(path, path.with_name("weights.block"))
""",
        """
from lanfit.data import reader_process, workbook
workbook.read_cells = busy
reader_process.answer(msgspec.msgpack.encode(reader_process.SheetRequest.of(path)), 1 << 40)
""",
        """
from lanfit_server.data import reading
reading.read_rows, reading.note_in, reading._size_of = busy, print, lambda request: 0
reading.msgspec.msgpack.decode = lambda order, **_: types.SimpleNamespace(scratch=path, at_once=True, request=None)
reading.answer(b"", 0)
""",
    ],
    ids=["a model", "a sheet", "the files of a run"],
)
def test_whatever_is_read_for_the_operator_has_a_limit(reads: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    code = f"""
import msgspec, pathlib, re, sys, types
from lanfit.core import processor_time
processor_time.LEAST_SECONDS = 0.05
path = pathlib.Path(sys.argv[1])
busy = lambda *_: {BUSY}
"""
    assert ended_with(code + reads, path) == ENDED


def test_a_reader_that_was_ended_so_is_reported_in_words() -> None:
    assert ENDED is not None
    wrong = ReaderEnded(ENDED, "", 0).named("rows.xlsx")
    assert wrong.code == "file.reader-endless"
    assert "rows.xlsx" in wrong.message


def test_large_files_have_more_time() -> None:
    assert most_seconds(0) == LEAST_SECONDS
    assert most_seconds(10**9) == LEAST_SECONDS + 5000
