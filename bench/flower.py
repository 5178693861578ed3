"""Five federated rounds by lanfit and by Flower: how many times faster are ours, and is the model as good?

    python bench/flower.py --mnist mnist.npz --python flower-env/bin/python [--samples 60000] [--repeats 3]

Flower has an environment of its own. Two commands make it; 1.42.0 is what this was written for:

    python -m venv flower-env
    flower-env/bin/pip install flwr==1.42.0 tensorflow==2.21.0 keras==3.15.1

Two nodes on this machine, one thread each; the 784-200-200-10 model, SGD, batch 32, one epoch a round; the same first
weights and the same rows, of which each node has as many of each class. After each round the server scores the weights
on MNIST's own 10,000 test rows. Both clusters are up and have joined before the clock starts: lanfit's clients with
their backend imported, Flower's SuperNodes online. Each does two runs. The first one counts; the second one, on the
same cluster, is printed beside it. At the end plain Keras scores both models, in a process without lanfit. At least 8
times as fast, accuracies within 0.5 points of each other (medians of all repeats), or the exit code is 1.

lanfit's clock runs from the call of `Cluster.fit` until it returns: the rows are written, dealt and sent within it,
and models and summary are written. The workbook with 10,000 predictions, which Flower has not, is written afterwards;
the second run, which begins at once, waits for that. Flower's runs from when a bundle that is made already is
submitted (without `flwr run`, which takes seconds to start) until the run has finished; its rows lie on the disk of
its nodes before.

What Flower was given, each the fastest of what was tried: no TLS; state in memory; SuperExecs look for tasks every
0.2 s (1 s otherwise; with 0.05 s they cost more than they gain); a grid that looks for replies every 0.1 s (3 s
otherwise); steps_per_execution 16 of 1, 16 and 64; no XLA, which a process would compile anew for each message; the
server imports Keras while clients train; the initial weights are not scored. A SuperNode has a process started for each
message, so nothing that a ClientApp keeps in memory outlives a round: --isolation process does that as subprocess does,
and took as long. It asks for the next message every 3 s, which can't be set.

`start_server` and `start_client` are in that release, too, deprecated since 1.13. Their clients are processes that
stay, with Keras imported and rows read before the clock starts. They are measured beside the others, with no limit.

All processes have the same cores (--cores), and only one system is up at a time. Other work on the machine moves
everything. Nothing but loopback is used, on free ports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import psutil
from fedavg_paper import Evaluator
from federated_parts import describe, free_port, mlp, mnist

from lanfit.core.commands import interrupt_on_termination
from lanfit.data.partitioning import STRATIFIED, partition_rows

NODES, THREADS, BATCH_SIZE = 2, 1, 32
LIMIT_RATIO, LIMIT_POINTS = 8.0, 0.5
APP = Path(__file__).resolve().parent / "flower_app"
OURS, FLOWER, DEPRECATED = "lanfit", "Flower", "start_client"
#: What is not up, or has not finished, by then does not work.
UP_SECONDS, RUN_SECONDS = 180.0, 1800.0
#: SuperNodes are online a little before what starts their ClientApps is there.
SETTLE_SECONDS = 5.0
#: CPU seconds: of starting a cluster, of a run, of a message to a ClientApp, of a row of an epoch. Estimates.
START_SECONDS, FIT_SECONDS, MESSAGE_SECONDS, ROW_SECONDS = 15.0, 5.0, 5.0, 5e-5
ADVICE = """\
--python is missing: the Python of an environment with Flower in it. Two commands make one:

    python -m venv flower-env
    flower-env/bin/pip install flwr==1.42.0 tensorflow==2.21.0 keras==3.15.1

