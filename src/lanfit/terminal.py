"""Asking and telling: questions from a terminal or from piped lines, talk on stderr. Decides nothing about answers.

Everything that a program says while it runs goes through one `Terminal`, from whatever thread: so no line is written
into a question that is open, nor into the lines at the bottom that are kept up to date (a table, a progress bar).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, TypeVar

from lanfit.errors import InputError, LanfitError
from lanfit.mistakes import mistake
from lanfit.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

T = TypeVar("T")
#: How often who waits for what is typed looks whether it is still to wait, in seconds.
LOOK_SECONDS = 0.2
#: Draws what is kept up to date: from the width and height of the terminal to lines, each with its rich style.
Draw = Callable[[int, int], Sequence[tuple[str, str]]]
#: How often that is drawn anew, in a second.
REDRAWS = 4
#: Terminals that can't move their cursor: lines follow each other there, as in a pipe.
_PLAIN = ("dumb", "unknown")

log = logging.getLogger(__name__)


class Terminal:
    """Where questions are asked and things are told.

    At a terminal a wrong answer is explained and asked again. Otherwise answers come line by line from standard input,
    and a wrong one ends the program.
    """

    def __init__(
        self, answers: TextIO | None = None, talk: TextIO | None = None, *, take_defaults: bool = False
    ) -> None:
        self._answers = answers or sys.stdin
        self._talk = talk or sys.stderr
        self.take_defaults = take_defaults
        self.interactive = self._answers is not None and self._answers.isatty()
        self._lock = threading.RLock()
        self._asker: int | None = None
        """The thread that waits for an answer."""
        self._held: list[str] = []
        self._area: _Area | None = None

    @property
    def stream(self) -> TextIO:
        """Where people read: for what is laid out for its width."""
        return self._talk

    @property
    def draws(self) -> bool:
        """Whether lines can be kept up to date here."""
        return self._talk.isatty() and os.environ.get("TERM") not in _PLAIN

    # --- telling ------------------------------------------------------------------------------------------------

    def say(self, text: str = "") -> None:
        """Print a line for people, from any thread; while a question is open, once it is answered."""
        with self._lock:
            if self._asker is not None and self._asker != threading.get_ident():
                self._held.append(text)
            else:
                self._print(text)

    def detail(self, text: str) -> None:
        """Print a line about what a progress bar or a table shows in its own way, unless one is there."""
        if self._area is None:
            self.say(text)

    def say_now(self, text: str) -> None:
        """Print a line that a question that is open can't keep back, such as why its answer will be of no use."""
        with self._lock:
            if self._asker is not None and self._asker != threading.get_ident():
                text = f"\n{text}"  # below the question, and what is typed already
            self._print(text)

    def _print(self, text: str) -> None:
        text = printable(text)
        if self._area is not None and self._area.is_shown:
            self._area.print_above(text)
        else:
            print(text, file=self._talk, flush=True)

    @contextlib.contextmanager
    def area(self, draw: Draw) -> Iterator[None]:
        """Keep the lines that `draw` gives at the bottom inside this block, if this is a terminal; then they are gone.

        `draw` is called from a thread of its own, and must not say anything.
        """
        if not self.draws:
            yield
            return
        area = _Area(self._talk, draw, self._answers if self.interactive else None)
        with self._lock:
            earlier, self._area = self._area, area
            area.show()
        try:
            yield
        finally:
            with self._lock:
                area.hide()
                self._area = earlier

    def take_logs(self) -> Terminal:
        """Let warnings that no log file takes go through here, as what is said does; returns this terminal."""
        logging.lastResort = _Logs(self)
        return self

    # --- asking -------------------------------------------------------------------------------------------------

    def explain(self, wrong: LanfitError) -> None:
        """Print an error that does not end the program, and what to do about it."""
        self.say(f"  {wrong.message}" + (f"\n  → {wrong.hint}" if wrong.hint else ""))

    def ask(
        self,
        question: str,
        flag: str,
        accept: Callable[[str], T],
        *,
        default: str | None,
        shown_default: str = "",
        example: str = "",
        secret: bool = False,
    ) -> T:
        """Ask until `accept` returns for an answer; an empty answer is the default.

        Args:
            question: what is asked, without a colon.
            flag: what answers it on the command line; named in errors.
            accept: makes a value of the answer or raises InputError.
            default: the text that an empty answer stands for; None when there is none.
            shown_default: what to show as the default, where that is not the text itself.
            example: an answer, for who gives none.
            secret: do not echo what is typed.

        Raises:
            InputError: the input ended, or, when it is no terminal, the answer was wrong.
        """
        hint = shown_default or default or ""
        prompt = f"{question} [{hint}]: " if hint else f"{question}: "
        while True:
            if self.take_defaults:
                answer = ""
            else:
                line = self._read_line(prompt, secret)
                if not line:
                    raise mistake("question.input-ended", question=question, flag=flag)
                answer = line.strip("\r\n") if secret else line.strip()
            if not answer:
                if default is None:
                    if self.take_defaults or not self.interactive:
                        raise mistake("question.no-default", question=question, flag=flag)
                    self.explain(
                        mistake("question.empty", question=question, example=example and f", as in {example},")
                    )
                    continue
                answer = default
            try:
                return accept(answer)
            except InputError as wrong:
                self._explain_or_raise(wrong)

    @contextlib.contextmanager
    def on_enter(
        self, call: Callable[[], None], keys: Mapping[str, Callable[[], None]] | None = None
    ) -> Iterator[bool]:
        """Call this, in a thread, each time that Enter is pressed inside this block; yields whether that is possible.

        Args:
            keys: what is called instead when this is typed before Enter.

        It is at a terminal only. Nothing is read before the block and nothing after it, so no answer is lost; what was
        typed before the block is thrown away, because it can't be meant.
        """
        if not self.interactive:
            yield False
            return
        over = threading.Event()

        def typed(line: str) -> None:
            (keys or {}).get(line.strip().lower(), call)()

        with _no_echo(self._answers):
            watching = threading.Thread(target=_watch, args=(self._answers.fileno(), typed, over), daemon=True)
            _forget_typed(self._answers.fileno())
            watching.start()
            try:
                yield True
            finally:
                over.set()
                watching.join()

    def _explain_or_raise(self, wrong: LanfitError) -> None:
        if self.take_defaults or not self.interactive:
            raise wrong
        self.explain(wrong)

    def _read_line(self, prompt: str, secret: bool) -> str:
        """Ask once; returns what was typed, with its line break, and nothing when the input has ended."""
        with self._lock:
            self._asker = threading.get_ident()
            if self._area is not None:
                self._area.hide()
        line, hidden = "", False
        try:
            # The echo is off before the prompt invites to type.
            with _no_echo(self._answers) if secret and self.interactive else contextlib.nullcontext(False) as hidden:
                self._talk.write(prompt)
                self._talk.flush()
                if self.interactive:
                    _wait_until_typed(self._answers)
                line = self._answers.readline()
        finally:
            with self._lock:
                # What was typed ends the line at a terminal, if it is shown there.
                if hidden or not line or not self.interactive:
                    self._talk.write("\n")
                self._asker = None
                held, self._held = self._held, []
                for text in held:
                    self._print(text)
                if self._area is not None:
                    self._area.show()
        return line


