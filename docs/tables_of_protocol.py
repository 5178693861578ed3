"""The tables of docs/protocol.md: frames, login, messages. `docs/tables.py` writes them there."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Sequence

import msgspec
from error_texts import ERRORS
from tables_markdown import table

from lanfit.wire import auth, exchange, frames, messages, session
from lanfit.wire.arrays import ArraySpec, BlockSpec


def _frames() -> str:
    sizes = {
        "client": {**auth.LOGIN_TO_SERVER, **frames.OPEN_TO_SERVER},
        "server": {**auth.LOGIN_TO_CLIENT, **frames.OPEN_TO_CLIENT},
    }

    def row(kind: frames.Kind) -> list[object]:
        cells: list[object] = [int(kind), kind.name]
        for sender in ("client", "server"):
            size = sizes[sender].get(kind)
            cells.append("–" if size is None else size.largest if size.smallest == size.largest else _span(size))
        return [*cells, "login" if kind < frames.Kind.CONTROL else "open"]

    head = ["kind", "name", "bytes of payload from a client", "from a server", "when"]
    return table(head, [row(kind) for kind in frames.Kind])


def _span(size: frames.Size) -> str:
    return f"{size.smallest} to {size.largest:,}"


_LAYOUTS = {
    "CLIENT_HELLO": (auth.CLIENT_HELLO, "magic, lowest version, highest version, nonce, client id"),
    "SERVER_HELLO": (auth.SERVER_HELLO, "version, suite, nonce, server id, salt"),
    "REFUSE": (auth.REFUSE, "code, seconds until a new try makes sense (for VERSION the server's version)"),
    "CLIENT_REFUSE": (auth.CLIENT_REFUSE, "code; 1: the client expects another fingerprint"),
    "DATA": (frames.DATA_HEADER, "stream, offset in the block; then the bytes"),
}
_UNITS = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64"}


def _layouts() -> str:
    def fields(layout: str, names: str) -> str:
        units = [_UNITS.get(code, f"{count} bytes") for count, code in re.findall(r"(\d*)([a-zA-Z])", layout)]
        plain, _, rest = names.partition("; ")
        named = ", ".join(f"{name} ({unit})" for name, unit in zip(plain.split(", "), units, strict=True))
        return named + (f"; {rest}" if rest else "")

    rows = [(name, fields(layout.format, names)) for name, (layout, names) in _LAYOUTS.items()]
    rows += [
        (
            "CLIENT_EXCHANGE, SERVER_EXCHANGE",
            f"the SPAKE2 message of side A, of side B ({exchange.EXCHANGE_BYTES} bytes)",
        ),
        ("CLIENT_PROOF, SERVER_PROOF", f"HMAC-SHA-256 ({exchange.PROOF_BYTES} bytes)"),
        ("CONTROL", "one message, msgpack"),
    ]
    return table(["frame", "payload"], rows)


def _steps(steps: Sequence[auth.Step]) -> str:
    def trigger(on: frames.Kind | auth.Act) -> str:
        return on.value if isinstance(on, auth.Act) else f"{on.name} comes"

    rows = [(step.state.name, trigger(step.on), step.does, step.to.name) for step in steps]
    return table(["state", "when", "then", "new state"], rows)


def _refusals() -> str:
    def sentence(why: auth.Refusal) -> str:
        output = ERRORS[f"join.{why.name.lower().replace('_', '-')}"].message.removeprefix("{address}: ")
        return output.format(seconds="*n*", theirs="version *n*", ours="*m*")

    rows = [(int(why), why.name, sentence(why)) for why in auth.Refusal]
    return table(["code", "name", "what the user reads"], rows)


def _limits() -> str:
    return table(
        ["limit", "bytes or number"],
        [
            ("a frame before login", f"{frames.LOGIN_LIMIT} at most; each kind has one size"),
            ("a message from a client", f"{frames.CONTROL_LIMIT_FROM_CLIENT:,}"),
            ("a message from a server", f"{frames.CONTROL_LIMIT:,}"),
            ("data in one frame", f"{frames.DATA_LIMIT:,}"),
            ("blocks that a peer asks for before it has got one", session.UNANSWERED_FETCHES),
        ],
    )


def _messages(union: object, but: Sequence[type] = ()) -> str:
    types = [one for one in typing.get_args(union) if one not in but]
    return "\n\n".join(_struct(one, f"`{one.__struct_config__.tag}`") for one in types)


def _struct(struct: type[msgspec.Struct], title: str) -> str:
    """A struct as a heading, its docstring, and a table of its fields."""
    reported = _field_docs(struct)
    parts = [f"**{title}** {' '.join((struct.__doc__ or '').split())}"]
    fields = msgspec.structs.fields(struct)
    if fields:
        types = struct.__annotations__
        rows = [(f"`{field.encode_name}`", types[field.name], reported.get(field.name, "")) for field in fields]
        parts.append(table(["field", "type", ""], rows))
    return "\n\n".join(parts)


def _field_docs(struct: type) -> dict[str, str]:
    """The docstrings below the fields of a class, which Python itself throws away."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(definition, ast.ClassDef)
    reported = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            reported[field.target.id] = " ".join(str(text.value.value).split())
    return reported


_PARTS = (
    messages.Result,
    messages.Model,
    messages.FitTask,
    messages.Fold,
    messages.ClientData,
    messages.Runtime,
    BlockSpec,
    ArraySpec,
)
_EITHER = (messages.Ping, messages.Pong, messages.Fetch)

TABLES: dict[str, Callable[[], str]] = {
    "frames": _frames,
    "layouts": _layouts,
    "client-login": lambda: _steps(auth.CLIENT_LOGIN),
    "server-login": lambda: _steps(auth.SERVER_LOGIN),
    "refusals": _refusals,
    "limits": _limits,
    "either": lambda: "\n\n".join(_struct(one, f"`{one.__struct_config__.tag}`") for one in _EITHER),
    "from-client": lambda: _messages(messages.FromClient, but=_EITHER),
    "from-server": lambda: _messages(messages.FromServer, but=_EITHER),
    "parts": lambda: "\n\n".join(_struct(one, one.__name__) for one in _PARTS),
}
