"""Files for the operator that somebody made to keep a server busy, or to have it read what is not theirs."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit.models.loading import mend_backslashes
from lanfit.models.model_file import groups_in, read_model_file


def many_paths(file: h5py.File) -> None:
    """40 groups with two links to the next: each is there once, and 2^40 paths lead to the last."""
    group = file.create_group("first")
    for _ in range(40):
        following = group.create_group("a")
        group["b"] = following
        group = following


def endless(file: h5py.File) -> None:
    group = file.create_group("first")
    group["again"] = group
    group["back"] = file["/"]


def deep(file: h5py.File) -> None:
    group = file.create_group("first")
    for _ in range(3000):
        group = group.create_group("g")


@pytest.mark.parametrize("make", [many_paths, endless, deep])
def test_each_group_of_a_file_is_looked_at_once_however_many_paths_lead_to_it(
    make: Callable[[h5py.File], None], tmp_path: Path
) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        make(file)
    assert read_model_file(path).architecture == "{}"
    with h5py.File(path, "r+") as file:
        mend_backslashes(file)
        assert len(list(groups_in(file))) <= 3002


def test_what_is_behind_many_paths_is_still_checked(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        many_paths(file)
        last = [group for group in groups_in(file) if not len(group)]
        last[0]["out"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InputError) as wrong:
        read_model_file(path)
    assert wrong.value.code == "model.link"


def outside(file: h5py.File) -> None:
    file.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def soft(file: h5py.File) -> None:
    file["w"] = h5py.SoftLink("/elsewhere")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "w", (4,))
    file.create_virtual_dataset("w", layout)


def huge(file: h5py.File) -> None:
    file.create_dataset("w", (10**6, 10**6), "f4", chunks=(100, 100))


def zeros(file: h5py.File) -> None:
    file.create_dataset("w", data=np.zeros(1 << 24, np.uint8), compression="gzip", compression_opts=9)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (outside, "model.array-outside"),
        (soft, "model.link"),
        (virtual, "model.array-outside"),
        (huge, "model.array-too-large"),
        (zeros, "model.array-too-large"),
    ],
)
def test_what_lies_outside_of_a_file_or_is_larger_than_it_is_refused(
    make: Callable[[h5py.File], None], code: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(InputError) as wrong:
        read_model_file(path)
    assert wrong.value.code == code


# --- contents of other kinds, in both formats -------------------------------------------------------------------

COMPOUND = np.dtype([("a", "f4"), ("b", "i4")])
KINDS: dict[str, Callable[[h5py.Group], object]] = {
    "variable length": lambda group: group.create_dataset("w", (3,), h5py.vlen_dtype(np.float32)),
    "strings": lambda group: group.create_dataset("w", data=["a", "b"], dtype=h5py.string_dtype()),
    "references": lambda group: group.create_dataset("w", data=[group.ref], dtype=h5py.ref_dtype),
    "compound": lambda group: group.create_dataset("w", data=np.zeros(3, COMPOUND)),
    "outside": lambda group: group.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)]),
    "link": lambda group: group.__setitem__("w", h5py.ExternalLink("/etc/passwd", "/")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_what_are_no_arrays_of_numbers_of_the_file_is_refused_before_keras_reads_it(
    kind: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"net{ending}"
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.attrs["model_config"] = "{}"
        KINDS[kind](file.create_group("dense"))
    if ending == ".h5":
        path.write_bytes(weights.getvalue())
    else:
        archive(path, {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": weights.getvalue()})
    with pytest.raises(InputError) as wrong:
        read_model_file(path)
    assert path.name in str(wrong.value)


def archive(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)


def keras_members() -> dict[str, bytes]:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["w"] = np.zeros(3)
    return {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": weights.getvalue()}


@pytest.mark.parametrize("name", ["../outside", "/outside", "assets/../../outside", "..\\outside"])
def test_members_of_a_keras_file_with_paths_for_names_are_unpacked_nowhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    archive(place / "net.keras", {**keras_members(), name: b"outside"})
    with contextlib.suppress(InputError):
        read_model_file(place / "net.keras")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["net.keras"]
    assert not Path("/outside").exists()


def test_an_encrypted_keras_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    archive(path, keras_members())
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag of each member, in both of its headers
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + place] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError) as wrong:
        read_model_file(path)
    assert "net.keras" in str(wrong.value)
