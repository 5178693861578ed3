"""The folders of checkpoints: one per task, until its result is safe or no longer needed.

The trainer defines their contents. The names of runs and tasks come from a server: only their hashes become names of
folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import Final

#: How many tasks that are not current keep theirs: a server may disappear, and not come back.
_OTHERS: Final = 2
_NAME: Final = "state.checkpoint"


class Checkpoints:
    """All checkpoints of one client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, run: str, task: str) -> Path:
        """Return the file for the checkpoints of a task that starts: creates its folder, and removes all but a few
        others."""
        folder = self._task(run, task)
        folder.mkdir(parents=True, exist_ok=True)
        others = [path for path in self._folder.iterdir() if path != folder]
        for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-_OTHERS]:
            _remove(path)
        return folder / _NAME

    def forget(self, run: str, task: str) -> None:
        """Remove the checkpoints of a task that is done, or no longer needed."""
        _remove(self._task(run, task))

    def end_run(self, run: str) -> None:
        """Remove the checkpoints of a run that no longer needs its tasks."""
        for path in self._folder.glob(f"{_hashed(run)}-*"):
            _remove(path)

    def _task(self, run: str, task: str) -> Path:
        return self._folder / f"{_hashed(run)}-{_hashed(task)}"


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _remove(folder: Path) -> None:
    """Remove a folder, even while a trainer writes to it: it is moved to where the trainer does not follow."""
    aside = folder.with_name(f"removed-{folder.name}")
    with contextlib.suppress(OSError):
        folder.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
