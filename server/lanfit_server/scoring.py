"""What happens to every result once it is committed: its model file and its chart are written, and it is scored.

Scored by the server on its test rows; where clients have their own data, by all clients on theirs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from lanfit.files import ArrayFile
from lanfit_server.clusters import REMIND_SECONDS, Cluster, Joined, ScoreDone, next_event
from lanfit_server.collect import OpenRun
from lanfit_server.display import Display
from lanfit_server.evaluate import Done, ModelProcess, Score, Scored, WriteModel
from lanfit_server.ledger import StoredResult
from lanfit_server.methods import Task
from lanfit_server.provision import Provision
from lanfit_server.report.charts import draw_history

log = logging.getLogger("lanfit.server")
_drawing = asyncio.Lock()


async def score(run: OpenRun, stored: StoredResult, task: Task, owner: str, models: ModelProcess) -> dict[str, float]:
    """Write `<owner>.h5` and its chart; return metrics: on the server's test rows, else what the client measured."""
    path = run.collected(f"{owner}{task.suffix}.h5")
    await models.ask(WriteModel(str(path), run.file(stored)), Done)
    await draw(run, stored, owner, task.suffix)
    scored = await models.ask(Score((run.file(stored),)), Scored)
    return scored.metrics or stored.result.scores or run.validation_metrics(stored)


async def draw(run: OpenRun, stored: StoredResult, owner: str, suffix: str) -> None:
    """Draw the curves of a result into the folder of the client that its shard was dealt to.

    No result is lost for want of a picture.
    """
    path = run.client_folder(owner) / f"history{suffix}.png"
    title = f"{owner}{suffix.replace('-', ' ')}"
    try:
        # One at a time: matplotlib must not draw in two threads at once.
        async with _drawing:
            await asyncio.to_thread(draw_history, path, run.history(stored), title, stored.result.best_epoch)
    except (OSError, ImportError) as wrong:
        log.warning("%s was not drawn: %s", path, wrong)


class ClientScores:
    """Lets clients score models on their own test rows; the figures are weighted by rows.

    Args:
        owners: the clients that have rows.
        deadline: how long one that is gone is waited for, in seconds.
    """

    def __init__(
        self, cluster: Cluster, provision: Provision, display: Display, owners: Sequence[str], deadline: float
    ) -> None:
        self._cluster = cluster
        self._provision = provision
        self._display = display
        self._owners = owners
        self._deadline = deadline

    async def of(self, name: str, files: Sequence[ArrayFile]) -> dict[str, float]:
        """Metrics of a model, or of several whose outputs are averaged; of the clients that answered in time."""
        orders = {owner: self._provision.score(name, shard, files) for shard, owner in enumerate(self._owners)}
        answers: dict[str, ScoreDone] = {}
        for owner, order in orders.items():
            await self._cluster.send(owner, order)
        waited_since = time.monotonic()
        while missing := [owner for owner in self._owners if owner not in answers]:
            if not set(missing) & set(self._cluster.roster.connected) and not self._left(waited_since):
                self._display.say(f"{', '.join(missing)} did not score {name}: gone for longer than --deadline.")
                break
            match event := await next_event(self._cluster, min(REMIND_SECONDS, max(0.05, self._left(waited_since)))):
                case ScoreDone(client, _, task) if client in missing and task == name:
                    answers[client] = event
                    waited_since = time.monotonic()
                case Joined(client) if client in missing:
                    await self._cluster.send(client, orders[client])
                case None:
                    self._display.say(f"Waiting for {', '.join(missing)} to score {name} on their own test rows.")
                case _:
                    pass
        return weighted([answers[owner] for owner in self._owners if owner in answers])

    def _left(self, since: float) -> float:
        return max(0.0, since + self._deadline - time.monotonic())


def weighted(answers: Sequence[ScoreDone]) -> dict[str, float]:
    """The mean of each metric, weighted by the rows that it was measured on."""
    counted = [answer for answer in answers if answer.rows > 0 and answer.metrics]
    rows = sum(answer.rows for answer in counted)
    names = counted[0].metrics if counted else ()
    return {name: sum(a.rows * a.metrics.get(name, math.nan) for a in counted) / rows for name in names}
