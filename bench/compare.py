"""Is a bench slower than it was? Runs it in two checkouts, taking turns, and compares every number that it prints.

    python bench/compare.py [--turns 5] [--minutes 10] [--cores 0,1] BEFORE AFTER bench/startup.py [its arguments]

Both checkouts run their own script, or both the one whose path is absolute, with the interpreter of their own `.venv`.
Lines of the same words belong together.
Numbers that never differ are settings; for all others, and for the seconds and processor seconds of the whole bench,
there are medians with the least and the most, and the median of the ratios after / before of the turns' pairs. Other
work on the machine moves times most and ratios least; a difference that is smaller than the spread of the ratios is
none. Other work also moves processor seconds, because cores share caches.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

Numbers = dict[tuple[str, int], list[float]]
"""The numbers of each line, by its words and how many lines of the same words were before it."""

#: Not the digits of a name such as sha256.
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def numbers(text: str) -> Numbers:
    """Return the numbers of each line, without those that carry a date: these say where and when."""
    found: Numbers = {}
    for line in text.splitlines():
        if _DATE.search(line) or line.startswith(("$", "command")):
            continue
        words = " ".join(_NUMBER.sub("#", line).split())
        count = sum(known == words for known, _ in found)
        found[words, count] = [float(number.replace(",", "")) for number in _NUMBER.findall(line)]
    return found


def run(checkout: Path, words: Sequence[Path | str]) -> Numbers:
    """Run the bench once."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    python = checkout.resolve() / ".venv" / "bin" / "python"
    done = subprocess.run([python, *words], cwd=checkout, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = numbers(done.stdout)
    if not found:
        sys.exit(f"{checkout}: the bench printed no numbers (exit code {done.returncode}): {done.stderr[-2000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**found, ("the whole bench: # s, # s of processors, exit code #", 0): [seconds, used, done.returncode]}


def compare(pairs: Sequence[tuple[Numbers, Numbers]]) -> list[str]:
    """Return what to print."""
    lines = []
    for key in pairs[0][0]:
        if not all(key in each for pair in pairs for each in pair):
            lines.append(f"{key[0]}: not in each run")
            continue
        columns = list(zip(*(zip(before[key], after[key], strict=True) for before, after in pairs), strict=True))
        varying = [column for column in columns if len({number for pair in column for number in pair}) > 1]
        if not varying:
            continue
        filled = iter("#" if column in varying else f"{column[0][0]:g}" for column in columns)
        lines.append(re.sub("#", lambda _, filled=filled: next(filled), key[0]))
        for column in varying:
            sides = " -> ".join(_spread(side, "{:,.3f}") for side in zip(*column, strict=True))
            ratios = [after / before for before, after in column if before]
            lines.append(f"    {sides}" + (f"   ratio {_spread(ratios, '{:.2f}')}" if ratios else ""))
    return lines


def _spread(values: Sequence[float], form: str) -> str:
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="how often each of both runs (default 5)")
    parser.add_argument("--minutes", type=float, default=60, help="begin no turn after so many (default 60)")
    parser.add_argument("--cores", help="the cores to run on, such as 0,1 (default: all)")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("bench", type=Path, help="the script, relative to each checkout")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    given = parser.parse_args()
    if given.cores:
        os.sched_setaffinity(0, {int(core) for core in given.cores.split(",")})
    print("$ python", *sys.argv)
    print(f"{datetime.date.today()}, {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    runs: dict[Path, list[Numbers]] = defaultdict(list)
    sides = [given.before, given.after]
    latest = time.monotonic() + 60 * given.minutes
    for turn in range(given.turns):
        if turn and time.monotonic() > latest:
            break
        for side in reversed(sides) if turn % 2 else sides:
            runs[side].append(run(side, [given.bench, *given.arguments]))
    print(f"before -> after, medians of {len(runs[given.after])} turns (least to most)")
    print(*compare(list(zip(*(runs[side] for side in sides), strict=True))), sep="\n")


if __name__ == "__main__":
    main()
