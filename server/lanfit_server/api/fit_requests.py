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
from lanfit_server.models.custom_files import files_of, stored_names
from lanfit_server.requests import RunRequest
from lanfit_server.start.simulation import REMARK


def request_of(fit: Fit, open_message: Open) -> RunRequest:
    """Return the run request; its model is read when the run starts.

    Raises:
        InputError: parts of the job contradict each other.
    """
    values: dict[str, Value] = {key: FIELDS[key].read(text, key) for key, text in fit.values.items()}
    values |= {"host": open_message.host, "port": open_message.port or None, "local": open_message.local}
    values |= {"clients": open_message.clients, "model": Path(fit.model).name}
    if open_message.local or open_message.simulated:
        values["threads"] = open_message.threads
    if open_message.simulated and values.get("data") == "client":
        raise lanfit_error("simulation.own-data")
    workspace = Workspace(Path(open_message.workspace))
    files = files_of(values.get("custom_objects"), workspace)
    values["custom_objects"] = stored_names(files, workspace)
    return RunRequest(
        make_job(values),
        ModelFile(fit.model, compile_request(values), files),
        arrays=fit.rows,
        remark=REMARK if open_message.simulated else "",
        rounds=RoundChannel() if fit.follows_rounds else None,
    )
