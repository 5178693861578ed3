"""What a run must not forget: its job, who owns which task, and the results that were acknowledged. SQLite, one a run.

One connection, used by one thread (the SQLite that Python 3.11 brings can corrupt a write-ahead log with two). A method
that returns has its change on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from lanfit.data.normalize import NO_NORMALIZER, Normalizer
from lanfit.wire.arrays import ArraySpec, BlockSpec
from lanfit.wire.messages import Model, OwnRows, Result

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (record BLOB NOT NULL, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (key TEXT PRIMARY KEY, position INTEGER NOT NULL, owner TEXT NOT NULL);
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
    shards: tuple[BlockSpec, ...]
    """What is sent with the tasks of each shard: a server that goes on with the run must find the same."""
    constants: tuple[ArraySpec, ...]
    """Of the normalizers: what follows the weights in a result."""
    labels: tuple[str, ...] | None
    """Names of the classes 0, 1, …; None when the files hold integers."""
    own: OwnRows | None
    """How clients draw their own rows; None when the server deals them."""
    samples: tuple[int, ...]
    """Rows of each shard, validation rows included."""
    train: int
    validation: int
    test: int


class OwnedTask(msgspec.Struct, frozen=True):
    """A task and the client that its shard was dealt to."""

    key: str
    owner: str


class StoredLease(msgspec.Struct, frozen=True):
    """A task that was given to a client, and how that ended."""

    task: str
    attempt: int
    client: str
    ended: str | None
    """lost, failed, died, or not needed; None while it lasts."""
    failure: str | None
    """What was wrong, if it failed or died."""


class StoredResult(msgspec.Struct, frozen=True):
    """A result that was acknowledged: its block lies in `results/<task>.block`."""

    task: str
    client: str
    result: Result


class Ledger:
    """The ledger of one run, in `logs/<run>/ledger.sqlite`."""

    FILE = "ledger.sqlite"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / self.FILE, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def open_run(self, record: RunRecord) -> None:
        """Begin: from here on the run counts as unfinished."""
        self._db.execute("INSERT INTO run VALUES (?, 'unfinished')", (msgspec.msgpack.encode(record),))

    @property
    def record(self) -> RunRecord | None:
        row = self._db.execute("SELECT record FROM run").fetchone()
        return msgspec.msgpack.decode(row[0], type=RunRecord) if row else None

    @property
    def status(self) -> str:
        """`unfinished`, `done`, `partial`, `failed` or `interrupted`; `not begun` when the server died before."""
        row = self._db.execute("SELECT status FROM run").fetchone()
        return str(row[0]) if row else "not begun"

    def end_run(self, status: str) -> None:
        self._db.execute("UPDATE run SET status = ?", (status,))

    def deal(self, tasks: Sequence[OwnedTask]) -> None:
        """Write down who owns which task."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO tasks VALUES (?, ?, ?)",
                [(task.key, position, task.owner) for position, task in enumerate(tasks)],
            )

    def remember(self, name: str, client_id: bytes) -> None:
        """Write down what a client is called in this run: one that comes back keeps its name."""
        self._db.execute("INSERT OR REPLACE INTO clients VALUES (?, ?)", (name, client_id))

    def clients(self) -> dict[str, bytes]:
        """The ids of the clients by their names."""
        return dict(self._db.execute("SELECT name, id FROM clients").fetchall())

    def tasks(self) -> list[OwnedTask]:
        """All tasks, in task order."""
        return [OwnedTask(*row) for row in self._db.execute("SELECT key, owner FROM tasks ORDER BY position")]

    def lease(self, task: str, attempt: int, client: str) -> None:
        """Write down that a task is given to a client."""
        self._db.execute("INSERT INTO leases VALUES (?, ?, ?, NULL, NULL)", (task, attempt, client))

    def end_leases(self, ended: str, *, task: str | None = None, client: str | None = None, failure: str = "") -> None:
        """Write down how the leases of a task, of a client, or of a client for a task ended."""
        self._db.execute(
            "UPDATE leases SET ended = ?, failure = ? WHERE ended IS NULL AND task = ifnull(?, task) "
            "AND client = ifnull(?, client)",
            (ended, failure or None, task, client),
        )

    def leases(self) -> list[StoredLease]:
        """All leases that there ever were, in the order of their attempts."""
        rows = self._db.execute("SELECT task, attempt, client, ended, failure FROM leases ORDER BY attempt, rowid")
        return [StoredLease(*row) for row in rows]

    def commit(self, stored: StoredResult) -> None:
        """Take a result in, which ends its task's leases. The first one counts; a second one changes nothing."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?)",
                (stored.task, stored.client, msgspec.msgpack.encode(stored.result)),
            )
            self.end_leases("not needed", task=stored.task)

    def result(self, task: str) -> StoredResult | None:
        row = self._db.execute("SELECT task, client, result FROM results WHERE task = ?", (task,)).fetchone()
        return StoredResult(row[0], row[1], msgspec.msgpack.decode(row[2], type=Result)) if row else None

    def results(self) -> list[StoredResult]:
        """All results, in task order."""
        found = (self.result(task.key) for task in self.tasks())
        return [result for result in found if result is not None]

    def _transaction(self) -> sqlite3.Connection:
        # In autocommit mode the connection's context manager would not begin one.
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def close(self) -> None:
        self._db.close()
