"""Write the model files of one release of Keras 3 in this folder, each with rows and its own predictions for them.

Made with Keras 3.0.5, 3.3.3, 3.6.0, 3.10.0 and 3.13.2 on TensorFlow 2.21 and Python 3.11. For each release:

    pip install --no-deps --target keras-3.6.0 keras==3.6.0 && PYTHONPATH=keras-3.6.0 python make.py

(Keras 3.0 needs `dm-tree` besides.)
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import constraints, initializers, layers, losses, metrics, ops, optimizers, regularizers

FOLDER = Path(__file__).parent
ROWS = 6
RANDOM = np.random.RandomState(0)


def save(name: str, model: keras.Model, x: np.ndarray, y: np.ndarray, endings: str) -> None:
    """Train a little, so that the file holds statistics and an optimizer's state, and save it."""
    model.fit(x, y, epochs=1, batch_size=3, verbose=0)
    predictions = model.predict(x, verbose=0)
    for ending in endings.split():
        model.save(FOLDER / f"{name}-{keras.__version__}{ending}")
    np.savez_compressed(FOLDER / f"{name}-{keras.__version__}.npz", x=x, y=y, predictions=predictions)


def words() -> keras.Model:
    """Recurrent layers, whose recurrent kernels are orthogonal; another that is the identity."""
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 3, mask_zero=True),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
            layers.GRU(3, return_sequences=True),
            layers.SimpleRNN(3),
            layers.Dense(3, activation="relu", kernel_initializer=initializers.Identity(0.5)),
            layers.Dense(1, activation="sigmoid", kernel_initializer="orthogonal"),
        ],
        name="words",
    )
    schedule = optimizers.schedules.CosineDecay(0.01, 100)
    loss = losses.BinaryCrossentropy(label_smoothing=0.1)
    model.compile(optimizers.Adam(schedule), loss, metrics=["accuracy", metrics.AUC(name="area")])
    return model


def pictures() -> keras.Model:
    """Operations between the layers: arithmetic, a slice, a reshape, activations called as functions."""
    rows = keras.Input((6, 6, 3))
    x = rows / 127.5 - 1.0
    first = layers.Conv2D(3, 3, padding="same", kernel_regularizer=regularizers.L1L2(1e-4, 1e-3))(x)
    x = keras.activations.relu(layers.BatchNormalization()(first))
    x = layers.Conv2D(3, 3, padding="same", kernel_constraint=constraints.MaxNorm(2.0))(x) + first
    x = ops.mean(x[:, 1:5, ::2], axis=1)
    x = ops.reshape(x, (-1, 9))
    x = ops.concatenate([x, keras.activations.softmax(x)], axis=-1)
    model = keras.Model(rows, layers.Dense(4)(layers.LayerNormalization()(x)), name="pictures")
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])
    return model


def main() -> None:
    keras.utils.set_random_seed(0)
    labels = np.arange(ROWS) % 4
    endings = ".keras" if keras.__version__.startswith("3.0.") else ".keras .h5"  # 3.0 fails to write this .h5
    save("words", words(), RANDOM.randint(0, 9, (ROWS, 5)).astype(np.int32), labels % 2, endings)
    save("pictures", pictures(), RANDOM.randint(0, 256, (ROWS, 6, 6, 3)).astype(np.float32), labels, ".keras")


if __name__ == "__main__":
    main()
