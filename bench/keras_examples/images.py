"""Examples on images."""

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


def mnist_convnet(fit: Fit) -> float:
    x, y = data.classes(600, (28, 28, 1), 10)
    y = keras.utils.to_categorical(y, 10)
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    history = fit(model, x, y, batch_size=32, epochs=3, validation_split=0.1)
    assert {"accuracy", "val_accuracy"} <= set(history.history)
    return float(model.evaluate(x, y, verbose=0)[0])


def demo_mnist_convnet(fit: Fit) -> float:
    x, y = data.classes(600, (28, 28, 1), 10)
    model = keras.Sequential(
        [
            layers.Input(shape=(28, 28, 1)),
            layers.Conv2D(8, (3, 3), activation="relu"),
            layers.Conv2D(8, (3, 3), activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(),
        optimizer=keras.optimizers.Adam(learning_rate=1e-2),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
    )
    history = fit(model, x, y, batch_size=32, epochs=3, validation_split=0.15)
    assert history.history["val_acc"]
    return float(model.evaluate(x, y, verbose=0)[0])


def autoencoder_denoising(fit: Fit) -> float:
    x, _ = data.classes(300, (28, 28, 1), 4)
    noisy = np.clip(x + 0.3 * np.random.default_rng(1).normal(size=x.shape), 0, 1).astype("float32")
    inputs = layers.Input(shape=(28, 28, 1))
    y = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(inputs)
    y = layers.MaxPooling2D((2, 2), padding="same")(y)
    y = layers.Conv2DTranspose(8, (3, 3), strides=2, activation="relu", padding="same")(y)
    y = layers.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(y)
    model = keras.Model(inputs, y)
    model.compile(optimizer="adam", loss="binary_crossentropy")
    fit(model, x=x, y=x, epochs=2, batch_size=32, shuffle=True, validation_data=(x[:50], x[:50]))
    fit(model, x=noisy, y=x, epochs=2, batch_size=32, shuffle=True, validation_data=(noisy[:50], x[:50]))
    return float(model.evaluate(noisy, x, verbose=0))


def oxford_pets_segmentation(fit: Fit) -> float:
    pixels, _ = data.images(96, (32, 32, 3), 3)
    masks = (pixels[..., :1] > 127).astype("uint8") + (pixels[..., 1:2] > 127)
    rows = tf.data.Dataset.from_tensor_slices((pixels, masks)).batch(16)
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = previous = layers.Activation("relu")(x)
    x = layers.SeparableConv2D(8, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.add([x, layers.Conv2D(8, 1, padding="same")(previous)])
    x = layers.Conv2DTranspose(8, 3, padding="same")(layers.UpSampling2D(2)(x))
    model = keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="sparse_categorical_crossentropy")
    with tempfile.TemporaryDirectory() as folder:
        best = Path(folder) / "oxford_segmentation.keras"
        callbacks = [keras.callbacks.ModelCheckpoint(str(best), save_best_only=True)]
        fit(model, rows, epochs=3, validation_data=rows.take(2), callbacks=callbacks, verbose=2)
        assert best.is_file()
    return float(model.evaluate(rows, verbose=0))


def mlp_image_classification(fit: Fit) -> float:
    x, y = data.images(256, (16, 16, 3), 5)
    inputs = layers.Input(shape=(16, 16, 3))
    patches = custom.Patches(4)(layers.Rescaling(1 / 255)(inputs))
    z = layers.Dense(16)(patches)
    for _ in range(2):
        z = custom.MixerBlock(16, 16)(z)
    z = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(z))
    model = keras.Model(inputs=inputs, outputs=layers.Dense(5)(z))
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=5e-3, weight_decay=1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="acc"),
            keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2-acc"),
        ],
    )
    reduce = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=5)
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=10, restore_best_weights=True)
    fit(model, x=x, y=y, batch_size=32, epochs=4, validation_split=0.1, callbacks=[stop, reduce])
    return float(model.evaluate(x, y, verbose=0)[0])


