"""Is anything lost when anything can break at any time?

    python bench/chaos.py [--faults 200] [--seed 1] [--method kfold] [--epochs 150] [--seconds 600]

A server and three clients, programs in folders of their own, do a job on some of the digits, k-fold or (--method
federated) rounds with an optimizer on the server that remembers: once in peace, then again and again while clients,
trainers, the server and its model process are killed with kill -9 and started again, paused, and their links cut, at
random moments of unfinished tasks, until so many faults have hit one. A fault that hits nothing is not counted:
one of a client counts while the client holds a task, one of the server while any does.

Every run must end, with status done, and:
- results lost: none of those that a client was told are on disk may be missing or broken there when the server is
  killed; none that is there may be trained again; at the end every task has its result;
- results double: none may count twice, in the events and in the summary;
- models equal: all collected models are those of the run in peace, to the bit.

Prints one line a run and a table; exit code 1 when something is not as it must be, or when nothing happens for
`--seconds`: then the folder with everything stays, and the last lines of all programs are shown. All moments are drawn
from the seed; what they hit depends on the machine, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from chaos_parts import (
    MARK,
    ClientLog,
    Course,
    Later,
    Program,
    Wire,
    in_outbox,
    last_lines,
    left_behind,
    models_in,
    on_disk,
)

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ("lab-1", "lab-2", "lab-3")
#: Tasks of a client: folds, or rounds.
TASKS = 3
#: What is done with them.
METHODS = {
    "kfold": {"folds": TASKS},
    "federated": {"rounds": TASKS, "strategy": "fedadam"},
}
#: Lines of the digits: enough for nine folds with all classes.
ROWS = 300
PASSPHRASE = "velvet otter rinse cargo"
#: Faults of one run, at most: then it is left alone until it ends.
FAULTS_A_RUN = 16
#: A task that kills one trainer more is given up, as it should be.
TRAINERS_A_TASK = 2


class Broken(Exception):
    """Something is not as it must be."""


class Bench:
    """The programs, and what is done to them."""

    def __init__(self, folder: Path, seed: int, method: str, epochs: int, patience: float, mark: str) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._method = method
        self._epochs = epochs
        self._patience = patience
        self._later = Later()
        self._port = free_port()
        self._wires = {name: Wire(self._port) for name in CLIENTS}
        self._paused: set[str] = set()
        self._bag: list[str] = []
        # TensorFlow leaves generated files where temporary ones go when it is killed.
        temporary = folder / "temporary"
        temporary.mkdir()
        environment = {MARK: mark, "TF_CPP_MIN_LOG_LEVEL": "2", "TMPDIR": str(temporary)}
        self._server = Program("server", folder, environment)
        self._clients = {name: Program(name, folder, environment) for name in CLIENTS}
        self._kinds: dict[str, Callable[[], bool]] = {
            "client killed": self._kill_client,
            "trainer killed": self._kill_trainer,
            "model process killed": self._kill_models,
            "server killed": self._kill_server,
            "client paused": self._pause_client,
            "server paused": self._pause_server,
            "link cut": self._cut_link,
            "link silent": self._silence_link,
            "all links cut": self._cut_all_links,
        }
        self.hits: Counter[str] = Counter()
        self.beside: Counter[str] = Counter()
        self.lost = self.double = 0
        self.problems: list[str] = []
        make_places(folder)

    # --- one run ------------------------------------------------------------------------------------------------

    def run(self, seed: int, faults: int) -> dict[str, str]:
        """Do the job while up to so many faults hit it; returns its models."""
        began, hits = time.monotonic(), self.hits.total()
        logs = self._folder / "server" / "logs"
        before = set(logs.glob("*/ledger.sqlite"))
        self._job = self._flags(seed)
        self._output = {name: ClientLog(client.log) for name, client in self._clients.items()}
        self._run, self._stats = "", Course(logs)
        self._start_server()
        for client in self._clients.values():
            if not client.alive:
                self._start_client(client)
        self._wait(lambda: bool(set(logs.glob("*/ledger.sqlite")) - before))
        (ledger,) = set(logs.glob("*/ledger.sqlite")) - before
        self._run, self._stats = ledger.parent.name, Course(ledger.parent / "events.jsonl")
        self._go_on_until_the_end(hits + faults)
        self._check()
        models = models_in(self._folder / "server" / "model" / "collected" / self._run)
        count = self.hits.total() - hits
        print(
            f"run {self._run}  {count:>2} faults  {time.monotonic() - began:>4.0f} s  results lost {self.lost}  double "
            f"{self.double}",
            flush=True,
        )
        return models

    def _go_on_until_the_end(self, most: int) -> None:
        """Let the run go its way, and disturb it, until the server has ended by itself."""
        next_fault, seen, last = time.monotonic() + self._random.uniform(0.2, 2), -1, time.monotonic()
        at_the_end = most > self.hits.total() and self._random.random() < 0.3
        while True:
            now = time.monotonic()
            self._later.do(now)
            self._stats.read()
            if self._stats.lines != seen:
                seen, last = self._stats.lines, now
            if not self._killed and self._server.code is not None:
                break
            if now >= next_fault and self.hits.total() < most and self._strike():
                next_fault = now + self._random.uniform(0.2, 2.5)
            if at_the_end and len(self._stats.returned) == TASKS * len(CLIENTS) and not self._killed:
                at_the_end = False
                self._later.add(now + self._random.uniform(0, 2), self._kill_server_at_the_end)
            if now - last > self._patience:
                raise Broken(f"run {self._run}: nothing has happened for {self._patience:.0f} s")
            time.sleep(0.02)
        self._later.do(float("inf"))

    def _wait(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._patience
        while not happened():
            if self._server.code is not None or time.monotonic() > deadline:
                raise Broken(f"no run was started; the server's exit code is {self._server.code}")
            time.sleep(0.05)

    def _flags(self, seed: int) -> list[object]:
        values = {
            "host": "127.0.0.1", "port": self._port, "clients": len(CLIENTS), "method": self._method,
            **METHODS[self._method], "epochs": self._epochs, "normalizer": "zscore", "threads": 1, "seed": seed,
        }  # fmt: skip
        return [part for key, value in values.items() for part in (f"--{key}", value)] + ["--yes", "--json"]

    def _start_server(self) -> None:
        self._killed = False
        if self._run:
            self._server.start("server", "--resume", self._run, "--json")
        else:
            self._server.start("server", *self._job, LANFIT_PASSPHRASE=PASSPHRASE)

    def _start_client(self, client: Program) -> None:
        address = f"127.0.0.1:{self._wires[client.name].port}"
        client.start("client", address, "--name", client.name, "--threads", 1, LANFIT_PASSPHRASE=PASSPHRASE)

    # --- faults -------------------------------------------------------------------------------------------------

    def _strike(self) -> bool:
        """Do the next fault that hits something; False when there is nothing to hit just now."""
        if not self._bag:
            self._bag = list(self._kinds)
            self._random.shuffle(self._bag)
        for kind in self._bag:
            if self._kinds[kind]():
                self._bag.remove(kind)
                self.hits[kind] += 1
                return True
        return False

    def _working(self) -> list[Program]:
        """The clients that hold a task and are not hit already."""
        return [
            client
            for name, client in self._clients.items()
            if name in self._stats.holders and client.alive and name not in self._paused
        ]

    def _victim(self) -> Program | None:
        working = self._working()
        return self._random.choice(working) if working else None

    def _soon(self, longest: float, action: Callable[[], None]) -> None:
        self._later.add(time.monotonic() + self._random.uniform(0, longest), action)

    def _kill_client(self) -> bool:
        if (client := self._victim()) is None:
            return False
        client.kill()
        self._stats.holders.pop(client.name, None)
        self._soon(2, partial(self._start_client, client))
        return True

    def _kill_trainer(self) -> bool:
        unfinished = [task for task in self._stats.failures if task not in self._stats.returned]
        if any(self._stats.failures[task] >= TRAINERS_A_TASK for task in unfinished) or self._killed:
            return False  # by the time the kill lands its task may be another one
        client = self._victim()
        trainers = client.children() if client is not None else []
        if client is None or not trainers:
            return False
        for trainer in trainers:
            with contextlib.suppress(Exception):
                trainer.kill()
        # No other is killed until this task is done.
        self._stats.failures[self._stats.holders.pop(client.name)] += 1
        return True

    def _server_is_up(self) -> bool:
        return self._server.alive and "server" not in self._paused

    def _kill_server(self) -> bool:
        if not self._server_is_up() or not self._working():
            return False
        self._end_server_hard()
        return True

    def _kill_models(self) -> bool:
        """What the system takes when memory runs out."""
        if not self._server_is_up() or not self._working():
            return False
        children = self._server.children()
        for child in children:
            with contextlib.suppress(Exception):
                child.kill()
        return bool(children)

    def _kill_server_at_the_end(self) -> None:
        if self._server_is_up():
            self.beside["server killed after the last result"] += 1
            self._end_server_hard()

    def _end_server_hard(self) -> None:
        self._killed = True
        self._server.kill()
        self._check_what_was_acknowledged()
        self._soon(2, self._start_server)

    def _pause(self, program: Program) -> None:
        program.send(signal.SIGSTOP)
        self._paused.add(program.name)
        self._soon(4, partial(self._wake, program))

    def _wake(self, program: Program) -> None:
        program.send(signal.SIGCONT)
        self._paused.discard(program.name)

    def _pause_client(self) -> bool:
        if (client := self._victim()) is None:
            return False
        self._pause(client)
        return True

    def _pause_server(self) -> bool:
        if not self._server_is_up() or not self._working():
            return False
        self._pause(self._server)
        return True

    def _cut_link(self) -> bool:
        if not self._server_is_up() or (client := self._victim()) is None:
            return False
        self._wires[client.name].cut()
        return True

    def _silence_link(self) -> bool:
        """Nothing gets through for a while; then it does again, or the link is cut."""
        if not self._server_is_up() or (client := self._victim()) is None:
            return False
        wire = self._wires[client.name]
        wire.hold()
        if self._random.random() < 0.5:
            self._soon(4, lambda: (wire.cut(), wire.let_go()))
        else:
            self._soon(4, wire.let_go)
        return True

    def _cut_all_links(self) -> bool:
        if not self._server_is_up() or not self._working():
            return False
        for wire in self._wires.values():
            wire.cut()
        return True

    # --- what must hold -----------------------------------------------------------------------------------------

    def _check_what_was_acknowledged(self) -> None:
        """The server is dead: whatever a client has forgotten must be on disk."""
        forgotten = set()
        for name, output in self._output.items():
            handed_back = output.handed_back(self._run)
            forgotten |= handed_back - in_outbox(self._folder / name / "client" / "state")
        run = self._folder / "server" / "logs" / self._run
        ended = (run / "summary.json").exists()  # then the models are there, and the blocks may be gone
        if missing := forgotten - on_disk(run, self._folder / "copy", blocks=not ended):
            self._lose(f"acknowledged, and not on disk when the server was killed: {', '.join(sorted(missing))}")

    def _lose(self, what: str, count: int = 1) -> None:
        self.lost += count
        self.problems.append(f"run {self._run}: {what}")

    def _check(self) -> None:
        """Hold a run that has ended against what must be."""
        server, tasks = self._folder / "server", TASKS * len(CLIENTS)
        if self._server.code != 0:
            self.problems.append(f"run {self._run}: the server ended with exit code {self._server.code}")
        path = server / "logs" / self._run / "summary.json"
        summary = (
            json.loads(path.read_text("utf-8")) if path.exists() else {"status": "without a summary", "clients": []}
        )
        if summary["status"] != "done":
            self.problems.append(f"run {self._run}: it is {summary['status']}")
        if missing := tasks - len(on_disk(path.parent, self._folder / "copy", blocks=False)):
            self._lose(f"{missing} tasks have no result", missing)
        if again := self._stats.leased_again:
            self._lose(f"trained again although the result was there: {', '.join(sorted(again))}", len(again))
        if twice := [task for task, count in self._stats.returned.items() if count > 1]:
            self.double += len(twice)
            self.problems.append(f"run {self._run}: counted twice: {', '.join(sorted(twice))}")
        counts = {client["name"]: client["tasks"] for client in summary["clients"]}
        if counts != dict.fromkeys(CLIENTS, TASKS):
            self.double += max(0, sum(counts.values()) - tasks)
            self.problems.append(f"run {self._run}: the summary counts {counts}")
        if left := [name for name in ("results", "rounds", "weights.block") if (path.parent / name).exists()]:
            self.problems.append(f"run {self._run}: {', '.join(left)} is left though the run is done")
        for log in self.logs:
            if "Traceback" in log.read_text(encoding="utf-8", errors="replace"):
                self.problems.append(f"run {self._run}: a traceback in {log.name}")

    @property
    def logs(self) -> list[Path]:
        return [program.log for program in (self._server, *self._clients.values())]

    def close(self) -> None:
        for program in (self._server, *self._clients.values()):
            program.end()
        for wire in self._wires.values():
            wire.close()


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to no connection while the server is down."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port


def make_places(folder: Path) -> None:
    """A workspace for each program; the server's has the model and the first rows of the digits."""
    for name in ("server", *CLIENTS):
        for part in ("model", "dataset/X", "dataset/Y"):
            (folder / name / part).mkdir(parents=True)
    shutil.copy(ROOT / "model" / "digits.h5", folder / "server" / "model")
    for name in ("dataset/X/digits.csv", "dataset/Y/digits.csv"):
        lines = (ROOT / name).read_text("utf-8").splitlines(keepends=True)
        (folder / "server" / name).write_text("".join(lines[: ROWS + 1]), encoding="utf-8")


