"""One kind of field for all that can be told to lanfit: as a flag, at a question, in a job file or a settings file.

Reads and checks values; asks nothing. A value is text on the command line, at a question and (after `str`) in a file,
so there is one way to parse it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanfit.errors import InputError

Value = str | int | float | bool | tuple[str, ...] | None


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`."""
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not {wanted}") from None
        if number < least or (most is not None and number > most):
            raise ValueError(f"{number} is not {wanted}")
        return number

    return parse


def fraction(text: str) -> float:
    """A share of the rows: 0 or more, less than 1."""
    wanted = "a share of the rows: 0 or more, less than 1, as in 0.2"
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {wanted}") from None
    if not 0 <= number < 1:
        raise ValueError(f"{text} is not {wanted}")
    return number


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number above 0") from None
    if not 0 < number < float("inf"):
        raise ValueError(f"{text} is not a number above 0")
    return number


def samples(text: str) -> int:
    """A number of rows; 0 for `all` of them."""
    return 0 if text.strip().lower() == "all" else whole(0)(text)


def minutes(text: str) -> float:
    """A time: a number of minutes, or one with its unit, as in `90s`, `10m`, `2h`."""
    word = text.strip().lower()
    units = {"s": 1 / 60, "m": 1.0, "h": 60.0}
    unit = units.get(word[-1:], 0.0)
    return positive(word[:-1]) * unit if unit else positive(word)


def choice(options: Mapping[str, str], *, upper: bool = False) -> Callable[[str], str]:
    """A parser of one of some words; the keys of `options` are the numbers that are answers, too."""

    def parse(text: str) -> str:
        word = text.strip().upper() if upper else text.strip().lower()
        if word in options:
            return options[word]
        if word in options.values():
            return word
        listed = ", ".join(f"{key} {name}" if key != name else name for key, name in options.items())
        raise ValueError(f"{text!r} is not one of: {listed}{did_you_mean(word, options.values())}")

    return parse


def several(options: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of one or more of some words, returned in the order of `options`."""
    one = choice({name: name for name in options})

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
    raise ValueError(f"{answer!r} is neither Y nor n")


def text(value: str) -> str:
    """Any text but an empty one."""
    if not value.strip():
        raise ValueError("it is empty")
    return value.strip()


def names(value: str) -> tuple[str, ...]:
    """Names with commas or spaces between them."""
    found = tuple(value.replace(",", " ").split())
    if not found:
        raise ValueError("it is empty")
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
        except ValueError as wrong:
            raise InputError(f"{where}: {wrong}", self.help) from None


def read_file(path: Path, kind: str, known: Mapping[str, Field]) -> dict[str, Value]:
    """Read a job or settings file and name all that is wrong with it at once.

    Raises:
        InputError: the file is missing, is no TOML, or has unknown keys or wrong values.
    """
    try:
        return read_toml(path.read_bytes().decode("utf-8-sig"), f"{kind} {path}", known)
    except FileNotFoundError:
        raise InputError(f"there is no {kind} {path}", "check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"the {kind} {path} is not UTF-8 text", "save it as UTF-8") from None
    except OSError as wrong:
        raise InputError(f"the {kind} {path} can't be read: {wrong.strerror or wrong}", "check the path") from None


def read_toml(document_text: str, kind: str, known: Mapping[str, Field]) -> dict[str, Value]:
    """Read the text of a job or settings file; `kind` says in errors which file it is of.

    Raises:
        InputError: it is no TOML, or has unknown keys or wrong values; all of them are named.
    """
    try:
        document: dict[str, Any] = tomllib.loads(document_text)
    except tomllib.TOMLDecodeError as wrong:
        raise InputError(f"the {kind} is no TOML: {wrong}", "one `key = value` a line, text in quotes") from None
    values: dict[str, Value] = {}
    errors: list[str] = []
    for key, raw in document.items():
        if key == "passphrase":
            errors.append(f"a passphrase never stands in a {kind}; use --passphrase-file or LANFIT_PASSPHRASE")
        elif key not in known:
            errors.append(f"{key} is no key of a {kind}{did_you_mean(key, known)}")
        elif isinstance(raw, dict):
            errors.append(f"{key}: a table is not a value")
        else:
            try:
                values[key] = known[key].read(raw, key)
            except InputError as wrong:
                errors.append(wrong.message)
    if errors:
        count = f"{len(errors)} errors" if len(errors) > 1 else "an error"
        listed = "".join(f"\n  - {error}" for error in errors)
        raise InputError(f"{count} in the {kind}:{listed}", "correct the file and start again; nothing was changed")
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
