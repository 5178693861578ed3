"""A table that does not hold numbers alone: every column in the way is named at once, with a way out that fits it."""

import datetime

import openpyxl
import pytest

from lanfit.data import refusals
from lanfit.data.columns import describe_table
from lanfit.data.files import open_file
from lanfit.errors import InputError

ROWS = [
    ["age", "city", "joined", "income", "price"],
    *(
        [30 + n, ["Oslo", "Rome"][n % 2], datetime.date(2020, 1, 1 + n), None if n == 3 else n * 1.5, 5]
        for n in range(9)
    ),
]


@pytest.fixture(params=["csv", "xlsx"])
def refused(request, tmp_path):
    """The error for rows as a csv file or as a sheet."""

    def refused(rows, folder="X"):
        path = tmp_path / folder / f"x.{request.param}"
        path.parent.mkdir(exist_ok=True)
        if request.param == "csv":
            path.write_text("\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in rows))
        else:
            book = openpyxl.Workbook()
            for row in rows:
                book.active.append(row)
            book.save(path)
        with pytest.raises(InputError) as caught:
            open_file(path).read_all()
        return caught.value

    return refused


def test_all_columns_in_the_way_are_named_at_once_with_what_is_proposed(refused):
    error = refused(ROWS)
    assert error.code == "columns.not-numbers"
    assert ": 3 of 5 columns are not purely numeric: " in error.message
    for name, kind, cell in (
        ("city", "category", '"Oslo" in'),
        ("joined", "date", '"2020-01-01'),
        ("income", "number", "empty in"),
    ):
        assert f'"{name}" ({kind}: {cell}' in error.message
    for name in ("age", "price"):
        assert f'"{name}"' not in error.message
    described = {
        column.name: column.proposal
        for column in describe_table(
            ROWS[0], [["" if row[i] is None else str(row[i]) for row in ROWS[1:]] for i in range(5)]
        )
    }
    for name in ("city", "joined", "income"):
        assert f'"{name}": {described[name]}' in error.hint
    assert "--target COLUMN --replace`. It proposes: " in error.hint
    assert "x." in error.hint


def test_where_each_column_begins_to_be_in_the_way_is_reported(refused):
    error = refused([["a", "b", "c"], [1, 2, 3], [1, "x", 3], [1, 2, "y"]])
    assert '"x" in line 3' in error.message or '"x" in cell B3' in error.message
    assert '"y" in line 4' in error.message or '"y" in cell C4' in error.message


@pytest.mark.parametrize(
    ("rows", "message", "hint"),
    [
        (
            [["a", "b"], [1, "Oslo"], [2, "Rome"], [3, "Oslo"]],
            '"Oslo" is not a number',
            "category, one column for each of 2",
        ),
        (
            [["a", "b"], [1, 2], [2, "NA"], [3, 4]],
            '"NA" marks a missing value',
            "1 missing value filled with the median",
        ),
        ([["a", "b"], [1, 2], [2, None], [3, 4]], "the cell is empty", "1 missing value filled with the median"),
        ([["a", "b"], [1, "5 kg"], [2, "6 kg"]], '"5 kg" is not a number', '"kg" is removed'),
        ([["a", "b"], [1, "2020-01-02"], [2, "2021-03-04"]], "2020-01-02", "date, split into its parts"),
    ],
)
def test_the_hint_for_one_column_fits_what_it_holds(refused, rows, message, hint):
    error = refused(rows)
    assert message in error.message
    assert hint in error.hint
    assert "separated by commas" not in error.hint
    assert "lanfit prepare" in error.hint


def test_a_row_that_was_taken_for_names_is_reported(refused):
    error = refused([[0.49, 0.29, "cp"], [0.07, 0.4, "cp"], [0.07, 0.4, "im"]])
    assert error.message.endswith('"cp" is not a number; the first line was read as column names')
    assert "first line" not in refused([["a", "b"], [1, "cp"]]).message


def test_a_table_in_another_place_gets_no_advice_to_move_it(tmp_path, refused):
    assert "--replace" not in refused(ROWS, folder="more").hint


def test_a_path_with_blanks_is_quoted(tmp_path):
    assert refusals.command(tmp_path / "my data.csv").startswith(f'lanfit prepare "{tmp_path}')


def test_columns_far_below_are_named_by_the_first_cell_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("lanfit.data.csvs.MOST_CELLS", 1)
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,2\n" * 1500 + "1,x\ny,2\n")
    with pytest.raises(InputError, match=r'line 1502, column "b": "x" is not a number'):
        open_file(path).read_all()


def test_a_comma_in_a_cell_may_be_the_decimal_sign(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a,b\n"9,50",2\n3,4\n')
    with pytest.raises(InputError, match='"9,50" is not a number') as caught:
        open_file(path).read_all()
    assert "--decimal comma" in caught.value.hint
