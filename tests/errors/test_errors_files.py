"""Every error in the files of X and Y, triggered from the outside: with a tiny model, on a few rows."""

from __future__ import annotations

import io
import lzma
import shutil
import zipfile
from collections.abc import Sequence
from datetime import date

import numpy as np
import pytest
from error_cases import ErrorCase, ErrorCases, Start, check, hide
from small_workspace import ROWS, TINY_JOB, SmallWorkspace, X, as_csv, as_npz, labels, words
from warm import WarmModels

pytestmark = pytest.mark.story
ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_what_is_wrong_with_the_files_is_named(
    small_workspace: SmallWorkspace, case: ErrorCase, warm: WarmModels
) -> None:
    check(small_workspace, case, warm, **TINY_JOB)


# --- how they are made ----------------------------------------------------------------------------------------------


def declared_npz(header: dict[str, object]) -> bytes:
    """An npz file with an array of which only the header is there."""
    member, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", member.getvalue())
    return file.getvalue()


def as_xlsx(rows: Sequence[Sequence[object]], merged: str = "", stray: tuple[int, int] | None = None) -> bytes:
    from openpyxl import Workbook

    book, file = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(list(row))
    if merged:
        book.active.merge_cells(merged)
    if stray:
        book.active.cell(*stray).value = 1
    book.save(file)
    return file.getvalue()


SHEET: list[list[object]] = [["a", "b"], *X.tolist()]


def sheet_with(cell: object) -> list[list[object]]:
    """The sheet with another value in B5."""
    rows = [list(row) for row in SHEET]
    rows[4][1] = cell
    return rows


# --- folders and kinds of files ---------------------------------------------------------------------------------


@fails_with("folder.missing", "dataset/X", ".csv")
def no_folder(place: SmallWorkspace) -> None:
    shutil.rmtree(place.root / "dataset" / "X")


@fails_with("folder.empty", "dataset/Y")
def an_empty_folder(place: SmallWorkspace) -> None:
    (place.root / "dataset" / "Y" / "y.csv").unlink()


@fails_with("folder.in-folder", "dataset/X/more")
def a_folder_in_it(place: SmallWorkspace) -> None:
    (place.root / "dataset" / "X" / "more").mkdir()


@fails_with("folder.counts-differ", "2 files (x2.csv, x.csv)", "1 file (y.csv)")
def more_files_of_x_than_of_y(place: SmallWorkspace) -> None:
    place.x("x2.csv", as_csv(X))


@fails_with("file.unknown-kind", "x2.pkl", "never loaded", ".xlsx")
def a_pickle(place: SmallWorkspace) -> None:
    place.x("x2.pkl", b"\x80\x04.")


@fails_with("file.unreadable", "dataset/X/x.csv", "No such file")
def a_link_to_nowhere(place: SmallWorkspace) -> None:
    path = place.root / "dataset" / "X" / "x.csv"
    path.unlink()
    path.symlink_to("nowhere.csv")


@fails_with("file.rows-differ", "y.csv", "18 rows", "12")
def a_line_break_inside_a_cell(place: SmallWorkspace) -> None:
    place.y("y.csv", words('"cat\n"', "dog"))


@fails_with("file.no-plain-numbers", "x.npz", "complex128")
def complex_numbers(place: SmallWorkspace) -> None:
    place.x("x.npz", as_npz(x=X.astype(complex)))


@fails_with("file.larger-than-memory", "y.npz", "1000000000000", "8.0 TB")
def labels_without_number(place: SmallWorkspace) -> None:
    place.y("y.npz", declared_npz({"descr": "<i8", "fortran_order": False, "shape": (10**12,)}))


# --- packed files -----------------------------------------------------------------------------------------------


