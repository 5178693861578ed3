"""What does the live page cost a run, and does it stay as small as it is?

    python bench/dashboard.py [--pairs 5] [--rounds 20] [--width 400] [--reader stream|browser|none]
    python bench/dashboard.py --crowd 50 [--minutes 10] [--reader stream|browser] [--without]

Without --crowd: federated runs on two local clients, without a page and with one that is open, in turns. Told are the
median round of each, and the processors that the server process itself takes after the first rounds, as a share of a
core; the difference is what the page costs it. A reader reads the event stream as a page does. With --reader browser it
is Chromium, which takes processor time of its own on this machine, as it would not on that of a class.

With --crowd: a simulation of so many clients with its page open for so long; memory of the server process and, with a
browser, the heap of the page, every tenth of the time. A run keeps the facts of every round for its summary: what the
page adds is the difference to a simulation --without it, at the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from federated_parts import command, describe, free_port, mlp, workspace

WARM_UP = 3
LINK = re.compile(rb"Live page: (http://\S+)")
ROUND = re.compile(rb"Round (\d+)/")
#: Rounds of a simulation that is ended by time: more than it can do.
ENDLESS = 100_000


# --- a server -----------------------------------------------------------------------------------------------------


class Running:
    """A process of lanfit, the link of its page, and what it takes."""

    def __init__(self, words: list[str], folder: Path) -> None:
        environment = {**os.environ, "LANFIT_PASSPHRASE": "only on this machine"}
        self._out = (folder / "out").open("w+b")
        self.process = subprocess.Popen(
            words, env=environment, stdout=self._out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=folder
        )
        self._output = b""
        self.rounds = 0
        """The last round that was done."""
        self.warm: tuple[float, float] | None = None
        """When the first rounds were done, and what the process had taken by then."""
        self._has_link = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._output = (self._output + line)[-8000:]
            if LINK.search(line):
                self._has_link.set()
            if found := ROUND.match(line):
                self.rounds = int(found[1])
                if self.rounds == WARM_UP:
                    self.warm = (time.monotonic(), self.cpu_seconds())
        self._has_link.set()

    @property
    def link(self) -> str:
        self._has_link.wait()
        found = LINK.search(self._output)
        if found is None:
            sys.exit(f"there is no page: {self._output.decode(errors='replace')[-2000:]}")
        return found[1].decode()

    def cpu_seconds(self) -> float:
        """Of the process itself, without its children."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def summary(self) -> dict[str, Any]:
        self.process.wait()
        self._reading.join()
        self._out.seek(0)
        try:
            found: dict[str, Any] = json.loads(self._out.read())
        except ValueError:
            found = {}
        if found.get("status") != "done":
            sys.exit(f"a run did not end well: {self._output.decode(errors='replace')[-2000:]}")
        return found


# --- readers ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stream(link: str) -> Iterator[Callable[[], str]]:
    """Read the event stream in a thread, as a page does; yield what tells of it."""
    where, read = urlsplit(link), [0]
    first = http.client.HTTPConnection(where.netloc)
    first.request("GET", f"{where.path}?{where.query}")
    cookie = (first.getresponse().getheader("Set-Cookie") or "").partition(";")[0]
    first.close()
    connection = http.client.HTTPConnection(where.netloc)
    connection.request("GET", "/api/events?since=-1", headers={"Cookie": cookie})
    answer = connection.getresponse()

    def follow() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while line := answer.readline():
                read[0] += len(line)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield lambda: f"{read[0] / 1e6:.1f} MB of events"
    with contextlib.suppress(OSError):
        connection.sock.shutdown(socket.SHUT_RDWR)
    thread.join()
    connection.close()


