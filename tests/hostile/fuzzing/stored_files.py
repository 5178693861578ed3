"""What lanfit has written itself, and a disk or a person has changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from peer import arrays as result_arrays
from peer import record, result

from fuzzing.base import FINGERPRINT, ID, JSON, MSGPACK, Base, Chance, Targets, to_msgpack
from fuzzing.engine import corrupt, rearrange
from lanfit.core.durable import seal
from lanfit.core.workspace import Workspace
from lanfit.data.quantities import Reading
from lanfit.errors import LanfitError
from lanfit.training.checkpoint import Damaged, Snapshot, epochs_kept, read_checkpoint, write_checkpoint
from lanfit.wire.arrays import block_size
from lanfit_client.connect import ServerIdentity
from lanfit_client.consent import Consents
from lanfit_client.store.known_servers import KnownServers
from lanfit_client.store.outbox import Entry, Outbox
from lanfit_server.api.attach import _Events
from lanfit_server.clusters.gate import GateShell
from lanfit_server.prepare_data import predict
from lanfit_server.prepare_data.recipe import (
    Category,
    Date,
    ImageRecipe,
    LeftOut,
    Number,
    Recipe,
    TargetColumn,
    apply_recipe,
    read_recipe,
    to_json,
)
from lanfit_server.prepare_data.text_tables import TextTable
from lanfit_server.run.damage import mend, open_ledger
from lanfit_server.run.resume import summary_of
from lanfit_server.store.array_source import ArraySource
from lanfit_server.store.ledger import Ledger, OwnedTask, Preprocessing, RoundClient, RoundRecord, StoredResult
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import Bytes, ClientFacts, DataFacts, ModelFacts, RoundFacts, Summary


class Kept(Base):
    """A file that lanfit or a person wrote, and a disk or a person has changed.

    Args:
        values: what is in it, as JSON or msgpack has it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        values: Iterable[bytes],
        read: Callable[[Path], None],
        *,
        packed: bool = False,
        fine: tuple[type[BaseException], ...] = (LanfitError,),
    ) -> None:
        super().__init__(folder)
        self.name, self.values, self.read, self.packed, self.fine = name, [*values], read, packed, fine

    def input(self, chance: Chance) -> bytes:
        data, other = chance.choice(self.values), chance.choice(self.values)
        if chance.random() < 0.5:
            codec: Any = msgspec.msgpack if self.packed else msgspec.json
            value = rearrange(chance, codec.decode(data), codec.decode(other))
            data = to_msgpack(value) if self.packed else json.dumps(value, default=str).encode()
        if chance.random() < 0.5:
            data = corrupt(chance, data, other, MSGPACK if self.packed else JSON)
        return seal(data) if self.packed and chance.random() < 0.7 else data

    def give(self, data: bytes) -> None:
        path = self.write(self.name, data)
        try:
            self.read(path)
        finally:
            path.unlink(missing_ok=True)


def _read_outbox(path: Path) -> None:
    (path.parent / ("0" * 64 + ".block")).write_bytes(bytes(64))
    outbox = Outbox(path.parent)
    [*outbox.for_server(b"s" * 16)]
    outbox.servers()
    outbox.rebind(b"s" * 16, FINGERPRINT, lambda entry: False)
    for each in path.parent.iterdir():
        each.unlink()


def _read_known(path: Path) -> None:
    known = KnownServers(path)
    calls: tuple[Callable[[], object], ...] = (
        lambda: known.check("10.0.0.1:4000", FINGERPRINT),
        lambda: known.address(b"s" * 16),
        lambda: known.digits_of(b"s" * 16),
        lambda: known.remember("10.0.0.1:4000", ServerIdentity(b"s" * 16, FINGERPRINT)),
        lambda: known.forget("10.0.0.1:4000"),
    )
    for call in calls:
        with contextlib.suppress(LanfitError):
            call()


def _read_gate(path: Path) -> None:
    gate = GateShell(path)
    gate.bans()
    for address in ("10.0.0.2", "127.0.0.1", "fe80::1"):
        gate.admit(address, ID)
        gate.begin(address, ID)
        gate.failed(address, ID)
        gate.begin(address, b"k" * 16)
        gate.joined(address, b"k" * 16)
    gate.lift("10.0.0.2")
    gate.bans()


def _read_consents(path: Path) -> None:
    consents = Consents(path)
    consents.has(FINGERPRINT)
    consents.add(FINGERPRINT, "10.0.0.1:4000")


def _read_events(path: Path) -> None:
    events = _Events(path)
    events._read = 0
    events.new()


