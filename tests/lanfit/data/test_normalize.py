"""Normalizers equal scikit-learn's scalers, whatever the chunks and the parts they were computed from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

import lanfit.data.normalize as normalize
from lanfit.data.normalize import NORMALIZERS, Moments, fit_normalizer
from lanfit.errors import InputError

SCALERS = {"scale": MaxAbsScaler, "minmax": MinMaxScaler, "zscore": StandardScaler}
# Steps of 1/8: spreads far below the magnitude are a matter of rounding, on which no two programs agree.
VALUES = st.integers(-80_000, 80_000).map(lambda n: n / 8)
TABLES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=VALUES)


@settings(max_examples=200)
@given(x=TABLES, name=st.sampled_from(sorted(SCALERS)))
def test_columns_are_normalized_as_by_scikit_learn(x, name):
    ours = fit_normalizer(name, Moments.of(x)).apply(x)
    constant = (x == x[0]).all(axis=0)
    expected = np.where(constant, 0.0, SCALERS[name]().fit_transform(x))
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)
    assert ours.dtype == np.float32


@given(x=TABLES, name=st.sampled_from(sorted(SCALERS)))
def test_images_are_normalized_over_the_whole_array(x, name):
    images = x[:, :, None]
    ours = fit_normalizer(name, Moments.of(images)).apply(images)
    expected = SCALERS[name]().fit_transform(x.reshape(-1, 1)).reshape(images.shape)
    np.testing.assert_allclose(ours, 0 * expected if x.min() == x.max() else expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=200)
@given(x=TABLES, cuts=st.lists(st.integers(1, 11), max_size=4), chunk=st.integers(1, 40), columns=st.booleans())
def test_merged_moments_are_those_of_all_rows_together(x, cuts, chunk, columns):
    x = x if columns else x[:, :, None]
    parts = [part for part in np.split(x, sorted(cuts)) if len(part)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalize, "CHUNK_VALUES", chunk)
        merged = Moments.of(parts[0])
        for part in parts[1:]:
            merged = merged.merge(Moments.of(part))
    axis = 0 if columns else None
    assert merged.count == (len(x) if columns else x.size)
    np.testing.assert_allclose(merged.mean, x.mean(axis=axis), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged.m2 / merged.count, x.var(axis=axis), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(merged.minimum, x.min(axis=axis))
    np.testing.assert_array_equal(merged.maximum, x.max(axis=axis))


@pytest.mark.parametrize("name", sorted(SCALERS))
@pytest.mark.parametrize("value", [0.1, -7.0, 0.0, 1e-300, 1e30, 123456.789])
def test_a_constant_column_gives_zeros_also_for_rows_where_it_changes(name, value):
    x = np.column_stack([np.full(1000, value), np.arange(1000.0)])
    normalizer = fit_normalizer(name, Moments.of(x))
    assert (normalizer.apply(x)[:, 0] == 0).all()
    assert (normalizer.apply(x + 5)[:, 0] == 0).all()
    assert normalizer.multiply[0] == 0
    assert normalizer.apply(x)[:, 1].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", NORMALIZERS)
def test_every_dtype_gives_finite_float32_and_leaves_its_input_alone(dtype, name):
    x = (np.arange(60).reshape(20, 3) % 7).astype(dtype)
    before = x.copy()
    out = fit_normalizer(name, Moments.of(x)).apply(x)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(x, before)
    if name == "none":
        np.testing.assert_array_equal(out, x.astype(np.float32))
    if name == "minmax":
        assert (out.min(), out.max()) == (0, 1)


def test_pixels_stay_exact_over_many_chunks():
    x = np.random.default_rng(0).integers(0, 256, (3000, 28, 28), dtype=np.uint8)
    out = fit_normalizer("minmax", Moments.of(x)).apply(x)
    np.testing.assert_array_equal(out, (x / 255.0).astype(np.float32))


def test_constants_are_per_column_for_tables_and_single_for_images():
    assert fit_normalizer("zscore", Moments.of(np.ones((4, 3)))).subtract.shape == (3,)
    assert fit_normalizer("zscore", Moments.of(np.ones((4, 3, 2)))).subtract.shape == ()
    assert fit_normalizer("none", Moments.of(np.ones((4, 3)))).multiply.shape == ()


def test_an_unknown_normalizer_is_named_with_the_choices():
    with pytest.raises(InputError, match="robust") as caught:
        fit_normalizer("robust", Moments.of(np.ones((2, 2))))
    assert "none, scale, minmax, zscore" in caught.value.hint
    assert caught.value.code == "normalizer.unknown"
