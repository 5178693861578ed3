"""What do named spans cost? The share of a training step that its spans take, measured in one run; at most 1 %.

    python bench/timing.py

The step is a NumPy step of the MLP 784-200-200-10 with batches of 32, about the shortest that lanfit has to time; it
opens two spans, one for the batch and one for training on it. Also printed: the loop with and without spans, which
shows the noise of the machine.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from itertools import pairwise

import numpy as np

from lanfit.core.timing import Timings

STEPS, ROUNDS, SPANS, SPANS_A_STEP = 300, 7, 200_000, 2
LIMIT = 0.01


def make_step(timings: Timings | None):
    """A training step; with timings it opens SPANS_A_STEP spans."""
    random = np.random.default_rng(0)
    sizes = (784, 200, 200, 10)
    weights = [random.normal(0, 0.05, shape).astype(np.float32) for shape in pairwise(sizes)]
    x = random.random((2048, 784), dtype=np.float32)
    y = np.eye(10, dtype=np.float32)[random.integers(0, 10, 2048)]
    span = timings.span if timings else lambda name: nullcontext()

    def step() -> None:
        with span("batch"):
            rows = random.integers(0, 2048, 32)
            layers, target = [x[rows]], y[rows]
        with span("train"):
            for weight in weights:
                layers.append(np.maximum(layers[-1] @ weight, 0))
            delta, gradients = layers[-1] - target, []
            for layer, weight in zip(layers[-2::-1], weights[::-1], strict=True):
                gradients.append(layer.T @ delta)
                delta = (delta @ weight.T) * (layer > 0)
            for weight, gradient in zip(weights, gradients[::-1], strict=True):
                weight -= 1e-4 * gradient

    return step


def seconds_of(step) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


def main() -> int:
    timings = Timings()
    start = time.perf_counter()
    for _ in range(SPANS):
        with timings.span("empty"):
            pass
    span = (time.perf_counter() - start) / SPANS
    plain, timed = make_step(None), make_step(Timings())
    pairs = [(seconds_of(plain), seconds_of(timed)) for _ in range(ROUNDS)]
    step = min(a for a, _ in pairs)
    loop = min(b for _, b in pairs) / step
    share = SPANS_A_STEP * span / step
    print(f"one span            {span * 1e6:8.2f} µs")
    print(f"one training step   {step * 1e6:8.1f} µs, with its spans {loop:.3f} times that (best of {ROUNDS})")
    print(f"share of the spans  {share:8.2%}   at most {LIMIT:.0%}: {'ok' if share < LIMIT else 'TOO MUCH'}")
    return 0 if share < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
