"""What holds on TensorFlow holds on the other backends: the tests of the Keras backend, in a process that runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = [
    Path(__file__).with_name(name)
    for name in ("test_keras_backend.py", "test_checkpoint.py", "test_backend_contract.py")
]
#: What rounds ask for: weights of rows, FedProx, so many steps, a schedule that goes on.
ROUNDS = (
    "weighted_rows or (proximal and adam) or 16_bit or another_mu or (schedule_goes_on and adam) "
    "or (cut_by_hand and 7) or same_bits"
)
#: Equal to plain Keras to the bit, cold and warm, with averaged weights too; not compiled again; gone on with; and what
#: every backend must keep.
CHOSEN = {
    "jax": "AdamW or averaged_weights or comes_again or ends_with_the_same_bits or (contract and keras)",
    # PyTorch's dropout draws from a stream that the loader of `model.fit` draws from, too: a model without it.
    "torch": "(equal_plain_keras and cnn) or averaged_weights or same_seed or (before_it and cnn) or same_bits"
    " or (contract and keras)",
}
#: JAX compiles much that runs once. What is compared is compiled alike.
VARIABLES = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}


@pytest.mark.keras
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_trains_as_plain_keras_does(backend: str) -> None:
    hold_to(backend, TESTS, CHOSEN[backend])


@pytest.mark.keras
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_trains_what_a_round_asks_for(backend: str) -> None:
    hold_to(backend, [Path(__file__).with_name("test_rounds.py")], ROUNDS)


@pytest.mark.keras
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_does_not_import_tensorflow_for_a_seed(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = """
import random, sys
from lanfit.models.runtime import prepare_keras
from lanfit.training.keras.host_rows import set_seed
prepare_keras(sys.argv[1], 1, "cpu")
set_seed(1)
drawn = random.random()
set_seed(1)
assert drawn == random.random()
assert "tensorflow" not in sys.modules
import tensorflow  # it can be had all the same
"""
    subprocess.run([sys.executable, "-P", "-c", code, backend], check=True)


def hold_to(backend: str, files: Sequence[Path], chosen: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *map(str, files)]
    done = subprocess.run(
        [*command, "-k", chosen],
        env={**os.environ, **VARIABLES, "LANFIT_TEST_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
