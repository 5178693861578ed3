"""A job: all that the operator decides. One table of its fields serves flags, questions, job files and settings files.

Reads and checks values; asks nothing and starts nothing. A value is text on the command line, at a question and (after
`str`) in a file, so there is one way to parse it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lanfit.errors import InputError

#: The optimizer or loss that the model was compiled with.
COMPILED = "compiled"

Value = str | int | float | bool | tuple[str, ...] | None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does. `None` means: as the optimizer or the model file has it, or as the machine is (threads)."""

    host: str = "0.0.0.0"
    port: int = 8470
    collect: bool = False
    model: str = ""
    clients: int = 2
    epochs: int = 5
    batch_size: int = 32
    optimizer: str = COMPILED
    loss: str = COMPILED
    data: str = "files"
    normalizer: str = "none"
    method: str = "fit"
    order: str = "XY"
    learning_rate: float | None = None
    metrics: tuple[str, ...] | None = None
    validation_split: float = 0.1
    test_split: float = 0.2
    local: int = 0
    threads: int | None = None
    seed: int = 0
    npz_key: str | None = None


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


NORMALIZER_CHOICES = {"0": "none", "1": "scale", "2": "minmax", "3": "zscore"}
METHOD_CHOICES = {"2": "fit"}
DATA_CHOICES = {"1": "files"}
ORDER_CHOICES = {"XY": "XY", "XX": "XX"}

#: The fields in the order in which they are asked for (see docs/decisions/0002-one-table-of-settings.md).
FIELDS: dict[str, Field] = {
    field.key: field
    for field in (
        Field(
            "host",
            text,
            "The address or name to listen on.",
            "Server IP",
            "0.0.0.0: all interfaces",
        ),
        Field("port", whole(1, 65535), "The TCP port to listen on, from 1 to 65535.", "Port"),
        Field(
            "collect",
            yes_or_no,
            "Train nothing: collect finished models (question 3 answered with n).",
            "Start training? n collects finished models (Y/n)",
        ),
        Field(
            "model",
            text,
            "A file in model/, or a path to one: .h5 or .keras.",
            "Model",
            "the only or newest one in model/",
            "digits.h5",
        ),
        Field(
            "clients",
            whole(1),
            "How many clients take part; local ones count.",
            "Number of clients",
            "2, or as many as --local",
        ),
        Field("epochs", whole(1), "How many epochs each client trains.", "Epochs"),
        Field("batch_size", whole(1), "Rows in a batch.", "Batch size"),
        Field(
            "optimizer",
            text,
            "A Keras optimizer by its name, such as adam or SGD.",
            "Optimizer",
            "the compiled one",
        ),
        Field(
            "loss",
            text,
            "A Keras loss by its name, such as sparse_categorical_crossentropy.",
            "Loss",
            "the compiled one",
        ),
        Field("data", choice(DATA_CHOICES), "Where the data is: 1 files, in dataset/X and dataset/Y.", "Data"),
        Field(
            "normalizer",
            choice(NORMALIZER_CHOICES),
            "How inputs are normalized: 0 none, 1 scale, 2 minmax, 3 zscore.",
            "Normalizer (0 none, 1 scale, 2 minmax, 3 zscore)",
        ),
        Field("method", choice(METHOD_CHOICES), "How clients train: 2 fit.", "Training method (2 fit)"),
        Field(
            "order",
            choice(ORDER_CHOICES, upper=True),
            "XY: inputs from dataset/X, targets from dataset/Y. XX: the target is the normalized input.",
            "Order of input and output (XY, XX)",
        ),
        Field(
            "learning_rate",
            positive,
            "The learning rate, instead of the optimizer's own.",
            default="the optimizer's own",
            example=0.001,
        ),
        Field(
            "metrics",
            names,
            "Keras metrics by their names, such as accuracy,mae.",
            default="the compiled ones",
            example=("accuracy",),
        ),
        Field("validation_split", fraction, "The share of a shard's rows that is kept for validation."),
        Field("test_split", fraction, "The share of all rows that the server keeps for its test."),
        Field("local", whole(0), "How many clients to start on this machine."),
        Field(
            "threads",
            whole(1),
            "Threads of each trainer.",
            default="the machine's cores; for local clients the cores divided by their number",
            example=4,
        ),
        Field(
            "npz_key",
            text,
            "Which array of npz files with several is read: a name, or X_NAME,Y_NAME.",
            default="the only one",
            example="x_train,y_train",
        ),
        Field("seed", whole(0, 2**32 - 1), "The seed that splits, shuffles and initial states derive from."),
    )
}
DEFAULTS = Job()


def default_of(key: str) -> Value:
    """The built-in default of a field; None where the default is not a value but a rule."""
    value: Value = getattr(DEFAULTS, key)
    return None if value == "" else value


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


def make_job(values: Mapping[str, Value]) -> Job:
    """Return the job of these values, built-in defaults for what is left out.

    Raises:
        InputError: values contradict each other.
    """
    job = Job(**{key: value for key, value in values.items() if value is not None})  # type: ignore[arg-type]
    if job.local > job.clients:
        raise InputError(
            f"{job.local} local clients were asked for (--local), but only {job.clients} clients take part (--clients)",
            "local clients count among the clients: raise --clients or lower --local",
        )
    return job


def to_toml(job: Job) -> str:
    """The job as a file that repeats it; fields that are `None` are left out."""
    import tomli_w

    values = {key: value for key, value in msgspec.structs.asdict(job).items() if value is not None}
    document: str = tomli_w.dumps(
        {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    )
    return document


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
