"""Run the command `lanfit` from a clone: with this Python if it has lanfit, else with the clone's `.venv`.

Started by server/__main__.py and client/__main__.py. Needs only the standard library, and works with old versions of
Python so that it can report missing packages.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
ENVIRONMENT = CLONE / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main() -> None:
    """Run `lanfit` with the arguments of this process."""
    if importlib.util.find_spec("lanfit") is not None:
        from lanfit.cli import main as lanfit

        lanfit(prog_name="lanfit")
    elif ENVIRONMENT.exists() and Path(sys.prefix).resolve() != ENVIRONMENT.parents[1].resolve():
        arguments = [str(ENVIRONMENT), "-P", "-m", "lanfit.cli", *sys.argv[1:]]
        if os.name == "nt":  # there an exec would return the terminal while the program still runs
            sys.exit(subprocess.call(arguments))
        os.execv(arguments[0], arguments)
    else:
        if os.name == "nt":
            extra = "server" if sys.argv[1:2] == ["server"] else "tensorflow"
            command = rf"py -m venv .venv && .venv\Scripts\python -m pip install -e .[{extra}]"
        else:
            command = "make setup"
        print(f"This Python has no lanfit, and {CLONE} has no .venv. Make one there with:", file=sys.stderr)
        print(f"\n    {command}\n", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # later ones belong to the program
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
