"""How much time do checkpoints take while one client trains?

    python bench/checkpoints.py [--core 0] [--seconds 30] [--repeats 5] [--folder .]

Trains a small dense network and one of 5 million parameters on random rows of MNIST's shape, with Adam, on one core
that the thread that writes checkpoints must share. With and without checkpoints in turn, so that noise of the machine
hits both alike; each time for about --seconds. Checkpoints are written to --folder as a client writes them: at most
every two seconds, each with its fsync. Medians of wall time; other work on the machine moves them.

Exit code 1 if weights differ.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from training import processor, rows

BATCH_SIZE = 64
SEED = 0
#: Widths of two hidden layers, and rows of an epoch.
MODELS = {"mlp": (128, 12_800), "mlp-5M": (1900, 3_200)}


class Quiet:
    def on_progress(self, *args: object) -> None: ...

    def on_epoch(self, *args: object) -> None: ...

    def on_resume(self, *args: object) -> None: ...


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0, help="the core to pin to, where the system can (default 0)")
    parser.add_argument("--seconds", type=float, default=30, help="of each training (default 30)")
    parser.add_argument("--repeats", type=int, default=5, help="timed trainings of each (default 5)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to write to (default: here)")
    args = parser.parse_args()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    from lanfit.models.runtime import prepare_keras

    prepare_keras(threads=1)
    import keras

    print(f"command  python {' '.join(sys.argv)}")
    print(f"date     {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"machine  {processor()}, {os.cpu_count()} cores, pinned to core {args.core}; {platform.platform()}")
    print(f"software Python {platform.python_version()}, Keras {keras.__version__}\n")
    print(
        f"{'medians':<10}{'parameters':>12}{'epochs':>8}{'without':>10}{'with':>10}{'written':>9}{'size':>10}{'share':>8}"
    )
    good = True
    for name in MODELS:
        good &= compare(name, args)
    print("\nwithout, with: seconds of training; written: checkpoints; share: (with - without) / without")
    return 0 if good else 1


def compare(name: str, args: argparse.Namespace) -> bool:
    """Print a line; returns whether the weights are the same."""
    import keras
    import numpy as np
    from keras import layers

    from lanfit.data.shard import Samples
    from lanfit.models.compiling import override
    from lanfit.models.weights import get_weights
    from lanfit.training.checkpoint import Checkpointer
    from lanfit.training.keras.backend import KerasBackend
    from lanfit.training.loop import FitJob, fit

    width, count = MODELS[name]
    keras.utils.set_random_seed(SEED)
    hidden = [layers.Dense(width, activation="relu"), layers.Dense(width, activation="relu")]
    model = keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10, activation="softmax")])
    x, y = rows(None, count)
    samples = Samples.of(x.reshape(-1, 784), y)
    backend = KerasBackend()
    backend.load(
        model.to_json(), override(None, "adam", "sparse_categorical_crossentropy").to_json(), get_weights(model)
    )

    def train(epochs: int, checkpointer: Checkpointer | None = None) -> tuple[float, Any]:
        begin = perf_counter()
        result = fit(backend, FitJob(epochs, BATCH_SIZE, SEED), samples, samples.take(slice(0)), Quiet(), checkpointer)
        return perf_counter() - begin, result.weights

    train(1)
    epochs = max(2, round(args.seconds / train(2)[0] * 2))
    times: tuple[list[float], list[float]] = ([], [])
    written, size, equal = 0, 0, True
    for _ in range(args.repeats):
        without, expected = train(epochs)
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            checkpointer = Checkpointer(Path(folder) / "state.checkpoint", b"bench", print)
            seconds, weights = train(epochs, checkpointer)
            written, size = checkpointer.written, sum(path.stat().st_size for path in Path(folder).iterdir())
        times[0].append(without)
        times[1].append(seconds)
        equal &= all(np.array_equal(expected[key], weights[key]) for key in expected)
    without, seconds = median(times[0]), median(times[1])
    print(
        f"{name:<10}{model.count_params():>12,}{epochs:>8}{without:>10.2f}{seconds:>10.2f}{written:>9}"
        f"{size / 1e6:>7.1f} MB{seconds / without - 1:>8.1%}{'' if equal else '  WEIGHTS DIFFER'}",
        flush=True,
    )
    return equal


if __name__ == "__main__":
    sys.exit(main())
