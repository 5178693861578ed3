"""A client that is killed amid a transfer goes on where it was: at most one chunk is sent again, either way."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from proxy import Proxy
from running import PATIENCE, Place, Program, client, flags, free_port, port_of

from lanfit.transfer.partial import CHUNK

pytestmark = pytest.mark.story

#: 64 inputs and 24 MB of weights.
LARGE_MODEL = """
import sys, keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.Flatten(),
    keras.layers.Dense(80_000, activation="relu"), keras.layers.Dense(10, activation="softmax")])
model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
model.save(sys.argv[1])
"""


def wait_for_chunks(folder: Path, pattern: str, program: Program) -> None:
    """Wait until a whole chunk of a block lies there and was noted."""
    deadline = time.monotonic() + PATIENCE
    while not any(path.stat().st_size for path in folder.glob(pattern)):
        assert program.process.poll() is None, program.output
        assert time.monotonic() < deadline, program.output
        time.sleep(0.01)


def test_a_client_that_is_killed_while_it_receives_and_while_it_delivers_repeats_a_chunk_at_most(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path / "server")
    subprocess.run([sys.executable, "-c", LARGE_MODEL, place.root / "model" / "large.keras"], check=True)
    lab = tmp_path / "lab-1"
    with (
        place.server(*flags(free_port(), 1, model="large.keras", epochs=1), "--threads", 1) as server,
        Proxy(port_of(server)) as way,
    ):
        way.down.rate = 2e6  # most of a block is still to come when its first chunk is here
        with client(lab, way.port, "lab-1") as first:
            wait_for_chunks(lab, "client/state/1/cache/*.chunks", first)
            first.kill()
            first.finish(None)
        way.down.rate, way.up.rate = 0.0, 2e6
        with client(lab, way.port, "lab-1") as second:
            here, size = (int(text.replace(",", "")) for text in second.expect(r"([\d,]+) of ([\d,]+) bytes").groups())
            assert CHUNK <= here < size
            wait_for_chunks(place.root, "logs/*/results/*.chunks", second)
            second.kill()
            second.finish(None)
        way.up.rate = 0.0
        with client(lab, way.port, "lab-1") as third:
            third.expect("1 finished result waits here for 127.0.0.1:")
            third.finish()
        server.finish()
    summary = place.summary()
    assert summary["status"] == "done"
    [facts] = summary["clients"]
    assert size <= facts["bytes"]["sent"] <= size + CHUNK + 2_000_000
    assert not list(place.root.glob("logs/*/results"))
    assert not (lab / "client" / "state" / "1" / "cache").exists()
    assert not list((lab / "client" / "state" / "1" / "outbox").iterdir())
