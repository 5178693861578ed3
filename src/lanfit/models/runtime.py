"""Bringing up Keras in a process of its own: backend, threads, memory. To be called before anything imports Keras."""

from __future__ import annotations

import logging
import os


def prepare_keras(threads: int = 0) -> None:
    """Import Keras on TensorFlow so that results depend on the job and `threads` alone.

    `threads` is how many cores one operation may use; 0 leaves it to TensorFlow. Must be the first thing in a process
    that touches Keras. What a `keras.json` of this user says does not count.

    Raises:
        RuntimeError: TensorFlow is already running with another number of threads.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # TensorFlow's own log is about drivers that are not there; what goes wrong comes as an exception anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    if threads:
        # Inter-op threads only overlap independent operations: they do not change results.
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    # Keras advises against .h5 each time it writes one.
    logging.getLogger("absl").setLevel(logging.ERROR)


def limit_memory(limit: int) -> bool:
    """Let this process take at most `limit` bytes more memory than it has now; return False where that can't be done.

    What it asks for beyond fails with MemoryError. Linux counts what may be written to; macOS counts only the heap;
    Windows has no such limit.
    """
    try:
        import resource
    except ImportError:
        return False
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + limit
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    except (ValueError, OSError):
        return False
    return True


def _data_bytes() -> int:
    """Bytes of writable private memory of this process, as RLIMIT_DATA counts them; 0 where it is not known."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return 0
