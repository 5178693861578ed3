"""Text of a peer is sanitized once, where its message is decoded: nothing raw arrives at what people read."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import typing
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from lanfit.core.logs import append_log, csv_line
from lanfit.core.terminal import Terminal
from lanfit.core.text import CONTINUED, printable, sanitize, sanitize_lines
from lanfit.errors import RemoteProtocolError
from lanfit.wire import messages
from lanfit.wire.frames import Kind, encode_frame
from lanfit.wire.messages import AnyMessage, Failed, FromClient, FromServer, Leave, LogLines, RunEnded, Status
from lanfit.wire.session import Session, Side
from lanfit.wire.texts import clean, cleaner_of

CLIENT, SERVER = typing.get_args(FromClient), typing.get_args(FromServer)
MESSAGES = tuple(dict.fromkeys((*CLIENT, *SERVER)))
HASH = "0123456789abcdef" * 4
#: What steers a terminal, turns the direction of writing round, begins a line of its own or hides.
RAW = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\u200f\u2028server: done\r\n\x85Run over\x00"
RAW += "\u200b\ufeff\U000e0041\ufffe"
FORBIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b\u200e\u200f\ufeff\ufffe\uffff]"
)
hostile = st.text(st.one_of(st.sampled_from(RAW + "=+-@|/\\ \t"), st.characters(codec="utf-8")), max_size=40)


def kinds(kind: inspect.Type, path: str) -> typing.Iterator[tuple[str, inspect.Type]]:
    """Every place in a type where text stands, with what is declared of it."""
    match kind:
        case inspect.Metadata(type=inspect.StrType()) | inspect.StrType():
            yield path, kind
        case inspect.Metadata(type=inner):
            yield from kinds(inner, path)
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from kinds(field.type, f"{path}.{field.name}")
        case inspect.VarTupleType(item_type=item):
            yield from kinds(item, f"{path}[]")
        case inspect.TupleType(item_types=items):
            for item in items:
                yield from kinds(item, f"{path}()")
        case inspect.DictType(key_type=key, value_type=value):
            yield from kinds(key, f"{path}{{}}")
            yield from kinds(value, f"{path}{{}}")
        case inspect.UnionType(types=types):
            for each in types:
                yield from kinds(each, path)
        case _:
            pass


TEXTS = [(cls, path, kind) for cls in MESSAGES for path, kind in kinds(inspect.type_info(cls), cls.__name__)]


def is_refused(kind: inspect.Type) -> bool:
    """Whether such text is never changed, but refused when it does not fit."""
    return (kind.type if isinstance(kind, inspect.Metadata) else kind).pattern is not None  # type: ignore[attr-defined]


def values(kind: inspect.Type, text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values of a type as they travel, with `text` wherever people's text may stand."""
    match kind:
        case inspect.Metadata(type=inspect.StrType(), extra={"lanfit text": _}):
            return text
        case inspect.Metadata(type=inner):
            return values(inner, text)
        case inspect.StrType(pattern=str(pattern)):
            return st.just(HASH) if "0-9a-f]{64}" in pattern else st.sampled_from(["loss", "shard-1", "x"])
        case inspect.LiteralType(values=allowed):
            return st.sampled_from(allowed)
        case inspect.StructType(fields=fields, tag_field=tag_field, tag=tag, array_like=array_like):
            if array_like:
                return st.tuples(*(values(field.type, text) for field in fields))
            made = {field.encode_name: values(field.type, text) for field in fields}
            return st.fixed_dictionaries({**({tag_field: st.just(tag)} if tag_field else {}), **made})
        case inspect.VarTupleType(item_type=item):
            return st.lists(values(item, text), max_size=2)
        case inspect.TupleType(item_types=items):
            return st.tuples(*(values(item, text) for item in items))
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(values(key, text), values(value, text), max_size=2)
        case inspect.UnionType(types=types):
            return st.one_of(*(values(each, text) for each in types))
        case inspect.IntType():
            return st.integers(1, 9)
        case inspect.FloatType():
            return st.floats(0.5, 9)
        case inspect.BoolType():
            return st.booleans()
        case inspect.BytesType():
            return st.binary(max_size=16)
        case _:
            return st.none()


def arrived(cls: type[msgspec.Struct], value: Any) -> AnyMessage:
    """A message as the other side has it: encoded by whoever knows the passphrase, and decoded by a session of ours."""
    side = Side.SERVER if cls in CLIENT else Side.CLIENT
    [event] = Session(side, None).receive_bytes(encode_frame(Kind.CONTROL, msgspec.msgpack.encode(value)))
    assert isinstance(event, messages.Message)
    return typing.cast(AnyMessage, event)


