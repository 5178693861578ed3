"""Sheets are read as people see them, by either reader alike; what is no table of numbers is named by its cell."""

import datetime
import io
import re
import sys
import zipfile

import numpy as np
import openpyxl
import openpyxl.chart
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lanfit.data import chunks
from lanfit.data.files import open_file, read_labels
from lanfit.data.sheets import column_letters
from lanfit.errors import InputError


@pytest.fixture(params=["calamine", "openpyxl"])
def reader(request, monkeypatch):
    """Both readers, one after the other."""
    if request.param == "openpyxl":
        monkeypatch.setitem(sys.modules, "python_calamine", None)
    return request.param


@pytest.fixture
def save(tmp_path):
    def save(rows, name="x.xlsx", change=lambda sheet: None):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        change(book.active)
        book.save(tmp_path / name)
        return tmp_path / name

    return save


def values(path):
    return open_file(path).read_all()


def rebuilt(path, change):
    """The same archive with the members that `change(name, data)` gives."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, change(info.filename, archive.read(info))) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["a", "b"], [1, 2.5], [3, -4]], [[1, 2.5], [3, -4]]),
        ([[1, 2.5], [3, -4]], [[1, 2.5], [3, -4]]),
        ([["a", 2019], [1, True], [3, False]], [[1, 1], [3, 0]]),
        ([[], [None, "a"], [None, 1], [], [None, 2], []], [[1], [2]]),
        ([["größe"], [1e-30]], [[1e-30]]),
    ],
)
def test_numbers_are_read_with_or_without_names_and_empty_rows_and_columns(save, reader, rows, expected):
    chunk = open_file(save(rows))
    np.testing.assert_array_equal(chunk.read_all(), np.array(expected, np.float32))
    assert chunk.shape == np.shape(expected)
    assert chunk.dtype == np.float32


def test_columns_are_called_by_their_names(save):
    assert open_file(save([["height", "b"], [1, 2]])).column(0) == 'column "height"'
    assert open_file(save([[1, 2]])).column(1) == "column 2"


def test_a_large_sheet_comes_back_to_the_bit(save, reader):
    x = np.random.default_rng(0).normal(size=(700, 30)).astype(np.float32)
    np.testing.assert_array_equal(values(save([[f"c{i}" for i in range(30)], *x.tolist()])), x)


def test_only_the_first_sheet_is_read_and_that_is_reported(save, reader):
    path = save([[1], [2]], change=lambda sheet: sheet.parent.create_sheet("more").append(["x"]))
    chunk = open_file(path)
    assert chunk.read_all().tolist() == [[1], [2]]
    assert chunk.notes == ('of its 2 sheets only the first, "Sheet", is read',)
    assert open_file(save([[1]])).notes == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", "b"], [1, 2], [3, "tall"]], r'x.xlsx, cell B3, column "b": "tall" is not a number'),
        ([[1, 2], [3, "12"]], r'x.xlsx, cell B2: "12" is not a number'),
        ([["a", "b"], [1, None], [3, 4]], r'x.xlsx, cell B2, column "b": the cell is empty'),
        ([["a", "b"], [1, "  "]], r'cell B2, column "b": the cell is empty'),
        ([[], [None, "a", "b"], [None, 1, 2], [], [None, 1, "x"]], r'cell C5, column "b": "x" is not a number'),
        ([["day"], [datetime.date(2020, 2, 1)]], r'cell A2, column "day": 2020-02-01.* is a date or time'),
        ([["t"], [datetime.time(3, 4)]], r'cell A2, column "t": 03:04:00 is a date or time'),
        ([["a", None], [1, 2]], r"cell B1: the column has no name"),
        ([["a", "b"], ["=1+1", 2]], r"cell A2: the formula was never computed"),
        ([["a", "b"], [1, "?"]], r'cell B2, column "b": "\?" marks a missing value'),
        ([], "contains no rows: its first sheet is empty"),
        ([["a", "b"]], "contains no rows: its first sheet has only a header"),
    ],
)
def test_what_is_no_table_of_numbers_is_named_by_its_cell(save, reader, rows, message):
    with pytest.raises(InputError, match=message) as caught:
        values(save(rows))
    assert "x.xlsx" in caught.value.message
    assert caught.value.hint


def test_names_over_merged_cells_are_refused(save, reader):
    path = save([["a", "b", "c"], [1, 2, 3]], change=lambda sheet: sheet.merge_cells("A1:B1"))
    with pytest.raises(InputError, match="cell B1: the column has no name") as caught:
        values(path)
    assert "merged" in caught.value.hint
    title = save([["My data", None, None], ["a", "b", "c"], [1, 2, 3]], change=lambda sheet: sheet.merge_cells("A1:C1"))
    with pytest.raises(InputError, match="cell B1: the column has no name"):
        values(title)


def test_merged_values_are_refused(save, reader):
    path = save([["a"], [1], [None], [2]], change=lambda sheet: (sheet.merge_cells("A2:A3"), sheet.insert_cols(1)))
    assert values(path).tolist() == [[1], [2]]  # a row without any value is no row
    path = save([["a", "b"], [1, 1], [None, 2]], change=lambda sheet: sheet.merge_cells("A2:A3"))
    with pytest.raises(InputError, match=r'cell A3, column "a": the cell is empty') as caught:
        values(path)
    assert "In merged cells" in caught.value.hint


@pytest.mark.parametrize(
    ("rows", "expected", "words"),
    [
        ([["kind"], ["dog"], ["cat"], ["dog"]], [[1], [0], [1]], ("cat", "dog")),
        ([["dog"], ["cat"], ["dog"]], [[1], [0], [1]], ("cat", "dog")),
        ([["kind"], [" dog"], ["cat "]], [[1], [0]], ("cat", "dog")),
        ([["n"], [3], [2**40 + 1]], [[3], [2**40 + 1]], None),
        ([["n"], ["3"], [4]], [[3], [4]], None),
        ([["n"], [0.5], [1]], [[0.5], [1]], None),
        ([["n"], [True], [False]], [[True], [False]], None),
    ],
)
def test_labels_are_read_exactly(save, reader, rows, expected, words):
    labels = read_labels(save(rows))
    assert labels.values.tolist() == expected
    assert labels.words == words


def test_a_first_label_that_is_taken_for_one_is_reported(save, reader):
    assert read_labels(save([["dog"], ["cat"], ["dog"]])).notes == (
        "the first line is read as a label, not as a header",
    )
    assert read_labels(save([["kind"], ["cat"], ["dog"]])).notes == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["kind"], ["dog"], [3]], r'x.xlsx, row 2: "3" is a number, but "dog" \(row 1\) is not'),
        ([["kind", "b"], ["dog", None]], r'cell B2, column "b": the cell is empty'),
        ([["kind"], [datetime.date(2020, 2, 1)]], "is a date"),
    ],
)
def test_labels_that_are_neither_words_nor_numbers_are_named(save, reader, rows, message):
    with pytest.raises(InputError, match=message):
        read_labels(save(rows))


def test_columns_have_the_letters_of_a_sheet():
    assert [column_letters(n) for n in (0, 25, 26, 701, 702, 16383)] == ["A", "Z", "AA", "ZZ", "AAA", "XFD"]


def as_xlsxwriter(path, cells, *, full=True):
    """The sheet with formulas as XlsxWriter writes them: each with the value 0, to be computed when it is opened."""

    def change(name, data):
        if name == "xl/workbook.xml":
            data = data.replace(b' fullCalcOnLoad="1"', b"")
            return data.replace(b"<calcPr ", b'<calcPr fullCalcOnLoad="1" ') if full else data
        for cell, xml in cells.items():
            data = re.sub(rb'<c r="%s"[^>]*>.*?</c>' % cell.encode(), xml.encode(), data)
        return data

    return rebuilt(path, change)


BMI = [["kg", "bmi"], [60, 7], [70, 7]]


def test_formulas_that_nobody_computed_are_refused_and_the_first_is_named(save, reader):
    cells = {f"B{row}": f'<c r="B{row}"><f>A{row}/2</f><v>0</v></c>' for row in (2, 3)}
    with pytest.raises(InputError, match=r"x.xlsx, cell B2: the formula was never computed") as caught:
        values(as_xlsxwriter(save(BMI), cells))
    assert caught.value.code == "xlsx.not-computed"
    assert "save it" in caught.value.hint
    with pytest.raises(InputError, match="never computed"):
        read_labels(tmp := as_xlsxwriter(save(BMI), cells))
    assert values(rebuilt(tmp, lambda name, data: data.replace(b' fullCalcOnLoad="1"', b""))).tolist() == [
        [60, 0],
        [70, 0],
    ]  # a program that saved it had computed it


@pytest.mark.parametrize(
    ("xml", "value"),
    [
        ('<c r="B2"><f>A2/2</f><v>30</v></c>', 30),
        ('<c r="B2" s="1"><f t="shared" ref="B2:B3" si="0">A2/2</f><v>30</v></c>', 30),
        ('<c r="B2"><v>0</v></c>', 0),
    ],
)
def test_formulas_with_a_value_are_read(save, reader, xml, value):
    assert values(as_xlsxwriter(save(BMI), {"B2": xml})).tolist() == [[60, value], [70, 7]]


@pytest.mark.parametrize(
    "xml",
    [
        '<c r="B2"><f>A2/2</f><v></v></c>',
        '<c r="B2"><f>A2/2</f><v/></c>',
        '<c r="B2"><f>A2/2</f></c>',
        '<c s="1" r="B2"><f t="shared" si="0"/><v>0</v></c>',
        '<c r="B2"><f>' + "A2+" * 2700 + "A2</f><v>0</v></c>",
    ],
)
def test_every_way_of_writing_a_formula_without_value_is_found(save, reader, xml, monkeypatch):
    with pytest.raises(InputError, match=r"cell B2: the formula was never computed"):
        values(as_xlsxwriter(save(BMI), {"B2": xml}))


def test_a_formula_on_another_sheet_is_not_looked_at(save, reader):
    path = save(BMI, change=lambda sheet: sheet.parent.create_sheet("more").append(["=1+1"]))
    assert values(path).tolist() == [[60, 7], [70, 7]]


def test_hidden_rows_and_columns_are_read_and_reported(save, reader):
    def hide(sheet):
        sheet.row_dimensions[3].hidden = True
        sheet.row_dimensions[900].hidden = True
        sheet.column_dimensions["B"].hidden = True
        sheet.column_dimensions["Z"].hidden = True

    chunk = open_file(save(BMI, change=hide))
    assert chunk.read_all().tolist() == [[60, 7], [70, 7]]
    assert chunk.notes == ("1 row and 1 column are hidden in the sheet, but read anyway",)


def test_a_chart_in_front_is_passed_over(save, reader):
    def put_chart(sheet):
        chart = openpyxl.chart.BarChart()
        chart.add_data(openpyxl.chart.Reference(sheet, min_col=1, min_row=1, max_row=3))
        sheet.parent.create_chartsheet("Chart", 0).add_chart(chart)

    chunk = open_file(save(BMI, change=put_chart))
    assert chunk.read_all().tolist() == [[60, 7], [70, 7]]
    assert chunk.notes == ('of its 2 sheets only the first with cells, "Sheet", is read',)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_half_a_file_is_refused(save, reader, share):
    path = save([[1, 2]] * 50)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"x.xlsx can't be read as an xlsx file") as caught:
        values(path)
    assert "truncated" in caught.value.hint


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, reader):
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(200 << 20))
    with pytest.raises(InputError, match="unpacks to more than 100 times its size"):
        values(path)


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path, reader):
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(20 << 20))
    data = path.read_bytes()
    path.write_bytes(data.replace((20 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(InputError, match=r"x.xlsx can't be read as an xlsx file"):
        values(path)


def test_xml_that_defines_entities_is_refused(save, reader):
    bomb = b'<!DOCTYPE x [<!ENTITY a "1"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    path = rebuilt(save([[1]]), lambda name, data: bomb + data if name == "xl/worksheets/sheet1.xml" else data)
    with pytest.raises(InputError, match="it defines a document type"):
        values(path)


def test_a_stray_cell_in_the_last_corner_is_named_before_a_table_of_17_billion_cells_is_made(save, monkeypatch):
    path = save([[1, 2]], change=lambda sheet: sheet.cell(1048576, 16384, 7))
    with pytest.raises(InputError, match=r"extends to cell XFD1048576: 17,179,869,184 cells") as caught:
        values(path)
    assert "stray cells" in caught.value.hint


def test_a_sheet_that_memory_does_not_hold_is_refused(save, reader, monkeypatch):
    path = save([[1, 2]] * 50)
    monkeypatch.setattr(chunks, "free_memory", lambda: 20_000)
    with pytest.raises(InputError, match=r"needs up to 8 times that .* but only 20.0 kB of memory is free") as caught:
        values(path)
    assert caught.value.code == "xlsx.larger-than-memory"


def test_what_calamine_can_not_read_openpyxl_reads(save, monkeypatch):
    import python_calamine

    def refuse(path):
        raise python_calamine.XmlError("no")

    path = save([["a"], [1], [2]])

    class Refusing:
        CalamineError = python_calamine.CalamineError

        class CalamineWorkbook:
            from_path = staticmethod(refuse)

    monkeypatch.setitem(sys.modules, "python_calamine", Refusing)
    assert values(path).tolist() == [[1], [2]]
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"x.xlsx can't be read as an xlsx file: no"):
        values(path)


def test_without_any_reader_the_way_to_get_one_is_reported(save, monkeypatch):
    path = save([[1]])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match="which requires python-calamine") as caught:
        values(path)
    assert caught.value.hint == "Install it: `pip install python-calamine`."


def test_a_file_that_is_gone_or_of_another_kind_is_named(tmp_path, reader):
    with pytest.raises(InputError, match=r"gone.xlsx can't be read: .*No such file"):
        values(tmp_path / "gone.xlsx")
    (tmp_path / "old.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(
        InputError, match=r"old.xlsx is a spreadsheet in the old Excel format, or one with a password"
    ) as caught:
        values(tmp_path / "old.xlsx")
    assert "save it as .xlsx" in caught.value.hint


GOOD = io.BytesIO()
_book = openpyxl.Workbook()
for _row in (["a", "b"], [1, 2.5], [3, True], [4, 5]):
    _book.active.append(_row)
_book.save(GOOD)
SHEET = zipfile.ZipFile(GOOD).read("xl/worksheets/sheet1.xml")
PARTS = ["xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/sharedStrings.xml", "[Content_Types].xml"]
EDITS = st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=4)), min_size=1, max_size=4)


def outcome(path, reading=values):
    """What is read, or the InputError; anything else is a failure."""
    try:
        return reading(path)
    except InputError as error:
        refused = error
    assert "x.xlsx" in refused.message
    assert refused.hint
    return None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, cut=st.none() | st.integers(0, 6000))
@example([(0, b"P")], 100)
def test_a_damaged_file_is_refused_or_still_the_same_table(tmp_path, reader, edits, cut):
    data = bytearray(GOOD.getvalue())
    for position, new in edits:
        position %= len(data)
        data[position : position + len(new)] = new
    (tmp_path / "x.xlsx").write_bytes(data[: cut % len(data)] if cut else data)
    found = outcome(tmp_path / "x.xlsx")
    assert found is None or found.tolist() == [[1, 2.5], [3, 1], [4, 5]]


@pytest.mark.filterwarnings("ignore")  # what openpyxl thinks of a spoilt sheet
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, part=st.sampled_from(PARTS), labels=st.booleans())
def test_damaged_xml_in_a_sound_archive_gives_a_table_or_an_input_error(tmp_path, reader, edits, part, labels):
    def change(name, data):
        data = bytearray(data)
        for position, new in edits if name == part else ():
            position %= len(data)
            data[position : position + len(new)] = new
        return bytes(data)

    (tmp_path / "x.xlsx").write_bytes(GOOD.getvalue())
    path = rebuilt(tmp_path / "x.xlsx", change)
    found = outcome(path, (lambda path: read_labels(path).values) if labels else values)
    assert found is None or (found.ndim == 2 and found.dtype.kind in "biuf")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_random_bytes_are_an_input_error(tmp_path, content):
    (tmp_path / "x.xlsx").write_bytes(content)
    assert outcome(tmp_path / "x.xlsx") is None


def test_a_mark_for_missing_is_named(save, reader):
    with pytest.raises(InputError, match=r'cell A3, column "a": "NA" marks a missing value') as caught:
        values(save([["a"], [1], ["NA"]]))
    assert caught.value.code == "xlsx.missing"
