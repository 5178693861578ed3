"""Many steps of a Keras model on TensorFlow in one compiled call, over rows that stay in memory.

`model.fit` feeds each step through a tf.data pipeline. Even with its best settings, this costs a small dense network
about 20 % of its speed and a convolutional one a few per cent (bench/training.py). Here the rows of a batch are
gathered inside the compiled loop, so a call may have any number of batches without another compilation or setup. The
step is Keras' own `train_step`: weights are bit-identical to those of `model.fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lanfit.models.structure import Arrange, Flat
from lanfit.training.backend import Rows
from lanfit.training.keras.proximal import Proximal, replaced
from lanfit.wire.arrays import ALIGNMENT, AnyArray

#: The dtypes of arrays whose memory TensorFlow can share, if it is aligned as our blocks are.
_SHARED = frozenset({"float32", "int8", "int16", "int32", "int64", "uint8"})


def resident(array: AnyArray) -> Any:
    """Return an array as a tensor in main memory, with floats converted to float32, as Keras does.

    Memory that is writable and aligned is shared, not copied: the array must not change while the tensor is in use.
    (`tf.convert_to_tensor` copies twice on the way.)
    """
    import tensorflow as tf

    if not isinstance(array, np.ndarray):
        return array  # it is a tensor
    if array.dtype.kind == "f":
        array = np.asarray(array, np.float32)
    if not array.size or array.dtype.name not in _SHARED:
        with tf.device("CPU:0"):
            return tf.convert_to_tensor(array)
    if array.ctypes.data % ALIGNMENT or not (array.flags.writeable and array.flags.c_contiguous):
        array = _aligned_copy(array)
    plain: Any = np.asarray(array)  # a memory-mapped array is a subclass
    return tf.experimental.dlpack.from_dlpack(plain.__dlpack__())


def _aligned_copy(array: AnyArray) -> AnyArray:
    buffer = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy


def loops(
    model: Any,
    data: Flat,
    validation: Flat,
    arrange: Arrange,
    proximal: Proximal | None,
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the loops that train and evaluate a compiled model, for any number of rows with these shapes."""
    step = model.train_step if proximal is None else _with_term(model, proximal)
    train = _loop(step, data, arrange, model.jit_compile)
    if not len(validation[0]):  # compiling a loop that is not used would cost some tenths of a second
        return train, _no_loop
    return train, _loop(model.test_step, validation, arrange, model.jit_compile)


def _no_loop(data: tuple[Any, ...], rows: Rows, batch_size: int) -> None:
    raise AssertionError("there are no validation rows")


def _with_term(model: Any, proximal: Proximal) -> Callable[[Any], Any]:
    def step(data: Any) -> Any:
        with proximal.in_scaled_loss(model):
            return model.train_step(data)

    return step


def _loop(step: Callable[[Any], Any], like: Flat, arrange: Arrange, jit_compile: bool) -> Callable[..., None]:
    import tensorflow as tf

    # Keras does not let AutoGraph convert a step either. It would double the time that tracing takes.
    one_step = tf.function(step, reduce_retracing=True, jit_compile=jit_compile, autograph=False)

    def loop(rows: Any, batch_size: Any, *data: Any) -> None:
        count = tf.shape(rows)[0]

        def body(first: Any) -> tuple[Any]:
            last = tf.minimum(first + batch_size, count)
            batch = rows[first:last]
            with tf.device("CPU:0"):
                gathered = tuple(tf.gather(array, batch) for array in data)
            one_step(arrange(gathered))
            return (last,)

        tf.while_loop(lambda first: first < count, body, (tf.constant(0),), parallel_iterations=1)

    signature = [
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([], tf.int32),
        *(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in like),
    ]
    compiled = tf.function(loop, input_signature=signature, autograph=False).get_concrete_function()

    def call(data: tuple[Any, ...], rows: Rows, batch_size: int) -> None:
        compiled(tf.constant(rows, tf.int64), tf.constant(batch_size, tf.int32), *data)

    return call


def set_seed(seed: int) -> None:
    """Set Keras' seed, but not TensorFlow's own, after which every compiled function would be prepared again.

    That takes about 50 ms for each function of a small dense network. Only stateful ops use that seed, and Keras'
    layers have none.
    """
    import keras
    import tensorflow as tf

    with replaced(tf.random, "set_seed", lambda seed: None):
        keras.utils.set_random_seed(seed)


def random_state() -> dict[str, AnyArray]:
    """Return nothing: the states of Keras' random layers are variables of the model."""
    return {}


def set_random_state(state: Mapping[str, AnyArray]) -> None:
    """Do nothing: there is no other state."""
