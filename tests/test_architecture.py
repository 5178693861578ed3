"""The arrows between the packages, drawn in docs/decisions/0001: who may import whom."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from lanfit.settings.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"lanfit": ROOT / "src", "lanfit_server": ROOT / "server", "lanfit_client": ROOT / "client"}
#: A layer imports only from layers below it and from itself, inside functions too. The longest name that fits counts.
LAYERS = [
    {"lanfit.errors", "lanfit.backends", "lanfit.core", "lanfit.settings"},
    {"lanfit.wire", "lanfit.data", "lanfit.models"},
    {"lanfit.transfer"},
    {"lanfit.training", "lanfit.net"},
    {"lanfit.cli", "lanfit.launch"},
    {"lanfit_client"},
    {"lanfit_server.store"},
    # What happens in a run, and what is to be done about it: data and pure functions.
    {
        "lanfit_server.clusters.events",
        "lanfit_server.clusters.roster",
        "lanfit_server.methods",
        "lanfit_server.run.events",
        "lanfit_server.run.instructions",
        "lanfit_server.run.run_stats",
        "lanfit_server.run.tasks",
    },
    # What people follow of a run, and what is left of it.
    {"lanfit_server.replay"},
    {"lanfit_server.report"},
    {"lanfit_server.data", "lanfit_server.models", "lanfit_server.prepare_data"},
    {"lanfit_server.clusters"},
    {"lanfit_server.ui", "lanfit_server.requests", "lanfit_server.watchers"},
    {
        "lanfit_server.methods.federated.workshop",
        "lanfit_server.methods.independent_workshop",
        "lanfit_server.methods.workshops",
        "lanfit_server.run",
    },
    {"lanfit_server.session"},
    # The live page is a source of requests, and is started by the commands.
    {"lanfit_server.start", "lanfit_server.ui.dashboard"},
    {"lanfit_server.api"},
    {"lanfit_server.cli"},
]
#: What a light client does not have, and what is slow to import: never at the top of a module.
HEAVY = {"keras", "tensorflow", "jax", "torch", "h5py", "pandas", "openpyxl", "matplotlib", "sklearn"}
HEAVY |= {"zxcvbn", "tomli_w", "PIL", "xlsxwriter"}


def modules() -> dict[str, Path]:
    """Every module of the three packages, by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in (folder / package).rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, *, top_level_only: bool = False, for_types: bool = True) -> set[str]:
    """The dotted names that a module imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not for_types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
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
    fitting = [
        (name, number) for number, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")
    ]
    assert fitting, f"{module} is in no layer"
    return max(fitting)[1]


def test_server_and_client_never_import_each_other() -> None:
    for module, path in modules().items():
        package = module.split(".")[0]
        others = {"lanfit": {"lanfit_server", "lanfit_client"}}.get(
            package, {"lanfit_server", "lanfit_client"} - {package}
        )
        # The public API names the server's parts for type checkers, and imports them when they are used.
        found = imports(path, top_level_only=module == "lanfit")
        assert not {name.split(".")[0] for name in found} & others, module


def test_imports_point_downward() -> None:
    known = modules()
    packages = {name.rpartition(".")[0] for name in known}
    for module in known.keys() - packages:
        for name in (imports(known[module]) & known.keys()) - packages:
            assert layer_of(name) <= layer_of(module), f"{module} imports {name}"


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports them by it: the second one would not be collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_tests_import_only_modules_that_exist() -> None:
    """mypy ignores imports that it can't find there, so a renamed helper would show only when a test is collected."""
    paths = [path for path in (ROOT / "tests").rglob("*.py") if "data" not in path.relative_to(ROOT).parts[1:2]]
    own = {path.stem for folder in ("tests", "bench", "docs") for path in (ROOT / folder).rglob("*.py")}
    used = {name.split(".")[0] for path in paths for name in imports(path, top_level_only=True)}
    packages = {path.parent.name for path in paths if path.name == "__init__.py"}
    assert {name for name in used - own - packages if importlib.util.find_spec(name) is None} == set()


