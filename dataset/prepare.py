"""Writes the sample data, X/digits.csv and Y/digits.csv, from scikit-learn's copy of the handwritten digits.

    python dataset/prepare.py

Both files are in the repository already; this is how they were made.
"""

from __future__ import annotations

from pathlib import Path


def write_digits(folder: Path) -> None:
    """Write 1797 rows of 64 pixels (0-16) to X/digits.csv, and the digit of each row to Y/digits.csv."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    _write(folder / "X" / "digits.csv", digits.feature_names, digits.data.astype(int).tolist())
    _write(folder / "Y" / "digits.csv", ["digit"], [[label] for label in digits.target.tolist()])


def _write(path: Path, header: list[str], rows: list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(header), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_digits(Path(__file__).parent)
    print("wrote X/digits.csv and Y/digits.csv")
