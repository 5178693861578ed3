"""Seeds that derive from the run's seed and a purpose, so that no order of events can change a result."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2**32) for a purpose, e.g. `derive_seed(0, "shard", 3, "validation")`.

    The seed and the purpose go through SHA-256, so neighbouring seeds give unrelated streams.
    """
    text = "\0".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
