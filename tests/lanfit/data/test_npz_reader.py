"""npz files with one plain array are read to the bit; nothing else gets in, whatever the bytes are."""

import ast
import io
import threading
import zipfile

import ml_dtypes
import numpy as np
import numpy.lib.recfunctions
import pytest
import scipy.sparse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lanfit.data import npz
from lanfit.data.files import open_file, read_labels
from lanfit.data.threads import in_order
from lanfit.errors import InputError


def read_array(path):
    return open_file(path).read_all()


def test_two_threads_do_not_read_headers_at_once(tmp_path, monkeypatch):
    """NumPy reads a header as a syntax tree, of which Python 3.11 makes one at a time only."""
    save(tmp_path / "a.npz", npy(np.zeros(3)))
    inside, most, entered = [], [], threading.Event()

    def literal_eval(text):
        inside.append(text)
        most.append(len(inside))
        entered.wait(0.2) if len(most) == 1 else entered.set()
        inside.pop()
        return real(text)

    real = ast.literal_eval
    monkeypatch.setattr(ast, "literal_eval", literal_eval)
    assert [chunk.shape for chunk in in_order(open_file, [tmp_path / "a.npz"] * 2)] == [(3,), (3,)]
    assert most == [1, 1]


DTYPES = ["bool", "int8", "uint8", "<i2", ">i4", "int64", "uint64", "float16", "<f4", ">f4", "float64"]


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def header(text, version=b"\x01\x00"):
    data = text.encode("latin-1")
    return b"\x93NUMPY" + version + len(data).to_bytes(2, "little") + data


def save(path, *members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for number, data in enumerate(members):
            archive.writestr(f"arr_{number}.npy", data)
    return path


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), dtype=st.sampled_from(DTYPES), compressed=st.booleans(), column_major=st.booleans())
def test_every_plain_array_comes_back_to_the_bit_in_native_order(tmp_path, data, dtype, compressed, column_major):
    array = data.draw(arrays(dtype, array_shapes(max_dims=4, max_side=5)))
    array = np.asfortranarray(array) if column_major else array
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npz, "BLOCK_BYTES", 24)
        ours = read_array(tmp_path / "x.npz")
    np.testing.assert_array_equal(ours, array)
    assert ours.dtype == array.dtype.newbyteorder("=")
    assert ours.dtype.isnative
    assert open_file(tmp_path / "x.npz").shape == array.shape


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_and_headers_are_read_too(tmp_path, compression):
    array = np.arange(10.0)
    path = save(tmp_path / "x.npz", npy(array, version=(2, 0)), compression=compression)
    np.testing.assert_array_equal(read_array(path), array)


def test_booleans_with_odd_bytes_become_0_and_1(tmp_path):
    data = npy(np.zeros(4, np.bool_))
    ours = read_array(save(tmp_path / "x.npz", data[:-4] + bytes([0, 1, 2, 255])))
    assert ours.dtype == np.bool_
    assert ours.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_an_array_that_compresses_600_to_1_is_honest(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", np.zeros((1000, 1000), np.uint8))
    assert (tmp_path / "x.npz").stat().st_size < 1_000_000 / 600
    assert not read_array(tmp_path / "x.npz").any()


def test_several_arrays_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.ones(3), labels=np.ones(3))
    with pytest.raises(InputError, match=r"x.npz contains 2 arrays: images, labels") as caught:
        read_array(tmp_path / "x.npz")
    assert "--npz-key" in caught.value.hint


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (marker.write_text, ("x",))

    np.savez(tmp_path / "x.npz", np.array([Bomb(), None], dtype=object))
    with pytest.raises(InputError, match="pickled Python objects"):
        read_array(tmp_path / "x.npz")
    assert not marker.exists()


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "b"]),
        np.array([1j]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.zeros(2, [("a", "f4"), ("b", "i4")]),
        np.array([b"x"]),
    ],
)
def test_values_that_are_no_plain_numbers_are_named_by_type(tmp_path, array):
    np.savez(tmp_path / "x.npz", array)
    with pytest.raises(InputError, match=r"not plain numbers|structured array"):
        read_array(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("array", "message", "advice"),
    [
        (np.ones(3, ml_dtypes.bfloat16), r"\|V2, as NumPy writes bfloat16", 'x.astype("float32")'),
        (np.ones(3, ml_dtypes.float8_e4m3fn), r"as NumPy writes float8|type \|V1|<f1", "astype"),
        (np.ones(3, np.longdouble), "float128|longdouble", 'x.astype("float64")'),
        (np.array([1j]), "complex128", "numpy.stack([x.real, x.imag], axis=-1)"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64", 'x.astype("int64")'),
        (np.array([b"x"]), "S1", "y.astype(str)"),
        (
            np.zeros(2, [("a", "f4"), ("b", "i4")]),
            "structured array with the fields a, b",
            "structured_to_unstructured(x)",
        ),
        (np.array([[1], [2, 3]], object), "pickled Python objects", "numpy.stack(list(x))"),
    ],
)
def test_the_advice_for_other_values_gives_plain_numbers(tmp_path, array, message, advice):
    np.savez(tmp_path / "x.npz", array)
    with pytest.raises(InputError, match=message) as caught:
        read_array(tmp_path / "x.npz")
    assert advice in caught.value.hint
    if "structured array" in message:
        assert caught.value.code == "npz.structured"
        array = np.lib.recfunctions.structured_to_unstructured(array)
    elif "longdouble" in message or "bfloat16" in message:
        array = array.astype("float32")
    else:
        return
    np.savez(tmp_path / "x.npz", array)
    assert read_array(tmp_path / "x.npz").shape == array.shape


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
def test_a_sparse_matrix_is_named_and_the_advice_works(tmp_path, kind):
    path = tmp_path / "x.npz"
    dense = np.array([[0, 2.0], [3, 0]])
    scipy.sparse.save_npz(path, scipy.sparse.coo_matrix(dense).asformat(kind))
    with pytest.raises(InputError, match=r"x.npz contains a sparse matrix") as caught:
        read_array(path)
    assert caught.value.code == "npz.sparse"
    assert 'numpy.savez("x.npz", scipy.sparse.load_npz("x.npz").toarray())' in caught.value.hint
    np.savez(path, scipy.sparse.load_npz(path).toarray())
    assert read_array(path).tolist() == dense.tolist()


@pytest.mark.parametrize("array", [np.float32(3), np.zeros((0, 4)), np.zeros((4, 0))])
def test_an_array_without_rows_is_refused_with_its_shape(tmp_path, array):
    np.savez(tmp_path / "x.npz", array)
    with pytest.raises(InputError, match=r"contains no rows: its array has shape \("):
        read_array(tmp_path / "x.npz")


def test_a_file_that_is_no_zip_or_empty_or_without_array_is_named(tmp_path):
    path = tmp_path / "x.npz"
    for content in (b"", b"hello", npy(np.ones(3))):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x.npz can't be read as an npz file"):
            read_array(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(InputError, match=r"x.npz contains no array"):
        read_array(path)


@pytest.mark.parametrize("order", [False, True])
def test_fewer_and_more_bytes_than_declared_are_refused(tmp_path, order):
    good = npy(np.asfortranarray(np.ones((6, 5))) if order else np.ones((6, 5)))
    for data, message in [(good[:-1], "1 bytes of the array are missing"), (good + b"x", "more bytes")]:
        with pytest.raises(InputError, match=message):
            read_array(save(tmp_path / "x.npz", data))


def test_a_huge_declared_array_is_refused_without_allocating(tmp_path):
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000, 1000), }\n"
    with pytest.raises(InputError, match=r"8.0 PB\), but only .* of memory is free"):
        read_array(save(tmp_path / "x.npz", header(text)))


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 5), }\n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 5), }\n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)*3, }\n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 40 + "), }\n",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (2,), }\n",
        "{'descr': '<f8', 'shape': (2,), }\n",
        "(" * 3000 + "\n",
        "__import__('os').getcwd()\n",
    ],
)
def test_a_header_with_nonsense_in_it_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"x.npz can't be read as an npz file"):
        read_array(save(tmp_path / "x.npz", header(text) + bytes(64)))


