"""Seeds derived from the run's seed and a purpose, so that the order of events can't change a result."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2**32) for a purpose, e.g. `derive_seed(0, "shard", 3, "validation")`.

    The seed and the purpose are hashed with SHA-256, so neighboring seeds give unrelated streams.
    """
    text = "\0".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
