"""One kind of field for all that can be told to lanfit: as a flag, at a question, in a job file or a settings file.

Reads and checks values; asks nothing. A value is text on the command line, at a question and (after `str`) in a file,
so there is one way to parse it. Parsers raise InputError.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanfit.encoding import decode_text
from lanfit.errors import InputError, LanfitError
from lanfit.mistakes import mistake
from lanfit.text import pluralize

#: A backslash between double quotes: there it begins an escape, and paths of Windows are written so.
_BACKSLASH = re.compile(r'"[^"\n]*\\[^"\n]*"')

Value = str | int | float | bool | tuple[str, ...] | None


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise wrong(text) from None
        if number < least or (most is not None and number > most):
            raise wrong(number)
        return number

    def wrong(value: str | int) -> LanfitError:
        if most is None:
            return mistake("value.not-whole", value=value, least=least)
        return mistake("value.not-whole-in-range", value=value, least=least, most=most)

    return parse


def fraction(text: str) -> float:
    """A share of the rows: 0 or more, less than 1."""
    number = _number(text)
    if not 0 <= number < 1:
        raise mistake("value.not-a-share", value=text)
    return number


def share(text: str) -> float:
    """A number from 0 to less than 1."""
    number = _number(text)
    if not 0 <= number < 1:
        raise mistake("value.not-below-one", value=text)
    return number


def share_of_clients(text: str) -> float:
    """A number above 0, and 1 at most."""
    number = _number(text)
    if not 0 < number <= 1:
        raise mistake("value.not-up-to-one", value=text)
    return number


def absences(text: str) -> tuple[str, ...]:
    """Names of rounds and shards, both from 1, such as `2:1,2:3`."""
    found = names(text)
    for name in found:
        if not re.fullmatch(r"[1-9][0-9]{0,8}:[1-9][0-9]{0,8}", name):
            raise mistake("value.no-absence", value=name)
    return found


def positive(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0 < number < float("inf"):
        raise mistake("value.not-positive", value=text)
    return number


def samples(text: str) -> int:
    """A number of rows; 0 for `all` of them."""
    return 0 if text.strip().lower() == "all" else whole(0)(text)


def duration(unit: str) -> Callable[[str], float]:
    """A parser of times in `unit`: a number, or one with a unit of its own, as in `90s`, `10m`, `2h`."""
    seconds = {"s": 1.0, "m": 60.0, "h": 3600.0}

    def parse(text: str) -> float:
        word = text.strip().lower()
        own = seconds.get(word[-1:])
        return positive(word[:-1]) * own / seconds[unit] if own else positive(word)

    return parse


def readable_duration(seconds: float) -> str:
    """A time for people: `40 s`, `5 min`, `4 min 30 s`, `1 h 30 min`."""
    whole_seconds = round(seconds)
    hours, minutes, rest = whole_seconds // 3600, whole_seconds // 60 % 60, whole_seconds % 60
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def size(text: str) -> int:
    """Bytes: a number with its unit, as in `500 MB`, `20 GB`, or without one."""
    word = text.strip().upper().removesuffix("B")
    powers = {"K": 1, "M": 2, "G": 3, "T": 4}
    power = powers.get(word[-1:], 0)
    return int(positive(word[:-1] if power else word) * 1000**power)


def _number(text: str) -> float:
    """The number, or NaN, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def choice(options: Mapping[str, str], *, upper: bool = False) -> Callable[[str], str]:
    """A parser of one of some words; the keys of `options` are the numbers that are answers, too."""

    def parse(text: str) -> str:
        word = text.strip().upper() if upper else text.strip().lower()
        if word in options:
            return options[word]
        if word in options.values():
            return word
        listed = ", ".join(f"{key} {name}" if key != name else name for key, name in options.items())
        raise mistake("value.no-choice", value=text, choices=listed, guess=did_you_mean(word, options.values()))

    return parse


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """A parser of one of some words that have no numbers."""
    return choice({name: name for name in names})


