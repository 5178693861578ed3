"""Examples on tables, and those that show how Keras is extended."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_examples import custom, data

Fit = Any


def imbalanced_classification(fit: Fit) -> float:
    x, _ = data.numbers(600, 10)
    y = (x[:, 0] > 1.2).astype("uint8")[:, None]
    weights = {0: 1.0 / np.sum(y == 0), 1: 1.0 / np.sum(y == 1)}
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    model = keras.Sequential(
        [
            keras.Input(shape=x.shape[1:]),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    metrics = [
        keras.metrics.FalseNegatives(name="fn"),
        keras.metrics.FalsePositives(name="fp"),
        keras.metrics.TrueNegatives(name="tn"),
        keras.metrics.TruePositives(name="tp"),
        keras.metrics.Precision(name="precision"),
        keras.metrics.Recall(name="recall"),
    ]
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="binary_crossentropy", metrics=metrics)
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [keras.callbacks.ModelCheckpoint(f"{folder}/fraud_model_at_epoch_{{epoch}}.keras")]
        history = fit(
            model,
            x,
            y,
            batch_size=64,
            epochs=4,
            verbose=2,
            callbacks=callbacks,
            validation_data=(x[:150], y[:150]),
            class_weight=weights,
        )
    found = model.evaluate(x[:150], y[:150], verbose=0, return_dict=True)
    assert abs(history.history["val_precision"][-1] - found["precision"]) < 1e-5
    assert abs(history.history["val_fn"][-1] - found["fn"]) < 1e-5
    return float(model.evaluate(x, y, verbose=0)[0])


def structured_data_from_scratch(fit: Fit) -> float:
    x, _ = data.numbers(200, 2)
    kinds = np.array(["fixed", "normal", "reversible"])[np.arange(200) % 3]
    features = {"age": x[:, :1], "thal": kinds[:, None]}
    rows = tf.data.Dataset.from_tensor_slices((features, (x[:, 0] > 0).astype("int32"))).batch(32)
    lookup = layers.StringLookup(output_mode="binary")
    lookup.adapt(kinds)
    age, thal = keras.Input((1,), name="age"), keras.Input((1,), name="thal", dtype="string")
    z = layers.concatenate([age, lookup(thal)])
    model = keras.Model([age, thal], layers.Dense(1, activation="sigmoid")(layers.Dense(8, "relu")(z)))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    fit(model, rows, epochs=2)
    return float(model.evaluate(rows, verbose=0)[0])


def structured_data_with_feature_space(fit: Fit) -> float:
    x, _ = data.numbers(300, 3)
    kinds = np.arange(300) % 3
    features = {"age": x[:, 0], "sex": kinds}
    rows = tf.data.Dataset.from_tensor_slices((features, (x[:, 0] > 0).astype("int32"))).batch(32)
    space = keras.utils.FeatureSpace(
        features={"age": "float_normalized", "sex": "integer_categorical"}, output_mode="concat"
    )
    space.adapt(rows.map(lambda found, _: found))
    ready = rows.map(lambda found, label: (space(found), label)).prefetch(tf.data.AUTOTUNE)
    encoded = space.get_encoded_features()
    output = layers.Dense(1, activation="sigmoid")(layers.Dropout(0.2)(layers.Dense(16, "relu")(encoded)))
    model = keras.Model(inputs=encoded, outputs=output)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="binary_crossentropy", metrics=["accuracy"])
    fit(model, ready, epochs=5, validation_data=ready.take(2), verbose=2)
    return float(model.evaluate(ready, verbose=0)[0])


def siamese_contrastive(fit: Fit) -> float:
    x, y = data.classes(200, (28, 28, 1), 4)
    pairs, same = [x, np.roll(x, 1, axis=0)], (y == np.roll(y, 1)).astype("float32")
    tower = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(8, "tanh")])
    left, right = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    distance = layers.Dot(axes=1, normalize=True)([tower(left), tower(right)])
    model = keras.Model([left, right], layers.Dense(1, activation="sigmoid")(distance))
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    fit(model, pairs, same, epochs=2)
    return float(model.evaluate(pairs, same, verbose=0)[0])


def vae(fit: Fit) -> float:
    x, _ = data.numbers(200, 6)
    inputs = keras.Input((6,))
    model = custom.OwnStep(inputs, layers.Dense(6)(layers.Dense(2)(inputs)))
    model.compile(optimizer="adam", loss="mse")
    fit(model, x, x, epochs=2)
    return float(model.evaluate(x, x, verbose=0))


def collaborative_filtering_movielens(fit: Fit) -> float:
    rng = np.random.default_rng(0)
    pairs = np.stack([rng.integers(0, 20, 400), rng.integers(0, 30, 400)], axis=1).astype("int32")
    ratings = ((pairs.sum(axis=1) % 10) / 9).astype("float32")
    model = custom.Recommender(20, 30, 8)
    model.compile(loss=keras.losses.BinaryCrossentropy(), optimizer=keras.optimizers.Adam(learning_rate=0.01))
    fit(model, x=pairs, y=ratings, batch_size=32, epochs=4, verbose=1, validation_data=(pairs[:50], ratings[:50]))
    return float(model.evaluate(pairs, ratings, verbose=0))


def trainer_pattern(fit: Fit) -> float:
    x, y = data.classes(300, (28, 28), 10)
    inner = keras.Sequential(
        [keras.Input((28, 28)), layers.Flatten(), layers.Dense(32, "relu"), layers.Dense(10, activation="softmax")]
    )
    model = custom.Wrapped(inner)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    fit(model, x, y, epochs=3, batch_size=32)
    return float(model.evaluate(x, y, verbose=0)[0])


def endpoint_layer_pattern(fit: Fit) -> float:
    x, y = data.numbers(200, 3)
    inputs, targets = keras.Input((3,), name="inputs"), keras.Input((1,), name="targets")
    model = keras.Model({"inputs": inputs, "targets": targets}, layers.Dense(1)(inputs))
    model.compile("adam", "mse")
    rows = {"inputs": x, "targets": y[:, None]}
    fit(model, rows, y, epochs=2)
    return float(model.evaluate(rows, y, verbose=0))


def demo_subclass(fit: Fit) -> float:
    x, y = data.numbers(300, 8)
    model = custom.TwoLayers(16, 1)
    model.compile(optimizer=keras.optimizers.SGD(learning_rate=1e-4), loss=keras.losses.MeanSquaredError())
    fit(model, x, y, batch_size=32, epochs=3, validation_split=0.2)
    return float(model.evaluate(x, y, verbose=0))


def tf_custom_fit(fit: Fit) -> float:
    x, y = data.classes(200, (8,), 3)
    inputs = keras.Input((8,))
    model = custom.OwnStep(inputs, layers.Dense(3, activation="softmax")(inputs))
    model.compile("adam", "sparse_categorical_crossentropy")
    fit(model, x, y, epochs=2)
    return float(model.evaluate(x, y, verbose=0))


def tf_regression(fit: Fit) -> float:
    import pandas as pd

    x, y = data.numbers(300, 5)
    table = pd.DataFrame(x, columns=["Cylinders", "Displacement", "Horsepower", "Weight", "Acceleration"])
    labels = pd.Series(y, name="MPG")
    horsepower = np.array(table["Horsepower"])
    one = layers.Normalization(input_shape=[1], axis=None)
    one.adapt(horsepower)
    model = tf.keras.Sequential([one, layers.Dense(units=1)])
    model.compile(optimizer=tf.keras.optimizers.Adam(learning_rate=0.1), loss="mean_absolute_error")
    history = fit(model, table["Horsepower"], labels, epochs=3, verbose=0, validation_split=0.2)
    assert history.history["val_loss"]
    normalizer = tf.keras.layers.Normalization(axis=-1)
    normalizer.adapt(np.array(table))
    model = keras.Sequential([normalizer, layers.Dense(16, activation="relu"), layers.Dense(1)])
    model.compile(loss="mean_absolute_error", optimizer=tf.keras.optimizers.Adam(0.01))
    fit(model, table, labels, validation_split=0.2, verbose=0, epochs=5)
    return float(model.evaluate(np.array(table), labels, verbose=0))


def tf_overfit_and_underfit(fit: Fit) -> float:
    x, _ = data.numbers(320, 8)
    y = (x[:, :1] > 0).astype("float32")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    validation = rows.take(64).cache().batch(32)
    train = rows.skip(64).cache().shuffle(256).repeat().batch(32)
    schedule = tf.keras.optimizers.schedules.InverseTimeDecay(0.01, decay_steps=80, decay_rate=1, staircase=False)
    model = tf.keras.Sequential(
        [
            layers.Dense(16, activation="elu", kernel_regularizer=keras.regularizers.l2(0.001), input_shape=(8,)),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(schedule),
        loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[
            tf.keras.metrics.BinaryCrossentropy(from_logits=True, name="binary_crossentropy"),
            "accuracy",
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [
            tf.keras.callbacks.EarlyStopping(monitor="val_binary_crossentropy", patience=200),
            tf.keras.callbacks.CSVLogger(f"{folder}/log.csv"),
        ]
        history = fit(
            model, train, steps_per_epoch=8, epochs=4, validation_data=validation, callbacks=callbacks, verbose=0
        )
    assert history.history["val_binary_crossentropy"]
    return float(model.evaluate(x, y, verbose=0)[0])


def tf_imbalanced_data(fit: Fit) -> float:
    x, _ = data.numbers(600, 10)
    y = (x[:, :1] > 1.2).astype("int64")
    x = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -5, 5)
    bias = tf.keras.initializers.Constant(np.log([y.sum() / (len(y) - y.sum())]))
    model = keras.Sequential(
        [
            keras.layers.Dense(16, activation="relu", input_shape=(10,)),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1, activation="sigmoid", bias_initializer=bias),
        ]
    )
    metrics = [
        keras.metrics.BinaryCrossentropy(name="cross entropy"),
        keras.metrics.MeanSquaredError(name="Brier score"),
        keras.metrics.TruePositives(name="tp"),
        keras.metrics.BinaryAccuracy(name="accuracy"),
        keras.metrics.Precision(name="precision"),
        keras.metrics.AUC(name="auc"),
        keras.metrics.AUC(name="prc", curve="PR"),
    ]
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=1e-2),
        loss=keras.losses.BinaryCrossentropy(),
        metrics=metrics,
    )
    stop = keras.callbacks.EarlyStopping(
        monitor="val_prc", verbose=1, patience=10, mode="max", restore_best_weights=True
    )
    history = fit(model, x, y, batch_size=64, epochs=4, callbacks=[stop], validation_data=(x[:150], y[:150]), verbose=0)
    assert history.history["val_prc"]
    assert history.history["val_cross entropy"]
    return float(model.evaluate(x, y, verbose=0)[0])


def tf_pandas_dataframe(fit: Fit) -> float:
    import pandas as pd

    x, _ = data.numbers(300, 4)
    table = pd.DataFrame(x, columns=["age", "thalach", "trestbps", "oldpeak"])
    target = pd.Series((x[:, 0] > 0).astype("int64"), name="target")
    normalizer = tf.keras.layers.Normalization(axis=-1)
    normalizer.adapt(np.array(table))

    def basic() -> Any:
        model = tf.keras.Sequential([normalizer, tf.keras.layers.Dense(10, "relu"), tf.keras.layers.Dense(1)])
        loss = tf.keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
        return model

    fit(basic(), table, target, epochs=3, batch_size=2)
    rows = tf.data.Dataset.from_tensor_slices((table, target)).shuffle(300).batch(32)
    model = basic()
    fit(model, rows, epochs=5)
    return float(model.evaluate(np.array(table), target, verbose=0)[0])


def deep_learning_with_python_basics(fit: Fit) -> float:
    ids, labels = data.tokens(300, 20, 200)
    x = np.zeros((300, 201), "float32")
    for row, found in enumerate(ids):
        x[row, found] = 1
    model = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(16, activation="relu")])
    model.add(layers.Dense(1, activation="sigmoid"))
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    history = fit(model, x, labels, epochs=4, batch_size=32, validation_data=(x[:60], labels[:60]))
    assert len(history.history["val_loss"]) == 4
    numbers, prices = data.numbers(120, 5)
    numbers = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    for fold in range(2):
        held = np.arange(120) % 2 == fold
        price = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(1)])
        price.compile(optimizer="adam", loss="mean_squared_error", metrics=["mean_absolute_error"])
        found = fit(
            price,
            numbers[~held],
            prices[~held],
            validation_data=(numbers[held], prices[held]),
            epochs=3,
            batch_size=16,
            verbose=0,
        )
        assert found.history["val_mean_absolute_error"]
    return float(model.evaluate(x, labels, verbose=0)[0])


def deep_learning_with_python_callbacks(fit: Fit) -> float:
    x, y = data.classes(400, (784,), 10)

    class LossHistory(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.losses: list[float] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.losses.append(logs["loss"])

    def build(**options: Any) -> Any:
        inputs = keras.Input(shape=(784,))
        features = layers.Dropout(0.5)(layers.Dense(64, activation="relu")(inputs))
        model = keras.Model(inputs, layers.Dense(10, activation="softmax")(features))
        model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy", **options)
        return model

    one_hot = np.eye(10, dtype="float32")[y]
    inputs = keras.Input(shape=(784,))
    own = keras.Model(inputs, layers.Dense(10, activation="softmax")(inputs))
    own.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy", custom.root_mean_squared_error])
    fit(own, x, one_hot, epochs=1)

    model, losses = build(metrics=["accuracy"]), LossHistory()
    with tempfile.TemporaryDirectory() as folder:
        best = str(Path(folder) / "checkpoint_path.keras")
        callbacks = [
            keras.callbacks.EarlyStopping(monitor="accuracy", patience=1),
            keras.callbacks.ModelCheckpoint(filepath=best, monitor="val_loss", save_best_only=True),
            losses,
        ]
        fit(model, x, y, epochs=3, callbacks=callbacks, validation_data=(x[:80], y[:80]))
        keras.models.load_model(best)
    assert losses.losses
    return float(model.evaluate(x, y, verbose=0)[0])


EXAMPLES = (
    imbalanced_classification,
    structured_data_from_scratch,
    structured_data_with_feature_space,
    siamese_contrastive,
    vae,
    collaborative_filtering_movielens,
    trainer_pattern,
    endpoint_layer_pattern,
    demo_subclass,
    tf_custom_fit,
    tf_regression,
    tf_overfit_and_underfit,
    tf_imbalanced_data,
    tf_pandas_dataframe,
    deep_learning_with_python_basics,
    deep_learning_with_python_callbacks,
)
