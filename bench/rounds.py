"""What does a federated round cost beyond its training? Two local clients, processes of their own, over loopback.

    python bench/rounds.py [--small-rounds 100] [--large-rounds 10] [--folder .] [--only small|large]

Overhead is the wall time of a round less the training of its slowest client, as summary.json has it. The median of all
rounds but the first ones is at most 15 ms with 200,000 parameters. With 25 million it is at most 1.3 times what the
same bytes take over bare TLS: a process that sends them to two others at once and takes as many back from each, in the
same run, its best of several sizes of writes.

Waiting for a disk (fsync) is shown apart, and not held against a round: of both kinds there is a run with its workspace
in /dev/shm, where fsync costs nothing, to which the limits apply, and one on disk (--folder), which takes that much
longer. Without /dev/shm they apply to the one on disk, without what the server waits for its ledger. Evaluation and
checkpoint are shown apart, too; they go on beside the next round, take its cores, and a round that ends before they do
waits for them, which is all held against it. Other work on the machine moves everything. Exit code 1 if the limits are
not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from federated_parts import command, describe, free_port, mlp, workspace

from lanfit.net.tls import Identity, client_context, server_context

#: Hidden widths, rows of all clients together.
SMALL, LARGE = ((200, 200), 640), ((4620, 4620), 64)
LIMIT_MS, LIMIT_RATIO = 15.0, 1.3
WARM_UP = 5
WRITE_SIZES = (256 << 10, 1 << 20, 4 << 20)
IN_MEMORY = Path("/dev/shm")


def run_rounds(folder: Path, model: tuple[tuple[int, ...], int], rounds: int) -> tuple[int, list[dict[str, Any]]]:
    """Run; returns the number of parameters, and the rounds after the first ones."""
    widths, rows = model
    random = np.random.default_rng(0)
    # 10 rows more: the server's test rows, without which clients would be asked to score each round.
    x, y = random.random((rows + 10, 784), np.float32), np.resize(np.arange(10), rows + 10)
    workspace(folder, mlp(0.01, widths), x, y)
    job = {"host": "127.0.0.1", "port": free_port(), "local": 2, "clients": 2, "threads": 1, "normalizer": "none"}
    job |= {"rounds": rounds + WARM_UP, "epochs": 1, "batch_size": 32, "validation_split": 0}
    words = [*command("server", folder, **job, test_split=10 / (rows + 10)), "--yes", "--no-dashboard"]
    environment = {**os.environ, "LANFIT_PASSPHRASE": "only on this machine"}
    ran = subprocess.run(words, env=environment, capture_output=True, cwd=folder, check=False)
    try:
        summary = json.loads(ran.stdout)
    except ValueError:
        summary = {}
    if summary.get("status") != "done":
        sys.exit(f"a run did not end well: {ran.stderr.decode(errors='replace')[-2000:]}")
    return summary["model"]["parameters"], summary["rounds"][WARM_UP:]


# --- the bytes over bare TLS ------------------------------------------------------------------------------------


def receive(port: int, size: int, step: int) -> None:
    """The other process: take so many bytes, and give as many back."""
    into = memoryview(bytearray(size))
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        client_context().wrap_socket(plain) as connection,
    ):
        plain_receive(connection, into)
        plain_send(connection, into, step)
        connection.recv(1)


def plain_receive(connection: Any, into: memoryview) -> None:
    position = 0
    while position < len(into):
        position += connection.recv_into(into[position:])


def plain_send(connection: Any, view: memoryview, step: int) -> None:
    for start in range(0, len(view), step):
        connection.sendall(view[start : start + step])


def bare(state: Path, size: int, step: int) -> float:
    """Seconds that two processes take, at once, to get so many bytes and to give them back."""
    context = server_context(Identity.load_or_create(state))
    block = memoryview(os.urandom(1 << 20) * (size // (1 << 20) + 1))[:size]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [sys.executable, __file__, "--receive", *map(str, (listener.getsockname()[1], size, step))]
        others = [subprocess.Popen(words) for _ in range(2)]
        connections = []
        for _ in others:
            plain, _ = listener.accept()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections.append(context.wrap_socket(plain, server_side=True))
        buffers = [memoryview(bytearray(size)) for _ in others]

        def exchange(connection: Any, into: memoryview) -> None:
            plain_send(connection, block, step)
            plain_receive(connection, into)

        threads = [threading.Thread(target=exchange, args=pair) for pair in zip(connections, buffers, strict=True)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        for connection in connections:
            connection.close()
        for other in others:
            other.wait()
    return seconds


def bare_seconds(size: int, repeats: int) -> float:
    """The median of the best size of writes."""
    with tempfile.TemporaryDirectory() as state:
        found = {step: median(bare(Path(state), size, step) for _ in range(repeats)) for step in WRITE_SIZES}
    step = min(found, key=lambda step: found[step])
    print(f"bare TLS, {size / 1e6:.0f} MB to two and back: {1000 * found[step]:.0f} ms (writes of {step >> 10} KiB)")
    return found[step]


# --- both -------------------------------------------------------------------------------------------------------


def print_rounds(where: str, parameters: int, rounds: list[dict[str, Any]]) -> float:
    """Print medians; returns the overhead without the ledger, in seconds."""
    apart = median(each["overhead_seconds"] - each["parts"]["ledger"] for each in rounds)
    parts = ", ".join(
        f"{name} {1000 * median(each['parts'][name] for each in rounds):.1f}" for name in rounds[0]["parts"]
    )
    print(
        f"{parameters:,} parameters, workspace {where}, medians of {len(rounds)} rounds in ms: "
        f"round {1000 * median(each['seconds'] for each in rounds):.1f}, "
        f"overhead {1000 * median(each['overhead_seconds'] for each in rounds):.1f} "
        f"(least {1000 * min(each['overhead_seconds'] for each in rounds):.1f}), "
        f"without the ledger {1000 * apart:.1f}; parts: {parts}",
        flush=True,
    )
    return apart


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small-rounds", type=int, default=100, help="timed, with 200,000 parameters (default 100)")
    parser.add_argument("--large-rounds", type=int, default=10, help="timed, with 25 million parameters (default 10)")
    parser.add_argument("--folder", type=Path, help="on the disk to write to (default: the system's temporary folder)")
    parser.add_argument("--only", choices=("small", "large"), help="one of the two")
    parser.add_argument("--receive", nargs=3, type=int, help=argparse.SUPPRESS)
    if "--receive" in sys.argv:
        receive(*parser.parse_args().receive)
        return 0
    arguments = describe(parser)
    print("This takes an estimated 0.1 CPU hours.", flush=True)
    places = [("on disk", arguments.folder), *([("in memory", IN_MEMORY)] if IN_MEMORY.is_dir() else [])]

    def measure(model: tuple[tuple[int, ...], int], rounds: int) -> tuple[int, float]:
        """Parameters, and the overhead without waiting for a disk."""
        overheads = []
        for where, parent in places:
            with tempfile.TemporaryDirectory(dir=parent) as name:
                parameters, timed = run_rounds(Path(name), model, rounds)
            overheads.append(print_rounds(where, parameters, timed))
        if len(overheads) > 1:
            waiting = 1000 * (overheads[0] - overheads[1])
            print(f"of the overhead on disk, waiting for it beside the ledger: {waiting:.1f} ms")
        return parameters, overheads[-1]

    good = True
    if arguments.only != "large":
        _, overhead = measure(SMALL, arguments.small_rounds)
        good &= 1000 * overhead <= LIMIT_MS
        print(f"200,000 parameters: {1000 * overhead:.1f} ms (at most {LIMIT_MS:.0f})", flush=True)
    if arguments.only != "small":
        parameters, overhead = measure(LARGE, arguments.large_rounds)
        ratio = overhead / bare_seconds(4 * parameters, 3)
        good &= ratio <= LIMIT_RATIO
        print(f"25 million parameters: {ratio:.2f} times bare TLS (at most {LIMIT_RATIO})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
