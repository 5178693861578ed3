"""The instructions of the engine.

The shell carries them out in order; those after a `Persist` wait until it is on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lanfit.settings.fields import Value
    from lanfit.wire.messages import Adjustment
    from lanfit_server.methods.base import Task
    from lanfit_server.run.events import RunEvent
    from lanfit_server.run.tasks import Assignment
    from lanfit_server.store.ledger import OwnedTask


class Instruction:
    """An instruction."""


# --- from methods to the engine ----------------------------------------------------------------------------


@dataclass(frozen=True)
class AddTasks(Instruction):
    """Open these tasks, which can be leased now."""

    tasks: Sequence[Task]


@dataclass(frozen=True)
class AdjustTasks(Instruction):
    """Change settings of tasks that clients have, from their next epoch on; None: unchanged."""

    tasks: Sequence[str]
    epochs: int | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class ForgetTasks(Instruction):
    """Drop these tasks, which are over and have been used: a result that still arrives has no effect."""

    tasks: Sequence[str]


@dataclass(frozen=True)
class LeaveOut(Instruction):
    """Continue a round without a task, and stop its clients.

    Args:
        late: whether that is because it took too long.
    """

    task: str
    reason: str
    late: bool = False


@dataclass(frozen=True)
class AskClients(Instruction):
    """Let clients evaluate a model on their own rows. The result is passed to the method's `on_evaluated`.

    Args:
        model: the name under which the method's work knows the files.
        rows: "test" or "validation".
        shards: whose clients are asked.
        limit: how long one that is here may take, in seconds.
        grace: for this many seconds, absent clients are not given up.
    """

    model: str
    rows: str
    shards: Sequence[int]
    limit: float
    grace: float = 0.0


# --- for the shell ----------------------------------------------------------------------------------------


class Work:
    """Work for the method's workshop; its result comes back as `WorkDone`."""


@dataclass(frozen=True)
class Do(Instruction):
    """Start some work without waiting for it."""

    work: Work


@dataclass(frozen=True)
class DoNow(Instruction):
    """Do some work without a result; instructions that follow wait for it."""

    work: Work


@dataclass(frozen=True)
class AssignShards(Instruction):
    """Record which client each shard belongs to."""

    owners: Sequence[str]


@dataclass(frozen=True)
class Persist(Instruction):
    """Record tasks; instructions that follow wait until they are on disk."""

    tasks: Sequence[OwnedTask]
    epochs: int = 0
    """The most epochs that one of them has, if they have epochs of their own: results may have as many."""


@dataclass(frozen=True)
class RecordSettings(Instruction):
    """Record changed settings of the job, so that a resumed or repeated run has them; what follows waits until they are
    on disk."""

    values: Mapping[str, Value]


@dataclass(frozen=True)
class RecordClient(Instruction):
    """Record the name of a client in this run."""

    client: str


@dataclass(frozen=True)
class RecordLeases(Instruction):
    """Record leases."""

    assignments: Sequence[Assignment]


@dataclass(frozen=True)
class RecordEnd(Instruction):
    """Record how the leases of a task, of a client, or of a client for a task ended."""

    ended: str
    task: str | None = None
    client: str | None = None
    failure: str = ""


@dataclass(frozen=True)
class Lease(Instruction):
    """Lease a task to a client."""

    assignment: Assignment


@dataclass(frozen=True)
class Adjust(Instruction):
    """Tell a client what the operator wants of a task that it has."""

    client: str
    task: str
    adjustment: Adjustment


@dataclass(frozen=True)
class Cancel(Instruction):
    """Tell a client to stop a task."""

    client: str
    task: str
    reason: str


@dataclass(frozen=True)
class Ask(Instruction):
    """Ask a client to evaluate a model on its own test or validation rows."""

    client: str
    model: str
    shard: int
    rows: str


@dataclass(frozen=True)
class Asked(Instruction):
    """Stop serving the files of a model, whose evaluation is over."""

    model: str


@dataclass(frozen=True)
class Notify(Instruction):
    """Notify a client."""

    client: str
    text: str


@dataclass(frozen=True)
class Emit(Instruction):
    """Notify the subscribers of a run event."""

    event: RunEvent


@dataclass(frozen=True)
class EndRun(Instruction):
    """End the run."""


# --- from the shell to the engine ----------------------------------------------------------------------------


@dataclass(frozen=True)
class WorkDone:
    """Work of the method is done."""

    work: Work
    result: Any


@dataclass(frozen=True)
class Suspended:
    """The server was suspended for this many seconds."""

    seconds: float


@dataclass(frozen=True)
class Tick:
    """Time has passed.

    Args:
        idle: whether nothing else has happened since the last one.
        advanced, delivered: by client, when its work or a result of it last got on, on the monotonic clock.
    """

    advanced: Mapping[str, float]
    delivered: Mapping[str, float]
    idle: bool = True


@dataclass(frozen=True)
class Pause:
    """The operator's command: lease no more tasks, and pause those that clients have."""


@dataclass(frozen=True)
class Resume:
    """The operator's command: continue the tasks that clients have, and lease others again."""


@dataclass(frozen=True)
class Stop:
    """The operator's command: end with the results so far.

    Args:
        waiting: whether clients' evaluations are still waited for; not after Ctrl-C, after which tasks stay leased for
            a server that resumes the run.
    """

    waiting: bool = True


@dataclass(frozen=True)
class Change:
    """The operator's command: change a setting of the job, from the next round on; without rounds for tasks that no
    client has received yet, and for others from their next epoch on."""

    setting: str
    value: float


@dataclass(frozen=True)
class StopClient:
    """The operator's command: let a client take no further part in the run, unless it joins again. Its task waits for
    another client, or for its return."""

    client: str


Command = Pause | Resume | Stop | Change | StopClient
