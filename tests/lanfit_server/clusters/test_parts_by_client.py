"""Who takes which parts: clients are asked, renamed, believed only as far as there are such parts, and put in order."""

from __future__ import annotations

import asyncio

import pytest
from fakes.fake_cluster import FakeCluster, RecordingDisplay, run_script
from test_deliveries import Scenario

from lanfit.errors import ConnectionFailed
from lanfit.settings.job import make_job
from lanfit.settings.parts import PartRange
from lanfit.wire.messages import AskParts, Join, Message, PartsTaken, TakeParts
from lanfit_server.clusters.events import ClientJoined, PartsChosen
from lanfit_server.clusters.roster import Roster
from lanfit_server.run.parts import PartsByClient, replace_parts
from lanfit_server.run.wait_for_clients import ClientWait


def join(roster: Roster, client: bytes, name: str) -> str:
    return roster.join(client, "here", Join(name, "0", "tensorflow", "cpu", 1, 0), 0.0).name


# --- names ------------------------------------------------------------------------------------------------------


def test_a_client_can_be_called_otherwise_and_is_still_found_under_its_old_name() -> None:
    roster = Roster()
    join(roster, b"a", "pc-17")
    assert roster.rename("pc-17", "lab-1") == "lab-1"
    assert roster.connected == ["lab-1"]
    assert roster["pc-17"] is roster["lab-1"]
    assert join(roster, b"a", "pc-17") == "lab-1"
    assert join(roster, b"b", "pc-17") == "pc-17-2", "what is on its way for pc-17 is not for another"


def test_new_names_are_labels_and_unique() -> None:
    roster = Roster()
    for client in (b"a", b"b", b"c"):
        join(roster, client, client.decode())
    assert roster.rename("a", "../lab 1") == "lab-1"
    assert roster.rename("b", "LAB-1") == "LAB-1-2"
    assert roster.rename("c", "final") == "client-final"
    assert roster.rename("c" if "c" in roster.connected else "client-final", "client-final") == "client-final"
    assert [member.name for member in roster.members()] == ["lab-1", "LAB-1-2", "client-final"]


def test_a_name_can_be_taken_back_by_whose_it_was() -> None:
    roster = Roster()
    join(roster, b"a", "one")
    assert roster.rename("one", "two") == "two"
    assert roster.rename("two", "one") == "one"
    assert roster["two"] is roster["one"]


# --- what a job says --------------------------------------------------------------------------------------------


def test_only_a_job_that_partitions_in_parts_asks() -> None:
    assert PartsByClient.wanted(make_job({})) is None
    assert PartsByClient.wanted(make_job({"parts_of": 4})) == PartsByClient(4)


def test_who_is_in_the_job_file_and_who_is_local_is_not_asked() -> None:
    job = make_job({"parts_of": 6, "clients": 3, "local": 2, "parts": ("local-2:6", "lab-1:1-2")})
    parts_by_client = PartsByClient.wanted(job)
    assert parts_by_client is not None
    assert parts_by_client.assigned == {
        "local-1": PartRange(1, 2),
        "local-2": PartRange(6, 6),
        "lab-1": PartRange(1, 2),
    }


def test_the_job_that_is_written_down_asks_nobody_and_keeps_the_order() -> None:
    parts_by_client = PartsByClient(
        6, {"z": PartRange(1, 1)}, {"b": PartRange(2, 2), "a": PartRange(3, 6), "z": PartRange(1, 1)}
    )
    owners = parts_by_client.in_order(["a", "b", "z", "nobody"])
    assert owners == ["z", "a", "b"]
    job = replace_parts(make_job({"parts_of": 6, "clients": 3}), owners, parts_by_client.of_all(owners))
    assert job.parts == ("z:1", "a:3-6", "b:2")
    again = PartsByClient.wanted(job)
    assert again is not None
    again.by = dict(again.assigned)
    assert again.in_order(["a", "b", "z"]) == owners


# --- asking -----------------------------------------------------------------------------------------------------


