"""Files that matter: written whole or not at all, and on disk before they have their name."""

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

#: The names of temporary files: see `written_whole`.
_TEMPORARY = re.compile(r"\..+\.\d+(\.\w+)?")
#: Pauses between attempts to rename a file that another program holds, in seconds: 2 in all.
_RENAME_PAUSES = (0.01, 0.02, 0.05, 0.12, 0.3, 0.5, 1.0)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder with the same ending; on success it takes the place of `path`.

    After a crash either the old or the new content is there, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        sync_file(temporary)
        move_whole(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write a file whole or not at all; with mode 0o600 nobody else can ever read it."""
    data = content.encode() if isinstance(content, str) else content
    with written_whole(path) as temporary:
        temporary.unlink(missing_ok=True)  # a leftover of a process with our id would keep its mode
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)


#: Begins what was sealed: no msgpack does.
_SEAL = b"\xc1"


def seal(content: bytes) -> bytes:
    """What is to be stored of some bytes, so that damage is noticed when they are read back."""
    return _SEAL + hashlib.sha256(content).digest() + content


def unseal(stored: bytes) -> bytes:
    """The bytes in what `seal` made; what an earlier version stored without a seal is given as it is.

    Raises:
        ValueError: they are not what was stored.
    """
    if not stored.startswith(_SEAL):
        return stored
    start = len(_SEAL) + hashlib.sha256().digest_size
    if hashlib.sha256(stored[start:]).digest() != stored[len(_SEAL) : start]:
        raise ValueError("its bytes are not those that were written")
    return stored[start:]


def write_new(path: Path, content: str, mode: int = 0o644) -> bool:
    """Write a file whole unless there is one; return whether this did. Of several processes at a time one does."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if mode == 0o600 else 0o777)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{threading.get_ident()}{path.suffix}")
    try:
        write_whole(temporary, content, mode)
        try:
            os.link(temporary, path)  # fails if there is one, which no rename does on POSIX
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
    """An `opener` for `open`: a file that it makes is for its user alone."""
    return os.open(path, flags, 0o600)


def take_room(file: BinaryIO, size: int) -> None:
    """Take the room of an open file of so many bytes (1 at least) now, where the system can.

    Raises:
        OSError: there is none.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def check_room(path: Path, size: int) -> None:
    """Find out whether a file of so many bytes has room now, where the system can tell. Leaves nothing.

    Raises:
        OSError: it has none.
    """
    try:
        with path.open("wb") as file:
            take_room(file, size)
    finally:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed, in all of a folder that nobody writes into now."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def move_whole(temporary: Path, path: Path) -> None:
    """Give a finished and synced file its name, for good."""
    replace(temporary, path)
    sync_folder(path.parent)


def replace(source: Path, path: Path) -> None:
    """Rename a file, over an existing one too; retry for 2 seconds while the system denies access.

    On Windows an antivirus scanner or an indexer holds a new file for some moments, and `os.replace` fails meanwhile.

    Raises:
        OSError: it was still denied after the last attempt, or failed for another reason.
    """
    for pause in _RENAME_PAUSES:
        try:
            os.replace(source, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, path)


def sync_file(path: Path) -> None:
    """Return when the bytes of a file are on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the entries of a folder are on disk; nothing on systems that can't."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
