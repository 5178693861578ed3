"""The lesson of docs/howto/classroom.md: eight PCs; one leaves, one is late, one sleeps, one never comes."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

import pytest
from breakpoints import Breakpoint
from documents import HOWTO, blocks
from forking import VARIABLE
from namespaces import Network
from running import PASSPHRASE, Place, Program, assert_same_weights, each_model
from test_faults_pauses import send

PCS = [f"pc-{number}" for number in range(1, 9)]
ON_TIME = PCS[:6]
#: The processes that have to start are many: the light backend, and one thread each.
LIGHT = ("--backend", "jax", "--threads", "1")


def lesson_lines() -> tuple[list[str], str, str]:
    """Of the how-to: the arguments of the server and of each client, and what the server says."""
    lines = [line for info, text in blocks(HOWTO / "classroom.md") if info == "console" for line in text.splitlines()]
    programs = [line.removeprefix(r".venv\Scripts\python ") for line in lines]
    (server,) = [line for line in programs if line.startswith("server ") and "--local" not in line]
    (client,) = [line for line in programs if line.startswith("client ")]
    (reply_to,) = [text.strip() for info, text in blocks(HOWTO / "classroom.md") if info == "text server says"]
    return server.split(), client, reply_to


@pytest.mark.story
def test_a_lesson_in_which_one_leaves_one_is_late_one_sleeps_and_one_never_comes(
    tmp_path: Path, network: Network
) -> None:
    server_line, client_line, reply_to = lesson_lines()
    server_line[server_line.index("--clients") + 1] = str(len(PCS))
    server_line[server_line.index("--epochs") + 1] = "3"
    place = Place(tmp_path / "teacher")
    (place.root / "passphrase.txt").write_text(PASSPHRASE)
    settings = place.root / "server" / "server.toml"
    settings.parent.mkdir()
    settings.write_text("heartbeat = 0.5\nsuspect = 3\nlost = 120\n")
    hold = Breakpoint(tmp_path / "hold")
    # No gateway, and the addresses that Windows takes where nobody gives any.
    switch, teacher = network.switch(), network.machine()
    teacher.plug(switch, "169.254.10.20/16")
    with contextlib.ExitStack() as lesson:
        server = lesson.enter_context(
            teacher.program(*server_line, *LIGHT, folder=place.root, passphrase=None, terminal=True)
        )
        server.expect(re.escape(reply_to))
        printed = server.expect(r"(?m)^\s+(?:python|lanfit) (client .*?)\s*$")[1]
        assert printed.startswith(f"{client_line} --fingerprint ")

        def come(name: str, line: str) -> Program:
            machine, folder = network.machine(), tmp_path / name
            machine.plug(switch, f"169.254.10.{101 + PCS.index(name)}/16")
            (folder / "model").mkdir(parents=True)
            (folder / "dataset").mkdir()
            pupil = machine.program(
                *(*line.split(), "--name", name, *LIGHT),
                folder=folder,
                environment={
                    **hold.environment,
                    **({VARIABLE: ""} if name == "pc-5" else {}),
                },  # which SIGSTOP must reach
                passphrase=None,
                terminal=True,
            )
            lesson.enter_context(pupil)
            pupil.expect("Passphrase: ")
            pupil.type(PASSPHRASE)
            return pupil

        pupils = {name: come(name, printed) for name in ON_TIME}
        for pupil in pupils.values():
            pupil.expect(f"{len(ON_TIME)} of {len(PCS)} clients are here")
        server.expect("Enter")
        server.type("")
        for name in ON_TIME:
            server.expect(rf"{name} .*training")
        send(pupils["pc-5"], signal.SIGSTOP)
        server.expect("pc-5 has been silent for")
        pupils["pc-7"] = come("pc-7", client_line)  # types no more than has to be typed
        server.expect("pc-7 joined")
        pupils["pc-3"].interrupt()
        pupils["pc-3"].finish(130)
        server.expect("pc-7 takes over the shard of pc-3")
        send(pupils["pc-5"], signal.SIGCONT)
        server.expect("pc-5 is back")
        hold.let_go()
        server.finish()
        for name in ("pc-1", "pc-5", "pc-7"):
            pupils[name].expect("(?i)run .* is over")
    summary = place.summary()
    assert summary["status"] == "done"
    assert [each["name"] for each in summary["clients"]] == ON_TIME
    # The names of the models are those of the shards; nobody's absence has changed a bit of them.
    again = ("simulate", f"logs/{summary['run']}/job.toml", "--clients", len(ON_TIME), *LIGHT)
    with Program(*again, folder=place.root) as simulation:
        simulation.finish()
    models = [list(each_model(place, run)) for run in place.runs]
    assert [len(each) for each in models] == [6, 6]
    for ours, theirs in zip(*models, strict=True):
        assert_same_weights(ours, theirs)
