"""The progress display of a client at a terminal, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lanfit.core.gauge import Transfer, bar, clock, cut, percent, short
from lanfit.core.text import sanitize
from lanfit.wire.messages import Progress

#: A line, and its style in rich.
Line = tuple[str, str]
LONGEST_BAR = 30
GAP = "  "


def bar_lines(
    progress: Progress | None, receiving: Transfer | None, sending: Transfer | None, left: float | None,
    width: int, now: float,
) -> Sequence[Line]:  # fmt: skip
    """Return the lines at the bottom of the terminal: one for an upload, and one for the current task.

    Args:
        left: seconds until the task is trained, if known.
        now: seconds on the monotonic clock.
    """
    lines = []
    if sending is not None:
        lines.append(_line("sending", sending.share, sending.describe(now), width))
    task = " ".join(sanitize(progress.task).split()) if progress is not None else ""
    if progress is None:
        pass
    elif receiving is not None:
        lines.append(_line(f"{task}  receiving", receiving.share, receiving.describe(now), width))
    elif progress.state == "training" and progress.epochs:
        parts = [f"epoch {progress.epoch}/{progress.epochs}"]
        if progress.epoch > 1 or progress.step > 0:
            parts.append(f"loss {short(progress.loss)}")
        if left is not None:
            parts.append(f"{clock(left)} left")
        lines.append(_line(task, progress.share, GAP.join(parts), width))
    else:
        lines.append((cut(f"{task}{GAP}{progress.state} …", width), ""))
    return lines


def _line(head: str, share: float, parts: str, width: int) -> Line:
    """Return a progress bar between two texts, or only the texts if there is no space for it."""
    free = width - len(head) - len(parts) - len(percent(share)) - 3 * len(GAP)
    drawn = [bar(share, min(LONGEST_BAR, free))] if free >= 4 else []
    return cut(GAP.join([head, *drawn, f"{percent(share).strip():>4}", parts]), width), ""
