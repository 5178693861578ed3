"""Input and output for users: questions at a terminal or from piped lines, messages on stderr. Does not check answers.

All messages of a running program go through one `Terminal`, from any thread, so that no line is written into an open
question or into the live lines at the bottom (a table, a progress bar).
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

from lanfit.core.text import printable
from lanfit.errors import InputError, LanfitError, lanfit_error

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

T = TypeVar("T")
#: How often a waiting prompt checks whether it should still wait, in seconds.
LOOK_SECONDS = 0.2
#: Draws the live display: from the width and height of the terminal to lines, each with its rich style.
Draw = Callable[[int, int], Sequence[tuple[str, str]]]
#: How often it is redrawn per second.
REDRAWS = 4
#: Terminals that can't move their cursor: lines follow each other there, as in a pipe.
_PLAIN = ("dumb", "unknown")

logger = logging.getLogger(__name__)


class Terminal:
    """Asks questions and prints messages.

    At a terminal a wrong answer is explained and asked again. Otherwise answers are read line by line from standard
    input, and a wrong one ends the program.
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
        """The output stream, for layouts that depend on its width."""
        return self._talk

    @property
    def draws(self) -> bool:
        """Whether live lines can be shown here."""
        return self._talk.isatty() and os.environ.get("TERM") not in _PLAIN

    # --- telling ------------------------------------------------------------------------------------------------

    def log(self, text: str = "") -> None:
        """Print a line for the user, from any thread; if a question is open, once it is answered."""
        with self._lock:
            if self._asker is not None and self._asker != threading.get_ident():
                self._held.append(text)
            else:
                self._print(text)

    def detail(self, text: str) -> None:
        """Print a line about something that a progress bar or a table shows, unless there is one."""
        if self._area is None:
            self.log(text)

    def log_now(self, text: str) -> None:
        """Print a line even if a question is open, such as why its answer is no longer needed."""
        with self._lock:
            if self._asker is not None and self._asker != threading.get_ident():
                text = f"\n{text}"  # below the question, and the characters already typed
            self._print(text)

    def _print(self, text: str) -> None:
        text = printable(text)
        if self._area is not None and self._area.is_shown:
            self._area.print_above(text)
        else:
            print(text, file=self._talk, flush=True)

    @contextlib.contextmanager
    def area(self, draw: Draw) -> Iterator[None]:
        """Show the lines returned by `draw` at the bottom during this block, if this is a terminal; then remove them.

        `draw` is called from its own thread, and must not print anything.
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
        """Print warnings that no log file handles here, like messages; return this terminal."""
        logging.lastResort = _Logs(self)
        return self

    # --- asking -------------------------------------------------------------------------------------------------

    def explain(self, wrong: LanfitError) -> None:
        """Print an error that does not end the program, and its hint."""
        self.log(f"  {wrong.message}" + (f"\n  → {wrong.hint}" if wrong.hint else ""))

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
            question: the question, without a colon.
            flag: the flag that answers it; named in errors.
            accept: converts the answer to a value or raises InputError.
            default: the text that an empty answer stands for; None if there is none.
            shown_default: the text to show as the default, if it differs.
            example: an example answer, shown if none is given.
            secret: do not echo the input.

        Raises:
            InputError: the input ended, or, if it is not a terminal, the answer was invalid.
        """
        hint = shown_default or default or ""
        prompt = f"{question} [{hint}]: " if hint else f"{question}: "
        while True:
            if self.take_defaults:
                answer = ""
            else:
                line = self._read_line(prompt, secret)
                if not line:
                    raise lanfit_error("question.input-ended", question=question, flag=flag)
                answer = line.strip("\r\n") if secret else line.strip()
            if not answer:
                if default is None:
                    if self.take_defaults or not self.interactive:
                        raise lanfit_error("question.no-default", question=question, flag=flag)
                    self.explain(
                        lanfit_error("question.empty", question=question, example=example and f", as in {example},")
                    )
                    continue
                answer = default
            try:
                return accept(answer)
            except InputError as error:
                self._explain_or_raise(error)

    @contextlib.contextmanager
    def on_enter(
        self, call: Callable[[], None], keys: Mapping[str, Callable[[], None]] | None = None
    ) -> Iterator[bool]:
        """Call this, in a thread, each time that Enter is pressed inside this block; yield whether that is possible.

        Args:
            keys: called instead if this was typed before Enter.

        Works only at a terminal. Nothing is read before or after the block, so no answer is lost; input that was typed
        before the block is discarded.
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
        """Ask once; return the typed text with its line break, or nothing if the input has ended."""
        with self._lock:
            self._asker = threading.get_ident()
            if self._area is not None:
                self._area.hide()
        line, hidden = "", False
        try:
            # The echo is turned off before the prompt appears.
            with _no_echo(self._answers) if secret and self.interactive else contextlib.nullcontext(False) as hidden:
                self._talk.write(prompt)
                self._talk.flush()
                if self.interactive:
                    _wait_until_typed(self._answers)
                line = self._answers.readline()
        finally:
            with self._lock:
                # The typed line break ends the line at a terminal, if it is echoed.
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
    """The lines at the bottom of a terminal that are redrawn several times a second."""

    def __init__(self, stream: TextIO, draw: Draw, keyboard: TextIO | None) -> None:
        # Imported late, so that programs without a terminal do not need it.
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
            if self._keyboard is not None:  # input in the meantime would be echoed inside it
                self._echo_off.enter_context(_no_echo(self._keyboard))
            self._live.start(refresh=True)

    def hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            self._echo_off.close()

    def print_above(self, text: str) -> None:
        from rich.text import Text

        # No markup: a client's name or an error may contain brackets.
        self._console.print(Text(text), soft_wrap=True)
        if self._live is not None:
            self._live.refresh()  # a message may have changed the display

    def _render(self) -> Text:
        from rich.console import ConsoleDimensions
        from rich.text import Text

        width, height = terminal_size(self._stream)
        self._console.size = ConsoleDimensions(width, height)
        try:
            lines = self._draw(width, height)
        except Exception:  # a failing display must not end the program
            logger.debug("the live display could not be drawn", exc_info=True)
            lines = ()
        text = Text(no_wrap=True, overflow="crop", end="")
        for number, (line, style) in enumerate(lines):
            text.append(("\n" if number else "") + line, style or None)
        return text


class _Logs(logging.Handler):
    """Prints warnings."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # as in logging: a log must not end what it reports on
            self._terminal.log(self.format(record))


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Return the columns and lines of the terminal of a stream; 80 and 24 if unknown."""
    try:
        width, height = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        width, height = shutil.get_terminal_size()
    return width or 80, height or 24


@contextlib.contextmanager
def _no_echo(stream: TextIO) -> Iterator[bool]:
    """Turn off the echo of a terminal if the system can; yield whether it is off.

    Not `getpass`, which discards input that was typed ahead.
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
    """Wait for a line, in short waits: a read continues if Ctrl-C arrives just before it, or in another thread."""
    if sys.platform == "win32":
        return  # there Ctrl-C ends a read of the console in any thread
    try:
        descriptor = stream.fileno()
    except OSError:  # no terminal of the system
        return
    while not select.select([descriptor], [], [], LOOK_SECONDS)[0]:
        pass


def _watch(descriptor: int, typed: Callable[[str], None], over: threading.Event) -> None:
    """Call this with every line until it is over. Never blocks in a read, which could not be interrupted."""
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
        if _in_background(descriptor):  # reading would stop the process; the input is for the shell
            over.wait(LOOK_SECONDS)
            continue
        try:
            read = os.read(descriptor, 4096)
        except OSError:  # the terminal was closed
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
    """Discard input that was typed and not read."""
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()
        return
    import termios

    termios.tcflush(descriptor, termios.TCIFLUSH)
