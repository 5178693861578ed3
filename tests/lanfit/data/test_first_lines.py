"""A first line 0, 1, 2, … is the header that pandas writes, or a row; an index in front of the table is no feature."""

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanfit.data.files import open_file, read_labels
from lanfit.data.labels import Target
from lanfit.data.sources import files_source
from lanfit.errors import InputError

FLOATS = np.random.default_rng(0).random((20, 3))
LABELS = np.arange(20) % 3
TAKEN = "is read as column numbers written by pandas, not as a row"


@pytest.fixture(params=["csv", "xlsx"])
def save(request, tmp_path):
    """Write a frame as pandas does."""

    def save(frame, folder="X", **options):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / f"part.{request.param}"
        write = frame.to_csv if request.param == "csv" else frame.to_excel
        write(path, **({"index": False} | options))
        return path

    return save


@pytest.fixture
def sources(tmp_path):
    def sources(target=Target.CLASSES):
        return files_source(tmp_path / "X", tmp_path / "Y", target)

    return sources


def test_the_header_of_an_array_is_no_row(save):
    chunk = open_file(save(pd.DataFrame(FLOATS)))
    np.testing.assert_array_equal(chunk.read_all(), FLOATS.astype(np.float32))
    assert chunk.notes == (f"the first line, 0, 1, 2, {TAKEN}",)
    assert chunk.column(1) == 'column "1"'
    two = open_file(save(pd.DataFrame(FLOATS[:, :2])))
    assert two.shape == (20, 2)
    assert two.notes == (f"the first line, 0, 1, {TAKEN}",)


def test_a_label_0_on_top_is_held_against_the_rows_of_x(save, sources):
    save(pd.DataFrame(FLOATS))
    save(pd.Series(LABELS).to_frame(), "Y")
    source = sources()
    assert source.rows == 20
    assert source.targets["y"][0].values.ravel().tolist() == LABELS.tolist()
    assert any(note.endswith(f"the first line, 0, {TAKEN}") for note in source.notes)


def test_a_label_0_on_top_stays_a_row_where_x_has_as_many(save, sources):
    save(pd.DataFrame(FLOATS, columns=list("abc")))
    save(pd.Series(LABELS).to_frame(), "Y", header=False)
    source = sources()
    assert source.targets["y"][0].values.ravel().tolist() == LABELS.tolist()
    assert source.notes == ()


def test_targets_that_are_numbers_are_held_against_x_as_labels_are(save, sources):
    save(pd.DataFrame(FLOATS, columns=list("abc")))
    save(pd.Series(np.arange(20) + 5).to_frame(), "Y")
    source = sources(Target.VALUES)
    np.testing.assert_array_equal(source.targets["y"][0].read_all().ravel(), np.arange(20) + 5)


def test_words_below_0_make_it_a_name(save):
    labels = read_labels(save(pd.Series(["cat", "dog", "cat"]).to_frame()))
    assert (labels.values.ravel().tolist(), labels.words) == ([0, 1, 0], ("cat", "dog"))
    assert labels.notes == (f"the first line, 0, {TAKEN}",)


def test_a_first_row_0_1_2_is_a_row_where_y_says_so(save, sources):
    save(pd.DataFrame(np.arange(60).reshape(20, 3)), header=False)
    save(pd.Series(LABELS, name="kind").to_frame(), "Y")
    source = sources()
    np.testing.assert_array_equal(source.x[0].read_all(), np.arange(60).reshape(20, 3))
    assert any("the first line, 0, 1, 2, is read as a row, not as column numbers" in note for note in source.notes)


def test_what_nothing_decides_is_read_as_a_row_and_reported(save, sources):
    save(pd.DataFrame([[0, 1], [1, 0], [1, 1]]), header=False)
    save(pd.Series([0, 1, 1]).to_frame(), "Y", header=False)
    source = sources()
    assert source.x[0].read_all().tolist() == [[0, 1], [1, 0], [1, 1]]
    assert len([note for note in source.notes if "is read as a row" in note]) == 2


def test_an_index_that_counts_the_rows_is_left_out(save):
    for columns in (None, list("abc")):
        frame = pd.DataFrame(FLOATS, columns=columns)
        chunk = open_file(save(frame, index=True))
        np.testing.assert_array_equal(chunk.read_all(), FLOATS.astype(np.float32))
        assert chunk.shape == (20, 3)
        assert chunk.notes == ("the first column has no name and numbers the rows: it is an index and is left out",)
        assert chunk.column(0) == f'column "{frame.columns[0]}"'
    words = read_labels(save(pd.DataFrame({"kind": ["cat", "dog"]}), index=True))
    assert (words.values.ravel().tolist(), words.words) == ([0, 1], ("cat", "dog"))
    saved_twice = pd.DataFrame({"Unnamed: 0": range(20), "a": FLOATS[:, 0]})
    assert open_file(save(saved_twice)).shape == (20, 1)


def test_an_unnamed_column_that_does_not_count_is_refused(save):
    frame = pd.DataFrame(FLOATS, columns=list("abc"), index=np.random.default_rng(0).permutation(20))
    with pytest.raises(InputError, match="has no name") as caught:
        open_file(save(frame, index=True)).read_all()
    assert "index=False" in caught.value.hint


def test_an_index_that_stops_counting_far_below_is_refused(tmp_path):
    index = np.arange(5000)
    index[4990] = 7
    pd.DataFrame({"a": index}, index=index).to_csv(tmp_path / "x.csv")
    with pytest.raises(InputError, match="line 1: column 1 has no name"):
        open_file(tmp_path / "x.csv").read_all()


def test_the_index_of_a_later_part_continues_counting(tmp_path):
    pd.DataFrame({"a": [1.5, 2.5]}, index=[1000, 1001]).to_csv(tmp_path / "x.csv")
    assert open_file(tmp_path / "x.csv").read_all().tolist() == [[1.5], [2.5]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=st.lists(st.tuples(*[st.integers(-2, 3) | st.floats(-2, 2, width=32)] * 2), min_size=2, max_size=6),
    header=st.booleans(),
    index=st.booleans(),
)
def test_rows_of_x_and_labels_never_shift_against_each_other(tmp_path, x, header, index):
    """Both with the header of pandas, or both without: all rows are read, each beside its label."""
    frame = pd.DataFrame(x, dtype=object)
    for name, part in (("X", frame), ("Y", pd.DataFrame(np.arange(len(x)) + 1))):
        (tmp_path / name).mkdir(exist_ok=True)
        part.to_csv(tmp_path / name / "part.csv", header=header, index=index and header)
    source = files_source(tmp_path / "X", tmp_path / "Y", Target.CLASSES)
    labels = source.targets["y"][0].values.ravel().tolist()
    read = source.x[0].read_all()
    output = " ".join(source.notes)
    if labels[0] == 0:  # nothing decides it: 0 and 1 may be a row, and 0 its label; that is said
        assert "is read as a row" in output
        labels, read = labels[1:], read[1:]
    assert labels == list(range(1, len(x) + 1))
    np.testing.assert_array_equal(read, np.array(x, np.float32))


def test_a_sheet_of_numbers_in_excel_keeps_its_first_row(tmp_path):
    book = openpyxl.Workbook()
    for row in ([0, 1, 1], [2, 3, 4]):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    assert open_file(tmp_path / "x.xlsx").read_all().tolist() == [[0, 1, 1], [2, 3, 4]]
