"""Creates both halves of a method for one run: the decisions and the work."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.settings.job import Job
from lanfit.wire.arrays import AnyArray
from lanfit_server.methods.base import Method
from lanfit_server.methods.registry import METHODS
from lanfit_server.methods.workshop import RoundChannel, Workshop
from lanfit_server.models.handle import ModelProcess
from lanfit_server.run.dispatch import Dispatch
from lanfit_server.run.run_stats import RunStats
from lanfit_server.store.result_store import OpenRun
from lanfit_server.ui.shown_rows import NONE_SHOWN, ShownRows


@dataclass(frozen=True)
class Clients:
    """The clients of a run, and what they are given.

    Args:
        weights: the model's starting weights.
        owners: the client that each shard belongs to.
        channel: the program that decides after every round whether there is a next one; None without one.
        follows_rounds: whether a watcher or program needs the metrics of a round as soon as it is over.
        grace: seconds for which clients are expected back by a server that resumes a run.
    """

    dispatch: Dispatch
    weights: Mapping[str, AnyArray]
    owners: Sequence[str]
    channel: RoundChannel | None = None
    follows_rounds: bool = False
    grace: float = 0.0


@dataclass(frozen=True)
class Context:
    """The objects that a method uses in one run.

    Args:
        scratch: a folder for temporary files of the run.
        log: called with lines for the operator.
        clients: None when all results are there: no client takes part any more.
        shown: the test rows whose predictions are shown.
    """

    job: Job
    run: OpenRun
    stats: RunStats
    models: ModelProcess
    scratch: Path
    log: Callable[[str], None]
    clients: Clients | None
    shown: ShownRows = NONE_SHOWN


def begin(context: Context) -> tuple[Method, Workshop]:
    """Return both halves of the job's method."""
    module, _, name = METHODS[context.job.method].begins.partition(":")
    halves: tuple[Method, Workshop] = getattr(importlib.import_module(module), name)(context)
    return halves
