"""Many steps of a Keras model in one call of TensorFlow, over rows that stay where they are.

`model.fit` feeds each step through a tf.data pipeline, which costs small models more than the step itself. Here the
rows of a batch are gathered inside the compiled loop, so a call may take any number of batches without compiling again.
The step is Keras' own `train_step`: weights equal those of `model.fit` to the bit (bench/training.py compares both).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lanfit.wire.arrays import AnyArray


def resident(array: AnyArray) -> Any:
    """Return an array as a tensor in main memory; Keras, too, takes every float as float32."""
    import tensorflow as tf

    if array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float32)
    with tf.device("CPU:0"):
        return tf.convert_to_tensor(array)


def compiled_loop(
    step: Callable[[Any], Any], x: Any, y: Any, jit_compile: bool
) -> Callable[[Any, Any, Any, Any], None]:
    """Return `loop(x, y, rows, batch_size)`, which runs a Keras step on each batch of the rows, in order.

    It is compiled here, for any number of rows like those of `x` and `y`.
    """
    import tensorflow as tf

    one_step = tf.function(step, reduce_retracing=True, jit_compile=jit_compile)

    def loop(x: Any, y: Any, rows: Any, batch_size: Any) -> None:
        count = tf.shape(rows)[0]

        def body(first: Any) -> tuple[Any]:
            last = tf.minimum(first + batch_size, count)
            batch = rows[first:last]
            with tf.device("CPU:0"):
                data = (tf.gather(x, batch), tf.gather(y, batch))
            one_step(data)
            return (last,)

        tf.while_loop(lambda first: first < count, body, (tf.constant(0),), parallel_iterations=1)

    signature = [
        tf.TensorSpec([None, *x.shape[1:]], x.dtype),
        tf.TensorSpec([None, *y.shape[1:]], y.dtype),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([], tf.int32),
    ]
    compiled: Callable[[Any, Any, Any, Any], None] = tf.function(
        loop, input_signature=signature, autograph=False
    ).get_concrete_function()
    return compiled
