"""The agent: the client's network half. Finds its server, joins, answers messages; goes on across lost links.

What is done for the server, and how, is the business of errands.py and work.py. Imports no TensorFlow.
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
from lanfit.crash import crash_point
from lanfit.data.memory import free_memory
from lanfit.errors import ConnectionFailed, InputError, RemoteProtocolError
from lanfit.files import BlockFile
from lanfit.gauge import Transfer
from lanfit.mistakes import mistake
from lanfit.models.custom import Allowed
from lanfit.models.runtime import keras_version
from lanfit.net.addresses import with_port
from lanfit.net.connect import ServerIdentity, TryLater, connect
from lanfit.net.link import Link
from lanfit.net.pulse import LinkTimes
from lanfit.net.tls import format_fingerprint, has_fingerprint
from lanfit.parts import PartRange
from lanfit.text import pluralize
from lanfit.waits import Waits
from lanfit.wire.arrays import block_size
from lanfit.wire.messages import (
    Ack,
    Allow,
    AnyMessage,
    AskParts,
    Cancel,
    Commit,
    CustomFile,
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
    ScoreTask,
    Status,
    Survey,
    Surveyed,
    TakeParts,
    Unsuitable,
    Welcome,
)
from lanfit.workspace import Workspace
from lanfit_client.closing_messages import LargePacketLoss, link_ended_message, run_ended_message
from lanfit_client.consent import Consent
from lanfit_client.corrections import Corrections
from lanfit_client.errands import Errand, Scoring, Surveying, Training
from lanfit_client.known import KnownServers
from lanfit_client.outbox import Entry
from lanfit_client.settings import LEAST_ROWS
from lanfit_client.state import ClientState
from lanfit_client.work import Keeping, Worker

#: Seconds between two reports of progress, and between two attempts to reach the server.
REPORT_SECONDS = 0.5
RETRY_SECONDS = 1.0
#: After a link that lasted less than so many seconds there is a pause: what ended it may do so again.
SHORT_LINK_SECONDS = 5.0
#: How often a wait is said again, in seconds.
REMIND_SECONDS = 30.0
DEFAULT_WAITS = Waits()
#: A reason why there is no link that the user knows.
_ENDED = "the server has ended"
#: A server that has no room is asked again after so many seconds at most, whatever it says.
LONGEST_DELAY = 600.0


@dataclass(frozen=True)
class Server:
    """Where to join; with a fingerprint, only the server that has it."""

    host: str
    port: int
    fingerprint: str | None = None


class PartsAnswers(Protocol):
    """Knows which parts of the rows this client trains on."""

    async def answer(self, of: int) -> TakeParts:
        """The answer for a job with so many parts."""
        ...

    def forget(self) -> None:
        """The run is over."""
        ...


class Agent:
    """One client of one server.

    Args:
        name: what the client would like to be called.
        runtime: of its trainer.
        fixed: which parts of the runtime no task may change, because they were given on the command line.
        say: called with lines for the user.
        say_trouble: called with what keeps it from joining; `say` otherwise.
        data: the folder of the client's own files, which the server may use; otherwise they are in its workspace.
        consent: says whether the server may use them, instead.
        least_rows: the server gets nothing of fewer training rows of them.
        remembers: whether servers are pinned in the state folder; not for a client that a server started itself.
        waits: how long it waits for a server that says nothing.
        keeping: what is kept of the data that it receives.
        parts: says which parts of the rows it trains on, when the server asks.
        corrections: waits for own files to be corrected that the server can't use.
        allowed: the files with custom objects that its user allows; only the trainer executes them.
        detail: called instead of `say` with lines that a progress bar makes unnecessary.
        say_now: called instead of `say` with what no question may keep back.
    """

    def __init__(
        self,
        server: Server,
        state: ClientState,
        workspace: Workspace,
        name: str,
        runtime: Runtime,
        say: Callable[[str], None],
        *,
        fixed: frozenset[str] = frozenset(),
        data: Path | None = None,
        consent: Consent | None = None,
        least_rows: int = LEAST_ROWS,
        remembers: bool = True,
        waits: Waits = DEFAULT_WAITS,
        keeping: Keeping | None = None,
        parts: PartsAnswers | None = None,
        corrections: Corrections | None = None,
        allowed: Allowed | None = None,
        say_trouble: Callable[[str], None] | None = None,
        detail: Callable[[str], None] | None = None,
        say_now: Callable[[str], None] | None = None,
    ) -> None:
        own = data or workspace.dataset
        self._allowed = allowed or Allowed()
        self._joined_with = self._allowed.specs
        self.worker = Worker(
            state, workspace, own, runtime, fixed, self._send_soon, say, keeping or Keeping(), self._allowed,
            detail, say_now, least_rows,
        )  # fmt: skip
        self._consent = consent or Consent(own, state.data_consents, given=data is not None)
        self._asking: tuple[Errand, asyncio.Task[None]] | None = None
        """What waits for the user's word, and the task that does."""
        self.sending: Transfer | None = None
        """What is handed back at this moment."""
        self._waits = waits
        self._detail = detail or say
        self._server = server
        self._state = state
        self._known = KnownServers(state.known_servers) if remembers else None
        self._name = name
        self._parts = parts
        self._corrections = corrections
        self._told_block = ""
        """Of the last survey, until the server has fetched it."""
        self._say = say
        self._say_trouble = say_trouble or say
        self._link: Link | None = None
        self._identity: ServerIdentity | None = None
        self._given_name = name
        self._noted: tuple[str, str] | None = None
        """The versions of lanfit and Keras that the user was last told of."""
        self._has_own_id = False
        """Whether it has taken another id because its own was that of another machine, too."""
        self._join_seconds = 0.0
        self._times = LinkTimes.of(waits)
        self._unsent: list[Message] = []
        self._delayed: set[str] = set()
        self._offered: set[str] = set()
        """The results that were offered over this link: nothing else is acknowledged, refused or fetched on it."""
        self._kept_back: set[bytes] = set()
        """The certificates of servers that got nothing, as the user was told."""
        self._once = False
        self._large_packet_loss = LargePacketLoss()
        self._waited_for = ""
        """What the user was told last that this client is waiting for."""
        self._knows_it_ended = False
        """The server said goodbye, and the user knows."""
        self._sending: set[asyncio.Task[None]] = set()

    def trust(self, fingerprint: bytes) -> None:
        """The user says that this is the server that is meant, as by naming its fingerprint."""
        self._server = replace(self._server, fingerprint=fingerprint.hex())

    async def start(self) -> None:
        """Start the trainer: it imports its backend while the agent joins.

        Raises:
            InputError: the backend is not installed, or finds no GPU where one was asked for.
        """
        trainer = self.worker.trainer
        await trainer.start()
        if trainer.runtime.device == "gpu":  # only the backend knows whether there is one
            self._say(f"Importing {trainer.runtime.backend}, to see whether it finds a GPU.")
            await trainer.settled()

    async def run(self, passphrase: str, *, once: bool) -> None:
        """Join and work; with `once` until a run has ended, else for ever.

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

    async def _join_and_serve(self, passphrase: str, *, once: bool) -> None:
        while True:
            link = await self._join(passphrase)
            began, ended = time.monotonic(), False
            try:
                ended = await self._serve(link, once=once)
            except ConnectionFailed as lost:
                self._lost(link, lost)
            # Not in a `finally`: when this is cancelled, `close` says goodbye on the link.
            self._link = None
            await link.close("the client is done with it")
            if ended:
                return
            if time.monotonic() - began < SHORT_LINK_SECONDS:
                await asyncio.sleep(RETRY_SECONDS)

    def _lost(self, link: Link, lost: ConnectionFailed) -> None:
        """Say that the link has ended, and what is done now; who waits for the next run is not told every try."""
        worker, on_purpose = self.worker, link.said_goodbye
        at_work, results = worker.progress() is not None, len(worker.outbox)
        address = with_port(self._server.host, self._server.port)
        self._say(link_ended_message(lost, address, on_purpose=on_purpose, at_work=at_work, results=results))
        if advice := self._large_packet_loss.lost(link.stood_still, link.bytes_received):
            self._say(advice)
        self._knows_it_ended = on_purpose

    # --- joining ------------------------------------------------------------------------------------------------

    async def _join(self, passphrase: str) -> Link:
        """Log in, however long the server takes to be there."""
        began, said, reason = time.monotonic(), 0.0, ""
        if self._knows_it_ended:  # that it is not there is no news for a while
            said, reason = began, _ENDED
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
                later, due = isinstance(failed, TryLater), now - said >= REMIND_SECONDS
                if due or (failed.message != reason and (later or reason != _ENDED)):
                    waited = f" ({now - began:.0f} s so far)" if reason else ""
                    self._say_trouble(
                        f"{failed.message}. {failed.hint} Trying again every {wait:.0f} s{waited}; Ctrl-C ends it."
                    )
                    said, reason = now, failed.message
                await asyncio.sleep(wait)
                continue
            self._bind_results(identity)  # before this server is remembered
            self._knows_it_ended = False
            self._join_seconds = time.monotonic() - attempt
            if self._known is not None:
                where = with_port(self._server.host, self._server.port)
                if self._known.remember(where, identity):
                    self._say(f"{where} was known here with another fingerprint; the given one takes its place.")
            self._identity = identity
            return link

    def _bind_results(self, server: ServerIdentity) -> None:
        """See which results that wait here for a server with this id are for the one with this certificate.

        The id is public: who knows the passphrase can take it. So a result is only for the certificate that its task
        came from; but who named another one, by --fingerprint or at the question, says that it is the same server.
        """
        outbox, named = self.worker.outbox, self._server.fingerprint is not None
        known = self._known.digits_of(server.server_id) if self._known is not None else None

        def stays(entry: Entry) -> bool:
            # An earlier version did not write the certificate down: then it is the one that is remembered.
            remembered = not entry.fingerprint and known is not None and has_fingerprint(server.fingerprint, known)
            return not (named or remembered)

        outbox.rebind(server.server_id, server.fingerprint, stays)
        waiting = [e for e in outbox.for_server(server.server_id) if e.fingerprint != server.fingerprint]
        if waiting and server.fingerprint not in self._kept_back:
            self._kept_back.add(server.fingerprint)
            shown = format_fingerprint(server.fingerprint)
            self._say(
                f"{pluralize(len(waiting), 'finished result')} for a server with this id and another certificate: kept "
                "back, as anybody can take its id. If this is that server with a new key, start this client again "
                f"with --fingerprint {shown}."
            )

    def _is_for(self, entry: Entry | None) -> bool:
        """Whether a result is for the server that this client is logged in to."""
        server = self._identity
        if entry is None or server is None:
            return False
        return (entry.server_id, entry.fingerprint) == (server.server_id, server.fingerprint)

    async def _serve(self, link: Link, *, once: bool) -> bool:
        """Work for the server at the other end; with `once` returns True when a run has ended.

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
        try:
            while True:
                message = await link.receive()
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

    async def _end_corrections(self) -> None:
        if self._corrections is not None:
            await self._corrections.end()

    async def _survey_again(self, survey: Survey, link: Link) -> None:
        """The user wants the own files read again, or has changed them."""
        if not self._told_block:  # else the server is just fetching what was told of them
            await self.worker.take(Surveying(self.worker.means, survey), link)

    def _choose_another_id(self) -> None:
        """A client with this id is at the server, and answers: two machines have a copy of one state folder."""
        if not self._has_own_id:
            self._say(
                "A client with this client's id is at the server already: its state folder was copied, as with a disk "
                "image. This client has an id of its own from now on, and joins again."
            )
        self._has_own_id = True
        self._state.choose_another_id()

    async def _watch(self, link: Link) -> None:
        """Say once when nothing is heard of the server, which need not mean anything yet, and once that it is back."""
        waits, longest = self._waits, 0.0
        while not link.closed.is_set():
            await asyncio.sleep(min(1.0, waits.suspect / 5))
            silence = link.silence
            if silence > waits.suspect:
                if not longest:
                    self._say(
                        f"Nothing has come from the server for {silence:.0f} s. Work goes on here; after "
                        f"{waits.lost:.0f} s the link is made anew."
                    )
                longest = silence
            elif longest:
                self._say(f"The server is back: nothing came from it for {longest:.0f} s.")
                longest = 0.0

    async def _report(self, link: Link) -> None:
        """Report progress while there is any."""
        with contextlib.suppress(ConnectionFailed):
            while True:
                if (progress := self.worker.progress()) is not None:
                    await link.send(progress)
                await asyncio.sleep(REPORT_SECONDS)

    # --- messages -----------------------------------------------------------------------------------------------

    async def _handle(self, link: Link, message: AnyMessage) -> bool:
        """Do what a message says; returns whether a run ended."""
        worker = self.worker
        assert self._identity is not None
        match message:
            case Welcome():
                self._welcome(link, message)
            case Status(text):
                if worker.progress() is None and text != self._waited_for:  # who is at work waits for nothing
                    self._waited_for = text
                    self._say(f"Waiting: {text}.")
            case NeedsCustom(files, objects):
                self._needs_custom(files, objects)
            case AskParts(of) if self._parts is not None:
                await self._end_corrections()  # what is typed from now on is an answer
                self._start(self._answer_parts(link, self._parts, of))
            case PartsTaken():
                self._taken(message)
            case Lease():
                await self._end_corrections()
                server = self._identity
                training = Training(
                    worker.means, message, server.server_id, self._given_name, self._join_seconds, server.fingerprint
                )
                await self._take(training, link)
            case Survey():
                self._told_block = ""
                await self._end_corrections()
                await self._take(Surveying(worker.means, message), link)
            case ScoreTask():
                await self._end_corrections()
                await self._take(Scoring(worker.means, message), link)
            case Fetch():
                self._start(self._deliver(link, message))
            case Ack(block) | Reject(block) | Later(block) if block not in self._offered:
                pass  # what this server was not offered is not its business; or it says so twice
            case Ack(block):
                crash_point("client.acknowledged")
                entry = worker.outbox.get(block)
                worker.outbox.remove(block)
                self._delayed.discard(block)
                of_round = entry is not None and entry.result.task.startswith("round-")
                (self._detail if of_round else self._say)("The server has the result on disk.")
            case Later(block, seconds, reason):
                self._put_off(block, seconds, reason)
            case Reject(block, reason):
                worker.outbox.remove(block)
                self._say(f"The server refused a result: {reason}.")
            case Cancel(run, task, reason):
                if self._asking is not None and self._asking[0].key == ("task", run, task):
                    self._ask_no_more()
                await worker.cancel(run, task)
                self._say(f"Task {task} is not this client's any more: {reason}.")
            case RunEnded(run, status, text):
                await self._end_corrections()
                self._ask_no_more()
                await worker.end_run(run, status)
                if self._parts is not None:
                    self._parts.forget()
                self._say(run_ended_message(text, once=self._once))
                return True
            case _:
                raise RemoteProtocolError(f"the server sent {type(message).__name__}, which is not for a client")
        return False

    async def _take(self, errand: Errand, link: Link) -> None:
        """Do an errand; one that needs the own rows when their user allows it, and else tell that it may not be."""
        self._ask_no_more()
        assert self._identity is not None
        if errand.own and not self._consent.is_given(self._identity.fingerprint):
            self._asking = errand, self._start(self._take_if_allowed(errand, link, self._identity))
        else:
            await self._begin(errand, link)

    async def _begin(self, errand: Errand, link: Link) -> None:
        if isinstance(errand, Surveying) and self._corrections is not None:
            self._corrections.begin(lambda: self._survey_again(errand.message, link))
        await self.worker.take(errand, link)

    async def _take_if_allowed(self, errand: Errand, link: Link, server: ServerIdentity) -> None:
        address = with_port(self._server.host, self._server.port)
        allowed = await self._consent.ask(server.fingerprint, address)
        self._asking = None
        if allowed:
            await self._begin(errand, link)
        else:
            self.worker.refuse(errand, mistake("own-data.not-allowed", server=address))

    def _ask_no_more(self) -> None:
        """What waits for the user's word is not wanted any more; the question stays, and its answer counts."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking[1].cancel()

    def _welcome(self, link: Link, welcome: Welcome) -> None:
        """In: from now on messages can be sent, beginning with what could not be before."""
        assert self._identity is not None
        self._given_name = welcome.name
        self.worker.server_keras = welcome.keras
        self._say(f"Joined {link.peer} as {welcome.name}.")
        self._waited_for = ""
        versions = welcome.version, welcome.keras
        if versions != self._noted:
            self._noted = versions
            for line in differing_versions(*versions):
                self._say(line)
        self._link = link
        if self._allowed.specs != self._joined_with:
            self._send_soon(Allow(self._allowed.specs))
        unsent, self._unsent = self._unsent, []
        outbox = self.worker.outbox.for_server(self._identity.server_id)
        waiting = [Offer(entry.result) for entry in outbox if self._is_for(entry)]
        if waiting:
            self._say(
                f"Offering {pluralize(len(waiting), 'finished result')} that the server has not acknowledged yet."
            )
        for message in [*unsent, *waiting]:
            self._send_soon(message)

    def _needs_custom(self, files: Sequence[CustomFile], objects: Sequence[str]) -> None:
        """Say what is missing here for the server's model. Nothing is read from the server, and nothing executed."""
        try:
            self._allowed.of(files, objects)
        except InputError as wrong:
            self._say(f"Not in this run: {wrong.message}. {wrong.hint}")

    def allow(self, path: Path) -> None:
        """Allow one more file with custom objects, as the user of this machine wants.

        Raises:
            InputError: it is missing, or not Python.
        """
        self._allowed.add(path)
        self._send_soon(Allow(self._allowed.specs))

    async def _answer_parts(self, link: Link, parts: PartsAnswers, of: int) -> None:
        answer = await parts.answer(of)
        self._name = answer.name
        await link.send(answer)

    def _taken(self, taken: PartsTaken) -> None:
        if taken.name != self._given_name:
            self._say(f"Called {taken.name} from now on.")
        self._given_name = self._name = taken.name
        self._state.remember_name(taken.name)
        self._say(f"This client trains on {PartRange(taken.first, taken.last).said} of {taken.of}.")

    def _send_soon(self, message: Message) -> None:
        """Send a message if there is a link. Without one only a failure is kept: results wait in the outbox."""
        if isinstance(message, Offer):
            if not self._is_for(self.worker.outbox.get(message.result.block.id)):
                return
            self._offered.add(message.result.block.id)
        if self._link is not None:
            self._start(self._link.send(message))
        elif isinstance(message, Failed):
            self._unsent.append(message)
        if isinstance(message, Surveyed):
            self._told_block = message.block.id
        elif isinstance(message, Unsuitable) and self._corrections is not None:
            self._corrections.invite()

    def _start(self, sending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(_ignoring_the_end(sending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    def _put_off(self, block: str, seconds: float, reason: str) -> None:
        """The server has no room for a result: it stays here, and is offered again."""
        if block not in self._delayed:
            self._delayed.add(block)
            self._say(f"The server can't take a result yet: {reason}. It waits here and is offered again.")
        self._start(self._offer_later(block, seconds))

    async def _offer_later(self, block: str, seconds: float) -> None:
        await asyncio.sleep(min(max(seconds, 0.0), LONGEST_DELAY))
        entry = self.worker.outbox.get(block)
        if entry is not None:
            self._send_soon(Offer(entry.result))

    async def _deliver(self, link: Link, fetch: Fetch) -> None:
        """Send a block that the server was told of; that of a result, it is asked to put on disk."""
        outbox = self.worker.outbox
        if outbox.get(fetch.block) is not None and fetch.block not in self._offered:
            raise RemoteProtocolError("the server asked for a block that it was not offered")
        why = await asyncio.to_thread(outbox.drop_if_damaged, fetch.block)
        if why:
            await link.close("a result can't be read back from this client's disk")  # it is waited for on this link
            return
        file = self.worker.block(fetch.block)
        if file is None:
            raise RemoteProtocolError("the server asked for a block that it was not offered")
        block = BlockFile.open(Path(file.path))
        try:
            entry, size = self.worker.outbox.get(fetch.block), block_size(file.block.arrays)
            moved = Transfer(size, fetch.offset, time.monotonic())
            await link.send_block(fetch, [block.view[:size]], lambda position: self._sent(entry, moved, position))
        finally:
            self.sending = None
            block.close()
        if fetch.block == self._told_block:
            self._told_block = ""
        if entry is not None:
            await link.send(Commit(fetch.block))
            crash_point("client.delivered")

    def _sent(self, entry: Entry | None, moved: Transfer, position: int) -> None:
        """So much of a result is on its way."""
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
    """What is said about a server whose lanfit or Keras is not this client's."""
    said = []
    if (there := lanfit) != __version__:
        said.append(
            f"Note: the server has lanfit {there}, this client {__version__}: install the same on both machines if "
            "something fails."
        )
    here, there = keras_version(), keras
    if here and there and here != there:
        said.append(
            f"Note: the server has Keras {there}, this client {here}: whether the model can be built here is tried "
            "before its rows come."
        )
    return said


async def _ignoring_the_end(sending: Coroutine[Any, Any, None]) -> None:
    """Await something on a link; when the link ends meanwhile, the reading side notices."""
    with contextlib.suppress(ConnectionFailed):
        await sending
