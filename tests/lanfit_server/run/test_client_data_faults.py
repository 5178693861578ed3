"""What is wrong with the files of several clients is collected, told together, and waited for where people are."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.fake_cluster import FakeCluster, run_script
from test_client_surveys import ARRAYS, MODEL, NO_BLOCK, OWN, SURVEYED
from test_early_start import ClientSeen

from lanfit.data.normalize import Moments
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.wire.arrays import block_of
from lanfit.wire.messages import Survey, Surveyed
from lanfit_server.clusters.events import StartNow, SurveyDone, SurveyFailed
from lanfit_server.run.early_start import EarlyStart
from lanfit_server.run.wait_for_clients import ClientWait, why_no_run_began

THREE = ("a", "b", "c")
#: Of a model that takes rows of any number of columns.
ORDER = Survey(msgspec.structs.replace(MODEL, input_shape=(None, None)), OWN, NO_BLOCK)


class Scripted:
    """A survey of three clients."""

    def __init__(self, *, corrects: bool, deadline: float = math.inf, early: EarlyStart | None = None) -> None:
        self.cluster, self.output = FakeCluster(*THREE), ClientSeen()
        self.client_wait = ClientWait(self.cluster, self.output, None, early, corrects=corrects, deadline=deadline)

    def surveys(self, name: str, columns: int = 3) -> None:
        arrays = ARRAYS if columns == 3 else Moments.of(np.arange(4.0 * columns).reshape(4, columns)).to_arrays()
        surveyed = SURVEYED if columns == 3 else Surveyed(4, 0, 1, 4, 0, block_of(arrays), ())
        self.cluster.events.put_nowait(SurveyDone(name, surveyed, arrays))

    def fails(self, name: str, what: str = "X/rows.csv holds no rows") -> None:
        wrong = lanfit_error("own-data.unusable", client=name, error=what, hint="Put some there.")
        self.cluster.events.put_nowait(SurveyFailed(name, wrong))

    def run_script(self, script: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
        async def both() -> list[str]:
            surveying = asyncio.create_task(self.client_wait.survey(THREE, ORDER))
            await self.cluster.asked(*THREE)
            await script()
            return (await surveying)[1]

        owners: list[str] = run_script(both())
        return owners

    def refused(self, script: Callable[[], Coroutine[Any, Any, None]]) -> LanfitError:
        with pytest.raises(LanfitError) as wrong:
            self.run_script(script)
        return wrong.value


def test_without_a_terminal_all_faults_are_collected_and_end_it_together() -> None:
    scenario = Scripted(corrects=False)

    async def script() -> None:
        scenario.fails("b", "X/rows.csv holds no rows")
        await scenario.output.until("X/rows.csv holds no rows. The server waits for the other clients first.")
        scenario.fails("a", "Y/labels.csv is empty")
        scenario.surveys("c")

    wrong = scenario.refused(script)
    assert isinstance(wrong, InputError)
    assert wrong.code == "own-data.several"
    assert "data of 2 clients" in wrong.message
    assert "the data of b can't be used: X/rows.csv holds no rows. Put some there. The files are on b." in wrong.message
    assert "the data of a can't be used: Y/labels.csv is empty" in wrong.message
    assert list(scenario.client_wait.faults) == ["b", "a"]


def test_at_a_terminal_faults_are_shown_and_corrected_files_are_waited_for() -> None:
    scenario = Scripted(corrects=True)

    async def script() -> None:
        scenario.surveys("c")
        scenario.fails("b")
        scenario.fails("a", "Y/labels.csv is empty")
        await scenario.output.until(
            "Waiting for corrected files of b, a. After correcting them, press Enter at the client"
        )
        scenario.surveys("a")
        scenario.fails("b", "Y/labels.csv has 199 rows")
        await scenario.output.until("Y/labels.csv has 199 rows")
        scenario.surveys("b")

    assert scenario.run_script(script) == ["a", "b", "c"]
    assert "the data of b can't be used: X/rows.csv holds no rows.\n  → Put some there. The files are on b." in (
        scenario.output.lines
    )


def test_a_client_that_is_started_again_is_asked_again_after_a_fault() -> None:
    scenario = Scripted(corrects=True)

    async def script() -> None:
        scenario.surveys("b")
        scenario.surveys("c")
        scenario.fails("a")
        await scenario.output.until("Waiting for corrected files of a.")
        scenario.cluster.sent.clear()
        scenario.cluster.join("a")
        await scenario.cluster.asked("a")
        scenario.surveys("a")

    assert scenario.run_script(script) == ["a", "b", "c"]


def test_files_that_do_not_go_together_are_reported_to_all_and_read_again() -> None:
    scenario = Scripted(corrects=True)

    async def script() -> None:
        scenario.surveys("a")
        scenario.surveys("b", columns=2)
        scenario.surveys("c")
        await scenario.output.until("b has rows of 2 columns, but a has rows of 3")
        for name in THREE:
            assert any(name == reported and "does not match" in text for reported, text in scenario.cluster.messages)
        scenario.surveys("b")

    assert scenario.run_script(script) == ["a", "b", "c"]


def test_enter_begins_without_those_whose_files_can_not_be_used() -> None:
    scenario = Scripted(corrects=True, early=EarlyStart(by_key=True))

    async def script() -> None:
        scenario.surveys("a")
        scenario.fails("b")
        scenario.fails("c")
        await scenario.output.until("Press Enter to start with the 1 that is ready.")
        scenario.cluster.events.put_nowait(StartNow())

    assert scenario.run_script(script) == ["a"]


def test_a_client_that_never_tells_is_not_waited_for_beyond_the_deadline() -> None:
    scenario = Scripted(corrects=False, deadline=0.001)

    async def script() -> None:
        scenario.surveys("a")
        scenario.surveys("b")

    wrong = scenario.refused(script)
    # All three were given a millisecond; who told is not blamed, whatever was looked at first.
    assert "c has not reported the contents of its data for" in wrong.message
    assert wrong.code in ("survey.no-answer", "own-data.several")


def test_one_that_tells_after_its_deadline_is_taken_where_that_is_waited_for() -> None:
    scenario = Scripted(corrects=True, deadline=0.001)

    async def script() -> None:
        await scenario.output.until("c has not reported the contents of its data for")
        for name in THREE:
            scenario.surveys(name)

    assert scenario.run_script(script) == ["a", "b", "c"]


def test_each_client_learns_whether_its_data_kept_the_run_from_starting() -> None:
    faults = {
        "late": lanfit_error("survey.no-answer", client="late", waited="10 min"),
        "spoilt": lanfit_error("own-data.unusable", client="spoilt", error="there are no rows", hint="Put some there."),
    }
    assert "did not report its data in time (--deadline" in why_no_run_began(faults, "late")
    assert "can't be used, see above" in why_no_run_began(faults, "spoilt")
    assert why_no_run_began(faults, "well").startswith(
        "no run was started because of late, spoilt; the data of this client is"
    )
    assert why_no_run_began({}, "well") == "no run was started: see the server for the reason"
