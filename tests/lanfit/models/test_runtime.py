"""Bringing up Keras in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lanfit.backends import installed_backends, names

#: On Linux, how many threads XLA's pool has.
POOL = "sum('XLAEigen' in open(f'/proc/self/task/{t}/comm').read() for t in os.listdir('/proc/self/task'))"
pytestmark = pytest.mark.keras


def run(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
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
    output = run(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND="torch").splitlines()[-1]
    assert json.loads(output) == ["tensorflow", "float32", 1e-7, "channels_last", 3, 3]


@pytest.mark.parametrize("backend", names())
def test_on_the_processor_every_backend_that_is_installed_comes_up_with_its_threads(backend: str) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    code = (
        "import sys, os\n"
        "from lanfit.models.runtime import prepare_keras\n"
        "device = prepare_keras(sys.argv[1], 3, 'cpu')\n"
        "import keras, json\n"
        "keras.ops.convert_to_numpy(keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2)))\n"
        "print(json.dumps([str(device), keras.backend.backend(), keras.config.image_data_format(), threads()]))\n"
    )
    threads = {
        "tensorflow": "import tensorflow as tf; return tf.config.threading.get_intra_op_parallelism_threads()",
        "jax": f"return {POOL} if sys.platform == 'linux' else 3",
        "torch": "import torch; return torch.get_num_threads()",
    }[backend]
    output = run(f"def threads():\n    {threads}\n{code}", backend, KERAS_BACKEND="nonsense").splitlines()[-1]
    assert json.loads(output) == ["cpu", backend, "channels_last", 3]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_what_keras_would_import_besides_is_left_out_and_can_be_imported_later(backend: str) -> None:
    code = (
        "import sys\n"
        "from lanfit.models.runtime import UNUSED, prepare_keras\n"
        "prepare_keras(sys.argv[1])\n"
        "print(*(name for name in UNUSED if name in sys.modules))\n"
        "import sklearn, pandas, matplotlib.pyplot\n"
    )
    assert run(code, backend).splitlines()[-1:] == [backend]


def test_the_collector_runs_again_and_does_not_look_at_what_keras_has_made() -> None:
    code = (
        "import gc\n"
        "from lanfit.models.runtime import prepare_keras\n"
        "prepare_keras()\n"
        "import keras\n"
        "mine = []\n"
        "looked_at = {id(one) for one in gc.get_objects()}\n"
        "print(gc.isenabled(), id(mine) in looked_at, id(keras.Model) in looked_at)\n"
    )
    assert run(code).splitlines()[-1] == "True True False"


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_gpu_that_is_not_there_is_named_with_what_was_found(backend: str) -> None:
    """Where there is one, it is hidden from the process: what this looks like is the same everywhere."""
    code = (
        "import sys\n"
        "from lanfit.errors import InputError\n"
        "from lanfit.models.runtime import prepare_keras\n"
        "try:\n"
        "    prepare_keras(sys.argv[1], 1, 'gpu')\n"
        "except InputError as wrong:\n"
        "    print(wrong.message, '|', wrong.hint)\n"
    )
    output = run(code, backend, CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu").splitlines()[-1]
    assert output.startswith(
        f"a GPU was requested (--device gpu), but {backend} finds only the cpu of this machine | Use "
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts all writable memory")
def test_beyond_the_memory_limit_python_and_tensorflow_fail_but_within_it_they_work() -> None:
    code = (
        "from lanfit.core.memory import limit_memory\nfrom lanfit.models.runtime import prepare_keras\n"
        "prepare_keras(threads=1)\n"
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
        "from lanfit.core.memory import limit_memory\n"
        "print(limit_memory(1 << 30))"
    )
    assert run(code) == "False"
