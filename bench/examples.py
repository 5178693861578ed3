"""How many of 45 official Keras and TensorFlow examples train with `cluster.fit` instead of `model.fit`.

    python bench/examples.py [--only NAME …] [--method fit] [--plain | --cluster] [--json]

The examples are in bench/keras_examples: the structure of the published pages, in code and with data of our own. Each
is run twice, with Keras' `fit` and with that of a cluster of two local clients; it counts if it runs to its end and its
own checks of history and files hold. Beside it stand both losses (each client has half of the rows, so the second may
be higher), and of what is refused the reason. All run on one cluster: a refusal must not spoil what comes after it.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
from keras_examples import images, sequences, tables

import lanfit

EXAMPLES: dict[str, Callable[[Any], float]] = {
    example.__name__: example for module in (images, sequences, tables) for example in module.EXAMPLES
}
SEED = 1


@dataclass
class Outcome:
    """How one example went."""

    name: str
    plain: float
    """Its loss with Keras' fit, on the rows that it was fitted on."""
    ours: float | None
    """The same with the cluster's; None if it was refused or failed."""
    output: str
    """Why it did not work; empty if it did."""
    seconds: float


def run(name: str, fit: Callable[..., Any]) -> float:
    """Run one example with a `fit`; returns its loss."""
    keras.utils.set_random_seed(SEED)

    def silent(model: Any, *arguments: Any, **options: Any) -> Any:
        return fit(model, *arguments, **{**options, "verbose": 0})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EXAMPLES[name](silent)


def attempt(name: str, plain: float, fit: Callable[..., Any], verbose: bool) -> Outcome:
    """Run one example on a cluster."""
    began, ours, output = time.perf_counter(), None, ""
    try:
        ours = run(name, fit)
        if not math.isfinite(ours):
            output = f"its loss is {ours}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        output = f"{type(error).__name__}: {error}".partition("\n")[0]
        if verbose:
            traceback.print_exc()
    return Outcome(name, plain, ours, output, time.perf_counter() - began)


def line(outcome: Outcome) -> str:
    """One example, as it is shown."""
    ours = "-" if outcome.ours is None else f"{outcome.ours:.4f}"
    return f"{outcome.name:45} {outcome.plain:9.4f} {ours:>9} {outcome.seconds:6.1f} s  {outcome.output}"


def main() -> None:
    """Run the examples and print how many work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=EXAMPLES, default=list(EXAMPLES), help="these examples")
    parser.add_argument("--method", default="federated", choices=["federated", "fit"])
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plain", action="store_true", help="only with Keras' fit: are the examples right?")
    only.add_argument("--cluster", action="store_true", help="only with the cluster's fit")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    plain = dict.fromkeys(given.only, math.nan)
    for name in () if given.cluster else given.only:
        plain[name] = run(name, keras.Model.fit)
        if given.plain:
            print(f"{name:45} {plain[name]:9.4f}", flush=True)
    if given.plain:
        return
    with tempfile.TemporaryDirectory() as folder, lanfit.Cluster(local=2, workspace=folder) as cluster:
        fit = functools.partial(cluster.fit, method=given.method)
        outcomes = []
        for name in given.only:
            outcomes.append(attempt(name, plain[name], fit, given.verbose))
            if not given.json:
                print(line(outcomes[-1]), flush=True)
    if given.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
        return
    works = sum(not outcome.output for outcome in outcomes)
    print(f"\n{works} of {len(outcomes)} train with cluster.fit(method={given.method!r}).")


if __name__ == "__main__":
    main()
