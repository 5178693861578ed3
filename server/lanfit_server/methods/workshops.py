"""Creates both halves of a method for one run: the decisions and the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.settings.changes import Changes
from lanfit.settings.job import Job
from lanfit.wire.arrays import AnyArray
from lanfit_server.methods.base import Method
from lanfit_server.methods.federated.global_weights import GlobalWeights
from lanfit_server.methods.federated.rounds import Rounds, Setting
from lanfit_server.methods.federated.schedule import schedule_of
from lanfit_server.methods.federated.workshop import RoundsWorkshop
from lanfit_server.methods.independent import Independent
from lanfit_server.methods.independent_workshop import IndependentWorkshop
from lanfit_server.methods.registry import FIT, KFOLD, Kind
from lanfit_server.methods.workshop import RoundChannel, Workshop
from lanfit_server.models.handle import ModelProcess
from lanfit_server.run.dispatch import Dispatch
from lanfit_server.run.run_stats import RunStats
from lanfit_server.store.result_store import OpenRun
from lanfit_server.ui.shown_rows import NONE_SHOWN, ShownRows


@dataclass(frozen=True)
class Context:
    """The objects that a method uses in one run.

    Args:
        weights: the model's starting weights.
        owners: the client that each shard belongs to.
        scratch: a folder for temporary files of the run.
        log: called with lines for the operator.
        channel: the program that decides after every round whether there is a next one; None without one.
        follows_rounds: whether a watcher or program needs the metrics of a round as soon as it is over.
        grace: seconds for which clients are expected back by a server that resumes a run.
        shown: the test rows whose predictions are shown.
    """

    job: Job
    run: OpenRun
    stats: RunStats
    models: ModelProcess
    dispatch: Dispatch
    weights: Mapping[str, AnyArray]
    owners: Sequence[str]
    scratch: Path
    log: Callable[[str], None]
    channel: RoundChannel | None
    follows_rounds: bool
    grace: float
    shown: ShownRows = NONE_SHOWN


def begin(context: Context) -> tuple[Method, Workshop]:
    """Return both halves of the job's method."""
    return _BEGIN[context.job.method](context)


def independent(kind: Kind, job: Job, run: OpenRun, stats: RunStats, *, compares: bool) -> Independent:
    """Return the deciding half of `fit` and `kfold`.

    Args:
        compares: whether clients evaluate the models where the server has no test rows.
    """
    return Independent(
        kind.tasks(job),
        stats.table,
        folds=kind.folds(job),
        changes=Changes.of(job.changes),
        merge=job.merge or (),
        compares=compares and run.record.own is not None and run.record.test > 0,
        limit=60 * job.deadline,
        max_weight=job.max_weight,
    )


def _independent(kind: Kind) -> Callable[[Context], tuple[Method, Workshop]]:
    def begin(context: Context) -> tuple[Method, Workshop]:
        job, run, stats = context.job, context.run, context.stats
        method = independent(kind, job, run, stats, compares=True)
        workshop = IndependentWorkshop(job, run, method, stats, context.models, context.scratch, context.shown)
        return method, workshop

    return begin


def _federated(context: Context) -> tuple[Method, Workshop]:
    job, run, data = context.job, context.run, context.dispatch.data
    setting = Setting(
        owners=context.owners,
        rows=run.record.rows,
        samples=run.record.samples,
        bound=data.own is not None,
        validation=run.record.validation,
        test=run.record.test,
        norm_limit=job.norm_limit,
        round_deadline=job.round_deadline,
        deadline=60 * job.deadline,
        follows=context.follows_rounds,
        decides=context.channel is not None,
        grace=context.grace,
        max_weight=job.max_weight,
    )
    method = Rounds(schedule_of(job), setting, context.stats.table)
    together = GlobalWeights(job, context.weights, data.normalizers.constants(), run.record.trainable)
    workshop = RoundsWorkshop(
        job,
        run,
        method,
        context.stats,
        context.models,
        context.dispatch,
        together,
        context.owners,
        context.log,
        context.channel,
        shown=context.shown,
    )
    return method, workshop


_BEGIN: Mapping[str, Callable[[Context], tuple[Method, Workshop]]] = {
    "fit": _independent(FIT),
    "kfold": _independent(KFOLD),
    "federated": _federated,
}
