"""Who takes part in a run whose model needs custom objects: those who have the files; others are told what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from memory_links import memory_links

from lanfit.core.workspace import Workspace
from lanfit.errors import InputError
from lanfit.net.link import Link
from lanfit.settings.job import make_job, to_toml
from lanfit.wire.messages import Allow, CustomFile, Join, NeedsCustom, RunEnded, Status, Welcome
from lanfit_server.clusters.events import ClientJoined, ClientLeft, Event
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.models.custom_files import files_of, stored_names
from lanfit_server.store.result_store import ResultStore

OURS = CustomFile("my_layers.py", "a" * 64)
OTHER = CustomFile("my_layers.py", "b" * 64)


class Scenario:
    """A cluster, and clients whose lines the test speaks."""

    def __init__(self, folder: Path) -> None:
        self.cluster = LanCluster(ResultStore(Workspace(folder), bytes(16)))
        self.output: list[str] = []
        self.cluster.log = self.output.append
        self._serving: list[asyncio.Task[None]] = []

    async def join(self, name: str, *custom: CustomFile) -> Link:
        client, server = memory_links()
        serving = self.cluster._serve(server, name.encode().ljust(16, b"0"), "127.0.0.1")
        self._serving.append(asyncio.create_task(serving))
        await client.send(Join(name, "0", "tensorflow", "cpu", 1, 0, custom))
        assert isinstance(await client.receive(), Welcome)
        assert isinstance(await client.receive(), Status)
        return client

    def events(self) -> list[Event]:
        found = []
        while not self.cluster.events.empty():
            found.append(self.cluster.events.get_nowait())
        return found

    async def close(self, *links: Link) -> None:
        for link in links:
            await link.close("gone")
        await asyncio.gather(*self._serving)


def run_script(folder: Path, act: Callable[[Scenario], Awaitable[None]]) -> None:
    async def go() -> None:
        async with asyncio.timeout(60):
            await act(Scenario(folder))

    asyncio.run(go())


def test_only_clients_with_the_same_file_take_part_and_both_sides_are_notified(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        await scenario.cluster.require([OURS], ["Patches"])
        with_it = await scenario.join("has", OURS)
        without = await scenario.join("has-none")
        with_another = await scenario.join("has-another", OTHER)

        reported = NeedsCustom((OURS,), ("Patches",))
        assert [await without.receive(), await with_another.receive()] == [reported, reported]
        assert scenario.cluster.roster.connected == ["has"]
        assert scenario.events() == [ClientJoined("has")]
        first, second = scenario.output[:2]
        assert first == (
            "has-none gets no task: it does not allow my_layers.py (SHA-256 aaaaaaaaaaaa): copy the file to it, and "
            "start it with --custom-objects my_layers.py."
        )
        described = (
            "has-another gets no task: its my_layers.py (SHA-256 bbbbbbbbbbbb) is not this server's (SHA-256 aaaaaa"
        )
        assert described in second
        await scenario.close(with_it, without, with_another)
        assert [(type(event), event.client) for event in scenario.events()] == [(ClientLeft, "has")]

    run_script(tmp_path, act)


def test_a_client_that_can_not_take_part_is_reported_when_the_run_is_over(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        await scenario.cluster.require([OURS], [])
        with_it, without = await scenario.join("has", OURS), await scenario.join("has-none")
        assert isinstance(await without.receive(), NeedsCustom)

        await scenario.cluster.end_run({"has": RunEnded("run-1", "done", "it is over")})

        assert await with_it.receive() == RunEnded("run-1", "done", "it is over")
        reported = await without.receive()
        assert isinstance(reported, RunEnded)
        assert "did not take part" in reported.text
        await scenario.close(with_it, without)

    run_script(tmp_path, act)


def test_who_joined_before_the_job_was_known_is_looked_at_when_it_is(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        link = await scenario.join("early")
        assert scenario.events() == [ClientJoined("early")]

        await scenario.cluster.require([OURS], [])
        assert isinstance(await link.receive(), NeedsCustom)
        assert scenario.cluster.roster.connected == []

        await scenario.cluster.require([], [])  # the next run needs no file
        assert scenario.cluster.roster.connected == ["early"]
        await scenario.close(link)

    run_script(tmp_path, act)


def test_a_client_that_allows_the_file_while_it_is_here_takes_part_from_then_on(tmp_path: Path) -> None:
    async def act(scenario: Scenario) -> None:
        await scenario.cluster.require([OURS], [])
        link = await scenario.join("late")
        assert isinstance(await link.receive(), NeedsCustom)
        assert scenario.events() == []

        await link.send(Allow((OURS,)))
        while not scenario.cluster.roster.connected:
            await asyncio.sleep(0)

        assert scenario.events() == [ClientJoined("late")]
        await scenario.close(link)

    run_script(tmp_path, act)


def test_a_job_keeps_where_its_files_are_and_what_was_in_them(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "my_layers.py"
    file.write_text("x = 1\n")
    job = make_job({"custom_objects": stored_names(files_of(("my_layers.py",), workspace), workspace)})

    assert "model/my_layers.py#sha256=" in to_toml(job)
    assert [found.path for found in files_of(job.custom_objects, workspace)] == [str(file)]
    file.write_text("x = 2\n")
    with pytest.raises(InputError) as error:
        files_of(job.custom_objects, workspace)
    assert error.value.code == "custom.changed"
