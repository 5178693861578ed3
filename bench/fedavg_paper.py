"""Federated averaging as in McMahan et al. 2017 (table 2): in how many rounds does the CNN reach its accuracy on MNIST?

    python bench/fedavg_paper.py --mnist mnist.npz [--two-classes] [--rate 0.1] [--rounds 26] [--pool 2]

100 simulated clients with 600 of MNIST's own training rows each, C=0.1, E=5, B=10. Without a flag the rows are dealt
at random: 99 % within 26 rounds (the paper: 20; an independent rerun: 26). With --two-classes each client has two
shards of 300 rows sorted by class: 97 % within 100 rounds.

The run keeps no rows for itself (test and validation split 0). The model of each round is scored on MNIST's own 10,000
test rows by plain Keras, in a process without lanfit, as soon as it is in model/collected/. The run is ended when the
accuracy is reached. Estimates its CPU hours before it begins. Exit code 1 if it is not reached.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from federated_parts import command, describe, mnist, paper_cnn, workspace

CLIENTS, SHARE, EPOCHS, BATCH_SIZE = 100, 0.1, 5, 10
PAPER, RERUN = 20, 26
#: CPU seconds that training takes for a row of an epoch: an estimate, not measured.
ROW_SECONDS = 0.004

SCORE = """
import sys
sys.modules.update(dict.fromkeys(["lanfit", "lanfit_server", "lanfit_client"]))
import keras, numpy as np
rows = np.load(sys.argv[1])
print("ready", flush=True)
for path in map(str.strip, sys.stdin):
    predicted = keras.models.load_model(path, compile=False).predict(rows["x"], batch_size=250, verbose=0)
    print((predicted.argmax(axis=1) == rows["y"]).mean(), flush=True)
"""


class Evaluator:
    """Plain Keras in a process of its own."""

    def __init__(self, rows: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCORE, str(rows)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the process that scores models ended")
        return line

    def accuracy(self, model: Path) -> float:
        assert self._process.stdin is not None
        print(model, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def models(run: subprocess.Popen[bytes], collected: Path, rounds: int) -> Iterator[Path]:
    """The models of rounds, each as soon as it is whole: files are written beside and moved to their place."""
    for number in range(1, rounds + 1):
        while not (found := list(collected.glob(f"*/round-{number:04d}.h5"))):
            if run.poll() is not None:
                return
            time.sleep(0.2)
        yield found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--two-classes", action="store_true", help="two classes for each client, instead of all")
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate of the clients (default 0.1)")
    parser.add_argument("--rounds", type=int, help="at most (default 26, with --two-classes 100)")
    parser.add_argument("--pool", type=int, default=2, help="trainers (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = describe(parser)
    target = 0.97 if arguments.two_classes else 0.99
    rounds = arguments.rounds or (100 if arguments.two_classes else 26)
    x, y = mnist(arguments.mnist, "train")
    hours = rounds * len(y) * SHARE * EPOCHS * ROW_SECONDS / 3600
    print(
        f"At most {rounds} rounds: an estimated {hours:.1f} CPU hours, less if {target:.0%} comes earlier.", flush=True
    )
    with tempfile.TemporaryDirectory() as name:
        folder = workspace(Path(name), paper_cnn(arguments.rate), x.reshape(-1, 28, 28, 1), y)
        test_x, test_y = mnist(arguments.mnist, "test")
        np.savez(folder / "test.npz", x=test_x.reshape(-1, 28, 28, 1), y=test_y)
        deal = {"deal": "classes", "classes_per_client": 2} if arguments.two_classes else {"deal": "equal"}
        job = {"clients": CLIENTS, "share": SHARE, "epochs": EPOCHS, "batch_size": BATCH_SIZE, "rounds": rounds}
        job |= {"test_split": 0, "validation_split": 0, "normalizer": "none", "seed": arguments.seed}
        job |= {"pool": arguments.pool, "threads": 1, **deal}
        evaluator = Evaluator(folder / "test.npz")
        try:
            reached, last = measure(command("simulate", folder, **job), folder, evaluator, rounds, target)
        finally:
            evaluator.close()
    what = f"round {reached}" if reached else f"not within {last} rounds"
    if arguments.two_classes:
        print(f"rounds to {target:.0%}, two classes each: ours {what} (at most 100)")
    else:
        print(f"rounds to {target:.0%}, rows at random: paper {PAPER}, rerun {RERUN}, ours {what}")
    return 0 if reached else 1


def measure(words: list[str], folder: Path, evaluator: Evaluator, rounds: int, target: float) -> tuple[int, int]:
    """Run, and print the accuracy of each round; returns the first good round or 0, and the last one."""
    began, last, reached = time.monotonic(), 0, 0
    with (
        (folder / "told").open("wb") as reported,
        subprocess.Popen(words, cwd=folder, stdout=reported, stderr=subprocess.STDOUT) as run,
    ):
        try:
            for last, model in enumerate(models(run, folder / "model/collected", rounds), 1):
                accuracy = evaluator.accuracy(model)
                print(f"round {last}: {accuracy:.2%} of the test rows, {time.monotonic() - began:.0f} s", flush=True)
                if accuracy >= target:
                    reached = last
                    break
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)
    if run.returncode and not last:
        print((folder / "told").read_text(errors="replace")[-2000:], file=sys.stderr)
    return reached, last


if __name__ == "__main__":
    sys.exit(main())
