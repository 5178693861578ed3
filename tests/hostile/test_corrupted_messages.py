"""A client that knows the passphrase, holds a task, and sends what no client sends: its link is cut, or it is refused.

The server lives, another client beside it is served, and the run ends with honest weights in all its results.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripted_cluster import RUN, WEIGHTS, Client, run_script, serving, weights

from lanfit.errors import ConnectionFailed
from lanfit.wire.arrays import ArraySpec, BlockSpec, block_of
from lanfit.wire.frames import CONTROL_LIMIT_FROM_CLIENT, Kind, encode_data_header, encode_frame
from lanfit.wire.messages import (
    MOST_SHOWN,
    MOST_SHOWN_OUTPUTS,
    Commit,
    Epoch,
    EvaluationResult,
    Join,
    LogLines,
    Message,
    Offer,
    Progress,
    Reject,
    Result,
    Surveyed,
    TakeParts,
    Unsuitable,
    Welcome,
)

CUT, HARMLESS = "the link is cut", "nothing comes of it"
REFUSED, NOT_ITS = "the result is refused", "it is refused as none of its own"
TASK, NO_BLOCK = "shard-1", "0" * 64
TABLE = block_of(weights(1.0)).arrays
FINE = Result(RUN, TASK, 1, BlockSpec("ab" * 32, TABLE), ("loss",), 0, {}, {}, "numpy", "cpu", 1)
NAN = float("nan")


def offer(**changes: Any) -> bytes:
    """An offer for the task that the client holds, in which something is changed."""
    return message(Offer(msgspec.structs.replace(FINE, **changes)))


def arrays(*specs: tuple[str, str, tuple[int, ...]]) -> bytes:
    """An offer of a block of these arrays, instead of those of the model; the rest of it is as it should be."""
    rest = TABLE[len(WEIGHTS) :]
    return offer(block=BlockSpec("ab" * 32, (*(ArraySpec(*spec) for spec in specs), *rest)))


def message(output: Message) -> bytes:
    return encode_frame(Kind.CONTROL, msgspec.msgpack.encode(output))


def raw(**fields: Any) -> bytes:
    """A message that the sender's own library would not make."""
    return encode_frame(Kind.CONTROL, msgspec.msgpack.encode(fields))


def header(size: int, kind: int) -> bytes:
    return struct.pack("!IB", size, kind)


