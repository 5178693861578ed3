"""The shell around the engine: the only consumer of a run's events. Carries out instructions, in their order.

It decides nothing. Instructions after a `Persist` wait until the ledger is synced. Work of the method runs
concurrently, and its results come back through the queue like everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lanfit.core.failpoints import failpoint
from lanfit.errors import LanfitError, lanfit_error
from lanfit.models.runtime import versions
from lanfit.transfer.disk_space import RetryWhenFull
from lanfit.wire.messages import Adjust as AdjustMessage
from lanfit.wire.messages import Cancel as CancelMessage
from lanfit.wire.messages import RunEnded
from lanfit_server.clusters.base import Cluster, next_event
from lanfit_server.clusters.events import ClientJoined, Event, InternalEvent, Logged, ResultCommitted, settings_of
from lanfit_server.methods.workshop import Workshop
from lanfit_server.run import events
from lanfit_server.run.dispatch import Dispatch
from lanfit_server.run.engine import Input, Past, RunEngine
from lanfit_server.run.instructions import (
    Adjust,
    Ask,
    Asked,
    AssignShards,
    Cancel,
    Command,
    Do,
    DoNow,
    Emit,
    EndRun,
    Instruction,
    Lease,
    Notify,
    Persist,
    RecordClient,
    RecordEnd,
    RecordLeases,
    RecordSettings,
    Stop,
    Suspended,
    Tick,
    Work,
    WorkDone,
)
from lanfit_server.run.journal import Journal
from lanfit_server.store.result_store import OpenRun
from lanfit_server.ui.display import Display

#: If the loop was blocked for this long, in seconds (a suspended machine), the silence of clients is not their fault.
STOOD_STILL_SECONDS = 5.0


@dataclass(frozen=True)
class _Given:
    """A command for the engine, and whether it was accepted."""

    command: Command
    taken: asyncio.Future[None]


class Shell:
    """Runs an engine on a cluster.

    Args:
        workshop: does the method's work.
        subscribers: receive every event, in this order.
        heartbeat: the interval, in seconds, of checks for tasks without progress.
        clock: the monotonic clock.
    """

    def __init__(
        self,
        run: OpenRun,
        engine: RunEngine,
        workshop: Workshop,
        cluster: Cluster,
        dispatch: Dispatch,
        journal: Journal,
        display: Display,
        subscribers: Sequence[events.Subscriber],
        heartbeat: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._engine = engine
        self._workshop = workshop
        self._cluster = cluster
        self._dispatch = dispatch
        self._journal = journal
        self._display = display
        self._subscribers = subscribers
        self._heartbeat = heartbeat
        self._clock = clock
        self._to_do: deque[Instruction] = deque()
        self._working: set[asyncio.Task[None]] = set()
        self._is_new = not run.ledger.owners()
        self._is_over = False
        self.looked = clock()
        """The time of the last `Tick`."""

    async def run(self) -> None:
        """Run until the engine ends the run.

        Raises:
            LanfitError, OSError: a client that is needed will never come, or some work can't be done.
        """
        self._emit(events.RunBegan(self._run.run, not self._is_new, versions()))
        await self._follow(self._begin())
        while not self._is_over:
            await self._step()
        self._show()

    def _begin(self) -> list[Instruction]:
        ledger, roster = self._run.ledger, self._cluster.roster
        past = None
        if not self._is_new:
            stored = ledger.results()
            results = [(each.task, each.client) for each in stored]
            trained = {each.task: settings_of(each.result) for each in stored}
            past = Past(results, ledger.leases(), ledger.rounds(), trained)
        here = [ClientJoined(name, roster[name].address, roster[name].backend) for name in roster.connected]
        gone = {each.name: each.gone_since for each in roster.members() if not each.connected}
        return self._engine.begin(here, gone, past, self._clock())

    async def _step(self) -> None:
        """Wait for the next event, and carry out the instructions for it."""
        self._show()
        began = self._clock()
        seconds = self._engine.wake(began)
        event = await next_event(self._cluster, seconds)
        now = self._clock()
        if (stood := now - began - seconds) > STOOD_STILL_SECONDS:
            self._on_event(Suspended(stood))
        if event is not None:
            await self._take(event)
        if event is None or now - self.looked >= self._heartbeat:
            self._tick(idle=event is None)
        await self._work_off()

    async def _take(self, event: Event) -> None:
        match event:
            case InternalEvent(Exception() as error):
                raise error
            case InternalEvent(_Given(command, taken)):
                try:
                    self._on_event(command)
                    taken.set_result(None)
                except LanfitError as refused:
                    taken.set_exception(refused)
            case InternalEvent(WorkDone() as done):
                self._on_event(done)
            case Logged():
                if event.run == self._run.run and self._journal.client_log(event.client, event.lines):
                    self._emit(events.LogFull(event.client))
            case ClientJoined():
                member = self._cluster.roster[event.client]
                self._on_event(ClientJoined(event.client, member.address, member.backend))
            case _:
                self._on_event(event)

    def _tick(self, *, idle: bool) -> None:
        members = self._cluster.roster.members()
        advanced = {each.name: each.advanced for each in members if each.connected}
        delivered = {each.name: each.delivered for each in members if each.connected}
        self.looked = self._clock()
        self._on_event(Tick(advanced, delivered, idle))

    def _on_event(self, event: Input) -> None:
        self._to_do += self._engine.handle(event, self._clock())

    def command(self, command: Command) -> asyncio.Future[None]:
        """Give a command of the operator to the engine, before everything that happens later.

        Returns:
            A future that is done when the command was accepted. Its exception is an `InputError` if the method can't
            follow it, or if the run ends before.
        """
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cluster.events.put_nowait(InternalEvent(_Given(command, taken)))
        return taken

    def _show(self) -> None:
        """Update the state of the run on the display."""
        self._display.facts(self._engine.facts())

    # --- instructions -------------------------------------------------------------------------------------------

    async def _follow(self, instructions: Iterable[Instruction]) -> None:
        self._to_do += instructions
        await self._work_off()

    async def _work_off(self) -> None:
        while self._to_do:
            if isinstance(self._to_do[0], RecordClient | RecordLeases | RecordEnd):
                self._write_notes()
            else:
                await self._carry_out(self._to_do.popleft())

    def _write_notes(self) -> None:
        """Write the notes that come next in one commit: each commit waits for the disk."""
        ledger, roster = self._run.ledger, self._cluster.roster
        with ledger.noting():
            while self._to_do:
                match self._to_do[0]:
                    case RecordClient(client):
                        # It may be new: its results are checked against its id.
                        ledger.remember(client, roster[client].client_id)
                    case RecordLeases(assignments):
                        for each in assignments:
                            ledger.lease(each.task.key, each.attempt, each.client)
                    case RecordEnd(ended, task, client, failure):
                        ledger.end_leases(ended, task=task, client=client, failure=failure)
                    case _:
                        return
                self._to_do.popleft()

    async def _carry_out(self, instruction: Instruction) -> None:
        cluster, run = self._cluster, self._run
        match instruction:
            case Emit(event):
                self._emit(event)
            case Do(work):
                self._start(work)
            case DoNow(work):
                await self._workshop.do(work)
            case Persist(tasks, epochs):
                retry = RetryWhenFull("Tasks can't be written down", self._display.log)
                await retry.for_(lambda: run.allow_epochs(epochs), thread=False)
                await retry.for_(lambda: run.ledger.add_tasks(tasks), thread=False)
                if self._is_new:
                    self._is_new = False
                    failpoint("server.tasks-assigned")
                    self._notify_shards()
            case RecordSettings(values):
                retry = RetryWhenFull("A changed setting can't be written down", self._display.log)
                await retry.for_(lambda: run.change_job(values), thread=False)
            case AssignShards(owners):
                run.ledger.assign_owners(owners)
            case Lease(each):
                await cluster.send(each.client, self._dispatch.lease(each.task, each.owner, each.attempt))
                failpoint("server.task-leased")
            case Cancel(client, task, reason):
                await cluster.send(client, CancelMessage(run.run, task, reason))
            case Adjust(client, task, adjustment):
                await cluster.send(client, AdjustMessage(run.run, task, adjustment))
            case Ask(client, model, shard, rows):
                files = self._workshop.files(model)
                await cluster.send(client, self._dispatch.evaluate(model, shard, files, rows))
            case Asked(model):
                self._dispatch.withdraw_models(self._workshop.files(model))
            case Notify(client, text):
                await cluster.notify(client, text)
            case EndRun():
                self._is_over = True
            case _:
                raise TypeError(f"the shell can't do {instruction}")

    def _emit(self, event: events.RunEvent) -> None:
        now = self._clock()
        for subscriber in self._subscribers:
            subscriber(event, now)

    def _notify_shards(self) -> None:
        data = self._dispatch.data
        for shard, owner in enumerate(self._run.ledger.owners()):
            self._emit(events.ShardAssigned(shard + 1, owner, data.samples[shard]))
            if data.claimed and data.claimed[shard] > data.trained[shard]:
                self._emit(events.RowsCapped(shard + 1, owner, data.claimed[shard], data.trained[shard]))

    def _start(self, work: Work) -> None:
        """Start some work of the method; in the order of the calls if the work requires it."""

        async def do() -> None:
            try:
                done: WorkDone | Exception = WorkDone(work, await self._workshop.do(work))
            except Exception as failed:  # noqa: BLE001 - any exception ends the run
                done = failed
            self._cluster.events.put_nowait(InternalEvent(done))

        task = asyncio.create_task(do())
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    # --- the end ------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Finish the work in progress after Ctrl-C, and the consequences of results that are on disk.

        No task is leased, no client is waited for, and errors are left to a server that resumes the run.
        """
        self._to_do = deque(each for each in self._to_do if not isinstance(each, Lease | Ask))
        self._on_event(Stop(waiting=False))
        while not self._is_over:
            await self._work_off()
            if self._working:
                await asyncio.wait(self._working)
            if self._cluster.events.empty() and not self._to_do:
                return
            while not self._cluster.events.empty():
                event = self._cluster.events.get_nowait()
                if isinstance(event, ResultCommitted) or (
                    isinstance(event, InternalEvent) and isinstance(event.what, WorkDone)
                ):
                    await self._take(event)

    async def close(self) -> None:
        """Cancel the work in progress, and refuse commands that came too late.

        Neither is left for the next run, which has the same queue.
        """
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        queue = self._cluster.events
        for event in [queue.get_nowait() for _ in range(queue.qsize())]:
            if not isinstance(event, InternalEvent):
                queue.put_nowait(event)
            elif isinstance(event.what, _Given):
                event.what.taken.set_exception(lanfit_error("command.run-over", run=self._run.run))

    async def announce(self, status: str) -> None:
        """Notify every client how the run ended, with the metrics of its model."""
        ended = {}
        for name in self._cluster.roster.connected:
            scores = ", ".join(f"{key} {value:.4f}" for key, value in self._workshop.metrics_for(name).items())
            over = f"run {self._run.run} is over: {status}"
            if status == "interrupted":
                over = f"run {self._run.run} was interrupted at the server, which may resume it: finished work is kept"
            text = over + (f"; your model: {scores}" if scores else "")
            ended[name] = RunEnded(self._run.run, status, text)
        await self._cluster.end_run(ended)
