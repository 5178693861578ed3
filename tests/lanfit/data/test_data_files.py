"""Files are found, paired in natural order and read; what is wrong with them is said by name."""

import gzip
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.core.memory import free_memory, readable_size
from lanfit.data import chunks
from lanfit.data.files import ENDINGS, Pair, find_pairs, natural_key, open_file, read_labels
from lanfit.data.labels import Target
from lanfit.data.sources import files_source
from lanfit.errors import InputError
from lanfit_server.prepare_data.text_tables import read_text_table


def read_array(path):
    return open_file(path).read_all()


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("1\n")
    return folder


def test_numbers_in_names_sort_as_numbers():
    names = ["part-10.csv", "part-2.csv", "Part-1.csv", "part-2b.csv", "10.csv", "9.csv", "a.csv"]
    random.Random(0).shuffle(names)
    assert sorted(names, key=natural_key) == [
        "9.csv", "10.csv", "a.csv", "Part-1.csv", "part-2.csv", "part-2b.csv", "part-10.csv",
    ]  # fmt: skip


@given(names=st.lists(st.text(max_size=12), unique=True, max_size=12), seed=st.integers())
def test_any_names_have_one_order(names, seed):
    shuffled = names[:]
    random.Random(seed).shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)


def test_files_pair_in_natural_order_and_what_is_no_data_is_skipped(tmp_path):
    x = touch(tmp_path / "X", "part-10.csv", "part-2.NPZ", ".gitkeep", ".hidden.csv", "README.md", "Thumbs.db")
    y = touch(tmp_path / "Y", "b-1.csv", "b-11.csv", ".gitkeep")
    assert find_pairs(x, y) == [Pair(x / "part-2.NPZ", y / "b-1.csv"), Pair(x / "part-10.csv", y / "b-11.csv")]
    assert find_pairs(x, None) == [Pair(x / "part-2.NPZ", None), Pair(x / "part-10.csv", None)]


JUNK = (
    "~$part.xlsx", ".~lock.part.xlsx#", ".DS_Store", "._part.csv", "Thumbs.db", "desktop.ini", "Icon\r", "x.tmp",
    "x.csv.part", "x.csv~", "x.csv.crdownload", "README.txt", "license", "ReadMe",
)  # fmt: skip


@pytest.mark.parametrize("name", JUNK)
def test_what_systems_and_programs_leave_is_no_data(tmp_path, name):
    x = touch(tmp_path / "X", "part.csv", name)
    (x / "__MACOSX").mkdir()
    assert find_pairs(x, None) == [Pair(x / "part.csv", None)]


@pytest.mark.parametrize(("mark", "program"), [("~$part.csv", "Excel"), (".~lock.part.csv#", "LibreOffice")])
def test_a_sheet_that_is_open_in_another_program_is_reported(tmp_path, mark, program):
    x = touch(tmp_path / "X", "part.csv", mark)
    assert files_source(x, None, Target.INPUT).notes == (
        f"part.csv is open in {program}: save and close it there first, the file lacks unsaved changes",
    )


def test_unequal_numbers_of_files_are_listed_on_both_sides(tmp_path):
    x = touch(tmp_path / "X", "a.csv", "b.csv")
    y = touch(tmp_path / "Y", "c.csv")
    with pytest.raises(InputError, match=r"X has 2 files \(a.csv, b.csv\), but .*Y has 1 file \(c.csv\)"):
        find_pairs(x, y)


@pytest.mark.parametrize("which", ["X", "Y"])
def test_missing_and_empty_folders_are_named(tmp_path, which):
    good = touch(tmp_path / "good", "a.csv")
    folder = tmp_path / which
    folders = (folder, good) if which == "X" else (good, folder)
    with pytest.raises(InputError, match=rf"the folder .*{which} does not exist"):
        find_pairs(*folders)
    touch(folder, "README.md", ".gitkeep")
    with pytest.raises(InputError, match=rf"{which} contains no data"):
        find_pairs(*folders)