KERNEL, BIAS = ("kernel", "float32", (3, 2)), ("bias", "float32", (2,))
FETCH = {"type": "fetch", "block": NO_BLOCK, "stream": 0}
MANY = {f"metric {n}": 0.5 for n in range(600)}
CORRUPTED: dict[str, tuple[bytes, str]] = {
    # what arrays are said to be
    "an array of objects": (arrays(("kernel", "object", (3, 2)), BIAS), REFUSED),
    "an array of a dtype with code in it": (arrays(("kernel", "f4;import os", (3, 2)), BIAS), CUT),
    "an array of records": (arrays(("kernel", "V8", (3, 2)), BIAS), REFUSED),
    "an array of another dtype": (arrays(("kernel", "float64", (3, 2)), BIAS), REFUSED),
    "a negative shape": (arrays(("kernel", "float32", (-3, -2)), BIAS), REFUSED),
    "a shape of 2^124 bytes": (arrays(("kernel", "float32", (2**62, 2**62)), BIAS), REFUSED),
    "a transposed shape": (arrays(("kernel", "float32", (2, 3)), BIAS), REFUSED),
    "a shape of 1,000 dimensions": (arrays(("kernel", "float32", (1,) * 1000), BIAS), REFUSED),
    "a name that stands twice": (arrays(KERNEL, KERNEL), REFUSED),
    "arrays in another order": (arrays(BIAS, KERNEL), REFUSED),
    "a name that is a path": (arrays(("../../kernel", "float32", (3, 2)), BIAS), REFUSED),
    "no arrays": (offer(block=BlockSpec("ab" * 32, ())), REFUSED),
    "more arrays": (offer(block=BlockSpec("ab" * 32, (*TABLE, ArraySpec("more", "int8", (1,))))), REFUSED),
    # numbers
    "a history of 10^9 epochs": (
        offer(block=BlockSpec("ab" * 32, (*TABLE[:-1], ArraySpec("history", "float64", (10**9, 1))))), REFUSED,
    ),
    "the best of 10^9 epochs": (offer(best_epoch=10**9), REFUSED),
    "a best epoch before the first": (offer(best_epoch=-1), REFUSED),
    "an attempt that there was not": (offer(attempt=10**9), NOT_ITS),
    "an attempt below zero": (offer(attempt=-1), NOT_ITS),
    "seconds that are no number": (offer(seconds={"train": NAN}), REFUSED),
    "600 scores": (offer(scores=MANY), REFUSED),
    "no names for the history": (offer(metrics=()), REFUSED),
    "epoch 10^9": (message(Epoch(RUN, TASK, 10**9, {"loss": 0.5})), HARMLESS),
    "epoch -1 without numbers": (message(Epoch(RUN, TASK, -1, {"loss": NAN})), HARMLESS),
    "progress beyond everything": (
        message(Progress(RUN, TASK, 2**63 - 1, -1, -(2**63), 0, NAN, float("-inf"), "receiving")), HARMLESS,
    ),
    "progress in steps of nothing": (message(Progress(RUN, TASK, -1, 1, 2**63 - 1, -1, NAN, NAN)), HARMLESS),
    "600 metrics of an epoch": (message(Epoch(RUN, TASK, 0, MANY)), CUT),
    "predictions that nobody asked for": (
        message(Epoch(RUN, TASK, 0, {"loss": 0.5}, {}, bytes(4 * MOST_SHOWN * MOST_SHOWN_OUTPUTS))), HARMLESS,
    ),
    "predictions for too many rows": (
        message(Epoch(RUN, TASK, 0, {"loss": 0.5}, {}, bytes(4 * MOST_SHOWN * MOST_SHOWN_OUTPUTS + 1))), CUT,
    ),
    "times that are none": (message(Epoch(RUN, TASK, 0, {"loss": 0.5}, {"train": NAN, "evil": -1.0})), HARMLESS),
    "33 times": (message(Epoch(RUN, TASK, 0, {"loss": 0.5}, {f"t{n}": 0.5 for n in range(33)})), CUT),
    "a time with a name that is a path": (message(Epoch(RUN, TASK, 0, {"loss": 0.5}, {"../train": 0.5})), CUT),
    "an integer beyond 64 bits": (raw(type="commit", block=2**64 - 1), CUT),
    # names
    "a run that is the folder above": (offer(run=".."), CUT),
    "a run that is a path": (offer(run="../run-1"), CUT),
    "a task that is a path": (offer(task="/etc/passwd"), CUT),
    "a task with a zero byte": (message(Epoch(RUN, "shard-1\0", 0, {"loss": 0.5})), CUT),
    "a log of a device": (message(LogLines("con", ("made up",))), CUT),
    "a score of a run that is a path": (message(EvaluationResult("..", TASK, 1, {})), CUT),
    "a block that is a path": (message(Commit("../" * 21 + "x")), CUT),
    "a metric that steers a terminal": (message(Epoch(RUN, TASK, 0, {"\x1b[2J": 0.5})), CUT),
    "a metric of two lines": (offer(metrics=("loss\nloss",)), CUT),
    "a metric without a name": (message(Epoch(RUN, TASK, 0, {"": 0.5})), CUT),
    "a file of custom objects that is a path": (
        raw(type="allow", custom=[{"name": "../x.py", "sha256": NO_BLOCK}]), CUT,
    ),
    "custom objects in 17 files": (raw(type="allow", custom=[{"name": "x.py", "sha256": NO_BLOCK}] * 17), CUT),
    # blocks that were not offered, and data that nobody asked for
    "a block that there is not": (raw(**FETCH), CUT),
    "a block from byte 2^63 on": (raw(**{**FETCH, "offset": 2**63}), CUT),
    "a block from byte -1 on": (raw(**{**FETCH, "offset": -1}), CUT),
    "a stream beyond 32 bits": (raw(**{**FETCH, "stream": 2**32}), CUT),
    "a commit of nothing": (message(Commit(NO_BLOCK)), CUT),
    "data that nobody asked for": (encode_data_header(7, 0, 16) + bytes(16), CUT),
    "data of 4 GB": (header(2**32 - 1, Kind.DATA), CUT),
    "an answer that nobody asked for": (message(TakeParts("a", 1, 1)), CUT),
    "a survey that nobody asked for": (
        message(Surveyed(-1, -1, -1, -1, -1, BlockSpec(NO_BLOCK, (ArraySpec("mean", "float64", (2**40,)),)), ())),
        HARMLESS,
    ),
    "a refusal that nobody asked for": (message(Unsuitable("\x1b[2J", "\x1b[2J")), HARMLESS),
    "a score that nobody asked for": (message(EvaluationResult(RUN, TASK, 10**18, {"loss": NAN})), HARMLESS),
    # frames and msgpack
    "a message of 64 KiB and a byte": (header(CONTROL_LIMIT_FROM_CLIENT + 1, Kind.CONTROL), CUT),
    "a message of 4 GB": (header(2**32 - 1, Kind.CONTROL), CUT),
    "a frame of a kind that is none": (header(1, 255) + b"x", CUT),
    "a hello after the login": (encode_frame(Kind.CLIENT_HELLO, bytes(60)), CUT),
    "an empty message": (encode_frame(Kind.CONTROL, b""), CUT),
    "60,000 lists in one another": (encode_frame(Kind.CONTROL, b"\x91" * 60_000), CUT),
    "60,000 maps in one another": (encode_frame(Kind.CONTROL, b"\x81\xa1a" * 20_000), CUT),
    "a map of 2^32 fields": (encode_frame(Kind.CONTROL, b"\xdf\xff\xff\xff\xff"), CUT),
    "a list of 2^32 lines": (
        encode_frame(Kind.CONTROL, b"\x83\xa4type\xa3log\xa3run\xa1r\xa5lines\xdd\xff\xff\xff\xff"), CUT,
    ),
    "bytes of 4 GB": (encode_frame(Kind.CONTROL, b"\x81\xa4type\xc6\xff\xff\xff\xff"), CUT),
    "a byte that msgpack has not": (encode_frame(Kind.CONTROL, b"\xc1" * 100), CUT),
    "text that is no UTF-8": (encode_frame(Kind.CONTROL, b"\x81\xa4type\xa4\xff\xfe\xff\xfe"), CUT),
    "two messages in one": (encode_frame(Kind.CONTROL, b"\x81\xa4type\xa4ping\x81\xa4type\xa4ping"), CUT),
    "a message that is a list": (encode_frame(Kind.CONTROL, msgspec.msgpack.encode(["ping"])), CUT),
    "a message of no known type": (raw(type="exec", command="id"), CUT),
    "a message with a field too many": (raw(type="commit", block=NO_BLOCK, more=1), CUT),
    "a message with a field too few": (raw(type="epoch", run=RUN), CUT),
    "a number where text belongs": (raw(type="log", run=RUN, lines=[1]), CUT),
    "a second introduction": (message(Join("again", "0", "numpy", "cpu", 1, 0)), CUT),
    "a message of a server": (message(Welcome("0", "lab-2", False)), CUT),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is sent, the server takes it for the peer's fault and not for its own."""
    yield
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def what_becomes_of(client: Client, corrupted: bytes) -> str:
    """Send it, and then something that is answered: what comes before that is the answer to it."""
    probe = Offer(msgspec.structs.replace(FINE, task="no-such-task", block=BlockSpec("cd" * 32, ())))
    client.link._wire.write([corrupted, message(probe)])
    end = HARMLESS
    try:
        while True:
            match await client.link.receive():
                case Reject(block) if block == probe.result.block.id:
                    return end
                case Reject(_, reason):
                    end = NOT_ITS if "never assigned to it" in reason else REFUSED
    except ConnectionFailed:
        assert client.link.closed.is_set()
        return CUT


async def work(client: Client, *leases: Any) -> None:
    """What an honest client does until the run ends."""
    with contextlib.suppress(ConnectionFailed):
        for lease in leases:
            await client.do(lease)
        while True:
            await client.do(await client.lease())


@pytest.mark.parametrize(("corrupted", "end"), CORRUPTED.values(), ids=CORRUPTED)
def test_what_no_client_sends_harms_nobody_else_and_not_the_run(corrupted: bytes, end: str, tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 2, login=False) as (server, join):
            evil, honest = await join("lab-1"), await join("lab-2")
            server.begin()
            lease = await evil.lease()
            before = {path for path in tmp_path.rglob("*") if path.is_file()}
            assert await what_becomes_of(evil, corrupted) == end
            made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
            assert {path.parent.name for path in made} <= {RUN, "results", "lab-1"}
            if end == CUT:
                evil = await join("lab-1")
            kept = [lease] if end in (HARMLESS, NOT_ITS) else []
            working = [asyncio.create_task(work(honest)), asyncio.create_task(work(evil, *kept))]
            await server.training
            for each in working:
                each.cancel()
            assert [server.value_of(task) for task in ("shard-1", "shard-2")] == [1.0, 2.0]
            assert not any("\x1b" in line for line in server.display.lines)

    run_script(script())