def _read_recipe(path: Path) -> None:
    recipe = read_recipe(path)
    if isinstance(recipe, Recipe):
        table = TextTable(
            path,
            ("size", "kind", "day", "note"),
            (("1", "2,5", ""), ("a", "b", "c"), ("2024-01-31", "x", ""), ("", "", "")),
            True,
        )
        for each in (table, TextTable(path, ("",) * 4, table.columns, False)):
            with contextlib.suppress(LanfitError):
                apply_recipe(recipe, each)


def _summaries() -> list[bytes]:
    client = ClientFacts(
        name="lab-1", backend="jax", device="cpu", threads=1, samples=20, tasks=1, status="done", model="a.h5",
        history={"loss": [1.0]}, best_epoch=0, metrics={"loss": 1.0}, seconds={"train": 1.0}, bytes=Bytes(1, 2),
    )  # fmt: skip
    made = RoundFacts(
        round=1, clients=("lab-1",), seconds=1.0, overhead_seconds=0.0, metrics={}, model=None, training={"loss": 1.0},
        validation={}, drift={"lab-1": {"norm": 1.0, "cosine": None}}, left_out={}, parts={},
    )  # fmt: skip
    summary = Summary(
        run="run", status="done", method="federated", seed=0, metrics_from="server", model=ModelFacts("net.h5", 8),
        data=DataFacts("files", 12, 8, 1, 3, "none", None), clients=(client,), rounds=(made,), final=None,
        seconds={"total": 3.2},
    )  # fmt: skip
    return [summary.to_json()]


def _read_summary(path: Path) -> None:
    place = Workspace(path.parent)
    folder = place.run_folder("run")
    folder.mkdir(parents=True, exist_ok=True)
    path.replace(folder / "summary.json")
    summary_of(place, "run")


def _kept_rows() -> list[bytes]:
    array = {"path": "rows.block", "block": {"id": "0" * 64, "arrays": [["x", "float32", [3, 2]]]}}
    return json_of({"arrays": array, "weigh_validation": True, "shared_validation": False})


def _read_kept_rows(path: Path) -> None:
    path.with_name("rows.block").write_bytes(bytes(64))
    block_size(ArraySource.kept(path.parent).arrays.block.arrays)


def _recipes() -> list[bytes]:
    columns = (
        Number("size", Reading(",", ".", "€", "kg"), 1.5, ("?",)),
        Category("kind", ("a", "b"), "a"),
        Date("day", "ymd", ("year", "weekday"), "2024-01-31"),
        LeftOut("note", "empty"),
    )
    inputs = tuple(name for column in columns for name in column.inputs)
    target = TargetColumn(name="y", task="classification", classes=("no", "yes"))
    table = Recipe(tables=("a.csv",), has_header=True, columns=columns, target=target, inputs=inputs, files={"a": "0"})
    return [to_json(table), to_json(ImageRecipe(folder="a", height=8, width=8, channels=1, classes=("a", "b")))]


class Checkpoints(Base):
    """A checkpoint: its header, and its hash made anew or not."""

    fine = (Damaged,)  # the trainer then begins anew, and says so

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        weights = {"dense/kernel": np.ones((3, 2), np.float32), "dense/bias": np.zeros(2)}
        path = folder / "made.checkpoint"
        write_checkpoint(path, b"key", Snapshot([{"loss": 0.5}], 0, weights, weights, {"training": 1.0}))
        self.made = path.read_bytes()

    def input(self, chance: Chance) -> bytes:
        import hashlib

        changed = corrupt(chance, self.made[:-32], self.made, MSGPACK)
        return changed + (hashlib.sha256(changed).digest() if chance.random() < 0.8 else self.made[-32:])

    def give(self, data: bytes) -> None:
        path = self.write("a.checkpoint", data)
        epochs_kept(path)
        read_checkpoint(path, b"key")


