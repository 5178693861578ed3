"""One npz file with inputs and targets beside X and Y is used where these hold no data, and that is said."""

import numpy as np
import pytest

from lanfit.data.bundles import named_bundle
from lanfit.data.labels import Target
from lanfit.data.sources import check_folders, files_source
from lanfit.errors import InputError

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 3


def source(folder, target=Target.CLASSES, npz_key=None):
    return files_source(folder / "X", folder / "Y", target, npz_key)


@pytest.mark.parametrize(
    "names",
    [("x", "y"), ("X", "Y"), ("x_train", "y_train"), ("data", "labels"), ("images", "labels"), ("X_train", "Y_train")],
)
@pytest.mark.parametrize("folders", [True, False])
def test_the_names_say_which_array_is_which(tmp_path, names, folders):
    np.savez(tmp_path / "all.npz", **dict(zip(names, (X, Y), strict=True)))
    if folders:
        for name in ("X", "Y"):
            (tmp_path / name).mkdir()
            (tmp_path / name / ".gitkeep").touch()
    found = source(tmp_path)
    np.testing.assert_array_equal(found.x[0].read_all(), X)
    assert found.targets["y"][0].values.tolist() == Y.tolist()
    assert found.test == 0
    assert found.notes == (f"all.npz: {names[0]} holds the inputs, {names[1]} the targets",)
    check_folders(tmp_path / "X", tmp_path / "Y")
    assert source(tmp_path, Target.INPUT).rows == 20
    np.testing.assert_array_equal(source(tmp_path, Target.VALUES).targets["y"][0].read_all(), Y)


def test_its_own_test_rows_are_the_test_rows(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=X[:15], y_train=Y[:15], x_test=X[15:], y_test=Y[15:], more=Y)
    found = source(tmp_path)
    assert (found.rows, found.test) == (20, 5)
    np.testing.assert_array_equal(np.concatenate([chunk.read_all() for chunk in found.x]), X)
    np.testing.assert_array_equal(np.concatenate([part.values for part in found.targets["y"]]), Y)
    assert found.notes == (
        "mnist.npz: x_train holds the inputs, y_train the targets; x_test and y_test are the test rows; "
        "more is not used",
    )


def test_files_in_x_and_y_come_first_and_that_is_reported(tmp_path):
    np.savez(tmp_path / "all.npz", x=X, y=Y)
    for name, array in (("X", X), ("Y", Y)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "part.npz", array + 1)
    found = source(tmp_path)
    assert found.x[0].read_all()[0, 0] == 1
    assert found.notes == ("all.npz next to X and Y is not read, because X and Y contain data",)


def test_a_key_names_other_arrays(tmp_path):
    np.savez(tmp_path / "all.npz", x=X, y=Y, more=X + 1)
    assert source(tmp_path, npz_key="more,y").x[0].read_all()[0, 0] == 1


@pytest.mark.parametrize("names", [("a", "b"), ("x", "labels_of_x"), ("x", "X", "y"), ("x",)])
def test_other_names_are_not_guessed(tmp_path, names):
    assert named_bundle(tmp_path / "all.npz", names) is None
    np.savez(tmp_path / "all.npz", **dict.fromkeys(names, X))
    with pytest.raises(InputError, match="does not exist"):
        source(tmp_path)


def test_of_two_files_none_is_chosen(tmp_path):
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, x=X, y=Y)
    with pytest.raises(InputError, match="does not exist"):
        source(tmp_path)


def test_an_array_of_the_file_is_named_in_errors(tmp_path):
    np.savez(tmp_path / "all.npz", x=X, y=np.array(["cat", ""] * 10))
    with pytest.raises(InputError, match=r"all.npz, row 2: the label is empty|all.npz \(y\), row 2"):
        source(tmp_path)