class Renaming(FakeCluster):
    def rename(self, client: str, name: str) -> str:
        return self.roster.rename(client, name)

    def took(self, client: str, name: str, first: int, last: int) -> None:
        self.events.put_nowait(PartsChosen(client, name, PartRange(first, last)))

    def sent_to(self, client: str) -> list[Message]:
        return [message for name, message in self.sent if name == client]


def test_everybody_is_asked_whenever_it_joins_and_waited_for() -> None:
    cluster, output = Renaming("pc-1"), RecordingDisplay()
    parts_by_client = PartsByClient(12)

    async def script() -> list[str]:
        collecting = asyncio.create_task(ClientWait(cluster, output, parts_by_client).wait(2))
        await cluster.asked("pc-1")
        cluster.join("pc-2")
        await cluster.asked("pc-2")
        cluster.took("pc-2", "alpha", 3, 5)
        await cluster.asked("alpha")
        assert not collecting.done()
        cluster.took("pc-1", "beta", 1, 3)
        return await collecting

    assert run_script(script()) == ["alpha", "beta"]
    assert AskParts(12) in cluster.sent_to("pc-1")
    assert cluster.sent_to("alpha") == [PartsTaken("alpha", 3, 5, 12)]
    assert parts_by_client.of_all(["alpha", "beta"]) == (PartRange(3, 5), PartRange(1, 3))
    assert parts_by_client.notes(["alpha", "beta"])[0].startswith("part 3: chosen by alpha and beta")
    assert "pc-2, now called alpha, trains on parts 3 to 5 of 12." in output.lines


def test_a_client_with_assigned_parts_is_notified_and_not_asked() -> None:
    cluster = Renaming("lab-1", "lab-2")
    parts_by_client = PartsByClient(4, {"lab-1": PartRange(1, 2), "lab-2": PartRange(3, 4)})
    assert run_script(ClientWait(cluster, RecordingDisplay(), parts_by_client).wait(2)) == ["lab-1", "lab-2"]
    assert {type(message) for _, message in cluster.sent} == {PartsTaken}


def test_who_is_not_in_the_job_file_takes_the_place_of_who_does_not_come() -> None:
    cluster, output = Renaming("pc-9", "lab-2", "pc-10"), RecordingDisplay()
    parts_by_client = PartsByClient.wanted(
        make_job({"parts_of": 4, "clients": 3, "parts": ("lab-1:1", "lab-2:2-3", "lab-3:4")})
    )
    assert parts_by_client is not None
    owners = run_script(ClientWait(cluster, output, parts_by_client).wait(3))
    assert owners == ["lab-1", "lab-2", "lab-3"]
    assert parts_by_client.of_all(owners) == (PartRange(1, 1), PartRange(2, 3), PartRange(4, 4))
    assert {type(message) for _, message in cluster.sent} == {PartsTaken}
    assert "pc-9 takes the place of lab-1, as lab-1." in output.lines


def test_who_is_named_comes_before_strangers_and_places_stay_in_order_when_a_name_is_not_free() -> None:
    cluster = Renaming("lab-1")
    cluster.leave("lab-1", 0.0)
    parts_by_client = PartsByClient.wanted(make_job({"parts_of": 2, "clients": 2, "parts": ("lab-1:1", "a:2")}))
    assert parts_by_client is not None

    async def script() -> list[str]:
        collecting = asyncio.create_task(ClientWait(cluster, RecordingDisplay(), parts_by_client).wait(2))
        await asyncio.sleep(0)
        cluster.join("pc-1")
        await asyncio.sleep(0)
        cluster.join("a")
        return await collecting

    assert run_script(script()) == ["lab-1-2", "a"]
    assert parts_by_client.by["a"] == PartRange(2, 2)


def test_who_is_named_and_has_come_is_waited_for_until_it_has_been_greeted() -> None:
    cluster = Renaming()
    parts_by_client = PartsByClient.wanted(make_job({"parts_of": 2, "clients": 2, "parts": ("lab-1:1", "lab-2:2")}))
    assert parts_by_client is not None

    async def script() -> list[str]:
        collecting = asyncio.create_task(ClientWait(cluster, RecordingDisplay(), parts_by_client).wait(2))
        await asyncio.sleep(0)
        join(cluster.roster, b"lab-2", "lab-2")  # a server sends it what it is called before it says that it is here
        cluster.join("lab-1")
        await cluster.asked("lab-1")
        assert not collecting.done()
        cluster.events.put_nowait(ClientJoined("lab-2"))
        return await collecting

    assert run_script(script()) == ["lab-1", "lab-2"]
    assert [name for name, _ in cluster.sent] == ["lab-1", "lab-2"]


