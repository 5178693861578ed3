"""Made-up states of the live page, as its server would send them: a lobby, a run in progress, one of the past."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from fakes.dashboard_server import picture

ROOT = Path(__file__).resolve().parent.parent.parent
BEGAN = 1_790_000_000.0
JOIN = "lanfit client 10.0.0.5:8470 --fingerprint 9f3a-41c7-08be-d652-e70b"
LAYERS = [
    ("conv2d", "Conv2D", [None, 8, 8, 32], 320),
    ("conv2d_1", "Conv2D", [None, 8, 8, 64], 18_496),
    ("max_pooling2d", "MaxPooling2D", [None, 4, 4, 64], 0),
    ("conv2d_2", "Conv2D", [None, 4, 4, 64], 36_928),
    ("conv2d_3", "Conv2D", [None, 4, 4, 64], 36_928),
    ("flatten", "Flatten", [None, 1024], 0),
    ("dense", "Dense", [None, 64], 65_600),
    ("dropout", "Dropout", [None, 64], 0),
    ("dense_1", "Dense", [None, 10], 650),
]
JOB = {
    "model": "cnn-32-64-64-64.keras",
    "method": "federated",
    "clients": 6,
    "rounds": 10,
    "epochs": 2,
    "batch_size": 32,
    "optimizer": "adam",
    "loss": "sparse_categorical_crossentropy",
    "learning_rate": 0.001,
    "data": "files",
    "normalizer": "minmax",
    "order": "XY",
    "strategy": "fedavg",
    "aggregation": "mean",
    "validation_split": 0.1,
    "test_split": 0.2,
    "seed": 0,
    "deal": "stratified",
    "device": "auto",
    "deadline": 10.0,
    "keep_runs": None,
}
VERSIONS = {"lanfit": "0.1.0", "Python": "3.11.7", "keras": "3.15.1", "tensorflow": "2.21.0", "numpy": "2.3.1"}


def server(role: str = "teacher") -> dict[str, Any]:
    """Return the facts of a server."""
    return {
        "name": "lab-server",
        "version": "0.1.0",
        "role": role,
        "address": "10.0.0.5:8470",
        "join": JOIN,
        "passphrase": "maple orbit copper tulip" if role == "teacher" else None,
        "join_lines": [
            {"system": "Windows", "lines": ["py -m pip install lanfit[tensorflow]", f"py -m {JOIN}"]},
            {"system": "macOS", "lines": ["python3 -m pip install 'lanfit[tensorflow]'", JOIN]},
            {"system": "Linux", "lines": ["python3 -m pip install 'lanfit[tensorflow]'", JOIN]},
        ],
        "class_link": "https://10.0.0.5:8471/?token=abc",
        "stream": "sse",
    }


def lobby(joined: int = 4, wanted: int = 6, role: str = "teacher") -> dict[str, Any]:
    """Return the state while clients are waited for."""
    return {
        "seq": 1,
        "server": server(role),
        "lobby": {
            "wanted": wanted,
            "joined": [f"lab-{i + 1}" for i in range(joined)],
            "missing": wanted - joined,
            "waiting_for": f"Waiting for {wanted - joined} more clients." if wanted > joined else "",
            "can_start_now": joined > 0,
        },
        "queue": [],
        "run": None,
        "clients": {},
        "series": {},
        "samples": None,
        "confusion": None,
        "timeline": [],
        "log": [],
        "runs_changed": 1,
    }


def running(clients: int = 6, rounds: int = 10, done: int = 6, role: str = "teacher") -> dict[str, Any]:
    """Return the state in the middle of a federated run."""
    dice = random.Random(1)
    names = [f"lab-{i + 1}" for i in range(clients)]
    state = lobby(clients, clients, role)
    state["lobby"]["can_start_now"] = False
    series: dict[str, Any] = {}
    for index, name in enumerate(["", *names]):
        own = 0 if not index else dice.uniform(-0.05, 0.18)
        for part in ("training", "validation"):
            if not index and part == "training":
                continue
            for metric in ("loss", "accuracy"):
                series[f"{name}/{metric}/{part}/round"] = {
                    "client": name,
                    "metric": metric,
                    "part": part,
                    "per": "round",
                    "points": [[x, curve(metric, x, own, part, dice)] for x in range(1, done + 1)],
                }
                if index:
                    series[f"{name}/{metric}/{part}/epoch"] = {
                        "client": name,
                        "metric": metric,
                        "part": part,
                        "per": "epoch",
                        "points": [[x, curve(metric, x / 2, own, part, dice)] for x in range(1, 2 * done + 1)],
                    }
        if index:
            series[f"{name}/loss/training/batch"] = {
                "client": name,
                "metric": "loss",
                "part": "training",
                "per": "batch",
                "points": [[x, curve("loss", x / 60, own, "training", dice, 0.08)] for x in range(1, 60 * done + 1, 2)],
            }
            series[f"{name}/learning_rate"] = {
                "client": name,
                "metric": "learning_rate",
                "part": "training",
                "per": "epoch",
                "points": [[x, 0.001 if x < 8 else 0.0005] for x in range(1, 2 * done + 1)],
            }
    state |= {
        "queue": [{"id": 8, "method": "fit", "model": "digits.h5", "position": 1}],
        "run": run(rounds, done),
        "clients": {name: tile(name, i, done) for i, name in enumerate(names)},
        "series": series,
        "timeline": timeline(names, done, dice),
        "log": [
            {"at": BEGAN, "level": "info", "text": "The run begins with 6 clients.", "client": ""},
            {"at": BEGAN + 21, "level": "info", "text": "Round 1 is done: accuracy 62.3 %.", "client": ""},
            {"at": BEGAN + 60, "level": "warning", "text": "has been silent for 15 s", "client": names[-1]},
            {"at": BEGAN + 71, "level": "info", "text": "The learning rate is 0.0005 from round 5.", "client": ""},
        ],
    }
    state["samples"], state["confusion"] = samples(names[:3], done)
    return state


def curve(metric: str, x: float, own: float, part: str, dice: random.Random, noise: float = 0.015) -> float:
    """Return a value of a curve as training makes them."""
    shake = dice.gauss(0, noise)
    gap = 0.04 if part == "validation" else 0.0
    if metric == "loss":
        return max(0.02, 2.3 * math.exp(-0.45 * x) + 0.08 + gap + own * 0.5 + shake * 2)
    return min(0.999, 0.985 - 0.88 * math.exp(-0.5 * x) - gap * 0.5 - abs(own) * 0.2 + shake)


def run(rounds: int, done: int) -> dict[str, Any]:
    """Return the facts of the run."""
    return {
        "run": "20261130-2104-a3f",
        "state": "running",
        "status": "",
        "method": "federated",
        "began": BEGAN,
        "rounds": rounds,
        "epochs": 2,
        "batch_size": 32,
        "learning_rate": 0.0005,
        "paused": False,
        "progress": done / rounds,
        "seconds_left": 48.0,
        "metrics": {"loss": 0.1713, "accuracy": 0.9472, "precision": 0.9483, "recall": 0.9471, "f1": 0.9474},
        "error": "",
        "changes": [{"setting": "learning_rate", "value": "0.0005", "from": 5}],
        "job": JOB,
        "versions": VERSIONS,
        "model": {
            "name": "cnn-32-64-64-64",
            "parameters": sum(each[3] for each in LAYERS),
            "layers": [
                {"name": name, "type": kind, "output_shape": shape, "parameters": count}
                for name, kind, shape, count in LAYERS
            ],
        },
        "classes": [str(i) for i in range(10)],
        "warnings": ["2 rows of dataset/X/digits.csv are the same."],
    }


def tile(name: str, index: int, done: int) -> dict[str, Any]:
    """Return what a client does."""
    state = ["training", "training", "training", "receiving", "waiting", "silent", "training", "evaluating"][index % 8]
    reply_to = {
        "training": "trains",
        "receiving": "receives the model of round 7",
        "waiting": "waits for lab-6, the last one of this round",
        "silent": "has not been heard of for 18 s",
        "evaluating": "evaluates its rows",
    }[state]
    return {
        "name": name,
        "state": state,
        "says": reply_to,
        "backend": "jax" if index % 3 else "tensorflow",
        "device": "gpu" if index % 4 == 1 else "cpu",
        "task": f"shard-{index}",
        "fold": None,
        "round": done + 1,
        "epoch": 1 + index % 2,
        "epochs": 2,
        "batch": 4 + index % 4,
        "batches": 8,
        "progress": (0.35 + 0.13 * index) % 1.0,
        "rate": 900.0 + 310 * index if state == "training" else None,
        "rows": 239,
        "metrics": {"loss": 0.21 + 0.01 * (index % 9), "accuracy": 0.93 - 0.003 * (index % 9)},
    }


def timeline(names: list[str], done: int, dice: random.Random) -> list[dict[str, Any]]:
    """Return spans of several rounds."""
    spans = []

    def span(client: str, what: str, begin: float, seconds: float, round_: int, epoch: int = 0) -> float:
        end = begin + seconds
        spans.append({"client": client, "what": what, "from": begin, "to": end, "round": round_, "epoch": epoch})
        return end

    begin = 0.0
    for round_ in range(1, done + 1):
        ends = {}
        for name in names:
            at = span(name, "receive", begin, dice.uniform(0.1, 0.3), round_)
            if round_ == 1:
                at = span(name, "import", at, dice.uniform(2.0, 3.5), round_)
                at = span(name, "compile", at, dice.uniform(0.6, 1.2), round_)
            for epoch in (1, 2):
                at = span(name, "train", at, dice.uniform(0.8, 1.6), round_, epoch)
                at = span(name, "validate", at, dice.uniform(0.1, 0.2), round_, epoch)
            ends[name] = span(name, "send", at, dice.uniform(0.1, 0.4), round_)
        last = max(ends.values())
        for name in names:
            if last - ends[name] > 0.02:
                span(name, "wait", ends[name], last - ends[name], round_)
        begin = span("", "aggregate", last, 0.15, round_)
        begin = span("", "evaluate", begin, 0.4, round_)
    return spans


def samples(names: list[str], done: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return 24 digits with predictions that become better, and a confusion matrix."""
    rows = np.loadtxt(ROOT / "dataset" / "X" / "digits.csv", delimiter=",", skiprows=1, max_rows=400)
    truths = np.loadtxt(ROOT / "dataset" / "Y" / "digits.csv", delimiter=",", skiprows=1, max_rows=400).astype(int)
    dice = np.random.default_rng(3)
    chosen = dice.choice(len(rows), 24, replace=False)
    shown = [
        {
            "id": int(i),
            "truth": str(truths[i]),
            "picture": picture(rows[i].reshape(8, 8) * 255 / 16),
            "values": None,
        }
        for i in chosen
    ]
    models: dict[str, Any] = {}
    for index, name in enumerate(["", *names]):
        probabilities = {}
        for i in chosen:
            wrong = dice.integers(0, 10)
            hard = dice.random() < 0.12 + 0.04 * index
            history = []
            for at in range(1, done + 1):
                logits = dice.normal(0, 0.6, 10)
                logits[truths[i]] += at * (0.35 if hard else 0.9)
                logits[wrong] += 2.6 if hard else 0.8
                history.append([round(float(p), 4) for p in np.exp(logits) / np.exp(logits).sum()])
            probabilities[str(int(i))] = history
        models[name] = {"at": list(range(1, done + 1)), "probabilities": probabilities}
    matrices: dict[str, Any] = {}
    for index, name in enumerate(["", *names]):
        matrix = np.diag(dice.integers(30, 40, 10))
        for _ in range(20 + 6 * index):
            i, j = dice.integers(0, 10, 2)
            matrix[i, j] += 1
        cells = {
            f"{i},{j}": [int(r) for r in chosen[: matrix[i, j]]] for i in range(10) for j in range(10) if matrix[i, j]
        }
        matrices[name] = {"at": done, "matrix": matrix.tolist(), "rows": cells}
    classes = [str(i) for i in range(10)]
    return {"kind": "image", "shape": [8, 8, 1], "rows": shown, "models": models}, {
        "classes": classes,
        "models": matrices,
    }


