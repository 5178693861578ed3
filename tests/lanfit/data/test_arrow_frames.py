"""Parquet and feather files are read where pyarrow is installed, and named where it is not."""

import sys

import numpy as np
import pandas as pd
import pytest

from lanfit.data.files import open_file, read_labels
from lanfit.errors import InputError

ENDINGS = ["parquet", "feather"]


@pytest.mark.parametrize("kind", ENDINGS)
def test_without_pyarrow_the_two_ways_out_are_reported(tmp_path, monkeypatch, kind):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for read in (open_file, read_labels):
        with pytest.raises(InputError, match=f"x.{kind} is a {kind} file, which requires pyarrow") as caught:
            read(path)
        assert caught.value.code == "frame.no-reader"
        assert "pip install pyarrow" in caught.value.hint
        assert f'pandas.read_{kind}("x.{kind}").to_csv("x.csv", index=False)' in caught.value.hint


@pytest.fixture(params=ENDINGS)
def save(request, tmp_path):
    pytest.importorskip("pyarrow")

    def save(frame):
        path = tmp_path / f"x.{request.param}"
        getattr(frame, f"to_{request.param}")(path)
        return path

    return save


FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, -2.25], "c": [True, False, True]})


def test_columns_of_numbers_are_read(save):
    chunk = open_file(save(FRAME))
    np.testing.assert_array_equal(chunk.read_all(), FRAME.to_numpy(np.float32))
    assert chunk.columns == ("a", "b", "c")


def test_labels_are_read_exactly(save):
    labels = read_labels(save(pd.DataFrame({"kind": ["cat", "dog", "cat"]})))
    assert (labels.values.ravel().tolist(), labels.words) == ([0, 1, 0], ("cat", "dog"))
    numbers = read_labels(save(pd.DataFrame({"n": [2**40 + 1, 0]})))
    assert numbers.values.ravel().tolist() == [2**40 + 1, 0]


def test_what_is_no_number_is_named(save):
    with pytest.raises(InputError, match=r'columns that are not numeric: "city" \(.*string\), "day"') as caught:
        open_file(save(pd.DataFrame({"a": [1], "city": ["Oslo"], "day": [pd.Timestamp("2020-01-01")]})))
    assert caught.value.code == "frame.not-numbers"
    with pytest.raises(InputError, match=r'row 2, column "a": the value is missing; the column has 2 such') as caught:
        open_file(save(pd.DataFrame({"a": pd.array([1, None, None], "Int64")})))
    assert caught.value.code == "frame.missing"


def test_what_is_no_such_file_is_refused(save):
    path = save(FRAME)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="can't be read") as caught:
        open_file(path)
    assert caught.value.code == "frame.damaged"
