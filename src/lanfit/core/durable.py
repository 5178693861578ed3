"""Durable files: written completely or not at all, and synced before they get their name."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: The names of temporary files: see `atomic_file`.
_TEMPORARY = re.compile(r"\..+\.\d+(\.\w+)?")
#: Pauses between attempts to rename a file that another program holds, in seconds: 2 in total.
_RENAME_PAUSES = (0.01, 0.02, 0.05, 0.12, 0.3, 0.5, 1.0)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder with the same extension; on success it replaces `path`.

    After a crash either the old or the new content is there, completely.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        sync_file(temporary)
        atomic_move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write a file completely or not at all; with mode 0o600 no other user can ever read it."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_file(path) as temporary:
        temporary.unlink(missing_ok=True)  # a leftover of a process with our id would keep its mode
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)


#: The prefix of sealed data: no msgpack starts with it.
_SEAL = b"\xc1"


def seal(content: bytes) -> bytes:
    """Return bytes to be stored with a seal, so that corruption is detected when they are read back."""
    return _SEAL + hashlib.sha256(content).digest() + content


def unseal(stored: bytes) -> bytes:
    """Return the content of sealed bytes; data that an earlier version stored without a seal is returned unchanged.

    Raises:
        ValueError: they differ from what was stored.
    """
    if not stored.startswith(_SEAL):
        return stored
    start = len(_SEAL) + hashlib.sha256().digest_size
    if hashlib.sha256(stored[start:]).digest() != stored[len(_SEAL) : start]:
        raise ValueError("its content differs from what was written")
    return stored[start:]


def write_new(path: Path, content: str, mode: int = 0o644) -> bool:
    """Write a file completely unless it exists; return whether this call did. Of several processes, exactly one
    does."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if mode == 0o600 else 0o777)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{threading.get_ident()}{path.suffix}")
    try:
        atomic_write(temporary, content, mode)
        try:
            os.link(temporary, path)  # fails if it exists, which no rename does on POSIX
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            replace(temporary, path)
        sync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def private(path: str, flags: int) -> int:
    """Open a file; an `opener` for `open` with which a new file is accessible only to its user."""
    return os.open(path, flags, 0o600)


def reserve_space(file: BinaryIO, size: int) -> None:
    """Reserve disk space for an open file of this size (at least 1), if the system can.

    Raises:
        OSError: there is not enough.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def check_space(path: Path, size: int) -> None:
    """Check whether there is disk space for a file of this size, if the system can tell. Leaves no file behind.

    Raises:
        OSError: there is not.
    """
    try:
        with path.open("wb") as file:
            reserve_space(file, size)
    finally:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes in a folder to which no process writes."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def atomic_move(temporary: Path, path: Path) -> None:
    """Give a complete and synced file its name, durably."""
    replace(temporary, path)
    sync_folder(path.parent)


def replace(source: Path, path: Path) -> None:
    """Rename a file, replacing an existing one; retry for 2 seconds while the system denies access.

    On Windows a virus scanner or an indexer holds a new file for a moment, and `os.replace` fails in the meantime.

    Raises:
        OSError: it was still denied at the last attempt, or failed for another reason.
    """
    for pause in _RENAME_PAUSES:
        try:
            os.replace(source, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, path)


def sync_file(path: Path) -> None:
    """Return when the bytes of a file are on disk (fsync)."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the entries of a folder are on disk; does nothing on systems that do not support it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
