"""Files for the operator that somebody made to keep a server busy, or to have it read what is not theirs."""

from __future__ import annotations

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
