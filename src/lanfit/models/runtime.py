"""Bringing up Keras in a process of its own: backend, threads, device, memory. To be called before anything imports it.

Which backends are installed is found out without importing them, so a process that only wants to know stays light.
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from lanfit.errors import LanfitError
from lanfit.job import BACKENDS
from lanfit.mistakes import mistake

#: Keras and TensorFlow import these where they find them, for what nobody uses here: that took a third of their time.
UNUSED = ("jax", "matplotlib", "pandas", "sklearn", "tensorflow")
#: How a process ends that meets an instruction which its processor does not have: SIGILL, and on Windows
#: STATUS_ILLEGAL_INSTRUCTION.
ILLEGAL_INSTRUCTION: Final = frozenset({-4, 0xC000001D, 0xC000001D - (1 << 32)})


@dataclass(frozen=True)
class Device:
    """What a backend computes on: "cpu" or "gpu", and what the GPU is called, as far as the backend tells."""

    kind: str = "cpu"
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})" if self.name else self.kind


def installed_backends() -> list[str]:
    """The backends that can be imported here, best first."""
    if importlib.util.find_spec("keras") is None:
        return []
    return [backend for backend in BACKENDS if importlib.util.find_spec(backend) is not None]


def keras_version() -> str:
    """The version of Keras that is installed, found without importing it; empty if there is none."""
    try:
        return importlib.metadata.version("keras")
    except importlib.metadata.PackageNotFoundError:
        return ""


def default_backend() -> str:
    """The first backend that is installed; the first of all where none is."""
    return (installed_backends() or BACKENDS)[0]


def check_backend(backend: str) -> None:
    """Check that a backend is one of ours and can be imported here. It may have been named by a peer.

    Raises:
        InputError: it is not.
    """
    if backend not in BACKENDS:
        raise mistake("backend.unknown", name=backend, known=", ".join(BACKENDS))
    installed = installed_backends()
    if backend not in installed:
        others = f", or use what is installed: --backend {' or '.join(installed)}" if installed else ""
        raise mistake("backend.not-installed", name=backend, others=others)


def unusable(backend: str, exit_code: int | None, last_lines: Sequence[str]) -> LanfitError | None:
    """Return why a backend can't be used on this machine, if the end of a process that had it shows that; else None.

    Args:
        exit_code: as `subprocess` has it.
        last_lines: what the process printed at last.
    """
    if exit_code in ILLEGAL_INSTRUCTION:
        others = " or ".join(f"--backend {name}" for name in installed_backends() if name != backend)
        way_out = f"Try {others}" if others else "Install another backend (pip install -e .[jax] or .[torch])"
        return mistake("backend.illegal-instruction", name=backend, way_out=way_out)
    if line := next((line for line in reversed(last_lines) if "DLL load failed" in line), None):
        return mistake("backend.no-dll", name=backend, reason=line.strip())
    return None


def prepare_keras(backend: str = "tensorflow", threads: int = 0, device: str = "auto") -> Device:
    """Import Keras so that results depend on the job, the backend, the device and `threads` alone; return the device.

    Must be the first thing in a process that touches Keras. What a `keras.json` of this user says does not count.

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
            raise mistake("backend.no-gpu", backend=backend, found=found)
        import keras

        if backend != "tensorflow":
            # Imports TensorFlow where it is there, for nothing: seconds, and 300 MB. Keras remembers that it is not.
            keras.utils.set_random_seed(0)

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    # Keras advises against .h5 each time it writes one.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return found


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Let packages look as if they were not installed."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not there"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the garbage collector never look at what is made here: modules stay, and there is a lot in them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _start_tensorflow(threads: int, no_gpu: bool) -> Device:
    # TensorFlow's own log is about drivers that are not there; what goes wrong comes as an exception anyway.
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
