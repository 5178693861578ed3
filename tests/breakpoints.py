"""Lets a process of a test stand still at a place until it is told to go on, however fast or slow the machine is.

What a test does to a run counts only if it hits unfinished work. A sleep or a long job makes that likely, this makes it
certain.
"""

from __future__ import annotations

import os
from pathlib import Path

from forking import SHIMS

#: A trainer, before its second epoch. It still hears that it shall stop. It has written a checkpoint if the first one
#: took long, which LANFIT_CHECKPOINT_SECONDS decides.
IN_TRAINING = """
if "lanfit.training.trainer" in sys.orig_argv:
    import lanfit.training.loop as loop
    order, only = loop.epoch_order, os.environ.get("LANFIT_TEST_SEED")

    def held(seed, epoch, rows):
        if epoch >= 1 and only in (None, str(seed)):
            stand_still(epoch)
        return order(seed, epoch, rows)

    loop.epoch_order = held
"""
#: A server whose tasks are all done, before it writes what comes of them.
BEFORE_THE_END = """
if "lanfit.cli" in sys.orig_argv and "server" in sys.orig_argv:
    from lanfit_server.run.finish import Finish
    end = Finish.end

    async def held(self, *arguments):
        import asyncio
        await asyncio.to_thread(stand_still)
        return await end(self, *arguments)

    Finish.end = held
"""
#: A server that has printed the outcome of a run, before it writes the reports.
BEFORE_THE_REPORTS = """
if "lanfit.cli" in sys.orig_argv and "server" in sys.orig_argv:
    import lanfit_server.run.finish as finish
    write = finish.write_reports

    def held(*arguments):
        stand_still()
        return write(*arguments)

    finish.write_reports = held
"""
_STAND_STILL = """
import os, sys, time

def stand_still(step=0):
    go = os.environ["LANFIT_TEST_GO"]
    while not os.path.exists(go) and not os.path.exists(f"{go}-{step}"):
        time.sleep(0.02)
"""


def shim(folder: Path, code: str) -> dict[str, str]:
    """Variables with which every Python that starts runs some code first; `folder` is made."""
    own = SHIMS / "sitecustomize.py"
    others = own.read_text("utf-8").replace("__file__", repr(str(own)), 1)  # where its forking.py is
    return _found_first(folder, "sitecustomize.py", f"{others}\n{code}")


def fake_package(folder: Path, name: str, code: str) -> dict[str, str]:
    """Variables with which every Python imports this code under the name of a package; `folder` is made."""
    return _found_first(folder, f"{name}/__init__.py", code)


def _found_first(folder: Path, file: str, code: str) -> dict[str, str]:
    path = folder / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


class Breakpoint:
    """Processes with `environment` stand still at a place, one of those above.

    Args:
        folder: not there yet.
        seed: only the task with this seed (`lanfit.core.seeds.derive_seed`); a place in training alone knows it.
    """

    def __init__(self, folder: Path, place: str = IN_TRAINING, *, seed: int | None = None) -> None:
        self._go = folder / "go"
        self._steps = 0
        self.environment = {**shim(folder, _STAND_STILL + place), "LANFIT_TEST_GO": str(self._go)}
        if seed is not None:
            self.environment["LANFIT_TEST_SEED"] = str(seed)

    def step(self) -> None:
        """Let a trainer train one more epoch, and stand still again."""
        self._steps += 1
        self._go.with_name(f"{self._go.name}-{self._steps}").touch()

    def let_go(self) -> None:
        self._go.touch()
