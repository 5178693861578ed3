"""What a disk has done to a run that an earlier server left: every file, every kind of damage; real ledgers, blocks."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from corrupted_files import DAMAGES, flip
from fakes.results import ARRAYS, SERVER, record, result
from test_federated_rounds import Died, Run, at_work, kernel, kill_at, mean, run_script, whole

from lanfit.core.durable import seal
from lanfit.core.failpoints import failpoint
from lanfit.core.workspace import Workspace
from lanfit.errors import LanfitError
from lanfit.settings.job import make_job, to_toml
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import ArraySpec, block_of
from lanfit_server.run.damage import LOST, damage_of, mend
from lanfit_server.run.resume import NOT_BEGUN, rebuild_weights, status_of, summary_of, unfinished, weights_of
from lanfit_server.start.state import StoredPassphrase
from lanfit_server.store.ledger import Ledger, OwnedTask, StoredResult
from lanfit_server.store.result_store import OpenRun, Reject, ResultStore

WEIGHTS = {name: array for name, array in ARRAYS.items() if name.startswith("dense")}


def begun(folder: Path) -> OpenRun:
    """A run with its starting weights, two tasks, and the results of both."""
    place = Workspace(folder)
    ledger = Ledger(place.run_folder("run-1"))
    ledger.open_run(msgspec.structs.replace(record("run-1"), weights_id=block_of(WEIGHTS).id))
    run = OpenRun(place, "run-1", ledger, ledger.record)  # type: ignore[arg-type]
    BlockFile.write(run.weights, WEIGHTS)
    (run.folder / "job.toml").write_text(to_toml(make_job({"clients": 2, "model": "model/net.h5"})))
    (run.folder / "events.jsonl").touch()
    ledger.add_tasks([OwnedTask("shard-1", "lab-1"), OwnedTask("shard-2", "lab-2")])
    for task, client in (("shard-1", "lab-1"), ("shard-2", "lab-2")):
        BlockFile.write(run.block(task), ARRAYS)
        ledger.commit(StoredResult(task, client, result(task=task)))
    return run


def mended(run: OpenRun) -> list[str]:
    output: list[str] = []
    asyncio.run(mend(run, output.append))
    return output


# --- results and weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_task_of_a_result_that_the_disk_has_lost_is_done_again_and_that_is_reported(
    damage: str, tmp_path: Path
) -> None:
    with contextlib.closing(begun(tmp_path).ledger) as ledger:
        run = OpenRun(Workspace(tmp_path), "run-1", ledger, ledger.record)  # type: ignore[arg-type]
        assert mended(run) == []
        DAMAGES[damage](run.block("shard-2"))
        [line] = mended(run)
        assert line.startswith("The result of shard-2 from lab-2 can't be read back: logs/run-1/results/shard-2.block ")
        assert line.endswith("The task is done again.")
        assert [stored.task for stored in ledger.results()] == ["shard-1"]
        assert not run.block("shard-2").exists()
        assert mended(run) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_starting_weights_that_the_disk_has_corrupted_are_named_and_made_again_of_the_same_model(
    damage: str, tmp_path: Path
) -> None:
    run = begun(tmp_path)
    with contextlib.closing(run.ledger):
        DAMAGES[damage](run.weights)
        with pytest.raises(LanfitError) as wrong:
            weights_of(run)
        assert wrong.value.code == ("resume.nothing-kept" if damage == "gone" else "resume.damaged")
        assert "logs/run-1/weights.block" in wrong.value.message
        assert "logs/run-1/job.toml" in wrong.value.hint

        other = ArrayFile.write(tmp_path / "other.block", {**WEIGHTS, "dense/bias": np.ones(2, np.float32)})
        assert not rebuild_weights(run, other)
        assert rebuild_weights(run, ArrayFile.write(tmp_path / "again.block", WEIGHTS))
        for name, array in weights_of(run).items():
            np.testing.assert_array_equal(array, WEIGHTS[name])


def test_every_byte_of_a_block_is_guarded(tmp_path: Path) -> None:
    path = tmp_path / "some.block"
    spec = BlockFile.write(path, WEIGHTS)
    assert damage_of(path, spec.arrays, spec.id) == ""
    for position in range(path.stat().st_size):
        flip(path, position)
        assert damage_of(path, spec.arrays, spec.id) == "differs from what was written"
        flip(path, position)


# --- the ledger -------------------------------------------------------------------------------------------------


def checkpointed(run: OpenRun) -> Path:
    """The ledger of a run in one file, as after an orderly end."""
    run.ledger.close()
    return run.folder / Ledger.FILE


def left_by_a_kill(run: OpenRun) -> Path:
    """The same as a server leaves it that is killed: all of it is in the write-ahead log."""
    for path in run.folder.glob("ledger.sqlite*"):
        shutil.copyfile(path, path.with_name(f"kept-{path.name}"))
    run.ledger.close()
    for path in run.folder.glob("kept-*"):
        path.replace(path.with_name(path.name.removeprefix("kept-")))
    return run.folder / f"{Ledger.FILE}-wal"


def refused(folder: Path) -> LanfitError:
    """Why nothing of the run can be gone on with; it is the same whoever asks."""
    place = Workspace(folder)
    with pytest.raises(LanfitError) as wrong:
        status_of(place, "run-1")
    output: list[str] = []
    assert unfinished(place, output.append) is None, "at the terminal it is not offered"
    assert [wrong.value.message in line for line in output] == [True]
    return wrong.value


def test_a_ledger_with_other_bytes_is_refused_wherever_they_are(tmp_path: Path) -> None:
    path = checkpointed(begun(tmp_path))
    content = path.read_bytes()
    places = [content.index(mark) for mark in (b"shard-1", b"unfinished", b"CREATE TABLE results", b"dense/kernel")]
    for place in (*places, content.rindex(b"shard-1"), content.rindex(b"dense/kernel")):
        flip(path, place)
        wrong = refused(tmp_path)
        assert wrong.code == "resume.damaged-ledger", place
        assert wrong.exit_code == 2
        assert "logs/run-1/ledger.sqlite is damaged" in wrong.message
        assert wrong.hint == (
            "No model of it was collected. Start the same job again: lanfit server --job logs/run-1/job.toml."
        )
        path.write_bytes(content)
    assert status_of(Workspace(tmp_path), "run-1") == "unfinished"


@pytest.mark.parametrize(
    "table",
    [
        (ArraySpec("w", "float32", (-1,)),),
        (ArraySpec("w", "float32", (2**40, 2**40)),),
        (ArraySpec("w", "object", (3,)),),
        (ArraySpec("w", "float32", (3,)), ArraySpec("w", "float32", (3,))),
    ],
    ids=["negative", "too large", "objects", "twice"],
)
def test_a_ledger_with_a_table_that_no_block_has_is_refused(table: tuple[ArraySpec, ...], tmp_path: Path) -> None:
    """Such a record is whole, seal and all: somebody has made it."""
    run = begun(tmp_path)
    with contextlib.closing(sqlite3.connect(run.folder / Ledger.FILE)) as database:
        changed = seal(msgspec.msgpack.encode(msgspec.structs.replace(run.record, weights=table)))
        database.execute("UPDATE run SET record = ?", (changed,))
        database.commit()
    assert refused(tmp_path).code == "resume.damaged-ledger"


def of_a_later_format(content: bytes) -> bytes:
    return content[:18] + b"\x09\x09" + content[20:]  # the versions for writing and reading


def with_another_column(content: bytes) -> bytes:
    return content.replace(b"(number INTEGER PRIMARY KEY", b"(nomber INTEGER PRIMARY KEY")


@pytest.mark.parametrize("change", [of_a_later_format, with_another_column])
def test_a_ledger_of_another_form_is_damaged(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """SQLite calls that an operational error, as it does a full disk."""
    path = checkpointed(begun(tmp_path))
    path.write_bytes(change(path.read_bytes()))
    assert refused(tmp_path).code == "resume.damaged-ledger"


@pytest.mark.parametrize("column", ["status", "record"])
def test_a_ledger_in_which_a_number_stands_where_text_should_is_refused(column: str, tmp_path: Path) -> None:
    run = begun(tmp_path)
    with contextlib.closing(sqlite3.connect(run.folder / Ledger.FILE)) as database:
        database.execute(f"UPDATE run SET {column} = 5")
        database.commit()
    assert refused(tmp_path).code == "resume.damaged-ledger"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_ledger_is_named_with_what_was_collected_and_the_line_that_starts_the_job_again(
    damage: str, tmp_path: Path
) -> None:
    run = begun(tmp_path)
    model = run.model_file("lab-1")
    model.parent.mkdir(parents=True)
    model.touch()
    path = checkpointed(run)
    if damage == "flipped":
        flip(path, 0)
    else:
        DAMAGES[damage](path)
    wrong = refused(tmp_path)
    assert wrong.code == "resume.damaged-ledger"
    assert "What was collected of it is kept: 1 model in model/collected/run-1." in wrong.hint
    assert "lanfit server --job logs/run-1/job.toml" in wrong.hint

    (run.folder / "job.toml").write_text("model = [")
    assert "can't be read either: start a new run" in refused(tmp_path).hint


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_write_ahead_log_that_is_lost_is_named_as_what_it_is(damage: str, tmp_path: Path) -> None:
    log = left_by_a_kill(begun(tmp_path))
    assert status_of(Workspace(tmp_path), "run-1") == "unfinished"
    log = left_by_a_kill(reopened(tmp_path))
    if damage == "flipped":
        flip(log, 40)
    elif damage == "cut":
        log.write_bytes(log.read_bytes()[:100])
    else:
        DAMAGES[damage](log)
    main = (Workspace(tmp_path).run_folder("run-1") / Ledger.FILE).stat().st_size
    if main > 4096:
        pytest.skip("this SQLite had moved it into the main file")
    wrong = refused(tmp_path)
    assert wrong.code == "resume.damaged-ledger"
    assert LOST in wrong.message


def reopened(folder: Path) -> OpenRun:
    """The same run anew, in another folder of the same name."""
    shutil.rmtree(folder / "logs")
    return begun(folder)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_server_with_a_damaged_ledger_takes_in_for_its_other_runs(damage: str, tmp_path: Path) -> None:
    path = checkpointed(begun(tmp_path))
    if damage == "flipped":
        flip(path, 0)
    else:
        DAMAGES[damage](path)
    store = ResultStore(Workspace(tmp_path), SERVER)
    assert store.unfinished() == []
    refusal = store.consider(b"1" * 16, result())
    assert isinstance(refusal, Reject)
    if damage != "empty":
        assert refusal.reason == "the ledger of run run-1 is damaged"


def test_a_run_whose_server_died_before_its_first_commit_had_not_begun(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    ledger = Ledger(place.run_folder("run-1"))
    (place.run_folder("run-1") / "job.toml").write_text("epochs = 5\n")
    ledger.close()
    assert status_of(place, "run-1") == NOT_BEGUN
    assert unfinished(place, lambda line: pytest.fail(line)) is None


def test_a_ledger_of_an_earlier_version_has_no_seals_and_is_read(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with contextlib.closing(sqlite3.connect(checkpointed(run))) as database:
        plain = msgspec.msgpack.encode(record("run-1")), msgspec.msgpack.encode(result())
        database.execute("UPDATE run SET record = ?", plain[:1])
        database.execute("UPDATE results SET result = ? WHERE task = 'shard-1'", plain[1:])
        database.commit()
    with contextlib.closing(Ledger(run.folder)) as ledger:
        ledger.check()
        assert ledger.record == record("run-1")
        assert len(ledger.results()) == 2


# --- rounds -----------------------------------------------------------------------------------------------------


def stopped_after_two_of_three_rounds(folder: Path, **values: object) -> None:
    async def first() -> None:
        async with at_work(folder, rounds=3, **values) as (run, _):  # type: ignore[arg-type]
            await whole(run, [[1, 4, 10], [2, 2, 8]])
            await run.leased("round-3-shard-1")
            while not all(each.stored for each in run.records()):
                await asyncio.sleep(0.001)

    run_script(first())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["2.block", "2.optimizer"])
def test_rounds_whose_weights_the_disk_has_corrupted_are_done_again(damage: str, file: str, tmp_path: Path) -> None:
    stopped_after_two_of_three_rounds(tmp_path, strategy="fedadam")
    path = Workspace(tmp_path).run_folder("run-1") / "rounds" / file
    DAMAGES[damage](path)
    run = Run(tmp_path, False, {"rounds": 3, "strategy": "fedadam"})
    with contextlib.closing(run):
        asyncio.run(mend(run.run, run.output.log))
        assert run.records() == []
        assert run.ledger.results() == []
        [line] = [line for line in run.output.lines if "can't be read back" in line]
        assert f"logs/run-1/rounds/{file} " in line
        assert "continues from its first round" in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_round_that_can_not_be_summed_up_again_is_gone_back_to_and_keeps_its_other_results(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server died when a round was over and its weights were not written; then one of its results is lost."""
    monkeypatch.setattr("lanfit_server.methods.federated.workshop.failpoint", kill_at("server.round-closed"))

    async def dies() -> None:
        async with at_work(tmp_path, rounds=1) as (run, working):
            await whole(run, [[1, 4, 10]])
            with pytest.raises(Died):
                await working

    run_script(dies())
    monkeypatch.setattr("lanfit_server.methods.federated.workshop.failpoint", failpoint)
    DAMAGES[damage](Workspace(tmp_path).run_folder("run-1") / "results" / "round-1-shard-2.block")
    run = Run(tmp_path, False, {"rounds": 1})
    asyncio.run(mend(run.run, run.output.log))
    assert [stored.task for stored in run.ledger.results()] == ["round-1-shard-1", "round-1-shard-3"]
    assert run.records() == []
    run.close()

    async def again() -> None:
        async with at_work(tmp_path, rounds=1) as (run, working):
            await run.returns(1, 1, 4)
            await working
            assert kernel(run) == mean([1, 4, 10])

    run_script(again())


