"""Files that end their reader, as a native reader ends: by a signal. Real processes, and workbooks made to do that."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import openpyxl
import pytest

from lanfit.data import reader_process
from lanfit.data.files import open_file, read_labels
from lanfit.errors import InputError, LanfitError
from lanfit_server.prepare_data.text_tables import read_text_table

CONTENT_TYPES = """<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/xml"/>
<Override PartName="/xl/workbook.xml"
 ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>
<Override PartName="/xl/worksheets/sheet1.xml"
 ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"""
RELATIONS = """<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}"
 Target="{target}"/></Relationships>"""
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
WORKBOOK = f"""<workbook xmlns="{MAIN}"
 xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">
<sheets><sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>"""
SHEET = f'<worksheet xmlns="{MAIN}" xmlns:q="{MAIN}"><sheetData>{{rows}}</sheetData></worksheet>'
FIRST = '<row r="1"><c r="A1"><v>1</v></c><c r="B1"><v>2</v></c></row>'
#: What no check of the archive sees, and what makes the reader ask for more memory than there is.
MADE_UP = {
    "single quotes": FIRST + "<row r='1048576'><c r='XFD1048576'><v>1</v></c></row>",
    "blanks": FIRST + '<row r = "1048576"><c r = "XFD1048576"><v>1</v></c></row>',
    "a prefix": FIRST.replace("<", "<q:").replace("<q:/", "</q:")
    + '<q:row r="1048576"><q:c r="XFD1048576"><q:v>1</q:v></q:c></q:row>',
    "small letters": FIRST + '<row r="1048576"><c r="xfd1048576"><v>1</v></c></row>',
    "a row beyond the last": FIRST + '<row r="99999999"><c r="A99999999"><v>1</v></c></row>',
}


def workbook(path: Path, rows: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", CONTENT_TYPES)
        archive.writestr("_rels/.rels", RELATIONS.format(kind="officeDocument", target="xl/workbook.xml"))
        archive.writestr("xl/workbook.xml", WORKBOOK)
        archive.writestr(
            "xl/_rels/workbook.xml.rels", RELATIONS.format(kind="worksheet", target="worksheets/sheet1.xml")
        )
        archive.writestr("xl/worksheets/sheet1.xml", SHEET.format(rows=rows))
        archive.writestr("padding.bin", os.urandom(4000))  # or it would be taken for a bomb
    return path


def test_the_workbook_of_these_tests_is_one_when_nothing_is_wrong_with_it(tmp_path: Path) -> None:
    assert open_file(workbook(tmp_path / "x.xlsx", FIRST)).read_all().tolist() == [[1, 2]]


@pytest.mark.parametrize("spelling", MADE_UP)
@pytest.mark.parametrize("read", [open_file, read_labels, read_text_table], ids=lambda read: read.__name__)
def test_a_workbook_that_ends_its_reader_is_a_file_that_can_not_be_read(
    spelling: str, read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "x.xlsx", MADE_UP[spelling])
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    with pytest.raises(InputError) as wrong:
        read(path)  # type: ignore[operator]
    assert wrong.value.code in ("file.reader-memory", "xlsx.stray-cell")
    assert str(path) in wrong.value.message
    assert wrong.value.exit_code == 2
    assert wrong.value.hint


#: A sitecustomize that does to a reader what native code does.
@pytest.mark.parametrize(
    ("does", "code", "output"),
    [
        ("os.abort()", "file.reader-died", "was ended by signal 6"),
        ("os._exit(3)", "file.reader-died", "ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "file.reader-killed", "was killed, probably because memory ran out"),
        ("bytearray(1 << 40)", "file.reader-memory", "within"),
    ],
)
def test_the_end_of_a_reader_is_reported_by_the_file_and_by_how_it_ended(
    does: str, code: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "x.xlsx", FIRST)
    (tmp_path / "python_calamine.py").write_text(f"import os\n{does}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LanfitError) as wrong:
        open_file(path)
    assert wrong.value.code == code
    assert str(path) in wrong.value.message
    assert output in wrong.value.message


def test_every_kind_of_cell_comes_through_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = openpyxl.Workbook()
    day = datetime.datetime(2024, 2, 29, 13, 30)
    cells = ["word", 1, 2.5, True, None, day, day.date(), day.time(), datetime.timedelta(hours=30)]
    book.active.append(cells)
    book.save(tmp_path / "x.xlsx")
    found = reader_process.read_sheet(tmp_path / "x.xlsx", 0)
    monkeypatch.setattr(reader_process, "HERE", True)
    here = reader_process.read_sheet(tmp_path / "x.xlsx", 0)
    assert [list(map(type, row)) for row in found[0]] == [list(map(type, row)) for row in here[0]]
    assert [list(row) for row in found[0]] == [list(row) for row in here[0]]
    assert found[1] == here[1]
    big = [[1 << 70, -(1 << 63), datetime.timedelta(microseconds=-1)]]
    sent = msgspec.msgpack.encode([[reader_process._as_extension(cell) for cell in row] for row in big])
    assert msgspec.msgpack.decode(sent, ext_hook=reader_process._cell_of) == big


@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_columns_come_through_as_they_were_and_damage_is_named(ending: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    path = tmp_path / f"x{ending}"
    table = pyarrow.table({"a": np.arange(5), "b": np.linspace(0, 1, 5)})
    (parquet.write_table if ending == ".parquet" else feather.write_feather)(table, str(path))
    assert open_file(path).read_all()[:, 0].tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError) as wrong:
        open_file(path)
    assert str(path) in wrong.value.message


def test_a_reader_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "python_calamine.py").write_text("import threading\nthreading.Event().wait()\n")
    path = workbook(tmp_path / "x.xlsx", FIRST)
    reader = subprocess.Popen(
        [sys.executable, "-P", "-m", reader_process.MODULE, str(1 << 30)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert reader.stdin is not None
    order = msgspec.msgpack.encode(reader_process.SheetRequest.of(path))
    reader.stdin.write(len(order).to_bytes(4, "little") + order)
    reader.stdin.close()
    assert reader.wait(60) == 1


def test_reading_a_sheet_imports_no_more_than_its_reader(tmp_path: Path) -> None:
    path = workbook(tmp_path / "x.xlsx", FIRST)
    code = """if True:
        import pathlib, sys
        from lanfit.data import reader_process
        import msgspec
        order = reader_process.SheetRequest.of(pathlib.Path(sys.argv[1]))
        reader_process.answer(msgspec.msgpack.encode(order), 1 << 30)
        heavy = {"numpy", "asyncio", "pandas", "tensorflow", "keras", "openpyxl", "cryptography", "rich"}
        print(sorted(heavy & set(sys.modules)))
    """
    found = subprocess.run([sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd", "sheet9.xml"])
def test_a_workbook_reads_no_sheet_from_outside_of_itself(target: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", CONTENT_TYPES)
        archive.writestr("_rels/.rels", RELATIONS.format(kind="officeDocument", target="xl/workbook.xml"))
        archive.writestr("xl/workbook.xml", WORKBOOK)
        archive.writestr("xl/_rels/workbook.xml.rels", RELATIONS.format(kind="worksheet", target=target))
        archive.writestr("padding.bin", os.urandom(4000))
    with pytest.raises(InputError) as caught:
        read_labels(path)
    assert "root:" not in caught.value.message


def test_a_workbook_with_an_entity_of_a_file_in_utf_16_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", "")
    sheet = (
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        f'<worksheet xmlns="{MAIN}"><sheetData><row r="1"><c r="A1" t="str"><v>&e;</v></c></row></sheetData>'
        "</worksheet>"
    )
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, sheet.encode("utf-16") if name.endswith("sheet1.xml") else data)
    with pytest.raises(InputError) as caught:
        read_labels(path)
    assert "root:" not in caught.value.message
