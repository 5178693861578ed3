"""A workspace with tiny models and twelve rows that fit them, and files to spoil it with."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from running import Place

ROWS = 12
#: Twelve rows of two columns, and their labels of three classes.
X = np.arange(2.0 * ROWS).reshape(ROWS, 2)
Y = np.arange(ROWS) % 3

#: Flags for a job on them.
TINY_JOB = {"model": "classes.h5", "clients": 1, "batch_size": 2}


class SmallWorkspace(Place):
    """A workspace with the tiny models and twelve rows that fit them."""

    def __init__(self, root: Path, models: Path) -> None:
        self.root = root
        shutil.copytree(models, root / "model")
        self.x("x.csv", as_csv(X, "a,b"))
        self.y("y.csv", as_csv(Y.reshape(-1, 1), "label"))

    def x(self, name: str, content: str | bytes) -> None:
        self._put("X", name, content)

    def y(self, name: str, content: str | bytes) -> None:
        self._put("Y", name, content)

    def _put(self, folder: str, name: str, content: str | bytes) -> None:
        """Add a file; one of the same name before the first dot is replaced."""
        path = self.root / "dataset" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{name.partition('.')[0]}.*"):
            old.unlink()
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def as_csv(rows: np.ndarray, header: str = "") -> str:
    lines = [header] * bool(header) + [",".join(f"{value:g}" for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def words(*labels: str) -> str:
    """A csv file of labels, twelve of them."""
    return "label\n" + "\n".join((labels * ROWS)[:ROWS]) + "\n"


def labels(*instead: float | str) -> str:
    """The labels as a csv file, the first of them replaced."""
    return "label\n" + "\n".join(map(str, [*instead, *Y[len(instead) :]])) + "\n"


def as_npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
