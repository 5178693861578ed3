"""Clients over TCP: the listener, one link a client, and what to do with each of its messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from lanfit import __version__
from lanfit.crash import crash_point
from lanfit.errors import ConnectionFailed, LanfitError, RemoteProtocolError
from lanfit.mistakes import mistake
from lanfit.models.custom import lacking
from lanfit.models.runtime import keras_version
from lanfit.net.link import Link
from lanfit.net.listen import Listener, listen
from lanfit.net.pulse import LinkTimes
from lanfit.net.tls import Identity
from lanfit.partial import PartialBlock
from lanfit.parts import PartRange
from lanfit.waits import Waits
from lanfit.wire import auth
from lanfit.wire.arrays import AnyArray, BlockSpec, block_size, pieces, views
from lanfit.wire.auth import Distrusted, OtherVersion
from lanfit.wire.messages import (
    Ack,
    Allow,
    AnyMessage,
    AskParts,
    Commit,
    CustomFile,
    Epoch,
    Failed,
    Fetch,
    IdTaken,
    Join,
    Later,
    Leave,
    LogLines,
    NeedsCustom,
    Offer,
    Progress,
    Reject,
    Result,
    RunEnded,
    ScoreTask,
    Status,
    Surveyed,
    TakeParts,
    Unsuitable,
    Welcome,
)
from lanfit.wire.messages import (
    Scored as ScoredMessage,
)
from lanfit_server.clusters import (
    NOT_FINITE,
    Claimed,
    EpochEnded,
    Event,
    Heard,
    Joined,
    Left,
    Logged,
    Offered,
    Repeated,
    Returned,
    ScoreDone,
    Silent,
    SurveyDone,
    SurveyFailed,
    TaskFailed,
    Took,
)
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.clusters.same_id import is_same_client
from lanfit_server.clusters.session import Delivery, Session
from lanfit_server.collect import Desk, Known, NotLeased, PutOff, Refuse, Take, check_metrics, why_not_written
from lanfit_server.gate import GateKeeper
from lanfit_server.leases import Asked, Claims
from lanfit_server.roster import Roster, label
from lanfit_server.survey import check_survey

log = logging.getLogger("lanfit.server")
#: A client that is logged in says who it is within this many seconds.
JOIN_SECONDS = 10.0
#: So many addresses are named whose clients can't log in: anybody who can connect can pretend to be one.
MOST_FAILED_LOGINS = 50
#: A client whose result there is no room for offers it again after so many seconds.
LATER_SECONDS = 10.0
#: So many results of a client are taken in at a time, each with a file open and its room on disk taken. A client makes
#: one after the other; more wait on it only when it was away for long.
MOST_DELIVERIES = 8
#: So many lines about what one client sends are shown; more would hide everything else at the operator's terminal.
MOST_COMPLAINTS = 20


class LanCluster:
    """A cluster of whoever knows the address and the passphrase."""

    own_machines = True

    def __init__(self, desk: Desk) -> None:
        self.roster = Roster()
        self.events: EventQueue[Event] = EventQueue()
        self.collecting = False
        self.waiting_for = "the operator is still answering questions"
        self.say: Callable[[str], None] = lambda text: None
        """Called with what the operator must know."""
        self.later_seconds = LATER_SECONDS
        self._is_full = False
        self._desk = desk
        self._waits = Waits()
        self._sessions: dict[str, Session] = {}
        self._blocks: dict[str, tuple[BlockSpec, Mapping[str, AnyArray], Callable[[], None] | None]] = {}
        self._failed_logins_said: set[tuple[str, type]] = set()
        self._copied: set[bytes] = set()
        """Ids of clients that more than one machine has, as was said."""
        self._claims = Claims()
        self._asked = Asked()
        self._withdrawn: set[str] = set()
        """A client that is told late that a task is not its own any more may still ask for these."""
        self._opening = asyncio.Lock()
        """Held from the look at the disk until a result's room there is taken."""
        self._complaints: Counter[str] = Counter()
        """How many lines about what a client sends were said."""
        self._listener: Listener | None = None
        self._required: tuple[tuple[CustomFile, ...], tuple[str, ...]] = (), ()

    async def open(self, host: str, port: int, identity: Identity, gate: GateKeeper, waits: Waits) -> Listener:
        """Listen; clients are let in as soon as the gate has a passphrase.

        Raises:
            InputError: the address or port can't be listened on.
        """
        self._waits = waits
        times = LinkTimes.of(waits)
        self._listener = await listen(
            host, port, identity, gate, self._serve, times=times, on_failed_login=self._failed_login
        )
        return self._listener

    def _failed_login(self, address: str, why: OtherVersion | Distrusted) -> None:
        """Say once for each address that its client can't log in to this server, and what to do."""
        log.info("%s does not log in: %s", address, why)
        what = (address, type(why))
        if what in self._failed_logins_said or len(self._failed_logins_said) >= MOST_FAILED_LOGINS:
            return
        self._failed_logins_said.add(what)
        self.say(failed_login_message(address, why))

    # --- what the coordinator asks for --------------------------------------------------------------------------

    def serve_block(
        self, spec: BlockSpec, arrays: Mapping[str, AnyArray], on_sent: Callable[[], None] | None = None
    ) -> None:
        self._blocks[spec.id] = (spec, arrays, on_sent)
        self._withdrawn.discard(spec.id)

    def withdraw_block(self, block_id: str) -> None:
        if self._blocks.pop(block_id, None) is not None:
            self._withdrawn.add(block_id)

    def forget_blocks(self) -> None:
        self._blocks.clear()

    async def require(self, custom: Sequence[CustomFile], objects: Sequence[str]) -> None:
        self._required = tuple(custom), tuple(objects)
        for session in list(self._sessions.values()):
            await self._check_custom(session)

    async def _check_custom(self, session: Session) -> None:
        """Let a client take part if it allows the custom objects of the model; else both sides are told what to do."""
        member, (files, objects) = self.roster[session.name], self._required
        before, member.lacks = member.lacks, lacking(files, member.custom)
        if not member.lacks:
            if before:
                self.roster.rest(session.name)
            if not session.announced:
                session.announced = True
                self.events.put_nowait(Joined(session.name))
        elif member.lacks != before:
            member.state = "no file"
            self.say(f"{session.name} gets no task: {member.lacks}.")
            log.warning("%s gets no task: %s", session.name, member.lacks)
            with contextlib.suppress(ConnectionFailed):
                await session.link.send(NeedsCustom(files, tuple(name[:100] for name in objects[:50])))

    async def send(self, client: str, message: AnyMessage) -> None:
        session = self._sessions.get(client)
        if session is not None:
            # The reading side notices the end of a link and reports it.
            if isinstance(message, AskParts):
                session.asked_parts.append(message.of)
            if isinstance(message, ScoreTask):
                self._asked.ask(self._id(session), message.run, message.task)
            with contextlib.suppress(ConnectionFailed):
                await session.link.send(message)

    def rename(self, client: str, name: str) -> str:
        new = self.roster.rename(client, name)
        if (session := self._sessions.pop(client, None)) is not None:
            session.name = new
            self._sessions[new] = session
        return new

    async def tell(self, client: str, text: str) -> None:
        await self.send(client, Status(text))

    async def tell_all(self, text: str) -> None:
        """Tell everybody who is here, and everybody who comes from now on, what they are waiting for."""
        self.waiting_for = text
        await asyncio.gather(*(self.tell(name, text) for name in list(self._sessions)))

    async def end_run(self, ended: Mapping[str, RunEnded]) -> None:
        for message in ended.values():
            self._asked.end_run(message.run)
        for message in list(ended.values())[:1]:  # for those, too, who could not take part
            over = f"run {message.run} is over: {message.status}" if message.run else "no run began"
            text = f"{over}; this client took no part in it"
            out = RunEnded(message.run, message.status, text)
            ended = {**{name: out for name in self._sessions if self.roster[name].lacks}, **ended}
        await asyncio.gather(*(self.send(name, message) for name, message in ended.items()))

    async def end_all(self, message: RunEnded) -> None:
        """Tell everybody who is here that the run is over."""
        await self.end_run(dict.fromkeys(self._sessions, message))

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.close()
        for session in list(self._sessions.values()):
            session.reason = session.reason or "the server ends"
            await session.close()

    # --- what clients ask for -----------------------------------------------------------------------------------

    async def _serve(self, link: Link, client_id: bytes, address: str) -> None:
        """Serve one logged-in client until its link ends."""
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                join = await link.receive()
        except TimeoutError:
            log.warning("%s logged in and said nothing for %.0f s", link.peer, JOIN_SECONDS)
            return
        if not isinstance(join, Join):
            log.warning("%s began with %s instead of Join", link.peer, type(join).__name__)
            return
        if not await self._has_place(client_id, join, link, address):
            return
        member = self.roster.join(client_id, address, join, time.monotonic())
        session = Session(member.name, link, join.process)
        earlier = self._sessions.get(member.name)
        self._sessions[member.name] = session
        if earlier is not None:
            earlier.reason = "the same client joined again"
            earlier.link.abort(earlier.reason)  # it may be half-open: a goodbye would wait for an answer
            await earlier.close()
        watching = asyncio.create_task(self._watch(session))
        try:
            await link.send(Welcome(__version__, member.name, self.collecting, keras_version()))
            await link.send(Status(self.waiting_for))
            member.lacks = ""
            await self._check_custom(session)
            while True:
                message = await link.receive()
                self._heard(session, time.monotonic())
                session.count(member)
                await self._handle(session, message)
        except ConnectionFailed as ended:
            session.reason = session.reason or ended.message
        except LanfitError as wrong:
            session.reason, session.broken = wrong.message, True
            log.warning("%s: %s", member.name, wrong.message)
        finally:
            watching.cancel()
            await self._leave(session)

    async def _has_place(self, client_id: bytes, join: Join, link: Link, address: str) -> bool:
        """Whether a newcomer may have its id, at the price of an older link with it; else it is told to choose another.

        See same_id.py.
        """
        while (older := self._session_of(client_id)) is not None and not is_same_client(older.process, join):
            if await older.link.answers(self._waits.suspect / 3):
                if client_id not in self._copied:
                    self._copied.add(client_id)
                    self.say(
                        f"{label(join.name)} at {address} has the id of {older.name}, which is here: its client/state/ "
                        "was copied, as with a disk image. It gets an id of its own, as every further copy does."
                    )
                log.info("%s has the id of %s, which is here, and is told to choose another", link.peer, older.name)
                await link.send(IdTaken())
                return False
            if self._session_of(client_id) is older:
                break
        return not link.closed.is_set()

    def _session_of(self, client_id: bytes) -> Session | None:
        member = self.roster.find(client_id)
        return self._sessions.get(member.name) if member is not None else None

    async def _watch(self, session: Session) -> None:
        """Say once when nothing is heard of a client, which need not mean anything yet, and once that it is back."""
        member = self.roster[session.name]
        while True:
            await asyncio.sleep(min(1.0, self._waits.suspect / 5))
            silence = session.link.silence
            if silence <= self._waits.suspect:
                self._heard(session, time.monotonic() - silence)
            elif not member.silent:
                member.silent = True
                self.events.put_nowait(Silent(session.name, silence))

    def _heard(self, session: Session, when: float) -> None:
        """Something came of a client, a heartbeat or a message."""
        member = self.roster[session.name]
        if member.silent:
            member.silent = False
            self.events.put_nowait(Heard(session.name, when - member.last_seen))
        member.last_seen = max(member.last_seen, when)

    async def _leave(self, session: Session) -> None:
        member = self.roster[session.name]
        session.count(member)
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
            self.roster.leave(session.name, "left" if session.left else "lost", time.monotonic())
            if session.announced:
                self.events.put_nowait(Left(session.name, session.reason, lost=not session.left, broken=session.broken))
            else:
                self.say(f"{session.name} {'left' if session.left else 'was lost'} ({session.reason}).")
        await session.close()

    async def _handle(self, session: Session, message: AnyMessage) -> None:
        name = session.name
        match message:
            case Allow(custom):
                self.roster[name].custom = custom
                await self._check_custom(session)
            case Progress():
                self.roster.progress(name, message, time.monotonic())
            case Epoch(run, task):
                check_metrics(message.metrics)
                if await self._may_report(session, "an epoch", run, task):
                    await self._tell(session, EpochEnded(name, run, task, message.epoch, message.metrics))
            case LogLines(run):
                if await self._may_report(session, "lines for its log", run):
                    await self._tell(session, Logged(name, run, message.lines))
            case Fetch():
                self._send_block(session, message)
            case Offer():
                await self._offered(session, message.result)
            case Commit():
                await self._delivered(session, message.block)
            case Failed(run, task):
                self.roster.rest(name)
                was_asked = self._asked.answered(self._id(session), run, task)
                if was_asked or await self._may_report(session, "a failure", run, task):
                    await self._failed(session, message)
            case Surveyed():
                if session.surveyed is not None and not session.surveyed.done():
                    raise RemoteProtocolError(f"{name} told of its own files twice at a time")
                session.surveyed = self._start(session, self._surveyed(session, message))
            case Unsuitable(error, hint):
                self.roster.rest(name)
                unusable = mistake("own-data.unusable", client=name, error=error, hint=hint)
                await self._tell(session, SurveyFailed(name, unusable))
            case ScoredMessage(run, task, rows, metrics):
                check_metrics(metrics)
                self.roster.rest(name)
                if self._asked.answered(self._id(session), run, task):
                    await self._tell(session, ScoreDone(name, run, task, rows, metrics))
                else:  # or asked by an earlier server: the answer would be to another question
                    log.info("%s was not asked to score %s of run %s", name, task, run)
            case TakeParts():
                self._took(session, message)
            case Leave():
                session.left = True
                session.reason = message.reason
            case _:
                raise RemoteProtocolError(f"{name} sent {type(message).__name__}, which is not for a server")

    async def _tell(self, session: Session, event: Event) -> None:
        """Tell who runs the job what a client says; a client that says too much waits, and others do not."""
        if not await self.events.put_when_room(event, session.link.closed):
            raise ConnectionFailed(session.link.reason)

    def _complain(self, name: str, text: str) -> None:
        """Say something about what a client sends: not endlessly, since it can send it endlessly."""
        self._complaints[name] += 1
        if self._complaints[name] <= MOST_COMPLAINTS:
            log.warning("%s", text)
            self.say(text)
        if self._complaints[name] == MOST_COMPLAINTS:
            self.say(f"Nothing more is said about what {name} sends: {MOST_COMPLAINTS} lines are enough.")

    def _id(self, session: Session) -> bytes:
        return self.roster[session.name].client_id

    async def _failed(self, session: Session, said: Failed) -> None:
        name, error = session.name, f"{said.error}. {said.hint}".strip() if said.hint else said.error
        await self._tell(session, Logged(name, said.run, (error, *said.log)))
        not_finite = said.code in NOT_FINITE
        failed = TaskFailed(name, said.run, said.task, error, died=said.died, not_finite=not_finite)
        await self._tell(session, failed)

    async def _may_report(self, session: Session, what: str, run: str, task: str | None = None) -> bool:
        """Whether a client may speak of this task, or of this run: see leases.py."""
        allowed = self._desk.may_report(self._id(session), run, task)
        if allowed is False:
            await self._claimed(session, what, run, task or "")
        return bool(allowed)

    async def _claimed(self, session: Session, what: str, run: str, task: str) -> None:
        """A client spoke of work that is not its own: it is noted, and said once."""
        name, client_id = session.name, self._id(session)
        if not self._claims.is_new(client_id, run, task, what):
            return
        of = f"{task} of run {run}" if task else f"run {run}"
        log.warning("%s sent %s of %s, which was never given to it: refused", name, what, of)
        if self._claims.is_first(client_id):
            self.say(
                f"{name} sent {what} of {of}, which was never given to it: refused. What it says of others' tasks "
                "changes nothing; every kind of it is in events.jsonl. If you don't know this client, start again with "
                "another passphrase."
            )
        await self._tell(session, Claimed(name, run, task, what))

    def _took(self, session: Session, took: TakeParts) -> None:
        if not session.asked_parts:
            raise RemoteProtocolError(f"{session.name} took parts that it was not asked for")
        of = session.asked_parts.pop(0)
        if not 1 <= took.first <= took.last <= of:
            raise RemoteProtocolError(f"{session.name} took parts {took.first} to {took.last} of {of}")
        self.events.put_nowait(Took(session.name, took.name, PartRange(took.first, took.last)))

    def _send_block(self, session: Session, fetch: Fetch) -> None:
        if fetch.block in self._withdrawn:
            return
        if fetch.block not in self._blocks:
            raise RemoteProtocolError(f"{session.name} asked for a block that it was not offered")
        spec, arrays, on_sent = self._blocks[fetch.block]
        if not 0 <= fetch.offset <= block_size(spec.arrays):
            raise RemoteProtocolError(f"{session.name} asked for a block from byte {fetch.offset} on")
        if self.roster[session.name].state != "training":
            self.roster[session.name].state = "receiving"
        transfer = self._start(session, session.link.send_block(fetch, pieces(arrays)))
        if on_sent is not None:
            transfer.add_done_callback(lambda _: on_sent())

    def _start(self, session: Session, transfer: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(_ignoring_the_end(transfer))
        session.sending.add(task)
        task.add_done_callback(session.sending.discard)
        return task

    async def _surveyed(self, session: Session, surveyed: Surveyed) -> None:
        """Fetch what a client tells of its own files; what can't be is a failed survey."""
        try:
            check_survey(surveyed)
            block = bytearray(block_size(surveyed.block.arrays))
            await session.link.fetch(surveyed.block.id, memoryview(block))
        except RemoteProtocolError as wrong:
            failed = mistake("survey.malformed", client=session.name, reason=wrong.message)
            self.events.put_nowait(SurveyFailed(session.name, failed))
            return
        self.roster.rest(session.name)
        arrays = views(memoryview(block), surveyed.block.arrays)
        self.events.put_nowait(SurveyDone(session.name, surveyed, arrays))

    async def _offered(self, session: Session, result: Result) -> None:
        if result.block.id in session.deliveries:
            raise RemoteProtocolError(f"{session.name} offered the same result twice at a time")
        for earlier in session.deliveries_of(result):
            await session.drop(earlier)
        if len(session.deliveries) >= MOST_DELIVERIES:
            reason = f"{len(session.deliveries)} other results of this client are on their way"
            await session.link.send(Later(result.block.id, self.later_seconds, reason))
            return
        part: PartialBlock | None = None
        wrong: LanfitError | OSError | None = None
        async with self._opening:  # nothing in here waits for a client
            decision = self._desk.consider(self._id(session), result)
            if isinstance(decision, Take):
                try:
                    part = await PartialBlock.opened(decision.path, decision.size)
                except (LanfitError, OSError) as failed:
                    wrong = failed
        match decision:
            case Known():
                await session.link.send(Ack(result.block.id))
                if self._desk.may_report(self._id(session), result.run, result.task):
                    await self._tell(session, Repeated(session.name, result.run, result.task, result.attempt))
            case NotLeased(reason):
                await session.link.send(Reject(result.block.id, reason))
                await self._claimed(session, "a result", result.run, result.task)
            case Refuse(reason):
                await self._refused(session, result, reason)
                await session.link.send(Reject(result.block.id, reason))
            case PutOff(reason):
                await self._put_off(session, result, reason)
            case Take() if part is None:
                assert wrong is not None
                await self._put_off(session, result, why_not_written(wrong))
            case Take(path, size, client):
                assert part is not None
                if part.damaged:
                    log.warning("%s is damaged from byte %d on: that is fetched again", path.name, part.offset)
                self._has_room()
                self.roster.sending(session.name, size, part.offset, time.monotonic())
                fetch = session.link.fetch(result.block.id, part.view, part.offset, self._counting(session, part))
                fetching = asyncio.create_task(_came(fetch))
                session.deliveries[result.block.id] = Delivery(result, client, part, fetching, time.monotonic())
                await self._tell(session, Offered(session.name, result.run, result.task))

    def _counting(self, session: Session, part: PartialBlock) -> Callable[[int], None]:
        """Note how much of a result has come; who looks at the table sees it."""

        def on_progress(position: int) -> None:
            part.on_progress(position)
            moved = self.roster[session.name].transfer
            if moved is not None and moved.total == part.size:
                moved.done = position

        return on_progress

    async def _refused(self, session: Session, result: Result, reason: str) -> None:
        """A result can never be taken: the client drops it. Its task failed there, if it ever had it."""
        name, task, run = session.name, result.task, result.run
        text = f"{name} offers a result of {task} of run {run} that can't be taken: {reason}. The client drops it."
        self._complain(name, text)
        if self._desk.may_report(self._id(session), run, task):
            await self._tell(session, TaskFailed(name, run, task, reason))

    async def _put_off(self, session: Session, result: Result, reason: str) -> None:
        """There is no room for a result: no acknowledgement; the client keeps it, and others are served."""
        if not self._is_full:
            self._is_full = True
            self.say(f"Results have to wait: {reason}. Make room; clients keep what they have and offer it again.")
        log.warning("%s: the result of %s is put off: %s", session.name, result.task, reason)
        await session.link.send(Later(result.block.id, self.later_seconds, reason))

    def _has_room(self) -> None:
        if self._is_full:
            self._is_full = False
            self.say("There is room again: results are taken in.")

    async def _delivered(self, session: Session, block_id: str) -> None:
        delivery = session.deliveries.get(block_id)
        if delivery is None and block_id in session.acknowledged:
            await session.link.send(Ack(block_id))
            return
        if delivery is None:
            raise RemoteProtocolError(f"{session.name} committed a result that it had not offered")
        try:
            # The bytes came on the same link before the commit: this only waits when the client lies.
            async with asyncio.timeout(JOIN_SECONDS):
                whole = await asyncio.shield(delivery.fetching)
        except TimeoutError:
            raise RemoteProtocolError(f"{session.name} committed a result that it did not deliver") from None
        if not whole or session.deliveries.pop(block_id, None) is None:
            return  # the link has ended meanwhile
        crash_point("server.result-fetched")
        result, part = delivery.result, delivery.part
        self.roster.rest(session.name)
        async with self._desk.lock(result):
            if self._desk.is_known(result):
                log.info("%s delivered %s, which is a duplicate", session.name, result.task)
                part.drop()
            else:
                try:
                    reason = await self._desk.take_in(delivery.client, result, lambda: part.finish(block_id))
                except (OSError, sqlite3.OperationalError) as wrong:
                    await self._put_off(session, result, why_not_written(wrong))
                    return
                if reason is not None:
                    await session.link.send(Reject(block_id, reason))
                    failed = TaskFailed(session.name, result.run, result.task, reason, not_finite=True)
                    self.events.put_nowait(failed)
                    return
                took = time.monotonic() - delivery.began
                self.events.put_nowait(Returned(session.name, result.run, result.task, took))
        session.acknowledged.add(block_id)
        await session.link.send(Ack(block_id))
        crash_point("server.result-acknowledged")


def failed_login_message(address: str, why: OtherVersion | Distrusted) -> str:
    """What the operator is told of a client that can't log in."""
    match why:
        case OtherVersion(lowest, highest):
            theirs = f"version {highest}" if lowest == highest else f"versions {lowest} to {highest}"
            return (
                f"A client at {address} was refused: it speaks {theirs} of the protocol, and this server version "
                f"{auth.VERSION}. Install the same lanfit on both machines."
            )
        case Distrusted():
            return (
                f"A client at {address} refused this server, because it expects another fingerprint. If this is the "
                "right server, start that client with the line above, --fingerprint included."
            )


async def _came(fetch: Coroutine[Any, Any, None]) -> bool:
    """Await what is fetched; returns whether all of it came before the link ended."""
    try:
        await fetch
    except ConnectionFailed:
        return False
    return True


async def _ignoring_the_end(transfer: Coroutine[Any, Any, None]) -> None:
    """Await a transfer; when the link ends meanwhile, the reading side reports it."""
    with contextlib.suppress(ConnectionFailed):
        await transfer
