"""How many clients fit on one machine: memory with 4 and with 100 simulated clients of the same rows, and rounds/s.

    python bench/simulation.py [--few 4] [--many 100] [--rows 20000] [--rounds 5] [--pool 2]

Memory is the peak of all processes together (server, model process, trainers), pages that they share counted once where
the system tells (Linux: PSS), sampled while the runs go on. 100 clients may take at most 200 MB more than 4. Rounds/s
and how long a task keeps a trainer beyond its training are printed; they have no limit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

LIMIT = 200 * 10**6
#: CPU seconds that starting three processes with TensorFlow takes, and a task: measured, rounded up.
START_SECONDS, TASK_SECONDS = 40.0, 0.4
NAMES = {
    "lanfit.cli": "server",
    "lanfit_server.models.model_process": "model process",
    "lanfit.training.trainer": "trainers",
}
MODEL = """
import keras, sys
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(200, "relu"), keras.layers.Dense(200, "relu"),
                          keras.layers.Dense(10, "softmax")])
model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.save(sys.argv[1])
"""


@dataclass(frozen=True)
class Measured:
    """One run. Memory in bytes, times in seconds."""

    clients: int
    peak: dict[str, int]
    """When all together took most."""
    seconds: float
    rounds: int
    wall: float
    """Of all rounds but the first, in which models are compiled."""
    trained: float
    """What a task computed, in the mean."""


def memory(run: psutil.Process) -> dict[str, int]:
    """Bytes of a simulation's processes, by what they are."""
    found: dict[str, int] = {}
    for process in [run, *run.children(recursive=True)]:
        try:
            module, info = process.cmdline()[3], process.memory_full_info()
        except (psutil.Error, IndexError):
            continue  # it is just ending
        role = NAMES.get(module, module)
        found[role] = found.get(role, 0) + getattr(info, "pss", info.rss)
    return found


def measure(folder: Path, clients: int, rounds: int, pool: int) -> Measured:
    """Simulate, and watch."""
    command = [sys.executable, "-P", "-m", "lanfit.cli", "simulate", "--json", "--workspace", folder, "--threads", "1"]
    job = {"clients": clients, "method": "federated", "rounds": rounds, "epochs": 1, "pool": pool, "batch-size": 32}
    arguments = [str(part) for key, value in job.items() for part in (f"--{key}", value)]
    began, peak = time.monotonic(), dict[str, int]()
    reported = folder / "summary.json"  # too long for a pipe that nobody reads meanwhile
    with (
        reported.open("wb") as file,
        subprocess.Popen([*map(str, command), *arguments], stdout=file, stderr=subprocess.DEVNULL) as run,
    ):
        whole = psutil.Process(run.pid)
        while run.poll() is None:
            try:
                peak = max(peak, memory(whole), key=lambda each: sum(each.values()))
            except psutil.Error:
                break
            time.sleep(0.1)
    summary: dict[str, Any] = json.loads(reported.read_bytes())
    if summary.get("status") != "done":
        sys.exit(f"the run with {clients} clients did not end well: {summary}")
    later = summary["rounds"][1:]
    wall = sum(each["seconds"] for each in later)
    trained = [each["seconds"]["train"] + each["seconds"]["validate"] for each in summary["clients"]]
    return Measured(clients, peak, time.monotonic() - began, len(later), wall, sum(trained) / clients / rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--few", type=int, default=4)
    parser.add_argument("--many", type=int, default=100)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pool", type=int, default=2)
    arguments = parser.parse_args()
    tasks = arguments.rounds * (arguments.few + arguments.many)
    hours = (2 * START_SECONDS + tasks * TASK_SECONDS) / 3600
    print("$ python", *sys.argv)
    print(f"{datetime.date.today()}, {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"This takes about {hours:.2f} CPU hours.", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("model", "dataset/X", "dataset/Y"):
            (folder / part).mkdir(parents=True)
        subprocess.run([sys.executable, "-c", MODEL, folder / "model" / "mlp.h5"], check=True, capture_output=True)
        random = np.random.default_rng(0)
        np.savez(folder / "dataset" / "X" / "x.npz", x=random.random((arguments.rows, 784), np.float32))
        np.savez(folder / "dataset" / "Y" / "y.npz", y=random.integers(0, 10, arguments.rows))
        few, many = (measure(folder, n, arguments.rounds, arguments.pool) for n in (arguments.few, arguments.many))
    for each in (few, many):
        task = each.wall * min(arguments.pool, each.clients) / each.rounds / each.clients
        print(
            f"{each.clients} clients, {arguments.pool} trainers: peak {sum(each.peak.values()) / 1e6:.0f} MB ("
            f"{', '.join(f'{role} {size / 1e6:.0f}' for role, size in each.peak.items())}), {each.seconds:.1f} s; "
            f"{each.rounds / each.wall:.2f} rounds/s; a task keeps a trainer for {1000 * task:.1f} ms, "
            f"{1000 * each.trained:.1f} ms of them in training"
        )
    more = sum(many.peak.values()) - sum(few.peak.values())
    print(f"{many.clients} clients take {more / 1e6:.0f} MB more than {few.clients} (at most {LIMIT / 1e6:.0f})")
    return more > LIMIT


if __name__ == "__main__":
    sys.exit(main())
