"""Before the first task: waits for enough clients, and surveys their own data if the job uses it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lanfit import __version__
from lanfit.core.text import pluralize
from lanfit.data.files import natural_key
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.models.runtime import keras_version
from lanfit.settings.fields import readable_duration
from lanfit.settings.job import DEFAULTS
from lanfit.settings.parts import PartRange
from lanfit.wire.messages import AskParts, PartsTaken, Survey
from lanfit_server.clusters.base import Cluster, next_event
from lanfit_server.clusters.events import (
    REMIND_SECONDS,
    ClientJoined,
    ClientLeft,
    ClientUnavailable,
    Event,
    PartsChosen,
    StartNow,
    SurveyDone,
    SurveyFailed,
)
from lanfit_server.clusters.roster import Member
from lanfit_server.data.prepare import RunData
from lanfit_server.data.survey import ClientSurvey, unite
from lanfit_server.run.early_start import EarlyStart
from lanfit_server.run.parts import PartsByClient, client_data_of
from lanfit_server.ui.display import Display

#: The note to the operator about files that must be corrected.
CORRECTED = "After correcting them, press Enter at the client to read them again; answers given here are kept."


class _Answers:
    """Surveys of client data, and the errors in them.

    Args:
        asked: the clients with a request.
        deadline: the time for the answer of a connected client, in seconds.
    """

    def __init__(self, asked: list[str], deadline: float) -> None:
        self.asked = asked
        self.sent: dict[str, ClientSurvey] = {}
        self.faults: dict[str, LanfitError] = {}
        self.misfit = False
        """The surveys contradict each other: the run waits for new ones."""
        self._deadline = deadline
        self._since = dict.fromkeys(asked, time.monotonic())

    @property
    def broken(self) -> list[str]:
        """Clients that violated the protocol: their next survey is not waited for."""
        return [name for name, wrong in self.faults.items() if wrong.code == "survey.malformed"]

    def ask(self, name: str) -> None:
        """Record a request to a client, the first one or a repeated one."""
        if name not in self.asked:
            self.asked.append(name)
        self.faults.pop(name, None)
        self._since[name] = time.monotonic()

    def take(self, sent: ClientSurvey) -> None:
        self.sent[sent.client], self.misfit = sent, False
        self.faults.pop(sent.client, None)

    def fault(self, name: str, wrong: LanfitError) -> None:
        self.faults[name] = wrong
        self.sent.pop(name, None)

    def forget(self, name: str) -> None:
        """Forget a client that has disconnected; another may take its place."""
        self.asked.remove(name)
        self.sent.pop(name, None)
        self.misfit = False
        self.faults.pop(name, None)

    def unanswered(self) -> list[str]:
        """Return the clients that have not answered yet."""
        return [name for name in self.asked if name not in self.sent and name not in self.faults]

    def all_faults(self) -> list[LanfitError]:
        """Return all faults once every client has answered; nothing before."""
        return [] if self.unanswered() else list(self.faults.values())

    def left(self, now: float) -> float:
        """Return the seconds until the next deadline of a client."""
        return min((max(0.0, self._since[name] + self._deadline - now) for name in self.unanswered()), default=math.inf)

    def too_late(self, now: float) -> list[str]:
        return [name for name in self.unanswered() if now - self._since[name] >= self._deadline]

    def waiting(self) -> str:
        """Return sentences about what the run waits for."""
        sent = ["Waiting for files that match."] if self.misfit else []
        if unanswered := self.unanswered():
            sent.append(f"Waiting for {', '.join(unanswered)} to read and check their data.")
        if self.faults:
            sent.append(f"Waiting for corrected files of {', '.join(self.faults)}. {CORRECTED}")
        return " ".join(sent) or "Waiting for another client."


def merge_faults(faults: Sequence[LanfitError]) -> LanfitError:
    """Return one error that lists all faults."""
    if len(faults) == 1:
        return faults[0]
    listed = "".join(f"\n  - {fault.message}. {fault.hint}" for fault in faults)
    return lanfit_error("own-data.several", count=pluralize(len(faults), "client"), faults=listed)


def why_no_run_began(faults: Mapping[str, LanfitError], client: str) -> str:
    """Return the message to a client when a run can't start because of client data."""
    if (wrong := faults.get(client)) is not None:
        if wrong.code == "survey.no-answer":
            return "no run was started: this client did not report its data in time (--deadline on the server)"
        return "no run was started: the data of this client can't be used, see above; correct it for the next run"
    if faults:
        return f"no run was started because of {', '.join(faults)}; the data of this client is fine"
    return "no run was started: see the server for the reason"


