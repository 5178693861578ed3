"""The bench that breaks everything at any time, with few faults; and that it can tell when something is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.story
BENCH = Path(__file__).resolve().parents[2] / "bench" / "chaos.py"


def chaos(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the bench, with its temporary files in this folder."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(
        [sys.executable, BENCH, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["kfold", "federated"])
def test_ten_faults_lose_nothing_double_nothing_and_change_no_model(method: str, tmp_path: Path) -> None:
    """Of its nine kinds each at least once."""
    done = chaos(tmp_path, "--faults", 10, "--seed", 1, "--epochs", 100, "--method", method)

    found = re.search(
        r"^faults (\d+)   results lost (\d+)   results double (\d+)   models equal (\w+)$", done.stdout, re.M
    )
    assert found, done.stdout + done.stderr
    assert int(found[1]) >= 10
    assert found.groups()[1:] == ("0", "0", "yes")
    assert done.returncode == 0, done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(600)
def test_other_models_than_those_of_the_run_in_peace_are_noticed(tmp_path: Path) -> None:
    done = chaos(tmp_path, "--faults", 0, "--calm-seed", 7, "--epochs", 2)
    assert "models equal no" in done.stdout, done.stdout + done.stderr
    assert "other models than in peace: final.keras, lab-1-fold-1.h5" in done.stdout
    assert done.returncode == 1
