"""The agent: the network half of the client. Finds its server, joins, handles messages; reconnects after a lost link.

The work itself is in work_items.py and work.py. Imports no TensorFlow.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lanfit import __version__
from lanfit.core.failpoints import failpoint
from lanfit.core.gauge import Transfer
from lanfit.core.memory import free_memory
from lanfit.core.text import pluralize, sanitize
from lanfit.core.workspace import Workspace
from lanfit.errors import ConnectionFailed, InputError, LanfitError, RemoteProtocolError, lanfit_error
from lanfit.models.custom_files import Allowed
from lanfit.models.runtime import keras_version
from lanfit.net.addresses import with_port
from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import Link
from lanfit.net.tls import format_fingerprint, has_fingerprint
from lanfit.settings.parts import PartRange
from lanfit.settings.timeouts import Timeouts
from lanfit.transfer.blocks import BlockFile
from lanfit.wire.arrays import block_size
from lanfit.wire.messages import (
    Ack,
    Adjust,
    Allow,
    AnyMessage,
    AskParts,
    Cancel,
    Commit,
    CustomFile,
    EvaluateTask,
    Failed,
    Fetch,
    IdTaken,
    Join,
    Later,
    Lease,
    Leave,
    Message,
    NeedsCustom,
    Offer,
    PartsTaken,
    Reject,
    RunEnded,
    Runtime,
    Status,
    Survey,
    Surveyed,
    TakeParts,
    Unsuitable,
    Welcome,
)
from lanfit_client.closing_messages import LargePacketLoss, link_ended_message, run_ended_message
from lanfit_client.connect import Passphrase, ServerIdentity, TryLater, connect
from lanfit_client.consent import Consent
from lanfit_client.corrections import Corrections
from lanfit_client.pacing import BackOff, Flow, weight
from lanfit_client.settings import LEAST_ROWS
from lanfit_client.store.known_servers import KnownServers
from lanfit_client.store.outbox import Entry
from lanfit_client.store.state import ClientState
from lanfit_client.work import CachePolicy, Worker
from lanfit_client.work_items import EvaluationItem, Surveying, Training, WorkItem

#: Seconds between two reports of progress, and between two attempts to reach the server.
REPORT_SECONDS = 0.5
RETRY_SECONDS = 1.0
#: After a link that was shorter than this, in seconds, there is a pause: its cause may persist.
SHORT_LINK_SECONDS = 5.0
#: The interval of messages about a wait, in seconds.
REMIND_SECONDS = 30.0
DEFAULT_TIMEOUTS = Timeouts()
#: A reason for the lost link that the user already knows.
_ENDED = "the server has ended"
#: The number of open questions for parts: one is normal, and another one follows when the job changes.
MOST_UNANSWERED = 4
#: The longest time before a result is offered again to a server without disk space, in seconds.
LONGEST_DELAY = 600.0


@dataclass(frozen=True)
class Server:
    """The address to join; with a fingerprint, only a server with that."""

    host: str
    port: int
    fingerprint: str | None = None


class PartsChooser(Protocol):
    """Chooses the parts of the rows on which this client trains."""

    async def answer(self, of: int) -> TakeParts:
        """Return the answer for a job with this many parts."""
        ...

    def forget(self) -> None:
        """Discard the answer: the run has ended."""
        ...


class Agent:
    """One client of one server.

    Args:
        name: the name that the client proposes to the server.
        runtime: of its trainer.
        fixed: which parts of the runtime no task may change, because they were given on the command line.
        log: called with lines for the user.
        log_trouble: called with the reason why it can't join; `log` otherwise.
        data: the folder of the client's own files, which the server may use; otherwise they are in its workspace.
        consent: decides whether the server may use them, instead.
        least_rows: the server gets nothing of fewer training rows of them.
        remembers: whether servers are pinned in the state folder; not for a client that a server started itself.
        timeouts: how long it waits for a silent server.
        keeping: which received data is cached.
        parts: chooses the parts of the rows on which it trains, when the server requests them.
        corrections: waits for own files to be corrected that the server can't use.
        allowed: the files with custom objects that its user allows; only the trainer executes them.
        detail: called instead of `log` with lines that a progress bar makes unnecessary.
        log_now: called instead of `log` with what no question may keep back.
    """

    def __init__(
        self,
        server: Server,
        state: ClientState,
        workspace: Workspace,
        name: str,
        runtime: Runtime,
        log: Callable[[str], None],
        *,
        fixed: frozenset[str] = frozenset(),
        data: Path | None = None,
        consent: Consent | None = None,
        least_rows: int = LEAST_ROWS,
        remembers: bool = True,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        cache_policy: CachePolicy | None = None,
        parts: PartsChooser | None = None,
        corrections: Corrections | None = None,
        allowed: Allowed | None = None,
        log_trouble: Callable[[str], None] | None = None,
        detail: Callable[[str], None] | None = None,
        log_now: Callable[[str], None] | None = None,
    ) -> None:
        own = data or workspace.dataset
        self._allowed = allowed or Allowed()
        self._joined_with = self._allowed.specs
        self.worker = Worker(
            state, workspace, own, runtime, fixed, self._send_soon, log, cache_policy or CachePolicy(), self._allowed,
            detail, log_now, least_rows,
        )  # fmt: skip
        self._consent = consent or Consent(own, state.data_consents, given=data is not None)
        self._pending_consent: tuple[WorkItem, asyncio.Task[None]] | None = None
        """The work that waits for the consent of the user, and the coroutine that waits."""
        self.sending: Transfer | None = None
        """The results that are being sent."""
        self._timeouts = timeouts
        self._detail = detail or log
        self._server = server
        self._state = state
        self._known = KnownServers(state.known_servers) if remembers else None
        self._name = name
        self._parts = parts
        self._corrections = corrections
        self._survey_block = ""
        """The block of the last survey, until the server has fetched it."""
        self._log = log
        self._log_trouble = log_trouble or log
        self._link: Link | None = None
        self._identity: ServerIdentity | None = None
        self._given_name = name
        self._noted: tuple[str, str] | None = None
        """The versions of lanfit and Keras that the user was last notified of."""
        self._has_own_id = False
        """Whether it has chosen another id because another machine had the same."""
        self._join_seconds = 0.0
        self._times = LinkTimes.of(timeouts)
        self._back_off = BackOff()
        self._unanswered = 0
        """The number of questions for parts on this link without an answer."""
        self.monotonic: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep
        self._unsent: list[Message] = []
        self._delayed: set[str] = set()
        self._offered: set[str] = set()
        """The results that were offered on this link; only these can be acknowledged, rejected or fetched on it."""
        self._kept_back: set[bytes] = set()
        """The certificates of servers that got no results, of which the user was notified."""
        self._once = False
        self._large_packet_loss = LargePacketLoss()
        self._waited_for = ""
        """The last message to the user about what this client waits for."""
        self._knows_it_ended = False
        """Whether the server closed the connection on purpose, and the user was notified."""
        self._sending: set[asyncio.Task[None]] = set()

    def trust(self, fingerprint: bytes) -> None:
        """Accept the server, as if the user had given its fingerprint."""
        self._server = replace(self._server, fingerprint=fingerprint.hex())

    async def start(self) -> None:
        """Start the trainer, which imports its backend while the agent joins.

        Raises:
            InputError: the backend is not installed, or finds no GPU where one was asked for.
        """
        trainer = self.worker.trainer
        await trainer.start()
        if trainer.runtime.device == "gpu":  # only the backend can detect one
            self._log(f"Importing {trainer.runtime.backend} to check for a GPU.")
            await trainer.settled()

    async def run(self, passphrase: Passphrase, *, once: bool) -> None:
        """Join and work; with `once` until a run has ended, else forever.

        Raises:
            RefusedError: the server does not let this client in, or is not the one that it was.
            InputError: the backend can't be used on this machine.
        """
        trainer, self._once = self.worker.trainer, once
        working = asyncio.create_task(self._join_and_serve(passphrase, once=once))
        unusable = asyncio.create_task(trainer.unusable.wait())
        try:
            await asyncio.wait({working, unusable}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
                return
            try:
                await trainer.settled()
            except InputError as why:
                await self._leave(why.message)
                raise
        finally:
            for task in (working, unusable):
                task.cancel()
            await asyncio.gather(working, unusable, return_exceptions=True)

    async def _join_and_serve(self, passphrase: Passphrase, *, once: bool) -> None:
        while True:
            link = await self._join(passphrase)
            began, ended, wait = self.monotonic(), False, 0.0
            try:
                ended = await self._serve(link, once=once)
            except (ConnectionFailed, RemoteProtocolError) as lost:
                if isinstance(lost, RemoteProtocolError):
                    link.cut(lost.message)
                wait = self._back_off.ended(broken=bool(link.broken), lasted=self.monotonic() - began)
                self._lost(link, lost, wait)
            # Not in a `finally`: when this is cancelled, `close` ends the link with a goodbye.
            self._link = None
            await link.close("closed by the client")
            if ended:
                return
            if wait or self.monotonic() - began < SHORT_LINK_SECONDS:
                await self.sleep(max(wait, RETRY_SECONDS))

    def _lost(self, link: Link, lost: LanfitError, wait: float) -> None:
        """Report the end of the link, and what follows. A client that waits for the next run reports no attempts."""
        worker, on_purpose = self.worker, link.closed_cleanly and not link.broken
        at_work, results = worker.progress() is not None, len(worker.outbox)
        address = with_port(self._server.host, self._server.port)
        if link.broken:
            lost = lanfit_error("link.broken", address=address, reason=sanitize(link.broken, 300), seconds=wait)
        self._log(link_ended_message(lost, address, on_purpose=on_purpose, at_work=at_work, results=results))
        if advice := self._large_packet_loss.lost(link.stalled, link.bytes_received):
            self._log(advice)
        self._knows_it_ended = on_purpose

    # --- joining ------------------------------------------------------------------------------------------------

    async def _join(self, passphrase: Passphrase) -> Link:
        """Log in, and retry until the server is available."""
        began, last_log, reason = time.monotonic(), 0.0, ""
        if self._knows_it_ended:  # its absence is expected for a while
            last_log, reason = began, _ENDED
        while True:
            attempt = time.monotonic()
            wait = RETRY_SECONDS
            try:
                link, identity = await connect(
                    self._server.host,
                    self._server.port,
                    self._state.client_id,
                    passphrase,
                    expect_fingerprint=self._server.fingerprint,
                    known=self._known.check if self._known else None,
                    times=self._times,
                )
            except ConnectionFailed as failed:
                if isinstance(failed, TryLater):
                    wait = failed.retry_after
                now = time.monotonic()
                later, due = isinstance(failed, TryLater), now - last_log >= REMIND_SECONDS
                if due or (failed.message != reason and (later or reason != _ENDED)):
                    waited = f" ({now - began:.0f} s so far)" if reason else ""
                    self._log_trouble(
                        f"{failed.message}. {failed.hint} Retrying every {wait:.0f} s{waited}; Ctrl-C stops it."
                    )
                    last_log, reason = now, failed.message
                await asyncio.sleep(wait)
                continue
            self._bind_results(identity)  # before this server is remembered
            self._knows_it_ended = False
            self._join_seconds = time.monotonic() - attempt
            if self._known is not None:
                where = with_port(self._server.host, self._server.port)
                if self._known.remember(where, identity):
                    self._log(f"{where} was known with another fingerprint, which is replaced by the given one.")
            self._identity = identity
            return link

    def _bind_results(self, server: ServerIdentity) -> None:
        """Determine which results for a server with this id are for the one with this certificate.

        The id is public: anyone who knows the passphrase can use it. So a result is only for the certificate that its
        task came from, unless the user confirmed another one, by --fingerprint or at the prompt.
        """
        outbox, named = self.worker.outbox, self._server.fingerprint is not None
        known = self._known.digits_of(server.server_id) if self._known is not None else None

        def stays(entry: Entry) -> bool:
            # Earlier versions did not record the certificate: the remembered one applies.
            remembered = not entry.fingerprint and known is not None and has_fingerprint(server.fingerprint, known)
            return not (named or remembered)

        outbox.rebind(server.server_id, server.fingerprint, stays)
        waiting = [e for e in outbox.for_server(server.server_id) if e.fingerprint != server.fingerprint]
        if waiting and server.fingerprint not in self._kept_back:
            self._kept_back.add(server.fingerprint)
            shown = format_fingerprint(server.fingerprint)
            self._log(
                f"{pluralize(len(waiting), 'finished result')} for a server with this id but another certificate: kept "
                "here, as any server can claim an id. If it is the same server with a new key, restart this client "
                f"with --fingerprint {shown}."
            )

    def _is_for(self, entry: Entry | None) -> bool:
        """Return whether a result is for the server that this client is logged in to."""
        server = self._identity
        if entry is None or server is None:
            return False
        return (entry.server_id, entry.fingerprint) == (server.server_id, server.fingerprint)

    async def _serve(self, link: Link, *, once: bool) -> bool:
        """Work for the connected server; with `once` return True when a run has ended.

        Otherwise the link stays for the next run, if the server has one.
        """
        worker = self.worker
        ready, runtime = worker.trainer.ready, worker.trainer.runtime
        self._joined_with = self._allowed.specs
        self._offered.clear()
        await link.send(
            Join(
                name=self._name,
                version=__version__,
                backend=runtime.backend,
                device=ready.device if ready else runtime.device,
                threads=runtime.threads,
                free_memory=free_memory(),
                custom=self._joined_with,
                keras=keras_version(),
                process=self._state.process,
                earlier=self._state.earlier,
            )
        )
        reporting = asyncio.create_task(self._report(link))
        watching = asyncio.create_task(self._watch(link))
        flow, self._unanswered = Flow(self.monotonic()), 0
        try:
            while True:
                message = await link.receive()
                if (wait := flow.wait(weight(message), self.monotonic())) > 0:
                    await self._rest(link, wait)
                if isinstance(message, IdTaken):
                    self._choose_another_id()
                    return False
                if await self._handle(link, message) and once:
                    return True
        finally:
            await self._end_corrections()
            for task in (reporting, watching, *self._sending):
                task.cancel()
            await asyncio.gather(reporting, watching, *self._sending, return_exceptions=True)

    async def _rest(self, link: Link, seconds: float) -> None:
        """Receive nothing for this many seconds; disconnect a server that sends more than fits the buffers.

        Raises:
            ConnectionFailed: it was disconnected; its pending messages are discarded.
        """
        resting = asyncio.ensure_future(self.sleep(seconds))
        closing = asyncio.ensure_future(link.closed.wait())
        try:
            await asyncio.wait({resting, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            resting.cancel()
            closing.cancel()
        if link.broken:
            raise lanfit_error("link.ended", peer=link.peer, reason=link.reason)

    async def _end_corrections(self) -> None:
        if self._corrections is not None:
            await self._corrections.end()

    async def _survey_again(self, survey: Survey, link: Link) -> None:
        """Read the client's own data again, on request of the user or after a change."""
        if not self._survey_block:  # else the server is fetching the survey
            await self.worker.take(Surveying(self.worker.context, survey), link)

    def _choose_another_id(self) -> None:
        """Handle the rejection of this client's id: another machine has a copy of its state folder."""
        if not self._has_own_id:
            self._log(
                "Another client with the same id is connected to the server: the state folder was copied, for example "
                "in a disk image. This client now uses a new id and rejoins."
            )
        self._has_own_id = True
        self._state.choose_another_id()

    async def _watch(self, link: Link) -> None:
        """Report once that the server is silent, and once that it is back."""
        timeouts, longest = self._timeouts, 0.0
        while not link.closed.is_set():
            await asyncio.sleep(min(1.0, timeouts.suspect / 5))
            silence = link.silence
            if silence > timeouts.suspect:
                if not longest:
                    self._log(
                        f"Nothing was received from the server for {silence:.0f} s. Work continues; after "
                        f"{timeouts.lost:.0f} s the client reconnects."
                    )
                longest = silence
            elif longest:
                self._log(f"The server is back after {longest:.0f} s of silence.")
                longest = 0.0

    async def _report(self, link: Link) -> None:
        """Report progress regularly while there is work."""
        with contextlib.suppress(ConnectionFailed):
            while True:
                if (progress := self.worker.progress()) is not None:
                    await link.send(progress)
                await asyncio.sleep(REPORT_SECONDS)

    # --- messages -----------------------------------------------------------------------------------------------

    async def _handle(self, link: Link, message: AnyMessage) -> bool:
        """Handle a message; return whether a run ended."""
        worker = self.worker
        assert self._identity is not None
        match message:
            case Welcome():
                if self._link is link:
                    raise RemoteProtocolError("the server welcomed this client twice")
                self._welcome(link, message)
            case Status(text):
                if worker.progress() is None and text != self._waited_for:  # a client at work does not wait
                    self._waited_for = text
                    self._log(f"Waiting: {text}.")
            case NeedsCustom(files, objects):
                self._needs_custom(files, objects)
            case AskParts(of) if self._parts is not None:
                await self._end_corrections()  # input from now on is an answer
                if self._unanswered >= MOST_UNANSWERED:
                    raise RemoteProtocolError("the server asks for parts repeatedly without waiting for an answer")
                self._unanswered += 1
                self._start(self._answer_parts(link, self._parts, of))
            case PartsTaken():
                self._taken(message)
            case Lease():
                await self._end_corrections()
                server = self._identity
                training = Training(
                    worker.context, message, server.server_id, self._given_name, self._join_seconds, server.fingerprint
                )
                await self._take(training, link)
            case Survey():
                self._survey_block = ""
                await self._end_corrections()
                await self._take(Surveying(worker.context, message), link)
            case EvaluateTask():
                await self._end_corrections()
                await self._take(EvaluationItem(worker.context, message), link)
            case Fetch():
                self._start(self._deliver(link, message), link)
            case Ack(block) | Reject(block) | Later(block) if block not in self._offered:
                pass  # the result was not offered to this server, or the message is a repetition
            case Ack(block):
                failpoint("client.acknowledged")
                entry = worker.outbox.get(block)
                worker.outbox.remove(block)
                self._delayed.discard(block)
                of_round = entry is not None and entry.result.task.startswith("round-")
                (self._detail if of_round else self._log)("The server has stored the result.")
            case Later(block, seconds, reason):
                self._put_off(block, seconds, reason)
            case Reject(block, reason):
                worker.outbox.remove(block)
                self._log(f"The server refused a result: {reason}.")
            case Cancel(run, task, reason):
                if self._pending_consent is not None and self._pending_consent[0].key == ("task", run, task):
                    self._ask_no_more()
                await worker.cancel(run, task)
                self._log(f"Task {task} is no longer assigned to this client: {reason}.")
            case Adjust(run, task, adjustment):
                if self._pending_consent is not None and self._pending_consent[0].key == ("task", run, task):
                    self._pending_consent[0].adjust(adjustment)
                await worker.adjust(run, task, adjustment)
            case RunEnded(run, status, text):
                await self._end_corrections()
                self._ask_no_more()
                await worker.end_run(run, status)
                if self._parts is not None:
                    self._parts.forget()
                self._log(run_ended_message(text, once=self._once))
                return True
            case _:
                raise RemoteProtocolError(f"the server sent {type(message).__name__}, which is not for a client")
        return False

    async def _take(self, item: WorkItem, link: Link) -> None:
        """Start a work item; one on the client's own data needs the consent of the user, and fails without it."""
        self._ask_no_more()
        assert self._identity is not None
        if item.own and not self._consent.is_given(self._identity.fingerprint):
            self._pending_consent = item, self._start(self._take_if_allowed(item, link, self._identity))
        else:
            await self._begin(item, link)

    async def _begin(self, item: WorkItem, link: Link) -> None:
        if isinstance(item, Surveying) and self._corrections is not None:
            self._corrections.begin(lambda: self._survey_again(item.message, link))
        await self.worker.take(item, link)

    async def _take_if_allowed(self, item: WorkItem, link: Link, server: ServerIdentity) -> None:
        address = with_port(self._server.host, self._server.port)
        allowed = await self._consent.ask(server.fingerprint, address)
        self._pending_consent = None
        if allowed:
            await self._begin(item, link)
        else:
            self.worker.refuse(item, lanfit_error("own-data.not-allowed", server=address))

    def _ask_no_more(self) -> None:
        """Drop the work that waits for consent; the question stays open, and its answer is remembered."""
        pending, self._pending_consent = self._pending_consent, None
        if pending is not None:
            pending[1].cancel()

    def _welcome(self, link: Link, welcome: Welcome) -> None:
        """Handle the successful login: send the messages that had to wait."""
        assert self._identity is not None
        self._given_name = welcome.name
        self.worker.server_keras = welcome.keras
        self._log(f"Joined {link.peer} as {welcome.name}.")
        self._waited_for = ""
        versions = welcome.version, welcome.keras
        if versions != self._noted:
            self._noted = versions
            for line in differing_versions(*versions):
                self._log(line)
        self._link = link
        if self._allowed.specs != self._joined_with:
            self._send_soon(Allow(self._allowed.specs))
        unsent, self._unsent = self._unsent, []
        outbox = self.worker.outbox.for_server(self._identity.server_id)
        waiting = [Offer(entry.result) for entry in outbox if self._is_for(entry)]
        if waiting:
            self._log(
                f"Offering {pluralize(len(waiting), 'finished result')} that the server has not acknowledged yet."
            )
        for message in [*unsent, *waiting]:
            self._send_soon(message)

    def _needs_custom(self, files: Sequence[CustomFile], objects: Sequence[str]) -> None:
        """Report which custom objects are missing here for the server's model. Nothing is executed."""
        try:
            self._allowed.of(files, objects)
        except InputError as error:
            self._log(f"Not in this run: {error.message}. {error.hint}")

    def allow(self, path: Path) -> None:
        """Allow one more custom objects file, on request of the user of this machine.

        Raises:
            InputError: it is missing, or not Python.
        """
        self._allowed.add(path)
        self._send_soon(Allow(self._allowed.specs))

    async def _answer_parts(self, link: Link, parts: PartsChooser, of: int) -> None:
        answer = await parts.answer(of)
        self._unanswered -= 1
        self._name = answer.name
        await link.send(answer)

    def _taken(self, taken: PartsTaken) -> None:
        if taken.name != self._given_name:
            self._log(f"This client is now called {taken.name}.")
        self._given_name = self._name = taken.name
        self._state.remember_name(taken.name)
        self._log(f"This client trains on {PartRange(taken.first, taken.last).description} of {taken.of}.")

    def _send_soon(self, message: Message) -> None:
        """Send a message if there is a link. Otherwise only failures are kept: results are in the outbox."""
        if isinstance(message, Offer):
            if not self._is_for(self.worker.outbox.get(message.result.block.id)):
                return
            self._offered.add(message.result.block.id)
        if self._link is not None:
            self._start(self._link.send(message))
        elif isinstance(message, Failed):
            self._unsent.append(message)
        if isinstance(message, Surveyed):
            self._survey_block = message.block.id
        elif isinstance(message, Unsuitable) and self._corrections is not None:
            self._corrections.invite()

    def _start(self, sending: Coroutine[Any, Any, None], link: Link | None = None) -> asyncio.Task[None]:
        """Run a coroutine on a link, concurrently with receiving. If the peer violates the protocol, cut the link."""
        task = asyncio.create_task(_ignoring_the_end(sending, link))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        task.add_done_callback(lambda _: sending.close())  # it may have been cancelled before it started
        return task

    def _put_off(self, block: str, seconds: float, reason: str) -> None:
        """Keep a result for which the server has no disk space, and offer it again later."""
        self._offered.discard(block)  # a repetition before the next offer is ignored
        if block not in self._delayed:
            self._delayed.add(block)
            self._log(f"The server can't accept a result yet: {reason}. It is kept here and offered again.")
        self._start(self._offer_later(block, seconds))

    async def _offer_later(self, block: str, seconds: float) -> None:
        await asyncio.sleep(min(max(seconds, 0.0), LONGEST_DELAY))
        entry = self.worker.outbox.get(block)
        if entry is not None:
            self._send_soon(Offer(entry.result))

    async def _deliver(self, link: Link, fetch: Fetch) -> None:
        """Send a block that was announced to the server; after a result, request its commit."""
        outbox = self.worker.outbox
        if outbox.get(fetch.block) is not None and fetch.block not in self._offered:
            raise RemoteProtocolError("the server requested a block that it was not offered")
        why = await asyncio.to_thread(outbox.drop_if_damaged, fetch.block)
        if why:
            await link.close("a result can't be read back from this client's disk")  # the server waits for it
            return
        file = self.worker.block(fetch.block)
        if file is None:
            raise RemoteProtocolError("the server requested a block that it was not offered")
        block = BlockFile.open(Path(file.path))
        try:
            entry, size = self.worker.outbox.get(fetch.block), block_size(file.block.arrays)
            moved = Transfer(size, fetch.offset, time.monotonic())
            await link.send_block(fetch, [block.view[:size]], lambda position: self._sent(entry, moved, position))
        finally:
            self.sending = None
            block.close()
        if fetch.block == self._survey_block:
            self._survey_block = ""
        if entry is not None:
            await link.send(Commit(fetch.block))
            failpoint("client.delivered")

    def _sent(self, entry: Entry | None, moved: Transfer, position: int) -> None:
        """Update the progress of sending a result."""
        if entry is None:
            return
        self.sending, moved.done = moved, position
        if line := moved.step(time.monotonic()):
            self._detail(f"Sending {entry.result.task}: {line}.")

    async def close(self, reason: str = "") -> None:
        """Say goodbye, and end the trainer."""
        await self._leave(reason)
        await self.worker.close()

    async def _leave(self, reason: str) -> None:
        if self._link is not None and not self._link.closed.is_set():
            with contextlib.suppress(ConnectionFailed):
                await self._link.send(Leave(reason))
                await self._link.close(reason)


def differing_versions(lanfit: str, keras: str) -> list[str]:
    """Return the message about a server with another version of lanfit or Keras."""
    notes = []
    if (there := lanfit) != __version__:
        notes.append(
            f"Note: the server has lanfit {there}, this client {__version__}: install the same version on both "
            "machines if something fails."
        )
    here, there = keras_version(), keras
    if here and there and here != there:
        notes.append(
            f"Note: the server has Keras {there}, this client {here}: the client tries to build the model before "
            "it receives its rows."
        )
    return notes


async def _ignoring_the_end(sending: Coroutine[Any, Any, None], link: Link | None) -> None:
    """Await something on a link; if the link ends or is cut during that, the reading side notices."""
    try:
        await sending
    except ConnectionFailed:
        pass
    except RemoteProtocolError as error:
        if link is None:
            raise
        link.cut(error.message)
