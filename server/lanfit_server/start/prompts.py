"""The server's answers: from flags, the job file, or questions in the documented order. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lanfit.core.passphrase import PASSPHRASE_VARIABLE, given_passphrase
from lanfit.core.terminal import Terminal
from lanfit.errors import InputError
from lanfit.settings import timeouts
from lanfit.settings.fields import Field, Value, commented, yes_or_no
from lanfit.settings.job import FIELDS, default_of
from lanfit_server.start.page_settings import PAGE

#: The keys that server.toml may contain.
SETTINGS: Mapping[str, Field] = {**FIELDS, **timeouts.OF_SERVER, **PAGE}
TITLE = """Settings of `python server` on this machine. Remove the # of a line to set the default of a question or
flag: the question is still asked, and a flag or a job file takes precedence."""


def settings_file() -> str:
    """Return the text of server/server.toml."""
    return commented(TITLE, SETTINGS.values(), lambda field: default_of(field.key) if field.key in FIELDS else None)


class Answers:
    """Asks for settings that flags and the job file do not give.

    Args:
        given: values of flags and of the job file: their questions are not asked.
        settings: values of server.toml: they become defaults of questions.
    """

    def __init__(self, terminal: Terminal, given: Mapping[str, Value], settings: Mapping[str, Value]) -> None:
        self._terminal = terminal
        self._given = given
        self._settings = settings

    def given(self, key: str) -> Value:
        """Return the values given without asking: by a flag, the job file or, for fields without a question,
        server.toml."""
        return self._given.get(key) if FIELDS[key].question else self.unasked(key)

    def unasked(self, key: str) -> Value:
        """Return the value given, or set in server.toml, for a question that this job does not ask."""
        value = self._given.get(key)
        return self._settings.get(key) if value is None else value

    def was_given(self, key: str) -> bool:
        """Return whether a flag or the job file gives it."""
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
            check: raises InputError for a value that is well-formed but invalid.
            default: instead of the built-in default.
            shown_default: the text to show for it.

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
        """Question 3, whose answers are inverted: n is `collect`."""
        if (given := self._given.get("collect")) is not None:
            return not given
        field = FIELDS["collect"]
        default = "n" if self._settings.get("collect") else "Y"

        def accept(text: str) -> bool:
            try:
                return yes_or_no(text)
            except InputError as error:
                raise error.at(f"{field.question} ({field.flag})") from None

        return self._terminal.ask(field.question, field.flag, accept, default=default)

    def passphrase(self, file: Path | None, host: str, make: Callable[[], str], *, keep: bool) -> str | None:
        """Question 6: return the passphrase, or None to keep the one of the unfinished run.

        Args:
            make: generates one of four words.
            keep: whether an unfinished run has one that can be kept.

        Raises:
            InputError: the file can't be read, or the passphrase is too easy for a LAN.
        """
        from lanfit_server.start.passphrase import check_passphrase

        def accept(text: str) -> str:
            check_passphrase(text, host)
            return text

        if (given := given_passphrase(file)) is not None:
            return accept(given)
        shown = "as in the unfinished run" if keep else "four random words"
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
            # Asking twice would be one more question for programs that answer them at a terminal.
            self._terminal.log("It was not shown; type p and press Enter after the last question to show it.")
        if answer is not None or keep:
            return answer
        made = make()
        self._terminal.log(f"The passphrase is: {made}")
        return made


#: Represents an empty answer; it can't be typed.
_DEFAULT = "\0default"


def _shown(value: Value) -> str:
    return ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
