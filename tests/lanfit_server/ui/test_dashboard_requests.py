"""Runs that are set up, started and steered from the page: over HTTP, on a session with simulated or played clients."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.dashboards import RIGHT, fake_place, page_of
from fakes.fake_cluster import run_script
from fakes.pages import served
from fakes.places import Place

from lanfit.errors import lanfit_error
from lanfit.settings.job import make_job
from lanfit.wire.messages import Join
from lanfit_server.clusters.roster import Member, Roster
from lanfit_server.models.handle import InspectModel
from lanfit_server.replay.baseline_runs import pair_of, remark
from lanfit_server.requests import RunRequest, State
from lanfit_server.run.resume import job_of_run
from lanfit_server.ui.dashboard.one_machine import job_of, takes


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with fake_place(tmp_path, monkeypatch) as made:
        yield made


# --- starting ---------------------------------------------------------------------------------------------------


def test_a_form_becomes_a_run(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            form = await page.get("/api/form")
            assert [group["title"] for group in form["groups"]] == ["Model", "Data", "Training", "Clients"]
            assert [each["file"] for each in form["models"]] == ["net.keras"]
            assert {each["kind"] for each in form["builders"]} == {"mlp", "cnn"}
            assert await page.post("/api/check", {"values": RIGHT}) == {"fields": {}}
            assert (await page.get("/api/form"))["models"] == [{"file": "net.keras", "parameters": 3}]
            assert session.current is None, "a check starts nothing"
            answer = await page.post("/api/runs", {"values": {**RIGHT, "seed": 5}})
            assert answer["position"] == 0
            [handle] = [session.current] if session.current else session.queue()
            summary = await handle.ended()
            assert (summary.status, summary.seed, len(summary.clients)) == ("done", 5, 2)
            assert job_of_run(place.workspace, summary.run).data == "files"

    run_script(script())


def test_older_runs_are_removed_as_the_form_says(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            ended = []
            for _ in range(3):
                await page.post("/api/runs", {"values": {**RIGHT, "keep_runs": 2}})
                [handle] = [session.current] if session.current else session.queue()
                ended.append((await handle.ended()).run)
            assert [each["run"] for each in (await page.get("/api/runs"))["runs"]] == [ended[2], ended[1]]

    run_script(script())


def test_two_tabs_that_start_at_once_both_queue_and_their_places_are_clear(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            bodies = [{"values": {**RIGHT, "seed": seed}} for seed in (1, 2, 3)]
            answers = await asyncio.gather(*(page.post("/api/runs", body) for body in bodies))
            assert sorted(each["position"] for each in answers) == [0, 1, 2]
            assert len({each["id"] for each in answers}) == 3
            handles = [handle for handle in (session.current, *session.queue()) if handle is not None]
            assert len(handles) == 3
            assert sorted([(await handle.ended()).seed for handle in handles]) == [1, 2, 3]

    run_script(script())


def test_what_is_wrong_starts_nothing_and_is_reported_beside_its_field(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            wrong = {**RIGHT, "epochs": "x", "local": 9}
            checked = await page.post("/api/check", {"values": wrong})
            assert {key: each["code"] for key, each in checked["fields"].items()} == {
                "epochs": "value.not-whole",
                "local": "job.more-local-than-clients",
            }
            answer = await page.post("/api/runs", {"values": wrong}, status=422)
            assert answer["fields"] == checked["fields"]
            assert answer["error"]
            assert session.current is None
            assert session.queue() == ()

    run_script(script())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"values": 3}', b"\xff", b'"x"', b"[" * 9000])
def test_a_request_that_is_none_is_refused(place: Place, body: bytes) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            answer = await page.client.post("/api/runs", content=body)
            if body:  # an empty one is a form with its defaults, of which 2 clients and the newest model are right
                assert answer.status_code == 422
                assert answer.json()["code"] == "page.no-object"
                assert session.current is None

    run_script(script())


def test_a_model_that_is_deleted_is_reported_as_the_prompts_do_whenever_that_is_noticed(place: Place) -> None:
    file = place.workspace.models / "net.keras"

    async def script() -> None:
        async with place.with_clients("lab-1") as session, page_of(place, session) as page:
            first = await session.submit(place.request())
            await place.waits_for_clients()
            await page.post("/api/runs", {"values": RIGHT})
            [second] = session.queue()
            file.rename(file.with_name("other.keras"))
            answer = await page.post("/api/runs", {"values": RIGHT}, status=422)
            reported = lanfit_error("model.not-found", name="net.keras", folder="model", found="other.keras")
            assert answer["fields"]["model"] == {
                "error": reported.message,
                "hint": reported.hint,
                "code": reported.code,
            }
            session.interrupt(first)
            await second.reach(State.ENDED)
            assert str(second.error) == reported.message

    run_script(script())


def test_a_full_disk_is_reported_and_breaks_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(workspace: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for file in [*place.workspace.inputs.iterdir(), *place.workspace.targets.iterdir()]:
        file.unlink()

    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            with monkeypatch.context() as patch:
                patch.setattr("lanfit_server.ui.dashboard.requests_api.add_digits", full)
                answer = await page.post("/api/runs", {"values": {**RIGHT, "data": "digits"}}, status=422)
            assert "No space left on device" in answer["error"]
            assert session.current is None
            assert await page.post("/api/check", {"values": {**RIGHT, "data": "digits"}}) == {"fields": {}}

    run_script(script())


def test_the_digits_are_copied_and_trained_on(place: Place) -> None:
    for file in [*place.workspace.inputs.iterdir(), *place.workspace.targets.iterdir()]:
        file.unlink()

    async def script() -> None:
        async with place.with_clients() as session, page_of(place, session) as page:
            await page.post("/api/runs", {"values": {**RIGHT, "data": "digits"}})
            for folder in (place.workspace.inputs, place.workspace.targets):
                assert [file.name for file in folder.iterdir()] == ["digits.csv"]
            [handle] = [session.current] if session.current else session.queue()
            assert handle.request.job.data == "files"

    run_script(script())


def test_a_busy_model_process_delays_no_check(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanfit_server.ui.dashboard.requests_api.LOOK_SECONDS", 0.01)
    ask = place.models.ask

    async def busy(request: Any, answer: Any) -> Any:
        if isinstance(request, InspectModel):
            await asyncio.Event().wait()
        return await ask(request, answer)

    monkeypatch.setattr(place.models, "ask", busy)

    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            assert await page.post("/api/check", {"values": RIGHT}) == {"fields": {}}
            assert (await page.post("/api/check", {"values": {**RIGHT, "loss": "msse"}}))["fields"].keys() == {"loss"}

    run_script(script())


def test_a_model_is_looked_at_once_until_its_file_changes(place: Place) -> None:
    file = place.workspace.models / "net.keras"

    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            for _ in range(3):
                await page.post("/api/check", {"values": RIGHT})
            assert sum(isinstance(each, InspectModel) for each in place.models.asked) == 1
            file.write_text("2.75")
            await page.post("/api/check", {"values": RIGHT})
            assert sum(isinstance(each, InspectModel) for each in place.models.asked) == 2
            place.models.refuses[InspectModel] = lanfit_error("model.out-of-memory")
            file.write_text("2.875")
            wrong = (await page.post("/api/check", {"values": RIGHT}))["fields"]
            assert wrong["model"]["code"] == "model.out-of-memory"

    run_script(script())


# --- steering ---------------------------------------------------------------------------------------------------


def test_a_run_that_waits_for_its_turn_can_be_withdrawn_once(place: Place) -> None:
    async def script() -> None:
        async with place.with_clients("lab-1") as session, page_of(place, session) as page:
            await page.post("/api/runs", {"values": RIGHT})
            second = await page.post("/api/runs", {"values": RIGHT})
            [handle] = session.queue()
            await page.post(f"/api/queue/{second['id']}/withdraw")
            assert handle.state == State.ENDED
            answer = await page.post(f"/api/queue/{second['id']}/withdraw", status=409)
            assert answer["code"] == "page.not-queued"

    run_script(script())


def test_stop_gives_up_a_run_that_waits_for_its_clients(place: Place) -> None:
    with served(place, "lab-1") as page:
        handle = page.submit()
        page.loop.call(place.waits_for_clients())
        assert page.teacher.post("/api/command", {"command": "stop"}).status == 200
        page.loop.call(handle.reach(State.ENDED))
        assert handle.summary is None
        assert page.teacher.post("/api/command", {"command": "stop"}).json["code"] == "page.no-run"


# --- on one machine ---------------------------------------------------------------------------------------------


def test_the_budget_of_one_machine_is_that_of_all_clients() -> None:
    job = make_job({**RIGHT, "clients": 4, "deal": "dirichlet", "alpha": 0.1, "min_clients": 2, "seed": 3})
    alone = job_of(job, "here")
    assert (alone.clients, alone.local, alone.epochs, alone.seed, alone.deal) == (1, 1, 1, 3, "stratified")
    assert make_job({key: getattr(alone, key) for key in alone.__struct_fields__}) == alone, "it goes together"
    federated = make_job(
        {**RIGHT, "method": "federated", "rounds": 6, "epochs": 2, "patience": 2, "strategy": "fedavgm"}
    )
    alone = job_of(federated, "lab-2")
    assert (alone.method, alone.epochs, alone.keep, alone.patience) == ("fit", 12, "last", None)
    assert alone.local == 0


def test_the_one_machine_is_known_by_its_name_and_this_one_by_the_client_that_was_started_here() -> None:
    roster = Roster()

    def join(client_id: bytes, name: str, address: str) -> Member:
        return roster.join(client_id, address, Join(name, "0", "tensorflow", "cpu", 1, 0), 0.0)

    def taken(machine: str, addresses: list[str] | None) -> list[str]:
        takes_it = takes(machine, addresses)
        return [member.name for member in roster.members() if takes_it is None or takes_it(member)]

    join(b"a", "lab-1", "10.0.0.1")
    join(b"b", "local-2", "127.0.0.1")
    join(b"c", "local-1", "10.0.0.3")
    assert taken("lab-1", ["0.0.0.0"]) == ["lab-1"]
    assert taken("here", ["0.0.0.0"]) == []
    assert taken("here", None) == ["lab-1", "local-2", "local-1"]
    # The folder of the client that was local-2 in an earlier run is now that of the only one.
    assert join(b"b", "local-1", "127.0.0.1").name == "local-2"
    assert taken("here", ["0.0.0.0"]) == ["local-2"]
    join(b"b", "local-1", "10.0.0.9")
    assert taken("here", ["10.0.0.9"]) == ["local-2"]
    assert taken("here", ["10.0.0.8"]) == []
    kfold = job_of(make_job({**RIGHT, "method": "kfold", "folds": 3}), "here")
    assert (kfold.method, kfold.folds, kfold.clients) == ("kfold", 3, 1)


@pytest.mark.parametrize(("machine", "who"), [("sim-002", "sim-002"), ("here", "sim-001")])
def test_both_runs_are_queued_and_know_each_other(place: Place, machine: str, who: str) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            body = {"values": RIGHT, "also_one_machine": True, "one_machine": machine}
            answer = await page.post("/api/runs", body)
            handles = [handle for handle in (session.current, *session.queue()) if handle is not None]
            assert len(handles) == 2
            assert answer["one_machine"] != answer["id"]
            both, alone = [await handle.ended() for handle in handles]
            assert [client.name for client in alone.clients] == [who]
            assert alone.data.train + alone.data.validation == both.data.train + both.data.validation
            assert alone.data.test == both.data.test
            pairs = [pair_of(place.workspace.run_folder(each.run)) for each in (both, alone)]
            assert pairs[0] is not None
            assert pairs[1] == (pairs[0][0], True)
            assert not pairs[0][1]

    run_script(script())


def test_without_the_first_run_there_is_no_second(place: Place) -> None:
    async def script() -> None:
        async with place.with_clients("lab-1") as session, page_of(place, session) as page:
            await page.post("/api/runs", {"values": RIGHT, "also_one_machine": True, "one_machine": "lab-1"})
            second = session.queue()[-1]
            await place.waits_for_clients()
            assert session.current is not None
            session.interrupt(session.current)
            await second.reach(State.ENDED)
            assert second.summary is None
            assert not place.workspace.logs.exists()

    run_script(script())


def test_rows_on_the_clients_have_no_single_machine(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session, page_of(place, session) as page:
            body = {"values": {**RIGHT, "data": "client"}, "also_one_machine": True}
            assert (await page.post("/api/runs", body, status=422))["code"] == "one-machine.client-data"
            for machine in ("nobody", 3, ["sim-001"]):
                body = {"values": RIGHT, "also_one_machine": True, "one_machine": machine}
                assert (await page.post("/api/runs", body, status=422))["code"] == "one-machine.no-client"
            assert session.queue() == ()
            assert session.current is None

    run_script(script())


def test_only_the_chosen_client_trains_a_run_that_is_for_it(place: Place) -> None:
    async def script() -> None:
        async with place.simulation() as session:
            request = place.request(clients=1)
            request = RunRequest(request.job, request.model, arrays=request.arrays, takes=takes("sim-002", None))
            summary = await (await session.submit(request)).ended()
            assert [client.name for client in summary.clients] == ["sim-002"]

    run_script(script())


def test_a_remark_is_found_again_and_nothing_else_is(tmp_path: Path) -> None:
    assert pair_of(tmp_path) is None
    for text, found in (
        (remark("0a1b2c3d"), ("0a1b2c3d", False)),
        (remark("0a1b2c3d", alone=True), ("0a1b2c3d", True)),
        ('model = "# One machine of pair 0a1b2c3d"', None),
    ):
        (tmp_path / "job.toml").write_text(text + 'host = "x"\n')
        assert pair_of(tmp_path) == found
