"""Where a passphrase does not go: into the environment of processes that load what peers send, or what files hold."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from lanfit.core.child import Child, Parent
from lanfit.core.workspace import Workspace
from lanfit.data.processes import ask, serve
from lanfit_server.clusters.local import LocalClients
from lanfit_server.prepare_data.models import write_model

ROOT = Path(__file__).resolve().parents[2]
SECRET = "velvet otter rinse cargo"
STARTERS = r"asyncio\.create_subprocess_\w+|subprocess\.(Popen|run|call|check_call|check_output)"


class Environment(msgspec.Struct, tag="environment"):
    has: dict[str, str]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANFIT_PASSPHRASE", SECRET)
    monkeypatch.setenv("LANFIT_TEST_OTHER", "kept")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


def is_clean(environment: dict[str, str]) -> bool:
    """Whether it has the other variables, and the passphrase nowhere."""
    assert environment["LANFIT_TEST_OTHER"] == "kept"
    return not any(SECRET in value for value in environment.values())


def test_trainers_and_model_processes_do_not_have_the_passphrase() -> None:
    async def talk() -> Environment:
        child: Child[Environment] = await Child.start("test_environment", Environment, "spy", {"KERAS_BACKEND": "x"})
        reported = await child.receive()
        await child.stop()
        return reported

    reported = asyncio.run(talk())
    assert reported.has["KERAS_BACKEND"] == "x"
    assert is_clean(reported.has)


def test_processes_that_read_files_do_not_have_the_passphrase() -> None:
    assert is_clean(msgspec.msgpack.decode(ask("test_environment", b"read")))


def test_clients_that_a_server_starts_get_the_stretched_passphrase_through_their_pipe_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    written: list[bytes] = []

    async def record(*arguments: str, **options: Any) -> Any:
        started.append({"arguments": arguments, **options})
        return SimpleNamespace(stdin=SimpleNamespace(write=written.append))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", record)
    local = LocalClients(Workspace(tmp_path), "127.0.0.1:1", b"s" * 32, "f" * 20, 1, once=True)
    asyncio.run(local._start_one("local-1"))
    [process] = started
    assert is_clean(process["env"])
    assert not any(SECRET in argument or "73" * 32 in argument for argument in process["arguments"])
    assert written == [f"{'73' * 32}\n".encode()]


def test_the_script_that_makes_a_model_does_not_have_the_passphrase(tmp_path: Path) -> None:
    script = """
import json, os
open(__file__[:-3] + ".keras", "w").write(json.dumps(dict(os.environ)))
"""
    place = Workspace(tmp_path)
    place.models.mkdir(parents=True)
    assert is_clean(json.loads(write_model(place, "net", script).read_text()))


def test_every_process_gets_its_environment_from_the_one_function_that_leaves_the_passphrase_out() -> None:
    paths = [path for folder in ("src", "server", "client") for path in (ROOT / folder).rglob("*.py")]
    sources = {str(path): path.read_text("utf-8") for path in paths if path.name != "launch.py"}  # the program itself
    assert not [name for name, text in sources.items() if "**os.environ" in text or "os.environ.copy" in text]
    found = []
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)) if "subprocess" in text else ():
            if isinstance(node, ast.Call) and re.fullmatch(STARTERS, ast.unparse(node.func)):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                found.append((name, given.get("env", "")))
    assert len(found) >= 4
    assert [each for each in found if "environment" not in each[1]] == []


if __name__ == "__main__":
    if len(sys.argv) > 1:  # a process that reads files is given its limit
        serve(lambda order, limit: msgspec.msgpack.encode(dict(os.environ)))
    parent: Parent[Environment] = Parent(Environment)
    parent.send(Environment(dict(os.environ)))
    parent.receive()
