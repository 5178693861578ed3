"""Inputs that are almost valid, by the million, to everything that reads bytes of a peer or of a file.

    python bench/fuzz.py [--inputs 1000000] [--seed 1] [--only csv,npz] [--processes 2] [--keep fuzz-findings]

Whatever is not one of lanfit's own errors is a finding, and so is what ends the process, but for native readers, which
lanfit itself runs in a process with limits. A finding is told with its seed and number, and its input is kept; the run
goes on, and ends with exit code 1. `--only NAME --seed SEED --number NUMBER` gives one input again.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "hostile")]
WHOLE = 1_000_000
PROGRESS_SECONDS = 20.0


def batches(inputs: int, names: list[str], size: int) -> list[tuple[str, range]]:
    """What each parser gets, in pieces, those of all parsers in turns: so that what is left to do can be told."""
    from fuzzing.targets import TARGETS

    whole = sum(TARGETS[name][0] for name in names)
    counts = {name: max(1, inputs * TARGETS[name][0] // whole) for name in names}
    counts[names[0]] += max(0, inputs - sum(counts.values()))
    found = [
        ((start + size) / count, name, range(start, min(count, start + size)))
        for name, count in counts.items()
        for start in range(0, count, size)
    ]
    return [(name, numbers) for _, name, numbers in sorted(found, key=lambda each: each[0])]


def run(inputs: int, seed: int, names: list[str], processes: int, keep: Path) -> int:
    """Give so many inputs; print what came of them; return how many findings there were."""
    from fuzzing.engine import BATCH, Run
    from fuzzing.targets import make

    todo = batches(inputs, names, BATCH)
    fuzz = Run(make, seed, keep, lambda line: print(line, flush=True))
    began = reported = time.monotonic()
    done, whole, lock = 0, sum(len(numbers) for _, numbers in todo), threading.Lock()

    def one(batch: tuple[str, range]) -> None:
        nonlocal done, reported
        fuzz.batch(*batch)
        with lock:
            done += len(batch[1])
            passed = time.monotonic() - began
            if time.monotonic() - reported > PROGRESS_SECONDS or done == whole:
                reported = time.monotonic()
                left = passed / done * (whole - done)
                print(f"{done:,} of {whole:,}, {done / passed:,.0f} a second, {left:.0f} s left", file=sys.stderr)

    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        for future in [pool.submit(one, batch) for batch in todo]:
            future.result()
    print(f"{'parser':<16}{'inputs':>10}{'seconds':>10}{'ended':>7}{'findings':>10}")
    for name in names:
        tally = fuzz.tallies[name]
        figures = f"{tally.inputs:>10,}{tally.seconds:>10.1f}{tally.ended.total():>7}{len(tally.findings):>10}"
        print(f"{name:<16}{figures}" + "".join(f"  {count} × {how}" for how, count in tally.ended.items()))
    findings = sum(len(tally.findings) for tally in fuzz.tallies.values())
    seconds, read = time.monotonic() - began, sum(tally.inputs for tally in fuzz.tallies.values())
    print(f"{'in all':<16}{read:>10,}{seconds:>10.1f}{'':>7}{findings:>10}")
    return findings


def again(name: str, seed: int, number: int) -> int:
    """Give one input again, in this process."""
    from fuzzing.engine import try_inputs
    from fuzzing.targets import make

    with tempfile.TemporaryDirectory() as folder:
        [(_, finding)] = try_inputs(name, make(name, Path(folder)), seed, range(number, number + 1))
    print(finding.detail if finding else "nothing but what it should raise")
    return 1 if finding else 0


def main() -> None:
    from fuzzing.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=WHOLE, help="in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(TARGETS), help="parsers, with commas between them")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where inputs of findings are kept")
    parser.add_argument("--number", type=int, help="only this input, of one parser")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no {', '.join(unknown)}: {', '.join(TARGETS)}")
    if given.number is not None:
        sys.exit(again(names[0], given.seed, given.number))
    sys.exit(1 if run(given.inputs, given.seed, names, given.processes, given.keep) else 0)


if __name__ == "__main__":
    main()
