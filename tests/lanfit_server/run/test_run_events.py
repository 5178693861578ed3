"""Run events on their way into events.jsonl and to people."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lanfit_server.run import events
from lanfit_server.run.events import RunEvent
from lanfit_server.run.journal import Journal
from lanfit_server.ui.narrator import sentences

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "docs"))

import tables as documents  # noqa: E402

KINDS = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, RunEvent)]
#: A value for each type of a fact.
VALUES: dict[Any, Any] = {
    "str": "lab-1", "int": 3, "float": 1.5, "bool": True, "float | None": 2.5, "tuple[str, ...]": ("lab-1", "lab-2"),
    "dict[str, float]": {"loss": 0.5}, "dict[str, str]": {"lab-2": "it was too late"}, "tuple[int, ...]": (8, 8, 1),
    "tuple[float, ...]": (0.25, 0.75), "tuple[tuple[int, ...], ...]": ((5, 1), (0, 3)),
    "dict[str, tuple[int, ...]]": {"0,1": (7,)}, "tuple[ShownRow, ...]": (events.ShownRow(4, "cat"),),
}  # fmt: skip


def example(kind: type[RunEvent]) -> RunEvent:
    """An event all of whose facts are set."""
    annotations: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        annotations |= {name: str(of) for name, of in getattr(each, "__annotations__", {}).items()}
    return kind(**{name: VALUES[annotations[name]] for name in kind.__struct_fields__})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_reported_of_an_event_is_whole_sentences(kind: type[RunEvent]) -> None:
    for line in sentences(example(kind)):
        assert line.endswith(".") or ": loss 0.5" in line
        assert "None" not in line
        assert "{" not in line


def test_the_document_has_every_event_that_is_written() -> None:
    path = ROOT / "logs" / "README.md"
    assert documents.filled(path) == path.read_text("utf-8"), "run: python docs/tables.py logs/README.md"


def test_no_two_kinds_of_events_have_one_name() -> None:
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(tags) == len(set(tags))


def test_every_event_is_a_line_that_can_be_read_again_but_epochs_are_in_the_history(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    written = [example(kind) for kind in KINDS if kind is not RunEvent]
    for event in [events.TaskLeased("shard-1", "lab-1", 1, "lab-1"), *written]:
        journal(msgspec.structs.replace(event, fold=0) if hasattr(event, "fold") else event, 0.0)
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {line["event"] for line in lines} == {
        event.__struct_config__.tag for event in written if not isinstance(event, events.ELSEWHERE)
    }
    assert all(line["time"] > 0 for line in lines)
    assert (tmp_path / "clients" / "lab-1" / "history.csv").read_text().splitlines() == ["epoch,loss", "3,0.5"]
