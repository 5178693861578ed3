"""Layers and models of one's own, as examples define them. In a module of their own: clients import it."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("examples")
class Patches(layers.Layer):
    """Cut images into patches, as the Vision Transformer does."""

    def __init__(self, patch_size: int, **options: Any) -> None:
        super().__init__(**options)
        self.patch_size = patch_size

    def call(self, images: Any) -> Any:
        _, height, width, channels = images.shape
        rows, columns, size = height // self.patch_size, width // self.patch_size, self.patch_size
        patches = ops.reshape(images, (-1, rows, size, columns, size, channels))
        return ops.reshape(ops.transpose(patches, (0, 1, 3, 2, 4, 5)), (-1, rows * columns, size * size * channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch_size": self.patch_size}


@keras.saving.register_keras_serializable("examples")
class PatchEncoder(layers.Layer):
    """Project patches, and add what stands for their place."""

    def __init__(self, patches: int, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.patches, self.units = patches, units
        self.projection = layers.Dense(units)
        self.places = layers.Embedding(patches, units)

    def call(self, patch: Any) -> Any:
        return self.projection(patch) + self.places(ops.expand_dims(ops.arange(self.patches), 0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patches": self.patches, "units": self.units}


@keras.saving.register_keras_serializable("examples")
class MixerBlock(layers.Layer):
    """Mix over patches, then over channels."""

    def __init__(self, patches: int, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.patches, self.units = patches, units
        self.over_patches = keras.Sequential([layers.Dense(patches, "gelu"), layers.Dense(patches)])
        self.over_channels = keras.Sequential([layers.Dense(units, "gelu"), layers.Dense(units)])
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def call(self, x: Any) -> Any:
        y = ops.transpose(self.over_patches(ops.transpose(self.normalize(x), (0, 2, 1))), (0, 2, 1)) + x
        return self.over_channels(self.normalize(y)) + y

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patches": self.patches, "units": self.units}


@keras.saving.register_keras_serializable("examples")
class Antirectifier(layers.Layer):
    """Keep both signs of what a rectifier would cut."""

    def call(self, inputs: Any) -> Any:
        x = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        return ops.concatenate([ops.relu(x), ops.relu(-x)], axis=-1)


@keras.saving.register_keras_serializable("examples")
class StandardizedConv2D(layers.Conv2D):
    """A convolution whose kernel is standardized in each step."""

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel
        mean = ops.mean(kernel, axis=[0, 1, 2], keepdims=True)
        deviation = ops.std(kernel, axis=[0, 1, 2], keepdims=True)
        outputs = self.convolution_op(inputs, (kernel - mean) / (deviation + 1e-10))
        return outputs + self.bias if self.use_bias else outputs


@keras.saving.register_keras_serializable("examples")
class Recommender(keras.Model):
    """Ratings from two embeddings, as in collaborative filtering."""

    def __init__(self, users: int, items: int, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.user = layers.Embedding(users, size, embeddings_regularizer=keras.regularizers.l2(1e-6))
        self.item = layers.Embedding(items, size, embeddings_regularizer=keras.regularizers.l2(1e-6))

    def call(self, pairs: Any) -> Any:
        product = self.user(pairs[:, 0]) * self.item(pairs[:, 1])
        return ops.sigmoid(ops.sum(product, axis=1, keepdims=True))


@keras.saving.register_keras_serializable("examples")
class Wrapped(keras.Model):
    """A model around another one, as in the trainer pattern, with Keras' own train step."""

    def __init__(self, model: keras.Model, **options: Any) -> None:
        super().__init__(**options)
        self.model = model

    def call(self, x: Any, training: bool = False) -> Any:
        return self.model(x, training=training)

    def get_config(self) -> dict[str, Any]:
        return {"model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Wrapped:
        return cls(keras.saving.deserialize_keras_object(config["model"]))


@keras.saving.register_keras_serializable("examples")
class TwoLayers(keras.Model):
    """A subclass whose arguments are numbers."""

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.dense1 = layers.Dense(hidden, "relu")
        self.dense2 = layers.Dense(outputs)

    def call(self, x: Any) -> Any:
        return self.dense2(self.dense1(x))


@keras.saving.register_keras_serializable("examples")
class Autoencoder(keras.Model):
    """An encoder and a decoder that are made in the constructor."""

    def __init__(self, latent: int, size: int) -> None:
        super().__init__()
        self.encoder = keras.Sequential([layers.Flatten(), layers.Dense(latent, "relu")])
        self.decoder = keras.Sequential([layers.Dense(size * size, "sigmoid"), layers.Reshape((size, size))])

    def call(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))


class OwnStep(keras.Model):
    """A model with a train step of its own: refused, and said why."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


@keras.saving.register_keras_serializable("examples")
def root_mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """A metric of one's own."""
    return ops.sqrt(ops.mean(ops.square(ops.cast(y_true, y_pred.dtype) - y_pred)))
