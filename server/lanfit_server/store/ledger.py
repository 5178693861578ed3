"""The durable state of a run: its job, the owners of tasks, and the acknowledged results. One SQLite file per run.

One connection, used by one thread (the SQLite of Python 3.11 can corrupt a write-ahead log with two). When a method
returns, its change is on disk, except notes about clients and leases: on a full disk these wait, and are written before
the next change. A server that resumes without them gets them again from the clients.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from lanfit.core.decoding import decode_msgpack
from lanfit.core.durable import seal, unseal
from lanfit.data.normalize import NO_NORMALIZER, Normalizer
from lanfit.data.shard import Normalizers
from lanfit.errors import RemoteProtocolError
from lanfit.settings.parts import PartRange
from lanfit.wire.arrays import LARGEST, ArraySpec, BlockSpec, check_specs
from lanfit.wire.messages import ClientData, Model, Result
from lanfit.wire.tasks import Y
from lanfit_server.store.database import open_database
from lanfit_server.store.leases import StoredLease as StoredLease
from lanfit_server.store.leases import holder_of

logger = logging.getLogger("lanfit.server")
#: The states of a run; see `Ledger.status`.
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
    """A target became `(y - subtract) * multiply`; a prediction `p` means `p / multiply + subtract`. So of inputs."""

    normalizer: str
    subtract: float | list[float]
    multiply: float | list[float]

    @classmethod
    def of(cls, normalizer: Normalizer) -> TargetConstants:
        return cls(normalizer.name, normalizer.subtract.tolist(), normalizer.multiply.tolist())


class Preprocessing(msgspec.Struct, frozen=True):
    """`preprocessing.json`: the preprocessing of inputs and labels. An input becomes `(x - subtract) * multiply`.

    The constants are one number for all values, or one per column; exact in float64.
    """

    normalizer: str
    subtract: float | list[float]
    multiply: float | list[float]
    labels: tuple[str, ...] | None
    """Names of the classes 0, 1, …; None when the files hold integers."""
    targets: TargetConstants | UnsetType = UNSET
    """The preprocessing of targets; left out if they were not normalized."""

    @classmethod
    def of(cls, normalizer: Normalizer, targets: Normalizer, labels: tuple[str, ...] | None) -> Preprocessing:
        constants = (normalizer.name, normalizer.subtract.tolist(), normalizer.multiply.tolist())
        if targets.name == NO_NORMALIZER.name:
            return cls(*constants, labels)
        return cls(*constants, labels, TargetConstants.of(targets))

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


class NamedPreprocessing(msgspec.Struct, frozen=True):
    """`preprocessing.json` of a model of several inputs or outputs: what each went through, by its name."""

    inputs: dict[str, TargetConstants]
    targets: dict[str, TargetConstants]
    """Those that were normalized."""
    labels: dict[str, tuple[str, ...]]
    """By target the names of the classes 0, 1, …; not of those whose files hold integers."""

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


RecordedLabels = tuple[str, ...] | dict[str, tuple[str, ...]] | None
"""Names of the classes 0, 1, …, None when the files hold integers; of several outputs by their names."""


def recorded_labels(model: Model, labels: Mapping[str, tuple[str, ...]]) -> RecordedLabels:
    """Return the names of classes by target in their recorded form."""
    return dict(labels) if model.outputs else labels.get(Y)


def labels_by_target(model: Model, recorded: RecordedLabels) -> Mapping[str, tuple[str, ...]]:
    """Return the names of classes by target from the form of `recorded_labels`."""
    if isinstance(recorded, dict):
        return recorded
    return {} if recorded is None else {model.gives[0].name: recorded}


def preprocessing_of(
    model: Model, normalizers: Normalizers, labels: RecordedLabels
) -> Preprocessing | NamedPreprocessing:
    """Return the preprocessing of inputs and labels, for `preprocessing.json`."""
    if not model.inputs:
        assert not isinstance(labels, dict)  # which only models of several outputs have
        return Preprocessing.of(normalizers.x, normalizers.y, labels)
    return NamedPreprocessing(
        {name: TargetConstants.of(each) for name, each in normalizers.inputs.items()},
        {
            name: TargetConstants.of(each)
            for name, each in normalizers.targets.items()
            if each.name != NO_NORMALIZER.name
        },
        dict(labels_by_target(model, labels)),
    )


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The decisions made before the first client starts to work."""

    run: str
    server_id: bytes
    job: str
    """The job file's text."""
    file: str
    """The model's file, as shown to users."""
    parameters: int
    epochs: int
    model: Model
    weights: tuple[ArraySpec, ...]
    """The table that results are checked against."""
    weights_id: str = ""
    """The SHA-256 of the initial weights; empty in runs of versions that did not record it."""
    trainable: tuple[str, ...] = ()
    """The names of those that training changes by gradients."""
    shards: tuple[BlockSpec, ...]
    """What is sent with the tasks of each shard: a server that resumes the run must find the same."""
    constants: tuple[ArraySpec, ...]
    """Of the normalizers: they follow the weights in a result."""
    labels: RecordedLabels
    own: ClientData | None
    """How clients select their own rows; None if the server partitions them."""
    parts: tuple[PartRange, ...] = ()
    """The parts of the client of each shard; empty if there are no parts."""
    samples: tuple[int, ...]
    """Rows of each shard, including validation rows."""
    rows: tuple[int, ...] = ()
    """Training rows of each shard: the weight of a client's update."""
    train: int
    validation: int
    test: int
    clients_wanted: int | None = None
    """The requested number of clients, if the run started with fewer."""