Then: --python flower-env/bin/python"""
VERSIONS = """
import sys
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in sys.argv[1:]), sep=", ")
"""


@dataclass(frozen=True)
class Run:
    seconds: float
    accuracy: float


class System(Protocol):
    """A cluster that is up and joined."""

    def fit(self, seed: int) -> tuple[float, Path]:
        """Run all rounds; returns how many seconds it took, and the model."""
        ...


class Setting:
    """What all of them do, and the files that it takes."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder, self.python = folder, Path(os.path.abspath(arguments.python))  # a link is not followed
        self.rounds, self.epochs, self.rate = arguments.rounds, arguments.epochs, arguments.rate
        self.ask_seconds = arguments.ask_seconds
        self.flower = {"steps": arguments.steps, "jit": arguments.jit}
        x, y = mnist(arguments.mnist, "train")
        self.x, self.y = x[: arguments.samples], y[: arguments.samples]
        self.test = mnist(arguments.mnist, "test")
        self._write("test", *self.test)
        for number, rows in enumerate(partition_rows(STRATIFIED, len(self.y), NODES, 0, self.y)):
            self._write(f"rows-{number}", self.x[rows], self.y[rows])
        np.savez(folder / "test.npz", x=self.test[0], y=self.test[1])
        subprocess.run([sys.executable, "-c", mlp(self.rate), folder / "model.keras"], check=True, capture_output=True)
        np.savez(folder / "start.npz", *self.model().get_weights())

    def _write(self, name: str, x: Any, y: Any) -> None:
        (self.folder / name).mkdir()
        np.save(self.folder / name / "x.npy", x)
        np.save(self.folder / name / "y.npy", y)

    def model(self) -> Any:
        """The model before its first round."""
        import keras

        return keras.models.load_model(self.folder / "model.keras")

    def keep(self, model: Any) -> Path:
        path = self.folder / "trained.keras"
        model.save(path)
        return path


# --- lanfit -----------------------------------------------------------------------------------------------------


class Lanfit:
    def __init__(self, cluster: Any, setting: Setting) -> None:
        self._cluster, self._setting = cluster, setting

    def fit(self, seed: int) -> tuple[float, Path]:
        setting = self._setting
        model = setting.model()
        began = time.perf_counter()
        self._cluster.fit(
            model,
            setting.x,
            setting.y,
            batch_size=BATCH_SIZE,
            epochs=setting.epochs,
            verbose=0,
            validation_data=setting.test,
            method="federated",
            rounds=setting.rounds,
            seed=seed,
        )
        seconds = time.perf_counter() - began
        return seconds, setting.keep(model)


@contextlib.contextmanager
def lanfit_cluster(setting: Setting) -> Iterator[System]:
    import lanfit

    with (
        tempfile.TemporaryDirectory(dir=setting.folder) as name,
        lanfit.Cluster(local=NODES, threads=THREADS, workspace=name) as cluster,
    ):
        wait_for_trainers()
        yield Lanfit(cluster, setting)


def wait_for_trainers() -> None:
    """Until clients have joined, and no process has worked for a second: nothing is being imported any more."""
    before: dict[int, float] = {}
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        worked, joined, trainers = dict[int, float](), 0, 0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words, times = process.cmdline(), process.cpu_times()
                worked[process.pid] = times.user + times.system
                trainers += "lanfit.training.trainer" in words
                joined += "lanfit_client" in words and any(
                    each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp")
                )
        quiet = worked.keys() == before.keys() and sum(worked.values()) - sum(before.values()) < 0.1
        if joined == trainers == NODES and quiet:
            return
        before = worked
        time.sleep(1)
    sys.exit("lanfit's clients did not join")


# --- Flower -----------------------------------------------------------------------------------------------------


