"""What version 0.1.0 has left: its job files give the weights that they gave, its unfinished runs are resumed.

`tests/data/run-0.1.0` was made with that version: a model, its rows, the job file of a run of each method, the weights
of all models of these runs, and the folders of runs whose servers were killed. The versions of the libraries and the
processor are recorded, too: the last bits of weights are those of the same libraries on the same processor. Elsewhere
the weights must be equal but for these.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from running import Place

pytestmark = pytest.mark.story
MADE = Path(__file__).resolve().parent.parent / "data" / "run-0.1.0"
METHODS = ("fit", "kfold", "federated")


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """Every array in the model files of a folder, by file and name."""
    import h5py

    found: dict[str, np.ndarray] = {}
    for path in [*folder.glob("*.h5"), *folder.glob("*.keras")]:
        content = path.read_bytes()
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                content = archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(content)) as file:
            for name in _names(file):
                found[f"{path.name}/{name}"] = file[name][()]
    return found


def processor() -> str:
    """The name of the processor; empty where the system does not say it in this way."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _names(file: object) -> list[str]:
    import h5py

    names: list[str] = []
    assert isinstance(file, h5py.File)
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def check_weights(place: Place, method: str, run: str) -> None:
    """The models of a run have the weights that version 0.1.0 has given them."""
    ours = weights_of(place.root / "model" / "collected" / run)
    with np.load(MADE / "weights.npz") as file:
        theirs = {name.removeprefix(f"{method}/"): file[name] for name in file.files if name.startswith(f"{method}/")}
    assert theirs
    assert ours.keys() == theirs.keys()
    made_with = json.loads((MADE / "made-with.json").read_text())
    here = {name: version(name) for name in made_with if name != "processor"} | {"processor": processor()}
    for name, array in theirs.items():
        if here == made_with:
            np.testing.assert_array_equal(ours[name], array, name)
        else:
            np.testing.assert_allclose(ours[name], array, atol=1e-5, err_msg=name)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A workspace with the model and the rows."""
    for name in ("model", "dataset"):
        shutil.copytree(MADE / name, tmp_path / name)
    found = Place.__new__(Place)
    found.root = tmp_path
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_job_file_of_version_0_1_0_gives_the_same_weights(method: str, place: Place) -> None:
    with place.server("--job", MADE / f"{method}.toml", "--port", 0, "--yes") as server:
        server.finish()
    [run] = place.runs
    check_weights(place, method, run)


@pytest.mark.parametrize(("method", "output"), [("fit", "1 of 2 tasks done"), ("federated", "2 rounds are done")])
def test_an_unfinished_run_of_version_0_1_0_is_resumed_and_ends_with_the_same_weights(
    method: str, output: str, place: Place
) -> None:
    with zipfile.ZipFile(MADE / f"unfinished-{method}.zip") as archive:
        archive.extractall(place.root)
    [folder] = (place.root / "logs").iterdir()
    with place.server("--resume", folder.name, "--port", 0, passphrase=None) as server:
        server.finish()
    assert f"Resuming run {folder.name}: {output}" in server.output
    assert place.summary(folder.name)["status"] == "done"
    check_weights(place, method, folder.name)
