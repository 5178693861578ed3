"""What can go wrong while a client trains; what is wrong with its own files stands in own_data.py.

Part of the table in lanfit.mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import TrainingError
from lanfit.mistakes.entry import Mistake

MISTAKES: Mapping[str, Mistake] = {
    "training.out-of-memory": Mistake(
        TrainingError,
        "the trainer ran out of memory",
        "Use smaller batches (--batch-size), more clients, or a smaller model.",
    ),
    "training.failed": Mistake(
        TrainingError,
        "the backend reports {kind}: {reason}",
        "Try another backend (--backend), or smaller batches (--batch-size).",
    ),
}