def vision_transformer(fit: Fit) -> float:
    x, y = data.images(256, (16, 16, 3), 5)
    inputs = keras.Input(shape=(16, 16, 3))
    z = custom.PatchEncoder(16, 16)(custom.Patches(4)(layers.Rescaling(1 / 255)(inputs)))
    x1 = layers.LayerNormalization(epsilon=1e-6)(z)
    attended = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(x1, x1)
    x2 = layers.Add()([attended, z])
    z = layers.Dense(16, "gelu")(layers.LayerNormalization(epsilon=1e-6)(x2)) + x2
    z = layers.Dropout(0.1)(layers.Flatten()(z))
    model = keras.Model(inputs=inputs, outputs=layers.Dense(5)(z))
    model.compile(
        optimizer=keras.optimizers.AdamW(5e-3, weight_decay=1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "checkpoint.weights.h5")
        keep = keras.callbacks.ModelCheckpoint(
            path, monitor="val_accuracy", save_best_only=True, save_weights_only=True
        )
        history = fit(model, x=x, y=y, batch_size=32, epochs=4, validation_split=0.1, callbacks=[keep])
        model.load_weights(path)
    assert history.history["val_accuracy"]
    return float(model.evaluate(x, y, verbose=0)[0])


def image_classification_from_scratch(fit: Fit) -> float:
    pixels, labels = data.images(160, (32, 32, 3), 2)
    augmentation = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)]

    def augment(images: Any, targets: Any) -> Any:
        for layer in augmentation:
            images = layer(images)
        return images, targets

    rows = tf.data.Dataset.from_tensor_slices((pixels.astype("float32"), labels)).batch(16).map(augment).prefetch(2)
    inputs = keras.Input(shape=(32, 32, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(x)))
    before = x
    x = layers.BatchNormalization()(layers.SeparableConv2D(8, 3, padding="same")(layers.Activation("relu")(x)))
    x = layers.add([layers.MaxPooling2D(3, strides=2, padding="same")(x), layers.Conv2D(8, 1, strides=2)(before)])
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(1, activation=None)(x))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="acc")],
    )
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [keras.callbacks.ModelCheckpoint(str(Path(folder) / "save_at_{epoch}.keras"))]
        fit(model, rows, epochs=3, callbacks=callbacks, validation_data=rows.take(3))
        assert sorted(path.name for path in Path(folder).iterdir()) == [f"save_at_{n}.keras" for n in (1, 2, 3)]
    return float(model.evaluate(rows, verbose=0)[0])


def mixup(fit: Fit) -> float:
    x, y = data.classes(400, (28, 28, 1), 10)
    one_hot = keras.utils.to_categorical(y, 10)
    first = tf.data.Dataset.from_tensor_slices((x, one_hot)).shuffle(400, seed=1).batch(32)
    second = tf.data.Dataset.from_tensor_slices((x, one_hot)).shuffle(400, seed=2).batch(32)

    def mix(one: Any, two: Any) -> Any:
        return 0.8 * one[0] + 0.2 * two[0], 0.8 * one[1] + 0.2 * two[1]

    rows = tf.data.Dataset.zip((first, second)).map(mix)
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(32, "relu")])
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    fit(model, rows, validation_data=first, epochs=3)
    return float(model.evaluate(x, one_hot, verbose=0)[0])


