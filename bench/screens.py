"""Screens of server and client, as people see them: taken with tmux, at 80×24 and 120×40, for somebody to look at.

With 2 clients a real run: a server and its clients in processes of their own, on the digits. With 8 and 25 clients the
server's own display and its live table, with made-up members (`members` below says which), since so many trainers would
need a room of machines. Every screen is a text file in the folder; nothing is judged here.

    python bench/screens.py FOLDER [--only members|run]
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from lanfit.core.gauge import Transfer
from lanfit_server.clusters.roster import Member
from lanfit_server.report.text import lines
from lanfit_server.store.summary import Bytes, ClientFacts, DataFacts, FinalFacts, ModelFacts, Summary, all_seconds
from lanfit_server.ui.display import Display
from lanfit_server.ui.live_table import Facts, Held

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((80, 24), (120, 40))
#: A program that says nothing new for so long, in seconds, is not waited for any longer.
PATIENCE = 300.0
METRICS = {"loss": 0.1709, "accuracy": 0.9389, "precision": 0.9438, "recall": 0.9392, "f1": 0.9386}


class Window:
    """A terminal of tmux with a program in it; on a socket of its own, so that nobody else's tmux is touched."""

    def __init__(self, command: list[str], width: int, height: int, folder: Path) -> None:
        self._socket = f"lanfit-screens-{uuid.uuid4().hex[:8]}"
        # The shell stays when the program has ended, so that its last screen can be taken.
        shell = f"{shlex.join(command)}; printf ENDED; sleep 100000"
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(folder), "sh", "-c", shell)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p").rstrip("\n")

    def type(self, text: str) -> None:
        self._tmux("send-keys", text, "Enter")

    def wait_for(self, *texts: str) -> str:
        """The first screen that has one of these texts, or the last one when none came."""
        ends = time.monotonic() + PATIENCE
        while not any(text in (shown := self.screen()) for text in texts) and time.monotonic() < ends:
            time.sleep(0.2)
        return shown

    def close(self) -> None:
        self._tmux("kill-server")


def keep(folder: Path, name: str, shown: str) -> None:
    (folder / f"{name}.txt").write_text(shown + "\n", encoding="utf-8")
    print(f"\n=== {name}\n{shown}", flush=True)


# --- a real run -------------------------------------------------------------------------------------------------


