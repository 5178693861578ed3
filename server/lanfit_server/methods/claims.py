"""Limits on what clients claim: the number of rows that only a client has seen is a claim. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lanfit.settings.job import DEFAULTS
from lanfit.training.metrics import mean_figures

if TYPE_CHECKING:
    from lanfit_server.clusters.events import Evaluated


def capped(claims: Sequence[int], limit: float) -> tuple[int, ...]:
    """Return the weight of each of these numbers of rows: at most `limit` times their median, and at least 1.

    Of two middle values the smaller one is the median: otherwise, with two clients, a dishonest one would set its own
    limit. If none exceeds it, all are returned unchanged.
    """
    if not claims:
        return ()
    most = max(1, int(limit * sorted(claims)[(len(claims) - 1) // 2]))
    return tuple(min(claim, most) for claim in claims)


def weighted(answers: Sequence[Evaluated], max_weight: float = DEFAULTS.max_weight) -> dict[str, float]:
    """Return the mean of each metric, weighted by the rows that it was measured on; see `capped` for `max_weight`."""
    found = [answer for answer in answers if answer.rows > 0 and answer.metrics]
    weights = capped([answer.rows for answer in found], max_weight)
    return mean_figures([(weight, answer.metrics) for weight, answer in zip(weights, found, strict=True)])
