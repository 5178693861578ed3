"""Names in narrow columns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def shortened(names: Sequence[str], width: int) -> dict[str, str]:
    """Return names of at most this many characters, truncated in the middle where they do not differ: `DESKTOP-…A1B2`.

    All are truncated at the same position, if possible one where they stay distinct.
    """
    long = [name for name in names if len(name) > width]
    if not long:
        return {name: name for name in names}
    if width < 3:
        return {name: name[:width] for name in names}
    alike = _alike(long) if len(long) > 1 else 0
    wanted = min(alike, width - 1 - min(4, width // 2)) if alike else width // 2

    def at(head: int) -> Callable[[str], str]:
        return lambda name: name if len(name) <= width else f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"

    heads = sorted(range(width - 1), key=lambda head: abs(head - wanted))
    best = max(heads, key=lambda head: len(set(map(at(head), names))))
    if len(set(map(at(best), names))) == len(set(names)):
        return {name: at(best)(name) for name in names}
    middle = f"…{{:.{width - 2}}}…"  # they differ between two long common ends
    parts = {name: name if len(name) <= width else middle.format(name[alike:]) for name in names}
    return parts if len(set(parts.values())) > len(set(map(at(best), names))) else {n: at(best)(n) for n in names}


def _alike(names: Sequence[str]) -> int:
    """Return the length of the common prefix of all names."""
    first, last = min(names), max(names)
    return next((index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