def ended(clients: int = 6) -> dict[str, Any]:
    """Return the state after a run."""
    state = running(clients, done=10)
    state["run"] |= {"state": "ended", "status": "done", "progress": 1.0, "seconds_left": None, "seconds": 96.4}
    for each in state["clients"].values():
        each |= {"state": "idle", "says": "is ready for the next run", "progress": 1.0, "rate": None}
    state["queue"] = []
    return state


def field(key: str, label: str, kind: str, default: Any, help_: str = "", **more: Any) -> dict[str, Any]:
    """Return a field of the form."""
    return {"key": key, "label": label, "type": kind, "default": default, "help": help_, "shown_if": {}, **more}


def choices(*values: str) -> list[dict[str, str]]:
    """Return choices whose labels are their values."""
    return [{"value": value, "label": value} for value in values]


def form() -> dict[str, Any]:
    """Return a form as the server makes it, with fewer fields."""
    federated = {"shown_if": {"method": ["federated"]}}
    return {
        "groups": [
            {
                "title": "Model",
                "fields": [
                    field(
                        "model",
                        "Model",
                        "choice",
                        "digits.h5",
                        "The name of a file in model/.",
                        choices=choices("digits.h5", "cnn-32-64-64-64.keras", "mlp-64-32.keras"),
                    ),
                    field("optimizer", "Optimizer", "choice", "compiled", choices=choices("compiled", "adam", "sgd")),
                    field(
                        "loss",
                        "Loss",
                        "choice",
                        "compiled",
                        choices=choices("compiled", "sparse_categorical_crossentropy"),
                    ),
                    field(
                        "learning_rate",
                        "Learning rate",
                        "float",
                        None,
                        "The learning rate, which replaces that of the optimizer.",
                        optional=True,
                        default_in_words="that of the optimizer",
                    ),
                    field("metrics", "Metrics", "text", None, "The names of Keras metrics.", optional=True),
                ],
            },
            {
                "title": "Data",
                "fields": [
                    field("data", "Data", "choice", "files", choices=choices("files", "client", "keras", "digits")),
                    field(
                        "dataset",
                        "Keras dataset",
                        "choice",
                        "mnist",
                        choices=choices("mnist", "cifar10"),
                        shown_if={"data": ["keras"]},
                    ),
                    field("samples", "How many rows", "text", "all"),
                    field("normalizer", "Normalizer", "choice", "none", choices=choices("none", "minmax", "zscore")),
                    field("validation_split", "Validation split", "float", 0.1, "The fraction held out."),
                ],
            },
            {
                "title": "Training",
                "fields": [
                    field("method", "Method", "choice", "fit", choices=choices("kfold", "fit", "federated")),
                    field("epochs", "Epochs", "int", 5, "The number of epochs each client trains."),
                    field("batch_size", "Batch size", "int", 32, "The number of rows per batch."),
                    field("rounds", "Rounds", "int", 10, "The number of rounds.", **federated),
                    field(
                        "strategy", "Strategy", "choice", "fedavg", choices=choices("fedavg", "fedadam"), **federated
                    ),
                    field(
                        "server_tau",
                        "Server tau",
                        "float",
                        None,
                        shown_if={"method": ["federated"], "strategy": ["fedadam"]},
                    ),
                    field("seed", "Seed", "int", 0),
                ],
            },
            {
                "title": "Clients",
                "fields": [
                    field("clients", "Number of clients", "int", 2),
                    field("device", "Device", "choice", "auto", choices=choices("auto", "cpu", "gpu")),
                    field("collect", "Only collect", "bool", False),
                ],
            },
        ],
        "models": [{"file": "digits.h5", "parameters": 4_810}],
        "builders": [
            {
                "kind": "mlp",
                "label": "MLP",
                "fields": [
                    field("hidden", "Hidden units", "text", "64,32", "The units of each hidden layer, such as 64,32."),
                    field("dropout", "Dropout", "float", 0.0),
                    field("name", "Name", "text", None, "Of the file in model/.", optional=True, of="the layers"),
                ],
            },
            {
                "kind": "cnn",
                "label": "CNN",
                "fields": [
                    field(
                        "kernels",
                        "Kernels",
                        "choice",
                        "32-64-64-64",
                        choices=choices("16-32-32-32", "32-64-64-64"),
                    ),
                    field("dense", "Dense units", "int", 64),
                ],
            },
        ],
        "data": [],
        "one_machine": [{"value": "here", "label": "this machine"}, {"value": "lab-2", "label": "lab-2"}],
    }