def people_read(message: Any, path: str = "") -> typing.Iterator[str]:
    """Every text of a decoded message but JSON of models and names of arrays, which are never shown."""
    if isinstance(message, str):
        yield message
    elif isinstance(message, msgspec.Struct):
        for name in message.__struct_fields__:
            if name not in ("architecture", "compile", "arrays"):
                yield from people_read(getattr(message, name))
    elif isinstance(message, tuple):
        for each in message:
            yield from people_read(each)
    elif isinstance(message, dict):
        for key in message:
            yield from people_read(key)


def test_every_text_in_every_message_declares_what_it_is() -> None:
    for _, path, kind in TEXTS:
        declared = is_refused(kind) or (isinstance(kind, inspect.Metadata) and "lanfit text" in (kind.extra or {}))
        assert declared, f"{path}: give it a type of lanfit.wire.texts"


def test_a_message_with_text_of_no_kind_is_an_error() -> None:
    class Forgotten(messages.Message, frozen=True, tag="forgotten"):
        text: str

    class InATuple(messages.Message, frozen=True, tag="in a tuple"):
        texts: tuple[str, ...]

    for cls in (Forgotten, InATuple):
        with pytest.raises(TypeError, match="is text of no kind"):
            cleaner_of(cls)


@given(st.data())
def test_nothing_raw_arrives_on_a_terminal_in_a_log_in_a_table_or_in_json(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(MESSAGES))
    message = arrived(cls, data.draw(values(inspect.type_info(cls), hostile)))
    for text in people_read(message):
        talk, line = io.StringIO(), f"lab-1: {text}"
        Terminal(io.StringIO(), talk).log(line)
        assert FORBIDDEN.search(talk.getvalue()) is None
        first, *rest = talk.getvalue().removesuffix("\n").split("\n")
        assert first.startswith("lab-1: ")
        assert all(each.startswith(CONTINUED[1:]) for each in rest), "a peer can't make a line of its own"
        [cell] = next(csv.reader(io.StringIO(csv_line([text]))), [""])
        assert FORBIDDEN.search(cell) is None
        assert not cell.startswith(("=", "+", "-", "@"))
        assert FORBIDDEN.search(json.loads(msgspec.json.encode(text))) is None
        assert text == sanitize_lines(text), "it is sanitized once, and stays as it is"


@given(hostile)
def test_text_for_people_is_one_line_or_lines_that_are_marked(text: str) -> None:
    line = sanitize(text)
    assert "\n" not in line
    assert FORBIDDEN.search(line) is None
    assert sanitize(line) == line
    lines = sanitize_lines(text)
    assert FORBIDDEN.search(lines) is None
    assert sanitize_lines(lines) == lines
    assert FORBIDDEN.search(printable(text)) is None
    for one in (line, lines, printable(text)):
        one.encode("utf-8")


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("bye", "bye"),
        ("naïve – 猫 👩\u200d🔬 שלום", "naïve – 猫 👩\u200d🔬 שלום"),
        ("it was ended\nRun 7: done", "it was ended Run 7: done"),
        ("\x1b[2J\x1b]0;owned\x07", "\ufffd[2J\ufffd]0;owned\ufffd"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("a\u2028b\u2029c\x85d\r\ne", "a b c d e"),
        ("x" * 5000, "x" * 999 + "…"),
    ],
)
def test_a_reason_is_shown_in_one_line_without_what_steers_a_terminal(output: str, shown: str) -> None:
    assert arrived(Leave, {"type": "leave", "reason": output}) == Leave(shown)
    assert arrived(Status, {"type": "status", "text": output}) == Status(shown)


def test_further_lines_of_a_log_are_marked_so_that_none_looks_like_one_of_the_server() -> None:
    output = {"type": "failed", "run": "r", "task": "t", "error": "bad\nRun r: done", "hint": "", "log": ["a\x1b\nb"]}
    failed = arrived(Failed, output)
    assert isinstance(failed, Failed)
    assert failed.error == "bad\n  | Run r: done"
    assert failed.log == ("a\ufffd\n  | b",)


