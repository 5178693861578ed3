"""The table of errors and the code that raises them fit together: nothing is worded twice, missing or left over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from error_tables import ERRORS, TABLES
from test_architecture import imports, modules

from lanfit import errors
from lanfit.errors import lanfit_error, texts

#: Worded where they are raised: no user's error, but a bug of ours or a peer that breaks the protocol.
PROTOCOL = {"LocalProtocolError", "RemoteProtocolError"}
#: Calls that carry an error which was worded elsewhere.
CARRIED = {
    ("lanfit.core.child", "ChildDied"): "a process that died: its last lines are the hint",
    ("lanfit.net.transport", "ConnectionFailed"): "only a reason: the link and the login put it into their sentences",
    ("lanfit_server.clusters.listen", "ConnectionFailed"): "a line of the server's log",
    ("lanfit.training.trainer_process", "InputError"): "what the trainer process said",
    ("lanfit_server.clusters.lan", "ConnectionFailed"): "the reason of a link, once it has ended",
    ("lanfit_server.clusters.pool", "InputError"): "what the trainer process said",
    ("lanfit.training.executor", "TrainingError"): "what the trainer process said",
}

TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules().items()}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a module, with the last part of the name that is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr, node


def family() -> set[str]:
    """The names of all classes of errors, also of those that a module defines for itself."""
    names = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    while more := {name for name, above in bases.items() if above & names} - names:
        names |= more
    return names


def takes_a_text(node: ast.AST) -> bool:
    return any(name == "texts" for name, _ in calls(node))


def lookups() -> Iterator[tuple[str, str, set[str]]]:
    """Module, code and field names of every call that takes a text from the table."""
    for module, tree in TREES.items():
        for name, call in calls(tree):
            if name in ("lanfit_error", "texts") and module != "lanfit.errors":
                [code] = call.args
                assert isinstance(code, ast.Constant), f"{module}: the code is not written out: {ast.unparse(call)}"
                yield module, code.value, {keyword.arg or "**" for keyword in call.keywords}


LOOKUPS = list(lookups())


def test_every_error_is_worded_in_the_table() -> None:
    """Errors are made by `lanfit_error`, or of what `texts` gives, by the caller or by the class itself."""
    worded = {
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and takes_a_text(node)
    }
    kinds = family() - PROTOCOL - worded
    for module in TREES:
        for name, call in calls(TREES[module]):
            if name in kinds and (module, name) not in CARRIED:
                assert any(isinstance(part, ast.Starred) for part in call.args), f"{module}: {ast.unparse(call)[:120]}"


def test_what_is_carried_from_elsewhere_still_is() -> None:
    found = {(module, name) for module, tree in TREES.items() for name, _ in calls(tree)}
    assert set(CARRIED) <= found


def test_every_line_of_the_table_is_used() -> None:
    assert {code for _, code, _ in LOOKUPS} == set(ERRORS)


def test_who_raises_an_error_gives_what_its_sentences_name() -> None:
    for module, code, fields in LOOKUPS:
        assert fields == ERRORS[code].fields, f"{module}: {code}"


def test_no_code_is_in_two_tables_or_written_twice() -> None:
    written = [
        key.value
        for package in TABLES
        for table in ast.walk(TREES[f"{package}.errors"])
        if isinstance(table, ast.Dict)
        for key in table.keys
        if isinstance(key, ast.Constant)
    ]
    assert sorted(written) == sorted(ERRORS)


def test_every_package_registers_its_own_table() -> None:
    for package in TABLES:
        assert "register" in {name for name, _ in calls(TREES[package])}, package


def packages_above(module: str) -> set[str]:
    """The packages that Python imports before a module: its parents, and itself if it is one."""
    parts = module.split(".")
    return {".".join(parts[: count + 1]) for count in range(len(parts))}


PATHS = modules()
IMPORTS = {module: imports(path, top_level_only=True, for_types=False) for module, path in PATHS.items()}


def loaded_with(module: str) -> set[str]:
    """All modules that are there when this one is imported."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        for each in (packages_above(todo.pop()) & PATHS.keys()) - seen:
            seen.add(each)
            todo += IMPORTS[each]
    return seen


def test_whoever_raises_an_error_has_imported_its_table() -> None:
    """The table is that of the module's own package, or of one that the module imports, directly or not."""
    home = {code: package for package, table in TABLES.items() for code in table}
    loaded = {module: loaded_with(module) for module, _, _ in LOOKUPS}
    for module, code, _ in LOOKUPS:
        assert home[code] in loaded[module], f"{module} raises {code}, which is in {home[code]}.errors"


def test_a_code_that_is_registered_again_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="csv"):
        errors.register({"csv.quotes": ERRORS["csv.quotes"]})


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_an_error_says_what_happened_and_what_to_do(code: str) -> None:
    """No capital in front of what happened and no full stop behind it; what to do is one sentence or more."""
    entry = ERRORS[code]
    assert re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", code)
    assert issubclass(entry.kind, errors.LanfitError)
    assert entry.kind.__name__ not in PROTOCOL
    assert not entry.message.endswith(".")
    assert entry.message[0].islower() or entry.message.startswith(("{", '"'))
    assert entry.hint.endswith(".")
    assert entry.hint[0].isupper() or entry.hint.startswith(("lanfit", "{"))


def test_an_error_becomes_an_error_of_its_class_with_its_code() -> None:
    wrong = lanfit_error("csv.unnamed-column", file="x.csv", line=3, column=2)
    assert type(wrong) is errors.InputError
    assert wrong.message == "x.csv, line 3: column 2 has no name"
    assert wrong.hint == ERRORS["csv.unnamed-column"].hint
    assert wrong.code == "csv.unnamed-column"
    assert texts("csv.unnamed-column", file="x.csv", line=3, column=2) == (wrong.message, wrong.hint, wrong.code)


def test_a_hint_that_begins_with_nothing_has_no_blank_in_front() -> None:
    _, hint, _ = texts("own-data.unusable", client="lab-2", error="the trainer died", hint="")
    assert hint == "The files are on lab-2."


def test_an_error_can_be_told_of_a_place_and_keeps_its_code() -> None:
    wrong = lanfit_error("value.empty").at("--model", "A file.")
    assert type(wrong) is errors.InputError
    assert wrong.message == "--model: the value is empty"
    assert wrong.hint == "Give a value, or leave it out. A file."
    assert wrong.code == "value.empty"