@fails_with("packed.damaged", "x.csv.gz")
def half_a_gz(place: SmallWorkspace) -> None:
    import gzip

    packed = gzip.compress(as_csv(X).encode())
    place.x("x.csv.gz", packed[: len(packed) // 2])


@fails_with("packed.not-one-file", "x.csv.zip", "2 files")
def two_files_in_a_zip(place: SmallWorkspace) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", as_csv(X))
        archive.writestr("b.csv", as_csv(X))
    place.x("x.csv.zip", file.getvalue())


@fails_with("packed.bomb", "x.csv.xz", "1,000 times")
def a_csv_that_unpacks_to_far_more(place: SmallWorkspace) -> None:
    place.x("x.csv.xz", lzma.compress(b"1,2\n" * (17 << 20), preset=0))


# --- csv --------------------------------------------------------------------------------------------------------


@fails_with("csv.no-pandas", "y.csv", "pip install pandas")
def pandas_is_not_installed(place: SmallWorkspace) -> Start:
    return Start(options=hide(place, "pandas"))


@fails_with("csv.no-rows", "x.csv")
def only_names(place: SmallWorkspace) -> None:
    place.x("x.csv", "a,b\n")


@fails_with("csv.not-text", "x.csv")
def zero_bytes(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(X) + "\0\n")


@fails_with("csv.not-utf8", "x.csv")
def bytes_of_no_encoding(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(X, "a,b").encode() + b"1,\x81\n")


@fails_with("csv.endless-line", "x.csv", "67.1 MB")
def a_line_without_end(place: SmallWorkspace) -> None:
    place.x("x.csv", b"1," * (33 << 20))


@fails_with("csv.unnamed-column", "x.csv, line 1: column 1", "to_csv(index=False)")
def an_index_of_pandas(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(np.hstack([np.arange(ROWS)[::-1].reshape(-1, 1), X]), ",a,b"))


@fails_with("csv.uneven-line", "x.csv, line 13 has 3 cells, but the first line has 2")
def a_cell_too_many(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(X, "a,b").replace("22,23\n", "22,23,24\n"))


@fails_with("csv.not-a-number", 'x.csv, line 4, column "b": "tall" is not a number')
def text_in_a_numeric_column(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(X, "a,b").replace("4,5\n", "4,tall\n"))


@fails_with("csv.ambiguous", 'x.csv, line 2, column "price": "1,200" can be 1.2 or 1200', "--thousands comma")
def thousands_or_decimals(place: SmallWorkspace) -> None:
    place.x("x.csv", "price\n" + '"1,200"\n950\n' * 6)


@fails_with("csv.empty-cell", 'x.csv, line 4, column "b"')
def a_gap(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(X, "a,b").replace("4,5\n", "4,\n"))


@fails_with("csv.empty-cell", 'y.csv, line 3, column "dog"')
def a_row_without_label(place: SmallWorkspace) -> None:
    place.y("y.csv", "cat,dog\n0,1\n1,\n")


@fails_with("labels.empty", "y.csv, row 1")
def a_blank_as_label(place: SmallWorkspace) -> None:
    place.y("y.csv", labels('" "'))


@fails_with("csv.quotes", "x.csv")
def a_quote_that_does_not_end(place: SmallWorkspace) -> None:
    place.x("x.csv", as_csv(X, "a,b").replace("22,23\n", '22,"23\n'))


# --- xlsx -------------------------------------------------------------------------------------------------------


@fails_with("xlsx.no-reader", "x.xlsx", "pip install python-calamine")
def nothing_reads_sheets(place: SmallWorkspace) -> Start:
    place.x("x.xlsx", as_xlsx(SHEET))
    return Start(options=hide(place, "python_calamine", "openpyxl"))


@fails_with("xlsx.damaged", "x.xlsx")
def half_an_xlsx(place: SmallWorkspace) -> None:
    sheet = as_xlsx(SHEET)
    place.x("x.xlsx", sheet[: len(sheet) // 2])


@fails_with("xlsx.bomb", "x.xlsx", "100 times")
def a_zip_bomb_named_xlsx(place: SmallWorkspace) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(20 << 20))
    place.x("x.xlsx", file.getvalue())


@fails_with("xlsx.stray-cell", "x.xlsx", "XFD1048576")
def a_stray_cell(place: SmallWorkspace) -> None:
    place.x("x.xlsx", as_xlsx(SHEET, stray=(1048576, 16384)))


@fails_with("xlsx.empty-sheet", "x.xlsx")
def an_empty_sheet(place: SmallWorkspace) -> None:
    place.x("x.xlsx", as_xlsx([]))


@fails_with("xlsx.only-names", "x.xlsx")
def a_sheet_of_names(place: SmallWorkspace) -> None:
    place.x("x.xlsx", as_xlsx(SHEET[:1]))


@fails_with("xlsx.unnamed-column", "x.xlsx, cell B1")
def merged_headers(place: SmallWorkspace) -> None:
    place.x("x.xlsx", as_xlsx(SHEET, merged="A1:B1"))


@fails_with("xlsx.not-a-number", 'x.xlsx, cell B5, column "b": "tall"')
def text_in_a_numeric_column_of_a_sheet(place: SmallWorkspace) -> None:
    place.x("x.xlsx", as_xlsx(sheet_with("tall")))


@fails_with("xlsx.empty-cell", 'x.xlsx, cell B5, column "b"')
def a_gap_in_a_sheet(place: SmallWorkspace) -> None:
    place.x("x.xlsx", as_xlsx(sheet_with(None)))


@fails_with("xlsx.date", 'x.xlsx, cell B5, column "b": 2024-02-29')
def a_date(place: SmallWorkspace) -> None:
    place.x("x.xlsx", as_xlsx(sheet_with(date(2024, 2, 29))))


# --- npz --------------------------------------------------------------------------------------------------------


@fails_with("npz.damaged", "x.npz")
def an_npz_that_is_none(place: SmallWorkspace) -> None:
    place.x("x.npz", b"PK\x03\x04 and then nothing")


@fails_with("npz.no-array", "x.npz")
def an_empty_npz(place: SmallWorkspace) -> None:
    place.x("x.npz", as_npz())


@fails_with("npz.several-arrays", "x.npz", "x_test, x_train", "--npz-key")
def two_arrays(place: SmallWorkspace) -> None:
    place.x("x.npz", as_npz(x_test=X, x_train=X))


@fails_with("npz.no-such-array", "x.npz", '"x"', "x_train")
def another_name(place: SmallWorkspace) -> Start:
    place.x("x.npz", as_npz(x_train=X))
    return Start({"npz_key": "x,y"})


@fails_with("npz.wrong-key", '"x,y,z"', "--npz-key")
def three_names(place: SmallWorkspace) -> Start:
    return Start({"npz_key": "x,y,z"})


@fails_with("npz.pickled", "x.npz")
def pickled_objects(place: SmallWorkspace) -> None:
    place.x("x.npz", as_npz(x=np.array([{"a": 1}], dtype=object)))


@fails_with("npz.no-rows", "x.npz", "(0, 2)")
def no_rows(place: SmallWorkspace) -> None:
    place.x("x.npz", as_npz(x=X[:0]))
