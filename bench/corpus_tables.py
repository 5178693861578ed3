"""Whether pandas has the same values as lanfit in a table, for bench/corpus.py."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: What somebody tells pandas who looked into the file. The first is what pandas does by itself.
SEPARATORS = (",", ";", "\t", "|", r"\s+")
DECIMALS = (".", ",")


def compare(path: Path, array: Array, columns: Sequence[str] | None, notes: Sequence[str]) -> dict[str, Any]:
    """Compare what lanfit read with what pandas reads: as it is, or with options that are needed to get there.

    Returns "pandas": "equal"; "announced" with the options, where lanfit says that the file is unusual; "silent" where
    it does not say so; "differs" where no options give these values, although pandas reads numbers.
    """
    tried: list[str] = []
    first: Array | None = None
    for options, frame in frames(path, columns is not None):
        numbers = numbers_of(frame)
        if numbers is None or numbers.shape != array.shape:
            tried.append(f"{options or 'as it is'}: {frame.shape if numbers is None else numbers.shape}")
            continue
        first = numbers if first is None else first
        if not np.array_equal(numbers, array.astype(np.float32), equal_nan=True):
            continue
        if (lost := collapsed(frame)) and not notes:
            return {"pandas": "silent", "how": f"whole numbers of {lost} become the same in float32"}
        if not options or (path.suffix.lower() == ".tsv" and set(options) == {"sep"}):
            return {"pandas": "equal"}
        return {"pandas": "announced" if notes else "silent", "how": str(options)}
    if first is not None:
        unlike = first != array
        row, column = (int(place[0]) for place in np.nonzero(unlike))
        values = f"lanfit {array[row, column]!r}, pandas {first[row, column]!r}"
        return {"pandas": "differs", "how": f"{int(unlike.sum())} values, the first in row {row + 1}, {values}"}
    return {
        "pandas": "announced" if notes else "differs",
        "how": f"lanfit {array.shape}, pandas {'; '.join(tried[:4])}",
    }


def frames(path: Path, header: bool) -> Iterator[tuple[dict[str, str], Any]]:
    """What pandas reads of a table with ever more options, which are given with it."""
    import pandas

    head = 0 if header else None
    if path.suffix.lower() == ".xlsx":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = pandas.read_excel(path, header=head).dropna(how="all").dropna(how="all", axis=1)
        yield {}, frame
        return
    encodings = ("utf-8", "utf-16", "cp1252")
    for encoding, decimal, separator in product(encodings, DECIMALS, SEPARATORS):
        options = {"encoding": encoding, "decimal": decimal, "sep": separator}
        try:
            frame = pandas.read_csv(path, header=head, **options, low_memory=False)
        except Exception:  # noqa: BLE001 - whatever pandas raises: with these options it does not read this
            continue
        usual = {"encoding": "utf-8", "decimal": ".", "sep": ","}
        unusual = {name: value for name, value in options.items() if usual[name] != value}
        if frame.shape[1] == 1 and separator != ",":
            continue
        yield unusual, frame
        if str(frame.columns[0]).startswith("Unnamed") or frame.columns[0] == "":
            yield {**unusual, "index_col": "0"}, frame.iloc[:, 1:]


def numbers_of(frame: Any) -> Array | None:
    """The frame's values as float32; None if some are no numbers."""
    if not all(kind.kind in "biuf" for kind in frame.dtypes):
        return None
    with np.errstate(over="ignore"):
        return frame.to_numpy(np.float64).astype(np.float32)  # type: ignore[no-any-return]


def collapsed(frame: Any) -> str:
    """The first column of whole numbers of which several become one in float32."""
    for name, column in frame.items():
        if column.dtype.kind in "iu" and column.astype(np.float32).nunique() < column.nunique():
            return str(name)
    return ""


def compare_prepared(path: Path, folder: Path) -> dict[str, Any]:
    """Compare what `lanfit prepare` wrote with the columns of numbers that pandas reads."""
    return {"pandas": "not compared", "how": f"{path.name} in {folder}"}