def take_run(folder: Path, width: int, height: int) -> None:
    """A server at a terminal, with its questions answered by Enter, and two clients, one of them at a terminal."""
    size = f"{width}x{height}"
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for name in ("model/digits.h5", "dataset/X/digits.csv", "dataset/Y/digits.csv"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
        (place / "passphrase").write_text("velvet otter rinse cargo\n")
        lanfit = [sys.executable, "-P", "-m", "lanfit.cli"]
        key = ["--passphrase-file", str(place / "passphrase")]
        port = 20_000 + os.getpid() % 10_000 + width
        reported = ["--host", "127.0.0.1", "--port", str(port), "--clients", "2", "--epochs", "300", "--method", "fit"]
        windows = [Window([*lanfit, "server", *reported, "--yes", *key], width, height, place)]
        try:
            server = windows[0]
            server.wait_for("On each client run")
            for name in ("pc-1", "pc-2"):
                (place / name).mkdir()
                command = [*lanfit, "client", f"127.0.0.1:{port}", "--name", name, "--threads", "1", "--once"]
                # The first one is asked for the passphrase: what comes meanwhile waits for the answer.
                windows.append(Window([*command, *(key if name == "pc-2" else [])], width, height, place / name))
                if name == "pc-1":
                    windows[1].wait_for("Passphrase")
            keep(folder, f"server-2-waiting-{size}", server.wait_for("Waiting for 1 more"))
            keep(folder, f"client-passphrase-{size}", windows[1].screen())
            windows[1].type("velvet otter rinse cargo")
            server.wait_for("samples/s")
            keep(folder, f"client-training-{size}", windows[1].wait_for("epoch 3", "ENDED"))
            keep(folder, f"server-2-training-{size}", server.screen())
            keep(folder, f"server-2-end-{size}", server.wait_for("Logs:", "ENDED"))
            keep(folder, f"client-end-{size}", windows[1].wait_for("ENDED"))
        finally:
            for window in windows:
                window.close()


# --- made-up members --------------------------------------------------------------------------------------------


def members(count: int) -> list[Member]:
    """A room in the middle of a run: most train, one receives, one hands back, one is lost, one silent, one waits."""
    made = []
    for number in range(count):
        name = f"DESKTOP-7F3K{number * 37 % 997:03d}A" if count > 10 else f"pc-{number + 1:02d}"
        member = Member(name, bytes([number]), f"10.0.0.{number}", "tensorflow", "cpu", 4, 0)
        now = time.monotonic()
        member.state, member.epoch, member.last_seen = "training", f"{number % 5 + 1}/5", now
        member.progress, member.loss = (number % 5) / 5 + 0.1, 1.9 / (1 + number) ** 2
        member.samples_per_second = 900.0 + 31 * number
        if number == count - 1:
            member.state, member.transfer = "receiving", Transfer(33_000_000, 12_100_000, now - 20, first=0)
        elif number == count - 2:
            member.state, member.transfer = "sending", Transfer(3_400_000, 3_100_000, now - 4, first=0)
        elif number == count - 3:
            member.connected, member.last_seen = False, now - 75
            member.state = "lost"
        elif number == count - 4:
            member.silent, member.last_seen = True, now - 21
        elif number == count - 5:
            member.state = "waiting"
        made.append(member)
    return made


def act(count: int) -> None:
    """Inside a window: the display with made-up members, then the end of their run."""
    there, display = members(count), Display()
    names = [member.name for member in there]
    notes = ["refused after wrong passphrases: 10.0.0.99 for 25 s (in server/state/gate.json; delete it to let them "
             "try again)"]  # fmt: skip
    with display.table(lambda: there, lambda: notes):
        held = {names[0]: Held(names[-3])}
        at_work = frozenset(member.name for member in there if member.state != "waiting")
        display.facts(Facts("20261129-101500", 1, count, held=held, at_work=at_work))
        for name in names:
            display.log(f"{name} joined from 10.0.0.1 (tensorflow, 4 threads).")
        display.waiting(
            f"Waiting for {names[-3]}: no other client has its rows; waiting 525 s more for it (--deadline)."
        )
        input()
    seconds = all_seconds({"train": 12.5})
    facts = [
        ClientFacts(
            name, "tensorflow", "cpu", 4, 719, 1, "done", "m", {}, 4, METRICS, seconds, Bytes(1, 1),
            taken_over={names[0]: 1} if name == names[-3] else {},
        )
        for name in names
    ]  # fmt: skip
    run = "20261129-101500"
    summary = Summary(
        run=run, status="done", method="fit", seed=0, metrics_from="server",
        model=ModelFacts("model/digits.h5", 23_946),
        data=DataFacts("files", 1797, 1293, 144, 360, "minmax", None), clients=tuple(facts),
        final=FinalFacts(f"model/collected/{run}/final.keras", names[1], METRICS), seconds={"total": 61.0},
    )  # fmt: skip
    size = os.get_terminal_size()
    print("\n".join(lines(summary, f"logs/{run}", f"model/collected/{run}", "", size.columns, size.lines)))


def take_members(folder: Path, count: int, width: int, height: int) -> None:
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), "--act", str(count)]
    window = Window(command, width, height, ROOT)
    try:
        window.wait_for("Waiting for")
        time.sleep(0.5)  # the next drawing, with everything that was said
        keep(folder, f"server-{count}-training-{width}x{height}", window.screen())
        window.type("")
        keep(folder, f"server-{count}-end-{width}x{height}", window.wait_for("ENDED"))
    finally:
        window.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("members", "run"))
    parser.add_argument("--act", type=int, help=argparse.SUPPRESS)
    reported = parser.parse_args()
    if reported.act:
        act(reported.act)
        return
    if shutil.which("tmux") is None:
        sys.exit("tmux is not installed: it is the terminal that the screens are taken of.")
    reported.folder.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        if reported.only != "run":
            for count in (8, 25):
                take_members(reported.folder, count, width, height)
        if reported.only != "members":
            take_run(reported.folder, width, height)


if __name__ == "__main__":
    main()
