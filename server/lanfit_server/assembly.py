"""Before the first task: waits until enough clients are here, and asks them for their own data when the job says so."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lanfit.data.files import natural_key
from lanfit.logs import harmless
from lanfit.wire.messages import Survey
from lanfit_server.clusters import (
    REMIND_SECONDS,
    Cluster,
    Event,
    Hopeless,
    Joined,
    Left,
    SurveyDone,
    SurveyFailed,
    next_event,
)
from lanfit_server.display import Display
from lanfit_server.prepare import RunData
from lanfit_server.survey import Told, unite


class Assembly:
    """Gets the clients of a run together."""

    def __init__(self, cluster: Cluster, display: Display) -> None:
        self._cluster = cluster
        self._display = display

    async def gather(self, wanted: int) -> list[str]:
        """Wait until so many clients are here.

        Returns their names in natural order, which is who gets which shard: who joined first makes no difference.

        Raises:
            TrainingError: one of them will never come.
        """
        roster, events, began = self._cluster.roster, self._cluster.events, time.monotonic()
        while len(roster.connected) < wanted:
            here = len(roster.connected)
            text = f"{here} of {wanted} clients are here; training begins when all are"
            for name in roster.connected:
                await self._cluster.tell(name, text)
            waited = f", for {time.monotonic() - began:.0f} s now" if time.monotonic() - began > 1 else ""
            self._display.waiting(f"Waiting for {wanted - here} more of {wanted} clients{waited}.")
            event = await next_event(self._cluster, REMIND_SECONDS)
            if event is not None:
                await self._say(event)
        # What was left in the queue is from before the deal.
        while not events.empty():
            await self._say(events.get_nowait())
        self._display.waiting("")
        return roster.connected[:wanted]

    async def survey(self, owners: Sequence[str], order: Survey) -> tuple[RunData, list[str]]:
        """Let clients read and check their own files; return what they hold together, and who they are.

        Who leaves before it has told may be replaced by another; who has told is waited for when training begins.

        Raises:
            InputError: files of a client can't be used, or do not go with those of others; it is named.
            TrainingError: one of the clients will never come.
        """
        asked, wanted = list(owners), len(owners)
        self._display.say(f"{', '.join(asked)} read and check their own files …")
        for name in asked:
            await self._cluster.send(name, order)
        told: dict[str, Told] = {}
        while len(told) < wanted:
            event = await next_event(self._cluster, REMIND_SECONDS)
            match event:
                case None:
                    missing = ", ".join(name for name in asked if name not in told) or "another client"
                    self._display.say(f"Waiting for {missing} to read and check their own files.")
                case SurveyDone(client, surveyed, arrays) if client in asked:
                    told[client] = Told.of(client, order.model, surveyed, arrays)
                    notes = "".join(f"\n  Note: {harmless(note)}." for note in surveyed.notes)
                    self._display.say(
                        f"{client} has {surveyed.train:,} rows to train on, {surveyed.validation:,} for validation, "
                        f"{surveyed.test:,} for its test.{notes}"
                    )
                case SurveyFailed(client, error) if client in asked:
                    raise error
                case Left(client) if client in asked and client not in told:
                    asked.remove(client)
                    await self._say(event)
                case Joined(client) if client in asked and client not in told:
                    await self._cluster.send(client, order)  # it came again before its old link was missed
                case _:
                    await self._say(event)
            for name in [name for name in self._cluster.roster.connected if name not in asked][: wanted - len(asked)]:
                asked.append(name)
                await self._cluster.send(name, order)
        owners = sorted(told, key=natural_key)
        data, remarks = unite([told[name] for name in owners], order.model, order.own)
        for note in remarks:
            self._display.say(f"Note: {note}.")
        return data, owners

    async def _say(self, event: Event | None) -> None:
        match event:
            case Joined(name):
                self._display.say(joined(self._cluster, name))
            case Left(name, reason, lost):
                self._display.say(f"{name} {'was lost' if lost else 'left'} ({reason}).")
            case Hopeless(_, error):
                raise error
            case _:
                pass


def joined(cluster: Cluster, name: str) -> str:
    """What is said about a client that is here."""
    member = cluster.roster[name]
    return f"{name} joined from {member.address} ({member.backend}, {member.threads} threads)."
