"""csv files of numbers are read as they are meant; anything else is an error that names file, line and column."""

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lanfit.data import compressed, csvs, layout
from lanfit.data.files import open_file, read_labels
from lanfit.data.layout import MOST_COLUMNS
from lanfit.errors import InputError
from lanfit_server.prepare_data.text_tables import read_text_table


def read_array(path, *, exact=False):
    return read_labels(path).values if exact else open_file(path).read_all()


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
    assert open_file(path).shape == (2, 2)


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


def outcome(path):
    """The rows, or what is told instead."""
    try:
        return open_file(path).read_all().tolist()
    except InputError as error:
        return error.message


PLAIN_LINES = st.sampled_from(["1,2", "3.5,-4e2", "1e39,0", "", " ", "\t", "1,x", "1", "1,2,3", '"5",6'])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(PLAIN_LINES, max_size=12),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    size=st.integers(1, 40),
    cores=st.sampled_from([1, 2, 3]),
)
@example(["1,2", "", "", "", "3,4"], "\n", 4, 2)
@example(['"5', '6",7', "1,2"], "\n", 3, 2)
def test_a_file_cut_into_chunks_is_read_as_one_that_is_not(write, lines, end, size, cores):
    path = write("first,second\n1,2\n" + end.join(lines))
    whole = outcome(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csvs, "CHUNK_BYTES", size)
        patch.setattr(csvs, "CORES", cores)
        patch.setattr(csvs, "BLOCK_VALUES", 4)
        assert outcome(path) == whole


@pytest.mark.parametrize(
    ("text", "plain"), [("1,2\n3,4\n", True), ("1,2\r\n3,4\r\n", True), ('1,2\n"3",4\n', False), ("1,2\r3,4\r", False)]
)
def test_only_a_plain_file_is_cut_where_a_line_ends(write, text, plain):
    assert layout.find_layout(write(text)).plain is plain


BROKEN = [
    ("a,b\n1,\n", r'line 2, column "b": the cell is empty'),
    ("1,2\n3\n", r"line 2 has 1 cell, but the first line has 2"),
    ("1,2\n3,4,5\n", r"line 2 has 3 cells, but the first line has 2"),
    ("a,b\n1,2,3\n4,5,6\n", r"line 2 has 3 cells, but the first line has 2"),
    ("a,b,c\n1,2\n3,4\n", r"line 2 has 2 cells, but the first line has 3"),
    ("1,2,\n3,4,\n", r"line 1, column 3: the cell is empty"),
    ('1,"2\n3,4\n', r"x.csv has an unterminated or misplaced quote.*unexpected end of data"),
    ('1,2\n3,4\n3,"4\n5,6\n', r"x.csv has an unterminated or misplaced quote"),
    ('"', r"x.csv has an unterminated or misplaced quote"),
    ('""', r"contains no rows"),
    ("", "contains no rows"),
    ("\n \n", "contains no rows"),
    ("a,b\n", "contains no rows"),
    (",a\n7,1\n3,4\n", "line 1: column 1 has no name"),
    ("a,,b\n7,1,2\n", "line 1: column 2 has no name"),
    ("a,b\n1,2\n3,\0\n", "zero bytes"),
    (b"1\x00,\x002\x00\n\x00", "zero bytes"),
    (b"\xff\xfe1\x00,\x002\x00\n", "not encoded in UTF-8, UTF-16"),
    (b"gr\x81\xdfe\n1\n", "not encoded in UTF-8, UTF-16 or Windows-1252"),
    ("\ufeffgr".encode() + b"\xf6\xdfe\n1\n", "not encoded in UTF-8"),
]
NO_NUMBERS = [
    ("a,b\n1,2\n3,x\n", r'line 3, column "b": "x" is not a number'),
    ("1,2\n3,cat\n", r'line 2, column 2: "cat" is not a number'),
    ("1,2\n\n3,nan\n", r'line 3, column 2: "nan" marks a missing value'),
    ("1,nan\n3,4\n", r'line 1, column 2: "nan" marks a missing value'),
    ("1_000,2\n3,4\n", r'line 1, column 1: "1_000" is not a number'),
    ("a;b\n1.5;2\n1,5;2\n", r'line 3, column "a": "1,5" is not a number'),
    ("a;b\n1;2\n1.234,5;2\n", r'line 3, column "a": "1.234,5" has thousands separators'),
    ("a\tb\n1,5\t2\n1,5\t2.5\n", r'line 2, column "a": "1,5" is not a number'),
    ('a,b\n"1,5",2\n', r'line 2, column "a": "1,5" is not a number'),
    ("12.03.2020,1\n13.03.2020,2\n", r'line 1, column 1: "12.03.2020" is not a number'),
]


@pytest.mark.parametrize(("text", "message"), BROKEN + NO_NUMBERS)
def test_what_is_wrong_is_named_with_line_and_column(write, text, message):
    path = write(text)
    with pytest.raises(InputError, match=message) as caught:
        read_array(path)
    assert "x.csv" in caught.value.message
    assert caught.value.hint


