"""From a job that a Python program sends to what a runner runs: the model is loaded and compiled, rows are found."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lanfit.data.labels import Target, check_order
from lanfit.data.sources import Source
from lanfit.fields import Value
from lanfit.job import FIELDS, make_job
from lanfit.loop import LoopThread
from lanfit.mistakes import mistake
from lanfit.workspace import Workspace
from lanfit_server.asking import compile_request
from lanfit_server.custom_files import files_of, kept
from lanfit_server.evaluate import Compiled, Loaded, LoadModel, ModelProcess
from lanfit_server.prepare import model_of
from lanfit_server.runner import Order
from lanfit_server.service_messages import Fit, Open
from lanfit_server.sets import load_set, source_of
from lanfit_server.simulation import REMARK

SOFT = "The targets lie between 0 and 1: they are trained on as they are, and evaluated as numbers, not as classes"


def order_of(fit: Fit, opening: Open, models: ModelProcess, loop: LoopThread) -> Order:
    """What is to be run.

    Raises:
        InputError: the model is none that can be sent, or the parts of the job do not go together.
    """
    folder = Path(fit.folder)
    values: dict[str, Value] = {key: FIELDS[key].read(text, key) for key, text in fit.values.items()}
    values |= {"host": opening.host, "port": opening.port or None, "local": opening.local}
    values |= {"clients": opening.clients, "model": Path(fit.model).name}
    if opening.local or opening.simulated:
        values["threads"] = opening.threads
    if opening.simulated and values.get("data") == "client":
        raise mistake("simulation.own-data")
    workspace = Workspace(Path(opening.workspace))
    files = files_of(values.get("custom_objects"), workspace)
    values["custom_objects"] = kept(files, workspace)
    loading = models.ask(LoadModel(fit.model, str(folder / "weights.block"), files), Loaded)
    loaded = loop.call(loading)
    compiled = loop.call(models.ask(compile_request(values), Compiled))
    job = make_job(values)
    check_order(compiled.loss, job.order)
    model = model_of(job, loaded, compiled, files)
    notes = (*loaded.notes, *compiled.notes)
    if model.target == Target.BINARY and fit.rows is not None and fit.rows.has_soft_labels():
        # As Keras has it: the loss takes shares as it takes 0 and 1; what counts classes has none to count.
        model, notes = msgspec.structs.replace(model, target=Target.VALUES), (*notes, SOFT)

    def rows() -> Source | None:
        if fit.rows is not None:
            return fit.rows.source(Target(model.target))
        if job.dataset is None:
            return None
        loading = load_set(models, job.dataset, job.dataset_args or "", model.input_shape, folder)
        return source_of(loop.call(loading), model)

    remark = REMARK if opening.simulated else ""
    return Order(job, loaded, model, rows, remark, given=fit.rows, custom=files, notes=notes)
