"""From a job to its method."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from lanfit.job import Job
from lanfit.mistakes import mistake
from lanfit_server.methods import Method
from lanfit_server.methods.aggregation import check_krum, trimmed
from lanfit_server.methods.federated import Federated
from lanfit_server.methods.fit import fit
from lanfit_server.methods.kfold import kfold
from lanfit_server.methods.server_optimizers import ServerOptimizer, Strategy, server_optimizer


def method_of(job: Job) -> Method | Federated:
    match job.method:
        case "kfold":
            return kfold(job.clients, job.folds, job.seed)
        case "federated":
            return Federated(
                shards=job.clients,
                seed=job.seed,
                rounds=job.rounds,
                share=job.share,
                minimum=least_updates(job),
                patience=job.patience,
                keeps_best=job.keeps_best,
                absent=frozenset(absent_of(job)),
            )
        case _:
            return fit(job.clients, job.seed)


def check_method(job: Job) -> None:
    """Check that the method can be had with so many clients, and with what the job says of the server's optimizer.

    Raises:
        InputError: it can't; says why.
    """
    method_of(job)
    if job.method == "federated":
        optimizer_of(job, ())


def check_evaluation(job: Job, validation: int, test: int) -> None:
    """Check that rounds can be compared, where the job wants the best of them.

    Args:
        validation, test: the rows that there are.

    Raises:
        InputError: there are none to evaluate rounds on.
    """
    method = method_of(job)
    if isinstance(method, Federated) and method.compares and not validation and not test:
        raise mistake("rounds.no-evaluation", given="--keep best" if job.patience is None else "--patience")


def optimizer_of(job: Job, trainable: Collection[str]) -> ServerOptimizer:
    """The optimizer with which the server steps, over the arrays with these names.

    Raises:
        InputError: a parameter is out of its range.
    """
    # With the proximal term it is the clients that train in another way.
    strategy = "fedavg" if job.strategy == "fedprox" else job.strategy
    return server_optimizer(
        msgspec.convert(strategy, Strategy),
        job.server_learning_rate,
        job.server_momentum,
        job.server_beta_1,
        job.server_beta_2,
        job.server_tau,
        trainable=frozenset(trainable),
    )


def least_updates(job: Job) -> int:
    """How many updates a round needs.

    Raises:
        InputError: more than there are clients, or the aggregation can't be had of so many.
    """
    least = job.min_clients or 1
    if job.aggregation == "krum":
        check_krum(job.clients, job.byzantine)
        least = max(least, 2 * job.byzantine + 3, job.krum_keep)
    if job.aggregation == "trimmed-mean":
        trimmed(job.clients, job.trim)
    return least


def absent_of(job: Job) -> list[tuple[int, int]]:
    """The (round, shard) pairs that take no part, counted from 1 and 0."""
    pairs = (name.split(":") for name in job.absent or ())
    return [(int(number), int(shard) - 1) for number, shard in pairs]
