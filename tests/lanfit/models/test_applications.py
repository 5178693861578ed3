"""Networks of keras.applications that hold bare operations or layers of their own: they load like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.models.loading import load_model
from lanfit.models.raw_model import bare_model

pytestmark = pytest.mark.keras
ROWS = np.random.RandomState(0).rand(2, 32, 32, 3).astype(np.float32)


def mobile_net() -> Any:
    """MobileNetV3 with two blocks: its activation is `x * relu6(x + 3) / 6`, in operations between layers."""
    from keras.src.applications import mobilenet_v3

    def blocks(x: Any, kernel: int, activation: Any, se_ratio: float) -> Any:
        for number in (1, 2):
            x = mobilenet_v3._inverted_res_block(x, 2, 16, kernel, 1, se_ratio, activation, number)
        return x

    return mobilenet_v3.MobileNetV3(blocks, 8, input_shape=(32, 32, 3), weights=None, classes=2)


def conv_next() -> Any:
    """The smallest there can be, with the blocks of all of them."""
    import keras
    from keras.src.applications.convnext import ConvNeXt

    part = ConvNeXt(
        depths=[1, 1, 1, 1],
        projection_dims=[4, 4, 4, 4],
        drop_path_rate=0.5,
        include_top=False,
        weights=None,
        input_shape=(32, 32, 3),
        pooling="avg",
        name="convnext",
    )
    return keras.Sequential([keras.Input((32, 32, 3)), part, keras.layers.Dense(2, activation="softmax")])


def inception_res_net() -> Any:
    """A residual as in InceptionResNetV2, which takes 20 seconds to build."""
    import keras
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    x = rows = keras.Input((32, 32, 3))
    branch = keras.layers.Conv2D(3, 1)(x)
    x = keras.layers.Activation("relu")(CustomScaleLayer(scale=0.17)([x, branch]))
    return keras.Model(rows, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("net", [mobile_net, conv_next, inception_res_net])
def test_a_network_of_keras_applications_computes_what_the_saved_one_did(net: Any, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(3)
    model = net()
    model.save(tmp_path / "net.keras")
    loaded = load_model(tmp_path / "net.keras")
    found = bare_model(loaded.architecture, loaded.weights)(ROWS)
    np.testing.assert_allclose(found, model(ROWS), rtol=1e-4, atol=1e-6)
