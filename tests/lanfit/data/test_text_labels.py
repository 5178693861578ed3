"""Words become integers as in scikit-learn's LabelEncoder, one numbering for all files; numbers stay as they are."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import LabelEncoder

from lanfit.data import text_labels
from lanfit.data.files import open_file, read_labels
from lanfit.data.tables import is_number
from lanfit.data.text_labels import labels_of_array, labels_of_texts, unite
from lanfit.errors import InputError

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
    lambda word: not is_number(word) and word.lower() not in ("true", "false")
)


@given(words=st.lists(WORDS, min_size=1, max_size=30), cut=st.integers(0, 30))
def test_words_are_numbered_as_by_scikit_learn_also_over_several_files(words, cut):
    files = [np.array(part) for part in (words[:cut], words[cut:]) if part]
    arrays, names = unite([labels_of_array(f"y{n}", part) for n, part in enumerate(files)])
    encoder = LabelEncoder().fit(words)
    assert names == tuple(encoder.classes_)
    np.testing.assert_array_equal(np.concatenate(arrays), encoder.transform(words))
    assert all(array.dtype == np.int32 for array in arrays)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, min_size=2, max_size=20))
def test_csv_and_npz_give_the_same_labels(tmp_path, words):
    words = [word for word in words if not set(word) & set('",;\t\ufeff')] or ["a", "b"]
    np.savez(tmp_path / "y.npz", np.array(words))
    (tmp_path / "y.csv").write_text("the header\n" + "\n".join(words) + "\n", encoding="utf-8")
    npz, csv = read_labels(tmp_path / "y.npz"), read_labels(tmp_path / "y.csv")
    assert npz.words == csv.words
    np.testing.assert_array_equal(npz.values, csv.values.ravel())


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["3", "10", "2"], np.array([3, 10, 2])),
        (["3", " 10", "2.5"], np.array([3, 10, 2.5])),
        (["1e3", "7"], np.array([1000.0, 7])),
        ([str(2**53 + 1), "0"], np.array([2**53 + 1, 0])),
        (["9" * 30, "0"], np.array([1e30, 0])),
        (["9" * 150 + "e999", "0"], np.array([np.inf, 0])),
        (["True", "FALSE"], np.array([True, False])),
    ],
)
def test_text_that_reads_as_numbers_is_numbers(cells, values):
    labels = labels_of_array("y", np.array(cells))
    assert labels.words is None
    assert labels.values.dtype == values.dtype
    np.testing.assert_array_equal(labels.values, values)


def test_a_file_of_labels_needs_no_header_when_its_first_word_comes_again(tmp_path):
    path = tmp_path / "y.csv"
    path.write_text("dog\ncat\ndog\n")
    labels = read_labels(path)
    assert (labels.values.ravel().tolist(), labels.words) == ([1, 0, 1], ("cat", "dog"))
    assert labels.notes == ("the first line is read as a label, not as a header",)
    path.write_text("kind\ndog\ncat\n")
    labels = read_labels(path)
    assert (labels.values.ravel().tolist(), labels.words, labels.notes) == ([1, 0], ("cat", "dog"), ())


def test_blanks_around_labels_are_left_out_and_that_is_reported(tmp_path):
    (tmp_path / "y.csv").write_text("kind\n cat\ndog \ncat\n")
    labels = read_labels(tmp_path / "y.csv")
    assert (labels.values.ravel().tolist(), labels.words) == ([0, 1, 0], ("cat", "dog"))
    assert labels.notes == ("spaces around labels are removed",)


def test_labels_in_several_columns_keep_their_places(tmp_path):
    (tmp_path / "y.csv").write_text("a;b\nx;y\ny;y\n")
    labels = read_labels(tmp_path / "y.csv")
    assert (labels.values.tolist(), labels.words) == ([[0, 1], [1, 1]], ("x", "y"))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["cat", "dog", "3"], r'y, row 3: "3" is a number, but "cat" \(row 1\) is not'),
        (["1", "2", "2", "?"], r'y, row 4: "\?" marks a missing value among numeric labels'),
        (["cat", "nan"], r'y, row 2: "nan" is a number'),
        (["cat", " "], r"y, row 2: the label is empty"),
        (["cat", "a\x07b"], r"y, row 2: the label .* contains invisible characters"),
    ],
)
def test_words_and_numbers_together_and_what_is_no_label_are_named_by_row(cells, message):
    with pytest.raises(InputError, match=message) as caught:
        labels_of_array("y", np.array(cells))
    assert caught.value.hint


def test_a_lone_surrogate_which_no_file_could_hold_is_refused():
    with pytest.raises(InputError, match=r"row 1: the label .* contains invisible characters"):
        labels_of_texts("y", np.array([0, 1]), ["\ud800", "a"])


def test_files_of_words_and_files_of_numbers_do_not_mix():
    words, numbers = labels_of_array("a.csv", np.array(["cat"])), labels_of_array("b.npz", np.array([7]))
    with pytest.raises(InputError, match=r"b.npz, row 1: 7 is a number, but the labels in a.csv are strings"):
        unite([words, numbers])


def test_more_labels_than_anybody_has_and_texts_are_refused(monkeypatch):
    monkeypatch.setattr(text_labels, "MAX_LABELS", 3)
    with pytest.raises(InputError, match="y has 4 different labels, more than 3"):
        labels_of_array("y", np.array(list("abcd")))
    with pytest.raises(InputError, match="the files of Y have 4 different labels"):
        unite([labels_of_array("y", np.array(list("ab"))), labels_of_array("z", np.array(list("cd")))])
    with pytest.raises(InputError, match="is longer than 200 characters"):
        labels_of_texts("y", np.array([0]), ["x" * 201])
    with pytest.raises(InputError, match="text that is too long"):
        labels_of_array("y", np.array(["x" * 201]))


def test_text_is_no_input_and_objects_are_no_labels(tmp_path):
    np.savez(tmp_path / "x.npz", np.array(["a", "b"]))
    with pytest.raises(InputError, match="not plain numbers"):
        open_file(tmp_path / "x.npz")
    for array in (np.array([b"a"]), np.array([1j]), np.array(["2020-01-01"], "datetime64[D]")):
        np.savez(tmp_path / "x.npz", array)
        with pytest.raises(InputError, match=r"x.npz contains values of type"):
            read_labels(tmp_path / "x.npz")


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=24, max_size=24), big=st.booleans())
def test_any_bytes_of_a_text_array_are_labels_or_an_input_error(tmp_path, data, big):
    np.savez(tmp_path / "y.npz", np.frombuffer(data, ">U2" if big else "<U2"))
    try:
        labels = read_labels(tmp_path / "y.npz")
    except InputError as error:
        refused = error
    else:
        assert len(labels) == 3
        return
    assert "y.npz" in refused.message


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.lists(st.sampled_from(["a", "b", " a", "1", "2.5", "", '"', "a,b", "x;y", "\x00", "nan"]), max_size=8).map(
        lambda lines: "\n".join(lines).encode()
    )
)
def test_any_file_is_labels_or_an_input_error(tmp_path, content):
    (tmp_path / "y.csv").write_bytes(content)
    try:
        labels = read_labels(tmp_path / "y.csv")
    except InputError as error:
        refused = error
    else:
        assert labels.values.ndim == 2
        assert labels.words is None or labels.values.max() < len(labels.words)
        return
    assert "y.csv" in refused.message


def test_a_mark_for_missing_among_labels_is_named_or_said():
    for mark in ("?", "NA", "-", "null"):
        with pytest.raises(InputError, match=r"row 2: .* marks a missing value among numeric labels") as caught:
            labels_of_array("y", np.array(["1", mark, "2"]))
        assert caught.value.code == "labels.missing"
    labels = labels_of_array("y", np.array(["+", "-", "+"]))
    assert labels.words == ("+", "-")
    assert labels.notes == ('"-" is used as a label; if it marks a missing value, remove those rows',)
    assert labels_of_array("y", np.array(["cat", "dog"])).notes == ()
