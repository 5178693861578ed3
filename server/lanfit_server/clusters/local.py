"""Clients on this machine: the same client program in child processes, with the same login as all others."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from lanfit.core.child import ALLOW, CANT_JOIN, KEPT_LINES, own_group
from lanfit.core.passphrase import environment_of_children
from lanfit.core.workspace import Workspace
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.net.addresses import is_loopback


class LocalClients:
    """Starts clients on this machine and ends them; a client that dies is started again a few times.

    One that ends because of wrong input is not: it would end in the same way.

    Args:
        address: where they join.
        stretched: the passphrase in the form in which an unfinished run keeps it.
        threads: of each one's trainer.
        once: they end with the run; otherwise they stay for the next one.
        on_trouble: called with the name of one that can't join, and why.
        on_death: called with the name of one that has died, and how.
        on_giving_up: called with the name of one that is not started again, and the error.
    """

    MOST_RESTARTS = 2

    def __init__(
        self,
        workspace: Workspace,
        address: str,
        stretched: bytes,
        fingerprint: str,
        threads: int,
        *,
        once: bool,
        on_trouble: Callable[[str, str], None] = lambda name, what: None,
        on_death: Callable[[str, str], None] = lambda name, why: None,
        on_giving_up: Callable[[str, LanfitError], None] = lambda name, wrong: None,
    ) -> None:
        self._workspace = workspace
        self._address = address
        self._secrets = f"{stretched.hex()}\n".encode()
        self._fingerprint = fingerprint
        self._threads = threads
        self._once = once
        self._tasks: list[asyncio.Task[None]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._allowed: list[Path] = []
        self._on_trouble = on_trouble
        self._on_death = on_death
        self._on_giving_up = on_giving_up

    async def start(self, count: int) -> None:
        """Start clients `local-1` … `local-<count>`."""
        self._tasks = [asyncio.create_task(self._keep_alive(f"local-{number + 1}")) for number in range(count)]

    async def _keep_alive(self, name: str) -> None:
        for _ in range(self.MOST_RESTARTS + 1):
            process = await self._start_one(name)
            last: deque[str] = deque(maxlen=KEPT_LINES)
            assert process.stderr is not None
            while read := await process.stderr.readline():
                line = read.decode(errors="replace").rstrip()
                last.append(line.removeprefix(CANT_JOIN))
                if line.startswith(CANT_JOIN):
                    self._on_trouble(name, last[-1])
            code = await process.wait()
            if code == 0:
                return
            self._on_death(name, f"it ended with exit code {code}: " + " / ".join(list(last)[-3:]))
            if code == InputError.exit_code:  # another one would fail for the same reason
                self._on_giving_up(name, lanfit_error("client.local-unusable", client=name))
                return
        self._on_giving_up(name, lanfit_error("client.local-gave-up", client=name))

    async def _start_one(self, name: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "lanfit_client",
            self._address,
            *(["--once"] if self._once else []),
            "--child",
            "--name",
            name,
            "--workspace",
            str(self._workspace.root),
            "--threads",
            str(self._threads),
            "--fingerprint",
            self._fingerprint,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment_of_children({"PYTHONUNBUFFERED": "1"}),
            **own_group(),
        )
        # The passphrase goes through the pipe, which stays open: the client exits when it closes.
        self._processes[name] = process
        assert process.stdin is not None
        process.stdin.write(self._secrets)
        for path in self._allowed:
            process.stdin.write(_line(path))
        return process

    def allow(self, path: Path) -> None:
        """Allow these clients to execute a custom objects file."""
        if path not in self._allowed:
            self._allowed.append(path)
        for process in self._processes.values():
            if process.returncode is None and process.stdin is not None:
                process.stdin.write(_line(path))

    async def stop(self) -> None:
        """End all of them, and wait for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(_end(process) for process in self._processes.values()))


def own_address(addresses: Sequence[str]) -> str:
    """Return the address at which a client on this machine joins: loopback if the server listens on it."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    found = [everywhere.get(address, address) for address in addresses]
    return next(filter(is_loopback, found), found[0])


def _line(path: Path) -> bytes:
    return f"{ALLOW}{path}\n".encode()


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
