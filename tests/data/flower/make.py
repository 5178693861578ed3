"""Writes figures.json beside this file: what Flower's own functions make of small updates. Run it where Flower is:

    python -m venv flower-env
    flower-env/bin/pip install flwr==1.42.0
    flower-env/bin/python tests/data/flower/make.py

The tests read figures.json and need no Flower. Numbers are float32, written so that they are read back to the bit.
"""

from __future__ import annotations

import json
import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays  # noqa: E402
from flwr.server.strategy import FedAdam, FedAvgM, FedYogi  # noqa: E402
from flwr.server.strategy.aggregate import (  # noqa: E402
    aggregate,
    aggregate_krum,
    aggregate_median,
    aggregate_trimmed_avg,
)

SHAPES = {"dense/kernel": (3, 4), "dense/bias": (4,), "norm/moving_mean": (4,), "norm/scale": ()}
CLIENTS = 8
ROWS = [120, 7, 300, 64, 64, 1, 999, 32]
ROUNDS = 5

Arrays = list[Any]


def plain(arrays: Arrays) -> dict[str, Any]:
    return {name: np.asarray(array).tolist() for name, array in zip(SHAPES, arrays, strict=True)}


def updates(random: np.random.Generator, start: Arrays) -> list[Arrays]:
    """What clients come back with: a common direction, noise, and two that went far in one of their own."""
    common = [random.normal(size=shape) for shape in SHAPES.values()]
    found = []
    for client in range(CLIENTS):
        spread = 0.05 if client < CLIENTS - 2 else 1.0
        found.append(
            [
                (first + 0.1 * way + spread * random.normal(size=way.shape)).astype(np.float32)
                for first, way in zip(start, common, strict=True)
            ]
        )
    return found


def aggregations(random: np.random.Generator) -> dict[str, Any]:
    start = [random.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]
    given = updates(random, start)
    weighted = list(zip(given, ROWS, strict=True))
    # Of multi-Krum's choice Flower makes the mean by rows: the same for all, so that it is the paper's.
    equal = [(each, 1) for each in given]
    return {
        "start": plain(start),
        "updates": [plain(each) for each in given],
        "rows": ROWS,
        "mean": plain(aggregate(weighted)),
        "median": {str(count): plain(aggregate_median(weighted[:count])) for count in (1, 2, 7, 8)},
        "trimmed-mean": {str(trim): plain(aggregate_trimmed_avg(weighted, trim)) for trim in (0.0, 0.1, 0.2, 0.4)},
        "krum": {str(f): plain(aggregate_krum(weighted, f, 0)) for f in (0, 1, 2)},
        "multi-krum": {str(keep): plain(aggregate_krum(equal, 2, keep)) for keep in (1, 3, 8)},
    }


def optimizer(kind: Any, parameters: dict[str, float], random: np.random.Generator) -> dict[str, Any]:
    """Some rounds of a strategy: the aggregate that went in each round, and the weights that came out."""
    start = [random.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]
    strategy = kind(initial_parameters=ndarrays_to_parameters(start), **parameters)
    rounds, weights = [], start
    for number in range(1, ROUNDS + 1):
        aggregated = updates(random, weights)[0]
        answer = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(aggregated), 1, {})
        given, _ = strategy.aggregate_fit(number, [(None, answer)], [])
        weights = parameters_to_ndarrays(given)
        rounds.append({"aggregated": plain(aggregated), "weights": plain(weights)})
    return {"parameters": parameters, "start": plain(start), "rounds": rounds}


def main() -> None:
    random = np.random.default_rng(20170217)
    adaptive = {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3}
    others = {"eta": 0.01, "beta_1": 0.5, "beta_2": 0.9, "tau": 0.05}
    figures = {
        "flower": version("flwr"),
        "numpy": np.__version__,
        "aggregations": aggregations(random),
        "fedavgm": [
            optimizer(FedAvgM, {"server_learning_rate": rate, "server_momentum": momentum}, random)
            for rate, momentum in ((1.0, 0.9), (0.3, 0.5), (0.5, 0.0))
        ],
        "fedadam": [optimizer(FedAdam, parameters, random) for parameters in (adaptive, others)],
        "fedyogi": [optimizer(FedYogi, parameters, random) for parameters in (adaptive, others)],
    }
    path = Path(__file__).with_name("figures.json")
    path.write_text(json.dumps(figures, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path}: Flower {figures['flower']}, NumPy {figures['numpy']}")


if __name__ == "__main__":
    main()
