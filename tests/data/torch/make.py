"""Write the model files of Keras on PyTorch in this folder, with rows and the predictions of Keras for them.

Made with Keras 3.15.1 and PyTorch 2.13.0 on Python 3.11:

    pip install "keras==3.15.1" torch && python make.py
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

FOLDER = Path(__file__).parent


def main() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")], name="net")
    x, y = np.random.RandomState(0).rand(8, 3).astype(np.float32), np.arange(8) % 2
    optimizers = {
        "sgd": keras.optimizers.SGD(0.1),
        "scaled": keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(0.02)),
    }
    for name, optimizer in optimizers.items():
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.save(FOLDER / f"{name}.keras")
    np.savez_compressed(FOLDER / "rows.npz", x=x, y=y, predictions=model.predict(x, verbose=0))


if __name__ == "__main__":
    main()