def measure(bench: Bench, faults: int, calm_seed: int) -> bool:
    """Print everything; returns whether all is as it must be."""
    began = time.monotonic()
    baseline = bench.run(calm_seed, 0)
    print("the run above was left in peace", flush=True)
    equal = True
    while True:
        models = bench.run(0, min(FAULTS_A_RUN, faults - bench.hits.total()))
        if models != baseline or not models:
            equal = False
            other = sorted(name for name in models.keys() | baseline.keys() if models.get(name) != baseline.get(name))
            print(f"other models than in peace: {', '.join(other)}", flush=True)
        if bench.problems or not equal or bench.hits.total() >= faults:
            break
    print()
    for kind, count in sorted(bench.hits.items()):
        print(f"{kind:<40}{count:>5}")
    for kind, count in sorted(bench.beside.items()):
        print(f"{kind:<40}{count:>5}   not counted")
    print(f"\n{time.monotonic() - began:.0f} s")
    for problem in bench.problems:
        print(problem)
    print(
        f"faults {bench.hits.total()}   results lost {bench.lost}   results double {bench.double}   models equal "
        f"{'yes' if equal else 'no'}",
        flush=True,
    )
    return equal and not bench.problems and bench.hits.total() >= faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200, help="how many must hit an unfinished task (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and kinds of the faults (default 1)")
    parser.add_argument("--method", choices=METHODS, default="kfold", help="what is done (default kfold)")
    parser.add_argument("--epochs", type=int, default=150, help="of a task, which sets how long it takes (default 150)")
    parser.add_argument("--seconds", type=float, default=600, help="without an event: it hangs (default 600)")
    parser.add_argument(
        "--calm-seed", type=int, default=0, help="of the job in peace; any but 0 shows that other models are noticed"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"command  python {' '.join(sys.argv)}")
    print(f"date     {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"machine  {os.cpu_count()} cores; {platform.platform()}; Python {platform.python_version()}\n", flush=True)
    folder, mark = Path(tempfile.mkdtemp(prefix="lanfit-chaos-")), uuid.uuid4().hex
    good = False
    try:
        bench = Bench(folder, args.seed, args.method, args.epochs, args.seconds, mark)
        try:
            good = measure(bench, args.faults, args.calm_seed)
        except Broken as error:
            print(f"{error}\n{last_lines(bench.logs, 30)}")
        finally:
            bench.close()
    finally:
        left = left_behind(mark, 20)
        for process in left:
            process.kill()
        if left:
            print(f"these did not end by themselves: {left}")
        good = good and not left
        if good:
            shutil.rmtree(folder)
        else:
            print(f"everything is in {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
