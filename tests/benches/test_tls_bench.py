"""bench/tls.py measures both kinds of TLS, and says which is faster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench" / "tls.py"


def test_both_kinds_of_tls_are_measured_in_turns() -> None:
    words = [sys.executable, BENCH, "--only", "loopback", "--megabytes", "1", "--rounds", "1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for kind in ("own", "asyncio"):
        assert re.search(rf", {kind}: \d+\.\d{{3}} s, \d+\.\d{{3}} s of processors, medians of 1$", done.stdout, re.M)
    assert re.search(r"own / asyncio \d+\.\d\d of the time, \d+\.\d\d of the processors' time", done.stdout)
    assert not done.stderr