@contextlib.contextmanager
def chromium(link: str) -> Iterator[Callable[[], str]]:
    """Open the page; yield what tells the size of its heap."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = os.environ.get("LANFIT_CHROMIUM") or shutil.which("chromium")
        flags = ["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(link)
        page.evaluate("location.hash = '#/curves'")

        def reported() -> str:
            page.evaluate("gc()")
            return f"heap of the page {page.evaluate('performance.memory.usedJSHeapSize') / 1e6:.1f} MB"

        yield reported
        browser.close()


@contextlib.contextmanager
def nobody(link: str) -> Iterator[Callable[[], str]]:
    yield lambda: "nobody looks"


READERS = {"stream": stream, "browser": chromium, "none": nobody}


# --- the cost -----------------------------------------------------------------------------------------------------


def measure(place: Path, arguments: argparse.Namespace, *, with_page: bool) -> tuple[float, float]:
    """Return the median round in seconds, and the server's own processor time as a share of a core."""
    job = {"host": "127.0.0.1", "port": free_port(), "local": 2, "clients": 2, "threads": 1, "normalizer": "none"}
    job |= {"rounds": arguments.rounds + WARM_UP, "epochs": 1, "batch_size": 32}
    page = ["--dashboard-port", "0"] if with_page else ["--no-dashboard"]
    running = Running([*command("server", place, **job), "--yes", *page], place)
    last = 0.0, 0.0
    reader = READERS[arguments.reader] if with_page else nobody
    with reader(running.link if with_page else ""):
        while running.process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                last = time.monotonic(), running.cpu_seconds()
            time.sleep(0.1)
    rounds = running.summary()["rounds"][WARM_UP:]
    if running.warm is None or last[0] <= running.warm[0]:
        sys.exit("the run was over too soon: give it more --rounds")
    share = (last[1] - running.warm[1]) / (last[0] - running.warm[0])
    return median(each["seconds"] for each in rounds), share


def cost(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        x, y = random.random((4000, 784), np.float32), np.resize(np.arange(10), 4000)
        place = workspace(Path(folder), mlp(0.01, (arguments.width,) * 2), x, y)
        ratios, shares = [], []
        for number in range(arguments.pairs):
            order = (False, True) if number % 2 else (True, False)
            found = {with_page: measure(place, arguments, with_page=with_page) for with_page in order}
            ratios.append(found[True][0] / found[False][0])
            shares.append(found[True][1] - found[False][1])
            without, with_it = (
                f"{1000 * found[page][0]:.0f} ms, server {100 * found[page][1]:.1f} % of a core"
                for page in (False, True)
            )
            print(f"pair {number + 1}: without the page a round takes {without}; with it {with_it}", flush=True)
    print(f"rounds with the page ({arguments.reader}): {median(ratios):.3f} times those without, median of the pairs")
    print(f"the page costs the server process {100 * median(shares):.1f} % of a core, median of the pairs")


# --- a crowd ------------------------------------------------------------------------------------------------------


def many_clients(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        rows = 40 * arguments.many_clients
        place = workspace(
            Path(folder), mlp(0.01, (32,)), random.random((rows, 784), np.float32), np.resize(np.arange(10), rows)
        )
        job = {
            "clients": arguments.many_clients,
            "rounds": ENDLESS,
            "epochs": 2,
            "batch_size": 16,
            "normalizer": "none",
        }
        page = [] if arguments.without else ["--dashboard", "--dashboard-port", "0"]
        running = Running([*command("simulate", place, **job), *page], place)
        reader = nobody if arguments.without else READERS[arguments.reader]
        with reader("" if arguments.without else running.link) as reported:
            began, cpu = time.monotonic(), running.cpu_seconds()
            for number in range(11):
                wait = began + number * 6 * arguments.minutes - time.monotonic()
                time.sleep(max(0.0, wait))
                seconds = time.monotonic() - began
                share = 100 * (running.cpu_seconds() - cpu) / max(seconds, 1e-9) if number else 0.0
                print(
                    f"{seconds:6.0f} s, round {running.rounds}: server process {running.megabytes():.0f} MB, "
                    f"{share:.0f} % of a core; {reported()}",
                    flush=True,
                )
        running.process.terminate()
        running.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="of runs without and with the page (default 5)")
    parser.add_argument("--rounds", type=int, default=20, help="timed, of each run (default 20)")
    parser.add_argument("--width", type=int, default=400, help="of the two hidden layers (default 400)")
    parser.add_argument("--reader", choices=READERS, default="stream", help="who looks at the page (default stream)")
    parser.add_argument("--crowd", type=int, default=0, metavar="CLIENTS", help="watch a simulation of so many")
    parser.add_argument("--without", action="store_true", help="with --crowd: without a page, to compare with")
    parser.add_argument("--minutes", type=float, default=10, help="for so long (default 10)")
    arguments = describe(parser)
    if arguments.many_clients:
        many_clients(arguments)
    else:
        cost(arguments)


if __name__ == "__main__":
    main()
