"""How soon lanfit is there: the first question, the help, and when a client has joined and received.

    python bench/startup.py

Prints medians of several starts in seconds; the limits are 0.5 s to the first question and 0.25 s for the help. Beside
them are the processor seconds of a start in the mean (not on Windows), which other work on the machine moves less.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPEATS = 9


def first_question(folder: Path) -> float:
    """Seconds from the command to its first question."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "lanfit.cli", "server"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    process.stderr.read(1)
    seconds = time.perf_counter() - began
    process.communicate()  # the end of the input ends it
    return seconds


def command(*arguments: str) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def repeat(start: Callable[[], float]) -> tuple[list[float], float]:
    """Return the seconds of each start, and the processor seconds in the mean."""
    before = os.times()
    seconds = [start() for _ in range(REPEATS)]
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used / REPEATS


def main() -> None:
    print(f"python bench/startup.py  {datetime.date.today()}  {platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "python -c pass": repeat(lambda: command("-c", "pass")),
            "lanfit --help (limit 0.25)": repeat(lambda: command("-m", "lanfit.cli", "--help")),
            "lanfit server, first question (limit 0.5)": repeat(lambda: first_question(Path(folder))),
        }
    for name, (seconds, used) in rows.items():
        spread = f"({min(seconds):.3f} to {max(seconds):.3f})"
        print(f"{name:<45} {statistics.median(seconds):.3f} s  {spread}, {used:.3f} s of processors")


if __name__ == "__main__":
    main()
