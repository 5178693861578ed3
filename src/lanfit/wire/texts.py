"""Text in messages: every field of every message declares a kind, which is enforced once for text from a peer.

`cleaner_of(type)` derives from the annotations of a message how it is processed after decoding: text for people is
sanitized and truncated; a name that becomes a key or part of a path is never changed, but rejected by its pattern
during decoding. A field of type `str` without a kind is an error when the first message of that type is decoded; a test
checks all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import inspect

from lanfit.core.text import HOSTILE, LINE_ENDS, sanitize, sanitize_lines
from lanfit.wire.figures import LONGEST_NAME, VALIDATION

_KIND = "lanfit text"
_LINE, _LINES, _DATA = "line", "lines", "data"

# --- for people: sanitized and cut ------------------------------------------------------------------------------

#: A few words, such as a version or a state.
ShortText = Annotated[str, msgspec.Meta(extra={_KIND: (_LINE, 100)})]
#: One or two sentences on one line.
Line = Annotated[str, msgspec.Meta(extra={_KIND: (_LINE, 1000)})]
#: Several lines, as in a log; every further line is marked.
Lines = Annotated[str, msgspec.Meta(extra={_KIND: (_LINES, 8000)})]

# --- parts of paths, and keys: refused ---------------------------------------------------------------------------

#: The name of a run, a task or a client, which becomes part of file names: a name that no system interprets as
#: another folder, a hidden file or a device. Anchored by \Z: `$` would allow a trailing line break.
Label = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?![.-])(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z))[A-Za-z0-9._-]{1,64}(?<!\.)\Z",
    ),
]
#: The same, or empty: there is no run yet.
OptionalLabel = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?![.-])(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z))(?:[A-Za-z0-9._-]{1,64}(?<!\.))?\Z",
    ),
]
#: A word defined by lanfit, such as the name of a normalizer or an error, or empty.
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{0,80}\Z")]
#: The name of a metric: see lanfit.wire.figures.
FigureName = Annotated[
    str, msgspec.Meta(pattern=rf"^[^{HOSTILE}{LINE_ENDS}\t]{{1,{LONGEST_NAME + len(VALIDATION)}}}\Z")
]
#: A block's id: the hex SHA-256 of its bytes.
BlockId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
#: The name of a file without a folder.
FileName = Annotated[str, msgspec.Meta(pattern=rf"^[^/\\{HOSTILE}{LINE_ENDS}\t]{{1,100}}\Z")]

# --- for programs: neither shown as it is nor part of a path -----------------------------------------------------

#: JSON, or a name that is only compared with names on this side.
Data = Annotated[str, msgspec.Meta(extra={_KIND: (_DATA, 0)})]

Figures = dict[FigureName, float]

Cleaner = Callable[[Any], Any]


@cache
def cleaner_of(message: type[msgspec.Struct]) -> Cleaner | None:
    """Return the function that makes a decoded message safe to show; None if it contains nothing to sanitize.

    Raises:
        TypeError: a text field has no kind, or has a type that is not supported here.
    """
    return _cleaner(inspect.type_info(message), message.__name__)


def clean(message: msgspec.Struct) -> Any:
    """Return a decoded message with all its text for people sanitized and truncated."""
    cleaner = cleaner_of(type(message))
    return message if cleaner is None else cleaner(message)


def _cleaner(kind: inspect.Type, where: str) -> Cleaner | None:
    """Return the function for values of a type; None for no change."""
    match kind:
        case inspect.Metadata(type=inspect.StrType(), extra={"lanfit text": (how, limit)}):
            return _of_text(str(how), int(limit))
        case inspect.Metadata(type=inner):
            return _cleaner(inner, where)
        case inspect.StrType(pattern=str()):
            return None
        case inspect.StrType():
            raise TypeError(f"{where} is text of no kind: see lanfit.wire.texts")
        case inspect.VarTupleType(item_type=item):
            return _of_items(_cleaner(item, where))
        case inspect.TupleType(item_types=items):
            if any(_cleaner(item, where) for item in items):
                raise TypeError(f"{where}: text in a tuple of several types is not known here")
            return None
        case inspect.DictType(key_type=key, value_type=value):
            if _cleaner(key, where) or _cleaner(value, where):
                raise TypeError(f"{where}: keys are never changed, and values of text are not known here")
            return None
        case inspect.UnionType(types=types):
            cleaners = [found for each in types if (found := _cleaner(each, where)) is not None]
            if len(cleaners) > 1:
                raise TypeError(f"{where} can be text of several kinds")
            return _if_any(cleaners[0]) if cleaners else None
        case inspect.StructType(cls=cls, fields=fields):
            of_fields = {each.name: _cleaner(each.type, f"{where}.{each.name}") for each in fields}
            return _of_struct(cls, {name: cleaner for name, cleaner in of_fields.items() if cleaner is not None})
        case inspect.IntType() | inspect.FloatType() | inspect.BoolType() | inspect.NoneType():
            return None
        case inspect.LiteralType() | inspect.BytesType():
            return None
        case _:
            raise TypeError(f"{where} is of the type {type(kind).__name__}, which is not known here")


def _of_text(how: str, limit: int) -> Cleaner | None:
    if how == _DATA:
        return None
    sanitizer = sanitize if how == _LINE else sanitize_lines
    return lambda text: sanitizer(text, limit)


def _of_items(cleaner: Cleaner | None) -> Cleaner | None:
    return None if cleaner is None else lambda items: tuple(cleaner(item) for item in items)


def _if_any(cleaner: Cleaner) -> Cleaner:
    return lambda value: None if value is None else cleaner(value)


def _of_struct(cls: type, cleaners: dict[str, Cleaner]) -> Cleaner | None:
    if not cleaners:
        return None

    def of_struct(value: Any) -> Any:
        return msgspec.structs.replace(value, **{name: each(getattr(value, name)) for name, each in cleaners.items()})

    return of_struct
