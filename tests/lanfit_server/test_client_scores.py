"""Clients that score models on their own rows, and the time that lost ones are given: a cluster that the test plays."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np
import pytest
from played import PlayedCluster, Said, play

from lanfit.data.labels import Target
from lanfit.data.normalize import Moments
from lanfit.errors import InputError
from lanfit.files import ArrayFile
from lanfit.mistakes import mistake
from lanfit.wire.arrays import BlockSpec, block_of
from lanfit.wire.messages import Model, OwnRows, ScoreTask, Survey, Surveyed
from lanfit_server.assembly import Assembly
from lanfit_server.clusters import Event, Joined, Left, Logged, ScoreDone, SurveyDone, SurveyFailed, TaskFailed
from lanfit_server.patience import Patience
from lanfit_server.scoring import ClientScores, weighted

MODEL = Model("{}", "{}", (None, 3), (None, 4), Target.CLASSES, "zscore", "none")
OWN = OwnRows(8, 0.2, 0.1, 0, 0, None)
NO_BLOCK = BlockSpec("0" * 64, ())


class OneOrder:
    """Stands in for the provision of a run."""

    def score(self, task: str, shard: int, members: list[ArrayFile], rows: str) -> ScoreTask:
        return ScoreTask("run", task, MODEL, OWN, NO_BLOCK, (), rows)

    def scored(self, members: list[ArrayFile]) -> None:
        pass


def scores_of(cluster: PlayedCluster, said: Said, seconds: float, *owners: str) -> ClientScores:
    return ClientScores(cluster, OneOrder(), said, owners, Patience(cluster.roster, seconds))  # type: ignore[arg-type]


def test_figures_are_weighted_by_rows() -> None:
    answers = [ScoreDone("a", "r", "t", 30, {"loss": 1.0}), ScoreDone("b", "r", "t", 10, {"loss": 3.0})]
    assert weighted(answers) == {"loss": 1.5}
    assert weighted([*answers, ScoreDone("c", "r", "t", 0, {})]) == {"loss": 1.5}
    assert weighted([ScoreDone("c", "r", "t", 0, {})]) == {}


def test_a_model_is_sent_round_and_answers_to_other_questions_do_not_count() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        asking = asyncio.create_task(scores_of(cluster, said, 60, "a", "b").of("shard-1", []))
        await cluster.asked("a", "b")
        for event in (
            ScoreDone("a", "run", "shard-2", 5, {"loss": 9.0}),
            ScoreDone("a", "old run", "shard-1", 5, {"loss": 9.0}),
            ScoreDone("stranger", "run", "shard-1", 5, {"loss": 9.0}),
            ScoreDone("a", "run", "shard-1", 5, {"loss": 1.0}),
            ScoreDone("a", "run", "shard-1", 5, {"loss": 9.0}),
            ScoreDone("b", "run", "shard-1", 5, {"loss": 2.0}),
        ):
            cluster.events.put_nowait(event)
        assert await asking == {"loss": 1.5}

    play(script())


def test_a_client_that_can_not_score_is_said_and_left_out() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        asking = asyncio.create_task(scores_of(cluster, said, 60, "a", "b").of("average", []))
        await cluster.asked("a", "b")
        cluster.events.put_nowait(TaskFailed("a", "run", "average", "its files are gone"))
        cluster.events.put_nowait(ScoreDone("b", "run", "average", 5, {"loss": 2.0}))
        assert await asking == {"loss": 2.0}
        assert "a could not score average: its files are gone." in said.lines

    play(script())


def test_a_client_that_breaks_the_protocol_with_its_answer_is_not_asked_again() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        while not cluster.events.empty():
            cluster.events.get_nowait()
        asking = asyncio.create_task(scores_of(cluster, said, 60, "a", "b").of("one", []))
        await cluster.asked("a", "b")
        cluster.events.put_nowait(Left("a", "it sent nonsense", lost=True, broken=True))
        cluster.events.put_nowait(Joined("a"))
        cluster.events.put_nowait(ScoreDone("b", "run", "one", 5, {"loss": 2.0}))
        assert await asking == {"loss": 2.0}
        assert "a could not score one: it sent nonsense." in said.lines
        assert [name for name, _ in cluster.sent] == ["a", "b"]

    play(script())


def test_events_that_are_no_answer_are_left_for_who_comes_next_in_their_order() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        while not cluster.events.empty():
            cluster.events.get_nowait()
        asking = asyncio.create_task(scores_of(cluster, said, 60, "a").of("one", []))
        await cluster.asked("a")
        others: list[Event] = [Logged("a", "run", ("a line",)), Joined("c"), Joined("a"), Joined("late")]
        for event in (*others[:3], ScoreDone("a", "run", "one", 5, {"loss": 2.0}), others[3]):
            cluster.events.put_nowait(event)
        assert await asking == {"loss": 2.0}
        assert [cluster.events.get_nowait() for _ in range(cluster.events.qsize())] == others

    play(script())


def test_clients_that_a_resumed_run_expects_back_are_waited_for_however_little_patience_there_is() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        cluster.leave("b", 0.0)
        scores = scores_of(cluster, said, 0, "a", "b")
        asking = asyncio.create_task(scores.by_client("one", [], ["a", "b"], "validation", grace=60))
        await cluster.asked("a", "b")
        cluster.join("b")
        for name in ("a", "b"):
            cluster.events.put_nowait(ScoreDone(name, "run", "one", 5, {"loss": 2.0}))
        assert set(await asking) == {"a", "b"}

    play(script())


def test_a_client_that_breaks_the_protocol_while_it_reads_its_files_ends_the_start_with_the_reason() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a"), Said()
        order = Survey(MODEL, OWN, NO_BLOCK)
        asking = asyncio.create_task(Assembly(cluster, said).survey(["a"], order))
        await cluster.asked("a")
        cluster.events.put_nowait(Left("a", "it sent nonsense", lost=True, broken=True))
        with pytest.raises(InputError, match="it sent nonsense") as error:
            await asking
        assert error.value.code == "survey.malformed"

    play(script())


def test_a_lost_client_is_waited_for_once_and_not_for_every_model() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        scores = scores_of(cluster, said, 0.2, "a", "b")
        asking = asyncio.create_task(scores.of("one", []))
        await cluster.asked("a", "b")
        cluster.leave("b", asyncio.get_running_loop().time())
        cluster.events.put_nowait(ScoreDone("a", "run", "one", 5, {"loss": 1.0}))
        assert await asking == {"loss": 1.0}
        assert any("b is gone (it was pulled out); nobody else has its rows" in line for line in said.lines)
        cluster.sent.clear()
        asking = asyncio.create_task(scores.of("two", []))
        await cluster.asked("a")
        cluster.events.put_nowait(ScoreDone("a", "run", "two", 5, {"loss": 4.0}))
        assert await asking == {"loss": 4.0}
        assert said.lines[-1] == "b does not score two: it is gone for longer than --deadline."

    play(script())


def test_a_client_that_never_answers_is_waited_for_until_the_deadline_and_once() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        patience = Patience(cluster.roster, 60)
        scores = ClientScores(cluster, OneOrder(), said, ["a", "b"], patience, 0.001)  # type: ignore[arg-type]
        cluster.events.put_nowait(ScoreDone("a", "run", "one", 5, {"loss": 1.0}))
        assert (await scores.by_client("one", [], ["a", "b"], "test")).keys() <= {"a"}
        assert "b does not score one: it has not answered for 0 s." in said.lines
        cluster.sent.clear()
        scores._limit = 60
        asking = asyncio.create_task(scores.of("two", []))
        scores._mute.discard("a")
        await cluster.asked("a")
        cluster.events.put_nowait(ScoreDone("a", "run", "two", 5, {"loss": 4.0}))
        assert await asking == {"loss": 4.0}
        assert "b is not asked to score two: it did not answer in time before." in said.lines
        assert "b" not in [name for name, _ in cluster.sent]

    play(script())


def test_one_that_is_heard_of_again_is_asked_again() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a", "b"), Said()
        scores = scores_of(cluster, said, 60, "a", "b")
        scores._mute.update("ab")
        cluster.join("b")
        cluster.events.put_nowait(ScoreDone("a", "run", "earlier", 5, {}))
        scores._mute.discard("a")
        asking = asyncio.create_task(scores.of("one", []))
        await cluster.asked("a")
        while "b" in scores._mute:
            await asyncio.sleep(0)
        cluster.events.put_nowait(ScoreDone("a", "run", "one", 5, {"loss": 1.0}))
        assert await asking == {"loss": 1.0}
        asking = asyncio.create_task(scores.of("two", []))
        await cluster.asked("b")
        for name in ("a", "b"):
            cluster.events.put_nowait(ScoreDone(name, "run", "two", 5, {"loss": 1.0}))
        assert await asking == {"loss": 1.0}

    play(script())


def test_a_client_that_comes_back_in_time_gets_the_order_again() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("a"), Said()
        asking = asyncio.create_task(scores_of(cluster, said, 60, "a").of("one", []))
        await cluster.asked("a")
        cluster.leave("a", asyncio.get_running_loop().time())
        while not any("a is gone" in line for line in said.lines):
            await asyncio.sleep(0)
        cluster.sent.clear()
        cluster.join("a")
        await cluster.asked("a")
        cluster.events.put_nowait(ScoreDone("a", "run", "one", 5, {"loss": 1.0}))
        assert await asking == {"loss": 1.0}

    play(script())


def test_clients_that_are_here_are_waited_for_longer_than_the_deadline() -> None:
    cluster = asyncio.run(make("a"))
    patience = Patience(cluster.roster, 0.001)
    assert not patience.is_over("a")
    assert patience.next_end(["a"]) > 1
    cluster.roster.leave("a", "lost", 0.0)
    assert patience.is_over("a")
    assert patience.next_end(["a"]) == 0
    assert not Patience(cluster.roster, None).is_over("a")


async def make(*names: str) -> PlayedCluster:
    return PlayedCluster(*names)


# --- the survey -----------------------------------------------------------------------------------------------------

ARRAYS = Moments.of(np.arange(12.0).reshape(4, 3)).to_arrays()
SURVEYED = Surveyed(4, 0, 1, 4, 0, block_of(ARRAYS), ("a note",))
ORDER = Survey(MODEL, OWN, NO_BLOCK)


def test_a_client_that_leaves_before_it_has_told_may_be_replaced_by_another() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("lab-1", "lab-2"), Said()
        surveying = asyncio.create_task(Assembly(cluster, said).survey(["lab-1", "lab-2"], ORDER))
        await cluster.asked("lab-1", "lab-2")
        cluster.events.put_nowait(SurveyDone("lab-2", SURVEYED, ARRAYS))
        cluster.leave("lab-1", 0.0)
        cluster.join("lab-0")
        await cluster.asked("lab-0")
        cluster.events.put_nowait(SurveyDone("lab-0", SURVEYED, ARRAYS))
        _, owners = await surveying
        assert owners == ["lab-0", "lab-2"]
        assert any("a note" in line for line in said.lines)

    play(script())


def test_a_client_that_comes_again_before_it_has_told_is_asked_again() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("lab-1"), Said()
        surveying = asyncio.create_task(Assembly(cluster, said).survey(["lab-1"], ORDER))
        await cluster.asked("lab-1")
        cluster.sent.clear()
        cluster.join("lab-1")
        await cluster.asked("lab-1")
        cluster.events.put_nowait(SurveyDone("lab-1", SURVEYED, ARRAYS))
        assert (await surveying)[1] == ["lab-1"]

    play(script())


def test_what_several_clients_note_about_their_files_is_said_once() -> None:
    async def script() -> None:
        cluster, said = PlayedCluster("lab-1", "lab-2"), Said()
        surveying = asyncio.create_task(Assembly(cluster, said).survey(["lab-1", "lab-2"], ORDER))
        await cluster.asked("lab-1", "lab-2")
        for name, notes in (("lab-1", ("rows are read as 8×8",)), ("lab-2", ("rows are read as 8×8", "a gap"))):
            told = msgspec.structs.replace(SURVEYED, notes=notes)
            cluster.events.put_nowait(SurveyDone(name, told, ARRAYS))
        await surveying
        assert "".join(said.lines).count("Note: rows are read as 8×8.") == 1
        assert "".join(said.lines).count("Note: a gap.") == 1

    play(script())


def test_one_client_whose_files_can_not_be_used_ends_it_and_is_named() -> None:
    async def script() -> None:
        cluster = PlayedCluster("lab-1", "lab-2")
        surveying = asyncio.create_task(Assembly(cluster, Said()).survey(["lab-1", "lab-2"], ORDER))
        await cluster.asked("lab-1", "lab-2")
        wrong = mistake("own-data.unusable", client="lab-2", error="X/a.csv holds no rows", hint="Put some there.")
        cluster.events.put_nowait(SurveyFailed("lab-2", wrong))
        cluster.events.put_nowait(SurveyDone("lab-1", SURVEYED, ARRAYS))
        with pytest.raises(InputError, match=r"lab-2's own files can't be used: X/a\.csv holds no rows"):
            await surveying

    play(script())
