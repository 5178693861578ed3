"""The folders of checkpoints: one for each task, until its result is safe or nobody wants it any more.

What is in them is the trainer's business. The names of runs and tasks come from a server: they never become names of
folders, only their hashes do.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import Final

#: How many tasks that are not at hand keep theirs: a server may go away, and not come back.
_OTHERS: Final = 2
_NAME: Final = "state.checkpoint"


class Checkpoints:
    """All checkpoints of one client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, run: str, task: str) -> Path:
        """The file for the checkpoints of a task that is begun: its folder is there then, and few others still are."""
        folder = self._task(run, task)
        folder.mkdir(parents=True, exist_ok=True)
        others = [path for path in self._folder.iterdir() if path != folder]
        for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-_OTHERS]:
            _remove(path)
        return folder / _NAME

    def forget(self, run: str, task: str) -> None:
        """A task is done, or not wanted any more."""
        _remove(self._task(run, task))

    def end_run(self, run: str) -> None:
        """No task of a run is wanted any more."""
        for path in self._folder.glob(f"{_hashed(run)}-*"):
            _remove(path)

    def _task(self, run: str, task: str) -> Path:
        return self._folder / f"{_hashed(run)}-{_hashed(task)}"


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _remove(folder: Path) -> None:
    """Remove a folder, even if a trainer is just writing to it: where it is moved to, the trainer doesn't follow."""
    aside = folder.with_name(f"removed-{folder.name}")
    with contextlib.suppress(OSError):
        folder.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
