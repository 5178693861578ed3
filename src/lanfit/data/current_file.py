"""Records which files are being read, so that another process can name the file that killed this one.

Each thread has a slot in a mapped file, whose content outlives the process.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lanfit.core.memory import free_memory, limit_of_memory, readable_size
from lanfit.errors import LanfitError, lanfit_error

#: The size of a slot in bytes; longer names are truncated. Threads without a slot record nothing.
SIZE: Final = 1024
SLOTS: Final = 64
LESS: Final = "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory"
CLEAR: Final = (
    "In a spreadsheet, delete the empty rows and columns around the table and save it again, or save it as CSV UTF-8"
)
_SHEETS: Final = (".xlsx", ".xlsm")


class _Notes:
    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(SIZE * SLOTS))
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 0)
        self._lock = threading.Lock()
        self._slots: dict[int, int] = {}

    def put(self, name: str) -> None:
        """Record what the calling thread reads; an empty name means nothing."""
        with self._lock:
            slot = self._slots.setdefault(threading.get_ident(), len(self._slots))
        if slot < SLOTS:
            self._mapped[slot * SIZE : (slot + 1) * SIZE] = name.encode(errors="replace")[:SIZE].ljust(SIZE, b"\0")


_notes: _Notes | None = None
_here = threading.local()


def note_in(path: Path) -> None:
    """Record in this file from now on."""
    global _notes
    _notes = _Notes(path)


def noted(path: Path) -> list[str]:
    """Return what a process was reading when it ended."""
    try:
        slots = path.read_bytes()
    except OSError:
        return []
    names = (slots[start : start + SIZE].rstrip(b"\0") for start in range(0, len(slots), SIZE))
    return sorted({name.decode(errors="replace") for name in names if name})


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Record that a file is read in this block; blocks can be nested.

    The record remains if an unknown exception ended the block, because that may end the process.

    Raises:
        InputError: there was not enough memory.
    """
    outer, _here.name = getattr(_here, "name", ""), str(name)
    if _notes is not None:
        _notes.put(_here.name)
    try:
        yield
    except MemoryError as error:
        raise without_memory(name, limit_of_memory() or free_memory()) from error
    except (LanfitError, GeneratorExit):
        raise
    except BaseException:
        outer = _here.name
        raise
    finally:
        _here.name = outer
        if _notes is not None:
            _notes.put(outer)


def without_memory(name: object, limit: int) -> LanfitError:
    """Return the error for a file that takes more memory than its reader may use."""
    way = CLEAR if str(name).lower().endswith(_SHEETS) else LESS
    return lanfit_error("file.reader-memory", file=name, limit=readable_size(limit), way=way)