def test_a_header_of_version_3_is_refused(tmp_path):
    with pytest.raises(InputError, match="version"):
        read_array(save(tmp_path / "x.npz", header("{}", version=b"\x03\x00")))


GOOD = io.BytesIO()
np.savez_compressed(GOOD, np.arange(60, dtype=np.int16).reshape(20, 3))
STORED = io.BytesIO()
np.savez(STORED, np.arange(60, dtype=np.int16).reshape(20, 3))


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.sampled_from([GOOD.getvalue(), STORED.getvalue()]),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 2000),
)
@example(GOOD.getvalue(), [(0, b"P")], 100)
def test_a_damaged_file_is_refused_or_still_the_same_array(tmp_path, content, edits, cut):
    data = bytearray(content)
    for position, new in edits:
        position %= len(data)
        data[position : position + len(new)] = new
    path = tmp_path / "x.npz"
    path.write_bytes(data[: cut % len(data)] if cut else data)
    try:
        array = read_array(path)
    except InputError as error:
        refused = error
    else:
        refused = None
        assert array.tobytes() == np.arange(60, dtype=np.int16).tobytes()
    if refused:
        assert "x.npz" in refused.message
        assert refused.hint


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # Python's parser on a spoilt header
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 127), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4))
def test_a_damaged_array_header_in_a_sound_zip_gives_an_array_or_an_input_error(tmp_path, edits):
    data = bytearray(npy(np.arange(60, dtype=np.int16).reshape(20, 3)))
    for position, new in edits:
        data[position : position + len(new)] = new
    path = save(tmp_path / "x.npz", bytes(data), compression=zipfile.ZIP_STORED)
    try:
        array = read_array(path)
    except InputError as error:
        refused = error
    else:
        refused = None
        assert array.dtype.kind in "biuf"
    if refused:
        assert "x.npz" in refused.message


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_random_bytes_are_an_input_error(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz"):
        read_array(path)


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_bytes_that_a_header_declares_column_by_column_and_the_file_lacks_are_missed_before_memory_is_taken(
    name, tmp_path, monkeypatch
):
    """18 GiB of labels ended in a traceback."""
    monkeypatch.setattr("lanfit.data.chunks.free_memory", lambda: 1 << 40)
    data = io.BytesIO()
    head = {"shape": (1_208_000_000, 2), "fortran_order": True, "descr": "<f8"}
    np.lib.format.write_array_header_1_0(data, head)
    raw = data.getvalue() + bytes(64)
    path = tmp_path / name
    if name.endswith("y"):
        path.write_bytes(raw)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", raw)
    monkeypatch.setattr("lanfit.data.npz.np.empty", lambda *arguments, **more: pytest.fail("memory was asked for"))
    with pytest.raises(InputError) as wrong:
        list(open_file(path).blocks())
    assert wrong.value.code == "npz.damaged"
    assert "bytes of the array are missing" in wrong.value.message


def test_memory_that_the_system_does_not_give_for_labels_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(10))

    def full(*arguments, **more):
        raise MemoryError

    monkeypatch.setattr("lanfit.data.chunks.np.empty", full)
    with pytest.raises(InputError) as wrong:
        read_labels(path)
    assert wrong.value.code == "file.larger-than-memory"
    assert str(path) in wrong.value.message