class Programs:
    """Programs that end with all that they have started."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.log = folder, folder / "log"
        inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self._environment = inherited | {
            # Flower starts its own programs by name.
            "PATH": f"{setting.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "TMPDIR": str(folder),
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_LOG_LEVEL": "WARNING",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(setting.ask_seconds),
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: object, answers: bool = False) -> subprocess.Popen[str]:
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [*map(str, words)],
                stdin=subprocess.PIPE if answers else subprocess.DEVNULL,
                stdout=subprocess.PIPE if answers else log,
                stderr=log,
                cwd=self.folder,
                env=self._environment,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill them all: they have nothing to lose. None was waited for yet, so their numbers are still theirs."""
        ended = [each for one in self._started for each in _end(one.pid)]
        for one in self._started:
            with contextlib.suppress(ProcessLookupError):  # what one left behind that had died itself
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()
            for pipe in (one.stdin, one.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        deadline = time.monotonic() + 10
        while any(map(_is_alive, ended)) and time.monotonic() < deadline:
            time.sleep(0.05)


def _end(pid: int) -> list[psutil.Process]:
    """Kill a process and all below it, some of which have groups of their own; halted first, so that none is added."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        process.suspend()
        below = [each for child in process.children() for each in _end(child.pid)]
        process.kill()
        return [process, *below]
    return []


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


class Flower:
    """Either kind: a program that begins a run for a line that it reads, and writes a line when the run is over."""

    def __init__(self, program: subprocess.Popen[str], log: Path, setting: Setting) -> None:
        self._program, self._log, self._setting = program, log, setting
        self._expect("joined", UP_SECONDS)

    def _expect(self, wanted: str, patience: float) -> None:
        assert self._program.stdout is not None
        late = threading.Timer(patience, self._program.kill)
        late.start()
        try:
            line = self._program.stdout.readline()
        finally:
            late.cancel()
        if line.split()[:1] != [wanted]:
            sys.exit(f"{self._log.read_text(errors='replace')[-4000:]}\nFlower did not say {wanted!r}, but {line!r}")

    def fit(self, seed: int) -> tuple[float, Path]:
        setting = self._setting
        outcome = setting.folder / "outcome.npz"
        outcome.unlink(missing_ok=True)
        config = {"rounds": setting.rounds, "epochs": setting.epochs, "batch-size": BATCH_SIZE, "rate": setting.rate}
        config |= {"threads": THREADS, **setting.flower, "test": str(setting.folder / "test")}
        config |= {"start": str(setting.folder / "start.npz"), "outcome": str(outcome)}
        assert self._program.stdin is not None
        began = time.perf_counter()
        print(json.dumps(config), file=self._program.stdin, flush=True)
        self._expect("completed", RUN_SECONDS)
        seconds = time.perf_counter() - began
        model = setting.model()
        with np.load(outcome) as arrays:
            model.set_weights(list(arrays.values()))
        return seconds, setting.keep(model)


@contextlib.contextmanager
def programs_of(setting: Setting) -> Iterator[Programs]:
    with tempfile.TemporaryDirectory(dir=setting.folder, ignore_cleanup_errors=True) as name:
        programs = Programs(Path(name), setting)
        try:
            yield programs
        finally:
            programs.end()


@contextlib.contextmanager
def flower_runtime(setting: Setting) -> Iterator[System]:
    """SuperLink, SuperNodes, and what submits runs."""
    with programs_of(setting) as programs:
        app = programs.folder / "app"
        shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
        port, tools = free_port(), setting.python.parent
        here = ("--insecure", "--host", "127.0.0.1", "--port")
        programs.start(tools / "flower-superlink", *here, port, "--disable-runtime-dependency-installation")
        wait_for_port(port)
        for number in range(NODES):
            rows = f'rows="{setting.folder / f"rows-{number}"}"'
            link = ("--superlink", f"127.0.0.1:{port}", "--node-config", rows)
            programs.start(tools / "flower-supernode", *here, free_port(), *link)
        submit = programs.start(setting.python, app / "app.py", "submit", f"127.0.0.1:{port}", app, answers=True)
        flower = Flower(submit, programs.log, setting)
        time.sleep(SETTLE_SECONDS)
        yield flower


@contextlib.contextmanager
def flower_deprecated(setting: Setting) -> Iterator[System]:
    """`start_server`, and two processes with `start_client`."""
    with programs_of(setting) as programs:
        port, app = free_port(), shutil.copy(APP / "app.py", programs.folder)
        address = f"127.0.0.1:{port}"
        server = programs.start(setting.python, app, "serve", address, answers=True)
        wait_for_port(port)
        for number in range(NODES):
            programs.start(setting.python, app, "join", address, setting.folder / f"rows-{number}")
        yield Flower(server, programs.log, setting)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    sys.exit("Flower's server does not listen")


# --- both -------------------------------------------------------------------------------------------------------

SYSTEMS: dict[str, Callable[[Setting], AbstractContextManager[System]]] = {
    OURS: lanfit_cluster,
    FLOWER: flower_runtime,
    DEPRECATED: flower_deprecated,
}


def middle(runs: Sequence[Run]) -> Run:
    return Run(median(run.seconds for run in runs), median(run.accuracy for run in runs))


def verdict(ours: Sequence[Run], theirs: Sequence[Run]) -> tuple[float, float, bool]:
    """How many times faster ours are, by how many points the accuracies differ, and if that is what is wanted."""
    one, other = middle(ours), middle(theirs)
    ratio, points = other.seconds / one.seconds, 100 * abs(one.accuracy - other.accuracy)
    return ratio, points, ratio >= LIMIT_RATIO and round(points, 6) <= LIMIT_POINTS


def cpu_hours(samples: int, rounds: int, epochs: int, repeats: int, systems: int = len(SYSTEMS)) -> float:
    """What it takes, about: two runs of each system in each repeat."""
    run = FIT_SECONDS + samples * rounds * epochs * ROW_SECONDS
    return repeats * (systems * (START_SECONDS + 2 * run) + 2 * NODES * rounds * MESSAGE_SECONDS) / 3600


def versions(python: Path, *names: str) -> str:
    """The versions of these packages in an environment."""
    asked = subprocess.run([python, "-c", VERSIONS, *names], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def measure(setting: Setting, names: Sequence[str], repeats: int) -> dict[str, list[tuple[Run, Run]]]:
    """Of each system the first run and the second one, as often as that."""
    found: dict[str, list[tuple[Run, Run]]] = {name: [] for name in names}
    evaluator = Evaluator(setting.folder / "test.npz")
    try:
        print(f"{'repeat':<8}{'':<14}{'first run':>12}{'accuracy':>10}{'second run':>12}{'accuracy':>10}{'load':>7}")
        for repeat in range(repeats):
            for name in names:
                runs = []
                with SYSTEMS[name](setting) as system:
                    for number in range(2):
                        seconds, model = system.fit(2 * repeat + number)
                        runs.append(Run(seconds, evaluator.accuracy(model)))
                found[name].append((runs[0], runs[1]))
                load = f"{os.getloadavg()[0]:>7.1f}" if hasattr(os, "getloadavg") else ""
                print_run(str(repeat + 1), name, runs, load)
    finally:
        evaluator.close()
    return found


def print_run(what: str, name: str, runs: Sequence[Run], behind: str = "") -> None:
    figures = "".join(f"{run.seconds:>10.2f} s{run.accuracy:>10.2%}" for run in runs)
    print(f"{what:<8}{name:<14}{figures}{behind}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--python", type=Path, help="the Python of an environment with flwr, tensorflow and keras")
    parser.add_argument("--samples", type=int, default=60_000, help="the first so many training rows (default all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate of the clients (default 0.05)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", help="as in 0,1: where all processes run (default: wherever they may)")
    parser.add_argument("--without-deprecated", action="store_true", help="leave start_server and start_client out")
    parser.add_argument("--ask-seconds", type=float, default=0.2, help="of Flower's SuperExecs (default 0.2)")
    parser.add_argument("--steps", type=int, default=16, help="Flower's steps_per_execution (default 16)")
    parser.add_argument("--jit", action="store_true", help="Flower's clients compile with XLA")
    arguments = describe(parser)
    if arguments.python is None:
        print(ADVICE, file=sys.stderr)
        return 2
    if arguments.cores:
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    interrupt_on_termination()
    try:
        print("here:", versions(Path(sys.executable), "tensorflow", "keras"))
        print("Flower's:", versions(arguments.python, "flwr", "tensorflow", "keras"))
    except (OSError, subprocess.CalledProcessError) as error:
        print(getattr(error, "stderr", "") or error, ADVICE, sep="\n\n", file=sys.stderr)
        return 2
    names = [name for name in SYSTEMS if name != DEPRECATED or not arguments.without_deprecated]
    hours = cpu_hours(arguments.samples, arguments.rounds, arguments.epochs, arguments.repeats, len(names))
    print(
        f"{arguments.repeats} repeats of two runs of each of {len(names)} systems, {arguments.rounds} rounds on ",
        end="",
    )
    print(f"{arguments.samples:,} rows: an estimated {hours:.2f} CPU hours.", flush=True)
    from lanfit.models.runtime import prepare_keras

    prepare_keras(threads=THREADS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        found = measure(Setting(Path(name), arguments), names, arguments.repeats)
    for name, runs in found.items():
        print_run("median", name, [middle(each) for each in zip(*runs, strict=True)])
    good = True
    for name in names[1:]:
        for which, number in (("first", 0), ("second", 1)):
            ours, theirs = ([runs[number] for runs in found[each]] for each in (OURS, name))
            ratio, points, wanted = verdict(ours, theirs)
            line = f"{which} run: {ratio:.2f} times as fast as {name}, accuracies {points:.2f} points apart"
            if (name, number) == (FLOWER, 0):
                good = wanted
                line += (
                    f": {'ok' if wanted else 'NOT GOOD ENOUGH'} (at least {LIMIT_RATIO:g}, at most {LIMIT_POINTS:g})"
                )
            print(line)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
