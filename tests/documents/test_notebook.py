"""The notebook in docs/ is executed as it stands, in a kernel of its own; only its line that installs is not run."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from running import PATIENCE, ROOT, Place

NOTEBOOK = ROOT / "docs" / "federated.ipynb"


@pytest.mark.story
@pytest.mark.timeout(600)
def test_the_notebook_goes_from_rows_to_a_model_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    # What a kernel writes about itself goes where it is removed again.
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("LANFIT_PASSPHRASE", raising=False)
    place = Place(tmp_path / "clone")
    (place.root / "docs").mkdir()
    shutil.copy2(NOTEBOOK, place.root / "docs")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    install, *others = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert install.source == '%pip install --quiet "..[server]"'
    assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "its outputs are committed"
    install.source = ""
    client = NotebookClient(notebook, timeout=4 * PATIENCE, resources={"metadata": {"path": str(place.root / "docs")}})
    client.execute(env=dict(os.environ))
    printed = "".join(
        output.get("text", "") for cell in others for output in cell.outputs if output.output_type == "stream"
    )
    assert float(re.findall(r"nobody has trained on: ([\d.]+)", printed)[0]) > 0.8
    assert "done - the same weights: True" in printed
    assert "round 5: local-1, local-2; local-1 " in printed
    assert re.search(r"100%.* 5/5 .*loss: \d", printed), "no bar"
    assert "\x1b[" not in printed
    assert place.summary()["method"] == "federated"
    assert not (place.root / "docs" / "lanfit").exists()
