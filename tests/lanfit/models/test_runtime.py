"""Bringing up Keras in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.keras


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_threads_and_backend_are_ours_whatever_the_users_keras_json_says(tmp_path: Path) -> None:
    settings = {"backend": "jax", "floatx": "float64", "epsilon": 0.5, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    code = (
        "from lanfit.models.runtime import prepare_keras\n"
        "prepare_keras(threads=3)\n"
        "import keras, tensorflow as tf, json\n"
        "threads = tf.config.threading\n"
        "print(json.dumps([keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(),\n"
        "    keras.config.image_data_format(), threads.get_intra_op_parallelism_threads(),\n"
        "    threads.get_inter_op_parallelism_threads()]))"
    )
    said = run(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND="torch").splitlines()[-1]
    assert json.loads(said) == ["tensorflow", "float32", 1e-7, "channels_last", 3, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts all writable memory")
def test_beyond_the_memory_limit_python_and_tensorflow_fail_but_within_it_they_work() -> None:
    code = (
        "from lanfit.models.runtime import limit_memory, prepare_keras\n"
        "prepare_keras(1)\n"
        "import keras, numpy as np\n"
        "keras.ops.zeros((10,))\n"
        "assert limit_memory(1 << 28)\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])\n"
        "assert model.predict(np.zeros((2, 4)), verbose=0).shape == (2, 3)\n"
        "for make in (lambda: np.ones(1 << 30, np.uint8), lambda: keras.ops.ones((1 << 29,))):\n"
        "    try:\n"
        "        make()\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__)\n"
    )
    assert run(code).splitlines() == ["MemoryError", "ResourceExhaustedError"]


def test_where_the_system_has_no_limit_it_says_so() -> None:
    code = (
        "import sys\n"
        "sys.modules['resource'] = None\n"  # as on Windows
        "from lanfit.models.runtime import limit_memory\n"
        "print(limit_memory(1 << 30))"
    )
    assert run(code) == "False"
