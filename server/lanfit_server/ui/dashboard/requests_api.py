"""The routes of the live page that start runs: the form, models that are built, the queue.

What the page asks for becomes a `RunRequest` of the session. A model file is described by the model
process, which answers between two requests of a run; if it is busy for long, the form is checked without it, and the
run itself checks the model when it starts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lanfit.core.loop import in_thread
from lanfit.core.system import refused
from lanfit.errors import LanfitError, lanfit_error
from lanfit.settings.fields import Value
from lanfit_server.data.demo_data import add_digits
from lanfit_server.models.handle import Inspected, InspectModel
from lanfit_server.models.model_folder import models_in
from lanfit_server.replay import baseline_runs
from lanfit_server.requests import RunHandle, RunRequest, State
from lanfit_server.session import Session
from lanfit_server.start.endpoint import Endpoint
from lanfit_server.ui.dashboard import builders, one_machine
from lanfit_server.ui.dashboard.answers import INVALID, as_json, body_of, error
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.form import Checked, check, fields, model_file, problem
from lanfit_server.ui.dashboard.submissions import Submissions

#: How long the check of a form waits for the description of its model, in seconds.
LOOK_SECONDS = 5.0


def routes(context: Context) -> list[Route]:
    """Return the routes."""
    found = RequestRoutes(context)
    return [
        Route("/api/form", found.form, methods=["GET"]),
        Route("/api/check", found.check, methods=["POST"]),
        Route("/api/models", found.build, methods=["POST"]),
        Route("/api/runs", found.submit, methods=["POST"]),
        Route("/api/queue/{number:int}/withdraw", found.withdraw, methods=["POST"]),
    ]


def values_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a form in a request.

    Raises:
        InputError: there are none.
    """
    found = body.get("values", {})
    if not isinstance(found, dict):
        raise lanfit_error("page.no-object", reason="values is not an object")
    return found


class RequestRoutes:
    """Answers the requests of the page that start runs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._workspace = context.workspace
        self._session = context.session
        self._looks: dict[Path, tuple[object, asyncio.Task[Inspected]]] = {}
        self._submissions = Submissions(context)

    # --- the form ----------------------------------------------------------------------------------------------

    async def form(self, request: Request) -> Response:
        """Return the fields of the form."""
        found = await in_thread(lambda: models_in(self._workspace))
        return as_json(
            {
                "groups": fields(self._workspace, self._context.defaults),
                "models": [{"file": path.name, "parameters": self._parameters(path)} for path in found],
                "builders": builders.described(),
                "data": builders.data_described(),
                "one_machine": one_machine.described(self._clients()),
            }
        )

    async def check(self, request: Request) -> Response:
        """Validate a form without side effects."""
        body = await body_of(request)
        return as_json({"fields": (await self._checked(values_of(body))).problems()})

    async def build(self, request: Request) -> Response:
        """Build a model for the chosen data, and save it in model/."""
        body = await body_of(request)
        try:
            built = await builders.build(body, self._workspace, self._session.models)
        except builders.WrongFields as wrong:
            return _wrong_fields({key: problem(each) for key, each in wrong.errors.items()})
        except OSError as wrong:
            raise refused(wrong) from wrong
        return as_json(built)

    async def _checked(self, values: Mapping[str, object]) -> Checked:
        looked = await self._look_at(values)

        def found(name: str) -> Inspected | None:
            if isinstance(looked, LanfitError):
                raise looked
            return looked

        try:
            return await in_thread(lambda: check(values, self._workspace, self._context.defaults, self._fixed(), found))
        except OSError as wrong:
            raise refused(wrong) from wrong

    def _fixed(self) -> dict[str, Value]:
        host = self._context.host
        return {"host": host.host, "port": host.port} if isinstance(host, Endpoint) else {}

    async def _look_at(self, values: Mapping[str, object]) -> Inspected | LanfitError | None:
        """Return the contents of the chosen model file, or its problem; None if that takes too long."""
        found = {path.name: path for path in await in_thread(lambda: models_in(self._workspace))}
        chosen = str(values.get("model") or self._context.defaults.get("model") or next(iter(found), ""))
        path = found.get(chosen.rpartition("/")[2])
        if path is None or values.get("custom_objects") or self._context.defaults.get("custom_objects"):
            return None
        try:
            look = self._look(path)
            await asyncio.wait([look], timeout=LOOK_SECONDS)
            return look.result() if look.done() else None
        except LanfitError as wrong:
            return wrong
        except OSError:  # it was removed at this moment, which the check reports
            return None

    def _look(self, path: Path) -> asyncio.Task[Inspected]:
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_size)
        if path not in self._looks or self._looks[path][0] != state:
            look = asyncio.create_task(self._session.models.ask(InspectModel(str(path)), Inspected))
            look.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may never be fetched
            self._looks[path] = state, look
        return self._looks[path][1]

    def _parameters(self, path: Path) -> int | None:
        """Return the number of a model's parameters, if it was looked at; it will be."""
        try:
            look = self._look(path)
        except OSError:
            return None
        if not look.done() or look.cancelled() or look.exception() is not None:
            return None
        return look.result().parameters

    # --- runs --------------------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        """Queue a run, and with `also_one_machine` another one to compare it with."""
        body = await body_of(request)
        checked = await self._checked(values_of(body))
        if checked.job is None:
            return _wrong_fields(checked.problems())
        if checked.uses_digits:
            try:
                await in_thread(lambda: add_digits(self._workspace))
            except OSError as wrong:
                raise refused(wrong) from wrong
        job, model = checked.job, model_file(checked, self._workspace)
        pair, machine, alone = "", one_machine.HERE, None
        host = self._context.host
        starts_clients = isinstance(host, Endpoint)
        if body.get("also_one_machine"):
            pair = secrets.token_hex(4)
            machine = one_machine.check_machine(body.get("one_machine"), self._clients())
            alone = one_machine.job_of(job, machine, starts_clients=starts_clients)
        remark = baseline_runs.remark(pair) if pair else ""
        first = RunRequest(job, model, remark=remark, enter_starts=True, corrects=True)
        handle = await self._submissions.submit(first)
        answer = self._submissions.described(handle)
        if alone is not None:
            remark = baseline_runs.remark(pair, alone=True)
            takes = one_machine.takes(machine, host.addresses if isinstance(host, Endpoint) else None)
            second = await self._submissions.submit(RunRequest(alone, model, remark=remark, takes=takes))
            self._submissions.start(_end_with(handle, second, self._session))
            answer["one_machine"] = self._context.board.id_of(second)
        return as_json(answer)

    async def withdraw(self, request: Request) -> Response:
        """Take back a run that is still queued."""
        number = int(request.path_params["number"])
        handle = self._context.board.handle(number)
        if handle is not None and self._session.withdraw(handle):
            return as_json({})
        raise lanfit_error("page.not-queued", number=number)

    # --- clients -----------------------------------------------------------------------------------------------

    def _clients(self) -> list[str]:
        return self._context.host.cluster.roster.connected


async def _end_with(first: RunHandle, second: RunHandle, session: Session) -> None:
    """End the run on one machine if there is nothing to compare it with. It may have its turn already."""
    await first.reach(State.RUNNING)
    if first.state == State.ENDED and first.error is not None:
        session.interrupt(second)


def _wrong_fields(problems: Mapping[str, Mapping[str, str]]) -> Response:
    """Return an answer with the errors of fields; the first one is that of the whole."""
    first = next(iter(problems.values()))
    return error(INVALID, first["error"], first["hint"], first["code"], fields=problems)
