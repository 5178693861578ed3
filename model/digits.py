"""Builds and compiles the sample model, and writes it beside this file: python model/digits.py

A small convolutional network for scikit-learn's digits: 8×8 grey pixels in, one of ten classes out.
"""

from pathlib import Path

import keras
from keras import layers


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="edges"),
            layers.Conv2D(32, 3, activation="relu", name="shapes"),
            layers.MaxPooling2D(name="halves"),
            layers.Flatten(name="flat"),
            layers.Dense(64, activation="relu", name="features"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    optimizer = keras.optimizers.Adam(learning_rate=0.003)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    model = build()
    model.summary()
    model.save(Path(__file__).with_name("digits.h5"))
