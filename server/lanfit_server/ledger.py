"""What a run must not forget: its job, who owns which task, and the results that were acknowledged. SQLite, one a run.

One connection, used by one thread (the SQLite that Python 3.11 brings can corrupt a write-ahead log with two). A method
that returns has its change on disk, but for what is noted about clients and leases: on a disk without room that waits,
and is written before whatever comes next. A server that goes on without it asks again who is there.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from lanfit.data.normalize import NO_NORMALIZER, Normalizer
from lanfit.durable import seal, unseal
from lanfit.parts import PartRange
from lanfit.wire.arrays import ArraySpec, BlockSpec
from lanfit.wire.messages import Model, OwnRows, Result
from lanfit_server.database import open_database
from lanfit_server.leases import StoredLease as StoredLease
from lanfit_server.leases import holder_of

log = logging.getLogger("lanfit.server")
#: How far a run can be; see `Ledger.status`.
STATUSES = frozenset({"unfinished", "done", "partial", "failed", "interrupted"})

_LEASE = "INSERT INTO leases VALUES (?, ?, ?, NULL, NULL)"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (record BLOB NOT NULL, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shards (number INTEGER PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    position INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, round INTEGER
);
CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS clients (name TEXT PRIMARY KEY, id BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS leases (
    task TEXT NOT NULL REFERENCES tasks (key), attempt INTEGER NOT NULL, client TEXT NOT NULL, ended TEXT, failure TEXT,
    PRIMARY KEY (task, attempt)
);
CREATE TABLE IF NOT EXISTS results (
    task TEXT PRIMARY KEY REFERENCES tasks (key), client TEXT NOT NULL, result BLOB NOT NULL
);
"""


class TargetConstants(msgspec.Struct, frozen=True):
    """A target became `(y - subtract) * multiply`; a prediction `p` means `p / multiply + subtract`."""

    normalizer: str
    subtract: float | list[float]
    multiply: float | list[float]


class Preprocessing(msgspec.Struct, frozen=True):
    """`preprocessing.json`: what inputs and labels went through. An input becomes `(x - subtract) * multiply`.

    The constants are one number for all values, or one a column; exact in float64.
    """

    normalizer: str
    subtract: float | list[float]
    multiply: float | list[float]
    labels: tuple[str, ...] | None
    """Names of the classes 0, 1, …; None when the files hold integers."""
    targets: TargetConstants | UnsetType = UNSET
    """What targets went through; left out when they were not normalized."""

    @classmethod
    def of(cls, normalizer: Normalizer, targets: Normalizer, labels: tuple[str, ...] | None) -> Preprocessing:
        constants = (normalizer.name, normalizer.subtract.tolist(), normalizer.multiply.tolist())
        if targets.name == NO_NORMALIZER.name:
            return cls(*constants, labels)
        return cls(
            *constants, labels, TargetConstants(targets.name, targets.subtract.tolist(), targets.multiply.tolist())
        )

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided before the first client was asked to work."""

    run: str
    server_id: bytes
    job: str
    """The job file's text."""
    file: str
    """The model's file, as people read it."""
    parameters: int
    epochs: int
    model: Model
    weights: tuple[ArraySpec, ...]
    """The table that results are held against."""
    weights_id: str = ""
    """The SHA-256 of the starting weights; empty in runs of versions that did not write it down."""
    trainable: tuple[str, ...] = ()
    """The names of those that training changes by gradients."""
    shards: tuple[BlockSpec, ...]
    """What is sent with the tasks of each shard: a server that goes on with the run must find the same."""
    constants: tuple[ArraySpec, ...]
    """Of the normalizers: what follows the weights in a result."""
    labels: tuple[str, ...] | None
    """Names of the classes 0, 1, …; None when the files hold integers."""
    own: OwnRows | None
    """How clients draw their own rows; None when the server deals them."""
    parts: tuple[PartRange, ...] = ()
    """What the client of each shard has taken; empty when rows are not dealt in parts."""
    samples: tuple[int, ...]
    """Rows of each shard, validation rows included."""
    rows: tuple[int, ...] = ()
    """Training rows of each shard: what a client's update counts."""
    train: int
    validation: int
    test: int
    clients_wanted: int | None = None
    """How many clients the job wanted, where the run began with fewer."""


