"""Examples on text and time series."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_examples import data

Fit = Any


def bidirectional_lstm_imdb(fit: Fit) -> float:
    x, y = data.tokens(300, 20, 200)
    inputs = keras.Input(shape=(None,), dtype="int32")
    z = layers.Embedding(200, 16)(inputs)
    z = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(z)
    z = layers.Bidirectional(layers.LSTM(8))(z)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(z))
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    fit(model, x, y, batch_size=32, epochs=3, validation_data=(x[:60], y[:60]))
    return float(model.evaluate(x, y, verbose=0)[0])


def text_classification_from_scratch(fit: Fit) -> float:
    ids, y = data.tokens(300, 20, 100)
    texts = np.array([" ".join(f"word{number}" for number in row) for row in ids])
    vectorize = layers.TextVectorization(max_tokens=120, output_sequence_length=20)
    vectorize.adapt(texts)
    rows = tf.data.Dataset.from_tensor_slices((texts, y)).batch(32)
    rows = rows.map(lambda text, label: (vectorize(tf.expand_dims(text, -1)), label)).cache().prefetch(2)
    inputs = keras.Input(shape=(None,), dtype="int64")
    z = layers.Dropout(0.5)(layers.Embedding(120, 16)(inputs))
    z = layers.Conv1D(16, 5, padding="valid", activation="relu", strides=2)(z)
    z = layers.Dense(16, activation="relu")(layers.GlobalMaxPooling1D()(z))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(z))
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
    fit(model, rows, validation_data=rows.take(2), epochs=4)
    return float(model.evaluate(rows, verbose=0)[0])


def timeseries_classification_from_scratch(fit: Fit) -> float:
    x, y = data.waves(300, 50)
    inputs = keras.layers.Input((50, 1))
    z = inputs
    for _ in range(2):
        z = keras.layers.Conv1D(filters=8, kernel_size=3, padding="same")(z)
        z = keras.layers.ReLU()(keras.layers.BatchNormalization()(z))
    z = keras.layers.GlobalAveragePooling1D()(z)
    model = keras.models.Model(inputs, keras.layers.Dense(2, activation="softmax")(z))
    with tempfile.TemporaryDirectory() as folder:
        best = str(Path(folder) / "best_model.keras")
        callbacks = [
            keras.callbacks.ModelCheckpoint(best, save_best_only=True, monitor="val_loss"),
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=20, min_lr=0.0001),
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=50, verbose=1),
        ]
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
        history = fit(model, x, y, batch_size=32, epochs=5, callbacks=callbacks, validation_split=0.2, verbose=1)
        model = keras.models.load_model(best)
    metric = "sparse_categorical_accuracy"
    assert len(history.history[metric]) == len(history.history["val_" + metric]) == 5
    return float(model.evaluate(x, y, verbose=0)[0])


def timeseries_classification_transformer(fit: Fit) -> float:
    x, y = data.waves(256, 24)
    inputs = keras.Input(shape=(24, 1))
    z = inputs
    for _ in range(2):
        attended = layers.MultiHeadAttention(key_dim=8, num_heads=2, dropout=0.1)(z, z)
        attended = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(0.1)(attended))
        res = attended + z
        forward = layers.Conv1D(filters=4, kernel_size=1, activation="relu")(res)
        forward = layers.Conv1D(filters=z.shape[-1], kernel_size=1)(layers.Dropout(0.1)(forward))
        z = layers.LayerNormalization(epsilon=1e-6)(forward) + res
    z = layers.GlobalAveragePooling1D(data_format="channels_last")(z)
    z = layers.Dropout(0.1)(layers.Dense(16, activation="relu")(z))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(z))
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.Adam(learning_rate=1e-2),
        metrics=["sparse_categorical_accuracy"],
    )
    stop = keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True)
    fit(model, x, y, validation_split=0.2, epochs=4, batch_size=32, callbacks=[stop])
    return float(model.evaluate(x, y, verbose=0)[0])


def timeseries_weather_forecasting(fit: Fit) -> float:
    series = np.stack([np.sin(np.arange(600) / k) for k in (5, 9, 13)], axis=1).astype("float32")
    rows = keras.utils.timeseries_dataset_from_array(series[:-12], series[12:, 0], sequence_length=12, batch_size=32)
    for batch in rows.take(1):
        inputs, _ = batch
    entry = keras.layers.Input(shape=(inputs.shape[1], inputs.shape[2]))
    model = keras.Model(inputs=entry, outputs=keras.layers.Dense(1)(keras.layers.LSTM(8)(entry)))
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model_checkpoint.weights.h5")
        stop = keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=0, patience=5)
        keep = keras.callbacks.ModelCheckpoint(
            monitor="val_loss", filepath=path, verbose=1, save_weights_only=True, save_best_only=True
        )
        fit(model, rows, epochs=4, validation_data=rows.take(4), callbacks=[stop, keep])
        model.load_weights(path)
    return float(model.evaluate(rows, verbose=0))


def timeseries_anomaly_detection(fit: Fit) -> float:
    x, _ = data.waves(300, 48)
    model = keras.Sequential(
        [
            layers.Input(shape=(48, 1)),
            layers.Conv1D(filters=8, kernel_size=7, padding="same", strides=2, activation="relu"),
            layers.Dropout(rate=0.2),
            layers.Conv1DTranspose(filters=8, kernel_size=7, padding="same", strides=2, activation="relu"),
            layers.Conv1DTranspose(filters=1, kernel_size=7, padding="same"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=5, mode="min")
    history = fit(model, x, x, epochs=4, batch_size=32, validation_split=0.1, callbacks=[stop])
    assert len(history.history["loss"]) == len(history.history["val_loss"])
    return float(model.evaluate(x, x, verbose=0))


def conv_lstm(fit: Fit) -> float:
    rng = np.random.default_rng(0)
    frames = np.zeros((64, 7, 12, 12, 1), "float32")
    for movie in frames:
        start = rng.integers(0, 8)
        for step, frame in enumerate(movie):
            frame[start : start + 3, step : step + 3] = 1
    x, y = frames[:, :-1], frames[:, 1:]
    inputs = layers.Input(shape=(None, *x.shape[2:]))
    z = layers.ConvLSTM2D(filters=8, kernel_size=(3, 3), padding="same", return_sequences=True, activation="relu")(
        inputs
    )
    z = layers.BatchNormalization()(z)
    z = layers.Conv3D(filters=1, kernel_size=(3, 3, 3), activation="sigmoid", padding="same")(z)
    model = keras.models.Model(inputs, z)
    model.compile(loss=keras.losses.binary_crossentropy, optimizer=keras.optimizers.Adam(1e-2))
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=10)
    reduce = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=5)
    fit(model, x, y, batch_size=8, epochs=3, validation_data=(x[:16], y[:16]), callbacks=[stop, reduce])
    return float(model.evaluate(x, y, verbose=0))


def addition_rnn(fit: Fit) -> float:
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 10, (400, 3))
    x = np.eye(10, dtype=bool)[digits]
    y = np.eye(10, dtype=bool)[np.sort(digits, axis=1)[:, :2]]
    model = keras.Sequential()
    model.add(layers.Input((3, 10)))
    model.add(layers.LSTM(16))
    model.add(layers.RepeatVector(2))
    model.add(layers.LSTM(16, return_sequences=True))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    for _ in range(3):
        fit(model, x, y, batch_size=32, epochs=1, validation_data=(x[:50], y[:50]))
    return float(model.evaluate(x, y, verbose=0)[0])


def lstm_character_generation(fit: Fit) -> float:
    text = "the quick brown fox jumps over the lazy dog " * 8
    letters = sorted(set(text))
    ids = np.array([letters.index(letter) for letter in text])
    windows = np.lib.stride_tricks.sliding_window_view(ids, 11)
    x = np.eye(len(letters), dtype="bool")[windows[:, :10]]
    y = np.eye(len(letters), dtype="bool")[windows[:, 10]]
    model = keras.Sequential([keras.Input(shape=(10, len(letters))), layers.LSTM(32)])
    model.add(layers.Dense(len(letters), activation="softmax"))
    model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.RMSprop(learning_rate=0.01))
    for _ in range(3):
        fit(model, x, y, batch_size=32, epochs=1)
        assert model.predict(x[:1], verbose=0).shape == (1, len(letters))
    return float(model.evaluate(x, y, verbose=0))


def tf_text_classification(fit: Fit) -> float:
    ids, labels = data.tokens(300, 20, 100)
    rows = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(32).cache().prefetch(2)
    model = tf.keras.Sequential(
        [
            layers.Embedding(101, 16),
            layers.Dropout(0.2),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        loss=keras.losses.BinaryCrossentropy(),
        optimizer=keras.optimizers.Adam(1e-2),
        metrics=[tf.metrics.BinaryAccuracy(threshold=0.5)],
    )
    history = fit(model, rows, validation_data=rows.take(3), epochs=4)
    assert history.history["binary_accuracy"]
    assert history.history["val_binary_accuracy"]
    return float(model.evaluate(rows, verbose=0)[0])


def deep_learning_with_python_time_series(fit: Fit) -> float:
    series = np.stack([np.sin(np.arange(500) / k) for k in (5, 9, 13)], axis=1).astype("float32")
    rows = keras.utils.timeseries_dataset_from_array(series[:-12], series[12:, 0], sequence_length=12, batch_size=32)
    loss = 0.0
    for build in (
        lambda z: layers.Dense(8, activation="relu")(layers.Flatten()(z)),
        lambda z: layers.GlobalAveragePooling1D()(layers.Conv1D(8, 4, activation="relu")(z)),
        lambda z: layers.Dropout(0.5)(layers.LSTM(8, recurrent_dropout=0.25)(z)),
        lambda z: layers.GRU(8)(layers.GRU(8, return_sequences=True)(z)),
        lambda z: layers.Bidirectional(layers.LSTM(8))(z),
    ):
        inputs = keras.Input(shape=(12, 3))
        model = keras.Model(inputs, layers.Dense(1)(build(inputs)))
        model.compile(optimizer=keras.optimizers.RMSprop(1e-2), loss="mse", metrics=["mae"])
        with tempfile.TemporaryDirectory() as folder:
            best = str(Path(folder) / "best.keras")
            callbacks = [keras.callbacks.ModelCheckpoint(best, save_best_only=True)]
            history = fit(model, rows, epochs=2, validation_data=rows.take(3), callbacks=callbacks)
            model = keras.models.load_model(best)
        assert history.history["mae"]
        assert history.history["val_mae"]
        loss += model.evaluate(rows, verbose=0)[0]
    return loss


EXAMPLES = (
    bidirectional_lstm_imdb,
    text_classification_from_scratch,
    timeseries_classification_from_scratch,
    timeseries_classification_transformer,
    timeseries_weather_forecasting,
    timeseries_anomaly_detection,
    conv_lstm,
    addition_rnn,
    lstm_character_generation,
    tf_text_classification,
    deep_learning_with_python_time_series,
)