def test_a_log_file_of_a_client_shows_which_lines_belong_together(tmp_path: Path) -> None:
    output = arrived(LogLines, {"type": "log", "run": "r", "lines": ["one\n2026-01-01 00:00:00 two", "three"]})
    assert isinstance(output, LogLines)
    append_log(tmp_path / "client.log", output.lines)
    stamped, marked, last = (tmp_path / "client.log").read_text("utf-8").splitlines()
    assert re.fullmatch(r"[\d-]+ [\d:]+ one", stamped)
    assert marked == "  | 2026-01-01 00:00:00 two"
    assert re.fullmatch(r"[\d-]+ [\d:]+ three", last)


@pytest.mark.parametrize("text", ["../../x", "/etc/x", "a\x1b[2Jb", "a\u202eb", "a\nb", "a\n"])
def test_names_that_become_keys_or_paths_are_refused_and_never_changed(text: str) -> None:
    for _, path, kind in TEXTS:
        if is_refused(kind):
            pattern = (kind.type if isinstance(kind, inspect.Metadata) else kind).pattern  # type: ignore[attr-defined]
            is_figure = pattern.startswith("^[^") and "/" not in pattern
            fits = re.search(pattern, text) is not None
            assert fits == (is_figure and text in ("../../x", "/etc/x")), f"{path}: only figures hold slashes"


LEASE = {
    "type": "lease",
    "run": "20261129-230000",
    "task": "shard-1",
    "attempt": 1,
    "owner": "lab-1",
    "fit": {
        "model": {
            "architecture": "{}",
            "compile": "{}",
            "input_shape": [None, 1],
            "output_shape": [None, 1],
            "target": "values",
            "normalizer": "none",
            "target_normalizer": "none",
        },
        "epochs": 1,
        "batch_size": 1,
        "seed": 0,
        "patience": 0,
        "runtime": {},
        "fold": None,
        "own": None,
    },
    "weights": {"id": HASH, "arrays": []},
    "shard": {"id": HASH, "arrays": []},
}
PATHS = [
    "../x",
    "..",
    ".",
    "/tmp/x",
    "a/b",
    "a\\b",
    "C:x",
    "",
    ".hidden",
    "x\0",
    "con",
    "NUL.h5",
    "x" * 65,
    "é",
    "a b",
    "x.",
]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("field", ["run", "task", "owner"])
def test_a_client_refuses_a_lease_whose_names_are_paths(field: str, name: str) -> None:
    assert arrived(messages.Lease, LEASE)
    with pytest.raises(RemoteProtocolError, match="can't be read"):
        arrived(messages.Lease, {**LEASE, field: name})


@pytest.mark.parametrize("name", PATHS)
def test_a_client_refuses_a_name_from_its_server_that_is_a_path(name: str) -> None:
    welcome = {"type": "welcome", "version": "1", "name": "lab-1", "collecting": False}
    taken = {"type": "parts taken", "name": "lab-1", "first": 1, "last": 1, "of": 1}
    for cls, value in ((messages.Welcome, welcome), (messages.PartsTaken, taken)):
        assert arrived(cls, value)
        with pytest.raises(RemoteProtocolError, match="can't be read"):
            arrived(cls, {**value, "name": name})


def test_what_the_library_quotes_of_a_message_that_it_can_not_read_is_sanitized() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        arrived(Leave, {"type": f"{RAW}", "reason": ""})
    assert FORBIDDEN.search(caught.value.message) is None
    with pytest.raises(RemoteProtocolError) as caught:
        arrived(Leave, {"type": "leave", "reason": "", RAW: 1})
    assert FORBIDDEN.search(caught.value.message) is None


def test_a_message_without_a_run_is_no_broken_one() -> None:
    ended = RunEnded("", "failed", "no run was started")
    assert arrived(RunEnded, {"type": "ended", "run": "", "status": "failed", "text": "no run was started"}) == ended
    assert clean(ended) == ended


def test_the_log_of_a_server_shows_nothing_raw(tmp_path: Path) -> None:
    from lanfit_server.run.journal import Journal

    journal = Journal(tmp_path)
    try:
        logging.getLogger("lanfit.server").warning("%s", RAW)
    finally:
        journal.close()
    assert FORBIDDEN.search((tmp_path / "server.log").read_text("utf-8")) is None


def test_no_character_of_a_category_that_is_not_shown_is_kept_by_error() -> None:
    """Controls, halves of pairs, and all formats but the joiners and the signs that scripts write before numbers."""
    kept = {
        hex(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and sanitize(f"a{chr(code)}b") == f"a{chr(code)}b"
    }
    scripts = {0x200C, 0x200D, *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    scripts |= {*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B)}
    assert kept <= {hex(code) for code in scripts}
