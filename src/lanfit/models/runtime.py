"""Prepares Keras in a process: backend, threads, device. Must be called before Keras is imported."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lanfit import __version__
from lanfit.backends import Device, check_backend
from lanfit.errors import lanfit_error

#: Keras and TensorFlow import these packages if they are installed, for unused features: a third of the import time.
UNUSED = ("jax", "matplotlib", "pandas", "sklearn", "tensorflow")


def keras_version() -> str:
    """Return the installed version of Keras without importing it; empty if there is none."""
    try:
        return importlib.metadata.version("keras")
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions() -> dict[str, str]:
    """Return the versions of what a run depends on, without importing it; Keras only if it is installed."""
    found = {"lanfit": __version__, "python": platform.python_version(), "keras": keras_version()}
    return {name: version for name, version in {**found, "system": platform.system()}.items() if version}


def prepare_keras(backend: str = "tensorflow", threads: int = 0, device: str = "auto") -> Device:
    """Import Keras so that results depend on the job, the backend, the device and `threads` alone; return the device.

    Must be the first thing in a process that touches Keras. A `keras.json` of this user is ignored.

    Args:
        threads: how many cores one operation may use; 0 leaves it to the backend.
        device: "cpu" uses no GPU even if there is one, "gpu" nothing else, "auto" what the backend finds.

    Raises:
        InputError: the backend is not installed, or finds no GPU where one was asked for.
        RuntimeError: TensorFlow is already running with another number of threads.
    """
    check_backend(backend)
    os.environ["KERAS_BACKEND"] = backend
    start = {"tensorflow": _start_tensorflow, "jax": _start_jax, "torch": _start_torch}[backend]
    with _without(*(name for name in UNUSED if name != backend)), _uncollected():
        found = start(threads, device == "cpu")
        if device == "gpu" and found.kind != "gpu":
            raise lanfit_error("backend.no-gpu", backend=backend, found=found)
        import keras

        if backend != "tensorflow":
            # It would import TensorFlow needlessly: seconds, and 300 MB. Keras caches that it is not installed.
            keras.utils.set_random_seed(0)

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    # Keras advises against .h5 each time it writes one.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return found


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Make packages appear not to be installed."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # marks it as missing for the import system
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Exclude objects that are created in this block from garbage collection: modules are large and permanent."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _start_tensorflow(threads: int, no_gpu: bool) -> Device:
    # TensorFlow's own log is about missing drivers; errors are raised as exceptions anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    if threads:
        # Inter-op threads only overlap independent operations: they do not change results.
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if no_gpu:
        tf.config.set_visible_devices([], "GPU")
    elif gpus := tf.config.list_physical_devices("GPU"):
        return Device("gpu", tf.config.experimental.get_device_details(gpus[0]).get("device_name", ""))
    return Device()


def _start_jax(threads: int, no_gpu: bool) -> Device:
    if threads:
        # XLA reads the size of its pool of threads from these, the newer name first.
        os.environ["PJRT_NPROC"] = os.environ["NPROC"] = str(threads)
    if no_gpu:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    first = jax.devices()[0]
    return Device() if first.platform == "cpu" else Device("gpu", first.device_kind)


def _start_torch(threads: int, no_gpu: bool) -> Device:
    if no_gpu:
        os.environ["KERAS_TORCH_DEVICE"] = "cpu"  # read by Keras when it is imported
    import torch

    if threads:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(threads)
    if no_gpu:
        return Device()
    if torch.backends.mps.is_available():
        return Device("gpu", "Apple MPS")
    return Device("gpu", torch.cuda.get_device_name(0)) if torch.cuda.is_available() else Device()