class OwnedTask(msgspec.Struct, frozen=True):
    """A task and the client that its shard was assigned to."""

    key: str
    owner: str
    round: int | None = None


class RoundClient(msgspec.Struct, frozen=True):
    """The work of one client in a round, and its outcome."""

    task: str
    owner: str
    shard: int
    rows: int
    """Training rows: the weight of its update."""
    trainer: str = ""
    """The client that trained it; empty for none."""
    left_out: str = ""
    """Why the round continued without its update; empty for one that counts."""
    absent: bool = False
    """It was left out because it was late: not reproduced by the same job on its own."""
    history: dict[str, list[float]] = {}
    """A list of numbers for each metric, one per local epoch."""
    scores: dict[str, float] = {}
    """Of the initial weights of the round, on the client's validation rows."""
    seconds: dict[str, float] = {}
    norm: float | None = None
    """The Euclidean norm of its update."""
    cosine: float | None = None
    """The cosine similarity of its update and that of the aggregate."""
    backend: str = ""
    """The backend and device that it was trained with."""


class RoundRecord(msgspec.Struct, frozen=True):
    """A finished round: its participants, in task order, and its outcome."""

    number: int
    """From 1."""
    clients: tuple[RoundClient, ...]
    metrics: dict[str, float] = {}
    """Of the new weights of the round."""
    seconds: dict[str, float] = {}
    validation: dict[str, dict[str, float]] = {}
    """By client: the same on its validation rows, if it was requested; else see the metrics of the next round."""
    state: tuple[ArraySpec, ...] = ()
    """The state of the server optimizer, stored next to the weights."""
    stored: bool = False
    """Its weights are on disk: until then they can be rebuilt from its results."""
    weights_id: str = ""
    """The SHA-256 of these; empty in runs of versions that did not record it."""
    state_id: str = ""
    """That of the state of the server optimizer; empty for none."""


class StoredResult(msgspec.Struct, frozen=True):
    """An acknowledged result: its block is in `results/<task>.block`."""

    task: str
    client: str
    result: Result


class DamagedLedger(Exception):
    """The data that was read differs from what was written."""


