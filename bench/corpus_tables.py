"""Whether pandas has the same values as lanfit in a table, for bench/corpus.py."""

from __future__ import annotations

import json
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
#: What stands for no value in tables, and pandas takes for text. `lanfit prepare` shows how many it fills.
MISSING = ["", "?", "-", "."]


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
    """Compare what `lanfit prepare` wrote with the cells that pandas reads, wherever pandas reads them as they are.

    Numbers must be equal in float32, each category must have its 1 in the right column, and targets must be those of
    their rows. What pandas makes no number of (dates, units, thousands) has no other reading to be held against.
    """
    import pandas

    written = next(folder.rglob("recipe.json"), None)
    if written is None:
        return {"pandas": "differs", "how": "there is no recipe.json"}
    recipe, folder = json.loads(written.read_text(encoding="utf-8")), written.parent
    x = _numbers_in(folder / "X", len(recipe["inputs"]))
    if x is None:
        return {"pandas": "differs", "how": "X has other columns than the recipe says"}
    used = {use["name"]: use for use in recipe["columns"]}
    wanted, target = set(used), recipe["target"]
    for _, frame in frames(path, recipe["has_header"]):
        if not recipe["has_header"]:
            frame.columns = [f"column {place + 1}" for place in range(frame.shape[1])]
        frame.columns = [str(name).strip() for name in frame.columns]
        names = set(frame.columns) | {name for name in wanted if name.startswith("column ")}
        if wanted <= names or len(wanted - names) * 4 < len(wanted):
            break
    else:
        return {"pandas": "not compared", "how": "pandas reads no columns of these names"}
    frame = frame.dropna(how="all")
    if len(frame) != len(x) and target and target["name"] in frame:
        cells = frame[target["name"]]
        frame = frame[cells.notna() & ~cells.astype(str).str.strip().isin([*MISSING, *target.get("marks", ())])]
    if len(frame) != len(x):
        return {"pandas": "differs", "how": f"{len(x)} rows, pandas has {len(frame)}"}
    place, compared = 0, 0
    for use in recipe["columns"]:
        width = _width(use)
        column = x[:, place : place + width]
        place += width
        if not width or use["name"] not in frame or frame.columns.tolist().count(use["name"]) > 1:
            continue
        cells = frame[use["name"]]
        if use["use"] == "number":
            numbers = pandas.to_numeric(cells, errors="coerce").to_numpy(np.float64).astype(np.float32)
            wrong = ~np.isnan(numbers) & (numbers != column[:, 0])
        elif use["use"] == "category" and cells.dtype.kind not in "biuf":
            texts = cells.fillna(use["fill"]).astype(str).str.strip().to_numpy()
            wrong = (column != (texts[:, None] == np.array(use["values"], object)[None])).any(axis=1)
            wrong &= ~np.isin(texts, MISSING)
        else:
            continue
        compared += 1
        if wrong.any():
            row = int(wrong.argmax())
            cell, got = cells.iloc[row], column[row].tolist()[:4]
            how = f"{use['name']}: {int(wrong.sum())} rows, the first {row + 1}: pandas {cell!r}, prepared {got}"
            return {"pandas": "differs", "how": how}
    if wrong_target := _wrong_target(folder / "Y", target, frame):
        return {"pandas": "differs", "how": wrong_target}
    return {"pandas": "equal", "how": f"{compared} columns compared"}


def _numbers_in(folder: Path, width: int) -> Array | None:
    import pandas

    files = sorted(folder.iterdir())
    found = pandas.concat([pandas.read_csv(file, float_precision="round_trip") for file in files])
    return found.to_numpy(np.float64).astype(np.float32) if found.shape[1] == width else None


def _width(use: dict[str, Any]) -> int:
    return {"number": 1, "category": len(use.get("values", ())), "date": len(use.get("parts", ()))}.get(use["use"], 0)


def _plain(text: str) -> str:
    """A label as pandas and lanfit may both write it: 1.0 is 1."""
    text = text.strip()
    return text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdecimal() else text


def _wrong_target(folder: Path, target: dict[str, Any] | None, frame: Any) -> str:
    """What is wrong with the targets, or nothing."""
    import pandas

    if not target or target["name"] not in frame or not folder.is_dir():
        return ""
    file = next(iter(sorted(folder.iterdir())))
    cells = frame[target["name"]]
    if target["task"] == "regression":
        y = pandas.read_csv(file, float_precision="round_trip").iloc[:, 0].to_numpy(np.float64).astype(np.float32)
        numbers = pandas.to_numeric(cells, errors="coerce").to_numpy(np.float64).astype(np.float32)
        wrong = ~np.isnan(numbers) & (numbers != y) if len(y) == len(numbers) else np.ones(1, bool)
    else:
        read = pandas.read_csv(file, dtype=str, keep_default_na=False).iloc[:, 0].tolist()
        texts = [_plain(text) for text in cells.astype(str)]
        if len(read) != len(texts):
            return f"target {target['name']}: {len(read)} rows, pandas has {len(texts)}"
        names, coded = target["classes"], all(text.isdecimal() for text in read)
        ways = [read, [names[int(text)] for text in read]] if coded and len(names) > max(map(int, read)) else [read]
        wrong = min((np.array([_plain(a) != b for a, b in zip(way, texts, strict=True)]) for way in ways), key=np.sum)
    return (
        f"target {target['name']}: {int(wrong.sum())} rows, the first {int(wrong.argmax()) + 1}" if wrong.any() else ""
    )