def test_a_file_of_another_kind_is_named_with_what_is_read(tmp_path):
    x = touch(tmp_path / "X", "a.csv", "notes.docx")
    with pytest.raises(InputError, match=r"notes.docx is not a supported file type") as caught:
        find_pairs(x, None)
    assert caught.value.hint.startswith("lanfit reads .npz, .npy, .xlsx, .csv")
    for name, advice in (("old.xls", "save it as .xlsx"), ("all.pkl", "to_csv"), ("cat.png", "lanfit prepare FOLDER")):
        (x / "notes.docx").unlink(missing_ok=True)
        (x / name).write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
        with pytest.raises(InputError, match=f"{name} is not a supported file type") as caught:
            find_pairs(x, None)
        assert advice in caught.value.hint
        (x / name).unlink()


def test_the_readme_of_the_data_folder_lists_every_format():
    readme = (Path(__file__).parents[3] / "dataset" / "README.md").read_text(encoding="utf-8")
    assert [ending for ending in ENDINGS if f"`{ending}`" not in readme] == []


def test_a_folder_among_the_files_is_named(tmp_path):
    x = touch(tmp_path / "X", "a.csv")
    (x / "more").mkdir()
    with pytest.raises(InputError, match="more is a folder"):
        find_pairs(x, None)


def test_a_file_that_vanished_is_an_error_with_its_name(tmp_path):
    for name in ("gone.csv", "gone.npz"):
        with pytest.raises(InputError, match=name):
            read_array(tmp_path / name)


def test_every_ending_of_text_and_arrays_gives_the_same_rows(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(4, 3) + 5
    text = "\n".join("\t".join(map(str, row)) for row in x.tolist()) + "\n"
    for name in ("x.csv", "x.tsv", "x.txt", "x.TSV"):
        (tmp_path / name).write_text(text)
        np.testing.assert_array_equal(read_array(tmp_path / name), x)
    with gzip.open(tmp_path / "x.tsv.gz", "wt") as file:
        file.write(text)
    np.testing.assert_array_equal(read_array(tmp_path / "x.tsv.gz"), x)
    np.save(tmp_path / "x.npy", x.astype(np.uint8))
    chunk = open_file(tmp_path / "x.npy")
    assert (chunk.dtype, chunk.read_all().tolist()) == (np.uint8, x.tolist())
    np.save(tmp_path / "y.npy", np.array(["cat", "dog"]))
    assert read_labels(tmp_path / "y.npy").words == ("cat", "dog")
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"x.npy can't be read as an npy file"):
        read_array(tmp_path / "x.npy")


def test_both_formats_give_the_same_rows(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(tmp_path / "x.npz", x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    np.testing.assert_array_equal(read_array(tmp_path / "x.npz"), read_array(tmp_path / "x.csv"))
    assert open_file(tmp_path / "x.csv").shape == open_file(tmp_path / "x.npz").shape


def test_more_than_the_free_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", np.zeros((1000, 10), np.uint8))
    monkeypatch.setattr(chunks, "free_memory", lambda: 9_999)
    with pytest.raises(InputError, match=r"shape \(1000, 10\) \(10.0 kB\), but only 10.0 kB of memory is free"):
        read_array(tmp_path / "x.npz")
    monkeypatch.setattr(chunks, "free_memory", lambda: 0)  # not known: not a reason to refuse
    assert read_array(tmp_path / "x.npz").shape == (1000, 10)


def test_free_memory_is_a_plausible_number_of_bytes():
    assert 1 << 24 < free_memory() < 1 << 46


def test_sizes_are_shown_with_a_unit():
    assert [readable_size(n) for n in (0, 999, 1500, 2_500_000, 10**15, 10**19, 10**22)] == [
        "0 bytes", "999 bytes", "1.5 kB", "2.5 MB", "1.0 PB", "10.0 EB", "10,000.0 EB",
    ]  # fmt: skip


def test_without_pandas_a_csv_file_is_refused_with_the_way_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "x.csv").write_text("1,2\n")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"x.csv is a csv file, which requires pandas"):
        read_array(tmp_path / "x.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.xlsx"])
def test_a_pipe_or_a_device_is_named_and_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    (tmp_path / f"device-{name}").symlink_to("/dev/zero")
    for path in tmp_path.iterdir():
        for read in (open_file, read_labels, read_text_table):
            with pytest.raises(InputError) as wrong:
                read(path)
            assert wrong.value.code == "file.no-file"
            assert str(path) in wrong.value.message
