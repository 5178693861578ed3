"""What 100,000 broken frames over 1,000 connections cost a server, and an honest run beside them.

    python bench/hostile.py [--connections 1000] [--frames 100] [--epochs 100]

Prints by how much the server's memory grew (limit 50 MiB), and how much later an honest run ends while the frames come
(limit 5 %): the median of several runs with them and without them, in turns. As on a network, the honest client has a
machine of its own: one core; who sends the frames shares another one with the server, which is worse than a network is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
MEMORY_LIMIT = 50.0
LATER_LIMIT = 0.05
REPEATS = 3
#: The server and who sends the frames have the first, the honest client the second.
CORES = (0, 1)


def run(folder: Path, connections: int, frames: int, epochs: int) -> tuple[float, float]:
    """One honest run on the digits while frames come; returns its seconds, and by how many MiB the server grew."""
    from invalid_frames import pour
    from running import Place, client, flags, free_port, port_of

    with Place(folder / "server").server(*flags(free_port(), 1, epochs=epochs)) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        pouring = threading.Thread(target=lambda: asyncio.run(pour(port, connections, frames)))
        began = time.perf_counter()
        with client(folder / "lab", port, "honest", "--threads", 1) as honest:
            psutil.Process(honest.process.pid).cpu_affinity([CORES[1]])  # what it starts inherits it
            honest.expect("Joined")
            pouring.start()
            honest.expect("The server has stored the result", seconds=3600)
            seconds = time.perf_counter() - began
            grown = (process.memory_info().rss - before) / 2**20
            server.finish()
            honest.finish()
        pouring.join()
    return seconds, grown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=100)
    given = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of every frame after a cut
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {CORES[0]})
    alone, beside, grown = [], [], []
    for repeat in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            alone.append(run(Path(folder) / "alone", 0, 0, given.epochs))
            beside.append(run(Path(folder) / "beside", given.connections, given.frames, given.epochs))
        grown.append(beside[-1][1] - alone[-1][1])
        print(f"run {repeat + 1}: alone {alone[-1][0]:.1f} s, beside the flood {beside[-1][0]:.1f} s", file=sys.stderr)
    later = statistics.median(s for s, _ in beside) / statistics.median(s for s, _ in alone) - 1
    print(f"{given.connections * given.frames:,} broken frames over {given.connections:,} connections:")
    print(f"the server's memory grew by {max(grown):.1f} MiB (limit {MEMORY_LIMIT:.0f})")
    print(f"an honest run beside it ends {later:+.1%} later (limit {LATER_LIMIT:.0%})")
    sys.exit(max(grown) > MEMORY_LIMIT or later > LATER_LIMIT)


if __name__ == "__main__":
    main()
