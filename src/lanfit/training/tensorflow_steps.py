"""Many steps of a Keras model on TensorFlow, compiled as one call, over rows that stay where they are.

`model.fit` feeds each step through a tf.data pipeline: against its best setting that costs a small dense network about
a fifth of its speed, a convolutional one some per cent (bench/training.py). Here the rows of a batch are taken inside
the compiled loop, so a call may take any number of batches without compiling again, and nothing is set up or taken down
between calls. The step is Keras' own `train_step`: weights equal those of `model.fit` to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lanfit.training.backend import Rows
from lanfit.training.proximal import Proximal, replaced
from lanfit.wire.arrays import ALIGNMENT, AnyArray

#: The dtypes of memory that TensorFlow takes as it lies, if it is aligned as our blocks are.
_SHARED = frozenset({"float32", "int8", "int16", "int32", "int64", "uint8"})


def resident(array: AnyArray) -> Any:
    """Return an array as a tensor in main memory; Keras, too, takes every float as float32.

    Memory that is writable and aligned is shared, not copied: the array must not change while the tensor is in use.
    (`tf.convert_to_tensor` copies twice on the way.)
    """
    import tensorflow as tf

    if not isinstance(array, np.ndarray):
        return array  # it is one
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
    model: Any, data: tuple[Any, ...], validation: tuple[Any, ...], proximal: Proximal | None
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the loops that train and that score a compiled model, compiled for any number of rows like these."""
    train = _loop(model.train_step if proximal is None else _with_term(model, proximal), data, model.jit_compile)
    if not len(validation[0]):  # some tenths of a second, for a loop that nobody runs
        return train, _no_loop
    return train, _loop(model.test_step, validation, model.jit_compile)


def _no_loop(data: tuple[Any, ...], rows: Rows, batch_size: int) -> None:
    raise AssertionError("there are no rows to validate on")


def _with_term(model: Any, proximal: Proximal) -> Callable[[Any], Any]:
    import tensorflow as tf

    def step(data: Any) -> Any:
        with proximal.in_scaled_loss(model):
            return model.train_step(data)

    unconverted: Callable[[Any], Any] = tf.autograph.experimental.do_not_convert(step)
    return unconverted


def _loop(step: Callable[[Any], Any], like: tuple[Any, ...], jit_compile: bool) -> Callable[..., None]:
    import tensorflow as tf

    one_step = tf.function(step, reduce_retracing=True, jit_compile=jit_compile)

    def loop(rows: Any, batch_size: Any, *data: Any) -> None:
        count = tf.shape(rows)[0]

        def body(first: Any) -> tuple[Any]:
            last = tf.minimum(first + batch_size, count)
            batch = rows[first:last]
            with tf.device("CPU:0"):
                gathered = tuple(tf.gather(array, batch) for array in data)
            one_step(gathered)
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
    """As Keras does it, without TensorFlow's own seed: setting that makes it prepare every compiled function anew.

    (Some 50 ms each, of a small dense network.) Only ops that keep a state draw from it, and Keras' layers have none.
    """
    import keras
    import tensorflow as tf

    with replaced(tf.random, "set_seed", lambda seed: None):
        keras.utils.set_random_seed(seed)


def random_state() -> dict[str, AnyArray]:
    """Nothing: Keras' random layers draw from states that are variables of the model."""
    return {}


def set_random_state(state: Mapping[str, AnyArray]) -> None:
    """Nothing to go back to."""
