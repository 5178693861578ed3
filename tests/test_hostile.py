"""Clients that know the passphrase and lie: each is cut off or refused, and an honest one beside them ends its run."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from running import PASSPHRASE, Place, client, flags, free_port, port_of

from lanfit.data.normalize import Moments
from lanfit.errors import ConnectionFailed
from lanfit.net.link import Link
from lanfit.wire.arrays import ArraySpec, BlockSpec
from lanfit.wire.messages import (
    Commit,
    Epoch,
    EvaluationResult,
    Failed,
    Fetch,
    Join,
    Lease,
    LogLines,
    Message,
    Offer,
    Ping,
    Progress,
    Reject,
    Result,
    Status,
    Surveyed,
    Unsuitable,
    Welcome,
)
from lanfit_client.connect import connect

pytestmark = pytest.mark.story
JOIN = Join("../../evil\x1b[2J", "0", "tensorflow", "cpu", 1, 0)
RESULT = Result("nothing", "shard-1", 1, BlockSpec("0" * 64, ()), (), 0, {}, {}, "tensorflow", "cpu", 1)


async def receive(link: Link, kind: type[Message]) -> Message:
    """The next message of a kind."""
    async with asyncio.timeout(60):
        while not isinstance(message := await link.receive(), kind):
            pass
        return message


async def is_cut(link: Link) -> None:
    """Wait until the server ends the link."""
    with contextlib.suppress(ConnectionFailed):
        async with asyncio.timeout(60):
            while True:
                await link.receive()
    assert link.closed.is_set()


async def no_join(link: Link) -> None:
    await link.send(Ping())
    await link.send(Progress("r", "t", 1, 1, 1, 1, 0.0, 0.0))
    await is_cut(link)


async def unknown_block(link: Link) -> None:
    await link.send(JOIN)
    await link.send(Fetch("ab" * 32, 0))
    await is_cut(link)


async def commit_of_nothing(link: Link) -> None:
    await link.send(JOIN)
    await link.send(Commit("0" * 64))
    await is_cut(link)


async def result_of_an_unknown_run(link: Link) -> None:
    await link.send(JOIN)
    await link.send(Offer(RESULT))
    rejected = await receive(link, Reject)
    assert isinstance(rejected, Reject)
    assert "no run" in rejected.reason


async def news_of_a_run_that_is_not(link: Link) -> None:
    """Claims about tasks that nobody gave it change nothing."""
    await link.send(JOIN)
    welcome = await receive(link, Welcome)
    assert isinstance(welcome, Welcome)
    assert welcome.name.startswith("evil-2J"), "a label, without path and escape"
    await link.send(Epoch("no-run", "shard-1", 0, {"loss": 1.0}))
    await link.send(LogLines("no-run", ("\x1b[31m",)))
    await link.send(Failed("no-run", "shard-9", "boo", "", ()))
    await link.send(Join("again", "0", "tensorflow", "cpu", 1, 0))
    await is_cut(link)


async def a_run_that_is_a_path(link: Link) -> None:
    await link.send(JOIN)
    await link.send(LogLines("../..", ("made up",)))
    await is_cut(link)


async def survey_of_too_much(link: Link) -> None:
    """Nobody asked; what it tells of is not even fetched."""
    await link.send(JOIN)
    huge = BlockSpec("0" * 64, (ArraySpec("mean", "float64", (2**40,)),))
    await link.send(Surveyed(1, 0, 0, 1, 0, huge, ("\x1b[2J",)))
    await link.send(Unsuitable("\x1b[2J", "\x1b[2J"))
    await link.send(EvaluationResult("../..", "shard-1", 10**18, {"\x1b[2J": 0.0}))
    await is_cut(link)


async def surveys_without_end(link: Link) -> None:
    await link.send(JOIN)
    spec = ArraySpec("mean", "float64", (3,))
    block = BlockSpec("0" * 64, tuple(ArraySpec(name, spec.dtype, spec.shape) for name in Moments.ARRAYS))
    for _ in range(2):
        await link.send(Surveyed(1, 0, 0, 1, 0, block, ()))
    await is_cut(link)


LIES = [
    survey_of_too_much,
    a_run_that_is_a_path,
    surveys_without_end,
    no_join,
    unknown_block,
    commit_of_nothing,
    result_of_an_unknown_run,
    news_of_a_run_that_is_not,
]


def test_every_lie_is_cut_off_or_refused_and_the_honest_client_ends_its_run(place: Place, tmp_path: Path) -> None:
    with place.server(*flags(free_port(), 2)) as server:
        port = port_of(server)
        server.expect("Waiting for 2 more")

        async def lie(how: Callable[[Link], Awaitable[None]]) -> None:
            link, _ = await connect("127.0.0.1", port, os.urandom(16), PASSPHRASE)
            try:
                await how(link)
            finally:
                await link.close("enough")

        for how in LIES:
            asyncio.run(lie(how))
        with (
            client(tmp_path / "a", port, "honest-1") as first,
            client(tmp_path / "b", port, "honest-2") as second,
        ):
            server.finish()
            first.finish()
            second.finish()
    assert [each["name"] for each in place.summary()["clients"]] == ["honest-1", "honest-2"]
    assert "Traceback" not in server.output, server.output
    assert "\x1b" not in server.output
    assert not (place.root.parent / "logs").exists()


def test_a_result_that_does_not_fit_the_task_is_rejected_and_the_task_goes_to_another(
    place: Place, tmp_path: Path
) -> None:
    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")

        async def deliver_something_else() -> None:
            link, _ = await connect("127.0.0.1", port, os.urandom(16), PASSPHRASE)
            await link.send(Join("liar", "0", "tensorflow", "cpu", 1, 0))
            lease = await receive(link, Lease)
            assert isinstance(lease, Lease)
            huge = BlockSpec("0" * 64, (ArraySpec("w", "float32", (2**40,)),))
            await link.send(Offer(Result(lease.run, lease.task, 1, huge, (), 0, {}, {}, "tensorflow", "cpu", 1)))
            assert isinstance(await receive(link, Reject), Reject)
            await link.close("enough")

        asyncio.run(deliver_something_else())
        server.expect("liar could not train shard-1: .* it is tried again")
        with client(tmp_path / "a", port, "honest") as worker:
            server.finish()
            worker.finish()
    assert place.summary()["status"] == "done"


def test_weights_that_are_not_finite_are_refused_and_the_task_is_tried_elsewhere(place: Place, tmp_path: Path) -> None:
    import numpy as np

    from lanfit.models.trained_model import TrainedModel
    from lanfit.wire.arrays import block_of, buffers

    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")

        async def deliver_nan() -> str:
            link, _ = await connect("127.0.0.1", port, os.urandom(16), PASSPHRASE)
            await link.send(Join("broken", "0", "tensorflow", "cpu", 1, 0))
            lease = await receive(link, Lease)
            assert isinstance(lease, Lease)
            arrays = {spec.name: np.full(spec.shape, np.nan, spec.dtype) for spec in lease.weights.arrays}
            arrays |= TrainedModel({}).constants()
            arrays["history"] = np.zeros((1, 1))
            block = block_of(arrays)
            await link.send(
                Offer(Result(lease.run, lease.task, 1, block, ("loss",), 0, {}, {}, "tensorflow", "cpu", 1))
            )
            fetch = await receive(link, Fetch)
            assert isinstance(fetch, Fetch)
            await link.send_block(fetch, buffers(arrays))
            await link.send(Commit(block.id))
            rejected = await receive(link, Reject)
            assert isinstance(rejected, Reject)
            await link.close("enough")
            return rejected.reason

        assert "NaN or infinity" in asyncio.run(deliver_nan())
        server.expect("broken could not train shard-1: .* it is tried again")
        with client(tmp_path / "a", port, "honest") as worker:
            server.finish()
            worker.finish()
    summary = place.summary()
    assert summary["status"] == "done"
    assert "NaN" in summary["clients"][0]["errors"][0]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


def test_status_tells_a_waiting_client_what_it_waits_for(place: Place) -> None:
    with place.server(*flags(free_port(), 2)) as server:
        port = port_of(server)
        server.expect("Waiting for 2 more")

        async def listen() -> str:
            link, _ = await connect("127.0.0.1", port, os.urandom(16), PASSPHRASE)
            await link.send(Join("patient", "0", "tensorflow", "cpu", 1, 0))
            while "1 of 2 clients are here" not in (text := str(getattr(await receive(link, Status), "text", ""))):
                pass
            await link.close("enough")
            return text

        assert "training starts when all are" in asyncio.run(listen())
        server.interrupt()
        server.finish(130)