class Ledgers(Base):
    """The ledger of a run: bytes of the database, and records in it, sealed anew or not."""

    columns = (("run", "record"), ("results", "result"), ("rounds", "record"))
    plain = (
        ("run", "status"),
        ("tasks", "key"),
        ("leases", "attempt"),
        ("clients", "id"),
        ("shards", "owner"),
        ("tasks", "round"),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.place = Workspace(folder / "workspace")
        self.run = self.place.run_folder("run")
        ledger = Ledger(self.run)
        ledger.open_run(record())
        ledger.add_tasks([OwnedTask(f"shard-{number}", f"lab-{number}", 1) for number in (1, 2)])
        ledger.assign_owners(["lab-1", "lab-2"])
        ledger.remember("lab-1", ID)
        ledger.lease("shard-1", 1, "lab-1")
        ledger.commit(StoredResult("shard-1", "lab-1", result(result_arrays())))
        ledger.put_round(RoundRecord(1, (RoundClient("shard-1", "lab-1", 0, 10),), {"loss": 0.5}))
        ledger.close()
        with contextlib.closing(sqlite3.connect(self.run / Ledger.FILE, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = DELETE")
        self.made = (self.run / Ledger.FILE).read_bytes()

    def input(self, chance: Chance) -> bytes:
        if chance.random() < 0.4:
            return corrupt(chance, self.made, self.made, (b"CREATE TABLE ", b"unfinished", bytes(100)))
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            database.deserialize(self.made)
            if chance.random() < 0.3:
                table, column = chance.choice(self.plain)
                value = chance.choice((None, "", "x", -1, 2**62, 0.5, b"\xff", "done", "\ud7ff"))
                with contextlib.suppress(sqlite3.IntegrityError):
                    database.execute(f"UPDATE {table} SET {column} = ?", (value,))
                return database.serialize()
            table, column = chance.choice(self.columns)
            [old] = database.execute(f"SELECT {column} FROM {table}").fetchone()
            content = old[33:]
            if chance.random() < 0.5:
                content = to_msgpack(rearrange(chance, msgspec.msgpack.decode(content)))
            else:
                content = corrupt(chance, content, content, MSGPACK)
            new: Any = chance.choice(
                (seal(content), seal(content), content, old[:33] + content, content.decode("latin-1"), 5)
            )
            database.execute(f"UPDATE {table} SET {column} = ?", (new,))
            return database.serialize()

    def give(self, data: bytes) -> None:
        for ending in ("-wal", "-shm", "-journal"):
            (self.run / (Ledger.FILE + ending)).unlink(missing_ok=True)
        (self.run / Ledger.FILE).write_bytes(data)
        with contextlib.closing(open_ledger(self.place, "run")) as ledger:
            if ledger.record is not None:
                run = OpenRun(self.place, "run", ledger, ledger.record)
                asyncio.run(mend(run, lambda line: None))


@cache
def _entries() -> list[bytes]:
    return [
        to_msgpack(Entry(b"s" * 16, result({"w": np.zeros(3, np.float32)}), FINGERPRINT)),
        to_msgpack(Entry(b"s" * 16, result(result_arrays()))),
    ]


def json_of(*values: Any) -> list[bytes]:
    return [msgspec.json.encode(value) for value in values]


_PREPROCESSING = Preprocessing("standard", [0.5, 1.0], [1.0, 2.0], ("a", "b"))
_KNOWN = {"10.0.0.1:4000": {"server_id": "73" * 16, "fingerprint": FINGERPRINT.hex(), "others": ["00" * 16]}}
_GATE = {"suspects": [{"address": "10.0.0.2", "guesses": 4, "last": 1.7e9}], "clients": {ID.hex(): 1}}
_EVENT = {"event": "joined", "time": "2026-01-01", "client": "lab-1"}


def void(value: object) -> None:
    """Only that it was made counts."""


TARGETS: Targets = {
    "recipe": (30_000, lambda folder: Kept(folder, "recipe.json", _recipes(), _read_recipe)),
    "outbox": (10_000, lambda folder: Kept(folder, "0" * 64 + ".result", _entries(), _read_outbox, packed=True)),
    "known-servers": (10_000, lambda folder: Kept(folder, "known_servers", json_of(_KNOWN), _read_known)),
    "gate": (10_000, lambda folder: Kept(folder, "gate.json", json_of(_GATE), _read_gate)),
    "consents": (
        5_000,
        lambda folder: Kept(folder, "data_consents", json_of({"66" * 32: {"address": "a"}}), _read_consents),
    ),
    "checkpoint": (10_000, Checkpoints),
    "ledger": (10_000, Ledgers),
    "events": (
        5_000,
        lambda folder: Kept(folder, "events.jsonl", [line + b"\n" for line in json_of(_EVENT)], _read_events),
    ),
    "summary": (5_000, lambda folder: Kept(folder, "summary.json", _summaries(), _read_summary)),
    "kept-rows": (5_000, lambda folder: Kept(folder, "rows.json", _kept_rows(), _read_kept_rows)),
    "preprocessing": (
        5_000,
        lambda folder: Kept(
            folder,
            "preprocessing.json",
            [_PREPROCESSING.to_json()],
            lambda path: void(predict._names(None, path.with_name("net.h5"))),
        ),
    ),
}
