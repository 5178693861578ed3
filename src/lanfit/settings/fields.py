"""One type of field for all settings: as a flag, a question, in a job file or a settings file.

Parses and validates values; asks nothing. A value is text on the command line, at a question and (after `str`) in a
file, so it is parsed in one way. Parsers raise InputError.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanfit.core.encoding import decode_text
from lanfit.core.text import pluralize
from lanfit.errors import InputError, LanfitError, lanfit_error

#: A backslash in double quotes: it starts an escape there, and Windows paths contain them.
_BACKSLASH = re.compile(r'"[^"\n]*\\[^"\n]*"')

Value = str | int | float | bool | tuple[str, ...] | None


def int_range(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a parser of integers from `least` to `most`."""

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
            return lanfit_error("value.not-whole", value=value, least=least)
        return lanfit_error("value.not-whole-in-range", value=value, least=least, most=most)

    return parse


def fraction(text: str) -> float:
    """Parse a fraction of the rows: at least 0 and less than 1."""
    number = _number(text)
    if not 0 <= number < 1:
        raise lanfit_error("value.not-a-share", value=text)
    return number


def share(text: str) -> float:
    """Parse a number of at least 0 and less than 1."""
    number = _number(text)
    if not 0 <= number < 1:
        raise lanfit_error("value.not-below-one", value=text)
    return number


def share_of_clients(text: str) -> float:
    """Parse a fraction above 0 and at most 1."""
    number = _number(text)
    if not 0 < number <= 1:
        raise lanfit_error("value.not-up-to-one", value=text)
    return number


def absences(text: str) -> tuple[str, ...]:
    """Parse names of rounds and shards, both from 1, such as `2:1,2:3`."""
    found = names(text)
    for name in found:
        if not re.fullmatch(r"[1-9][0-9]{0,8}:[1-9][0-9]{0,8}", name):
            raise lanfit_error("value.no-absence", value=name)
    return found


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    number = _number(text)
    if not 0 < number < float("inf"):
        raise lanfit_error("value.not-positive", value=text)
    return number


def samples(text: str) -> int:
    """Parse a number of rows; 0 for `all`."""
    return 0 if text.strip().lower() == "all" else int_range(0)(text)


def duration(unit: str) -> Callable[[str], float]:
    """Return a parser of durations in `unit`: a number, optionally with its own unit, such as `90s`, `10m`, `2h`."""
    seconds = {"s": 1.0, "m": 60.0, "h": 3600.0}

    def parse(text: str) -> float:
        word = text.strip().lower()
        own = seconds.get(word[-1:])
        return positive(word[:-1]) * own / seconds[unit] if own else positive(word)

    return parse


def readable_duration(seconds: float) -> str:
    """Return a duration for people: `40 s`, `5 min`, `4 min 30 s`, `1 h 30 min`."""
    full_seconds = round(seconds)
    hours, minutes, rest = full_seconds // 3600, full_seconds // 60 % 60, full_seconds % 60
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def size(text: str) -> int:
    """Parse a size in bytes: a number with an optional unit, such as `500 MB`, `20 GB`."""
    word = text.strip().upper().removesuffix("B")
    powers = {"K": 1, "M": 2, "G": 3, "T": 4}
    power = powers.get(word[-1:], 0)
    return int(positive(word[:-1] if power else word) * 1000**power)


def _number(text: str) -> float:
    """Return the number, or NaN, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def choice(options: Mapping[str, str], *, upper: bool = False) -> Callable[[str], str]:
    """Return a parser of one of several names; the keys of `options` are numbers that are also accepted."""

    def parse(text: str) -> str:
        word = text.strip().upper() if upper else text.strip().lower()
        if word in options:
            return options[word]
        if word in options.values():
            return word
        listed = ", ".join(f"{key} {name}" if key != name else name for key, name in options.items())
        raise lanfit_error("value.no-choice", value=text, choices=listed, guess=did_you_mean(word, options.values()))

    return parse


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a parser of one of several names without numbers."""
    return choice({name: name for name in names})


