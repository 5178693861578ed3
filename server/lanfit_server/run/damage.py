"""Detects corruption on disk in a run of an earlier server, before anything is built on it.

Everything that is read back is compared with its hash. A task with a corrupted result is leased again, and a corrupted
round is computed again. Other damage is reported, with the remaining files and the command that restarts the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.errors import LanfitError, lanfit_error
from lanfit.settings.fields import read_file
from lanfit.settings.job import FIELDS, make_job
from lanfit.transfer.blocks import BlockFile
from lanfit.wire.arrays import ArraySpec, block_size
from lanfit_server.methods.federated.global_weights import files_of
from lanfit_server.store.ledger import DamagedLedger, Ledger, RoundRecord, StoredResult
from lanfit_server.store.result_store import OpenRun

#: Files of a run that has started: its ledger recorded that before they were created.
_BEGUN = ("events.jsonl", "results", "rounds", "summary.json")
LOST = "nothing of it is left: ledger.sqlite-wal is empty, truncated or missing"


def open_ledger(workspace: Workspace, run: str) -> Ledger:
    """Open the ledger of a run, and read all of it.

    Raises:
        InputError: it is damaged; the hint lists the remaining files of the run.
    """
    folder = workspace.run_folder(run)
    try:
        ledger = Ledger(folder)
        try:
            ledger.check()
            if ledger.record is None and any((folder / name).exists() for name in _BEGUN):
                raise DamagedLedger(LOST)
        except BaseException:
            ledger.close()
            raise
    except DamagedLedger as damaged:
        raise lanfit_error(
            "resume.damaged-ledger",
            run=run,
            file=workspace.relative(folder / Ledger.FILE),
            reason=damaged,
            left=_what_is_left(workspace, run),
            again=_how_to_start_again(workspace, run),
        ) from damaged
    return ledger


def _what_is_left(workspace: Workspace, run: str) -> str:
    folder = workspace.collected(run)
    models = [path for path in folder.glob("*") if path.suffix in (".h5", ".keras")] if folder.is_dir() else []
    if not models:
        return "No model of it was collected."
    return f"What was collected of it is kept: {pluralize(len(models), 'model')} in {workspace.relative(folder)}."


def _how_to_start_again(workspace: Workspace, run: str) -> str:
    path = workspace.run_folder(run) / "job.toml"
    try:
        make_job(read_file(path, "job file", FIELDS))
    except LanfitError:
        return f"{workspace.relative(path)} can't be read either: start a new run"
    return f"Start the same job again: lanfit server --job {workspace.relative(path)}"


def damage_of(path: Path, specs: Iterable[ArraySpec], block_id: str) -> str:
    """Return the problem of a block of such arrays, as the end of a sentence; empty if there is none. Reads the block.

    Args:
        block_id: the SHA-256 of its bytes; empty if unknown.
    """
    size = block_size(tuple(specs))
    try:
        found = path.stat().st_size
        if found != max(size, 1):
            return f"has {pluralize(found, 'byte', grouped=True)} instead of {max(size, 1):,}"
        if not block_id:
            return ""
        file = BlockFile.open(path)
        try:
            good = hashlib.sha256(file.view[:size]).hexdigest() == block_id
        finally:
            file.close()
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:
        return f"can't be read ({getattr(error, 'strerror', None) or error})"
    return "" if good else "differs from what was written"


async def mend(run: OpenRun, log: Callable[[str], None], then: str = "The task is done again") -> None:
    """Repeat everything whose results the disk has lost; the ledger forgets that it was done.

    Args:
        then: what happens to the task of a lost result.
    """
    records = run.ledger.rounds()
    last, why = await asyncio.to_thread(_last_good_round, run, records)
    if why:
        on = f"after round {last}" if last else "from its first round"
        log(f"The weights of a round can't be read back: {why}. The run continues {on}.")
        _go_back(run, last, last)
    damaged = await asyncio.to_thread(_damaged_results, run, _needed(run))
    run.ledger.forget_results([stored.task for stored, _ in damaged])
    for stored, why in damaged:
        log(f"The result of {stored.task} from {stored.client} can't be read back: {why}. {then}.")
        with contextlib.suppress(OSError):
            run.block(stored.task).unlink(missing_ok=True)
    rounds = {task.key: task.round for task in run.ledger.tasks()}
    again = [number for stored, _ in damaged if (number := rounds.get(stored.task))]
    if again and min(again) <= len(run.ledger.rounds()):
        # That round was computed from it, and the later ones started from that.
        _go_back(run, min(again) - 1, min(again))


def _go_back(run: OpenRun, number: int, results: int) -> None:
    """Forget all rounds after this one, and the results of those after another one."""
    for task in run.ledger.go_back(number, results):
        with contextlib.suppress(OSError):
            run.block(task).unlink(missing_ok=True)


def _needed(run: OpenRun) -> list[StoredResult]:
    """Return the results whose blocks are still needed: not those of a round whose weights are on disk."""
    made = {client.task for record in run.ledger.rounds() if record.stored for client in record.clients}
    return [stored for stored in run.ledger.results() if stored.task not in made]


def _damaged_results(run: OpenRun, results: Iterable[StoredResult]) -> list[tuple[StoredResult, str]]:
    found = []
    for stored in results:
        path, block = run.block(stored.task), stored.result.block
        if why := damage_of(path, block.arrays, block.id):
            found.append((stored, f"{run.workspace.relative(path)} {why}"))
    return found


def _last_good_round(run: OpenRun, records: list[RoundRecord]) -> tuple[int, str]:
    """Return the last round that can be resumed from, and why it is not the last one that is over; empty if it is."""
    stored = [record for record in records if record.stored]
    good, why = 0, ""
    for record in stored:
        weights, state = files_of(run.folder / "rounds" / f"{record.number}.block")
        needed = record is stored[-1]
        if not needed and not weights.exists():
            continue  # removed: it is no longer needed
        checks = [(weights, (*run.record.weights, *run.record.constants), record.weights_id)]
        if record.state:
            checks.append((state, record.state, record.state_id))
        for path, specs, block_id in checks:
            if found := damage_of(path, specs, block_id):
                why = why or f"{run.workspace.relative(path)} {found}"
        if not why:
            good = record.number
    return good, why
