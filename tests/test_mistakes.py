"""Every mistake of the table is provoked from the outside, or it is said why not, and which test does it inside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lanfit.mistakes import MISTAKES

TESTS = Path(__file__).parent
#: The modules that provoke mistakes with real processes.
OUTSIDE = [TESTS / f"test_mistakes_{area}.py" for area in ("answers", "data", "net")]
_API = "the commands never call it so: only who calls the functions can"
_NETWORK = "it needs a network that misbehaves"
_CHECKED = "a check before it finds the same; it is there for who calls the function"

#: Code → why nobody can provoke it from the outside, and the test that provokes it all the same.
INSIDE = {
    "csv.unreadable": (
        "what pandas refuses is found and named; this is for what nobody has thought of",
        "lanfit/data/test_csv_reader.py::test_what_nobody_has_thought_of_is_told_in_the_words_of_pandas",
    ),
    "disk.full": (
        "a test can't fill a disk",
        "lanfit/test_files.py::test_a_full_disk_is_said_before_anything_is_received",
    ),
    "file.no-rows": (_API, "lanfit/data/test_sources.py::test_arrays_that_do_not_pair_are_named"),
    "xlsx.larger-than-memory": (
        "it takes a file of a hundredth of the machine's memory",
        "lanfit/data/test_xlsx_reader.py::test_a_sheet_that_memory_does_not_hold_is_refused",
    ),
    "labels.open-outputs": (
        _CHECKED,
        "lanfit/data/test_labels.py::test_labels_need_a_number_of_outputs",
    ),
    "targets.no-files": (_API, "lanfit/data/test_sources.py::test_arrays_that_do_not_pair_are_named"),
    "targets.none": (_API, "lanfit/data/test_sources.py::test_arrays_that_do_not_pair_are_named"),
    "rows.larger-than-memory": (
        "the server puts rows into files, not into memory",
        "lanfit/data/test_sources.py::test_allocation_in_memory_is_held_against_what_is_free",
    ),
    "split.share": (_CHECKED, "lanfit/data/test_split.py::test_a_share_outside_of_0_to_1_is_refused_with_its_number"),
    "split.more-shards-than-rows": (
        _CHECKED,
        "lanfit/data/test_split.py::test_too_many_clients_for_the_rows_are_refused_with_the_numbers",
    ),
    "normalizer.unknown": (
        _CHECKED,
        "lanfit/data/test_normalize.py::test_an_unknown_normalizer_is_named_with_the_choices",
    ),
    "normalizer.not-saved": (_API, "lanfit/data/test_normalize.py::test_a_spoilt_saved_normalizer_is_refused"),
    "normalizer.constants": (_API, "lanfit/data/test_normalize.py::test_a_spoilt_saved_normalizer_is_refused"),
    "listen.no-port": (_CHECKED, "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words"),
    "listen.unknown-name": (_CHECKED, "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words"),
    "listen.other-machine": (_CHECKED, "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words"),
    "listen.port-forbidden": (
        "an administrator may use every port",
        "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words",
    ),
    "listen.failed": (_NETWORK, "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words"),
    "connect.no-port": (_CHECKED, "lanfit/net/test_joining.py::test_a_port_that_is_none_is_wrong_input"),
    "connect.name-not-found-in-time": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_a_name_that_is_not_found_in_time_is_named",
    ),
    "connect.no-answer": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.no-way": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.failed": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.silent": (
        "a client waits ten seconds for it",
        "lanfit/net/test_joining.py::test_a_server_that_takes_the_connection_and_says_nothing_is_given_up",
    ),
    "join.silent": (
        "a client waits ten seconds for it",
        "lanfit/net/test_joining.py::test_a_server_that_does_not_go_on_with_the_login_is_given_up",
    ),
    "known-servers.unwritable": (
        "an administrator may write everywhere",
        "lanfit_client/test_known.py::test_a_file_that_cannot_be_written_is_named",
    ),
}
NOT_YET = {
    "job.more-local-than-clients", "targets.classes-with-xx", "split.samples", "split.samples-too-few", "split.folds",
    "split.folds-of-a-class", "split.class-of-one-row", "model.too-large-to-send", "model.out-of-memory",
}  # fmt: skip


def codes_in(tree: ast.AST) -> set[str]:
    """The codes that a piece of a test names."""
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return names & set(MISTAKES)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_mistake_is_provoked_from_the_outside() -> None:
    outside = set[str]().union(*(codes_in(parsed(path)) for path in OUTSIDE))
    assert outside | set(INSIDE) | NOT_YET == set(MISTAKES)
    assert not outside & set(INSIDE), "these need no reason any more"


@pytest.mark.parametrize("code", sorted(INSIDE))
def test_what_nobody_can_provoke_from_the_outside_is_provoked_inside(code: str) -> None:
    """The test that is named is there, and names the code."""
    _, where = INSIDE[code]
    file, _, name = where.partition("::")
    tests = {node.name: node for node in parsed(TESTS / file).body if isinstance(node, ast.FunctionDef)}
    assert name in tests, f"there is no test {where}"
    assert code in codes_in(tests[name]), f"{where} does not name {code}"
