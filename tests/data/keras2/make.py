"""Write the model files of Keras 2 in this folder, each with rows and the predictions of Keras 2 itself for them.

Made with TensorFlow 2.15.1 (Keras 2.15.0) on Python 3.11, in an environment of its own:

    pip install "tensorflow==2.15.*" "numpy<2" && python make.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers, optimizers, regularizers

FOLDER = Path(__file__).parent
ROWS = 12
RANDOM = np.random.RandomState(0)


def save(name: str, model: keras.Model, x: np.ndarray, y: np.ndarray, endings: str) -> None:
    """Train a little, so that the file holds metrics, statistics and an optimizer's state, and save it."""
    model.fit(x, y, epochs=2, batch_size=4, verbose=0)
    predictions = model.predict(x, verbose=0)
    for ending in endings.split():
        model.save(FOLDER / f"{name}{ending}")
    np.savez_compressed(FOLDER / f"{name}.npz", x=x, y=y, predictions=predictions)


def classifier() -> keras.Model:
    """Sequential: regularizers, statistics, `accuracy` by its name, a schedule, an optimizer with options."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="relu", kernel_regularizer=regularizers.L1L2(1e-4, 1e-3)),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax", kernel_constraint="non_neg", kernel_initializer="he_normal"),
        ],
        name="classifier",
    )
    schedule = optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    model.compile(
        optimizers.AdamW(schedule, weight_decay=0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def pictures() -> keras.Model:
    """A functional model with a shared part and two ways; labels one-hot; a loss and metrics with options."""
    rows = keras.Input((8, 8, 1))
    part = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization()], name="part"
    )
    first = layers.Conv2D(2, 3, padding="same", activation="relu")(rows)
    second = part(layers.SpatialDropout2D(0.1)(part(first)))
    joined = layers.Concatenate()([layers.Add()([first, second]), layers.SeparableConv2D(2, 3, padding="same")(rows)])
    small = layers.Conv2DTranspose(2, 2)(layers.MaxPooling2D()(joined))
    model = keras.Model(rows, layers.Dense(3)(layers.Flatten()(small)), name="pictures")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    metrics = ["accuracy", keras.metrics.TopKCategoricalAccuracy(k=2)]
    model.compile(optimizers.SGD(0.01, momentum=0.9, nesterov=True), loss, metrics=metrics)
    return model


def words() -> keras.Model:
    """Embedding, LSTM both ways, GRU; one sigmoid."""
    model = keras.Sequential(
        [
            layers.Embedding(20, 4, mask_zero=True, input_length=7),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(2),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="words",
    )
    model.compile(optimizers.Adagrad(0.02), "binary_crossentropy", metrics=["accuracy", "AUC"])
    return model


def regression() -> keras.Model:
    """Layers without an input in front, an optimizer of the old kind with its decay, mse and mae."""
    model = keras.Sequential(
        [layers.Dense(4, activation="tanh", input_shape=(6,)), layers.Dense(2)],
        name="regression",
    )
    model.compile(optimizers.legacy.RMSprop(0.01, decay=0.001), "mse", metrics=["mae", "mse"])
    return model


def attention() -> keras.Model:
    """Options of calls that are arrays, a loss that is a function, a metric by its class."""
    rows = keras.Input((5, 4))
    seen = layers.MultiHeadAttention(2, 3)(rows, value=rows)
    added = layers.LayerNormalization()(layers.Add()([rows, seen]))
    output = layers.Dense(1, activation="softplus")(layers.GlobalAveragePooling1D()(added))
    model = keras.Model(rows, output, name="attention")
    root = keras.metrics.RootMeanSquaredError()
    model.compile(optimizers.RMSprop(0.005), keras.losses.mean_absolute_error, metrics=[root, "logcosh"])
    return model


def main() -> None:
    keras.utils.set_random_seed(0)
    flat = RANDOM.rand(ROWS, 6).astype(np.float32)
    labels = np.arange(ROWS) % 3
    classes = np.eye(3, dtype=np.float32)[labels]
    save("classifier", classifier(), flat, labels, ".h5")
    save("pictures", pictures(), RANDOM.rand(ROWS, 8, 8, 1).astype(np.float32), classes, ".h5 .keras")
    save("words", words(), RANDOM.randint(0, 20, (ROWS, 7)).astype(np.int32), labels % 2, ".h5 .keras")
    save("regression", regression(), flat, flat[:, :2] * 3, ".h5 .keras")
    save("attention", attention(), RANDOM.rand(ROWS, 5, 4).astype(np.float32), flat[:, :1], ".h5")


if __name__ == "__main__":
    main()
