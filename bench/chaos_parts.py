"""What bench/chaos.py breaks: programs to kill and pause, links to cut. And what the files of a run say."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from lanfit.core.durable import unseal
from lanfit.wire.arrays import block_size
from lanfit_client.store.outbox import Entry
from lanfit_server.store.ledger import Ledger

#: In the environment of everything that is started: what is left behind is found by it.
MARK = "LANFIT_CHAOS"


class Program:
    """One `lanfit` program, which can be started again and again. What it says is appended to a file."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.txt"
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: object, **variables: str) -> None:
        folder = self._folder / self.name
        with self.log.open("ab") as log, (self._folder / f"{self.name}.json").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lanfit.cli", *map(str, arguments)],
                cwd=folder,
                env={**self._environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def children(self) -> list[psutil.Process]:
        """Its trainer, or its model process."""
        if not self.alive or self._process is None:
            return []
        try:
            return list(psutil.Process(self._process.pid).children())
        except psutil.Error:
            return []

    def kill(self) -> None:
        """kill -9. Its children have to notice by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and its children: SIGSTOP is a lid that closes, SIGCONT one that opens."""
        if self._process is not None and self.alive:
            for process in (psutil.Process(self._process.pid), *self.children()):
                try:
                    process.send_signal(number)
                except psutil.Error:
                    continue

    def end(self) -> None:
        """Ctrl-C, and kill -9 if that is not enough."""
        if self._process is None or not self.alive:
            return
        self.send(signal.SIGCONT)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


def left_behind(mark: str, seconds: float) -> list[psutil.Process]:
    """Our processes that have not ended within so many seconds."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return list(psutil.wait_procs(found, timeout=seconds)[1])


class Wire:
    """A cable to a port of this machine: it can be cut, or pass nothing on for a while."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))
        finally:
            self._writers -= both

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        """End all connections; what was on its way is gone."""
        self._loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in list(self._writers)])

    def hold(self) -> None:
        """Pass nothing on from now on; no end of the link sees a reason."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def let_go(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.set)

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Course:
    """What a run's events.jsonl says, line by line as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.holders: dict[str, str] = {}
        """The task that a client was given and has not handed back."""
        self.returned: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.leased_again: set[str] = set()
        """Tasks that were leased although their result had been there."""
        self.lines = 0

    def read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):  # it is being written, or was torn by a kill
                    break
                self._read += len(line)
                self.lines += 1
                try:
                    self._note(json.loads(line))
                except ValueError:
                    continue

    def _note(self, event: dict[str, Any]) -> None:
        client, task = event.get("client", ""), event.get("task", "")
        match event["event"]:
            case "leased":
                self.holders[client] = task
                if task in self.returned:
                    self.leased_again.add(task)
            case "returned":
                self.returned[task] += 1
                self.holders = {name: held for name, held in self.holders.items() if held != task}
            case "failed" | "died":
                self.failures[task] += 1
                self.holders.pop(client, None)
            case "joined" | "left" | "lost":
                self.holders.pop(client, None)


class ClientLog:
    """What a client has handed back, by what it says from now on."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._from = log.stat().st_size if log.exists() else 0

    def handed_back(self, run: str) -> set[str]:
        """The tasks of this run."""
        with self._log.open("rb") as file:
            file.seek(self._from)
            lines = file.read().decode(errors="replace").splitlines()
        taken, found = dict[str, str](), set()
        for line in lines:
            # A client that missed the end of an earlier run may still have been at the task of the same name.
            if task := re.match(r"Task (\S+) of run (\S+):", line):
                taken[task[1]] = task[2]
            elif (task := re.match(r"Trained (\S+);", line)) and taken.get(task[1]) == run:
                found.add(task[1])
        return found


def in_outbox(state: Path) -> set[str]:
    """The tasks whose results wait on a client."""
    found = set()
    for path in state.glob("*/outbox/*.result"):
        try:
            found.add(msgspec.msgpack.decode(unseal(path.read_bytes()), type=Entry).result.task)
        except (FileNotFoundError, ValueError):  # acknowledged just now
            continue
    return found


def on_disk(run: Path, scratch: Path, *, blocks: bool) -> set[str]:
    """The tasks whose results are in the ledger of a run without a server; with `blocks`, whose bytes are whole, too.

    The bytes of a round that is over are in its weights, and are removed.

    A copy of the ledger is read: opening it changes it.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for path in run.glob(f"{Ledger.FILE}*"):
        shutil.copyfile(path, scratch / path.name)
    ledger = Ledger(scratch)
    try:
        results, rounds = ledger.results(), ledger.rounds()
    finally:
        ledger.close()
    if not blocks:
        return {each.task for each in results}
    found = {client.task for each in rounds if each.stored for client in each.clients}
    for each in results:
        block, path = each.result.block, run / "results" / f"{each.task}.block"
        if path.exists() and hashlib.sha256(path.read_bytes()[: block_size(block.arrays)]).hexdigest() == block.id:
            found.add(each.task)
    return found


def models_in(folder: Path) -> dict[str, str]:
    """A hash of all arrays of each model file."""
    found = {}
    for path in sorted(folder.glob("*.*")):
        if path.suffix == ".h5":
            found[path.name] = _arrays_hash(path.read_bytes())
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                config = json.dumps(json.loads(archive.read("config.json")), sort_keys=True)
                found[path.name] = _arrays_hash(archive.read("model.weights.h5")) + config
    return found


def _arrays_hash(content: bytes) -> str:
    import h5py

    digest = hashlib.sha256()

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            array = np.asarray(item[()])
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(add)
    return digest.hexdigest()


class Later:
    """What is to be done at a time to come."""

    def __init__(self) -> None:
        self._due: list[tuple[float, Callable[[], None]]] = []

    def add(self, when: float, action: Callable[[], None]) -> None:
        self._due.append((when, action))

    def do(self, now: float) -> None:
        """Do what is due, in order."""
        due = sorted((each for each in self._due if each[0] <= now), key=lambda each: each[0])
        self._due = [each for each in self._due if each[0] > now]
        for _, action in due:
            action()


def last_lines(paths: Sequence[Path], count: int) -> str:
    """The end of each of these files."""
    shown = []
    for path in paths:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:] if path.exists() else []
        shown.append("\n".join([f"--- {path}", *lines]))
    return "\n".join(shown)
