"""`python server` is `lanfit server` with this clone as the workspace, wherever it is called from.

Finds the environment that has lanfit, and runs it there.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    clone = Path(__file__).resolve().parent.parent
    sys.argv[1:1] = ["server", "--workspace", str(clone)]  # one that is given after it wins
    # The launcher is the same for both sides; it needs nothing but Python itself.
    runpy.run_path(str(clone / "src" / "lanfit" / "launch.py"), run_name="__main__")
