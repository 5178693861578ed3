"""From a job to its method."""

from __future__ import annotations

from lanfit.job import Job
from lanfit_server.methods import Method
from lanfit_server.methods.fit import fit
from lanfit_server.methods.kfold import kfold


def method_of(job: Job) -> Method:
    if job.method == "kfold":
        return kfold(job.clients, job.folds, job.seed)
    return fit(job.clients, job.seed)
