"""Methods: which tasks there are, and whose model is whose; the order of results makes no difference."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest

from lanfit.errors import InputError
from lanfit.settings.fields import Value
from lanfit.settings.job import Job, make_job
from lanfit_server.clusters.events import Evaluated
from lanfit_server.methods.base import Task
from lanfit_server.methods.independent import EvaluateResult, Independent, fit_tasks, kfold_tasks
from lanfit_server.methods.registry import METHODS
from lanfit_server.run.instructions import Instruction
from lanfit_server.run.tasks import TaskTable


def kfold(shards: int, folds: int) -> tuple[Independent, dict[str, Task]]:
    tasks = kfold_tasks(shards, folds, seed=0)
    return Independent(tasks, TaskTable(), folds=folds), {task.key: task for task in tasks}


def evaluated(method: Independent, task: Task, loss: float) -> Sequence[Instruction]:
    """The model of a task's result has been evaluated."""
    return method.on_work_done(EvaluateResult(task, "lab-1"), {"loss": loss}, 0.0)


def test_k_fold_has_a_task_for_each_shard_and_fold_and_a_seed_of_its_own_for_each() -> None:
    tasks = kfold_tasks(3, 4, seed=5)
    assert {(task.shard, task.fold) for task in tasks} == set(itertools.product(range(3), range(1, 5)))
    assert len({task.key for task in tasks}) == len({task.seed for task in tasks}) == 12
    assert next(task for task in tasks if task.shard == 1 and task.fold == 3).key == "shard-2-fold-3"


def test_the_seed_of_a_fold_depends_on_nothing_but_the_runs_seed_the_shard_and_the_fold() -> None:
    seeds = {(task.shard, task.fold): task.seed for task in kfold_tasks(2, 3, seed=5)}
    more = {(task.shard, task.fold): task.seed for task in kfold_tasks(4, 5, seed=5)}
    assert all(more[key] == seed for key, seed in seeds.items())
    assert all(task.seed != seeds[task.shard, task.fold] for task in kfold_tasks(2, 3, seed=6))


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_best_fold_is_its_clients_model_and_the_best_of_these_the_outcome(order: tuple[int, ...]) -> None:
    method, tasks = kfold(2, 2)
    losses = {"shard-1-fold-1": 0.5, "shard-1-fold-2": 0.3, "shard-2-fold-1": 0.4, "shard-2-fold-2": math.nan}
    for index in order:
        task = list(tasks.values())[index]
        evaluated(method, task, losses[task.key])
    outcome = method.outcome()
    assert {shard: task.key for shard, task in outcome.by_shard.items()} == {0: "shard-1-fold-2", 1: "shard-2-fold-1"}
    assert outcome.best is not None
    assert outcome.best.key == "shard-1-fold-2"


def test_what_clients_measure_decides_between_clients_and_not_between_folds() -> None:
    method, tasks = kfold(2, 2)
    for key, loss in (("shard-1-fold-1", 0.1), ("shard-1-fold-2", 0.3), ("shard-2-fold-1", 0.2)):
        evaluated(method, tasks[key], loss)
    for key, loss in (("shard-1-fold-1", 0.9), ("shard-2-fold-1", 0.8)):
        method.on_evaluated(key, {"lab-1": Evaluated("lab-1", "run-1", key, 5, {"loss": loss})}, 0.0)
    outcome = method.outcome()
    assert outcome.best == tasks["shard-2-fold-1"]
    assert outcome.by_shard[0] == tasks["shard-1-fold-1"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_best_model_is_that_of_the_lowest_loss_in_whatever_order_results_come(order: tuple[int, ...]) -> None:
    tasks = fit_tasks(3, seed=5)
    method = Independent(tasks, TaskTable())
    for index in order:
        evaluated(method, tasks[index], [0.5, 0.2, math.nan][index])
    assert method.outcome().best == tasks[1]


def test_equal_losses_are_won_by_the_first_shard_and_nothing_by_nobody() -> None:
    first, second = tasks = fit_tasks(2, seed=0)
    method = Independent(tasks, TaskTable())
    assert method.outcome().best is None
    for task in (second, first):
        evaluated(method, task, 0.1)
    assert method.outcome().best == first


def test_no_result_no_outcome() -> None:
    outcome = kfold(10, 3)[0].outcome()
    assert outcome.best is None
    assert outcome.by_shard == {}


@pytest.mark.parametrize(
    ("values", "tasks"),
    [({"method": "fit", "clients": 3}, 3), ({"method": "kfold"}, 20), ({"method": "federated", "clients": 4}, 4)],
)
def test_the_job_names_the_method(values: dict[str, Value], tasks: int) -> None:
    job = make_job(values)
    assert len(METHODS[job.method].tasks(job)) == tasks


def check_evaluation(job: Job, validation: int, test: int) -> None:
    METHODS[job.method].check_evaluation(job, validation, test)


@pytest.mark.parametrize("values", [{"keep": "best"}, {"patience": 3}])
def test_rounds_that_are_to_be_compared_need_rows_to_compare_them_on(values: dict[str, Value]) -> None:
    job = make_job({"method": "federated", **values})
    with pytest.raises(InputError) as refused:
        check_evaluation(job, 0, 0)
    assert refused.value.code == "rounds.no-evaluation"
    check_evaluation(job, 1, 0)
    check_evaluation(job, 0, 1)
    check_evaluation(make_job({"method": "federated"}), 0, 0)
    check_evaluation(make_job({"method": "fit", **values}), 0, 0)
