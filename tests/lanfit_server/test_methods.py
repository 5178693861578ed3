"""Methods: which tasks there are, and whose model is whose; the order of results makes no difference."""

from __future__ import annotations

import itertools
import math

import pytest

from lanfit.errors import InputError
from lanfit.fields import Value
from lanfit.job import make_job
from lanfit_server.methods import Method
from lanfit_server.methods.choose import check_evaluation, method_of
from lanfit_server.methods.kfold import kfold


def job_method(**values: Value) -> Method:
    return method_of(make_job(values))


def test_k_fold_has_a_task_for_each_shard_and_fold_and_a_seed_of_its_own_for_each() -> None:
    tasks = kfold(3, 4, seed=5).start()
    assert {(task.shard, task.fold) for task in tasks} == set(itertools.product(range(3), range(1, 5)))
    assert len({task.key for task in tasks}) == len({task.seed for task in tasks}) == 12
    assert next(task for task in tasks if task.shard == 1 and task.fold == 3).key == "shard-2-fold-3"


def test_the_seed_of_a_fold_depends_on_nothing_but_the_runs_seed_the_shard_and_the_fold() -> None:
    seeds = {(task.shard, task.fold): task.seed for task in kfold(2, 3, seed=5).start()}
    more = {(task.shard, task.fold): task.seed for task in kfold(4, 5, seed=5).start()}
    assert all(more[key] == seed for key, seed in seeds.items())
    assert all(task.seed != seeds[task.shard, task.fold] for task in kfold(2, 3, seed=6).start())


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_best_fold_is_its_clients_model_and_the_best_of_these_the_outcome(order: tuple[int, ...]) -> None:
    method = kfold(2, 2, seed=0)
    tasks = method.start()
    losses = {"shard-1-fold-1": 0.5, "shard-1-fold-2": 0.3, "shard-2-fold-1": 0.4, "shard-2-fold-2": math.nan}
    for index in order:
        assert method.on_result(tasks[index], losses[tasks[index].key]) == ()
    outcome = method.finish()
    assert {shard: task.key for shard, task in outcome.by_shard.items()} == {0: "shard-1-fold-2", 1: "shard-2-fold-1"}
    assert outcome.best is not None
    assert outcome.best.key == "shard-1-fold-2"


def test_where_models_are_judged_again_that_decides_between_clients_and_not_between_folds() -> None:
    method = kfold(2, 2, seed=0)
    tasks = {task.key: task for task in method.start()}
    for key, loss in (("shard-1-fold-1", 0.1), ("shard-1-fold-2", 0.3), ("shard-2-fold-1", 0.2)):
        method.on_result(tasks[key], loss)
    method.judge(tasks["shard-1-fold-1"], 0.9)
    method.judge(tasks["shard-2-fold-1"], 0.8)
    outcome = method.finish()
    assert outcome.best == tasks["shard-2-fold-1"]
    assert outcome.by_shard[0] == tasks["shard-1-fold-1"]


def test_no_result_no_outcome() -> None:
    outcome = job_method(method="kfold", folds=3).finish()
    assert outcome.best is None
    assert outcome.by_shard == {}


@pytest.mark.parametrize(("values", "tasks"), [({"method": "fit", "clients": 3}, 3), ({"method": "kfold"}, 20)])
def test_the_job_names_the_method(values: dict[str, Value], tasks: int) -> None:
    assert len(job_method(**values).start()) == tasks


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
