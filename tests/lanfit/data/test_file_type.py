"""A table file whose content is of another kind than its name says is named for what it is."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from lanfit.data.file_type import wrong_ending
from lanfit.data.files import open_file
from lanfit.errors import InputError

TEXT = b"a,b\n1,2\n3,4\n"


def zipped(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_xml", ".xml"), content)
    return file.getvalue()


def sheet() -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in (["a", "b"], [1, 2], [3, 4]):
        book.active.append(row)
    book.save(file)
    return file.getvalue()


OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
OPEN_DOCUMENT = zipped(mimetype="application/vnd.oasis.opendocument.spreadsheet", content_xml="<x/>")


@pytest.mark.parametrize(
    ("name", "content", "what", "way"),
    [
        ("x.xls", TEXT, "text", "Rename it to x.csv."),
        ("x.xls", b"\xef\xbb\xbf<html><table><tr><td>1</td></tr></table>", "a web page", "save it as .xlsx"),
        ("x.xls", sheet(), "an xlsx file", "Rename it to x.xlsx."),
        ("x.xlsx", OLD, "a spreadsheet in the old Excel format, or one with a password", "save it as .xlsx"),
        ("x.xlsx", TEXT, "text", "Rename it to x.csv."),
        ("x.xlsx", OPEN_DOCUMENT, "an OpenDocument spreadsheet", "LibreOffice"),
        ("x.csv", OPEN_DOCUMENT, "an OpenDocument spreadsheet", "LibreOffice"),
        ("x.tsv", sheet(), "an xlsx file", "Rename it to x.xlsx."),
    ],
)
def test_a_file_that_is_something_else_than_its_name_says_is_named(
    tmp_path: Path, name: str, content: bytes, what: str, way: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_file(tmp_path / name)
    assert caught.value.code == "file.wrong-ending"
    assert f"{name} is {what}" in caught.value.message
    assert way in caught.value.hint


def test_a_file_that_was_renamed_as_advised_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(TEXT)
    (tmp_path / "x.xlsx").write_bytes(sheet())
    for name in ("x.csv", "x.xlsx"):
        assert wrong_ending(tmp_path / name) is None
        assert open_file(tmp_path / name).shape == (2, 2)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,\x81\0\n", b"PK\x03\x04" + bytes(9)])
def test_what_is_not_known_stays_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.xlsx").write_bytes(content)
    assert wrong_ending(tmp_path / "x.xlsx") is None
