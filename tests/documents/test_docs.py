"""The documentation is true: its commands are run, its questions are asked, its output is what comes out."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import HOWTO, NOT_RUN, TUTORIAL, blocks, commands
from running import PASSPHRASE, ROOT, Place, Program, assert_same_weights, each_model, flags, free_port, port_of

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "server/README.md", "client/README.md")]
DOCUMENTS += [ROOT / name for name in ("dataset/README.md", "model/README.md", "logs/README.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))


def block(path: Path, info: str) -> str:
    return next(text for name, text in blocks(path) if name == info)


@pytest.fixture
def clone(tmp_path: Path) -> Place:
    """What a clone has that the commands of the documents need."""
    place = Place(tmp_path / "clone")
    for name in ("server/__main__.py", "client/__main__.py", "src/lanfit/launch.py", "Makefile", "pyproject.toml"):
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place.root / name)
    return place


@pytest.mark.story
def test_the_tutorial_goes_as_it_is_written(clone: Place) -> None:
    port = str(free_port())
    asked = [line.partition("]: ") for line in block(TUTORIAL, "console questions").splitlines()]
    answers = "".join(f"{answer}\n" for _, _, answer in asked).replace("8470", port)
    (server_command,) = block(TUTORIAL, "console server").splitlines()
    client_commands = block(TUTORIAL, "console client").replace("8470", port).splitlines()
    with (
        Program(command=server_command, folder=clone.root, answers=answers, passphrase=None) as server,
        Program(command=client_commands[0], folder=clone.root) as first,
        Program(command=client_commands[1], folder=clone.root) as second,
    ):
        for program in (server, first, second):
            program.finish()
    position = 0
    for question, bracket, _ in asked:
        shown = question + bracket.rstrip()
        assert shown in server.output[position:], shown
        position = server.output.index(shown, position)
    for info, text in blocks(TUTORIAL):
        if info == "console server says":
            for line in text.splitlines():
                assert line in server.output

    run = clone.summary()["run"]
    final = clone.root / "model" / "collected" / run / "final.keras"
    script = subprocess.run(
        [sys.executable, "-c", block(TUTORIAL, "python"), final],
        cwd=clone.root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(script.stdout) > 0.9

    again = block(TUTORIAL, "console again").strip().replace("<run>", run)
    with (
        Program(command=again, folder=clone.root) as server,
        Program(command=client_commands[0], folder=clone.root) as first,
        Program(command=client_commands[1], folder=clone.root) as second,
    ):
        for program in (server, first, second):
            program.finish()
    pairs = list(zip(each_model(clone, run), each_model(clone, clone.runs[-1]), strict=True))
    assert len(pairs) == 2
    for before, after in pairs:
        assert_same_weights(before, after)


@pytest.mark.story
def test_the_tutorials_flags_and_its_collecting_work(clone: Place) -> None:
    with_port = f" --port {free_port()}"
    with Program(command=block(TUTORIAL, "console flags").strip() + with_port, folder=clone.root) as server:
        server.finish()
    assert clone.summary()["status"] == "done"
    with Program(command=block(TUTORIAL, "console rounds").strip() + with_port, folder=clone.root) as server:
        server.finish()
    for line in block(TUTORIAL, "console rounds says").splitlines():
        assert line in server.output + server.stdout.decode()
    assert len(clone.summary()["rounds"]) == 3
    (clone.root / "passphrase.txt").write_text(PASSPHRASE + "\n")
    collect = block(TUTORIAL, "console collect").strip() + with_port
    with Program(command=collect, folder=clone.root, passphrase=None) as server:
        server.expect("Collecting: No run is unfinished")
        server.interrupt()
        server.finish()
    resume = block(TUTORIAL, "console resume").strip().replace("<run>", clone.runs[-1])
    with Program(command=resume, folder=clone.root, passphrase=None) as server:
        server.finish()
    assert f"Run {clone.runs[-1]}: done" in server.stdout.decode()


@pytest.mark.story
def test_make_demo_shows_what_the_readme_shows(clone: Place) -> None:
    """`make -o setup` takes the environment as made: it is the one that this test runs in."""
    command = f"make --no-print-directory -o setup demo VENV={sys.prefix}"
    # The tests may have been started by make themselves.
    outer = {"MAKEFLAGS": "", "MFLAGS": "", "MAKELEVEL": "0"}
    with Program(command=command, folder=clone.root, passphrase=None, environment=outer) as demo:
        demo.finish()
    shown = next(text for _, text in blocks(ROOT / "README.md") if "On each client run" in text and "Run 2" in text)

    def shape(text: str) -> list[str]:
        """The lines without what differs from run to run: ports, times, figures, who was first, a slow machine."""
        passing = ("Reading model", "Waiting for", "This server was suspended", "Port")
        secrets = r"(?<=token=)\S+|[0-9a-f]{4}(-[0-9a-f]{4}){4}"
        lines = [re.sub(rf"{secrets}|\d[\d.,-]*", "#", line).strip() for line in text.splitlines()]
        return sorted({line for line in lines if line and not line.startswith(passing)})

    assert shape(demo.output + demo.stdout.decode()) == shape(shown)


#: Commands in documents that are not run as they stand, and what stands for them.
OTHERWISE = {
    r"make (test|test-all|check|setup|bench|screens|screenshots)": "CI runs make check test",
    r"py -m venv \.venv": "Windows",
    r"\.venv\\Scripts\\python -m pip install -e \.\[(\w+)\]": "Windows; the extra exists",
    r"\.venv\\Scripts\\python -m pip (wheel|install --no-index) .*\[(\w+)\]": "Windows, and as large as TensorFlow",
    r"\.venv\\Scripts\\python (client .*|server)": "Windows; what python client and python server are elsewhere",
    r"\.venv\\Scripts\\python server --host .*": "stories/test_classroom.py",
    r"\.venv\\Scripts\\lanfit dashboard --host .*": "stories/test_page_story.py",
    r"python (server|client HOST:PORT.*|client 192\.168\.1\.20:8470.*)": "the tutorial runs them with an address",
    r"python (bench|dataset|model)/\w+\.py.*": "measurements and scripts, each with a test or run by make bench",
    r"make demo": "test_make_demo_shows_what_the_readme_shows",
}


def test_every_command_in_the_documents_is_run_by_a_test() -> None:
    run = commands(TUTORIAL).union(*(commands(path) for path in HOWTO.glob("*.md") if path.name not in NOT_RUN))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = 0
    for path in DOCUMENTS:
        for info, text in blocks(path):
            for line in text.splitlines():
                command = line.split("  #")[0].strip()
                if info in ("python", "text") or not re.match(r"(make|python|py|lanfit|\.venv\S*) ", command):
                    continue
                found += 1
                other = next((pattern for pattern in OTHERWISE if re.fullmatch(pattern, command)), None)
                assert command in run or other, f"{path.name}: nothing runs {command!r}"
                if extra := re.search(r"-e \.\[(\w+)\]", command):
                    assert extra[1] in extras
    assert found > 10


def output_of(path: Path) -> Iterator[str]:
    """The texts in a module, what is put into them as an ellipsis."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{[^{}]*\}|%s", "…", node.value)


