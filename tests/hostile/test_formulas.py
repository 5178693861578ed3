"""A client that knows the passphrase and calls everything a formula: no cell of a report or of a CSV is one."""

from __future__ import annotations

import asyncio
import csv
import time
import zipfile
from pathlib import Path

import openpyxl
import pytest
from scripted_cluster import RUN, Client, run_script, serving, weights

from lanfit.wire.arrays import block_of, buffers
from lanfit.wire.messages import Ack, Commit, Epoch, Failed, Fetch, LogLines, Offer, Result
from lanfit_server.methods.client_facts import client_facts
from lanfit_server.methods.independent import Outcome
from lanfit_server.report.workbook import write_workbook
from lanfit_server.store.summary import DataFacts, ModelFacts, Summary

FORMULAS = ["=cmd|' /C calc'!A0", '=HYPERLINK("http://evil","x")', "+1+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)",
            "\uff1d1+1", "\t=1+1", "\n=1+1", "=1+1\n=2+2"]  # fmt: skip
BEGINS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


async def work(client: Client, formula: str, names: tuple[str, ...]) -> None:
    """Hand over honest weights for every lease; everything else of them is called as a formula."""
    arrays = weights(1.0)
    block = block_of(arrays)
    while True:
        lease = await client.lease()
        await client.link.send(Epoch(RUN, lease.task, 0, {names[0]: 0.5, "loss": -0.5}))
        result = Result(RUN, lease.task, lease.attempt, block, names, 0, {}, {}, formula, formula, 1)
        await client.link.send(Offer(result))
        if isinstance(fetch := await client.next(Fetch, Ack), Fetch):
            await client.link.send_block(fetch, buffers(arrays))
            await client.link.send(Commit(block.id))
            await client.next(Ack)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("formula", FORMULAS)
def test_whatever_a_client_calls_things_no_cell_and_no_field_is_a_formula(formula: str, tmp_path: Path) -> None:
    is_name = formula.isprintable()  # what is not is no name of a metric: the link would be cut
    names = (formula,) if is_name else ("loss",)

    async def script() -> tuple[Path, Summary]:
        async with serving(tmp_path, 2, login=False) as (server, join):
            failing, evil = [await join(name, backend=formula, device=formula) for name in ("lab-1", "lab-2")]
            server.begin()
            lease = await failing.lease()
            await failing.link.send(LogLines(RUN, (formula, formula)))
            await failing.link.send(Failed(RUN, lease.task, formula, formula, (formula,)))
            working = asyncio.create_task(work(evil, formula, names))  # on its own task, and on the one that failed
            await server.training
            working.cancel()
            tasks = {record.task.shard: record.task for record in server.stats.table.records()}
            facts = client_facts(
                server.run, server.stats, Outcome(tasks[0], tasks), server.cluster.roster, time.monotonic()
            )
            return server.run.folder, Summary(
                run=RUN, status="done", method="fit", seed=0, metrics_from="clients", model=ModelFacts("net.h5", 8),
                data=DataFacts("clients", 20, 16, 4, 5, "none", (formula, "b")), clients=facts, final=None,
                seconds={"total": 1.0}, error=formula,
            )  # fmt: skip

    folder, summary = run_script(script())
    evil = summary.clients[0]
    assert formula in evil.backend or not is_name, "what is tested has come as far as this"
    assert evil.errors
    assert set(evil.history) == set(names)

    write_workbook(folder / "report.xlsx", summary, {})
    texts = 0
    for sheet in openpyxl.load_workbook(folder / "report.xlsx"):
        for cell in [cell for line in sheet.iter_rows() for cell in line if isinstance(cell.value, str)]:
            texts += 1
            assert cell.data_type == "s", f"{cell.coordinate}: {cell.value!r}"
            assert not cell.value.startswith(BEGINS), f"{cell.coordinate}: {cell.value!r}"
    assert texts > 40
    with zipfile.ZipFile(folder / "report.xlsx") as archive:
        assert not any(b"<f>" in archive.read(name) or b"<f " in archive.read(name)
                       for name in archive.namelist() if "sheet" in name)  # fmt: skip

    files = list(folder.rglob("*.csv"))
    assert files
    for file in files:
        with file.open(encoding="utf-8", newline="") as lines:
            for field in [field for line in csv.reader(lines) for field in line]:
                assert is_number(field) or not field.startswith(BEGINS), f"{file.name}: {field!r}"
    # A log is no table, and opened as one has no line that begins with what its client said.
    [log] = folder.rglob("client.log")
    assert not [line for line in log.read_text("utf-8").splitlines() if line.startswith(BEGINS)]
