"""A client that knows the passphrase says what it likes: the operator's terminal shows it as harmless words."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import re
from pathlib import Path

import pytest
from fakes.results import record, store_in
from memory_links import memory_links

from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.wire.messages import Failed, FromServer, Join, Leave, LogLines, Message, Progress, Unsuitable
from lanfit_server.clusters.events import ClientJoined, ClientLeft, Event, Logged, SurveyFailed, TaskFailed
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.run import events as events_of_run
from lanfit_server.run.journal import Journal
from lanfit_server.run.wait_for_clients import ClientWait
from lanfit_server.store.result_store import ResultStore
from lanfit_server.ui.display import Display
from lanfit_server.ui.live_table import Facts, table_lines

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b1m\u202ecod.exe\u2028fake\nRun 7: done\r\n  lab-2 left (\x00"
RAW = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u202e]")


async def events_after(folder: Path, *output: Message) -> tuple[LanCluster, list[Event]]:
    """What the server makes of a client that joins, says all this, and goes."""
    store = store_in(folder)
    ledger = store.opened("run-1").ledger
    ledger.remember("evil", b"0" * 16)
    ledger.lease("shard-1", 2, "evil")  # only then it may speak of that task
    cluster = LanCluster(store)
    client, server = memory_links()
    serving = asyncio.create_task(cluster._serve(server, b"0" * 16, "10.0.0.9"))
    await client.send(Join(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1, 0, keras=HOSTILE))
    for message in output:
        await client.send(message)
    await client.close("gone")
    await serving
    store.close()
    return cluster, [cluster.events.get_nowait() for _ in range(cluster.events.qsize())]


def on_a_terminal(folder: Path, cluster: LanCluster, events: list[Event]) -> str:
    """What the operator's terminal gets of these events, and of the row of the table."""
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as stream:
            display = Display(Terminal(io.StringIO(), stream))
            client_wait = ClientWait(cluster, display)
            for event in events:
                asyncio.run(client_wait._note(event))
                match event:
                    case TaskFailed(client, _, task, error):
                        display.log(f"{client} could not train {task}: {error}.")
                    case SurveyFailed(_, error):
                        display.log(f"{error.message}. {error.hint}")
                    case Logged(client, _, lines):
                        display.log(f"{client}: {' / '.join(lines)}")
                    case _:
                        pass
            for line, _ in table_lines(cluster.roster.members(), Facts(), "", (), None, 200, 50, 0.0):
                display.log(line)
            display.log("that was all")
            shown = b""
            while b"that was all" not in shown:
                shown += os.read(ours, 65536)
    finally:
        with contextlib.suppress(OSError):
            os.close(ours)
    return shown.decode()


def test_whatever_a_client_says_of_itself_its_work_and_its_end_steers_no_terminal_and_no_log(tmp_path: Path) -> None:
    output = (
        Progress("run-1", "shard-1", 1, 1, 1, 1, 0.0, 0.0, HOSTILE),
        LogLines("run-1", (HOSTILE,)),
        Failed("run-1", "shard-1", HOSTILE, HOSTILE, (HOSTILE,)),
        Unsuitable(HOSTILE, HOSTILE),
        Leave(HOSTILE),
    )
    cluster, events = asyncio.run(events_after(tmp_path, *output))
    assert {type(event) for event in events} == {ClientJoined, Logged, TaskFailed, SurveyFailed, ClientLeft}
    shown = on_a_terminal(tmp_path, cluster, events)
    assert "cod.exe" in shown
    assert RAW.search(shown.replace("\r\n", "\n")) is None
    begins = [line for line in shown.splitlines() if not line.startswith("  | ")]
    assert not [line for line in begins if re.match(r" *(fake|Run 7|lab-2 left)", line)], "a line that the peer made up"

    journal = Journal(tmp_path / "journal")
    try:
        for event in events:
            if isinstance(event, Logged):
                journal.client_log("lab-1", event.lines)
            if isinstance(event, TaskFailed):
                journal(events_of_run.TaskFailed("shard-1", event.client, event.error), 0.0)
    finally:
        journal.close()
    for path in (tmp_path / "journal").rglob("*"):
        if path.is_file():
            text = path.read_text("utf-8")
            assert RAW.search(text) is None, path
            assert not [line for line in text.splitlines() if re.match(r" *(fake|Run 7|lab-2 left)", line)], path


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "con", "\u202ecod", "\x1b[2J", "", "a" * 500])
def test_a_client_may_call_itself_anything_and_gets_a_label(tmp_path: Path, name: str) -> None:
    async def go() -> str:
        cluster = LanCluster(ResultStore(Workspace(tmp_path), record("run-1").server_id))
        client, server = memory_links()
        serving = asyncio.create_task(cluster._serve(server, b"0" * 16, "10.0.0.9"))
        await client.send(Join(name, "0", "tensorflow", "cpu", 1, 0))
        welcome: FromServer = await client.receive()  # type: ignore[assignment]
        await client.close("gone")
        await serving
        return welcome.name  # type: ignore[union-attr]

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", asyncio.run(go()))
