"""Clients over TCP: the listener, one link per client, and the handling of messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from lanfit import __version__
from lanfit.core.failpoints import failpoint
from lanfit.errors import ConnectionFailed, LanfitError, RemoteProtocolError, lanfit_error
from lanfit.models.custom_files import lacking
from lanfit.models.runtime import keras_version
from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import Link
from lanfit.net.tls import Identity
from lanfit.settings.parts import PartRange
from lanfit.settings.timeouts import Timeouts
from lanfit.transfer.partial import PartialBlock
from lanfit.wire import auth
from lanfit.wire.arrays import AnyArray, BlockSpec, block_size, buffers, views
from lanfit.wire.auth import Distrusted, OtherVersion
from lanfit.wire.messages import (
    Ack,
    Allow,
    AnyMessage,
    AskParts,
    Commit,
    CustomFile,
    Epoch,
    EvaluateTask,
    EvaluationResult,
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
    Result,
    RunEnded,
    Status,
    Surveyed,
    TakeParts,
    Unsuitable,
    Welcome,
)
from lanfit.wire.messages import (
    Reject as RejectMessage,
)
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.clusters.events import (
    Claimed,
    ClientJoined,
    ClientLeft,
    ClientSeen,
    ClientSilent,
    DuplicateResult,
    Event,
    PartsChosen,
    ResultCommitted,
    ResultOffered,
    SurveyDone,
    SurveyFailed,
    TaskFailed,
    settings_of,
)
from lanfit_server.clusters.gate import GateShell
from lanfit_server.clusters.listen import Listener, listen
from lanfit_server.clusters.reports import Report, events_of
from lanfit_server.clusters.roster import Roster, label
from lanfit_server.clusters.same_id import is_same_client
from lanfit_server.clusters.session import Delivery, Session
from lanfit_server.data.survey import check_survey
from lanfit_server.store.leases import Asked, Claims
from lanfit_server.store.result_store import (
    Accept,
    Defer,
    Duplicate,
    NotLeased,
    Reject,
    ResultStore,
    Stored,
    check_metrics,
    why_not_written,
)

logger = logging.getLogger("lanfit.server")
#: The time for a client to introduce itself after the login, in seconds.
JOIN_SECONDS = 10.0
#: The number of addresses with failed logins that are reported; anyone who can connect can cause such a report.
MOST_FAILED_LOGINS = 50
#: After this many seconds, a client offers a result again for which there was no disk space.
LATER_SECONDS = 10.0
#: The number of results of a client that are received concurrently, each with an open file and reserved disk space. A
#: client makes one at a time; several wait only after a long absence.
MOST_DELIVERIES = 8
#: A transfer makes progress when this many bytes, or a tenth of a small result, have arrived.
LEAST_DELIVERED = 1 << 20
#: The number of messages about one client that are shown, so that they do not hide everything else at the terminal.
MOST_COMPLAINTS = 20


class LanCluster:
    """A cluster of the clients that know the address and the passphrase."""

    own_machines = True

    def __init__(self, store: ResultStore, log: Callable[[str], None] = lambda text: None) -> None:
        self.roster = Roster()
        self.events: EventQueue[Event] = EventQueue()
        self.collecting = False
        self.waiting_for = "the operator is still answering questions"
        self.log = log
        """Called with messages for the operator."""
        self.later_seconds = LATER_SECONDS
        self._is_full = False
        self._store = store
        self._timeouts = Timeouts()
        self._sessions: dict[str, Session] = {}
        self._blocks: dict[str, tuple[BlockSpec, Mapping[str, AnyArray], Callable[[], None] | None]] = {}
        self._failed_logins_reported: set[tuple[str, type]] = set()
        self._copied: set[bytes] = set()
        """Ids of clients on more than one machine, which were reported."""
        self._claims = Claims()
        self._asked = Asked()
        self._withdrawn: set[str] = set()
        """Blocks that a client may still request if it learns late that it lost its task."""
        self._offering = asyncio.Lock()
        """Held from the check of the free disk space until the space for a result is reserved."""
        self._complaints: Counter[str] = Counter()
        """The number of messages about each client that were shown."""
        self._listener: Listener | None = None
        self._required: tuple[tuple[CustomFile, ...], tuple[str, ...]] = (), ()

    async def open(self, host: str, port: int, identity: Identity, gate: GateShell, timeouts: Timeouts) -> Listener:
        """Listen; clients are admitted as soon as the gate has a passphrase.

        Raises:
            InputError: the address or port can't be listened on.
        """
        self._timeouts = timeouts
        times = LinkTimes.of(timeouts)
        self._listener = await listen(
            host, port, identity, gate, self._serve, times=times, on_failed_login=self._failed_login
        )
        return self._listener

    def _failed_login(self, address: str, why: OtherVersion | Distrusted) -> None:
        """Report once for each address that its client can't log in to this server, with a hint."""
        logger.info("%s does not log in: %s", address, why)
        what = (address, type(why))
        if what in self._failed_logins_reported or len(self._failed_logins_reported) >= MOST_FAILED_LOGINS:
            return
        self._failed_logins_reported.add(what)
        self.log(failed_login_message(address, why))

    # --- requests of the run --------------------------------------------------------------------------

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
        """Let a client participate if it allows the custom objects of the model; else notify both sides."""
        member, (files, objects) = self.roster[session.name], self._required
        before, member.lacks = member.lacks, lacking(files, member.custom)
        if not member.lacks:
            if before:
                self.roster.rest(session.name)
            if not session.announced:
                session.announced = True
                self.events.put_nowait(ClientJoined(session.name))
        elif member.lacks != before:
            member.state = "no file"
            self.log(f"{session.name} gets no task: {member.lacks}.")
            logger.warning("%s gets no task: %s", session.name, member.lacks)
            with contextlib.suppress(ConnectionFailed):
                await session.link.send(NeedsCustom(files, tuple(name[:100] for name in objects[:50])))

    async def send(self, client: str, message: AnyMessage) -> None:
        session = self._sessions.get(client)
        if session is not None:
            # The reading side notices the end of a link and reports it.
            if isinstance(message, AskParts):
                session.asked_parts.append(message.of)
            if isinstance(message, EvaluateTask):
                self._asked.ask(self._id(session), message.run, message.task)
            with contextlib.suppress(ConnectionFailed):
                await session.link.send(message)

    def rename(self, client: str, name: str) -> str:
        new = self.roster.rename(client, name)
        if (session := self._sessions.pop(client, None)) is not None:
            session.name = new
            self._sessions[new] = session
        return new

    async def notify(self, client: str, text: str) -> None:
        await self.send(client, Status(text))

    async def end_run(self, ended: Mapping[str, RunEnded]) -> None:
        for message in ended.values():
            self._asked.end_run(message.run)
        for message in list(ended.values())[:1]:  # also for those that could not participate
            over = f"run {message.run} is over: {message.status}" if message.run else "no run was started"
            text = f"{over}; this client did not take part"
            out = RunEnded(message.run, message.status, text)
            ended = {**{name: out for name in self._sessions if self.roster[name].lacks}, **ended}
        await asyncio.gather(*(self.send(name, message) for name, message in ended.items()))

    async def end_all(self, message: RunEnded) -> None:
        """Notify all connected clients that the run is over."""
        await self.end_run(dict.fromkeys(self._sessions, message))

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.close()
        for session in list(self._sessions.values()):
            session.reason = session.reason or "the server is shutting down"
            await session.close()

    # --- requests of clients -----------------------------------------------------------------------------------

    async def _serve(self, link: Link, client_id: bytes, address: str) -> None:
        """Serve one logged-in client until its link ends."""
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                join = await link.receive()
        except TimeoutError:
            logger.warning("%s logged in and sent no Join for %.0f s", link.peer, JOIN_SECONDS)
            return
        if not isinstance(join, Join):
            logger.warning("%s began with %s instead of Join", link.peer, type(join).__name__)
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
                self._mark_alive(session, time.monotonic())
                session.count(member)
                await self._handle(session, message)
        except ConnectionFailed as ended:
            session.reason = session.reason or ended.message
        except LanfitError as error:
            session.reason, session.broken = error.message, True
            logger.warning("%s: %s", member.name, error.message)
        finally:
            watching.cancel()
            await self._leave(session)

    async def _has_place(self, client_id: bytes, join: Join, link: Link, address: str) -> bool:
        """Return whether a new link may use its id, which ends an older link; else its client must choose another id.

        See same_id.py.
        """
        while (older := self._session_of(client_id)) is not None and not is_same_client(older.process, join):
            if await older.link.answers(self._timeouts.suspect / 3):
                if client_id not in self._copied:
                    self._copied.add(client_id)
                    self.log(
                        f"{label(join.name)} at {address} has the id of {older.name}, which is connected: its "
                        "client/state/ was copied, for example in a disk image. It gets a new id, as does every "
                        "other copy."
                    )
                logger.info("%s has the id of %s, which is connected, and must choose another", link.peer, older.name)
                await link.send(IdTaken())
                return False
            if self._session_of(client_id) is older:
                break
        return not link.closed.is_set()

    def _session_of(self, client_id: bytes) -> Session | None:
        member = self.roster.find(client_id)
        return self._sessions.get(member.name) if member is not None else None

    async def _watch(self, session: Session) -> None:
        """Report once that a client is silent, and once that it is back."""
        member = self.roster[session.name]
        while True:
            await asyncio.sleep(min(1.0, self._timeouts.suspect / 5))
            silence = session.link.silence
            if silence <= self._timeouts.suspect:
                self._mark_alive(session, time.monotonic() - silence)
            elif not member.silent:
                member.silent = True
                self.events.put_nowait(ClientSilent(session.name, silence))

    def _mark_alive(self, session: Session, when: float) -> None:
        """Handle a heartbeat or a message of a client."""
        member = self.roster[session.name]
        if member.silent:
            member.silent = False
            self.events.put_nowait(ClientSeen(session.name, when - member.last_seen))
        member.last_seen = max(member.last_seen, when)

    async def _leave(self, session: Session) -> None:
        member = self.roster[session.name]
        session.count(member)
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
            self.roster.leave(session.name, "left" if session.left else "lost", time.monotonic())
            if session.announced:
                self.events.put_nowait(
                    ClientLeft(session.name, session.reason, lost=not session.left, broken=session.broken)
                )
            else:
                self.log(f"{session.name} {'left' if session.left else 'was lost'} ({session.reason}).")
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
                    await self._report(session, message)
            case LogLines(run):
                if await self._may_report(session, "lines for its log", run):
                    await self._report(session, message)
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
                    await self._report(session, message)
            case Surveyed():
                if session.surveyed is not None and not session.surveyed.done():
                    raise RemoteProtocolError(f"{name} reported its data twice at a time")
                session.surveyed = self._start(session, self._surveyed(session, message))
            case Unsuitable(error, hint):
                self.roster.rest(name)
                unusable = lanfit_error("own-data.unusable", client=name, error=error, hint=hint)
                await self._emit(session, SurveyFailed(name, unusable))
            case EvaluationResult(run, task):
                check_metrics(message.metrics)
                self.roster.rest(name)
                if self._asked.answered(self._id(session), run, task):
                    await self._report(session, message)
                else:  # or an answer to the question of an earlier server
                    logger.info("%s was not asked to evaluate %s of run %s", name, task, run)
            case TakeParts():
                self._on_parts_chosen(session, message)
            case Leave():
                session.left = True
                session.reason = message.reason
            case _:
                raise RemoteProtocolError(f"{name} sent {type(message).__name__}, which is not for a server")

    async def _emit(self, session: Session, event: Event) -> None:
        """Pass an event of a client to the run; a client that sends too much waits, without delaying others."""
        if not await self.events.put_when_free(event, session.link.closed):
            raise ConnectionFailed(session.link.reason)

    async def _report(self, session: Session, report: Report) -> None:
        for event in events_of(session.name, report):
            await self._emit(session, event)

    def _complain(self, name: str, text: str) -> None:
        """Report something that a client sent; limited, because it can send any number of messages."""
        self._complaints[name] += 1
        if self._complaints[name] <= MOST_COMPLAINTS:
            logger.warning("%s", text)
            self.log(text)
        if self._complaints[name] == MOST_COMPLAINTS:
            self.log(f"No more messages about what {name} sends: {MOST_COMPLAINTS} lines are enough.")

    def _id(self, session: Session) -> bytes:
        return self.roster[session.name].client_id

    async def _may_report(self, session: Session, what: str, run: str, task: str | None = None) -> bool:
        """Return whether a client may send messages about this task, or this run: see leases.py."""
        allowed = self._store.may_report(self._id(session), run, task)
        if allowed is False:
            await self._claimed(session, what, run, task or "")
        return bool(allowed)

    async def _claimed(self, session: Session, what: str, run: str, task: str) -> None:
        """Record a message of a client about work that is not its own, and report it once."""
        name, client_id = session.name, self._id(session)
        if not self._claims.is_new(client_id, run, task, what):
            return
        of = f"{task} of run {run}" if task else f"run {run}"
        logger.warning("%s sent %s of %s, which was never assigned to it: rejected", name, what, of)
        if self._claims.is_first(client_id):
            self.log(
                f"{name} sent {what} of {of}, which was never assigned to it: rejected. Messages about tasks of "
                "other clients have no effect; each kind is recorded in events.jsonl. If you do not know this client, "
                "restart the server with another passphrase."
            )
        await self._emit(session, Claimed(name, run, task, what))

    def _on_parts_chosen(self, session: Session, chosen: TakeParts) -> None:
        if not session.asked_parts:
            raise RemoteProtocolError(f"{session.name} took parts that it was not asked for")
        of = session.asked_parts.pop(0)
        if not 1 <= chosen.first <= chosen.last <= of:
            raise RemoteProtocolError(f"{session.name} took parts {chosen.first} to {chosen.last} of {of}")
        self.events.put_nowait(PartsChosen(session.name, chosen.name, PartRange(chosen.first, chosen.last)))

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
        transfer = self._start(session, session.link.send_block(fetch, buffers(arrays)))
        if on_sent is not None:
            transfer.add_done_callback(lambda _: on_sent())

    def _start(self, session: Session, transfer: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(_ignoring_the_end(transfer))
        session.sending.add(task)
        task.add_done_callback(session.sending.discard)
        return task

    async def _surveyed(self, session: Session, surveyed: Surveyed) -> None:
        """Fetch the survey of a client; one that can't be fetched has failed."""
        try:
            check_survey(surveyed)
            block = bytearray(block_size(surveyed.block.arrays))
            await session.link.fetch(surveyed.block.id, memoryview(block))
        except RemoteProtocolError as error:
            failed = lanfit_error("survey.malformed", client=session.name, reason=error.message)
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
        partial: PartialBlock | None = None
        wrong: LanfitError | OSError | None = None
        async with self._store.taking_in(result), self._offering:  # nothing in this block waits for a client
            decision = self._store.consider(self._id(session), result)
            if isinstance(decision, Accept):
                try:
                    partial = await PartialBlock.opened(decision.path, decision.size)
                except (LanfitError, OSError) as failed:
                    wrong = failed
        match decision:
            case Duplicate():
                await session.link.send(Ack(result.block.id))
                if self._store.may_report(self._id(session), result.run, result.task):
                    await self._emit(session, DuplicateResult(session.name, result.run, result.task, result.attempt))
            case NotLeased(reason):
                await session.link.send(RejectMessage(result.block.id, reason))
                await self._claimed(session, "a result", result.run, result.task)
            case Reject(reason):
                await self._refused(session, result, reason)
                await session.link.send(RejectMessage(result.block.id, reason))
            case Defer(reason):
                await self._put_off(session, result, reason)
            case Accept() if partial is None:
                assert wrong is not None
                await self._put_off(session, result, why_not_written(wrong))
            case Accept(path, size, client):
                assert partial is not None
                if partial.damaged:
                    logger.warning("%s is damaged from byte %d on: that is fetched again", path.name, partial.offset)
                self._note_free_space()
                self.roster.sending(session.name, size, partial.offset, time.monotonic())
                fetch = session.link.fetch(
                    result.block.id, partial.view, partial.offset, self._counting(session, result, partial)
                )
                fetching = asyncio.create_task(_came(fetch))
                session.deliveries[result.block.id] = Delivery(result, client, partial, fetching, time.monotonic())
                await self._emit(session, ResultOffered(session.name, result.run, result.task))

    def _counting(self, session: Session, result: Result, partial: PartialBlock) -> Callable[[int], None]:
        """Record the progress of a result, which the table shows."""
        step, of, came = min(LEAST_DELIVERED, -(-partial.size // 10)), (result.run, result.task), session.came
        came.setdefault(of, partial.offset)

        def on_progress(position: int) -> None:
            partial.on_progress(position)
            # Single bytes are not progress, and neither are bytes of another result of the task.
            if position - came[of] >= step:
                came[of], self.roster[session.name].delivered = position, time.monotonic()
            moved = self.roster[session.name].transfer
            if moved is not None and moved.total == partial.size:
                moved.done = position

        return on_progress

    async def _refused(self, session: Session, result: Result, reason: str) -> None:
        """Reject a result permanently: the client drops it. Its task has failed there, if it had the task."""
        name, task, run = session.name, result.task, result.run
        text = f"{name} offers a result of {task} of run {run} that can't be accepted: {reason}. The client drops it."
        self._complain(name, text)
        if self._store.may_report(self._id(session), run, task):
            await self._emit(session, TaskFailed(name, run, task, reason))

    async def _put_off(self, session: Session, result: Result, reason: str) -> None:
        """Defer a result for lack of disk space: the client keeps it, and others are served."""
        if not self._is_full:
            self._is_full = True
            self.log(f"Results have to wait: {reason}. Free some disk space; clients keep their results and retry.")
        self.roster[session.name].delivered = time.monotonic()  # not the fault of the client
        logger.warning("%s: the result of %s is put off: %s", session.name, result.task, reason)
        await session.link.send(Later(result.block.id, self.later_seconds, reason))

    def _note_free_space(self) -> None:
        if self._is_full:
            self._is_full = False
            self.log("There is free space again: results are accepted.")

    async def _delivered(self, session: Session, block_id: str) -> None:
        delivery = session.deliveries.get(block_id)
        if delivery is None and block_id in session.acknowledged:
            await session.link.send(Ack(block_id))
            return
        if delivery is None:
            raise RemoteProtocolError(f"{session.name} committed a result that it had not offered")
        try:
            # The bytes came on the same link before the commit: this waits only for a dishonest client.
            async with asyncio.timeout(JOIN_SECONDS):
                whole = await asyncio.shield(delivery.fetching)
        except TimeoutError:
            raise RemoteProtocolError(f"{session.name} committed a result that it did not deliver") from None
        if not whole or session.deliveries.pop(block_id, None) is None:
            return  # the link has ended
        failpoint("server.result-fetched")
        result, partial = delivery.result, delivery.partial
        self.roster.rest(session.name)
        match await self._store.take_in(delivery.client, result, lambda: partial.finish(block_id)):
            case Duplicate():
                logger.info("%s delivered %s, which is a duplicate", session.name, result.task)
                partial.drop()
            case Defer(reason):
                await self._put_off(session, result, reason)
                return
            case Reject(reason):
                await session.link.send(RejectMessage(block_id, reason))
                self.events.put_nowait(TaskFailed(session.name, result.run, result.task, reason, not_finite=True))
                return
            case Stored():
                seconds = time.monotonic() - delivery.began
                trained = settings_of(result)
                self.events.put_nowait(
                    ResultCommitted(session.name, result.run, result.task, seconds, result.seconds, trained)
                )
        session.acknowledged.add(block_id)
        await session.link.send(Ack(block_id))
        failpoint("server.result-acknowledged")


def failed_login_message(address: str, why: OtherVersion | Distrusted) -> str:
    """Return the message to the operator about a client that can't log in."""
    match why:
        case OtherVersion(lowest, highest):
            theirs = f"version {highest}" if lowest == highest else f"versions {lowest} to {highest}"
            return (
                f"A client at {address} was rejected: it uses {theirs} of the protocol, this server version "
                f"{auth.VERSION}. Install the same version of lanfit on both machines."
            )
        case Distrusted():
            return (
                f"A client at {address} rejected this server because it expects another fingerprint. If this is the "
                "right server, start that client with the command above, including --fingerprint."
            )


async def _came(fetch: Coroutine[Any, Any, None]) -> bool:
    """Await a transfer; return whether it was complete before the link ended."""
    try:
        await fetch
    except ConnectionFailed:
        return False
    return True


async def _ignoring_the_end(transfer: Coroutine[Any, Any, None]) -> None:
    """Await a transfer; if the link ends during it, the reading side reports that."""
    with contextlib.suppress(ConnectionFailed):
        await transfer
