"""A single npz file with inputs and targets, as datasets are often saved: which array is which, by name.

Such a file is in the dataset folder itself, next to X and Y, and is used if these contain no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.data.files import is_data
from lanfit.data.npz import array_names

#: Names of input and target arrays, in lower case; the first pair that is present is used.
PAIRS = (
    ("x_train", "y_train"),
    ("train_x", "train_y"),
    ("train_images", "train_labels"),
    ("images_train", "labels_train"),
    ("train_data", "train_labels"),
    ("x", "y"),
    ("images", "labels"),
    ("data", "labels"),
    ("features", "labels"),
    ("data", "target"),
    ("data", "targets"),
    ("features", "targets"),
    ("inputs", "targets"),
    ("inputs", "outputs"),
)


@dataclass(frozen=True)
class Bundle:
    """The file, and the names of its arrays."""

    path: Path
    x: str
    y: str
    x_test: str = ""
    """The names of its test arrays; empty if it has none."""
    y_test: str = ""
    unused: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """The note about it for the user."""
        test = f"; {self.x_test} and {self.y_test} are the test rows" if self.x_test else ""
        unused = f"; {', '.join(self.unused[:10])} {'is' if len(self.unused) == 1 else 'are'} not used"
        return f"{self.path.name}: {self.x} holds the inputs, {self.y} the targets{test}{unused if self.unused else ''}"


def find_bundle(folder: Path) -> Bundle | None:
    """Return the only npz file in a folder, if the names of its arrays distinguish inputs from targets.

    Raises:
        InputError: the file can't be read.
    """
    if not folder.is_dir():
        return None
    files = [path for path in folder.iterdir() if path.suffix.lower() == ".npz" and path.is_file() and is_data(path)]
    return named_bundle(files[0], array_names(files[0])) if len(files) == 1 else None


def named_bundle(path: Path, names: Sequence[str]) -> Bundle | None:
    """Return which arrays of a file are inputs and targets; None if their names are not clear, or ambiguous."""
    lower = {name.lower(): name for name in names}
    if len(lower) < len(names):
        return None
    for x, y in PAIRS:
        if x in lower and y in lower:
            test = [_test_name(name) for name in (x, y)]
            found = [lower[name] for name in test if name in lower]
            used = {lower[x], lower[y], *(found if len(found) == 2 else ())}
            x_test, y_test = found if len(found) == 2 else ("", "")
            return Bundle(path, lower[x], lower[y], x_test, y_test, tuple(name for name in names if name not in used))
    return None


def _test_name(name: str) -> str:
    """x_train -> x_test, x -> x_test, images -> test_images."""
    if "train" in name:
        return name.replace("train", "test")
    return f"{name}_test" if len(name) == 1 else f"test_{name}"
