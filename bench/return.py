"""How soon a building full of clients is back when its server was killed and is started again.

    python bench/return.py [--clients 100]

Prints the seconds from when the server listens again until every client has joined again; the limit is 35 s. Clients
are real agents in one process; the server is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
LIMIT = 35.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=100)
    count = parser.parse_args().clients

    from many_agents import come_back
    from running import Place

    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = asyncio.run(come_back(Place(Path(folder) / "server"), Path(folder), count))
    print(f"{count} clients were back after {seconds:.1f} s: {seconds / LIMIT:.2f} of the limit of {LIMIT:.0f} s")
    sys.exit(seconds > LIMIT)


if __name__ == "__main__":
    main()
