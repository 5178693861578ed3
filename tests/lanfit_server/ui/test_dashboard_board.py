"""The board of the live page: whoever looks, whenever and however often, ends up with the same state."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.backend import Behaviour
from fakes.fake_cluster import run_script
from fakes.places import Place, place_of  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from lanfit.models.compiling import CompileSpec
from lanfit.settings.job import make_job
from lanfit.wire.arrays import ArraySpec
from lanfit.wire.messages import Join, Progress
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.models.handle import Compile, Compiled
from lanfit_server.requests import RunHandle, RunInterrupted, RunRequest, State
from lanfit_server.run import events
from lanfit_server.run.resume import job_of_run
from lanfit_server.ui.dashboard import earlier
from lanfit_server.ui.dashboard.board import MOST_LINES, MOST_POINTS, MOST_SPANS, TEACHER, VIEWER, Board
from lanfit_server.ui.dashboard.epoch_means import Means
from lanfit_server.ui.dashboard.run_view import layers_of, rate_of
from lanfit_server.ui.dashboard.runs import view_of_run
from lanfit_server.ui.dashboard.series import Series
from lanfit_server.ui.dashboard.status import training_status
from lanfit_server.ui.live_table import Facts, Held

NAMES = ("lab-1", "lab-2", "lab-10")


class Reader:
    """A page: a snapshot, and the deltas that it is told; what its scripts do with them."""

    def __init__(self, board: Board, role: str = TEACHER) -> None:
        self.board, self.role = board, role
        self.state: dict[str, Any] = json.loads(board.encoded(None, role))

    def reads(self) -> None:
        delta = json.loads(self.board.encoded(self.state["seq"], self.role))
        if "snapshot" in delta:
            self.state = delta["snapshot"]
            return
        state = self.state
        state["seq"] = delta["seq"]
        state.update(delta.get("set", {}))
        for section, values in delta.get("merge", {}).items():
            state[section] = {**(state[section] or {}), **values}
        for name, tile in delta.get("clients", {}).items():
            state["clients"][name] = tile
            if tile is None:
                del state["clients"][name]
        for key, more in delta.get("append", {}).items():
            if "new" in more:
                state["series"][key] = {**more["new"], "points": []}
            state["series"][key]["points"] += more["points"]
        for section in ("samples", "confusion"):
            if (more := delta.get(section)) is not None:
                old = state[section]
                is_new = set(more) != {"models"}
                state[section] = more if is_new else {**old, "models": {**old["models"], **more["models"]}}
        state["timeline"] = (state["timeline"] + delta.get("timeline", []))[-MOST_SPANS:]
        state["log"] = (state["log"] + delta.get("log", []))[-MOST_LINES:]


class BoardFixture:
    """A board, and the clients and requests that it shows."""

    def __init__(self, server: dict[str, Any] | None = None) -> None:
        self.roster = Roster()
        self.now = 0.0
        self.board = Board(self.roster.members, server or {"name": "lab"}, wall_clock=lambda: self.now)
        self.handles: list[RunHandle] = []

    def join(self, name: str) -> None:
        self.roster.join(name.encode(), "here", Join(name, "0", "tensorflow", "cpu", 1, 0), self.now)

    def submit(self, **values: Any) -> RunHandle:
        request = RunRequest(make_job({"clients": 2, "model": "net.keras", **values}), None, enter_starts=True)
        handle = RunHandle(request, self.board.request)
        self.handles.append(handle)
        self.board.request(handle)
        return handle

    def flush(self) -> bool:
        self.now += 1.0
        return self.board.flush(self.now)

    def snapshot(self, role: str = TEACHER) -> dict[str, Any]:
        self.flush()
        return self.board.snapshot(role)


# --- nothing is missed ------------------------------------------------------------------------------------------

WHO = st.sampled_from(NAMES)
LOSS = st.sampled_from([0.5, 1.0, 2.0, math.nan, math.inf])
ACTIONS = st.one_of(
    st.tuples(st.just("join"), WHO),
    st.tuples(st.just("leave"), WHO),
    st.tuples(st.just("rename"), WHO),
    st.tuples(st.just("progress"), WHO, st.integers(1, 3), st.integers(0, 4), LOSS),
    st.tuples(st.just("epoch"), WHO, st.integers(0, 3), st.integers(0, 2), LOSS),
    st.tuples(st.just("round"), st.integers(1, 4), LOSS),
    st.tuples(st.just("said"), st.sampled_from(["Note: something", "it goes on"])),
    st.tuples(st.just("waiting"), st.sampled_from(["", "Waiting for 2 clients."])),
    st.tuples(st.just("submit")),
    st.tuples(st.just("state"), st.sampled_from(list(State)[1:])),
    st.tuples(st.just("show"), st.sampled_from(["samples", "confusion"]), st.integers(0, 1), WHO, st.integers(0, 3)),
    st.tuples(st.just("span"), WHO),
    st.tuples(st.just("command"), st.sampled_from(["pause", "resume", "stop", "set epochs", "set learning_rate"])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("read"), st.integers(0, 3)),
    st.tuples(st.just("many"), WHO, st.integers(1, 700)),
)


def act(fixture: BoardFixture, action: tuple[Any, ...]) -> None:
    board, roster = fixture.board, fixture.roster
    match action:
        case ("join", name):
            fixture.join(name)
        case ("leave", name) if name in {each.name for each in roster.members()}:
            roster.leave(name, "lost", fixture.now)
        case ("rename", name) if name in {each.name for each in roster.members()}:
            roster.rename(name, f"{name}-b")
        case ("progress", name, epoch, step, loss) if name in {each.name for each in roster.members()}:
            roster.progress(name, Progress("run-1", "shard-1", epoch, 3, step, 4, loss, 10.0), fixture.now)
            board.sample()
        case ("epoch", name, epoch, round_, loss):
            metrics = {"loss": loss, "val_loss": 1.0}
            board.event(events.EpochCompleted(name, name, epoch, 4, metrics, round=round_), fixture.now)
        case ("round", number, loss):
            event = events.RoundCompleted(number, 4, 2, 1.0, {"loss": loss}, logs={"loss": loss, "val_loss": 1.0})
            board.event(event, fixture.now)
        case ("said", text):
            board.on_log(text)
        case ("waiting", text):
            board.waiting(text)
        case ("submit",):
            fixture.submit()
        case ("state", state):
            open_ = [handle for handle in fixture.handles if handle.state < State.ENDED]
            if open_ and (state > open_[0].state):
                if state is State.ENDED:
                    open_[0].fail(RunInterrupted("It was interrupted."))
                else:
                    open_[0].enter(state)
        case ("show", section, number, name, value):
            board.show(section, {"kind": "values", "rows": [number]}, {name: value})
        case ("span", name):
            board.add_spans([{"client": name, "what": "train", "from": 0.0, "to": fixture.now}])
        case ("command", command):
            board.event(events.Commanded(command, "3" if command.startswith("set") else "", round=2), fixture.now)
        case ("many", name, count):
            for number in range(count):
                board.point(name, "loss", "training", "batch", float(number), math.sin(number))
        case ("flush",):
            fixture.flush()


@given(st.lists(ACTIONS, max_size=60))
def test_a_page_that_was_opened_at_any_time_and_reads_now_and_then_misses_nothing(
    actions: list[tuple[Any, ...]],
) -> None:
    fixture = BoardFixture()
    fixture.flush()
    readers: list[Reader] = [Reader(fixture.board)]
    for action in actions:
        act(fixture, action)
        if action[0] == "read":
            readers[action[1] % len(readers)].reads()
        if action[0] in ("flush", "state"):
            readers.append(Reader(fixture.board, VIEWER if len(readers) % 2 else TEACHER))
    fixture.flush()
    for reader in readers:
        reader.reads()
        assert reader.state == json.loads(fixture.board.encoded(None, reader.role))


def test_a_delta_has_only_what_has_changed() -> None:
    fixture = BoardFixture()
    for name in NAMES:
        fixture.join(name)
    fixture.submit().enter(State.STARTING)
    fixture.board.point("lab-1", "loss", "training", "epoch", 1.0, 0.5)
    fixture.flush()
    seq = fixture.board.seq
    assert not fixture.flush(), "nothing has happened"
    assert fixture.board.delta(seq, TEACHER) == {"seq": seq}
    fixture.roster.progress("lab-2", Progress("run", "shard-1", 1, 3, 2, 4, 0.5, 10.0), fixture.now)
    fixture.board.point("lab-1", "loss", "training", "epoch", 2.0, 0.25)
    fixture.flush()
    delta = fixture.board.delta(seq, TEACHER)
    assert delta.keys() == {"seq", "clients", "append"}
    assert list(delta["clients"]) == ["lab-2"]
    assert delta["append"] == {"lab-1|0|loss|training|epoch": {"points": [(2.0, 0.25)]}}


@pytest.mark.parametrize("since", [-1, 0, 10_000])
def test_who_has_a_version_that_never_was_gets_everything(since: int) -> None:
    fixture = BoardFixture()
    fixture.flush()
    assert fixture.board.delta(since, TEACHER)["snapshot"] == fixture.board.snapshot(TEACHER)


def test_a_new_run_drops_what_belongs_to_the_last_one() -> None:
    fixture = BoardFixture()
    fixture.join("lab-1")
    first, second = fixture.submit(), fixture.submit()
    first.enter(State.STARTING)
    fixture.board.point("lab-1", "loss", "training", "epoch", 1.0, 0.5)
    fixture.board.show("samples", {"rows": []}, {"": 1})
    reader = Reader(fixture.board)
    first.fail(RunInterrupted("It was withdrawn."))
    assert fixture.snapshot()["run"]["error"] == "It was withdrawn."
    assert fixture.snapshot()["series"], "a run that is over stays until the next one"
    second.enter(State.STARTING)
    snapshot = fixture.snapshot()
    assert (snapshot["series"], snapshot["samples"], snapshot["run"]["error"]) == ({}, None, "")
    reader.reads()
    assert reader.state == json.loads(fixture.board.encoded(None, TEACHER))


def test_only_the_teacher_is_shown_the_passphrase_and_the_link_for_the_class() -> None:
    fixture = BoardFixture({"name": "lab", "passphrase": "four words of it", "class_link": "https://here/?token=x"})
    fixture.flush()
    assert "four words" in json.dumps(fixture.board.snapshot(TEACHER))
    for text in (json.dumps(fixture.board.snapshot(VIEWER)), json.dumps(fixture.board.delta(-1, VIEWER))):
        assert "four words" not in text
        assert "token=x" not in text
    seq = fixture.board.seq
    fixture.board.update("server", passphrase="another one")
    fixture.flush()
    assert "another one" not in json.dumps(fixture.board.delta(seq, VIEWER))
    assert fixture.board.delta(seq, TEACHER)["set"]["server"]["passphrase"] == "another one"


# --- curves ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000), st.integers(8, 200))
def test_a_thinned_curve_is_small_and_has_its_ends_and_its_extremes(values: list[float], most: int) -> None:
    series = Series({}, 0)
    for x, y in enumerate(values):
        series.add(float(x), y, x, most)
        assert len(series) <= most
    points = series.points()
    assert points == sorted(points)
    assert set(points) <= {(float(x), y) for x, y in enumerate(values)}
    assert (points[0], points[-1]) == ((0.0, values[0]), (len(values) - 1.0, values[-1]))
    assert min(y for _, y in points) == min(values)
    assert max(y for _, y in points) == max(values)


def test_a_thinned_curve_is_equally_dense_everywhere() -> None:
    series = Series({}, 0)
    for x in range(50_000):
        series.add(float(x), math.sin(x * x), x, MOST_POINTS)
    tenths = [0] * 10
    for x, _ in series.points():
        tenths[int(x // 5000)] += 1
    assert min(tenths[:9]) >= 0.5 * max(tenths[:9]), tenths


def test_a_task_that_is_tried_again_starts_its_curve_again_from_there() -> None:
    series = Series({}, 0)
    for x, y in [(1.0, 5.0), (2.0, 4.0), (3.0, 3.0), (2.0, 9.0)]:
        series.add(x, y, 1, 100)
    assert series.points() == [(1.0, 5.0), (2.0, 9.0)]


def test_the_mean_of_an_epoch_is_final_when_all_that_train_so_long_have_it() -> None:
    means = Means(2)
    assert not list(means.add("a", 0, "loss", "training", 1.0, 2.0))
    assert list(means.add("b", 0, "loss", "training", 1.0, 4.0)) == [("loss", "training", "epoch", 1.0, 3.0)]
    assert not list(means.add("a", 0, "loss", "training", 2.0, 1.0))
    assert not list(means.add("a", 0, "loss", "training", 1.0, 7.0)), "what is trained again counts once"
    assert list(means.done("b", 0)) == [("loss", "training", "epoch", 2.0, 1.0)], "it has stopped early"
    assert list(means.add("a", 0, "loss", "training", 3.0, 0.5)) == [("loss", "training", "epoch", 3.0, 0.5)]
    list(means.add("a", 0, "loss", "validation", 9.0, 8.0))
    assert list(means.rest()) == []


def test_two_hundred_clients_and_ten_thousand_points_each_stay_small() -> None:
    fixture = BoardFixture()
    for client in range(200):
        for x in range(10_000):
            if x % 50 == client % 50:
                fixture.board.point(f"lab-{client}", "loss", "training", "batch", float(x), 1 / (x + 1))
    for x in range(10_000):
        fixture.board.point("lab-0", "loss", "validation", "batch", float(x), 1 / (x + 1))
    for number in range(30_000):
        fixture.board.add_spans([{"client": "lab-1", "what": "wait", "from": number, "to": number}])
        fixture.board.on_log(f"line {number}")
    snapshot = fixture.snapshot()
    assert max(len(each["points"]) for each in snapshot["series"].values()) <= MOST_POINTS
    assert (len(snapshot["timeline"]), len(snapshot["log"])) == (MOST_SPANS, MOST_LINES)


# --- words ------------------------------------------------------------------------------------------------------


def test_a_tile_says_in_words_what_its_client_waits_for() -> None:
    fixture = BoardFixture()
    for name in NAMES:
        fixture.join(name)
    assert fixture.snapshot()["clients"]["lab-1"]["says"] == "waits for a run to start"
    handle = fixture.submit()
    handle.enter(State.STARTING)
    assert fixture.snapshot()["clients"]["lab-1"]["says"] == "waits for the other clients"
    handle.enter(State.RUNNING)
    held = {"lab-2": Held("lab-10"), "lab-10": Held()}
    fixture.board.facts(Facts("run-1", 1, 4, 2, 3, held=held, at_work=frozenset(held)))
    fixture.roster.progress("lab-2", Progress("run-1", "shard-3", 2, 5, 7, 10, 0.5, 100.0), fixture.now)
    fixture.roster.leave("lab-10", "lost", fixture.now)
    fixture.board.event(events.ClientLeft("lab-10", "the link ended", lost=True, task="shard-3", deadline=300.0), 0.0)
    clients = fixture.snapshot()["clients"]
    assert clients["lab-1"]["says"] == "waits for lab-10, lab-2 to finish round 2"
    assert clients["lab-2"]["says"] == "trains the shard of lab-10"
    assert (clients["lab-2"]["epoch"], clients["lab-2"]["batch"], clients["lab-2"]["batches"]) == (2, 7, 10)
    assert clients["lab-10"]["state"] == "lost"
    assert "waiting 300 s more for it (--deadline)" in clients["lab-10"]["says"]
    fixture.board.event(events.ClientJoined("lab-10", "here", "jax", came=True), 1.0)
    fixture.join("lab-10")
    assert fixture.snapshot()["clients"]["lab-10"]["says"] == "has a task and is about to start it"
    fixture.roster.progress("lab-2", Progress("run-1", "shard-3", 2, 5, 7, 10, 0.5, 0.0, "paused"), fixture.now)
    paused = fixture.snapshot()["clients"]["lab-2"]
    assert (paused["state"], paused["says"], paused["batch"]) == ("waiting", "the operator paused the run", 7)
    for trainers, reply_to in ((1, "waits for the trainer"), (3, "waits for one of the 3 trainers")):
        fixture.roster["lab-10"].queued_for = trainers
        assert fixture.snapshot()["clients"]["lab-10"]["says"] == reply_to


def test_a_simulated_client_says_that_it_waits_for_a_trainer(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = Behaviour.of(tmp_path / "behaviour", monkeypatch)
    behaviour.wait_at(1)
    board = Board(lambda: place.host.cluster.roster.members(), {})
    place.watchers.append(board)

    def reply_to() -> dict[str, str]:
        board.flush(0.0)
        return {tile["says"]: tile["state"] for tile in board.snapshot(TEACHER)["clients"].values() if tile["task"]}

    async def script() -> None:
        async with place.simulation() as session:
            handle = await session.submit(place.request(epochs=2))
            while len(found := reply_to()) < 2 or "training" not in found.values():
                await asyncio.sleep(0.002)
            assert found == {"": "training", "waits for the trainer": "waiting"}
            behaviour.go_on()
            await handle.ended()

    run_script(script())


def test_the_lobby_says_who_is_missing_and_whether_the_run_can_start() -> None:
    fixture = BoardFixture()
    fixture.join("lab-10")
    fixture.join("lab-2")
    handle = fixture.submit(clients=5)
    handle.enter(State.STARTING)
    fixture.board.waiting("Waiting for 3 more clients.")
    assert fixture.snapshot()["lobby"] == {
        "wanted": 5,
        "joined": ["lab-2", "lab-10"],
        "missing": 3,
        "waiting_for": "Waiting for 3 more clients.",
        "can_start_now": True,
    }
    handle.request = replace(handle.request, enter_starts=False)
    assert not fixture.snapshot()["lobby"]["can_start_now"]


def test_the_training_status_is_flat() -> None:
    fixture = BoardFixture()
    assert training_status(fixture.snapshot())["state"] == "idle"
    fixture.join("lab-1")
    handle = fixture.submit(method="federated", rounds=3, epochs=2)
    handle.enter(State.STARTING)
    assert training_status(fixture.snapshot())["state"] == "starting"
    handle.enter(State.RUNNING)
    fixture.board.facts(Facts("run-1", 0, 3, 1, 3, held={"lab-1": Held()}, at_work=frozenset({"lab-1"})))
    fixture.roster.progress("lab-1", Progress("run-1", "shard-1", 2, 2, 5, 10, 0.5, 100.0), fixture.now)
    fixture.board.event(events.RoundCompleted(1, 3, 1, 1.0, {"loss": 0.25, "accuracy": 0.5}), 0.0)
    status = training_status(fixture.snapshot())
    wanted = {"state": "running", "round": 1, "rounds": 3, "epoch": 2, "epochs": 2, "batch": 5, "batches": 10}
    wanted |= {"loss": 0.25, "accuracy": 0.5}
    assert {key: status[key] for key in wanted} == wanted
    assert status["clients"][0]["samples_per_second"] == 100.0
    fixture.board.event(events.Commanded("pause"), 0.0)
    assert training_status(fixture.snapshot())["state"] == "paused"
    handle.fail(ValueError("the disk is full"))
    status = training_status(fixture.snapshot())
    assert (status["state"], status["error"], status["epoch"]) == ("failed", "the disk is full", None)


# --- real runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{"epochs": 3}, {"method": "federated", "rounds": 3}, {"method": "kfold", "folds": 2}]
)
def test_a_run_is_followed_from_its_request_to_its_end(place: Place, values: dict[str, Any]) -> None:
    boards: list[Board] = []

    class Late(Board):
        """A board whose host is made after it."""

        def __init__(self) -> None:
            super().__init__(lambda: place.host.cluster.roster.members() if place.host else [], {"name": "lab"})
            boards.append(self)

    place.watchers.append(Late())

    async def script() -> None:
        async with place.simulation() as session:
            [board] = boards
            board.flush(0.0)
            reader = Reader(board)
            handle = await session.submit(place.request(**values))
            summary = await handle.ended()
            board.flush(1.0)
            reader.reads()
            state = reader.state
            assert state == json.loads(board.encoded(None, TEACHER))
            run = state["run"]
            assert (run["run"], run["state"], run["status"], run["progress"]) == (summary.run, "ended", "done", 1.0)
            assert run["metrics"] == dict(summary.final.metrics if summary.final else {})
            assert run["model"]["parameters"] == summary.model.parameters
            assert run["job"]["clients"] == 2
            owners = {each.name for each in summary.clients}
            assert set(state["clients"]) >= owners
            assert {each["client"] for each in state["series"].values()} == {*owners, ""}
            for client in summary.clients:
                for name, history in client.history.items():
                    if not client.folds and not summary.rounds and not name.startswith("val_"):
                        key = f"{client.name}|0|{name}|training|epoch"
                        assert [y for _, y in state["series"][key]["points"]] == pytest.approx(history)
            assert any("Reading the data" in line["text"] for line in state["log"]), state["log"]
            assert state["queue"] == []

    run_script(script())


def test_a_run_that_is_resumed_has_the_curves_of_before(place: Place) -> None:
    """Under another server, whose board has seen nothing of it."""
    whole = Board(list, {"name": "lab"})
    place.watchers.append(whole)

    async def script() -> None:
        rounds = RoundChannel()
        async with place.simulation() as session:
            request = place.request(method="federated", rounds=3, epochs=2, channel=rounds)
            handle = await session.submit(request)
            await rounds.next()
            session.interrupt(handle)
            rounds.close()
            run = (await handle.ended()).run
            job = job_of_run(place.workspace, run)
        seen = {key: [x for x, _ in each["points"]] for key, each in whole.snapshot(TEACHER)["series"].items()}
        assert seen["|0|loss|training|round"] == [1.0]
        again = Board(list, {"name": "lab"}, began=[earlier.began])
        place.watchers[:] = [again]
        async with place.simulation() as session:
            summary = await (await session.submit(RunRequest(job, None, resumes=run))).ended()
            assert summary.status == "done"
        series = again.snapshot(TEACHER)["series"]
        assert [x for x, _ in series["|0|loss|training|round"]["points"]] == [1.0, 2.0, 3.0]
        for client in summary.clients:
            points = series[f"{client.name}|0|loss|training|epoch"]["points"]
            assert [x for x, _ in points] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    run_script(script())


def test_a_history_that_can_not_be_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    assert list(earlier.epochs_of(path, "lab-1", 2, 0)) == []
    path.write_text("epoch,loss,val_loss\n0,1.5,\n1,high,2\n2,1,1\n")
    assert [event.metrics for event in earlier.epochs_of(path, "lab-1", 2, 0)] == [{"loss": 1.5}]
    path.write_bytes(b"\xff\xfe\x00")
    assert list(earlier.epochs_of(path, "lab-1", 2, 0)) == []
    path.write_text(
        '{"event": "round"}\n[]\n{"event": "round", "round": 1, "rounds": 2, "clients": 3, "seconds": 4}\n{'
    )
    assert [event.round for event in earlier.rounds_of(path)] == [1]


def test_only_figures_of_an_earlier_round_become_points(tmp_path: Path) -> None:
    figures = {"loss": 0.5}
    completed = events.RoundCompleted(
        1, 2, 2, 1.0, figures, {"lab-2": "late"}, {"loss": 0.5}, {"aggregate": 0.1, "evaluate": 0.2}
    )
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"time": 1.0, **events.facts_of(completed)}) + "\n")
    (found,) = earlier.rounds_of(path)
    assert found.figures == figures


def test_the_tile_of_a_stopped_client_says_so_while_it_ends_its_epoch() -> None:
    fixture = BoardFixture()
    fixture.join("lab-1")
    handle = fixture.submit()
    handle.enter(State.STARTING)
    handle.enter(State.RUNNING)
    fixture.board.facts(Facts("run-1", 0, 2, held={"lab-1": Held()}, at_work=frozenset({"lab-1"})))
    fixture.roster.progress("lab-1", Progress("run-1", "shard-1", 2, 5, 7, 10, 0.5, 100.0), fixture.now)
    tile = fixture.snapshot()["clients"]["lab-1"]
    assert (tile["state"], tile["rate"]) == ("training", 100.0)
    fixture.board.event(events.ClientLeft("lab-1", "it was stopped by the operator", task="shard-1"), 0.0)
    fixture.board.facts(Facts("run-1", 0, 2))
    tile = fixture.snapshot()["clients"]["lab-1"]
    assert (tile["state"], tile["rate"]) == ("waiting", None)
    assert "stopped by the operator" in tile["says"]


def layer(kind: str, shape: list[int | None] | None, **config: Any) -> dict[str, Any]:
    built = {} if shape is None else {"build_config": {"input_shape": shape}}
    return {"class_name": kind, "config": {"name": kind.lower(), **config}, **built}


def test_the_layers_of_a_model_have_their_shapes_and_parameters() -> None:
    conv = {"strides": [1, 1], "dilation_rate": [1, 1], "data_format": "channels_last", "filters": 32}
    layers = [
        layer("InputLayer", None, batch_shape=[None, 8, 8, 1]),
        layer("Conv2D", [None, 8, 8, 1], kernel_size=[3, 3], padding="valid", **conv),
        layer("MaxPooling2D", None),
        layer("Flatten", [None, 3, 3, 32]),
        layer("Dense", [None, 288]),
    ]
    weights = [ArraySpec("conv2d/kernel", "float32", (3, 3, 1, 32)), ArraySpec("conv2d/bias", "float32", (32,))]
    weights.append(ArraySpec("dense/kernel", "float32", (288, 10)))
    found = layers_of(json.dumps({"config": {"layers": layers}}), weights, (None, 10))
    shapes = [[None, 8, 8, 1], [None, 6, 6, 32], [None, 3, 3, 32], [None, 288], [None, 10]]
    assert [each["output_shape"] for each in found] == shapes
    assert [each["parameters"] for each in found] == [0, 320, 0, 0, 2880]
    for broken in ("", "[]", "{}", '{"config": {"layers": 3}}', '{"config": {"layers": [{}]}}'):
        assert len(layers_of(broken, [], (None, 1))) <= 1


def test_the_learning_rate_of_a_model_is_known_unless_a_schedule_changes_it() -> None:
    for rate, found in ((0.01, 0.01), (1, 1.0), ({"class_name": "ExponentialDecay"}, None), (None, None)):
        assert rate_of(json.dumps({"optimizer": {"class_name": "SGD", "config": {"learning_rate": rate}}})) == found
    assert rate_of("{}") is None


def test_the_learning_rate_of_each_round_is_a_curve_live_and_afterwards(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(list, {"name": "lab"})
    place.watchers.append(board)
    key = "|0|learning_rate|training|round"
    optimizer = {"class_name": "SGD", "config": {"learning_rate": 0.5}}
    answer, spec = place.models._answer, CompileSpec(optimizer, "mse").to_json()
    compiled = lambda request: Compiled(spec, "mean_squared_error") if isinstance(request, Compile) else answer(request)  # noqa: E731
    monkeypatch.setattr(place.models, "_answer", compiled)

    async def script() -> None:
        async with place.simulation() as session:
            values = {"rounds": 3, "changes": ("2:learning_rate=0.25",)}
            summary = await (await session.submit(place.request(method="federated", **values))).ended()
            found = [(1.0, 0.5), (2.0, 0.25), (3.0, 0.25)]
            assert board.snapshot(TEACHER)["series"][key]["points"] == found
            past = view_of_run(place.workspace, summary.run)
            for run in (board.snapshot(TEACHER)["run"], past["run"]):
                assert run["learning_rate"] == 0.25
                assert run["changes"] == [{"setting": "learning_rate", "value": "0.25", "from": "2"}]
            assert list(map(tuple, past["series"][key]["points"])) == found
            board.event(events.Commanded("set learning_rate", "0.125", 5), 0.0)
            for number in (4, 5):
                board.round(events.RoundCompleted(number, 5, 2, 1.0, {"loss": 1.0}))
            assert board.snapshot(TEACHER)["series"][key]["points"] == [*found, (4.0, 0.25), (5.0, 0.125)]

    run_script(script())


def test_who_leaves_when_all_is_done_is_not_lost() -> None:
    fixture = BoardFixture()
    fixture.join("lab-1")
    handle = fixture.submit()
    handle.enter(State.STARTING)
    handle.enter(State.RUNNING)
    fixture.board.facts(Facts("run-1", 1, 2, held={"lab-1": Held()}, at_work=frozenset({"lab-1"})))
    fixture.roster.leave("lab-1", "lost", fixture.now)
    assert fixture.snapshot()["clients"]["lab-1"]["state"] == "lost"
    fixture.board.facts(Facts("run-1", 2, 2))
    assert fixture.snapshot()["clients"]["lab-1"]["state"] == "done"
    handle.fail(RunInterrupted())
    assert fixture.snapshot()["clients"]["lab-1"]["state"] == "done"
    fixture.submit().enter(State.STARTING)
    assert fixture.snapshot()["clients"]["lab-1"]["state"] == "lost"