class OwnedTask(msgspec.Struct, frozen=True):
    """A task and the client that its shard was dealt to."""

    key: str
    owner: str
    round: int | None = None


class RoundClient(msgspec.Struct, frozen=True):
    """What one client did in a round, and what was told of it."""

    task: str
    owner: str
    shard: int
    rows: int
    """Training rows: what its update counts."""
    trainer: str = ""
    """Who trained it; empty for nobody."""
    left_out: str = ""
    """Why the round went on without its update; empty for one that counts."""
    absent: bool = False
    """It was left out because it was not there in time: not repeated by the same job on its own."""
    history: dict[str, list[float]] = {}
    """A list of numbers for each metric, one a local epoch."""
    scores: dict[str, float] = {}
    """Of the weights that the round began with, on the client's validation rows."""
    seconds: dict[str, float] = {}
    norm: float | None = None
    """The Euclidean norm of its update."""
    cosine: float | None = None
    """Between its update and that of the aggregate."""
    backend: str = ""
    """What it was trained with."""


class RoundRecord(msgspec.Struct, frozen=True):
    """A round that is over: who took part, in task order, and what came of it."""

    number: int
    """From 1."""
    clients: tuple[RoundClient, ...]
    metrics: dict[str, float] = {}
    """Of the weights that the round gave."""
    seconds: dict[str, float] = {}
    validation: dict[str, dict[str, float]] = {}
    """By client: the same on its validation rows, where it was asked for; else see the scores of the next round."""
    state: tuple[ArraySpec, ...] = ()
    """What the server's optimizer remembers, as it lies beside the weights."""
    stored: bool = False
    """Its weights are on disk: until then they can be rebuilt from its results."""
    weights_id: str = ""
    """The SHA-256 of these; empty in runs of versions that did not write it down."""
    state_id: str = ""
    """That of what the server's optimizer remembers; empty for nothing."""


class StoredResult(msgspec.Struct, frozen=True):
    """A result that was acknowledged: its block lies in `results/<task>.block`."""

    task: str
    client: str
    result: Result


class DamagedLedger(Exception):
    """What is read is not what was written."""


