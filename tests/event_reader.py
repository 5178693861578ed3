"""TensorBoard's own reader of event files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def read(folder: Path) -> Any:
    """What TensorBoard finds in a folder, with its reader that needs no TensorFlow."""
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))  # it looks for this name first
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found
