"""Settings that are changed while a run is in progress: from when they hold, and that job.toml repeats the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.fake_cluster import run_script
from fakes.steered import Models, Run, done, job_of

from lanfit.errors import InputError, LanfitError
from lanfit.models.compiling import unchecked_spec
from lanfit.settings.changes import Changes
from lanfit.settings.fields import read_file
from lanfit.settings.job import FIELDS, Job, make_job
from lanfit.wire.messages import Adjustment, FitTask
from lanfit_server.api.cluster import Cluster
from lanfit_server.api.service_messages import Finished, Notice, Steer
from lanfit_server.methods.changes import checked, read_change, unchangeable
from lanfit_server.methods.independent import Independent, fit_tasks
from lanfit_server.models.handle import Done, Metrics, UseData, UseModel, WriteFinal
from lanfit_server.run.instructions import Change, Stop
from lanfit_server.run.tasks import TaskTable
from lanfit_server.start.finalize import Finalizer


@pytest.fixture(autouse=True)
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*what: object) -> None:
        pass

    monkeypatch.setattr("lanfit_server.methods.independent_workshop.draw_chart", nothing)


def rate(task: FitTask) -> float:
    optimizer = unchecked_spec(task.model.compile).optimizer
    assert optimizer is not None
    return float(optimizer["config"]["learning_rate"])


def written(run: Run) -> Job:
    return make_job(read_file(run.job_file(), "job file", FIELDS))


def rounds(run: Run, of: str = "epochs") -> list[float]:
    """By round, what its tasks were sent with."""
    tasks = [run.leased[f"round-{number}-shard-1"] for number in range(1, 5)]
    return [rate(task) if of == "rate" else getattr(task, of) for task in tasks]


FEDERATED = job_of("federated", rounds=4)
KFOLD = job_of("kfold", folds=3)


def test_a_changed_learning_rate_holds_from_the_next_round_on_and_job_toml_repeats_the_run_to_the_bit(
    tmp_path: Path,
) -> None:
    changes = {"round-2-shard-1": Change("learning_rate", 0.01)}
    steered = run_script(done(tmp_path / "steered", FEDERATED, changes))
    assert rounds(steered, "rate") == [0.05, 0.05, 0.01, 0.01]
    [event] = steered.commands
    assert (event.command, event.value, event.round) == ("set learning_rate", "0.01", 3)
    assert "learning_rate is now 0.01 from round 3 on." in steered.output.lines
    assert written(steered).changes == ("3:learning_rate=0.01",)
    usual = run_script(done(tmp_path / "usual", FEDERATED))
    assert usual.weights()[:2] == steered.weights()[:2]
    assert usual.weights()[2] != steered.weights()[2]
    repeated = run_script(done(tmp_path / "repeated", written(steered)))
    assert repeated.weights() == steered.weights()


def test_changed_epochs_hold_from_the_next_round_on_and_schedules_continue_where_these_rounds_end(
    tmp_path: Path,
) -> None:
    """More epochs than the job had: results of so many are taken, too."""
    changes = {"round-1-shard-2": Change("epochs", 5), "round-3-shard-1": Change("epochs", 1)}
    steered = run_script(done(tmp_path / "steered", FEDERATED, changes))
    assert rounds(steered) == [2, 5, 5, 1]
    assert rounds(steered, "first_step") == [3 * epochs for epochs in (0, 2, 7, 12)]
    assert written(steered).changes == ("2:epochs=5", "4:epochs=1")
    repeated = run_script(done(tmp_path / "repeated", written(steered)))
    assert repeated.weights() == steered.weights()
    assert rounds(repeated, "first_step") == rounds(steered, "first_step")


def test_a_change_holds_for_folds_in_progress_from_their_next_epoch_and_for_others_from_their_start(
    tmp_path: Path,
) -> None:
    changes = {"shard-1-fold-1": Change("learning_rate", 0.2), "shard-1-fold-2": Change("epochs", 7)}
    steered = run_script(done(tmp_path / "steered", KFOLD, changes))
    had = {key: (rate(task), task.epochs) for key, task in steered.leased.items()}
    assert had["shard-1-fold-1"] == had["shard-2-fold-1"] == (0.05, 2)
    assert had["shard-1-fold-2"] == had["shard-2-fold-2"] == (0.2, 2)
    assert (had["shard-1-fold-3"], had["shard-2-fold-3"]) == ((0.2, 7), (0.2, 2)), "lab-2 was ahead"
    first, second = steered.commands
    assert first.begun == ("shard-1-fold-1", "shard-2-fold-1")
    assert first.tasks == ("shard-1-fold-2", "shard-2-fold-2", "shard-1-fold-3", "shard-2-fold-3")
    assert (second.begun, second.tasks) == (("shard-1-fold-2", "shard-2-fold-3"), ("shard-1-fold-3",))
    assert (
        "epochs is now 7 for 2 tasks from the next epoch on and for 1 task that no client has received yet."
        in steered.output.lines
    )
    # The clients of the other tasks had trained them before the change arrived.
    assert {"shard-1-fold-1@2:learning_rate=0.2", "shard-1-fold-2:epochs=7"} <= set(written(steered).changes or ())
    assert not any(each.startswith(("shard-2-fold-1", "shard-2-fold-3:e")) for each in written(steered).changes or ())
    repeated = run_script(done(tmp_path / "repeated", written(steered)))
    assert repeated.leased["shard-1-fold-1"].rates == ((2, 0.2),)
    assert repeated.leased["shard-1-fold-2"].epochs == 7
    assert repeated.weights() == steered.weights()
    assert written(repeated).changes == written(steered).changes
    assert run_script(done(tmp_path / "usual", KFOLD)).weights() != steered.weights()


def test_a_fit_is_changed_from_its_next_epoch_on_and_job_toml_repeats_it_to_the_bit(tmp_path: Path) -> None:
    fit = job_of("fit", epochs=4)
    steered = run_script(done(tmp_path / "steered", fit, {"shard-2": Change("learning_rate", 0.5)}))
    assert steered.cluster.adjusted == {"shard-2": Adjustment(learning_rate=0.5)}
    assert written(steered).changes == ("shard-2@2:learning_rate=0.5",)
    usual = run_script(done(tmp_path / "usual", fit))
    assert usual.weights()[0] == steered.weights()[0]
    assert usual.weights()[1] != steered.weights()[1]
    assert run_script(done(tmp_path / "repeated", written(steered))).weights() == steered.weights()


@pytest.mark.parametrize(("wanted", "trained"), [(6, 6), (1, 1), (4, 4)], ids=["more", "fewer", "as before"])
def test_the_epochs_of_a_fit_can_be_changed_while_it_continues(wanted: int, trained: int, tmp_path: Path) -> None:
    fit = job_of("fit", epochs=4)
    steered = run_script(done(tmp_path / "steered", fit, {"shard-2": Change("epochs", wanted)}))
    first, second = steered.run.ledger.results()
    assert len(steered.run.history(first)["loss"]) == 4
    assert len(steered.run.history(second)["loss"]) == trained
    assert written(steered).changes == (None if wanted == 4 else (f"shard-2:epochs={trained}",))
    assert run_script(done(tmp_path / "repeated", written(steered))).weights() == steered.weights()


def test_a_server_that_dies_before_it_records_how_a_task_was_trained_does_so_when_it_resumes(tmp_path: Path) -> None:
    """The result in the ledger says it."""
    changes = {"shard-1-fold-1": Change("learning_rate", 0.2)}
    killed = run_script(done(tmp_path, KFOLD, changes, dies_at="shard-2-fold-3"))
    entries = tuple(each for each in written(killed).changes or () if "@" not in each)
    assert len(entries) < len(written(killed).changes or ())
    killed.run.change_job({"changes": entries})
    killed.run.ledger.close()
    resumed = run_script(done(tmp_path))
    assert "shard-1-fold-1@2:learning_rate=0.2" in (written(resumed).changes or ())


class AllModels(Models):
    """Stands for a model process that also makes the final model."""

    async def ask(self, request: Any, answer: type) -> Any:
        if isinstance(request, UseModel | UseData):
            return Done()
        if isinstance(request, WriteFinal):
            Path(request.path).touch()
            return Metrics({"loss": 1.0})
        return await super().ask(request, answer)


def test_a_server_that_only_finalizes_a_run_records_how_its_tasks_were_trained(tmp_path: Path) -> None:
    changes = {"shard-1-fold-1": Change("learning_rate", 0.2)}
    killed = run_script(done(tmp_path, KFOLD, changes, dies_at="shard-2-fold-3"))
    entries = tuple(each for each in written(killed).changes or () if "@" not in each)
    killed.run.change_job({"changes": entries})
    models: Any = AllModels()
    finalizer = Finalizer(killed.place, models, tmp_path / "again", lambda line: None)
    summary = asyncio.run(finalizer.run(killed.run, killed.cluster.roster))
    assert summary is not None
    assert summary.status == "partial"
    assert "shard-1-fold-1@2:learning_rate=0.2" in (written(killed).changes or ())


@pytest.mark.parametrize("job", [FEDERATED, KFOLD], ids=["federated", "kfold"])
def test_a_steered_run_that_is_resumed_keeps_its_changes(job: Job, tmp_path: Path) -> None:
    at, dies = ("round-2-shard-1", "round-3-shard-2") if job is FEDERATED else ("shard-2-fold-1", "shard-1-fold-3")
    steered = run_script(done(tmp_path / "whole", job, {at: Change("epochs", 6)}))
    killed = run_script(done(tmp_path / "killed", job, {at: Change("epochs", 6)}, dies_at=dies))
    # The server dies between its ledger and the file: the ledger is what counts.
    killed.job_file().write_text("")
    killed.run.ledger.close()
    resumed = run_script(done(tmp_path / "killed"))
    assert resumed.leased
    assert {task.epochs for task in resumed.leased.values()} == {6}
    assert resumed.weights() == steered.weights()


def test_a_change_of_rounds_is_kept_by_a_server_that_resumes_the_run(tmp_path: Path) -> None:
    changes = {"round-1-shard-1": Change("rounds", 3)}
    killed = run_script(done(tmp_path, FEDERATED, changes, dies_at="round-2-shard-1"))
    killed.run.ledger.close()
    resumed = run_script(done(tmp_path))
    assert len(resumed.weights()) == 3
    assert written(resumed).rounds == 3


def test_a_change_that_nothing_is_left_for_is_refused_and_nothing_is_recorded(tmp_path: Path) -> None:
    run = run_script(done(tmp_path, FEDERATED, {"round-4-shard-1": Change("learning_rate", 0.01)}))
    [refused] = run.cluster.refused
    assert isinstance(refused, LanfitError)
    assert refused.code == "command.no-round-left"
    assert written(run) == FEDERATED
    assert run.commands == []


def test_when_all_tasks_are_over_no_setting_can_be_changed() -> None:
    table = TaskTable()
    method = Independent(fit_tasks(1, 0), table)
    for task in fit_tasks(1, 0):
        table.add(task, "lab-1")
    table.assign(["lab-1"], 0.0)
    table.commit("shard-1", "lab-1")
    with pytest.raises(InputError) as refused:
        method.on_change(Change("epochs", 3))
    assert refused.value.code == "command.no-task-left"


def test_a_run_that_the_operator_stops_is_repeated_up_to_the_same_round(tmp_path: Path) -> None:
    stopped = run_script(done(tmp_path / "stopped", FEDERATED, {"round-3-shard-1": Stop()}))
    assert len(stopped.weights()) == 2
    assert written(stopped).rounds == 2
    repeated = run_script(done(tmp_path / "repeated", written(stopped)))
    assert repeated.weights() == stopped.weights()


def test_a_server_that_was_interrupted_resumes_all_rounds(tmp_path: Path) -> None:
    stopped = run_script(done(tmp_path, FEDERATED, {"round-3-shard-1": Stop(waiting=False)}))
    assert written(stopped).rounds == 4


def test_after_more_rounds_a_change_holds_for_them(tmp_path: Path) -> None:
    changes = {"round-4-shard-1": Change("rounds", 5), "round-4-shard-2": Change("learning_rate", 0.01)}
    run = run_script(done(tmp_path, FEDERATED, changes))
    assert rate(run.leased["round-5-shard-1"]) == 0.01
    assert written(run).changes == ("5:learning_rate=0.01",)


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        ("learning_rate", 0.0, "value.not-positive"),
        ("learning_rate", -1.0, "value.not-positive"),
        ("learning_rate", float("inf"), "value.not-positive"),
        ("learning_rate", float("nan"), "value.not-positive"),
        ("epochs", 0.0, "value.not-whole"),
        ("epochs", 1.5, "value.not-whole"),
        ("batch_size", 8.0, "command.not-of-method"),
        ("no_such_setting", 8.0, "command.not-of-method"),
    ],
)
def test_a_value_that_the_flag_would_refuse_is_refused_and_nothing_is_changed(
    setting: str, value: float, code: str, tmp_path: Path
) -> None:
    run = run_script(done(tmp_path, FEDERATED, {"round-1-shard-1": Change(setting, value)}))
    [refused] = run.cluster.refused
    assert isinstance(refused, LanfitError)
    assert refused.code == code
    assert written(run) == FEDERATED
    assert len(set(rounds(run, "rate"))) == len(set(rounds(run))) == 1


class Schedule:
    """Stands for a schedule of the learning rate."""


@pytest.mark.parametrize(
    "value", [Schedule(), True, None, "fast", [0.1]], ids=["schedule", "bool", "none", "text", "list"]
)
def test_only_numbers_are_learning_rates(value: object) -> None:
    with pytest.raises(InputError, match="learning_rate: "):
        read_change("learning_rate", value)


def test_what_a_run_has_no_number_for_can_not_be_changed_in_it() -> None:
    sgd = {"class_name": "SGD", "config": {"learning_rate": 0.1}}
    decaying = {"class_name": "SGD", "config": {"learning_rate": {"class_name": "ExponentialDecay", "config": {}}}}
    scaled = {"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": decaying}}
    assert unchangeable(None, sgd) == unchangeable(None, {"class_name": "Adam", "config": {}}) == {}
    for optimizer in (decaying, scaled, None):
        with pytest.raises(InputError) as refused:
            checked(Change("learning_rate", 0.1), "fit", unchangeable(None, optimizer))
        assert refused.value.code == ("command.rate-schedule" if optimizer else "command.no-learning-rate")
    with pytest.raises(InputError) as refused:
        checked(Change("epochs", 2), "federated", unchangeable(5, sgd))
    assert refused.value.code == "command.epochs-of-steps"


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("3", "value.no-change"),
        ("0:epochs=2", "value.no-change"),
        ("3:rounds=2", "value.no-change"),
        ("shard-1@2:epochs=3", "value.no-change"),
        ("shard-1@0:learning_rate=0.1", "value.no-change"),
        ("2@1:learning_rate=0.1", "value.no-change"),
        ("lab-1:epochs=2", "value.no-change"),
        ("3:epochs=0", "value.not-whole"),
        ("3:learning_rate=-1", "value.not-positive"),
    ],
)
def test_a_job_file_with_a_change_that_can_not_be_is_refused(entry: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        FIELDS["changes"].read([entry], "changes")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("method", "entry"),
    [
        ("federated", "shard-1:epochs=2"),
        ("fit", "2:epochs=2"),
        ("fit", "shard-1-fold-1:epochs=2"),
        ("kfold", "shard-1:epochs=2"),
    ],
)
def test_changes_of_another_method_are_refused(method: str, entry: str) -> None:
    with pytest.raises(InputError) as refused:
        job_of(method, changes=(entry,))
    assert refused.value.code == "job.changes-of-method"


def test_a_later_command_replaces_what_an_earlier_one_said_of_the_same_rounds() -> None:
    changes = Changes.of(["7:epochs=3", "2:epochs=5", "5:learning_rate=0.1"]).from_round(4, "epochs", 1)
    assert changes.listed() == ("2:epochs=5", "4:epochs=1", "5:learning_rate=0.1")
    assert [changes.of_round(number).epochs for number in (1, 2, 3, 4, 9)] == [None, 5, 5, 1, 1]
    assert changes.epochs_before(6, 2) == 2 + 5 + 5 + 1 + 1
    assert changes.most_epochs(2) == 5


def test_a_program_that_changes_nothing_or_what_can_not_be_is_reported() -> None:
    """Nothing is sent when one of several settings can't be changed."""
    sent: list[Steer] = []
    cluster: Any = object.__new__(Cluster)
    cluster._connection = SimpleNamespace(send=sent.append)
    cluster._following = None

    def refused(**given: Any) -> str:
        with pytest.raises(InputError) as wrong:
            cluster.change(**given)
        return wrong.value.code

    assert refused(epochs=2) == "cluster.no-run"
    cluster._following = SimpleNamespace(run="run-1", method="fit", unchangeable={}, expect=lambda rounds: None)
    assert refused() == "cluster.no-change"
    assert refused(epochs=2, learning_rate=0) == "value.not-positive"
    assert refused(epochs=2, learning_rate=Schedule()) == "value.not-positive"
    assert refused(epochs=2.5) == "value.not-whole"
    assert refused(epochs=2, rounds=5) == "command.not-of-method"
    assert sent == []
    cluster.change(epochs=2, learning_rate=0.001)
    assert sent == [Steer("change", "epochs", 2), Steer("change", "learning_rate", 0.001)]


def test_a_run_that_can_not_follow_a_command_warns_the_program_whatever_it_shows() -> None:
    cluster: Any = object.__new__(Cluster)
    reported: Any = iter(
        [
            Notice("Epochs is not changed. Start another run.", True),
            Notice("a detail"),
            Finished(b""),
        ]
    )
    cluster._connection = SimpleNamespace(send=lambda order: None, receive=lambda: next(reported), close=lambda: None)
    cluster._following = None
    shown: list[str] = []
    watcher: Any = SimpleNamespace(begin=lambda: None, interrupted=lambda workspace: None)
    cluster.workspace = None
    progress: Any = SimpleNamespace(detail=shown.append, note=shown.append)
    with pytest.warns(UserWarning, match="is not changed"), pytest.raises(ValueError, match="Expecting"):
        cluster._run(SimpleNamespace(follows_rounds=False), watcher, progress)
    assert shown == ["a detail"]
