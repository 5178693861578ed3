"""csv files of numbers are read as they are meant; anything else is an error that names file, line and column."""

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lanfit.data import csvs
from lanfit.data.files import column_label, describe, read_array
from lanfit.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(text, name="x.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "1,2\n3,4",
        "a,b\n1,2\n3,4\n",
        '"a","b"\n"1","2"\n3,4\n',
        "a,b\r\n1,2\r\n3,4\r\n",
        "\ufeffa,b\n1,2\n3,4\n",
        "\ufeff1,2\n3,4\n",
        "\n\na,b\n1,2\n\n3,4\n\n",
        "1,b\n1,2\n3,4\n",
        '"a\nb",c\n1,2\n3,4\n',
        " 1 , 2\n3,\t4\n",
        "1.0,2e0\n3.,+4\n",
        "größe,høhe\n1,2\n3,4\n",
    ],
)
def test_all_these_spell_the_same_two_rows(write, text):
    path = write(text)
    for exact in (False, True):
        np.testing.assert_array_equal(read_array(path, exact=exact), [[1, 2], [3, 4]])
    assert read_array(path).dtype == np.float32
    assert describe(path).shape == (2, 2)


def test_integers_survive_exactly_where_float32_would_join_them(write):
    labels = [2**24, 2**24 + 1, -(2**53) - 1, 7]
    path = write("\n".join(map(str, labels)))
    array = read_array(path, exact=True)
    assert array.dtype == np.int64
    assert array[:, 0].tolist() == labels


def test_one_float_makes_an_exact_file_float64_and_booleans_stay(write):
    array = read_array(write("1,2\n0.1,4\n"), exact=True)
    assert array.dtype == np.float64
    assert array[1].tolist() == [0.1, 4.0]
    assert read_array(write("True\nFalse\n"), exact=True).tolist() == [[True], [False]]


def test_many_blocks_give_the_same_rows_as_pandas(write, monkeypatch):
    x = np.random.default_rng(0).normal(size=(1003, 7)).astype(np.float32)
    path = write(pandas.DataFrame(x, columns=list("abcdefg")).to_csv(index=False))
    monkeypatch.setattr(csvs, "BLOCK_VALUES", 70)
    np.testing.assert_array_equal(read_array(path), pandas.read_csv(path).to_numpy(np.float32))
    np.testing.assert_allclose(read_array(path), x, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,x\n", r'line 3, column "b": "x" is not a number'),
        ("1,2\n3,cat\n", r'line 2, column 2: "cat" is not a number'),
        ("1,2\n\n3,nan\n", r'line 3, column 2: "nan" is not a number'),
        ("1,nan\n3,4\n", r'line 1, column 2: "nan" is not a number'),
        ("a,b\n1,\n", r'line 2, column "b": the cell is empty'),
        ("1,2\n3\n", r"line 2 has 1 cells, the first line 2"),
        ("1,2\n3,4,5\n", r"line 2 has 3 cells, the first line 2"),
        ("a,b\n1,2,3\n4,5,6\n", r"line 2 has 3 cells, the first line 2"),
        ("a,b,c\n1,2\n3,4\n", r"line 2 has 2 cells, the first line 3"),
        ("1,2,\n3,4,\n", r"line 1, column 3: the cell is empty"),
        ("a;b\n1;2\n", r'line 2, column "a;b": "1;2" is not a number'),
        ("1_000,2\n3,4\n", r"x.csv, "),
        ('1,"2\n3,4\n', r"x.csv, unexpected end of data"),
        ('1,2\n3,"4\n5,6\n', r"x.csv, .*EOF inside string"),
        ('"', r"x.csv, unexpected end of data"),
        ('""', r"holds no rows"),
        ("", "holds no rows"),
        ("\n \n", "holds no rows"),
        ("a,b\n", "holds no rows"),
        (b"\xff\xfe1\x00,\x002\x00\n\x00", "no UTF-8 text"),
        ("größe\n1\n".encode("latin-1"), "no UTF-8 text"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_column(write, text, message):
    path = write(text)
    for exact in (False, True):
        with pytest.raises(InputError, match=message) as caught:
            read_array(path, exact=exact)
        assert "x.csv" in caught.value.message
        assert caught.value.hint


def test_an_error_far_behind_the_first_block_is_found(write, monkeypatch):
    monkeypatch.setattr(csvs, "BLOCK_VALUES", 20)
    path = write("a,b\n" + "1,2\n" * 300 + "1,two\n")
    with pytest.raises(InputError, match='line 302, column "b": "two"'):
        read_array(path)
    with pytest.raises(InputError, match="line 302 has 3 cells"):
        read_array(write("a,b\n" + "1,2\n" * 300 + "1,2,3\n"))


def test_a_column_is_called_by_its_header_or_its_number(write):
    assert column_label(write("a,b\n1,2\n"), 1) == 'column "b"'
    assert column_label(write("1,2\n1,2\n"), 1) == "column 2"


CELLS = st.sampled_from(
    ["1", "-2.5", "1e5", "x", "", " ", "nan", "inf", "True", "NA", '"', '"3"', "\x00", "1e999", "٣"]
)
LINES = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=6)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80)
    | st.text(max_size=60).map(str.encode)
    | st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r", "\n\n"])).map(lambda t: t[1].join(t[0]).encode()),
    exact=st.booleans(),
)
@example(b'"', False)
@example(b"1,2\n3,4\n\x1a", True)
def test_any_bytes_are_a_table_of_numbers_or_an_input_error(write, content, exact):
    path = write(content)
    try:
        array = read_array(path, exact=exact)
    except InputError as error:
        refused = error
    else:
        refused = None
        assert array.ndim == 2
        assert array.dtype.kind in "biuf"
        assert len(array) >= 1
    if refused:
        assert "x.csv" in refused.message


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 200), byte=st.binary(max_size=3), cut=st.booleans())
def test_a_damaged_table_never_loses_or_gains_a_row_unseen(write, position, byte, cut):
    good = b"first,second\n" + b"".join(b"%d,%d.5\n" % (i, i) for i in range(20))
    position %= len(good)
    content = good[:position] if cut else good[:position] + byte + good[position + 1 :]
    path = write(content)
    try:
        rows = len(read_array(path))
    except InputError:
        return
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert rows in {sum(bool(line.strip(b" \t")) for line in lines) - k for k in (0, 1)}