def several(options: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of one or more of several names, returned in the order of `options`."""
    one = one_of(options)

    def parse(text: str) -> tuple[str, ...]:
        chosen = {one(name) for name in names(text)}
        return tuple(name for name in options if name in chosen)

    return parse


def yes_or_no(answer: str) -> bool:
    """Parse an answer to a question, or the corresponding TOML value."""
    word = answer.strip().lower()
    if word in ("y", "yes", "true", "1"):
        return True
    if word in ("n", "no", "false", "0"):
        return False
    raise lanfit_error("value.not-yes-or-no", value=answer)


def text(value: str) -> str:
    """Parse any text that is not empty, on one line."""
    if not value.strip():
        raise lanfit_error("value.empty")
    if not value.isprintable():
        raise lanfit_error("value.control-character", value=repr(value))
    return value.strip()


def names(value: str) -> tuple[str, ...]:
    """Parse names separated by commas or spaces."""
    found = tuple(value.replace(",", " ").split())
    if not found:
        raise lanfit_error("value.empty")
    return found


def array_names(value: str) -> tuple[str, ...]:
    """Parse names of arrays separated by commas; a name may contain spaces."""
    found = tuple(text(part) for part in value.split(","))
    if len(set(found)) < len(found):
        raise lanfit_error("value.twice", value=value)
    return found


def paths(value: str) -> tuple[str, ...]:
    """Parse paths separated by commas."""
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    if not found:
        raise lanfit_error("value.empty")
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean …?)`, or nothing if no known word is similar."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def text_of(raw: object) -> str:
    """Return a value as it would be typed; a list has commas.

    Raises:
        InputError: it is an integer that is too long for Python to write. TOML has hexadecimal ones of any length.
    """
    if isinstance(raw, list | tuple):
        return ",".join(map(text_of, raw))
    try:
        return str(raw)
    except ValueError:
        raise lanfit_error("value.too-many-digits") from None


@dataclass(frozen=True)
class Field:
    """One field of a job: how it is asked, parsed and explained."""

    key: str
    parse: Callable[[str], Value]
    help: str
    question: str = ""
    """Empty: never asked."""
    default: str = ""
    """The default in words, if the value itself does not express it."""
    example: Value = None
    """The value that a settings file shows if the default is a rule."""
    bare: str = ""
    """The value of the flag without an argument; empty: it needs one."""
    alias: str = ""
    """Another name of the flag; the key has none."""

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    def read(self, raw: object, where: str) -> Value:
        """Return the value of `raw`.

        Raises:
            InputError: it is invalid; the message begins with `where`.
        """
        try:
            return self.parse(text_of(raw))
        except InputError as error:
            raise error.at(where, self.help) from None


def read_file(path: Path, kind: str, known: Mapping[str, Field]) -> dict[str, Value]:
    """Read a job or settings file and report all its errors at once.

    Raises:
        InputError: the file is missing, is not valid TOML, or has unknown keys or invalid values.
    """
    kind = f"{kind} {path}"
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would wait for a writer
            raise lanfit_error("settings.unreadable", kind=kind, reason="it is a pipe or a device, not a regular file")
        return read_toml(decode_text(path.read_bytes()), kind, known)
    except FileNotFoundError:
        raise lanfit_error("settings.missing", kind=kind) from None
    except UnicodeDecodeError:
        raise lanfit_error("settings.not-utf8", kind=kind) from None
    except OSError as error:
        raise lanfit_error("settings.unreadable", kind=kind, reason=error.strerror or error) from None


def read_toml(document_text: str, kind: str, known: Mapping[str, Field]) -> dict[str, Value]:
    """Parse the text of a job or settings file; `kind` names the file in errors.

    Raises:
        InputError: it is not valid TOML, or has unknown keys or invalid values; all of them are listed.
    """
    try:
        document: dict[str, Any] = tomllib.loads(document_text)
    except tomllib.TOMLDecodeError as wrong:
        if _BACKSLASH.search(document_text):
            raise lanfit_error("settings.backslash", kind=kind, reason=wrong) from None
        raise lanfit_error("settings.not-toml", kind=kind, reason=wrong) from None
    except RecursionError:
        raise lanfit_error("settings.not-toml", kind=kind, reason="the brackets are nested too deeply") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise lanfit_error("settings.not-toml", kind=kind, reason="a number has thousands of digits") from None
    values: dict[str, Value] = {}
    errors: list[LanfitError] = []
    for key, raw in document.items():
        if key == "passphrase":
            errors.append(lanfit_error("settings.passphrase"))
        elif key not in known:
            errors.append(lanfit_error("settings.unknown-key", key=key, guess=did_you_mean(key, known)))
        elif isinstance(raw, dict):
            errors.append(lanfit_error("settings.table", key=key))
        else:
            try:
                values[key] = known[key].read(raw, key)
            except InputError as wrong:
                errors.append(wrong)
    if errors:
        listed = "".join(f"\n  - {error.message}. {error.hint}" for error in errors)
        raise lanfit_error("settings.wrong", count=pluralize(len(errors), "error"), kind=kind, errors=listed)
    return values


def commented(title: str, fields: Iterable[Field], default: Callable[[Field], Value]) -> str:
    """Return a settings file with every setting commented out, at its default.

    Args:
        title: the comment at its top.
        default: the built-in default of a field; None if it is a rule: then an example is shown.
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
