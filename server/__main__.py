"""`python server` in a clone is `lanfit server`: finds the environment that has lanfit, and runs it there."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # The launcher is the same for both sides; it needs nothing but Python itself.
    sys.argv.insert(1, "server")
    runpy.run_path(str(Path(__file__).resolve().parent.parent / "src" / "lanfit" / "launch.py"), run_name="__main__")
