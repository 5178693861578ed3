"""Signs in numbers, encodings and separators of text files: what can be read in two ways is refused, or it is said."""

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lanfit.data.files import open_file, read_labels
from lanfit.data.tables import Signs, is_number, thousands_groups, to_number
from lanfit.errors import InputError

QUIET = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def write(tmp_path):
    def write(text, name="x.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def rows(path, **named):
    return open_file(path, signs=Signs.named(named.get("decimal"), named.get("thousands"))).read_all().tolist()


PRICES = ['price\n"1,200"\n950\n"12,500"\n', "price\n1,200\n950\n12,500\n"]


@pytest.mark.parametrize("text", PRICES)
def test_one_column_with_thousands_separators_is_refused_with_both_readings(write, text):
    path = write(text)
    with pytest.raises(InputError, match=r'line 2, column "price": "1,200" can be 1.2 or 1200') as caught:
        open_file(path)
    assert caught.value.code == "csv.ambiguous"
    with pytest.raises(InputError, match=r"can be 1\.2 or 1200"):
        read_labels(path)
    hint = caught.value.hint
    for flag, expected in (("thousands", [[1200], [950], [12500]]), ("decimal", [[1.2], [950], [12.5]])):
        assert f"--{flag} comma" in hint
        np.testing.assert_allclose(rows(path, **{flag: "comma"}), expected, rtol=1e-6)
    assert read_labels(path, signs=Signs.named(None, "comma")).values.ravel().tolist() == [1200, 950, 12500]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b\n1;1,234\n5;950\n", r'line 2, column "b": "1,234" can be 1.234 or 1234'),
        ("a;b\n1;1,234\n5;2,345\n", r'line 2, column "b": "1,234" can be 1.234 or 1234'),
        ("a\tb\n1\t-1,234\n", r'"-1,234" can be -1.234 or -1234'),
        ("a;b\n1;1.234\n5;950\n", r'line 2, column "b": "1.234" can be 1.234 or 1234'),
        ("price\n1.200\n950\n", r'"1.200" can be 1.2 or 1200'),
        ("a\n5\n1,200,000\n", r'line 3, column "a": "1,200,000" has thousands separators'),
        ("a;b\n1.234,5;3\n7;9\n", r'"1.234,5" has thousands separators'),
        ('a,b\n"1,200",3\n5,950\n', r'line 2, column "a": "1,200" can be 1.2 or 1200'),
        ("1 200\n2 300\n", r'"1 200" has thousands separators'),
    ],
)
def test_what_may_separate_thousands_is_refused_and_the_advice_works(write, text, message):
    path = write(text)
    with pytest.raises(InputError, match=message) as caught:
        open_file(path).read_all()
    flag = caught.value.hint.partition("--thousands ")[2].split()[0].rstrip(",.")
    read = np.array(rows(path, thousands=flag))
    assert (np.abs(read) >= 1).all()
    assert np.abs(read).max() >= 950


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price\n1,200\n950\n12,5\n", [[1.2], [950], [12.5]]),
        ("price\n0,123\n0,456\n", [[0.123], [0.456]]),
        ("price\n1,200\n1234,567\n", [[1.2], [1234.567]]),
        ("a;b\n1;1.234\n5;950.5\n", [[1, 1.234], [5, 950.5]]),
        ("a;b\n1;1.234\n5;9.500\n", [[1, 1.234], [5, 9.5]]),
        ("a,b\n1,1.234\n5,950\n", [[1, 1.234], [5, 950]]),
        ("price\n-1,2\n1,200\n", [[-1.2], [1.2]]),
    ],
)
def test_one_number_that_can_be_read_in_one_way_only_settles_its_file(write, text, expected):
    np.testing.assert_allclose(rows(write(text)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "named", "expected"),
    [
        ("a;b\n1.234,5;3\n1.000;9\n", {"decimal": "comma", "thousands": "point"}, [[1234.5, 3], [1000, 9]]),
        ('a,b\n"1,5",3\n5,"9,50"\n', {"decimal": "comma"}, [[1.5, 3], [5, 9.5]]),
        ("1,5\n2,5\n", {"decimal": "comma"}, [[1.5], [2.5]]),
        ("1,500\n2,500\n", {"thousands": "comma"}, [[1500], [2500]]),
        ("a\n1 200\n3 400,5\n", {"thousands": "space", "decimal": "comma"}, [[1200], [3400.5]]),
        ("a\n1\u00a0200\n3\u202f400\n", {"thousands": "space"}, [[1200], [3400]]),
        ("a\n1,200\n950\n", {"thousands": "none"}, [[1.2], [950]]),
        ("a;b\n1.200;1\n950;2\n", {"decimal": "point"}, [[1.2, 1], [950, 2]]),
        ("a,b\n1,2\n3,4\n", {"decimal": "comma"}, [[1, 2], [3, 4]]),
        ("a\n1,234,567.25\n-1,000\n", {"thousands": "comma"}, [[1234567.25], [-1000]]),
    ],
)
def test_numbers_are_read_as_it_was_said(write, text, named, expected):
    np.testing.assert_allclose(rows(write(text), **named), expected, rtol=1e-6)