def test_who_is_named_takes_nobody_elses_place_before_it_has_been_greeted() -> None:
    cluster, output = Renaming(), RecordingDisplay()
    parts_by_client = PartsByClient.wanted(make_job({"parts_of": 2, "clients": 2, "parts": ("lab-1:1", "lab-2:2")}))
    assert parts_by_client is not None

    async def script() -> list[str]:
        collecting = asyncio.create_task(ClientWait(cluster, output, parts_by_client).wait(2))
        await asyncio.sleep(0)
        join(cluster.roster, b"lab-2", "lab-2")
        cluster.join("pc-9")
        await cluster.asked("lab-1")
        cluster.events.put_nowait(ClientJoined("lab-2"))
        return await collecting

    assert run_script(script()) == ["lab-1", "lab-2"]
    assert [line for line in output.lines if "takes the place" in line] == ["pc-9 takes the place of lab-1, as lab-1."]


def test_own_files_are_nobody_elses_so_that_strangers_are_asked() -> None:
    values = {"parts_of": 2, "clients": 1, "parts": ("lab-1:1",)}
    for data, asks in (("client", True), ("files", False)):
        parts_by_client = PartsByClient.wanted(make_job({**values, "data": data}))
        assert parts_by_client is not None
        assert parts_by_client.asks == asks


def test_who_comes_again_before_it_has_answered_is_asked_again_and_later_only_told() -> None:
    cluster = Renaming("pc-1")

    async def script() -> list[str]:
        collecting = asyncio.create_task(ClientWait(cluster, RecordingDisplay(), PartsByClient(4)).wait(2))
        await cluster.asked("pc-1")
        before = len(cluster.sent_to("pc-1"))
        cluster.join("pc-1")
        cluster.join("pc-2")
        await cluster.asked("pc-2")
        assert cluster.sent_to("pc-1")[before:] == [AskParts(4)]
        cluster.took("pc-1", "pc-1", 1, 1)
        cluster.join("pc-1")
        cluster.took("pc-2", "pc-2", 2, 2)
        return await collecting

    assert run_script(script()) == ["pc-1", "pc-2"]
    assert cluster.sent_to("pc-1")[-2:] == [PartsTaken("pc-1", 1, 1, 4)] * 2


# --- what a server believes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last"), [(0, 3), (3, 2), (3, 13), (-1, 1)])
def test_parts_that_there_are_not_end_the_link(tmp_path, first: int, last: int) -> None:  # type: ignore[no-untyped-def]
    async def script() -> None:
        scenario = Scenario(tmp_path)
        async with scenario.client("lab-1") as link:
            await scenario.cluster.send("lab-1", AskParts(12))
            assert await link.receive() == AskParts(12)
            await link.send(TakeParts("lab-1", first, last))
            with pytest.raises(ConnectionFailed):
                await link.receive()

    run_script(script())


def test_an_answer_to_nothing_ends_the_link_and_one_that_was_requested_is_an_event(tmp_path) -> None:  # type: ignore[no-untyped-def]
    async def script() -> None:
        scenario = Scenario(tmp_path)
        async with scenario.client("lab-1") as link:
            await scenario.cluster.send("lab-1", AskParts(12))
            await link.receive()
            await link.send(TakeParts("x", 3, 5))
            while not isinstance(event := await scenario.cluster.events.get(), PartsChosen):
                pass
            assert event == PartsChosen("lab-1", "x", PartRange(3, 5))
            assert scenario.cluster.rename("lab-1", "x") == "x"
            await scenario.cluster.send("x", PartsTaken("x", 3, 5, 12))
            assert await link.receive() == PartsTaken("x", 3, 5, 12)
            await link.send(TakeParts("y", 3, 5))
            with pytest.raises(ConnectionFailed):
                await link.receive()

    run_script(script())
