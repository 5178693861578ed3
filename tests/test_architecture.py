"""The arrows between the packages, drawn in docs/decisions/0001: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"lanfit": ROOT / "src", "lanfit_server": ROOT / "server", "lanfit_client": ROOT / "client"}
#: Inside lanfit: a layer imports only from layers below it.
LAYERS = [
    {
        "errors",
        "crash",
        "mistakes",
        "durable",
        "encoding",
        "seeds",
        "timing",
        "logs",
        "lock",
        "processor_time",
        "loop",
        "passphrase",
        "terminal",
        "text",
        "child",
        "workspace",
        "job",
        "job_rounds",
        "fields",
        "commands",
        "interrupts",
        "system",
        "waits",
        "parts",
        "job_deal",
    },
    {"wire", "data", "models"},
    {"files"},
    {"partial", "room", "gauge"},
    {"training", "net"},
    {"cli", "launch"},
]
#: What a light client does not have, and what is slow to import: never at the top of a module.
HEAVY = {"keras", "tensorflow", "jax", "torch", "h5py", "pandas", "openpyxl", "matplotlib", "sklearn"}
HEAVY |= {"zxcvbn", "tomli_w", "PIL"}
#: Modules that only run in a process that has the backend.
BACKEND_ONLY = {"lanfit.training.keras_backend", "lanfit.training.tensorflow_steps"}


def modules() -> dict[str, Path]:
    """Every module of the three packages, by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in (folder / package).rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """The dotted names that a module imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(module: str) -> int:
    part = module.split(".")[1]
    return next(number for number, names in enumerate(LAYERS) if part in names)


def test_server_and_client_never_import_each_other() -> None:
    for module, path in modules().items():
        package = module.split(".")[0]
        others = {"lanfit": {"lanfit_server", "lanfit_client"}}.get(
            package, {"lanfit_server", "lanfit_client"} - {package}
        )
        # The public API names the server's parts for type checkers, and imports them when they are used.
        found = imports(path, top_level_only=module == "lanfit")
        assert not {name.split(".")[0] for name in found} & others, module


def test_inside_lanfit_imports_point_downward() -> None:
    for module, path in modules().items():
        if not module.startswith("lanfit."):
            continue
        for name in imports(path):
            if name.startswith("lanfit.") and name in modules():
                assert layer_of(name) <= layer_of(module), f"{module} imports {name}"


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports them by it: the second one would not be collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    known = modules()
    graph = {
        module: {name for name in imports(path, top_level_only=True) if name in known} for module, path in known.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail, module])
        if module not in done:
            for name in graph[module] - {module}:
                visit(name, (*trail, module))
            done.add(module)

    for module in known:
        visit(module, ())


def test_nothing_heavy_is_imported_at_the_top_of_a_module() -> None:
    for module, path in modules().items():
        if module not in BACKEND_ONLY:
            assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY, module


def test_wire_does_no_input_or_output() -> None:
    for module, path in modules().items():
        if module.startswith("lanfit.wire"):
            assert not imports(path) & {"socket", "asyncio", "ssl", "time", "threading", "pathlib"}, module


def test_methods_do_no_input_or_output() -> None:
    for module, path in modules().items():
        if module.startswith("lanfit_server.methods") or module == "lanfit_server.tasks":
            assert not imports(path) & {"socket", "asyncio", "ssl", "time", "threading", "os", "pathlib", "random"}, (
                module
            )


def test_nothing_waits_by_what_may_swallow_a_cancellation() -> None:
    """`asyncio.wait_for` of Python 3.11 does, when what it waits for comes at the same moment; `timeout` does not."""
    for module, path in modules().items():
        assert "asyncio.wait_for(" not in path.read_text(encoding="utf-8"), module


def test_no_module_is_over_800_lines() -> None:
    for module, path in modules().items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 800, module


@pytest.mark.parametrize(
    "module", ["lanfit_server.app", "lanfit_client.app", "lanfit.cli", "lanfit.training.trainer_process"]
)
def test_importing_the_network_half_imports_no_backend(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