class Ledger:
    """The ledger of one run, in `logs/<run>/ledger.sqlite`.

    Raises:
        DamagedLedger: the file is no ledger any more.
    """

    FILE = "ledger.sqlite"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.seconds = 0.0
        """What it has waited for the disk."""
        self._noted: list[tuple[str, tuple[str | int | bytes | None, ...]]] = []
        self._noting = False
        self._names: dict[bytes, set[str]] | None = None
        """What each client is called in this run, by its id."""
        self._held: set[str] | None = None
        """The clients that were ever given a task."""
        with _noticing_damage():
            self._db, _ = open_database(folder / self.FILE)
            try:
                self._db.executescript(_SCHEMA)
            except BaseException:
                self._db.close()
                raise

    def check(self) -> None:
        """Read all of it once.

        Raises:
            DamagedLedger: something is not what was written.
        """
        with _noticing_damage():
            # Not quick_check, which does not hold the indexes against their tables: tasks are looked up by them.
            [found] = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise DamagedLedger(" ".join(str(found).split()))
            if self._db.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise DamagedLedger("something in it is of a task that it does not have")
            if self.record is not None and self.status not in STATUSES:
                raise DamagedLedger(f"the run is called {self.status[:20]!r}")
            for read in (self.tasks, self.owners, self.clients, self.leases, self.results, self.rounds):
                read()

    def open_run(self, record: RunRecord) -> None:
        """Begin: from here on the run counts as unfinished."""
        self._db.execute("INSERT INTO run VALUES (?, 'unfinished')", (_stored(record),))

    @property
    def record(self) -> RunRecord | None:
        row = self._db.execute("SELECT record FROM run").fetchone()
        return msgspec.msgpack.decode(unseal(row[0]), type=RunRecord) if row else None

    @property
    def status(self) -> str:
        """`unfinished`, `done`, `partial`, `failed` or `interrupted`; `not begun` when the server died before."""
        row = self._db.execute("SELECT status FROM run").fetchone()
        return str(row[0]) if row else "not begun"

    def end_run(self, status: str) -> None:
        self._db.execute("UPDATE run SET status = ?", (status,))

    def deal(self, owners: Sequence[str]) -> None:
        """Write down which client each shard belongs to."""
        with self.together():
            self._db.executemany("INSERT INTO shards VALUES (?, ?)", list(enumerate(owners)))

    def owners(self) -> list[str]:
        """The clients that the shards were dealt to, in the order of the shards; none before that."""
        return [str(row[0]) for row in self._db.execute("SELECT owner FROM shards ORDER BY number")]

    def add_tasks(self, tasks: Sequence[OwnedTask]) -> None:
        """Write down who owns which task; those that are known stay."""
        with self.together():
            self._db.executemany(
                "INSERT OR IGNORE INTO tasks (key, owner, round) VALUES (?, ?, ?)",
                [(task.key, task.owner, task.round) for task in tasks],
            )

    def owner(self, task: str) -> str | None:
        """The client that the task's shard was dealt to; None for a task that the run does not have."""
        row = self._db.execute("SELECT owner FROM tasks WHERE key = ?", (task,)).fetchone()
        return str(row[0]) if row else None

    def remember(self, name: str, client_id: bytes) -> None:
        """Write down what a client is called in this run: one that comes back keeps its name."""
        for names in self._ids().values():
            names.discard(name)
        self._ids().setdefault(client_id, set()).add(name)
        self._note("INSERT OR REPLACE INTO clients VALUES (?, ?)", name, client_id)

    def clients(self) -> dict[str, bytes]:
        """The ids of the clients by their names."""
        return dict(self._db.execute("SELECT name, id FROM clients").fetchall())

    def tasks(self) -> list[OwnedTask]:
        """All tasks, in task order."""
        return [OwnedTask(*row) for row in self._db.execute("SELECT key, owner, round FROM tasks ORDER BY position")]

    def lease(self, task: str, attempt: int, client: str) -> None:
        """Write down that a task is given to a client."""
        self._holders().add(client)
        self._note(_LEASE, task, attempt, client)

    def end_leases(self, ended: str, *, task: str | None = None, client: str | None = None, failure: str = "") -> None:
        """Write down how the leases of a task, of a client, or of a client for a task ended."""
        self._note(
            "UPDATE leases SET ended = ?, failure = ? WHERE ended IS NULL AND task = ifnull(?, task) "
            "AND client = ifnull(?, client)",
            ended, failure or None, task, client,
        )  # fmt: skip

    def leases(self) -> list[StoredLease]:
        """All leases that there ever were, in the order of their attempts."""
        rows = self._db.execute("SELECT task, attempt, client, ended, failure FROM leases ORDER BY attempt, rowid")
        return [StoredLease(*row) for row in rows]

    # --- whose a task is ----------------------------------------------------------------------------------------

    def holder(self, client_id: bytes, task: str, attempt: int | None = None) -> str | None:
        """What the client with this id is called in this run if it holds, or held, the task; else None.

        Args:
            attempt: which one it must be; None for any.
        """
        names = self._ids().get(client_id)
        return holder_of(names, self._leases_of(task), attempt) if names else None

    def has_worked(self, client_id: bytes) -> bool:
        """Whether the client with this id holds, or held, any task of this run."""
        return not self._holders().isdisjoint(self._ids().get(client_id, ()))

    def _ids(self) -> dict[bytes, set[str]]:
        if self._names is None:
            self._names = {}
            for name, client_id in self.clients().items():
                self._names.setdefault(client_id, set()).add(name)
        return self._names

    def _holders(self) -> set[str]:
        if self._held is None:
            self._held = {str(row[0]) for row in self._db.execute("SELECT DISTINCT client FROM leases")}
        return self._held

    def _leases_of(self, task: str) -> list[StoredLease]:
        """All leases of a task, those that the disk has no room for included."""
        rows = self._db.execute("SELECT task, attempt, client, ended, failure FROM leases WHERE task = ?", (task,))
        leases = [StoredLease(*row) for row in rows]
        for statement, values in self._noted:
            if statement is _LEASE and values[0] == task:
                leases.append(StoredLease(task, int(str(values[1])), str(values[2]), None, None))
        return leases

    def commit(self, stored: StoredResult) -> None:
        """Take a result in, which ends its task's leases. The first one counts; a second one changes nothing."""
        with self.together():
            self._db.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?)",
                (stored.task, stored.client, _stored(stored.result)),
            )
            self.end_leases("not needed", task=stored.task)

    def result(self, task: str) -> StoredResult | None:
        row = self._db.execute("SELECT task, client, result FROM results WHERE task = ?", (task,)).fetchone()
        return StoredResult(row[0], row[1], msgspec.msgpack.decode(unseal(row[2]), type=Result)) if row else None

    def forget_results(self, tasks: Sequence[str]) -> None:
        """These tasks have no result any more: their blocks are gone."""
        with self.together():
            self._db.executemany("DELETE FROM results WHERE task = ?", [(task,) for task in tasks])

    def results(self) -> list[StoredResult]:
        """All results, in task order."""
        found = (self.result(task.key) for task in self.tasks())
        return [result for result in found if result is not None]

    # --- rounds -------------------------------------------------------------------------------------------------

    def put_round(self, record: RoundRecord) -> None:
        """Write down a round that is over, or more of what came of it."""
        encoded = _stored(record)
        with self.together():
            self._db.execute("INSERT OR REPLACE INTO rounds VALUES (?, ?)", (record.number, encoded))

    def rounds(self) -> list[RoundRecord]:
        """All rounds that are over."""
        rows = self._db.execute("SELECT record FROM rounds ORDER BY number")
        return [msgspec.msgpack.decode(unseal(row[0]), type=RoundRecord) for row in rows]

    def go_back(self, number: int, results: int) -> list[str]:
        """Forget all rounds after this one, and all results of rounds after another; returns the tasks of these."""
        with self.together():
            self._db.execute("DELETE FROM rounds WHERE number > ?", (number,))
            found = self._db.execute("SELECT key FROM tasks WHERE round > ?", (results,))
            tasks = [str(row[0]) for row in found]
            self.forget_results(tasks)
        return tasks

    def is_over(self, task: str) -> bool:
        """Whether the task was of a round that is over: its result would change nothing any more."""
        found = self._db.execute(
            "SELECT 1 FROM tasks JOIN rounds ON rounds.number = tasks.round WHERE tasks.key = ?", (task,)
        )
        return found.fetchone() is not None

    # --- writing ------------------------------------------------------------------------------------------------

    def _note(self, statement: str, *values: str | int | bytes | None) -> None:
        if self._db.in_transaction:
            self._db.execute(statement, values)
            return
        self._noted.append((statement, values))
        if not self._noting:
            self._write_notes()

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """What is noted inside is written at once when this ends, if there is room."""
        self._noting = True
        try:
            yield
        finally:
            self._noting = False
            self._write_notes()

    def _write_notes(self) -> None:
        if not self._noted:
            return
        try:
            with self.together():
                pass
        except sqlite3.OperationalError as wrong:
            log.warning("the ledger can't be written, %d notes wait: %s", len(self._noted), wrong)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is written down inside is on disk when this ends, all of it or nothing.

        Raises:
            sqlite3.OperationalError: the disk is full, or refuses.
        """
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in self._noted:
                self._db.execute(statement, values)
            yield
            began = time.perf_counter()
            self._db.execute("COMMIT")
            self._noted.clear()
            self.seconds += time.perf_counter() - began
        except BaseException:
            if self._db.in_transaction:  # a full disk ends it
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._db.close()


def _stored(content: RunRecord | RoundRecord | Result) -> bytes:
    return seal(msgspec.msgpack.encode(content))


@contextlib.contextmanager
def _noticing_damage() -> Iterator[None]:
    """What a damaged database or a damaged record raises is DamagedLedger."""
    try:
        yield
    except sqlite3.OperationalError as wrong:
        if "decode" not in str(wrong):  # else the system refuses, or the disk is full
            raise
        raise DamagedLedger("it holds text that is none") from wrong
    except (sqlite3.DatabaseError, msgspec.MsgspecError, ValueError, TypeError) as wrong:
        raise DamagedLedger(str(wrong)) from wrong