def test_what_nobody_has_thought_of_is_reported_in_the_words_of_pandas(write, monkeypatch):
    import pandas

    def refuse(*_, **__):
        raise pandas.errors.ParserError("the moon is in the wrong quarter")

    monkeypatch.setattr(pandas, "read_csv", refuse)
    with pytest.raises(
        InputError, match=r"x.csv can't be read as a csv file: the moon is in the wrong quarter"
    ) as caught:
        read_array(write("1,2\n3,4\n"))
    assert caught.value.code == "csv.unreadable"


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_file_of_labels_that_is_broken_is_named_in_the_same_words(write, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_array(write(text), exact=True)
    assert "x.csv" in caught.value.message


def test_an_error_far_behind_the_first_block_is_found(write, monkeypatch):
    monkeypatch.setattr(csvs, "BLOCK_VALUES", 20)
    monkeypatch.setattr(csvs, "CHUNK_BYTES", 20)
    path = write("a,b\n" + "1,2\n" * 300 + "1,two\n")
    with pytest.raises(InputError, match='line 302, column "b": "two"'):
        read_array(path)
    with pytest.raises(InputError, match="line 302 has 3 cells"):
        read_array(write("a,b\n" + "1,2\n" * 300 + "1,2,3\n"))


def test_a_column_is_called_by_its_header_or_its_number(write):
    assert open_file(write("a,b\n1,2\n")).column(1) == 'column "b"'
    assert open_file(write("1,2\n1,2\n")).column(1) == "column 2"


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


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("1.5,2\n3,4\n", ()),
        ("a;b\n1.5;2\n3;4\n", ("read with semicolons between the cells",)),
        ("a\tb\n1.5\t2\n3\t4\n", ("read with tabs between the cells",)),
        ("a;b\n1,5;2\n3;4\n", ("read with semicolons between the cells and decimal commas",)),
        ("1,5;2\r\n3;4\r\n", ("read with semicolons between the cells and decimal commas",)),
        ("1,5\t2\n3\t4\n", ("read with tabs between the cells and decimal commas",)),
        ("\ufeff1,5;2\r3;4,0\r", ("read with semicolons between the cells and decimal commas",)),
        ('"a";"b"\n"1,5";"2"\n3;4\n', ("read with semicolons between the cells and decimal commas",)),
        ('"a;b","c"\n1.5,2\n3,4\n', ()),
        ('"a;x","c;y"\n1.5,2\n3,4\n', ()),
        ('"a, b";"c"\n1.5;2\n3;4\n', ("read with semicolons between the cells",)),
        ('" a ", b\n "1.5" ,2\n3,4\n', ()),
    ],
)
def test_separators_and_decimal_signs_are_found_and_what_is_unusual_is_reported(write, text, notes):
    if text.startswith('" a "'):  # quotes inside a cell are no quotes
        with pytest.raises(InputError, match="is not a number"):
            read_array(write(text))
        return
    chunk = open_file(write(text))
    np.testing.assert_array_equal(chunk.read_all(), [[1.5, 2], [3, 4]])
    assert chunk.notes == notes


@pytest.mark.parametrize("text", ["price\n12,5\n13,75\n", "price\n12,5\n13,75", "\n\nprice\r\n12,5\r\n\r\n13,75\r\n"])
def test_one_column_has_decimal_commas_where_a_comma_can_not_separate(write, text):
    chunk = open_file(write(text))
    assert chunk.read_all().tolist() == [[12.5], [13.75]]
    assert chunk.notes == ("read with decimal commas",)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_pandas_writes_is_read_to_the_bit(write, separator, decimal, header, end):
    if separator == decimal:
        return
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    frame = pandas.DataFrame(x.astype(np.float64), columns=["a", "b b", "ç"])
    text = frame.to_csv(sep=separator, decimal=decimal, header=header, index=False, lineterminator=end)
    for mark in ("", "\ufeff"):
        np.testing.assert_array_equal(read_array(write(mark + text)), x)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\r\n \r\n", "\n\t\n"])
def test_lines_are_counted_alike_wherever_the_blocks_end(write, monkeypatch, chunk, end):
    monkeypatch.setattr(layout, "CHUNK", chunk)
    path = write(end.join(["a,b", *["1,2"] * 9]))
    assert open_file(path).shape == (9, 2)
    assert read_array(path).tolist() == [[1, 2]] * 9


def test_a_line_without_end_is_refused_instead_of_read(write, monkeypatch):
    monkeypatch.setattr(layout, "MAX_LINE", 1000)
    monkeypatch.setattr(layout, "CHUNK", 500)
    for text in ("1," * 2000, "1,2\n" + "3," * 2000, "1,2\n3,4\n" + "5" * 5000 + ",6\n"):
        with pytest.raises(InputError, match=r"has a line longer than 1.0 kB"):
            read_array(write(text))


PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": lambda data, *more: zipped([("data.csv", data), *more]),
}


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize("ending", PACK)
def test_packed_files_are_read_like_any_other(write, ending):
    x = np.random.default_rng(0).normal(size=(9000, 5)).astype(np.float32)
    text = "\ufeff" + pandas.DataFrame(x.astype(float), columns=list("abcde")).to_csv(index=False, sep=";", decimal=",")
    path = write(PACK[ending](text.encode()), f"x.csv{ending.upper()}")
    chunk = open_file(path)
    np.testing.assert_array_equal(chunk.read_all(), x)
    assert chunk.column(1) == 'column "b"'
    labels = read_labels(write(PACK[ending](b"kind\ncat\ndog\ncat\n"), f"x.csv{ending}"))
    assert (labels.values.ravel().tolist(), labels.words) == ([0, 1, 0], ("cat", "dog"))


def test_errors_in_packed_files_name_the_line(write):
    with pytest.raises(InputError, match=r'x.csv.xz, line 3, column "b": "x" is not a number'):
        read_array(write(lzma.compress(b"a,b\n1,2\n3,x\n"), "x.csv.xz"))


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_file_that_is_damaged_is_named(write, ending):
    good = PACK[ending](b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(500)))
    for data in (good[: len(good) // 2], b"hello", bytes(30)):
        with pytest.raises(InputError, match=rf"x.csv\{ending} can't be read") as caught:
            read_array(write(data, f"x.csv{ending}"))
        assert "damaged or truncated" in caught.value.hint


def test_a_packed_file_that_grows_without_end_is_refused(write, monkeypatch):
    monkeypatch.setattr(compressed, "ALLOWANCE", 1 << 20)
    with pytest.raises(InputError, match=r"x.csv.xz \(.*\) unpacks to more than 1,000 times its size") as caught:
        open_file(write(lzma.compress(b"0,0\n" * (2 << 20)), "x.csv.xz"))
    assert "unpack it yourself" in caught.value.hint


def test_a_zip_has_one_file_besides_what_macos_adds(write):
    more = [("__MACOSX/._data.csv", b"x"), (".DS_Store", b"x"), ("folder/", b"")]
    assert read_array(write(PACK[".zip"](b"1,2\n", *more), "x.csv.zip")).tolist() == [[1, 2]]
    with pytest.raises(InputError, match=r"x.csv.zip contains 2 files"):
        read_array(write(PACK[".zip"](b"1,2\n", ("more.csv", b"1")), "x.csv.zip"))
    with pytest.raises(InputError, match=r"x.csv.zip contains 0 files"):
        read_array(write(zipped([]), "x.csv.zip"))


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ending=st.sampled_from(sorted(PACK)),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 2000),
)
def test_a_damaged_packed_file_is_refused_or_still_a_table(write, ending, edits, cut):
    data = bytearray(PACK[ending](b"a,b\n" + b"".join(b"%d,%d\n" % (i, i) for i in range(40))))
    for position, new in edits:
        position %= len(data)
        data[position : position + len(new)] = new
    path = write(bytes(data[: cut % len(data)] if cut else data), f"x.csv{ending}")
    try:
        assert read_array(path).shape[1] >= 1
    except InputError as error:
        refused = error
    else:
        return
    assert "x.csv" in refused.message


def test_a_blank_label_is_named_by_its_row_also_where_it_looks_like_a_blank_line(write):
    with pytest.raises(InputError, match=r"x.csv, row 2: the label is empty") as caught:
        csvs.read_csv_labels(write('label\ncat\n" "\ndog\n'))
    assert caught.value.code == "labels.empty"


def test_an_empty_label_in_a_later_chunk_is_named_by_its_row(write, monkeypatch):
    monkeypatch.setattr(csvs, "CHUNK_BYTES", 8)
    with pytest.raises(InputError, match=r"x.csv, line 5, column \"label\": the cell is empty"):
        csvs.read_csv_labels(write("label,n\n" + "cat,1\n" * 3 + " ,2\ndog,1\n"))
    monkeypatch.setattr(csvs, "_cause", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"x.csv, row 4: the label is empty"):
        csvs.read_csv_labels(write("label,n\n" + "cat,1\n" * 3 + " ,2\ndog,1\n"))


@pytest.mark.parametrize("read", [open_file, read_labels, read_text_table])
def test_a_million_columns_are_refused_by_the_first_line(read, tmp_path, monkeypatch):
    """Before, it took a minute until anything was said."""
    path = tmp_path / "x.csv"
    path.write_text(",".join("1" for _ in range(MOST_COLUMNS + 1)) + "\n")
    monkeypatch.setattr("lanfit.data.layout._count", lambda *arguments: pytest.fail("more than its head was read"))
    with pytest.raises(InputError) as wrong:
        read(path)
    assert wrong.value.code == "csv.many-columns"
    assert f"line 1 has {MOST_COLUMNS + 1:,} cells" in wrong.value.message
