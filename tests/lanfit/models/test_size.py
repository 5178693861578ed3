"""How large a peer's model is at least, before it is built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lanfit.errors import InputError
from lanfit.wire.arrays import ArraySpec
from lanfit_client.model_size import check_size, least_weights

TABLE = [ArraySpec("kernel", "float32", (4, 13)), ArraySpec("bias", "float32", (15,))]


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": "large", **config}}


def model(*layers: dict[str, Any]) -> str:
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": {"layers": layers}})


@pytest.mark.parametrize(
    "made_up",
    [
        layer("Dense", units=2 * 10**8),
        layer("Embedding", input_dim=10**6, output_dim=10**6),
        layer("LSTM", units=10**5),
        layer("Conv2D", filters=64, kernel_size=[3000, 3000]),
        layer("Conv3DTranspose", filters=1, kernel_size=900),
        layer("MultiHeadAttention", num_heads=10**4, key_dim=10**4),
        layer("TimeDistributed", layer=layer("Bidirectional", layer=layer("GRU", units=10**5))),
        {**layer("Dense", units=60), "build_config": {"input_shape": [None, 10**8]}},
        layer("RNN", cell=layer("LSTMCell", units=10**5)),
    ],
    ids=lambda made_up: made_up["class_name"],
)
def test_a_layer_that_is_larger_than_the_weights_that_came_is_named(made_up: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        check_size(model(made_up), TABLE)
    assert caught.value.code == "weights.too-few"
    assert "layer 'large' has" in caught.value.message
    assert caught.value.message.endswith("but 67 came with the model")


def test_what_fits_and_what_is_not_known_is_let_through_to_keras() -> None:
    check_size(model(layer("Dense", units=13), layer("Dense", units=67), layer("Rescaling", scale=10**9)), TABLE)
    for odd in ({"units": True}, {"units": "many"}, {"units": -5}, {"units": None}, {}):
        check_size(model(layer("Dense", **odd)), TABLE)
    own = {**layer("Dense", units=10**9), "module": "my_layers", "registered_name": "Custom>Dense"}
    check_size(model(own), TABLE)
    check_size("{}", [])


def test_what_is_no_json_is_reported_as_when_it_is_built() -> None:
    with pytest.raises(InputError) as caught:
        check_size('{"units": ' + "9" * 5000 + "}", TABLE)
    assert caught.value.code == "model.not-json"


@pytest.mark.keras
def test_no_layer_of_keras_has_fewer_weights_than_estimated() -> None:
    import keras
    from keras import layers

    def as_sent(each: Any) -> Any:
        return json.loads(json.dumps(keras.saving.serialize_keras_object(each)))

    image, row, steps = keras.Input((8, 8, 2)), keras.Input((6,)), keras.Input((5, 3))
    video, ids = keras.Input((3, 8, 8, 2)), keras.Input((4,), dtype="int32")
    for given, each in [
        (row, layers.Dense(7, use_bias=False)),
        (ids, layers.Embedding(11, 3)),
        (steps, layers.SimpleRNN(5, use_bias=False)),
        (steps, layers.GRU(5, use_bias=False)),
        (steps, layers.LSTM(5, use_bias=False)),
        (steps, layers.Conv1D(3, 2, use_bias=False)),
        (steps, layers.Conv1DTranspose(3, 2, use_bias=False)),
        (steps, layers.SeparableConv1D(9, 2, use_bias=False)),
        (image, layers.Conv2D(3, (2, 3), use_bias=False)),
        (image, layers.Conv2D(4, 2, groups=2, use_bias=False)),
        (image, layers.Conv2DTranspose(3, 2, use_bias=False)),
        (image, layers.SeparableConv2D(9, 2, use_bias=False)),
        (video, layers.Conv3D(3, 2, use_bias=False)),
        (video, layers.Conv3DTranspose(3, 2, use_bias=False)),
        (video, layers.ConvLSTM2D(3, 2, use_bias=False)),
        (steps, layers.Bidirectional(layers.LSTM(5))),
    ]:
        each(given)
        described = as_sent(each)
        inner = described["config"].get("layer", described)
        assert 0 < least_weights(inner) <= each.count_params(), each.name

    attention = layers.MultiHeadAttention(2, 3, use_bias=False)
    attention(steps, steps)
    assert 0 < least_weights(as_sent(attention)) <= attention.count_params()
