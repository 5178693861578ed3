"""`/training_status`: the state of training in a few plain values, for scripts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def training_status(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of training from a snapshot of the board.

    `state` is idle, starting, running, paused, finishing, done, partial, failed or interrupted. Values that there are
    not yet are null. `epoch`, `batch` and the metrics are those of the client that is furthest behind.
    """
    run: Mapping[str, Any] = snapshot.get("run") or {}
    tiles = [tile for tile in snapshot["clients"].values() if tile["state"] != "lost"]
    behind = min((tile for tile in tiles if tile["task"]), key=lambda tile: tile["progress"], default=None)
    loss = _last(snapshot["series"], "loss")
    accuracy = _last(snapshot["series"], "accuracy")
    metrics = run.get("metrics") or {}
    return {
        "state": _state(run),
        "run": run.get("run") or None,
        "method": run.get("method"),
        "epoch": behind["epoch"] if behind else None,
        "epochs": run.get("epochs"),
        "round": run.get("round") or None,
        "rounds": run.get("rounds"),
        "batch": behind["batch"] if behind else None,
        "batches": behind["batches"] if behind else None,
        "loss": metrics.get("loss", loss),
        "accuracy": metrics.get("accuracy", accuracy),
        "progress": run.get("progress"),
        "seconds_left": run.get("seconds_left"),
        "error": run.get("error") or None,
        "clients": [
            {
                "name": tile["name"],
                "state": tile["state"],
                "epoch": tile["epoch"],
                "epochs": tile["epochs"],
                "batch": tile["batch"],
                "batches": tile["batches"],
                "progress": tile["progress"],
                "samples_per_second": tile["rate"],
                "loss": tile["metrics"].get("loss"),
                "accuracy": tile["metrics"].get("accuracy"),
            }
            for tile in tiles
        ],
    }


def _state(run: Mapping[str, Any]) -> str:
    if not run:
        return "idle"
    if run["state"] == "ended":
        return str(run["status"] or "failed")
    return "paused" if run.get("paused") else str(run["state"])


def _last(series: Mapping[str, Any], metric: str) -> float | None:
    """Return the last training value of the global model, or of the mean of the clients."""
    found = [
        each["points"][-1]
        for each in series.values()
        if each["client"] == "" and each["metric"] == metric and each["part"] == "training" and each["points"]
    ]
    return max(found)[1] if found else None
