"""Clients on other backends than the server's: each computes on its own, and hands back a model like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from breakpoints import shim
from running import Place, Program, client, flags, free_port, port_of

pytestmark = pytest.mark.story


def test_a_client_on_tensorflow_and_one_on_jax_train_for_one_server(tmp_path: Path) -> None:
    place = Place(tmp_path / "server")
    with (
        place.server(*flags(free_port(), 2, epochs=12, normalizer="minmax")) as server,
        client(tmp_path / "a", port_of(server), "lab-1", "--backend", "tensorflow") as first,
        client(tmp_path / "b", port_of(server), "lab-2", "--backend", "jax", "--device", "cpu") as second,
    ):
        server.finish()
        first.finish()
        second.finish()
    assert "The backend is ready: jax on cpu, 1 thread." in second.output
    summary = place.summary()
    assert summary["status"] == "done"
    assert [(each["backend"], each["device"], each["threads"]) for each in summary["clients"]] == [
        ("tensorflow", "cpu", 1),
        ("jax", "cpu", 1),
    ]
    for each in summary["clients"]:
        assert (place.root / each["model"]).is_file()
        assert each["metrics"]["accuracy"] > 0.85
    # They started from the same weights, on other rows, and learned alike.
    losses = [each["metrics"]["loss"] for each in summary["clients"]]
    assert max(losses) < 1.5 * min(losses)


def refused(folder: Path, *arguments: object, **environment: str) -> str:
    """What a client says that ends with exit 2 before it looks for its server."""
    with Program("client", f"127.0.0.1:{free_port()}", *arguments, folder=folder, environment=environment) as program:
        program.finish(2)
    assert "Traceback" not in program.output
    assert "  → " in program.output, "there is no hint"
    assert "Retrying" not in program.output
    return program.output


def test_a_backend_that_is_missing_is_named_with_what_installs_it(tmp_path: Path) -> None:
    hidden = shim(tmp_path / "shim", "import sys\nsys.modules['torch'] = None\n")
    output = refused(tmp_path, "--backend", "torch", **hidden)
    assert "the backend torch is not installed here" in output
    assert 'python -m pip install -e ".[torch]", or use what is installed: --backend tensorflow or jax' in output
    assert "'theano' is not one of: tensorflow, jax, torch" in refused(tmp_path, "--backend", "theano")
    assert "did you mean 'gpu'" in refused(tmp_path, "--device", "gpus")


def test_a_gpu_that_is_missing_is_named_with_what_was_found(tmp_path: Path) -> None:
    output = refused(tmp_path, "--backend", "jax", "--device", "gpu", JAX_PLATFORMS="cpu")
    assert "a GPU was requested (--device gpu), but jax finds only the cpu of this machine" in output
