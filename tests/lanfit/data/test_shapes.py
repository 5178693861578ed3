"""Rows are reshaped only when the number of values fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.data.shapes import fit_row, permuted, shown


@pytest.mark.parametrize(
    ("row", "wanted", "fitted"),
    [
        ((64,), (64,), (64,)),
        ((64,), (8, 8, 1), (8, 8, 1)),
        ((28, 28), (784,), (784,)),
        ((28, 28), (28, 28, 1), (28, 28, 1)),
        ((), (1,), (1,)),
        ((5, 3), (None, 3), (5, 3)),
        ((5, 3), (None, None), (5, 3)),
        ((784,), (None, 28), (28, 28)),
        ((64,), (None, 1), (64, 1)),
        ((63,), (8, 8, 1), None),
        ((65,), (None, 4), None),
        ((64,), (None, None, 1), None),
        ((5, 3), (3, 5, 2), None),
        ((28, 28, 1), (28, 28), (28, 28)),
        ((1, 28, 28), (28, 28, 1), (28, 28, 1)),
        ((28, 28), (None, None, 1), (28, 28, 1)),
        ((1, 784), (28, 28), (28, 28)),
        ((28, 28), (784, 1), (784, 1)),
        ((28, 28), (None,), (784,)),
        ((3, 32, 32), (3072,), (3072,)),
        ((3, 32, 32), (32, 32, 3), None),
        ((6, 100), (100, 6), None),
        ((6, 100), (None, 6), None),
        ((6, 4), (4, None), None),
        ((4, 6), (8, 3), None),
        ((10, 28, 28), (10, 784), None),
    ],
)
def test_a_row_fits_or_does_not(row, wanted, fitted):
    assert fit_row(row, wanted) == fitted


@given(
    row=st.lists(st.integers(1, 6), max_size=4).map(tuple),
    wanted=st.lists(st.none() | st.integers(1, 6), max_size=4).map(tuple),
)
def test_what_fits_can_be_reshaped_and_agrees_with_the_model(row, wanted):
    fitted = fit_row(row, wanted)
    if fitted is None:
        assert row != wanted
        return
    assert np.zeros(row).reshape(fitted).shape == fitted
    assert len(fitted) == len(wanted)
    assert all(w is None or n == w for n, w in zip(fitted, wanted, strict=True))
    kept, flat = ([n for n in shape if n != 1] for shape in (row, fitted))
    assert kept == flat or min(len(kept), len(flat)) <= 1, "values have other neighbours than before"


def test_shapes_are_shown_as_people_write_them():
    assert [shown(shape) for shape in [(8, 8, 1), (None, 3), (64,), ()]] == ["8×8×1", "?×3", "64", "1"]


@pytest.mark.parametrize(
    ("row", "wanted", "line"),
    [
        ((3, 32, 32), (32, 32, 3), "x = x.transpose(0, 2, 3, 1)"),
        ((32, 32, 3), (3, 32, 32), "x = x.transpose(0, 3, 1, 2)"),
        ((6, 100), (100, 6), "x = x.transpose(0, 2, 1)"),
        ((6, 100), (None, 6), "x = x.transpose(0, 2, 1)"),
        ((6, 100), (100, 6, 1), "x = x.transpose(0, 2, 1)"),
        ((3, 32, 32, 1), (32, 32, 3), "x = x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)"),
        ((2, 1, 3), (3, 2, 1), "x = x.transpose(0, 3, 1, 2)"),
    ],
)
def test_the_line_for_another_order_of_sizes_gives_rows_that_fit(row, wanted, line):
    assert fit_row(row, wanted) is None
    error = permuted("x.npz", row, wanted, "x")
    assert error.code == "rows.permuted"
    assert f"`{line}`" in error.hint
    x = np.arange(2 * np.prod(row)).reshape(2, *row)
    names = {"x": x}
    exec(line, names)  # noqa: S102  (the advice is followed)
    assert fit_row(names["x"].shape[1:], wanted) is not None
    assert sorted(names["x"].ravel()) == sorted(x.ravel())


@pytest.mark.parametrize(("row", "wanted"), [((4, 6), (8, 3)), ((24,), (5, 5)), ((2, 3, 4), (6, 4)), ((), (2,))])
def test_other_sizes_are_no_other_order(row, wanted):
    assert permuted("x.npz", row, wanted, "x") is None
