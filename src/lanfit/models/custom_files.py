"""Custom objects files, as machines name and compare them. This module executes nothing.

Code is never sent. A user names a file on each machine, and peers exchange only its name and hash. `allow` reads a file
and returns name and hash; `defined_names` parses it. lanfit.models.custom executes files, in separate processes.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lanfit.core.parser_lock import PARSER_LOCK
from lanfit.errors import LanfitError, lanfit_error
from lanfit.wire.tasks import CustomFile

MAX_BYTES: Final = 1 << 20


class AllowedFile(msgspec.Struct, frozen=True):
    """A file named by the user of this machine: models may use its classes and functions."""

    path: str
    name: str
    sha256: str

    @property
    def spec(self) -> CustomFile:
        """The description sent to peers."""
        return CustomFile(self.name, self.sha256)


def short(digest: str) -> str:
    """Return the part of a hash that people compare."""
    return digest[:12]


# --- files, read and not executed ---------------------------------------------------------------------------------


def allow(path: Path) -> AllowedFile:
    """Read a file that the user has named. Executes nothing.

    Raises:
        InputError: it is missing, or not Python.
    """
    source = read_source(path)
    _parsed(path, source)
    return AllowedFile(str(path.resolve()), path.name, hashlib.sha256(source).hexdigest())


def allow_named(texts: Iterable[str], folders: Sequence[Path]) -> tuple[AllowedFile, ...]:
    """Read the files of a setting, each given as `PATH` or `PATH#sha256=HASH`.

    Args:
        folders: the folders that relative paths refer to, in order.

    Raises:
        InputError: a file is missing, is not Python, or is not the one with this hash.
    """
    found = []
    for text in texts:
        named, _, digest = text.partition("#sha256=")
        given = Path(named).expanduser()
        paths = [folder / given for folder in folders]
        file = allow(next((path for path in paths if path.is_file()), given))
        if digest and digest != file.sha256:
            raise lanfit_error("custom.changed", path=named, found=short(file.sha256), wanted=short(digest))
        found.append(file)
    return tuple(found)


def pinned(file: AllowedFile, shown: str) -> str:
    """Return a file as recorded in a job: its path with the hash."""
    return f"{shown}#sha256={file.sha256}"


def defined_names(path: Path) -> frozenset[str]:
    """Return the names of classes and functions that a file defines at its top level, without executing it.

    Raises:
        InputError: it can't be read.
    """
    defined = (ast.ClassDef, ast.FunctionDef)
    return frozenset(node.name for node in _parsed(path, read_source(path)).body if isinstance(node, defined))


def read_source(path: Path) -> bytes:
    if not path.is_file():
        raise lanfit_error("custom.no-file", path=path)
    if path.suffix.lower() != ".py":
        raise lanfit_error("custom.not-python", path=path)
    if (size := path.stat().st_size) > MAX_BYTES:
        raise lanfit_error("custom.too-large", path=path, size=size, most=MAX_BYTES)
    try:
        return path.read_bytes()
    except OSError as error:
        raise lanfit_error("custom.unreadable", path=path, reason=error.strerror or error) from None


def _parsed(path: Path, source: bytes) -> ast.Module:
    try:
        with PARSER_LOCK:
            return ast.parse(source, str(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise lanfit_error("custom.unreadable", path=path, reason=f"{reason}{where}") from None


# --- exchange of descriptions -------------------------------------------------------------------------------------


class Allowed:
    """The files that the user of one machine allows, and which of them a model needs."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        """Raise InputError if a file is missing or not Python."""
        self._files: dict[str, AllowedFile] = {}
        for path in paths:
            self.add(path)

    def add(self, path: Path) -> None:
        """Allow one more file; one that was allowed before is read again.

        Raises:
            InputError: it is missing, or not Python.
        """
        file = allow(path)
        self._files[file.path] = file

    @property
    def specs(self) -> tuple[CustomFile, ...]:
        """The description sent to a server."""
        return tuple(file.spec for file in self._files.values())

    def of(self, needed: Iterable[CustomFile], objects: Iterable[str] = ()) -> tuple[AllowedFile, ...]:
        """Return the files that a model needs: byte-identical, regardless of their local names.

        Args:
            objects: the names of the classes and functions that the model uses.

        Raises:
            InputError: one of them is not allowed here, or differs; the error has a hint.
        """
        by_hash = {file.sha256: file for file in self._files.values()}
        for wanted in needed:
            if wanted.sha256 not in by_hash:
                raise self._explain(wanted, objects)
        return tuple(by_hash[wanted.sha256] for wanted in needed)

    def _explain(self, wanted: CustomFile, objects: Iterable[str]) -> LanfitError:
        own = next((file for file in self._files.values() if file.name == wanted.name), None)
        if own is None:
            names = ", ".join(file.name for file in self._files.values())
            return lanfit_error(
                "custom.not-allowed",
                file=wanted.name,
                wanted=short(wanted.sha256),
                own=f" (it allows {names})" if names else "",
            )
        try:
            defined = defined_names(Path(own.path))
        except LanfitError:  # it was changed since it was allowed
            defined = frozenset()
        missing = [name for name in objects if name.rpartition(">")[2] not in defined]
        lacks = f"; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing in it" if missing else ""
        found, needed = short(own.sha256), short(wanted.sha256)
        return lanfit_error("custom.other-file", file=wanted.name, found=found, wanted=needed, lacks=lacks)


def lacking(needed: Iterable[CustomFile], has: Iterable[CustomFile]) -> str:
    """Return why a client can't take part, as reported by the server; empty if it has every required file."""
    hashes, names = {file.sha256 for file in has}, {file.name: file.sha256 for file in has}
    for wanted in needed:
        if wanted.sha256 in hashes:
            continue
        if wanted.name in names:
            own = short(names[wanted.name])
            return (
                f"its {wanted.name} (SHA-256 {own}) is not this server's (SHA-256 {short(wanted.sha256)}): copy the "
                f"file to it, and start it again with --custom-objects {wanted.name}"
            )
        return (
            f"it does not allow {wanted.name} (SHA-256 {short(wanted.sha256)}): copy the file to it, and start it with "
            f"--custom-objects {wanted.name}"
        )
    return ""
