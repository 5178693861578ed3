"""Detects the type of a table file by its first bytes, if its name suggests another type."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Final

from lanfit.errors import LanfitError, lanfit_error

_HEAD: Final = 4096
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WEB_PAGE: Final = re.compile(rb"\s*(<!doctype html|<html|<table|<meta|<head)", re.IGNORECASE)
_SAVE: Final = "Open it in Excel or LibreOffice and save it as .xlsx"


def wrong_ending(path: Path) -> LanfitError | None:
    """Return the error for a file whose content contradicts its name; None if there is no known contradiction."""
    try:
        found = _kind(path)
    except (OSError, zipfile.BadZipFile, RuntimeError):
        return None
    if found is None or path.suffix.lower() in found[2]:
        return None
    what, way, _ = found
    return lanfit_error("file.wrong-ending", file=path, what=what, way=way.format(stem=path.stem))


def _kind(path: Path) -> tuple[str, str, tuple[str, ...]] | None:
    """Return the type of a file, what to do with it, and the endings of that type."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(_OLE):
        return "a spreadsheet in the old Excel format, or one with a password", _SAVE, (".xls",)
    if head.startswith(b"PAR1"):
        return "a parquet file", "Rename it to {stem}.parquet", (".parquet",)
    if head.startswith(b"PK"):
        return _zipped(path)
    if _WEB_PAGE.match(head.removeprefix(b"\xef\xbb\xbf")):
        return "a web page", _SAVE, ()
    if b"\0" not in head and head.strip():
        return "text", "Rename it to {stem}.csv", (".csv", ".tsv", ".txt")
    return None


def _zipped(path: Path) -> tuple[str, str, tuple[str, ...]]:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        if "xl/workbook.xml" in names:
            return "an xlsx file", "Rename it to {stem}.xlsx", (".xlsx", ".xlsm")
        if "content.xml" in names and "mimetype" in names:
            return "an OpenDocument spreadsheet", "Open it in LibreOffice and save it as .xlsx", ()
    return "a zip archive", "Extract it", (".zip", ".npz", ".xlsx", ".xlsm")
