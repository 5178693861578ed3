"""How soon lanfit is there: the first question, the help, and when a client has joined and received.

    python bench/startup.py

Prints medians of several starts in seconds; the limits are 0.5 s to the first question and 0.25 s for the help.
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


def main() -> None:
    print(f"python bench/startup.py  {datetime.date.today()}  {platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "python -c pass": [command("-c", "pass") for _ in range(REPEATS)],
            "lanfit --help (limit 0.25)": [command("-m", "lanfit.cli", "--help") for _ in range(REPEATS)],
            "lanfit server, first question (limit 0.5)": [first_question(Path(folder)) for _ in range(REPEATS)],
        }
    for name, seconds in rows.items():
        print(f"{name:<45} {statistics.median(seconds):.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})")


if __name__ == "__main__":
    main()
