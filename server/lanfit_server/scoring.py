"""What happens to every result once it is committed: its model file and its chart are written, and it is scored.

Scored by the server on its test rows; where clients have their own data, by all clients on theirs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from lanfit.fields import readable_duration
from lanfit.files import ArrayFile
from lanfit.job import DEFAULTS
from lanfit.training.metrics import mean_figures
from lanfit_server.claims import counted
from lanfit_server.clusters import REMIND_SECONDS, Cluster, Joined, Left, ScoreDone, TaskFailed, next_event
from lanfit_server.collect import OpenRun
from lanfit_server.display import Display
from lanfit_server.evaluate import Done, ModelProcess, Score, Scored, WriteModel
from lanfit_server.ledger import StoredResult
from lanfit_server.methods import Task
from lanfit_server.patience import Patience
from lanfit_server.provision import Provision
from lanfit_server.report.charts import draw_history

log = logging.getLogger("lanfit.server")
_drawing = asyncio.Lock()


async def score(run: OpenRun, stored: StoredResult, task: Task, owner: str, models: ModelProcess) -> dict[str, float]:
    """Write a model file and its chart; return metrics: on the server's test rows, else what the client measured."""
    path = run.model_file(f"{owner}{task.suffix}")
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
    """Lets clients score models on their own rows.

    Args:
        owners: the clients that have rows.
        patience: how long one that is gone is waited for.
        limit: how long one that is there is waited for, in seconds.
        max_weight: what the rows of one count at most, as a multiple of the median of all.
    """

    def __init__(
        self,
        cluster: Cluster,
        provision: Provision,
        display: Display,
        owners: Sequence[str],
        patience: Patience,
        limit: float = math.inf,
        max_weight: float = DEFAULTS.max_weight,
    ) -> None:
        self._cluster = cluster
        self._provision = provision
        self._display = display
        self._owners = owners
        self._patience = patience
        self._limit = limit
        self._max_weight = max_weight
        self._mute: set[str] = set()
        """Those that did not answer in time: they are not asked again until something is heard of them."""

    async def of(self, name: str, files: Sequence[ArrayFile]) -> dict[str, float]:
        """Metrics of a model, or of several whose outputs are averaged, on all test rows of those that answered."""
        answers = await self.by_client(name, files, self._owners, "test")
        return weighted([answers[owner] for owner in self._owners if owner in answers], self._max_weight)

    async def by_client(
        self, name: str, files: Sequence[ArrayFile], owners: Sequence[str], rows: str, grace: float = 0.0
    ) -> dict[str, ScoreDone]:
        """What each of these clients that answered in time has measured, on its test or validation rows.

        Args:
            grace: for so many seconds from now on nobody is given up who is gone.
        """
        score = self._provision.score
        orders = {owner: score(name, self._owners.index(owner), files, rows) for owner in owners}
        wanted = {(order.run, name) for order in orders.values()}
        answers: dict[str, ScoreDone] = {}
        began = time.monotonic()
        missing = self._still_hoped_for(name, owners, began + grace)
        for owner in [owner for owner in missing if owner in self._mute]:
            missing.remove(owner)
            self._display.say(f"{owner} is not asked to score {name}: it did not answer in time before.")
        for owner in missing:
            await self._cluster.send(owner, orders[owner])
        ends = began + self._limit
        while missing and (now := time.monotonic()) < ends:
            left = max(self._patience.next_end(missing), began + grace - now)
            event = await next_event(self._cluster, min(left, REMIND_SECONDS, max(0.0, ends - now)))
            if isinstance(event, ScoreDone | Joined):
                self._mute.discard(event.client)
            match event:
                case ScoreDone() if event.client in missing and (event.run, event.task) in wanted:
                    answers[event.client] = event
                    missing.remove(event.client)
                case TaskFailed() if event.client in missing and (event.run, event.task) in wanted:
                    missing.remove(event.client)
                    self._display.say(f"{event.client} could not score {name}: {event.error}.")
                case Joined(client) if client in missing:
                    self._cluster.events.set_aside(event)  # that it is here is of interest later, too
                    await self._cluster.send(client, orders[client])
                case Left(client, reason, broken=True) if client in missing:
                    missing.remove(client)  # it would come again, and answer the same
                    self._display.say(f"{client} could not score {name}: {reason}.")
                case Left(client, reason) if client in missing:
                    self._display.say(f"{client} is gone ({reason}); {self._patience.sentence(client)}.")
                case None:
                    missing = self._still_hoped_for(name, missing, began + grace)
                    if missing:
                        self._display.say(f"Waiting for {', '.join(missing)} to score {name} on their own {rows} rows.")
                case _:
                    self._cluster.events.set_aside(event)
        for owner in missing:
            self._mute.add(owner)
            self._display.say(
                f"{owner} does not score {name}: it has not answered for {readable_duration(self._limit)}."
            )
        self._provision.scored(files)
        self._cluster.events.bring_back()
        return answers

    def _still_hoped_for(self, name: str, owners: Sequence[str], grace_ends: float) -> list[str]:
        in_time = time.monotonic() < grace_ends
        over = [owner for owner in owners if self._patience.is_over(owner) and not in_time]
        for owner in over:
            self._display.say(f"{owner} does not score {name}: it is gone{self._patience.how_long}.")
        return [owner for owner in owners if owner not in over]


def weighted(answers: Sequence[ScoreDone], max_weight: float = DEFAULTS.max_weight) -> dict[str, float]:
    """The mean of each metric, weighted by the rows that it was measured on; see `counted` for `max_weight`."""
    found = [answer for answer in answers if answer.rows > 0 and answer.metrics]
    weights = counted([answer.rows for answer in found], max_weight)
    return mean_figures([(weight, answer.metrics) for weight, answer in zip(weights, found, strict=True)])
