"""Everything in lanfit that reads bytes of a peer, or of a file, by name.

Each target makes valid inputs with lanfit's own code, spoils them, and does with one what lanfit does with it, up to
where Keras would build a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuzzing import files, models, stored_files, wire
from fuzzing.base import Targets

TARGETS: Targets = {**wire.TARGETS, **files.TARGETS, **models.TARGETS, **stored_files.TARGETS}


def make(name: str, folder: Path) -> Any:
    """The target of that name."""
    return TARGETS[name][1](folder)