def test_no_two_modules_import_each_other_in_a_circle_not_even_inside_functions() -> None:
    known = modules()
    graph = {
        module: {name for name in imports(path, for_types=False) if name in known} for module, path in known.items()
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
        assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY, module


@pytest.mark.parametrize("module", ["lanfit.training.trainer", "lanfit.training.trainer_process"])
def test_a_trainer_imports_a_backend_only_by_its_entry_not_even_inside_a_function(module: str) -> None:
    """Else another backend than Keras could not do without it."""
    known, todo = modules(), [(module, module)]
    seen = {"lanfit"}  # the façade names everything there is
    while todo:
        each, trail = todo.pop()
        if each in seen:
            continue
        seen.add(each)
        found = imports(known[each])
        assert not {name.split(".")[0] for name in found} & {"keras", "tensorflow", "jax", "torch"}, trail
        todo += [(name, f"{name} ← {trail}") for name in found if name in known]
    assert "lanfit.training.backend" in seen


def test_wire_does_no_input_or_output() -> None:
    for module, path in modules().items():
        if module.startswith("lanfit.wire"):
            assert not imports(path) & {"socket", "asyncio", "ssl", "time", "threading", "pathlib"}, module


def test_what_decides_about_a_run_does_no_input_or_output_and_knows_no_clock() -> None:
    run = {"engine", "evaluations", "events", "instructions", "tasks"}
    methods = {"base", "independent", "registry", "federated.rounds", "federated.schedule", "federated.aggregation"}
    methods |= {"federated.server_optimizers"}
    pure = {f"lanfit_server.run.{name}" for name in run} | {f"lanfit_server.methods.{name}" for name in methods}
    assert pure <= modules().keys()
    for module in [*pure, "lanfit_server.methods.claims", "lanfit_server.ui.narrator"]:
        found = imports(modules()[module])
        assert not found & {"socket", "asyncio", "ssl", "time", "threading", "os", "pathlib", "random"}, module


def names_methods(tree: ast.AST) -> list[int]:
    """The lines that compare something with the name of a method, have a table of names, or ask for its type."""
    found = []
    for node in ast.walk(tree):
        operands: list[ast.expr] = []
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            operands += [
                each for part in operands if isinstance(part, ast.Tuple | ast.List | ast.Set) for each in part.elts
            ]
        elif isinstance(node, ast.Dict):
            operands = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "isinstance"
            and "method" in ast.unparse(node.args[0])
        ):
            found.append(line)
        named = any(isinstance(each, ast.Constant) and each.value in METHODS for each in operands)
        asked = isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "method"
        if named or asked:
            found.append(line)
    return found


def test_only_the_entries_of_methods_know_which_method_a_job_has() -> None:
    for module, path in modules().items():
        if not f"{module}.".startswith("lanfit_server.methods."):
            assert not names_methods(ast.parse(path.read_text(encoding="utf-8"))), module


@pytest.mark.parametrize(
    "line",
    [
        'self.method == "federated"', 'values["method"] != "fit"', "job.method == chosen", 'method in ("fit", "kfold")',
        '{"fit": 1}[job.method]', "isinstance(self.method, Rounds)", 'match job.method:\n    case "kfold": pass',
    ],
)  # fmt: skip
def test_a_question_for_the_method_is_found_however_it_is_asked(line: str) -> None:
    assert names_methods(ast.parse(line))


def test_nothing_waits_by_what_may_swallow_a_cancellation() -> None:
    """`asyncio.wait_for` of Python 3.11 does, when what it waits for comes at the same moment; `timeout` does not."""
    for module, path in modules().items():
        assert "asyncio.wait_for(" not in path.read_text(encoding="utf-8"), module


#: The code that every run goes through, and how many lines of code it may have: fewer are welcome, 8,000 are the goal.
CORE = ("lanfit.wire", "lanfit.net", "lanfit.training", "lanfit_server.run", "lanfit_server.methods",
        "lanfit_server.clusters.lan", "lanfit_client")  # fmt: skip
MOST_CORE_LINES = 12_167


def code_lines(path: Path) -> int:
    """How many lines are neither blank nor only a comment or a docstring."""
    source = path.read_text(encoding="utf-8")
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                documented |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def test_the_prefix_of_validation_is_read_in_one_place() -> None:
    """What takes `val_loss` for a metric, and not for a part of `loss`, gives it a chart of its own."""
    writers = {"lanfit.wire.figures", "lanfit.training.loop", "lanfit_server.methods.federated.facts"}
    for module, path in modules().items():
        if module not in writers:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"""(prefix|startswith)\(["']val_|f["']val_\{|["']val_["']""", text), module


def test_syntax_trees_are_made_by_one_thread_at_a_time() -> None:
    """Two at once fail before Python 3.13; NumPy's readers of headers make them as well."""
    makers = {"ast.parse", "ast.literal_eval", "np.load", "np.loadtxt", "npy.read_array", "npy.read_array_header_1_0"}
    found = 0
    for module, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        safe = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.With) and "PARSER_LOCK" in {ast.unparse(item.context_expr) for item in node.items}
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {*makers, "readers[version]"}:
                found += 1
                assert id(node) in safe, f"{module}: {ast.unparse(node)} without PARSER_LOCK"
    assert found == 3


def test_the_core_does_not_grow() -> None:
    found = {
        module: code_lines(path)
        for module, path in modules().items()
        # Tables of errors are data, not code.
        if module.startswith(CORE) and ".keras" not in module and not module.endswith(".errors")
    }
    assert len(found) > 50
    assert sum(found.values()) <= MOST_CORE_LINES


def test_no_module_is_over_800_lines() -> None:
    for module, path in modules().items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 800, module


@pytest.mark.parametrize(
    "module", ["lanfit_server.start.app", "lanfit_client.app", "lanfit.cli", "lanfit.training.trainer_process"]
)
def test_importing_the_network_half_imports_no_backend(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_was_stored_is_decoded_in_one_place() -> None:
    """msgspec's own functions raise RecursionError beside ValueError, which is forgotten too easily."""
    between_own_processes = {"lanfit.data.processes", "lanfit.data.reader_process", "lanfit_server.data.reading"}
    for module, path in modules().items():
        if module not in {"lanfit.core.decoding", *between_own_processes}:
            assert not re.search(r"msgspec\.(json|msgpack)\.decode\(", path.read_text("utf-8")), module
