"""Label skew: in how many rounds does each strategy, and each aggregation, come to 95 %?

    python bench/label_skew.py --mnist mnist.npz [--samples 70000] [--rounds 30] [--clients 10] [--alpha 0.1]
        [--all] [--only fedavg/krum ...]

10 simulated clients, whose labels are as skewed as Dirichlet 0.1 deals them, train the 784-200-200-10 model: one epoch
a round, batch 32, SGD. Scored on the server's test rows: a fifth of all 70,000, classes in their proportions, not
MNIST's own test set. Every strategy with the mean, every aggregation with fedavg; --all crosses them, --only names
some. Server optimizers have their defaults (nobody tuned them). One table, no limit; exit code 1 if a run does not end
well. A run that has not got there in its rounds says how far it came.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from federated_parts import command, describe, mlp, mnist, workspace

STRATEGIES = ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox")
AGGREGATIONS = ("mean", "median", "trimmed-mean", "krum")
TARGET = 0.95
TEST_SPLIT = 0.2
#: CPU seconds: of starting a run's processes, of a task, and of a row of an epoch. Estimates, not measured.
START_SECONDS, TASK_SECONDS, ROW_SECONDS = 40.0, 0.05, 3e-5


def accuracies(folder: Path, **job: Any) -> list[float]:
    """Run; returns the accuracy of each round, or nothing."""
    ran = subprocess.run(command("simulate", folder, **job), capture_output=True, cwd=folder, check=False)
    try:
        summary = json.loads(ran.stdout)
    except ValueError:
        summary = {}
    if summary.get("status") != "done":
        print(ran.stderr.decode(errors="replace")[-1000:], file=sys.stderr)
        return []
    return [each["metrics"]["accuracy"] for each in summary["rounds"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--samples", type=int, default=70_000, help="rows, classes in their proportions (default all)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate of the clients (default 0.05)")
    parser.add_argument("--pool", type=int, default=2, help="trainers (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="every strategy with every aggregation")
    parser.add_argument("--only", nargs="+", metavar="STRATEGY/AGGREGATION", help="these of them")
    arguments = describe(parser)
    pairs = [(strategy, "mean") for strategy in STRATEGIES] + [("fedavg", name) for name in AGGREGATIONS[1:]]
    if arguments.all:
        pairs = [(strategy, name) for strategy in STRATEGIES for name in AGGREGATIONS]
    if arguments.only:
        pairs = [(strategy, name) for strategy, _, name in (each.partition("/") for each in arguments.only)]
    tasks = arguments.rounds * arguments.clients
    row_epochs = arguments.rounds * arguments.samples * (1 - TEST_SPLIT)
    hours = len(pairs) * (START_SECONDS + tasks * TASK_SECONDS + row_epochs * ROW_SECONDS) / 3600
    print(f"{len(pairs)} runs of {arguments.rounds} rounds on {arguments.samples:,} rows, ", end="")
    print(f"Dirichlet {arguments.alpha:g}, seed {arguments.seed}: an estimated {hours:.1f} CPU hours.", flush=True)
    print(f"{'strategy':<10}{'aggregation':<14}{'rounds to 95 %':>15}{'best':>9}{'last':>9}{'seconds':>9}", flush=True)
    good = True
    with tempfile.TemporaryDirectory() as name:
        both = [mnist(arguments.mnist, part) for part in ("train", "test")]
        x, y = (np.concatenate(arrays) for arrays in zip(*both, strict=True))
        folder = workspace(Path(name), mlp(arguments.rate), x, y)
        job = {"clients": arguments.clients, "rounds": arguments.rounds, "epochs": 1, "batch_size": 32}
        job |= {"deal": "dirichlet", "alpha": arguments.alpha, "normalizer": "none", "seed": arguments.seed}
        job |= {"samples": arguments.samples, "test_split": TEST_SPLIT, "validation_split": 0}
        job |= {"pool": arguments.pool, "threads": 1}
        for strategy, aggregation in pairs:
            began = time.monotonic()
            found = accuracies(folder, strategy=strategy, aggregation=aggregation, **job)
            seconds = time.monotonic() - began
            good &= bool(found)
            reached = next((number for number, value in enumerate(found, 1) if value >= TARGET), None)
            figures = f"{reached or '-':>15}{max(found):>9.2%}{found[-1]:>9.2%}" if found else f"{'failed':>15}{'':>18}"
            print(f"{strategy:<10}{aggregation:<14}{figures}{seconds:>9.0f}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
