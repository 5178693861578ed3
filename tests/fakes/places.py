"""A workspace with a model and rows, and sessions on it: clients are simulated with the fake backend, or the test plays
them; there is no model process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.backend import NAME, registered
from fakes.fake_cluster import FakeCluster, RecordingDisplay
from fakes.models import FakeModels
from lanfit.core.lock import scratch_folder
from lanfit.core.workspace import Workspace
from lanfit.data.shard import Samples
from lanfit.models.custom_files import AllowedFile
from lanfit.settings.job import make_job
from lanfit.settings.timeouts import Timeouts
from lanfit.wire.messages import Message
from lanfit_server.data.model_source import ModelFile
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.models.handle import Compile
from lanfit_server.requests import RunRequest
from lanfit_server.session import Session
from lanfit_server.start.simulation import Simulation
from lanfit_server.start.watchers import watchers_of_runs
from lanfit_server.store.array_source import ArraySource
from lanfit_server.store.result_store import ResultStore
from lanfit_server.watchers import Watcher


class Gone(FakeCluster):
    """A played cluster that notes what clients are told at the end of a run."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.waiting_for = ""
        self.ended: list[dict[str, Message]] = []

    def forget_blocks(self) -> None:
        pass

    async def require(self, custom: Sequence[Any], objects: Sequence[str]) -> None:
        pass

    async def end_run(self, ended: Any) -> None:
        self.ended.append(dict(ended))


class Host:
    """A `RunHost` whose clients the test plays."""

    server_id = b"s" * 16

    def __init__(self, workspace: Workspace, *names: str) -> None:
        self.store = ResultStore(workspace, self.server_id)
        self.cluster: Any = Gone(*names)
        self.is_closed = False

    async def allow(self, files: Sequence[AllowedFile]) -> None:
        pass

    def keep_passphrase(self, run: str) -> None:
        pass

    def forget_passphrase(self, run: str) -> None:
        pass

    def notes(self) -> list[str]:
        return []

    async def close(self) -> None:
        self.is_closed = True


class Place:
    """A workspace, and the requests of its tests."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder)
        self.models = FakeModels()
        self.output = RecordingDisplay()
        self.watchers: list[Watcher] = []
        self.host: Any = None
        (folder / "model").mkdir()
        (folder / "model" / "net.keras").write_text("2.5")
        rows = Samples.of(np.linspace(0, 1, 120, dtype=np.float32).reshape(40, 3), np.zeros((40, 3), np.float32))
        self.rows = ArraySource.write(folder / "rows.block", rows)

    def request(self, model: str = "net.keras", channel: RoundChannel | None = None, **values: Any) -> RunRequest:
        given = {
            "clients": 2,
            "epochs": 1,
            "batch_size": 4,
            "data": "arrays",
            "model": model,
            "backend": NAME,
            **values,
        }
        path = self.workspace.models / model
        return RunRequest(make_job(given), ModelFile(str(path), Compile()), arrays=self.rows, rounds=channel)

    @asynccontextmanager
    async def simulation(self) -> AsyncIterator[Session]:
        self.host = Simulation(self.workspace, clients=2, pool=1, threads=1, backend=NAME, log=self.output.log)
        async with self._session() as session:
            await self.host.open()
            yield session

    @asynccontextmanager
    async def with_clients(self, *names: str) -> AsyncIterator[Session]:
        self.host = Host(self.workspace, *names)
        async with self._session() as session:
            yield session

    def _session(self) -> Session:
        scratch = scratch_folder(self.workspace.server_state / "scratch")
        self.watching = watchers_of_runs(*self.watchers)
        self.output.watchers = self.watching
        return Session(
            self.workspace,
            self.host,
            self.models,  # type: ignore[arg-type]
            self.output,
            Timeouts(),
            scratch,
            self.watching,
        )

    async def waits_for_clients(self) -> None:
        while not self.host.cluster.waiting_for.startswith("training starts when"):
            await asyncio.sleep(0.001)

    async def logged(self, part: str) -> None:
        while not any(part in line for line in self.output.lines):
            await asyncio.sleep(0.001)


@pytest.fixture(name="place")
def place_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """No charts and an empty report: what draws and writes them takes seconds to import."""

    async def draw(*what: object) -> None:
        pass

    monkeypatch.setattr("lanfit_server.methods.independent_workshop.draw_chart", draw)
    monkeypatch.setattr("lanfit_server.run.finish.write_reports", lambda *what: [])
    with registered():
        yield Place(tmp_path)
