"""How much what clients say of themselves counts: rows that only a client has seen are a claim. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def counted(claims: Sequence[int], limit: float) -> tuple[int, ...]:
    """Return what each of these numbers of rows counts: at most `limit` times their median, and at least 1.

    Of two in the middle the smaller one is the median: between two clients, one that lies would otherwise set its own
    limit. Where none is over it, all are returned as they are.
    """
    if not claims:
        return ()
    most = max(1, int(limit * sorted(claims)[(len(claims) - 1) // 2]))
    return tuple(min(claim, most) for claim in claims)
