"""Two runs of the same model on the same rows, one on all clients and one on one machine.

Both have the number of their pair in a comment above their job.toml, which is written before they begin, so that it
survives any end of the server.
"""

from __future__ import annotations

import re
from pathlib import Path

_PAIR = re.compile(r"^# (All clients|One machine) of pair ([0-9a-f]{8})", re.MULTILINE)


def remark(pair: str, *, alone: bool = False) -> str:
    """Return the comment above the job of a run.

    Args:
        alone: whether it is the run on one machine.
    """
    return f"# {'One machine' if alone else 'All clients'} of pair {pair}\n"


def pair_of(folder: Path) -> tuple[str, bool] | None:
    """Return the pair of a run, and whether it is the one on one machine; None if it has none."""
    try:
        with (folder / "job.toml").open(encoding="utf-8", errors="replace") as file:
            found = _PAIR.search(file.read(1000))
    except OSError:
        return None
    return (found[2], found[1] == "One machine") if found else None


def partner_of(folder: Path) -> Path | None:
    """Return the folder of the other run of the pair; None if there is none beside it, or none with a summary."""
    pair = pair_of(folder)
    if pair is None:
        return None
    others = (other for other in folder.parent.iterdir() if other != folder and (other / "summary.json").is_file())
    return next((other for other in others if pair_of(other) == (pair[0], not pair[1])), None)
