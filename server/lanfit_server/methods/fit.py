"""Method `fit`: every client fits its own copy of the model on its shard; the best of them is the outcome."""

from __future__ import annotations

from lanfit.seeds import derive_seed
from lanfit_server.methods import Independent, Task


def fit(shards: int, seed: int) -> Independent:
    """One task a shard."""
    return Independent([Task(f"shard-{index + 1}", index, derive_seed(seed, "fit", index)) for index in range(shards)])