@pytest.mark.parametrize("cell", ["1,23", "1,,234", "1,2345", "12,34", ",234", "1,234,56", "1.5,000"])
def test_a_thousands_separator_in_a_wrong_place_is_no_number(write, cell):
    """pandas takes them out wherever they stand."""
    assert not is_number(cell, ".", ",")
    with pytest.raises(InputError, match="line 2"):
        rows(write(f'a,b\n"{cell}",2\n'), thousands="comma")


@given(value=st.integers(-(10**12), 10**12), places=st.integers(0, 4), pair=st.sampled_from([",.", ".,", " ,", " ."]))
def test_numbers_that_python_groups_come_back(value, places, pair):
    thousands, decimal = pair
    number = round(value / 10**places, places)
    text = f"{number:,.{places}f}".translate(str.maketrans({",": thousands, ".": decimal}))
    assert is_number(text, decimal, thousands)
    assert to_number(text, decimal, thousands) == number
    if abs(number) >= 1e6:
        assert thousands_groups(text) == thousands


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(
    table=st.lists(st.tuples(*[st.integers(-(10**7), 10**7)] * 2), min_size=1, max_size=8),
    places=st.integers(0, 4),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    decimal=st.sampled_from([".", ","]),
)
@example([(1234, 2000), (5678, 3)], 3, ";", ",")
def test_what_pandas_writes_is_read_as_it_was_written_or_refused(write, table, places, separator, decimal):
    """No table of numbers gives other numbers, whatever its signs are, without a flag that says so."""
    if separator == decimal:
        return
    values = np.array(table, np.float64) / 10**places
    frame = pandas.DataFrame(values, columns=["a", "b"])
    text = frame.to_csv(index=False, sep=separator, decimal=decimal, float_format=f"%.{places}f")
    path, refused = write(text), ""
    try:
        read = open_file(path).read_all()
    except InputError as error:
        refused = error.code
    if refused:
        assert refused == "csv.ambiguous"
        read = open_file(path, signs=Signs(decimal)).read_all()
    np.testing.assert_array_equal(read, values.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ("sep=;\r\na;b\r\n1;2\r\n3;4\r\n", ("read with semicolons between the cells",)),
        ('"sep=;"\na;b\n1;2\n3;4\n', ("read with semicolons between the cells",)),
        ("\ufeffsep=,\na,b\n1,2\n3,4\n", ()),
        ("SEP=\t\n1\t2\n3\t4\n", ("read with tabs between the cells",)),
        ("a,b\n1,2\n3,4\n".encode("utf-16"), ("read as UTF-16",)),
        (b"\xfe\xff" + "a,b\r\n1,2\r\n3,4".encode("utf-16-be"), ("read as UTF-16",)),
        ("größe,b\n1,2\n3,4\n".encode("cp1252"), ("read as Windows-1252, as it is not valid UTF-8",)),
        ("a b\n1 2\n3   4\n", ("read with blanks between the cells",)),
        (" 1 2\n3 4 \n", ("read with blanks between the cells",)),
        ("a|b\n1|2\n3|4\n", ("read with bars between the cells",)),
    ],
)
def test_other_encodings_and_separators_are_read_and_reported(write, content, notes):
    chunk = open_file(write(content))
    np.testing.assert_array_equal(chunk.read_all(), [[1, 2], [3, 4]])
    assert chunk.notes == notes
    labels = read_labels(write(content))
    assert labels.values.tolist() == [[1, 2], [3, 4]]


def test_the_line_is_named_below_a_line_that_names_the_separator(write):
    with pytest.raises(InputError, match='line 4, column "b": "x" is not a number'):
        open_file(write("sep=;\na;b\n1;2\n3;x\n")).read_all()


def test_a_letter_far_behind_the_first_lines_makes_a_file_windows_1252(write):
    path = write(b"kind\n" + b"cat\n" * 500_000 + "größe\n".encode("cp1252"))
    labels = read_labels(path)
    assert labels.words == ("cat", "größe")
    assert labels.notes == ("read as Windows-1252, as it is not valid UTF-8",)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(
    words=st.lists(st.text(st.characters(codec="cp1252", categories=["Ll", "Lu"]), min_size=1, max_size=5), min_size=2),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]),
)
def test_words_are_the_same_in_every_encoding(write, words, encoding):
    words = [f"x{word}" for word in words]
    path = write(("the header\n" + "\n".join(words) + "\n").encode(encoding))
    labels = read_labels(path)
    if encoding == "cp1252" and "UTF-8" not in str(labels.notes):
        return  # its bytes are UTF-8, too
    assert [labels.words[code] for code in labels.values.ravel()] == words


def test_numpy_text_files_are_read(write, tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(tmp_path / "x.csv", x)
    np.testing.assert_array_equal(open_file(tmp_path / "x.csv").read_all(), x.astype(np.float32))


@pytest.mark.parametrize("mark", ["?", "-", ".", "*", "--", "NA", "null", "#N/A"])
def test_a_first_row_with_a_mark_for_missing_is_data_and_the_mark_is_named(write, mark):
    with pytest.raises(InputError, match=r"line 1, column 2: .* marks a missing value") as caught:
        open_file(write(f"63,{mark},145\n67,1,160\n37,1,130\n")).read_all()
    assert caught.value.code == "csv.missing"


def test_what_is_refused_for_its_signs_has_a_code(write):
    for text, code in (("a\n5\n1,200,000\n", "csv.thousands"), ("a\n5\n1,200\n", "csv.ambiguous")):
        with pytest.raises(InputError) as caught:
            open_file(write(text))
        assert caught.value.code == code