def antirectifier(fit: Fit) -> float:
    x, y = data.classes(400, (784,), 10)
    model = keras.Sequential(
        [
            keras.Input(shape=(784,)),
            layers.Dense(32),
            custom.Antirectifier(),
            layers.Dense(32),
            custom.Antirectifier(),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.RMSprop(),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    history = fit(model, x, y, batch_size=32, epochs=3, validation_split=0.15)
    assert history.history["val_sparse_categorical_accuracy"]
    return float(model.evaluate(x, y, verbose=0)[0])


def subclassing_conv_layers(fit: Fit) -> float:
    x, y = data.classes(300, (28, 28, 1), 10)
    model = keras.Sequential(
        [
            keras.layers.Input(shape=(28, 28, 1)),
            custom.StandardizedConv2D(filters=8, kernel_size=3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    fit(model, x, y, batch_size=32, epochs=3, validation_split=0.1)
    return float(model.evaluate(x, y, verbose=0)[0])


def demo_functional(fit: Fit) -> float:
    x, y = data.numbers(300, 8)
    inputs = layers.Input((8,))
    z = layers.Dense(16, activation="relu")(layers.BatchNormalization()(inputs))
    residual = z
    z = layers.Dense(16, activation="relu")(z)
    z += residual
    model = keras.Model(inputs, layers.Dense(1)(z))
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss=keras.losses.MeanSquaredError())
    fit(model, x, y, batch_size=32, epochs=4)
    return float(model.evaluate(x, y, verbose=0))


def flower_quickstart(fit: Fit) -> float:
    x, y = data.classes(300, (32, 32, 3), 10)
    model = keras.Sequential(
        [
            keras.Input(shape=(32, 32, 3)),
            layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    fit(model, x, y, epochs=3, batch_size=32, verbose=0)
    return float(model.evaluate(x, y, verbose=0)[0])


def tf_quickstart_beginner(fit: Fit) -> float:
    x, y = data.classes(400, (28, 28), 10)
    model = tf.keras.models.Sequential(
        [
            tf.keras.layers.Flatten(input_shape=(28, 28)),
            tf.keras.layers.Dense(32, activation="relu"),
            tf.keras.layers.Dropout(0.2),
            tf.keras.layers.Dense(10),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    fit(model, x, y, epochs=3)
    return float(model.evaluate(x, y, verbose=0)[0])


def tf_classification(fit: Fit) -> float:
    x, y = data.images(400, (28, 28), 10)
    model = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=(28, 28)), tf.keras.layers.Dense(32, "relu")])
    model.add(tf.keras.layers.Dense(10))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    fit(model, x / 255.0, y, epochs=4)
    probability = tf.keras.Sequential([model, tf.keras.layers.Softmax()])
    assert probability.predict(x[:3] / 255.0, verbose=0).shape == (3, 10)
    return float(model.evaluate(x / 255.0, y, verbose=0)[0])


def tf_save_and_load(fit: Fit) -> float:
    x, y = data.classes(300, (784,), 10)

    def create() -> Any:
        model = tf.keras.Sequential([tf.keras.Input((784,)), tf.keras.layers.Dense(32, "relu")])
        model.add(tf.keras.layers.Dropout(0.2))
        model.add(tf.keras.layers.Dense(10))
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer="adam", loss=loss, metrics=[tf.keras.metrics.SparseCategoricalAccuracy()])
        return model

    model = create()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "cp-{epoch:04d}.weights.h5")
        keep = tf.keras.callbacks.ModelCheckpoint(filepath=path, save_weights_only=True, verbose=0)
        fit(model, x, y, epochs=3, validation_data=(x[:50], y[:50]), callbacks=[keep])
        again = create()
        again.load_weights(sorted(Path(folder).iterdir())[-1])
        model.save(Path(folder) / "my_model.keras")
        loaded = tf.keras.models.load_model(Path(folder) / "my_model.keras")
        assert np.allclose(loaded.predict(x[:5], verbose=0), model.predict(x[:5], verbose=0), atol=1e-6)
    return float(again.evaluate(x, y, verbose=0)[0])


def tf_distribute_keras(fit: Fit) -> float:
    pixels, labels = data.images(400, (28, 28, 1), 10)
    rows = tf.data.Dataset.from_tensor_slices((pixels, labels))
    train = rows.map(lambda image, label: (tf.cast(image, tf.float32) / 255, label)).cache().shuffle(400).batch(32)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(8, 3, activation="relu", input_shape=(28, 28, 1)),
            tf.keras.layers.MaxPooling2D(),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(10),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, optimizer=tf.keras.optimizers.Adam(learning_rate=0.001), metrics=["accuracy"])

    class PrintRate(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            assert float(self.model.optimizer.learning_rate) > 0

    with tempfile.TemporaryDirectory() as folder:
        callbacks = [
            tf.keras.callbacks.CSVLogger(f"{folder}/log.csv"),
            tf.keras.callbacks.ModelCheckpoint(filepath=f"{folder}/ckpt_{{epoch}}.weights.h5", save_weights_only=True),
            tf.keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 if epoch < 2 else 1e-4),
            PrintRate(),
        ]
        fit(model, train, epochs=3, callbacks=callbacks)
    return float(model.evaluate(train, verbose=0)[0])


def tf_autoencoder(fit: Fit) -> float:
    x, _ = data.classes(300, (28, 28), 10)
    model = custom.Autoencoder(16, 28)
    model.compile(optimizer="adam", loss=tf.keras.losses.MeanSquaredError())
    fit(model, x, x, epochs=3, shuffle=True, validation_data=(x[:50], x[:50]))
    assert model.encoder(x[:4]).shape == (4, 16)
    return float(model.evaluate(x, x, verbose=0))


def tf_image_classification(fit: Fit) -> float:
    pixels, labels = data.images(160, (32, 32, 3), 3)
    rows = tf.data.Dataset.from_tensor_slices((pixels.astype("float32"), labels)).batch(16).cache().prefetch(2)
    augmentation = keras.Sequential(
        [layers.RandomFlip("horizontal", input_shape=(32, 32, 3)), layers.RandomRotation(0.1), layers.RandomZoom(0.1)]
    )
    model = keras.Sequential(
        [
            augmentation,
            layers.Rescaling(1.0 / 255),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(3, name="outputs"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    history = fit(model, rows, validation_data=rows.take(2), epochs=3)
    assert history.history["val_accuracy"]
    return float(model.evaluate(rows, verbose=0)[0])


EXAMPLES = (
    mnist_convnet,
    demo_mnist_convnet,
    autoencoder_denoising,
    oxford_pets_segmentation,
    mlp_image_classification,
    vision_transformer,
    image_classification_from_scratch,
    mixup,
    antirectifier,
    subclassing_conv_layers,
    demo_functional,
    flower_quickstart,
    tf_quickstart_beginner,
    tf_classification,
    tf_save_and_load,
    tf_distribute_keras,
    tf_autoencoder,
    tf_image_classification,
)
