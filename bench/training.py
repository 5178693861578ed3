"""How fast does one client train, against plain Keras on the same core?

    python bench/training.py [--mnist mnist.npz] [--core 0] [--repeats 9] [--models mlp,small-cnn,cnn]

Plain Keras gets its best of steps_per_execution 1, 16 and 64, rows that are already in order, and a warm-up epoch. Its
epochs are timed inside `fit`, from on_epoch_begin to on_epoch_end: a call of `fit` can wait more than a second for its
tf.data pipeline to end, which a `fit` of many epochs pays only once, so it is not held against it. Ours is timed whole,
progress reports included.

All train the same model from the same weights on the same rows in the same order, one epoch in turn, so that noise of
the machine hits all alike; at the end the weights must be equal to the bit. Without --mnist the rows are random numbers
of MNIST's shape. Medians of wall time, and of CPU time beside it; other work on the machine moves both (shared caches
and cores), so repeat on a quiet one before reading much into a difference of a few per cent. Exit code 1 if a ratio of
wall time is below 0.95 or weights differ.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

STEPS_PER_EXECUTION = (1, 16, 64)
BATCH_SIZE = 32
SEED = 0
#: Rows of an epoch: some seconds on one core.
ROWS = {"mlp": 25_600, "small-cnn": 9_600, "cnn": 1_600}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="npz with x_train and y_train; default: random rows of that shape")
    parser.add_argument("--core", type=int, default=0, help="the core to pin to, where the system can (default 0)")
    parser.add_argument("--repeats", type=int, default=9, help="timed epochs of each (default 9)")
    parser.add_argument("--models", default=",".join(ROWS), help="which models (default: all)")
    args = parser.parse_args()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    from lanfit.models.runtime import prepare_keras

    prepare_keras(threads=1)
    import keras
    import tensorflow as tf

    print(f"command  python {' '.join(sys.argv)}")
    print(f"date     {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"machine  {processor()}, {os.cpu_count()} cores, pinned to core {args.core}; {platform.platform()}")
    print(f"software Python {platform.python_version()}, Keras {keras.__version__}, TensorFlow {tf.__version__}\n")
    names = [*(f"plain {steps}" for steps in STEPS_PER_EXECUTION), "lanfit"]
    print(f"{'samples/s, median':<18}" + "".join(f"{name:>11}" for name in names) + f"{'ratio':>8}{'CPU':>7}  weights")
    good = True
    for name in args.models.split(","):
        speeds, cpu_ratio, equal = compare(name, args.mnist, args.repeats)
        ratio = speeds[-1] / max(speeds[:-1])
        good &= equal and ratio >= 0.95
        line = "".join(f"{speed:>11,.0f}" for speed in speeds)
        print(
            f"{name:<18}{line}{ratio:>8.2f}{cpu_ratio:>7.2f}  {'equal to the bit' if equal else 'DIFFER'}", flush=True
        )
    print("\nratio: lanfit / the best plain Keras by wall time; CPU: the same by CPU time")
    print(f"wanted: 0.95 or more: {'yes' if good else 'NO'}")
    return 0 if good else 1


def compare(name: str, mnist: Path | None, repeats: int) -> tuple[list[float], float, bool]:
    """Train one epoch of each in turn.

    Returns the median samples/s, lanfit last; best plain CPU time / lanfit's; and if all weights are equal.
    """
    import keras
    import numpy as np

    from lanfit.data.shard import Samples
    from lanfit.models.compiling import compile_model, override
    from lanfit.models.weights import get_weights, set_weights
    from lanfit.training.keras.backend import KerasBackend
    from lanfit.training.loop import FitJob, epoch_order, fit

    x, y = rows(mnist, ROWS[name])
    x = x.reshape(-1, *((784,) if name == "mlp" else (28, 28, 1)))
    original = model(name)
    architecture, weights = original.to_json(), get_weights(original)
    spec = override(None, "adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    plain = []
    for steps in STEPS_PER_EXECUTION:
        copy = model(name)
        set_weights(copy, weights)
        compile_model(copy, spec, steps_per_execution=steps)
        plain.append(copy)
    times: list[list[tuple[float, float]]] = [[] for _ in range(len(plain) + 1)]

    def since(begin: tuple[float, float]) -> tuple[float, float]:
        return perf_counter() - begin[0], process_time() - begin[1]

    class Clock(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        """Times the epoch inside `fit`, without setting it up and taking it down."""

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.begin = since((0, 0))

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            self.taken = since(self.begin)

    class Turns:
        """Between two of our epochs the others train the same one."""

        begin = since((0, 0))

        def on_progress(self, *args: object) -> None: ...

        def on_resume(self, *args: object) -> None: ...

        def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
            times[-1].append(since(self.begin))
            order = epoch_order(SEED, epoch, len(x))
            ordered_x, ordered_y = x[order], y[order]
            for one, taken in zip(plain, times, strict=False):
                clock = Clock()
                one.fit(ordered_x, ordered_y, batch_size=BATCH_SIZE, shuffle=False, verbose=0, callbacks=[clock])
                taken.append(clock.taken)
            self.begin = since((0, 0))

    backend = KerasBackend()
    backend.load(architecture, spec.to_json(), weights)
    samples = Samples.of(x, y)
    fit(backend, FitJob(1 + repeats, BATCH_SIZE, SEED), samples, samples.take(slice(0)), Turns())
    ours = backend.weights().values()
    equal = all(
        all(np.array_equal(a, b) for a, b in zip(ours, get_weights(one).values(), strict=True)) for one in plain
    )
    wall, cpu = ([median(taken[kind] for taken in each[1:]) for each in times] for kind in (0, 1))
    return [len(x) / seconds for seconds in wall], min(cpu[:-1]) / cpu[-1], equal


def model(name: str) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(SEED)
    if name == "mlp":
        hidden = [layers.Dense(200, activation="relu"), layers.Dense(200, activation="relu")]
        return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10, activation="softmax")])
    first, second, dense = (8, 16, 64) if name == "small-cnn" else (32, 64, 512)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(first, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(second, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(dense, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def rows(mnist: Path | None, count: int) -> tuple[Any, Any]:
    """(count, 28, 28) float32 in [0, 1], and labels 0-9 as int64."""
    import numpy as np

    if mnist is None:
        random = np.random.RandomState(SEED)
        return random.rand(count, 28, 28).astype(np.float32), random.randint(0, 10, count)
    with np.load(mnist, allow_pickle=False) as arrays:
        return arrays["x_train"][:count].astype(np.float32) / 255, arrays["y_train"][:count].astype(np.int64)


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
