"""Opens compressed files (.gz, .bz2, .xz, .zip) like any other: as a stream of bytes, with a bound on its length.

Nothing is decompressed to disk, and only a buffer is held in memory.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from lanfit.core.memory import readable_size
from lanfit.data.chunks import unreadable
from lanfit.errors import lanfit_error

PACKINGS = (".gz", ".bz2", ".xz", ".zip")
#: The highest compression ratio of deflate. An xz file of one repeated value exceeds it and is rejected.
MAX_RATIO = 1000
ALLOWANCE = 64 << 20


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading, unpacked if its name ends in one of `PACKINGS`.

    Raises:
        InputError: on opening or reading: it can't be read, is damaged, or unpacks to more than 1,000 times its size.
    """
    packing = path.suffix.lower()
    try:
        with ExitStack() as stack:
            plain = stack.enter_context(path.open("rb"))
            if packing not in PACKINGS:
                yield plain
                return
            limit = max(ALLOWANCE, MAX_RATIO * path.stat().st_size)
            unpacked = stack.enter_context(_unpack(path, packing, plain, stack))
            yield io.BufferedReader(_Bounded(path, unpacked, limit), 1 << 18)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise unreadable(path, error) from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, RuntimeError) as error:
        raise lanfit_error("packed.damaged", file=path, reason=error) from error


def _unpack(path: Path, packing: str, plain: IO[bytes], stack: ExitStack) -> IO[bytes]:
    if packing == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(plain))
        members = [info for info in archive.infolist() if not _is_clutter(info.filename)]
        if len(members) != 1:
            raise lanfit_error("packed.not-one-file", file=path, count=len(members))
        return archive.open(members[0])
    if packing == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=plain))
    return bz2.BZ2File(plain) if packing == ".bz2" else lzma.LZMAFile(plain)


def _is_clutter(name: str) -> bool:
    """Return whether an entry is a folder, or something that macOS adds to archives."""
    return name.endswith("/") or name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


class _Bounded(io.RawIOBase):
    """A stream around another one, which raises an error after more than the allowed number of bytes."""

    def __init__(self, path: Path, stream: IO[bytes], limit: int) -> None:
        self._path, self._stream, self._left = path, stream, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            size = readable_size(self._path.stat().st_size)
            raise lanfit_error("packed.bomb", file=self._path, size=size, ratio=MAX_RATIO)
        buffer[: len(data)] = data
        return len(data)