class Ledger:
    """The ledger of one run, in `logs/<run>/ledger.sqlite`.

    Raises:
        DamagedLedger: the file is not a valid ledger.
    """

    FILE = "ledger.sqlite"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.seconds = 0.0
        """The time it has waited for the disk."""
        self._noted: list[tuple[str, tuple[str | int | bytes | None, ...]]] = []
        self._noting = False
        self._names: dict[bytes, set[str]] | None = None
        """The names of the clients in this run, by id."""
        self._held: set[str] | None = None
        """The clients that ever got a task."""
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
            DamagedLedger: something differs from what was written.
        """
        with _noticing_damage():
            # Not quick_check, which does not compare the indexes with their tables: tasks are looked up by them.
            [found] = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise DamagedLedger(" ".join(str(found).split()))
            if self._db.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise DamagedLedger("it refers to a task that it does not contain")
            if self.record is not None and self.status not in STATUSES:
                raise DamagedLedger(f"the run is called {self.status[:20]!r}")
            # SQLite stores anything in any column: the types of values are checked here.
            for row in (*self.tasks(), *self.leases()):
                msgspec.convert(msgspec.structs.asdict(row), type(row))
            msgspec.convert(self.clients(), dict[str, bytes])
            msgspec.convert([(stored.task, stored.client) for stored in self.results()], list[tuple[str, str]])
            self.owners()
            for table in self._tables():
                check_specs(table, LARGEST)

    def _tables(self) -> Iterator[Sequence[ArraySpec]]:
        """Yield all tables of arrays that it contains."""
        if self.record is not None:
            yield from (self.record.weights, self.record.constants)
            yield from (shard.arrays for shard in self.record.shards)
        yield from (stored.result.block.arrays for stored in self.results())
        yield from (record.state for record in self.rounds())

    def open_run(self, record: RunRecord) -> None:
        """Begin: from now on the run counts as unfinished."""
        self._db.execute("INSERT INTO run VALUES (?, 'unfinished')", (_stored(record),))

    def change(self, record: RunRecord) -> None:
        """Record other decisions, made while the run is in progress."""
        self._db.execute("UPDATE run SET record = ?", (_stored(record),))

    @property
    def record(self) -> RunRecord | None:
        row = self._db.execute("SELECT record FROM run").fetchone()
        return _read(row[0], RunRecord) if row else None

    @property
    def status(self) -> str:
        """`unfinished`, `done`, `partial`, `failed` or `interrupted`; `not begun` if the server died before the
        start."""
        row = self._db.execute("SELECT status FROM run").fetchone()
        return str(row[0]) if row else "not begun"

    def end_run(self, status: str) -> None:
        self._db.execute("UPDATE run SET status = ?", (status,))

    def assign_owners(self, owners: Sequence[str]) -> None:
        """Record which client each shard belongs to."""
        with self.transaction():
            self._db.executemany("INSERT INTO shards VALUES (?, ?)", list(enumerate(owners)))

    def owners(self) -> list[str]:
        """Return the clients that the shards were assigned to, in the order of the shards; none before that."""
        return [str(row[0]) for row in self._db.execute("SELECT owner FROM shards ORDER BY number")]

    def add_tasks(self, tasks: Sequence[OwnedTask]) -> None:
        """Record who owns which task; known ones are kept."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO tasks (key, owner, round) VALUES (?, ?, ?)",
                [(task.key, task.owner, task.round) for task in tasks],
            )

    def owner(self, task: str) -> str | None:
        """Return the client that the task's shard was assigned to; None for a task that the run does not have."""
        row = self._db.execute("SELECT owner FROM tasks WHERE key = ?", (task,)).fetchone()
        return str(row[0]) if row else None

    def remember(self, name: str, client_id: bytes) -> None:
        """Record the name of a client in this run: it keeps it when it comes back."""
        for names in self._ids().values():
            names.discard(name)
        self._ids().setdefault(client_id, set()).add(name)
        self._note("INSERT OR REPLACE INTO clients VALUES (?, ?)", name, client_id)

    def clients(self) -> dict[str, bytes]:
        """Return the ids of the clients by their names."""
        return dict(self._db.execute("SELECT name, id FROM clients").fetchall())

    def tasks(self) -> list[OwnedTask]:
        """Return all tasks, in task order."""
        return [OwnedTask(*row) for row in self._db.execute("SELECT key, owner, round FROM tasks ORDER BY position")]

    def lease(self, task: str, attempt: int, client: str) -> None:
        """Record that a task is given to a client."""
        self._holders().add(client)
        self._note(_LEASE, task, attempt, client)

    def end_leases(self, ended: str, *, task: str | None = None, client: str | None = None, failure: str = "") -> None:
        """Record how the leases of a task, of a client, or of a client for a task ended."""
        self._note(
            "UPDATE leases SET ended = ?, failure = ? WHERE ended IS NULL AND task = ifnull(?, task) AND client = "
            "ifnull(?, client)",
            ended, failure or None, task, client,
        )  # fmt: skip

    def leases(self) -> list[StoredLease]:
        """Return all leases ever given, in the order of their attempts."""
        rows = self._db.execute("SELECT task, attempt, client, ended, failure FROM leases ORDER BY attempt, rowid")
        return [StoredLease(*row) for row in rows]

    # --- whose a task is ----------------------------------------------------------------------------------------

    def holder(self, client_id: bytes, task: str, attempt: int | None = None) -> str | None:
        """Return the name of the client with this id in this run if it holds, or held, the task; else None.

        Args:
            attempt: the attempt it must be; None for any.
        """
        names = self._ids().get(client_id)
        return holder_of(names, self._leases_of(task), attempt) if names else None

    def has_worked(self, client_id: bytes) -> bool:
        """Return whether the client with this id holds, or held, any task of this run."""
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
        """Return all leases of a task, including those that wait for disk space."""
        rows = self._db.execute("SELECT task, attempt, client, ended, failure FROM leases WHERE task = ?", (task,))
        leases = [StoredLease(*row) for row in rows]
        for statement, values in self._noted:
            if statement is _LEASE and values[0] == task:
                leases.append(StoredLease(task, int(str(values[1])), str(values[2]), None, None))
        return leases

    def commit(self, stored: StoredResult) -> None:
        """Store a result, which ends its task's leases. The first one counts; a second one changes nothing."""
        with self.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?)",
                (stored.task, stored.client, _stored(stored.result)),
            )
            self.end_leases("not needed", task=stored.task)

    def result(self, task: str) -> StoredResult | None:
        row = self._db.execute("SELECT task, client, result FROM results WHERE task = ?", (task,)).fetchone()
        return StoredResult(row[0], row[1], _read(row[2], Result)) if row else None

    def forget_results(self, tasks: Sequence[str]) -> None:
        """Forget the results of these tasks: their blocks are missing."""
        with self.transaction():
            self._db.executemany("DELETE FROM results WHERE task = ?", [(task,) for task in tasks])

    def results(self) -> list[StoredResult]:
        """Return all results, in task order."""
        found = (self.result(task.key) for task in self.tasks())
        return [result for result in found if result is not None]

    # --- rounds -------------------------------------------------------------------------------------------------

    def put_round(self, record: RoundRecord) -> None:
        """Record a finished round, or more of its outcome."""
        encoded = _stored(record)
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO rounds VALUES (?, ?)", (record.number, encoded))

    def rounds(self) -> list[RoundRecord]:
        """Return all finished rounds."""
        rows = self._db.execute("SELECT record FROM rounds ORDER BY number")
        return [_read(row[0], RoundRecord) for row in rows]

    def go_back(self, number: int, results: int) -> list[str]:
        """Forget all rounds after this one, and all results of rounds after another; return the tasks of these."""
        with self.transaction():
            self._db.execute("DELETE FROM rounds WHERE number > ?", (number,))
            found = self._db.execute("SELECT key FROM tasks WHERE round > ?", (results,))
            tasks = [str(row[0]) for row in found]
            self.forget_results(tasks)
        return tasks

    def is_over(self, task: str) -> bool:
        """Return whether the task belongs to a finished round: its result would have no effect."""
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
        """Write the notes inside at once when this context ends, if there is disk space."""
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
            with self.transaction():
                pass
        except sqlite3.OperationalError as error:
            logger.warning("the ledger can't be written, %d records are waiting: %s", len(self._noted), error)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the changes inside when this context ends, all or nothing.

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


Stored = TypeVar("Stored", RunRecord, RoundRecord, Result)


def _stored(content: RunRecord | RoundRecord | Result) -> bytes:
    return seal(msgspec.msgpack.encode(content))


def _read(stored: object, kind: type[Stored]) -> Stored:
    if not isinstance(stored, bytes):  # SQLite stores anything in any column
        raise ValueError(f"instead of a record there is {type(stored).__name__}")
    return decode_msgpack(unseal(stored), kind)


@contextlib.contextmanager
def _noticing_damage() -> Iterator[None]:
    """Raise DamagedLedger for the errors of a damaged database or record."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # Of these only SQLITE_ERROR, and errors without a code (text that can't be decoded), concern the content of
        # the file; with all others the system refuses, or the disk is full.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF != sqlite3.SQLITE_ERROR:
            raise
        raise DamagedLedger(str(error)) from error
    except (sqlite3.DatabaseError, RemoteProtocolError, ValueError, TypeError) as error:
        raise DamagedLedger(str(error)) from error