class ClientWait:
    """Waits for the clients of a run.

    Args:
        parts: the choices of the clients, if the job is partitioned in parts.
        early: when it begins without some of them; default: never.
        corrects: whether a user can have unusable files corrected: then the run waits for corrections.
        deadline: the time for the survey of a connected client, in seconds.
        max_weight: the limit of the weight of a client's rows, as a multiple of the median of all.
        takes: whether a client may take part; None for all.
    """

    def __init__(
        self,
        cluster: Cluster,
        display: Display,
        parts: PartsByClient | None = None,
        early: EarlyStart | None = None,
        *,
        corrects: bool = False,
        deadline: float = math.inf,
        max_weight: float = DEFAULTS.max_weight,
        takes: Callable[[Member], bool] | None = None,
    ) -> None:
        self._takes = takes
        self._corrects = corrects
        self._max_weight = max_weight
        self.faults: Mapping[str, LanfitError] = {}
        """The errors in client data, by client."""
        self._deadline = deadline
        self._early = early or EarlyStart.never()
        self._cluster = cluster
        self._display = display
        self._parts = parts
        self._asked: set[str] = set()
        self._noted: set[str] = set()
        """The notes of clients about their data that were shown."""

    async def wait(self, wanted: int) -> list[str]:
        """Wait until enough clients are connected, or the run may start with fewer, and they have chosen their parts.

        Returns their names in natural order, which determines their shards; the order of joining does not matter.
        Clients that the job file gives parts to come first.

        Raises:
            TrainingError: one of them will never come.
        """
        roster, events, began = self._cluster.roster, self._cluster.events, time.monotonic()
        if self._parts is not None:
            while not events.empty():  # clients that joined before are asked here, once
                await self._note(events.get_nowait())
            await self._ask_all()
        self._early.begin(began)
        while len(self._ready()) < wanted:
            parts, here = self._parts, len(self._here())
            asks = parts is not None and parts.asks
            due = here >= wanted or self._early.is_due(time.monotonic())
            if parts is not None and not asks and due and events.empty() and await self._fill_places(parts):
                continue
            if self._begins(self._ready()):
                break
            early = ", or when the server's operator no longer waits for the others" if self._early.is_possible else ""
            all_of_them = pluralize(wanted, "client is", "clients are")
            # Clients that join from now on are not counted.
            self._cluster.waiting_for = f"training starts when {all_of_them} here{early}"
            for name in self._ready():
                await self._cluster.notify(name, f"{here} of {all_of_them} here; training starts when all are{early}")
            waited = f", for {time.monotonic() - began:.0f} s now" if time.monotonic() - began > 1 else ""
            early = self._early.invitation(len(self._ready()), time.monotonic())
            if here < wanted:
                more = f"{wanted - here} more of {pluralize(wanted, 'client')}"
                self._display.waiting(f"Waiting for {more}{waited}.{early}")
            elif asks:  # else a client is only being greeted
                names = ", ".join(name for name in roster.connected if name not in self._ready())
                self._display.waiting(f"Waiting for {names} to choose their parts{waited}.{early}")
            event = await next_event(self._cluster, min(REMIND_SECONDS, self._early.left(time.monotonic())))
            if event is not None:
                await self._note(event)
        # What is left in the queue is from before the assignment of shards.
        while not events.empty():
            await self._note(events.get_nowait())
        self._display.waiting("")
        return self._ready()[:wanted]

    def _begins(self, ready: Sequence[str]) -> bool:
        """Return whether the run starts with these clients, although more were requested."""
        return self._early.begins(ready, self._cluster.roster, self._display.log, time.monotonic())

    def _ready(self) -> list[str]:
        return self._here() if self._parts is None else self._parts.in_order(self._here())

    def _here(self) -> list[str]:
        roster = self._cluster.roster
        return [name for name in roster.connected if self._takes is None or self._takes(roster[name])]

    async def _ask_all(self) -> None:
        """Ask all connected clients that were not asked yet which parts they train on."""
        for name in self._cluster.roster.connected:
            if name not in self._asked:
                await self._ask_parts(name)

    async def _ask_parts(self, name: str) -> None:
        if self._parts is None:
            return
        self._asked.add(name)
        if (given := self._parts.by.get(name) or self._parts.assigned.get(name)) is not None:
            await self._take(name, given)
        elif self._parts.asks:
            await self._cluster.send(name, AskParts(self._parts.of))

    async def _fill_places(self, parts: PartsByClient) -> bool:
        """Give the place and the name of a client in the job file that is absent to one that is not named there.

        The server's rows are the same whoever trains on them.

        Returns:
            Whether a client did. A named client may be connected but not greeted yet; then no client has to.
        """
        here = self._cluster.roster.connected
        strangers = [name for name in here if name not in parts.by and name not in parts.assigned]
        pairs = list(zip([name for name in parts.assigned if name not in here], strangers, strict=False))
        for named, stranger in pairs:
            called = self._cluster.rename(stranger, named)
            self._display.log(f"{stranger} takes the place of {named}, as {called}.")
            await self._take(called, parts.replace(named, called))
        return bool(pairs)

    async def _take(self, name: str, parts: PartRange) -> None:
        assert self._parts is not None
        self._parts.by[name] = parts
        await self._cluster.send(name, PartsTaken(name, parts.first, parts.last, self._parts.of))

    async def survey(self, owners: Sequence[str], request: Survey) -> tuple[RunData, list[str]]:
        """Let clients read and check their own data; return the merged survey, and the clients.

        The surveys of all clients are collected before they are merged. A client that leaves before its survey arrives
        may be replaced; one that has sent it is waited for when training begins.

        Raises:
            InputError: files of clients can't be used, or contradict each other; they are named. With `corrects` that
                is logged instead, and the run waits for corrected files.
            TrainingError: one of the clients will never come.
        """
        answers, wanted = _Answers(list(owners), self._deadline), len(owners)
        self.faults = answers.faults
        self._early.begin(time.monotonic())
        do = "read and check their" if len(owners) > 1 else "reads and checks its"
        self._display.log(f"{', '.join(owners)} {do} own files …")
        for name in owners:
            await self._survey(name, request)
        while True:
            early = len(answers.sent) < wanted and self._begins(list(answers.sent))
            if early or (len(answers.sent) == wanted and not answers.misfit):
                try:
                    return self._united(answers, request)
                except InputError as error:
                    if not self._corrects:
                        raise
                    await self._ask_for_corrections(answers, error)
            elif not self._corrects and (faults := answers.all_faults()):
                raise merge_faults(faults)
            await self._handle_next_event(answers, request)
            for name in [name for name in self._ready() if name not in answers.asked][: wanted - len(answers.asked)]:
                answers.ask(name)
                await self._survey(name, request)

    def _united(self, answers: _Answers, request: Survey) -> tuple[RunData, list[str]]:
        sent = answers.sent
        owners = self._parts.in_order(sent) if self._parts is not None else sorted(sent, key=natural_key)
        data, remarks = unite([sent[name] for name in owners], request.model, request.own, self._max_weight)
        if self._parts is not None:
            data = replace(data, parts=self._parts.of_all(owners))
        for note in remarks:
            self._display.log(f"Note: {note}.")
        return data, owners

    async def _ask_for_corrections(self, answers: _Answers, wrong: InputError) -> None:
        """Report client data that is valid by itself, but inconsistent among clients, which only people can correct."""
        self._display.log(f"{wrong.message}.\n  → {wrong.hint} {CORRECTED}")
        for name in answers.sent:
            text = (
                f"the data of the clients does not match: {wrong.message}. {wrong.hint} Press Enter to read them again"
            )
            await self._cluster.notify(name, text)
        answers.misfit = True

    async def _handle_next_event(self, answers: _Answers, request: Survey) -> None:
        """Wait for the next event, and record it."""
        now = time.monotonic()
        seconds = min(REMIND_SECONDS, self._early.left(now), answers.left(now))
        event = await next_event(self._cluster, seconds)
        match event:
            case None:
                now = time.monotonic()
                for name in answers.too_late(now):
                    self._fault(
                        answers, name, lanfit_error("survey.no-answer", client=name, waited=self._deadline_text)
                    )
                if seconds == REMIND_SECONDS:
                    self._display.log(f"{answers.waiting()}{self._early.invitation(len(answers.sent), now)}")
            case SurveyDone(client, surveyed, arrays) if client in answers.asked:
                try:
                    sent = ClientSurvey.of(client, request.model, surveyed, arrays)
                except InputError as wrong:
                    self._fault(answers, client, wrong)
                    return
                answers.take(sent)
                # A note mostly applies to all machines: it is shown once.
                new = [note for note in surveyed.notes if note not in self._noted]
                self._noted.update(new)
                notes = "".join(f"\n  Note: {note}." for note in new)
                rows = pluralize(surveyed.train, "row", grouped=True)
                self._display.log(
                    f"{client} has {rows} to train on, {surveyed.validation:,} for validation, {surveyed.test:,} for "
                    f"its test.{notes}"
                )
            case SurveyFailed(client, error) if client in answers.asked:
                self._fault(answers, client, error)
            case ClientLeft(client, reason, broken=True) if client in answers.asked and client not in answers.sent:
                # The client would come again and again.
                self._fault(answers, client, lanfit_error("survey.malformed", client=client, reason=reason))
            case ClientLeft(client) if client in answers.asked and (client not in answers.sent or answers.misfit):
                if client not in answers.broken:
                    answers.forget(client)
                await self._note(event)
            case ClientJoined(client) if client in answers.asked and client not in answers.sent:
                if client not in answers.broken:
                    answers.ask(client)  # it returned before the end of its old link was noticed, or with other files
                    await self._survey(client, request)
            case _:
                await self._note(event)

    def _fault(self, answers: _Answers, client: str, wrong: LanfitError) -> None:
        """Report errors in client data at once, if they can be corrected now."""
        answers.fault(client, wrong)
        if self._corrects:
            self._display.log(f"{wrong.message}.\n  → {wrong.hint}")
            if not answers.unanswered():
                self._display.log(f"{answers.waiting()}{self._early.invitation(len(answers.sent), time.monotonic())}")
        elif answers.unanswered():
            self._display.log(f"{wrong.message}. The server waits for the other clients first.")

    @property
    def _deadline_text(self) -> str:
        return readable_duration(self._deadline)

    async def _survey(self, name: str, request: Survey) -> None:
        """Ask a client for the survey of its own data, of the parts that it has chosen."""
        if self._parts is not None:
            own = client_data_of(request.own, self._parts.of, self._parts.by[name])
            request = Survey(request.model, own, request.weights)
        await self._cluster.send(name, request)

    async def _note(self, event: Event | None) -> None:
        match event:
            case ClientJoined(name):
                self._display.log(joined(self._cluster, name))
                await self._ask_parts(self._cluster.roster[name].name)
            case PartsChosen(earlier, name, parts) if self._parts is not None:
                earlier = self._cluster.roster[earlier].name
                name = self._cluster.rename(earlier, name)
                self._asked.add(name)
                called = f"{earlier}, now called {name}," if name != earlier else name
                self._display.log(f"{called} trains on {parts.description} of {self._parts.of}.")
                await self._take(name, parts)
            case ClientLeft(name, reason, lost):
                self._display.log(f"{name} {'was lost' if lost else 'left'} ({reason}).")
            case ClientUnavailable(_, error):
                raise error
            case StartNow():
                self._early.press()
            case _:
                pass


def joined(cluster: Cluster, name: str) -> str:
    """Return the line about a client that is connected."""
    member = cluster.roster[name]
    line = f"{name} joined from {member.address} ({member.backend}, {pluralize(member.threads, 'thread')})."
    if member.noted == (member.version, member.keras):
        return line
    member.noted = member.version, member.keras
    return " ".join([line, *differing_versions(member)])


def differing_versions(member: Member) -> list[str]:
    """Return the line about a client with another version of lanfit or Keras."""
    lines = []
    if (there := member.version) != __version__:
        lines.append(
            f"It has lanfit {there}, this server {__version__}: install the same version on both if something fails."
        )
    if (there := member.keras) and there != (here := keras_version()):
        lines.append(f"It has Keras {there}, this server {here}: it tries to build the model before it gets data.")
    return lines