RUNS = [
    ("20261130-2104-a3f", "done", "federated", "cnn-32-64-64-64.keras", 6, 0.9611, 0.1423, 96.4),
    ("20261130-2058-0c1", "done", "fit", "cnn-32-64-64-64.keras", 1, 0.9639, 0.1391, 171.2),
    ("20261130-2031-77e", "partial", "kfold", "digits.h5", 4, 0.9389, 0.1709, 63.0),
    ("20261129-1112-b02", "interrupted", "fit", "mlp-64-32.keras", 5, None, None, 20.5),
    ("20261128-0900-5d9", "failed", "fit", "digits.h5", 2, None, None, 3.1),
]


def runs() -> dict[str, Any]:
    """Return the list of runs."""
    found = [
        {
            "run": name,
            "status": status,
            "method": method,
            "model": model,
            "clients": clients,
            "started": BEGAN - 3600 * i,
            "seconds": seconds,
            "metrics": measures(accuracy, loss) if accuracy is not None else {},
            "resumable": status == "interrupted",
            "size_bytes": 1_520_000 * (i + 1),
        }
        for i, (name, status, method, model, clients, accuracy, loss, seconds) in enumerate(RUNS)
    ]
    found[0]["one_machine"] = RUNS[1][0]
    return {"runs": found, "keep_runs": 20}