# --- the passphrase ---------------------------------------------------------------------------------------------


def test_a_kept_passphrase_that_the_disk_has_corrupted_is_not_taken(tmp_path: Path) -> None:
    kept = StoredPassphrase(tmp_path)
    stretched = bytes(range(32))
    assert not kept.is_damaged("run-1")
    kept.keep("run-1", stretched)
    path = tmp_path / "passphrases" / "run-1"
    content = path.read_bytes()
    assert kept.load("run-1") == stretched
    for position in range(len(content)):
        flip(path, position)
        assert kept.load("run-1") in (None, stretched), position
        path.write_bytes(content)
    for damage in ("empty", "cut"):
        DAMAGES[damage](path)
        assert kept.load("run-1") is None
        assert kept.is_damaged("run-1")
    path.write_text(stretched.hex())  # as earlier versions wrote it
    assert kept.load("run-1") == stretched


def test_each_unfinished_run_keeps_the_passphrase_of_its_own_clients(tmp_path: Path) -> None:
    kept = StoredPassphrase(tmp_path)
    first, second = bytes(range(32)), bytes(range(1, 33))
    kept.keep("run-1", first)
    kept.keep("run-2", second)
    assert (kept.load("run-1"), kept.load("run-2")) == (first, second)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "passphrases").iterdir()} == {0o600}
    kept.forget("run-2")
    assert (kept.load("run-1"), kept.load("run-2"), kept.runs()) == (first, None, ["run-1"])


def test_the_one_passphrase_of_an_earlier_version_is_that_of_every_run_without_its_own(tmp_path: Path) -> None:
    kept = StoredPassphrase(tmp_path)
    first, second = bytes(range(32)), bytes(range(1, 33))
    (tmp_path / "stretched_passphrase").write_text(first.hex())
    kept.keep("run-2", second)
    assert (kept.load("run-1"), kept.load("run-2")) == (first, second)
    kept.forget_of_all()
    assert kept.load("run-1") is None


# --- summaries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", b"null", b'{"run": 5}', b"[" * 100_000, b"\xff", b'{"run": 1e999}'])
def test_a_summary_that_can_not_be_read_is_named_with_where_the_models_are(content: bytes, tmp_path: Path) -> None:
    """summary.damaged"""
    place = Workspace(tmp_path)
    place.run_folder("run-1").mkdir(parents=True)
    (place.run_folder("run-1") / "summary.json").write_bytes(content)
    with pytest.raises(LanfitError) as caught:
        summary_of(place, "run-1")
    assert caught.value.code == "summary.damaged"
    assert str(place.relative(place.run_folder("run-1") / "summary.json")) in str(caught.value)
    assert str(place.relative(place.collected("run-1"))) in caught.value.hint
