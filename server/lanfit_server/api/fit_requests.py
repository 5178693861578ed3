"""Convert a job from a Python program into a run request."""

from __future__ import annotations

from pathlib import Path

from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit.settings.fields import Value
from lanfit.settings.job import FIELDS, make_job
from lanfit_server.api.service_messages import Fit, Open
from lanfit_server.data.model_source import ModelFile, compile_request
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.models.custom_files import files_of, kept
from lanfit_server.requests import RunRequest
from lanfit_server.start.simulation import REMARK


def request_of(fit: Fit, opening: Open) -> RunRequest:
    """Return the run request; its model is read when the run starts.

    Raises:
        InputError: parts of the job contradict each other.
    """
    values: dict[str, Value] = {key: FIELDS[key].read(text, key) for key, text in fit.values.items()}
    values |= {"host": opening.host, "port": opening.port or None, "local": opening.local}
    values |= {"clients": opening.clients, "model": Path(fit.model).name}
    if opening.local or opening.simulated:
        values["threads"] = opening.threads
    if opening.simulated and values.get("data") == "client":
        raise lanfit_error("simulation.own-data")
    workspace = Workspace(Path(opening.workspace))
    files = files_of(values.get("custom_objects"), workspace)
    values["custom_objects"] = kept(files, workspace)
    return RunRequest(
        make_job(values),
        ModelFile(fit.model, compile_request(values), files),
        arrays=fit.rows,
        remark=REMARK if opening.simulated else "",
        rounds=RoundChannel() if fit.hears_rounds else None,
    )
