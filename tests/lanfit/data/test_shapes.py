"""Rows are reshaped only when the number of values fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.data.shapes import fit_row, shown


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


def test_shapes_are_shown_as_people_write_them():
    assert [shown(shape) for shape in [(8, 8, 1), (None, 3), (64,), ()]] == ["8×8×1", "?×3", "64", "1"]
