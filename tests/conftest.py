"""What tests share: nothing of the machine's environment, and no process that outlives its test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from forking import VARIABLE, nothing_changed, offered
from hypothesis import settings
from leftovers import forget_this_process, mark_this_process, nothing_left

if TYPE_CHECKING:
    from namespaces import Network
    from small_workspace import SmallWorkspace
    from warm import WarmModels

# Before anything imports Keras, here or in a child.
os.environ["KERAS_BACKEND"] = os.environ.get("LANFIT_TEST_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Hundreds of processes start with the same modules: without compiled files on disk each would compile them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# The machine may be busy: tests never look at the clock.
settings.register_profile("lanfit", deadline=None)
settings.register_profile("deep", deadline=None, max_examples=1000)
settings.load_profile("lanfit")

mark_this_process()
# The state of a machine of its own, not that of who runs the tests.
os.environ["LANFIT_STATE_DIR"] = tempfile.mkdtemp(prefix="lanfit-machine-", dir=os.environ["PYTEST_DEBUG_TEMPROOT"])
# What JAX compiles for one trainer it need not compile for the next: most of the time of a short task.
if _owns_cache := "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(
        prefix="lanfit-jax-", dir=os.environ["PYTEST_DEBUG_TEMPROOT"]
    )
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
_templates = Path(tempfile.mkdtemp(prefix="lanfit-forking-", dir=os.environ["PYTEST_DEBUG_TEMPROOT"]))
os.environ.update(offered(_templates))


def pytest_sessionfinish() -> None:
    forget_this_process()
    shutil.rmtree(_templates, ignore_errors=True)
    if _owns_cache:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    shutil.rmtree(os.environ["LANFIT_STATE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Fail a test that leaves a process, a port, a file or shared memory behind, or its own process changed.

    It is set up before `monkeypatch`, and looks when that has put all back.
    """
    with nothing_left(), nothing_changed():
        yield


@pytest.fixture(autouse=True)
def _cold(request: pytest.FixtureRequest, _nothing_is_left: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("cold"):
        monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture(autouse=True)
def _no_passphrase_in_the_environment(_nothing_is_left: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANFIT_PASSPHRASE", raising=False)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of two inputs, made by plain Keras in a process of its own."""
    from error_cases import TINY_MODELS

    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", TINY_MODELS, folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def small_workspace(tmp_path: Path, tiny_models: Path) -> SmallWorkspace:
    """A workspace with these models and twelve rows that fit them."""
    from small_workspace import SmallWorkspace

    return SmallWorkspace(tmp_path / "work", tiny_models)


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmModels]:
    """A model process that servers which are run in this process share."""
    from warm import warm_models

    with warm_models() as models:
        yield models


@pytest.fixture
def network() -> Iterator[Network]:
    """Machines in network namespaces; skips where they are not allowed."""
    from namespaces import networks

    with networks() as network:
        yield network
