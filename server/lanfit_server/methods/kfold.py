"""Method `kfold`: k-fold on every client's shard, a fresh model for each fold; a client's model is its best fold's.

A task is one fold, so that a client that is lost takes one fold with it (docs/decisions/0005).
"""

from __future__ import annotations

from lanfit.seeds import derive_seed
from lanfit_server.methods import Independent, Task


def kfold(shards: int, folds: int, seed: int) -> Independent:
    """One task a shard and fold, fold after fold."""
    return Independent(
        [
            Task(f"shard-{index + 1}-fold-{fold}", index, derive_seed(seed, "kfold", index, fold), fold)
            for fold in range(1, folds + 1)
            for index in range(shards)
        ]
    )