def test_the_messages_that_the_classroom_explains_are_those_that_are_reported() -> None:
    modules = [path for folder in ("src", "server", "client") for path in (ROOT / folder).rglob("*.py")]
    texts = [text for path in modules for text in output_of(path)]
    shown = re.findall(r"^\| `([^`]+)` \|", (HOWTO / "classroom.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(shown) > 15
    for message in shown:
        assert any(message in text for text in texts), message


def test_links_in_the_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("side", ["server", "client"])
def test_the_launcher_finds_the_clones_environment_or_says_how_to_make_one(clone: Place, side: str) -> None:
    bare = clone.root.parent / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    python = bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def launch() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, side, "--help"], cwd=clone.root, env=environment, capture_output=True, text=True, check=False
        )

    missing = launch()
    assert missing.returncode == 2
    assert "make setup" in missing.stderr or "py -m venv" in missing.stderr
    os.symlink(sys.prefix, clone.root / ".venv", target_is_directory=True)
    if "PYTHONPATH" not in os.environ:
        found = launch()
        assert found.returncode == 0, found.stderr
        assert f"lanfit {side}" in found.stdout


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_clone_is_the_workspace_of_its_programs_wherever_they_are_called_from(
    clone: Place, tmp_path: Path, side: str
) -> None:
    settings = clone.root / side / f"{side}.toml"
    settings.write_text("[broken")
    elsewhere = Place(tmp_path / "elsewhere").root
    command = f"python {clone.root / side}"
    with Program(command=command, folder=elsewhere) as program:
        program.finish(2)
    assert str(settings) in program.output
    with Program(command=f"{command} --workspace .", folder=elsewhere, answers="") as program:
        program.finish(2)
    assert str(settings) not in program.output
    assert "the input ended" in program.output


@pytest.mark.story
def test_the_server_prints_the_line_that_a_client_in_a_clone_runs(clone: Place) -> None:
    with clone.server(*flags(free_port(), 1, epochs=1)) as server:
        line = server.expect(r"(?m)^    (python client .*)$")[1]
        port = port_of(server)
        assert f"127.0.0.1:{port} --fingerprint " in line
        with Program(command=line + " --once", folder=clone.root) as worker:
            worker.finish()
            server.finish()
