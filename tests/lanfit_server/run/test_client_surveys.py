"""Clients that read and check their own files before a run: a cluster that the test plays."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np
import pytest
from fakes.fake_cluster import FakeCluster, RecordingDisplay, run_script

from lanfit.data.labels import Target
from lanfit.data.normalize import Moments
from lanfit.errors import InputError, lanfit_error
from lanfit.wire.arrays import BlockSpec, block_of
from lanfit.wire.messages import ClientData, Model, Survey, Surveyed
from lanfit_server.clusters.events import ClientLeft, SurveyDone, SurveyFailed
from lanfit_server.run.wait_for_clients import ClientWait

MODEL = Model("{}", "{}", (None, 3), (None, 4), Target.CLASSES, "zscore", "none")
OWN = ClientData(8, 0.2, 0.1, 0, 0, None)
NO_BLOCK = BlockSpec("0" * 64, ())
ARRAYS = Moments.of(np.arange(12.0).reshape(4, 3)).to_arrays()
SURVEYED = Surveyed(4, 0, 1, 4, 0, block_of(ARRAYS), ("a note",))
ORDER = Survey(MODEL, OWN, NO_BLOCK)


def test_a_client_that_leaves_before_it_has_told_may_be_replaced_by_another() -> None:
    async def script() -> None:
        cluster, output = FakeCluster("lab-1", "lab-2"), RecordingDisplay()
        surveying = asyncio.create_task(ClientWait(cluster, output).survey(["lab-1", "lab-2"], ORDER))
        await cluster.asked("lab-1", "lab-2")
        cluster.events.put_nowait(SurveyDone("lab-2", SURVEYED, ARRAYS))
        cluster.leave("lab-1", 0.0)
        cluster.join("lab-0")
        await cluster.asked("lab-0")
        cluster.events.put_nowait(SurveyDone("lab-0", SURVEYED, ARRAYS))
        _, owners = await surveying
        assert owners == ["lab-0", "lab-2"]
        assert any("a note" in line for line in output.lines)

    run_script(script())


def test_a_client_that_comes_again_before_it_has_told_is_asked_again() -> None:
    async def script() -> None:
        cluster, output = FakeCluster("lab-1"), RecordingDisplay()
        surveying = asyncio.create_task(ClientWait(cluster, output).survey(["lab-1"], ORDER))
        await cluster.asked("lab-1")
        cluster.sent.clear()
        cluster.join("lab-1")
        await cluster.asked("lab-1")
        cluster.events.put_nowait(SurveyDone("lab-1", SURVEYED, ARRAYS))
        assert (await surveying)[1] == ["lab-1"]

    run_script(script())


def test_what_several_clients_note_about_their_files_is_reported_once() -> None:
    async def script() -> None:
        cluster, output = FakeCluster("lab-1", "lab-2"), RecordingDisplay()
        surveying = asyncio.create_task(ClientWait(cluster, output).survey(["lab-1", "lab-2"], ORDER))
        await cluster.asked("lab-1", "lab-2")
        for name, notes in (("lab-1", ("rows are read as 8×8",)), ("lab-2", ("rows are read as 8×8", "a gap"))):
            reported = msgspec.structs.replace(SURVEYED, notes=notes)
            cluster.events.put_nowait(SurveyDone(name, reported, ARRAYS))
        await surveying
        assert "".join(output.lines).count("Note: rows are read as 8×8.") == 1
        assert "".join(output.lines).count("Note: a gap.") == 1

    run_script(script())


def test_one_client_whose_files_can_not_be_used_ends_it_and_is_named() -> None:
    async def script() -> None:
        cluster = FakeCluster("lab-1", "lab-2")
        surveying = asyncio.create_task(ClientWait(cluster, RecordingDisplay()).survey(["lab-1", "lab-2"], ORDER))
        await cluster.asked("lab-1", "lab-2")
        wrong = lanfit_error("own-data.unusable", client="lab-2", error="X/a.csv holds no rows", hint="Put some there.")
        cluster.events.put_nowait(SurveyFailed("lab-2", wrong))
        cluster.events.put_nowait(SurveyDone("lab-1", SURVEYED, ARRAYS))
        with pytest.raises(InputError, match=r"the data of lab-2 can't be used: X/a\.csv holds no rows"):
            await surveying

    run_script(script())


def test_a_client_that_breaks_the_protocol_while_it_reads_its_files_ends_the_start_with_the_reason() -> None:
    async def script() -> None:
        cluster, output = FakeCluster("a"), RecordingDisplay()
        order = Survey(MODEL, OWN, NO_BLOCK)
        asking = asyncio.create_task(ClientWait(cluster, output).survey(["a"], order))
        await cluster.asked("a")
        cluster.events.put_nowait(ClientLeft("a", "it sent nonsense", lost=True, broken=True))
        with pytest.raises(InputError, match="it sent nonsense") as error:
            await asking
        assert error.value.code == "survey.malformed"

    run_script(script())
