import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lanfit.errors import LocalProtocolError, RemoteProtocolError
from lanfit.wire.arrays import (
    ALIGNMENT,
    DTYPES,
    ArraySpec,
    Digest,
    block_of,
    block_size,
    buffers,
    check_specs,
    offsets,
    views,
)

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.sampled_from(sorted(DTYPES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    ),
    max_size=5,
)


@given(ARRAYS)
def test_arrays_come_out_of_their_block_as_they_went_in(arrays: dict[str, np.ndarray]) -> None:
    spec = block_of(arrays)
    block = bytearray(b"".join(buffers(arrays)))
    assert len(block) == block_size(spec.arrays)
    assert spec.id == hashlib.sha256(block).hexdigest()
    for name, array in views(memoryview(block), spec.arrays).items():
        assert array.dtype == arrays[name].dtype
        assert array.shape == arrays[name].shape
        assert array.tobytes() == arrays[name].tobytes()
        assert array.flags.writeable
    check_specs(spec.arrays, limit=len(block))


@given(ARRAYS, ARRAYS)
def test_a_digest_continues_to_that_of_a_longer_block(
    first: dict[str, np.ndarray], more: dict[str, np.ndarray]
) -> None:
    more = {f"after {name}": array for name, array in more.items()}
    begun = Digest(first)
    assert Digest(more, begun).id == block_of({**first, **more}).id
    assert block_of(first, begun) == block_of(first), "it was not changed by going on"


def test_every_array_begins_at_a_multiple_of_64() -> None:
    specs = [ArraySpec("a", "uint8", (3,)), ArraySpec("b", "float64", (8,)), ArraySpec("c", "float32", (17,))]
    assert offsets(specs) == ([0, ALIGNMENT, 2 * ALIGNMENT], 4 * ALIGNMENT)


def test_large_arrays_are_not_copied_into_chunks() -> None:
    array = np.arange(1000.0)
    first = next(buffers({"a": array}))
    assert np.shares_memory(np.frombuffer(first), array)


@pytest.mark.parametrize(
    ("specs", "complaint"),
    [
        ([ArraySpec("a", "object", (1,))], "dtype 'object'"),
        ([ArraySpec("a", "no dtype", (1,))], "dtype 'no dtype'"),
        ([ArraySpec("a", "float32", (-1,))], "impossible shape"),
        ([ArraySpec("a", "float32", (1,) * 17)], "impossible shape"),
        ([ArraySpec("a", "float32", (1,)), ArraySpec("a", "float32", (1,))], "two arrays"),
        ([ArraySpec("a", "float32", (2**40, 2**40))], "bytes was announced"),
        ([ArraySpec("a", "uint8", (65,))], "128 bytes was announced; at most 100"),
    ],
)
def test_a_table_that_may_not_be_is_refused_before_anything_is_allocated(
    specs: list[ArraySpec], complaint: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        check_specs(specs, limit=100)


def test_a_block_that_is_too_short_has_no_views() -> None:
    with pytest.raises(LocalProtocolError, match="too short"):
        views(memoryview(bytes(10)), [ArraySpec("a", "uint8", (20,))])
