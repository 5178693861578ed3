"""The main job on MNIST: a server and three clients in processes of their own; is every model good for plain Keras?

    python bench/mnist.py --mnist mnist.npz

`mnist.npz` has x_train, y_train, x_test, y_test, as Keras has it. The 784-200-200-10 model, `minmax`, 6 epochs, batch
32, three local clients. Prints the accuracy of each collected model on MNIST's own test rows, opened with plain Keras
in a process without lanfit, and of final.keras on raw pixels; exit 1 when one is below 0.95. Takes some minutes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT = 0.95

MAKE_MODEL = """
import sys, keras
keras.utils.set_random_seed(0)
layers = [keras.layers.Dense(200, "relu"), keras.layers.Dense(200, "relu"), keras.layers.Dense(10, "softmax")]
model = keras.Sequential([keras.Input((784,)), *layers])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.save(sys.argv[1])
"""

SCORE = """
import json, sys
sys.modules.update(dict.fromkeys(["lanfit", "lanfit_server", "lanfit_client"]))
import keras, numpy as np
data = np.load(sys.argv[1])
x, y = data["x_test"].reshape(-1, 784), data["y_test"]
constants = json.load(open(sys.argv[2]))
normalized = (x - np.array(constants["subtract"])) * np.array(constants["multiply"])
for path in sys.argv[3:]:
    rows = x if path.endswith("final.keras") else normalized
    predicted = keras.models.load_model(path).predict(rows, batch_size=256, verbose=0).argmax(axis=1)
    print(path.rpartition("/")[2], (predicted == y).mean())
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mnist", type=Path, required=True)
    mnist = arguments.parse_args().mnist.resolve()
    print(f"python bench/mnist.py  {datetime.date.today()}  {platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("model", "dataset/X", "dataset/Y"):
            (place / name).mkdir(parents=True)
        data = np.load(mnist)
        np.savez(place / "dataset/X/mnist.npz", data["x_train"])
        np.savez(place / "dataset/Y/mnist.npz", data["y_train"])
        subprocess.run([sys.executable, "-c", MAKE_MODEL, place / "model/mlp.h5"], check=True, capture_output=True)
        flags = "--host 127.0.0.1 --port 8470 --clients 3 --local 3 --epochs 6 --batch-size 32 --normalizer minmax"
        command = [sys.executable, "-P", "-m", "lanfit.cli", "server", *flags.split(), "--yes", "--json"]
        environment = {**os.environ, "LANFIT_PASSPHRASE": "only on this machine"}
        began = time.perf_counter()
        run = subprocess.run(command, cwd=place, env=environment, check=True, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - began
        summary = json.loads(run.stdout)
        collected = place / "model/collected" / summary["run"]
        models = [*sorted(map(str, collected.glob("*.h5"))), str(collected / "final.keras")]
        score = [sys.executable, "-c", SCORE, str(mnist), str(collected / "preprocessing.json"), *models]
        found = subprocess.run(score, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(f"lanfit server {flags}: {seconds:.0f} s")
    print(found, end="")
    accuracies = [float(line.split()[1]) for line in found.splitlines()]
    good = len(accuracies) == 4 and min(accuracies) >= LIMIT
    print(f"lowest {min(accuracies):.4f}, limit {LIMIT}: {'good' if good else 'TOO LOW'}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
