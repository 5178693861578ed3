"""What is compared of runs: metrics, wall time and bytes, and whether it has paid to distribute. Pure.

Numbers are those of summary.json, as they are. Differences are in points (of a hundred, for metrics that are shares),
and in per cent of the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanfit.core.text import pluralize
from lanfit_server.store.summary import ClientFacts, Summary

#: The metrics that come first; others follow.
METRICS = ("accuracy", "precision", "recall", "f1", "loss")
#: Metrics between 0 and 1, whose differences are in points of a hundred.
SHARES = frozenset(METRICS) - {"loss"}
#: Parts of a client's seconds in which it computes, and in which it moves data.
COMPUTING = ("compile", "train", "validate", "import")
NETWORK = ("join", "receive", "send")


def figures_of(summary: Summary) -> dict[str, float]:
    """Return the compared values of a run: the metrics of its final model, its wall time, the bytes of its clients."""
    metrics = dict(summary.final.metrics) if summary.final is not None else {}
    order = [*(name for name in METRICS if name in metrics), *(name for name in metrics if name not in METRICS)]
    moved = sum(client.bytes.received + client.bytes.sent for client in summary.clients)
    return {**{name: metrics[name] for name in order}, "seconds": summary.seconds["total"], "bytes": moved}


def differences(found: Mapping[str, float], base: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    """Return the differences to the baseline: in points, and in per cent of it."""
    return {
        name: {
            "points": 100 * (value - base[name]) if name in SHARES else None,
            "difference": value - base[name],
            "percent": 100 * (value - base[name]) / abs(base[name]) if base[name] else None,
        }
        for name, value in found.items()
        if name in base and math.isfinite(value) and math.isfinite(base[name])
    }


@dataclass(frozen=True)
class Times:
    """Where the time of a run has gone: its wall time, and the seconds of its slowest client."""

    total: float
    computing: float
    network: float

    @classmethod
    def of(cls, summary: Summary) -> Times:
        """Return the times of a run, from the spans that its clients have measured."""
        return cls(
            summary.seconds["total"],
            max((_sum(client, COMPUTING) for client in summary.clients), default=0.0),
            max((_sum(client, NETWORK) for client in summary.clients), default=0.0),
        )


def _sum(client: ClientFacts, parts: Sequence[str]) -> float:
    return sum(client.seconds.get(part, 0.0) for part in parts)


def verdict(clients: int, distributed: Times, alone: Times) -> str:
    """Return one sentence: whether distributing has paid, and why.

    Args:
        clients: the number of clients of the distributed run.
    """
    factor = alone.total / distributed.total if distributed.total else 0.0
    each = f"the slowest of {pluralize(clients, 'client')}" if clients > 1 else "its client"
    computing = (
        f"{each} computed for {_seconds(distributed.computing)} instead of {_seconds(alone.computing)} on one machine"
    )
    moved = f"moving models and data took {_seconds(distributed.network)}"
    rest = max(0.0, distributed.total - distributed.computing - distributed.network)
    if factor > 1.05:
        return f"Distributing paid: it was {factor:.2f} times as fast, because {computing}, and {moved}."
    if factor >= 0.95:
        waited = f"waiting and the server {_seconds(rest)}"
        return f"Distributing made no difference in time: {computing}, but {moved}, and {waited}."
    saved = alone.computing - distributed.computing
    if saved <= 0:
        why = f"{computing}: there was no computing to save"
    elif distributed.network >= rest:
        why = f"it saved {_seconds(saved)} of computing, but {moved}"
    else:
        why = f"it saved {_seconds(saved)} of computing, but {moved}, and waiting and the server {_seconds(rest)}"
    return f"Distributing did not pay: it took {1 / factor:.2f} times as long; {why}." if factor else ""


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s" if value >= 0.1 else f"{value:.2f} s"