def measures(accuracy: float, loss: float) -> dict[str, float]:
    """Return metrics of about this quality."""
    return {
        "accuracy": accuracy,
        "precision": accuracy + 0.0011,
        "recall": accuracy - 0.0002,
        "f1": accuracy + 0.0004,
        "loss": loss,
    }


def compare(wanted: list[str], baseline: str) -> dict[str, Any]:
    """Return runs side by side."""
    dice = random.Random(5)
    known = {name: (accuracy or 0.5, loss or 1.0, seconds) for name, _, _, _, _, accuracy, loss, seconds in RUNS}
    base = measures(*known[baseline][:2]) | {"seconds": known[baseline][2], "bytes": 2_000_000}
    found = []
    for index, name in enumerate(wanted):
        metrics = measures(*known[name][:2])
        values = metrics | {"seconds": known[name][2], "bytes": 2_000_000 * (index + 1)}
        found.append(
            {
                "run": name,
                "metrics": metrics,
                "seconds": values["seconds"],
                "bytes": values["bytes"],
                "diff": {
                    key: {"points": 100 * (value - base[key]), "percent": 100 * (value / base[key] - 1)}
                    for key, value in values.items()
                },
                "sentence": "",
            }
        )
    if {RUNS[0][0], RUNS[1][0]} <= set(wanted):
        found[wanted.index(RUNS[0][0])]["sentence"] = (
            "Distributing paid: it was 1.78 times as fast, because computing took 84 s of each client "
            "and the network only 6 s."
        )
    return {
        "baseline": baseline,
        "runs": found,
        "settings": [
            {"key": "method", "values": {name: RUNS[i % 5][2] for i, name in enumerate(wanted)}},
            {"key": "clients", "values": {name: RUNS[i % 5][4] for i, name in enumerate(wanted)}},
        ],
        "curves": {
            name: {
                f"{metric}/{part}": {
                    "client": "",
                    "metric": metric,
                    "part": part,
                    "per": "epoch",
                    "points": [[x, curve(metric, x / 2, 0.05 * i, part, dice)] for x in range(1, 21)],
                }
                for metric in ("loss", "accuracy")
                for part in ("training", "validation")
            }
            for i, name in enumerate(wanted)
        },
    }


def answers() -> dict[str, Any]:
    """Return the answers to GETs, for a `FakeDashboard`."""
    name = RUNS[0][0]
    files = ["models/final.keras", "summary.json", "report.html", "report.xlsx", "history.png", "job.toml"]
    past = running()
    past["run"] = ended()["run"] | {"run": RUNS[2][0]}
    return {
        "/api/form": form(),
        "/api/runs": runs(),
        "/api/rows": lambda request: {
            "rows": [
                {"id": int(each), "truth": "?", "picture": None, "values": [1.0, 2.0]}
                for each in request.query_params["ids"].split(",")
            ]
        },
        "/api/bans": {"bans": [{"address": "10.0.0.77", "seconds_left": 42.0, "reason": "3 wrong passphrases"}]},
        "/api/compare": lambda request: compare(
            request.query_params["runs"].split(","), request.query_params["baseline"]
        ),
        **{f"/api/runs/{each[0]}": past for each in RUNS},
        **{
            f"/api/runs/{each[0]}/files": {"files": [{"path": path, "bytes": 70_000} for path in files]}
            for each in RUNS
        },
        **{f"/api/runs/{name}/log/lab-{i}": "21:04:11 joined\n21:04:12 trains shard 1" for i in range(1, 7)},
    }
