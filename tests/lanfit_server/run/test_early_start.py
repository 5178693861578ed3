"""A run begins with those who came: after a time, or when the operator presses Enter, and never with too few."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from fakes.fake_cluster import FakeCluster, RecordingDisplay, run_script
from test_client_surveys import ARRAYS, ORDER, SURVEYED

from lanfit.errors import InputError, lanfit_error
from lanfit.settings.fields import readable_duration
from lanfit.settings.job import FIELDS, Job, make_job, to_toml
from lanfit.settings.parts import PartRange
from lanfit_server.clusters.events import PartsChosen, StartNow, SurveyDone
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.registry import METHODS
from lanfit_server.run.early_start import EarlyStart, announcement, with_fewer
from lanfit_server.run.parts import PartsByClient
from lanfit_server.run.wait_for_clients import ClientWait


class ClientSeen(RecordingDisplay):
    """What is said, and what is waited for."""

    def waiting(self, text: str) -> None:
        self.lines.append(text)

    async def until(self, text: str) -> None:
        while not any(text in line for line in self.lines):
            await asyncio.sleep(0)


def waited(
    cluster: FakeCluster,
    wanted: int,
    early: EarlyStart,
    script: Callable[[ClientSeen], object],
    parts_by_client: PartsByClient | None = None,
) -> tuple[list[str], list[str]]:
    """Who is gathered, while a script is played, and what was said."""
    output = ClientSeen()

    async def both() -> list[str]:
        collecting = asyncio.create_task(ClientWait(cluster, output, parts_by_client, early).wait(wanted))
        await script(output)  # type: ignore[misc]
        return await collecting

    return run_script(both()), output.lines


async def nothing(output: ClientSeen) -> None:
    pass


# --- Enter ------------------------------------------------------------------------------------------------------


def test_enter_begins_with_those_who_came_and_the_waiting_line_names_it() -> None:
    cluster = FakeCluster("b", "a")

    async def press(output: ClientSeen) -> None:
        await output.until("Press Enter to start with the 2 that are ready")
        cluster.events.put_nowait(StartNow())

    owners, _ = waited(cluster, 3, EarlyStart(by_key=True), press)
    assert owners == ["a", "b"]


def test_enter_with_nobody_there_is_answered_and_the_wait_continues() -> None:
    cluster = FakeCluster()

    async def press(output: ClientSeen) -> None:
        cluster.events.put_nowait(StartNow())
        await output.until("Training can't start yet: no client is ready, but at least 1 client must be.")
        cluster.join("a")
        await output.until("Press Enter to start with the 1 that is ready")
        cluster.events.put_nowait(StartNow())

    assert waited(cluster, 2, EarlyStart(by_key=True), press)[0] == ["a"]


def test_enter_with_too_few_is_answered_and_pressed_again_when_enough_are_there() -> None:
    cluster = FakeCluster("a")

    async def press(output: ClientSeen) -> None:
        await output.until("As soon as 2 are ready, Enter starts without the others.")
        cluster.events.put_nowait(StartNow())
        await output.until("Training can't start yet: 1 is ready, but at least 2 clients must be.")
        cluster.join("b")
        await output.until("Press Enter")
        cluster.events.put_nowait(StartNow())

    assert waited(cluster, 5, EarlyStart(least=2, by_key=True), press)[0] == ["a", "b"]


def test_clients_are_notified_that_the_operator_may_begin_without_the_missing() -> None:
    cluster = FakeCluster("a")

    async def press(output: ClientSeen) -> None:
        await output.until("Press Enter")
        cluster.events.put_nowait(StartNow())

    waited(cluster, 2, EarlyStart(by_key=True), press)
    assert (
        "a",
        "1 of 2 clients are here; training starts when all are, or when the server's operator no longer waits "
        "for the others",
    ) in cluster.messages


# --- --start-after ----------------------------------------------------------------------------------------------


def test_after_its_time_it_begins_with_those_who_are_there() -> None:
    assert waited(FakeCluster("a"), 3, EarlyStart(after=0.001), nothing)[0] == ["a"]


def test_after_its_time_it_begins_as_soon_as_enough_are_there_and_says_so_once() -> None:
    cluster = FakeCluster("a")

    async def come(output: ClientSeen) -> None:
        await output.until("Training can't start yet: 1 is ready, but at least 2 clients must be.")
        await output.until("The run starts as soon as 2 are ready.")
        cluster.join("b")

    owners, output = waited(cluster, 4, EarlyStart(least=2, after=0.001), come)
    assert owners == ["a", "b"]
    assert sum("Training can't start yet" in line for line in output) == 1


def test_the_time_that_is_left_stands_on_the_screen() -> None:
    early = EarlyStart(after=300)
    early.begin(1000)
    assert early.invitation(1, 1030) == " In 4 min 30 s the run starts without them."
    assert early.left(1030) == 270
    assert not early.is_due(1299)
    assert early.is_due(1300)
    assert early.left(1300) == math.inf, "nothing is to be waited for but events"
    assert [readable_duration(each) for each in (0, 1, 60, 3600, 3725)] == ["0 s", "1 s", "1 min", "1 h", "1 h 2 min"]


def test_local_clients_are_always_waited_for() -> None:
    roster = Roster()
    output: list[str] = []
    early = EarlyStart.of(make_job({"clients": 3, "local": 2}), lambda clients: None)
    early.begin(0)
    early.press()
    assert not early.begins(["lab-1", "local-1"], roster, output.append, 1)
    assert output == ["Training can't start yet: local-2 on this machine is still starting."]
    early.press()
    assert early.begins(["local-1", "local-2"], roster, output.append, 1)


def test_a_method_that_needs_more_clients_says_so_and_waits() -> None:
    job = make_job({"clients": 5, "method": "federated", "aggregation": "krum", "byzantine": 1, "start_after": 1})
    early, output = EarlyStart.of(job, lambda n: METHODS["federated"].check(make_job({**KRUM, "clients": n}))), []
    early.begin(0)
    assert not early.begins(["a"], Roster(), output.append, 2)
    assert "with 1 client aggregation by Krum" in output[0]
    assert early.begins(list("abcde"), Roster(), output.append, 2)


KRUM = {"method": "federated", "aggregation": "krum", "byzantine": 1}


def test_without_a_word_all_are_waited_for() -> None:
    early = EarlyStart.of(make_job({"clients": 3}), lambda clients: None)
    early.begin(0)
    assert not early.begins(["a", "b"], Roster(), pytest.fail, 1e9)
    assert early.invitation(2, 1e9) == ""


# --- parts and files of one's own -------------------------------------------------------------------------------


def test_of_parts_only_those_begin_who_have_taken_some() -> None:
    cluster = FakeCluster("a", "b")

    async def press(output: ClientSeen) -> None:
        await cluster.asked("a", "b")
        cluster.events.put_nowait(PartsChosen("b", "b", PartRange(1, 2)))
        await output.until("b trains on")
        cluster.events.put_nowait(StartNow())

    cluster.rename = cluster.roster.rename  # type: ignore[attr-defined]
    parts_by_client = PartsByClient(4)
    assert waited(cluster, 3, EarlyStart(by_key=True), press, parts_by_client)[0] == ["b"]
    assert parts_by_client.of_all(["b"]) == (PartRange(1, 2),)


def test_strangers_take_the_places_of_those_who_are_named_and_missing_before_it_begins_without_them() -> None:
    cluster = FakeCluster("a", "stranger")
    cluster.rename = cluster.roster.rename  # type: ignore[attr-defined]
    parts_by_client = PartsByClient(3, {"a": PartRange(1, 1), "b": PartRange(2, 2), "c": PartRange(3, 3)}, asks=False)

    async def press(output: ClientSeen) -> None:
        await output.until("Press Enter")
        cluster.events.put_nowait(StartNow())

    owners, output = waited(cluster, 3, EarlyStart(by_key=True), press, parts_by_client)
    assert owners == ["a", "b"]
    assert "stranger takes the place of b, as b." in output


def test_who_does_not_tell_of_its_own_files_is_not_waited_for_either() -> None:
    async def script() -> None:
        cluster, output = FakeCluster("lab-1", "lab-2"), RecordingDisplay()
        early = EarlyStart(by_key=True)
        surveying = asyncio.create_task(ClientWait(cluster, output, None, early).survey(["lab-1", "lab-2"], ORDER))
        await cluster.asked("lab-1", "lab-2")
        cluster.events.put_nowait(SurveyDone("lab-2", SURVEYED, ARRAYS))
        cluster.events.put_nowait(StartNow())
        data, owners = await surveying
        assert owners == ["lab-2"]
        assert len(data.shards) == 1

    run_script(script())


# --- what is written down ---------------------------------------------------------------------------------------


def test_the_job_that_is_written_down_repeats_the_run_with_as_many() -> None:
    job = make_job({"clients": 5, "min_clients": 2, "start_after": 60.0})
    again = with_fewer(job, ["a", "b", "c"])
    assert (again.clients, again.min_clients, again.start_after) == (3, 2, None)
    assert "start_after" not in to_toml(again)


@pytest.mark.parametrize(("data", "late"), [("files", "take over"), ("client", "take part in the next run")])
def test_it_is_reported_who_begins_and_what_is_with_those_who_come_later(data: str, late: str) -> None:
    job: Job = make_job({"clients": 3, "data": data})
    reported = announcement(job, ["a", "b"])
    assert reported.startswith("Starting with 2 of 3 clients: a, b. Clients that join later")
    assert late in reported


def test_times_are_read_as_everywhere_and_no_minimum_is_above_all() -> None:
    assert FIELDS["start_after"].read("5m", "--start-after") == 300
    assert FIELDS["start_after"].read("90", "--start-after") == 90
    with pytest.raises(InputError) as wrong:
        make_job({"clients": 2, "min_clients": 3})
    assert wrong.value.code == "job.min-above-clients"
    assert lanfit_error("job.min-above-clients", minimum=3, clients=2).message == wrong.value.message
