"""bench/compare.py runs a bench of two checkouts in turns, and compares what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench" / "compare.py"
SCRIPT = """
import pathlib, sys
turns = pathlib.Path("../turns")
number = len(turns.read_text().split()) // 2 if turns.exists() else 0
with turns.open("a") as file:
    print({name!r}, file=file)
print("2026-11-30, load", number)
print("first of 3:", {first}[number], "s in sha256")
print("second of 3:", f"{{{second}[number]:,}}", "B")
print("second of 3: 12 B")
print("note of", {name!r})
sys.exit({code})
"""


def checkout(folder: Path, first: list[float], second: list[int], code: int) -> Path:
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    text = SCRIPT.format(name=folder.name, first=first, second=second, code=code)
    (folder / "bench.py").write_text(text)
    return folder


def test_two_checkouts_take_turns_and_their_numbers_are_compared(tmp_path: Path) -> None:
    old = checkout(tmp_path / "old", [2.0, 4.0, 8.0], [1000, 1000, 1000], code=0)
    new = checkout(tmp_path / "new", [3.0, 2.0, 16.0], [2500, 2500, 2500], code=1)
    words = [sys.executable, BENCH, "--turns", "3", old, new, "bench.py"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "turns").read_text().split() == ["old", "new", "new", "old", "old", "new"]
    lines = done.stdout.splitlines()
    at = lines.index("first of 3: # s in sha256")
    assert lines[at + 1].split("   ")[-2:] == [
        " 4.000 (2.000 to 8.000) -> 3.000 (2.000 to 16.000)", "ratio 1.50 (0.50 to 2.00)"
    ]  # fmt: skip
    assert lines[at + 2 :][:2] == [
        "second of 3: # B",
        "    1,000.000 (1,000.000 to 1,000.000) -> 2,500.000 (2,500.000 to 2,500.000)   ratio 2.50 (2.50 to 2.50)",
    ]
    assert "second of 3: 12 B" not in done.stdout
    assert "load" not in done.stdout
    assert "note of old: not in each run" in lines
    assert "    0.000 (0.000 to 0.000) -> 1.000 (1.000 to 1.000)" in lines, "exit codes"


def test_a_bench_that_fails_says_so(tmp_path: Path) -> None:
    old = checkout(tmp_path / "old", [1.0], [1], code=0)
    (old / "bench.py").write_text("import sys; sys.exit('it broke')")
    done = subprocess.run([sys.executable, BENCH, old, old, "bench.py"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "it broke" in done.stderr