def several(options: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of one or more of some words, returned in the order of `options`."""
    one = one_of(options)

    def parse(text: str) -> tuple[str, ...]:
        chosen = {one(name) for name in names(text)}
        return tuple(name for name in options if name in chosen)

    return parse


def yes_or_no(answer: str) -> bool:
    """An answer to a question, or what TOML has for it."""
    word = answer.strip().lower()
    if word in ("y", "yes", "true", "1"):
        return True
    if word in ("n", "no", "false", "0"):
        return False
    raise mistake("value.not-yes-or-no", value=answer)


def text(value: str) -> str:
    """Any text but an empty one, in one line."""
    if not value.strip():
        raise mistake("value.empty")
    if not value.isprintable():
        raise mistake("value.control-character", value=repr(value))
    return value.strip()


def names(value: str) -> tuple[str, ...]:
    """Names with commas or spaces between them."""
    found = tuple(value.replace(",", " ").split())
    if not found:
        raise mistake("value.empty")
    return found


def paths(value: str) -> tuple[str, ...]:
    """Paths with commas between them."""
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    if not found:
        raise mistake("value.empty")
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing when no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(frozen=True)
class Field:
    """One field of a job: how it is asked for, read and explained."""

    key: str
    parse: Callable[[str], Value]
    help: str
    question: str = ""
    """Empty: never asked."""
    default: str = ""
    """The default in words, where the value alone does not say it."""
    example: Value = None
    """What a settings file shows where the default is a rule and not a value."""
    bare: str = ""
    """What the flag means when it is given without a value; empty: it needs one."""

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    def read(self, raw: object, where: str) -> Value:
        """Return the value of `raw`.

        Raises:
            InputError: it is none; the message begins with `where`.
        """
        raw_text = ",".join(map(str, raw)) if isinstance(raw, list | tuple) else str(raw)
        try:
            return self.parse(raw_text)
        except InputError as wrong:
            raise wrong.at(where, self.help) from None


def read_file(path: Path, kind: str, known: Mapping[str, Field]) -> dict[str, Value]:
    """Read a job or settings file and name all that is wrong with it at once.

    Raises:
        InputError: the file is missing, is no TOML, or has unknown keys or wrong values.
    """
    kind = f"{kind} {path}"
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # to open a pipe waits for who writes into it
            raise mistake("settings.unreadable", kind=kind, reason="it is a pipe or a device, no file")
        return read_toml(decode_text(path.read_bytes()), kind, known)
    except FileNotFoundError:
        raise mistake("settings.missing", kind=kind) from None
    except UnicodeDecodeError:
        raise mistake("settings.not-utf8", kind=kind) from None
    except OSError as wrong:
        raise mistake("settings.unreadable", kind=kind, reason=wrong.strerror or wrong) from None


def read_toml(document_text: str, kind: str, known: Mapping[str, Field]) -> dict[str, Value]:
    """Read the text of a job or settings file; `kind` says in errors which file it is of.

    Raises:
        InputError: it is no TOML, or has unknown keys or wrong values; all of them are named.
    """
    try:
        document: dict[str, Any] = tomllib.loads(document_text)
    except tomllib.TOMLDecodeError as wrong:
        if _BACKSLASH.search(document_text):
            raise mistake("settings.backslash", kind=kind, reason=wrong) from None
        raise mistake("settings.not-toml", kind=kind, reason=wrong) from None
    except RecursionError:
        raise mistake("settings.not-toml", kind=kind, reason="its brackets are nested too deep") from None
    values: dict[str, Value] = {}
    errors: list[LanfitError] = []
    for key, raw in document.items():
        if key == "passphrase":
            errors.append(mistake("settings.passphrase"))
        elif key not in known:
            errors.append(mistake("settings.unknown-key", key=key, guess=did_you_mean(key, known)))
        elif isinstance(raw, dict):
            errors.append(mistake("settings.table", key=key))
        else:
            try:
                values[key] = known[key].read(raw, key)
            except InputError as wrong:
                errors.append(wrong)
    if errors:
        listed = "".join(f"\n  - {error.message}. {error.hint}" for error in errors)
        raise mistake("settings.wrong", count=pluralize(len(errors), "error"), kind=kind, errors=listed)
    return values


def commented(title: str, fields: Iterable[Field], default: Callable[[Field], Value]) -> str:
    """A settings file with every setting commented out, at its default.

    Args:
        title: the comment at its top.
        default: the built-in default of a field; None where it is a rule: then an example is shown.
    """
    lines = [f"# {line}".rstrip() for line in title.splitlines()]
    for field in fields:
        value = default(field)
        lines += ["", f"# {field.help}" + (f" Default: {field.default}." if field.default else "")]
        lines.append(f"#{field.key} = {_toml_value(field.example if value is None else value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Value) -> str:
    match value:
        case tuple():
            return "[" + ", ".join(f'"{name}"' for name in value) + "]"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case _:
            return str(value)