class _Area:
    """The lines at the bottom of a terminal that are drawn anew, some times in a second."""

    def __init__(self, stream: TextIO, draw: Draw, keyboard: TextIO | None) -> None:
        # Late, so that what says nothing to a terminal does without.
        from rich.console import Console

        self._stream = stream
        self._draw = draw
        self._console: Console = Console(file=stream)
        self._live: Live | None = None
        self._keyboard = keyboard
        self._echo_off = contextlib.ExitStack()

    @property
    def is_shown(self) -> bool:
        return self._live is not None

    def show(self) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=REDRAWS,
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
                vertical_overflow="crop",
            )
            if self._keyboard is not None:  # what is typed meanwhile would be shown in the midst of it
                self._echo_off.enter_context(_no_echo(self._keyboard))
            self._live.start(refresh=True)

    def hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            self._echo_off.close()

    def print_above(self, text: str) -> None:
        from rich.text import Text

        # No markup: a client's name or an error may hold brackets.
        self._console.print(Text(text), soft_wrap=True)
        if self._live is not None:
            self._live.refresh()  # what was said may have changed what is shown

    def _render(self) -> Text:
        from rich.console import ConsoleDimensions
        from rich.text import Text

        width, height = terminal_size(self._stream)
        self._console.size = ConsoleDimensions(width, height)
        try:
            lines = self._draw(width, height)
        except Exception:  # what is only looked at must not end what it shows
            log.debug("what is kept up to date could not be drawn", exc_info=True)
            lines = ()
        text = Text(no_wrap=True, overflow="crop", end="")
        for number, (line, style) in enumerate(lines):
            text.append(("\n" if number else "") + line, style or None)
        return text


class _Logs(logging.Handler):
    """Says warnings."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # as logging does: a log must not end what it is about
            self._terminal.say(self.format(record))


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal that a stream writes to; 80 and 24 if it does not say."""
    try:
        width, height = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        width, height = shutil.get_terminal_size()
    return width or 80, height or 24


@contextlib.contextmanager
def _no_echo(stream: TextIO) -> Iterator[bool]:
    """Turn the echo of a terminal off where the system can; yields whether it is off.

    Not `getpass`: that throws away what was typed ahead.
    """
    try:
        import termios
    except ImportError:  # Windows: typed answers stay visible
        yield False
        return
    descriptor = stream.fileno()
    before = termios.tcgetattr(descriptor)
    silent = termios.tcgetattr(descriptor)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSANOW, silent)
    try:
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _wait_until_typed(stream: TextIO) -> None:
    """Wait for a line, in short waits: a read goes on when Ctrl-C comes just before it, or to another thread."""
    if sys.platform == "win32":
        return  # there Ctrl-C ends a read of the console, whoever reads
    try:
        descriptor = stream.fileno()
    except OSError:  # no terminal of the system
        return
    while not select.select([descriptor], [], [], LOOK_SECONDS)[0]:
        pass


def _watch(descriptor: int, typed: Callable[[str], None], over: threading.Event) -> None:
    """Call this with every line until it is over. Never blocks in a read, which nobody could end."""
    line = ""
    if sys.platform == "win32":
        import msvcrt

        while not over.wait(LOOK_SECONDS):
            while msvcrt.kbhit():
                if (key := msvcrt.getwch()) in "\r\n":
                    typed(line)
                    line = ""
                else:
                    line = (line + key)[-80:]
        return
    while not over.is_set():
        readable, _, _ = select.select([descriptor], [], [], LOOK_SECONDS)
        if not readable:
            continue
        if _in_background(descriptor):  # to read would stop the process; what is typed is for the shell
            over.wait(LOOK_SECONDS)
            continue
        try:
            read = os.read(descriptor, 4096)
        except OSError:  # the terminal is gone
            return
        if not read:
            return
        *lines, line = (line + read.decode(errors="replace")).split("\n")
        for each in lines:
            typed(each)


def _in_background(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # not the terminal that this process is controlled by
        return False


def _forget_typed(descriptor: int) -> None:
    """Throw away what was typed and not read."""
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()
        return
    import termios

    termios.tcflush(descriptor, termios.TCIFLUSH)
