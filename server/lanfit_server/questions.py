"""The server's answers: from flags, the job file, or questions in the contract's order. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lanfit import waits
from lanfit.errors import InputError
from lanfit.fields import Field, Value, commented, yes_or_no
from lanfit.job import FIELDS, default_of
from lanfit.mistakes import mistake
from lanfit.models.model_file import is_model_name
from lanfit.passphrase import PASSPHRASE_VARIABLE, given_passphrase
from lanfit.terminal import Terminal
from lanfit.workspace import Workspace

#: What server.toml may hold.
SETTINGS: Mapping[str, Field] = {**FIELDS, **waits.OF_SERVER}
TITLE = """Settings of `python server` on this machine. A line without its # becomes the default of a question or
flag: it does not answer it, and a flag or a job file still wins."""


def settings_file() -> str:
    """The text of server/server.toml."""
    return commented(TITLE, SETTINGS.values(), lambda field: default_of(field.key) if field.key in FIELDS else None)


class Answers:
    """Asks for what flags and the job file have not said.

    Args:
        given: values of flags and of the job file: what they answer is not asked.
        settings: values of server.toml: they become defaults of questions.
    """

    def __init__(self, terminal: Terminal, given: Mapping[str, Value], settings: Mapping[str, Value]) -> None:
        self._terminal = terminal
        self._given = given
        self._settings = settings

    def given(self, key: str) -> Value:
        """What was said without asking: by a flag, by the job file, or for what is never asked by server.toml."""
        return self._given.get(key) if FIELDS[key].question else self.unasked(key)

    def unasked(self, key: str) -> Value:
        """What was said, or stands in server.toml, for a question that this job does not ask."""
        value = self._given.get(key)
        return self._settings.get(key) if value is None else value

    def was_given(self, key: str) -> bool:
        """Whether a flag or the job file has said it."""
        return self._given.get(key) is not None

    def ask(
        self,
        key: str,
        check: Callable[[Value], object] = lambda value: None,
        *,
        default: Value = None,
        shown_default: str = "",
    ) -> Value:
        """Return the value of a field: given, or asked for.

        Args:
            check: raises InputError for a value that is well formed but wrong.
            default: instead of the built-in default.
            shown_default: what to show for it.

        Raises:
            InputError: what was given is wrong, or the question could not be answered.
        """
        field = FIELDS[key]
        given = self._given.get(key)
        if given is not None:
            check(given)
            return given
        if (setting := self._settings.get(key)) is not None:
            default, shown_default = setting, ""
        elif default is None:
            default = default_of(key)

        def accept(text: str) -> Value:
            value = default if text == _DEFAULT else field.read(text, f"{field.question} ({field.flag})")
            check(value)
            return value

        return self._terminal.ask(
            field.question,
            field.flag,
            accept,
            default=None if default is None and not shown_default else _DEFAULT,
            shown_default=shown_default or _shown(default),
        )

    def start_training(self) -> bool:
        """Question 3, whose answers are the other way round: n is `collect`."""
        if (given := self._given.get("collect")) is not None:
            return not given
        field = FIELDS["collect"]
        default = "n" if self._settings.get("collect") else "Y"

        def accept(text: str) -> bool:
            try:
                return yes_or_no(text)
            except InputError as wrong:
                raise wrong.at(f"{field.question} ({field.flag})") from None

        return self._terminal.ask(field.question, field.flag, accept, default=default)

    def passphrase(self, file: Path | None, host: str, make: Callable[[], str], *, keep: bool) -> str | None:
        """Question 6: the passphrase, or None to keep the one of the unfinished run.

        Args:
            make: makes one of four words.
            keep: whether an unfinished run has one that can be kept.

        Raises:
            InputError: the file can't be read, or the passphrase is too easy for a LAN.
        """
        from lanfit_server.passphrase import check_passphrase

        def accept(text: str) -> str:
            check_passphrase(text, host)
            return text

        if (given := given_passphrase(file)) is not None:
            return accept(given)
        shown = "as in the unfinished run" if keep else "four words are made"
        flag = f"--passphrase-file or {PASSPHRASE_VARIABLE}"

        answer = self._terminal.ask(
            "Passphrase",
            flag,
            lambda text: None if text == _DEFAULT else accept(text),
            default=_DEFAULT,
            shown_default=shown,
            secret=True,
        )
        if answer is not None and self._terminal.interactive and not self._terminal.take_defaults:
            # Asking twice would be one question more for whoever answers them by a program at a terminal.
            self._terminal.say("It was not shown; after the last question p and Enter shows it.")
        if answer is not None or keep:
            return answer
        made = make()
        self._terminal.say(f"The passphrase is: {made}")
        return made


#: Stands for an empty answer; nobody can type it.
_DEFAULT = "\0default"


def _shown(value: Value) -> str:
    return ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)


def find_model(workspace: Workspace, name: str) -> Path:
    """The model file that an answer names: a file in `model/`, or a path.

    Raises:
        InputError: there is none.
    """
    for path in (workspace.models / name, workspace.root / name, Path(name).expanduser()):
        if path.is_file() or (path / "saved_model.pb").is_file():  # a SavedModel, which is refused as that
            return path
    folder = workspace.relative(workspace.models)
    if not name:
        raise mistake("model.none", folder=folder)
    found = ", ".join(path.name for path in models_in(workspace)) or "no model at all"
    raise mistake("model.not-found", name=name, folder=folder, found=found)


def models_in(workspace: Workspace) -> list[Path]:
    """The model files of a workspace, newest first; of equal age by name."""
    found = [path for path in workspace.models.glob("*") if is_model_name(path.name) and path.is_file()]
    return sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))
