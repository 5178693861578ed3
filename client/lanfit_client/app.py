"""Assembles the client: the server to join, the passphrase, the agent. The command line is a thin layer above it."""

from __future__ import annotations

import _thread
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lanfit.backends import check_backend, default_backend
from lanfit.core.child import ALLOW, CANT_JOIN
from lanfit.core.gauge import Pace
from lanfit.core.loop import LoopThread
from lanfit.core.passphrase import PASSPHRASE_VARIABLE, given_passphrase
from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.errors import InputError, lanfit_error
from lanfit.models.custom_files import Allowed, allow_named
from lanfit.net.addresses import parse_address
from lanfit.net.tls import format_fingerprint, parse_fingerprint
from lanfit.settings.fields import Value
from lanfit.settings.timeouts import Timeouts
from lanfit.wire.messages import Runtime
from lanfit_client.agent import Agent, Server
from lanfit_client.connect import Passphrase, WrongPassphrase
from lanfit_client.consent import Consent
from lanfit_client.corrections import Corrections
from lanfit_client.parts import PartsPrompts
from lanfit_client.progress_bar import Line, bar_lines
from lanfit_client.prompts import Prompts
from lanfit_client.settings import DEFAULT_PORT, FIELDS, LEAST_ROWS, JoinLine
from lanfit_client.store.cache import CACHE_LIMIT
from lanfit_client.store.known_servers import FingerprintChanged, KnownServers
from lanfit_client.store.state import ClientState
from lanfit_client.work import CachePolicy

#: How the questions for the server are answered, on the command line and at a terminal.
HOST = "the argument HOST[:PORT]"
EXAMPLE = "192.168.1.20:8470"
#: The maximum number of typed passphrases; a fake server must not get endless guesses.
ATTEMPTS = 3


@dataclass(frozen=True)
class Options:
    """The command line. `given` answers questions, `settings` (client.toml) are their defaults."""

    workspace: Workspace
    given: Mapping[str, Value]
    settings: Mapping[str, Value]
    passphrase_file: Path | None = None
    fingerprint: str | None = None
    once: bool = False
    child: bool = False
    """Started by a server on this machine: the stretched passphrase arrives on standard input, whose end stops it."""

    def value(self, key: str) -> Value:
        given = self.given.get(key)
        return self.settings.get(key) if given is None else given


class Client:
    """A client from its questions to its end."""

    def __init__(self, options: Options, terminal: Terminal) -> None:
        self._options = options
        self._terminal = terminal
        self._typed = 0

    def run(self) -> int:
        """Join and work; return the exit code.

        Raises:
            InputError: an answer is invalid or missing.
            RefusedError: the server refuses this client.
            KeyboardInterrupt: it was stopped by Ctrl-C, or by the end of the server that started it.
        """
        options = self._options
        runtime = Runtime(
            backend=str(options.value("backend") or default_backend()),
            device=str(options.value("device") or "auto"),
            threads=int(str(options.value("threads") or os.cpu_count() or 1)),
        )
        check_backend(runtime.backend)
        fixed = frozenset(options.given) & frozenset(Runtime.__struct_fields__)
        fingerprint = parse_fingerprint(options.fingerprint) if options.fingerprint else None
        server = self._server(fingerprint)
        state = ClientState.take(options.workspace)
        data = _data_folder(options)
        own = data or options.workspace.dataset
        allowed = _allowed(options)
        timeouts = Timeouts.of(options.settings, options.workspace.client_settings)
        name = str(options.value("name") or state.name or socket.gethostname())
        self._prompts = Prompts(self._terminal)
        parts = PartsPrompts(self._terminal, options.given, options.settings, name, self._prompts)
        consent = Consent(
            own,
            state.data_consents,
            given=data is not None or options.child,  # by its server: both belong to one user
            terminal=self._terminal,
            prompts=self._prompts,
        )
        try:
            with LoopThread() as loop:
                agent = Agent(
                    server,
                    state,
                    options.workspace,
                    name,
                    runtime,
                    self._terminal.log,
                    fixed=fixed,
                    data=own,
                    consent=consent,
                    least_rows=int(str(options.value("min_rows") or LEAST_ROWS)),
                    remembers=not options.child,
                    timeouts=timeouts,
                    cache_policy=_cache_policy(options),
                    parts=parts,
                    corrections=Corrections(own, self._terminal.log, self._terminal.on_enter),
                    allowed=allowed,
                    log_trouble=self._log_trouble,
                    detail=self._terminal.detail,
                    log_now=self._terminal.log_now,
                )
                self._loop, self._agent = loop, agent
                try:
                    self._log_waiting_results(agent, state)
                    loop.call(agent.start())
                    self._work(loop, agent)
                finally:
                    loop.call(agent.close("the client was stopped"))
                    self._log_kept_data(agent)
                return 4 if agent.worker.failures or agent.worker.is_unsuitable else 0
        finally:
            state.lock.release()

    def _server(self, fingerprint: str | None) -> Server:
        """Return the server to join: given, or asked for. A port in the answer for the address is not asked for again.

        Raises:
            InputError: it is not a valid server address.
        """
        options = self._options
        given, port = options.given.get("host"), options.given.get("port")
        if given is not None:
            address = parse_address(str(given))
        else:
            setting = options.settings.get("host")
            default = None if setting is None else str(setting)
            line = self._terminal.ask(FIELDS["host"].question, HOST, JoinLine.read, default=default, example=EXAMPLE)
            address, fingerprint = line.address, fingerprint or line.fingerprint
        if address.port is None and port is None:
            field = FIELDS["port"]
            default = str(options.settings.get("port") or DEFAULT_PORT)
            port = self._terminal.ask(
                field.question, HOST, lambda text: field.read(text, field.question), default=default
            )
        return Server(address.host, address.port or int(str(port)), fingerprint)

    def _log_trouble(self, line: str) -> None:
        """Print why this client can't join, in a form that a local server shows as well."""
        self._terminal.log(f"{CANT_JOIN}{line}" if self._options.child else line)

    def _work(self, loop: LoopThread, agent: Agent) -> None:
        passphrase = self._passphrase()
        while True:
            try:
                with self._terminal.area(partial(self._bar, agent, Pace())):
                    self._prompts.serve(loop.submit(agent.run(passphrase, once=self._options.once)))
                return
            except FingerprintChanged as changed:
                if not self._trusts(changed):
                    raise
                agent.trust(changed.shown)
            except WrongPassphrase as error:
                if not 0 < self._typed < ATTEMPTS:
                    raise
                self._terminal.explain(error)
                passphrase = self._type_passphrase()

    @staticmethod
    def _bar(agent: Agent, pace: Pace, width: int, height: int) -> Sequence[Line]:
        """Return the progress bar of the current task, for the user at a terminal."""
        worker, now = agent.worker, time.monotonic()
        progress = worker.progress()
        left = pace.of((progress.run, progress.task), progress.share, now) if progress is not None else None
        return bar_lines(progress, worker.receiving, agent.sending, left, width, now)

    # --- prompts ------------------------------------------------------------------------------------------------

    def _passphrase(self) -> Passphrase:
        if self._options.child:
            stretched, rest = _first_line()
            threading.Thread(target=_follow_input, args=(rest, self._allow), daemon=True).start()
            return bytes.fromhex(stretched)
        given = given_passphrase(self._options.passphrase_file)
        return self._type_passphrase() if given is None else given

    def _allow(self, path: Path) -> None:
        """Let a local client execute a custom objects file of its server: both belong to one user."""

        async def allow() -> None:
            self._agent.allow(path)

        try:
            self._loop.call(allow())
        except InputError as error:
            self._terminal.explain(error)

    def _type_passphrase(self) -> str:
        if self._terminal.interactive:
            self._typed += 1
        flag = f"--passphrase-file or {PASSPHRASE_VARIABLE}"
        return self._terminal.ask("Passphrase", flag, str, default=None, secret=True)

    def _trusts(self, changed: FingerprintChanged) -> bool:
        """Ask the user at a terminal about a server with a changed fingerprint."""
        if not self._terminal.interactive:
            return False
        self._terminal.explain(changed)
        question = f"Trust {format_fingerprint(changed.shown)} from now on? (y/N)"
        trusted = self._terminal.ask(question, "--fingerprint", lambda text: text.lower() in ("y", "yes"), default="N")
        if trusted:
            KnownServers(changed.path).forget(changed.address)
        return trusted

    def _log_waiting_results(self, agent: Agent, state: ClientState) -> None:
        """Report the results that earlier runs left here, and for which server: they wait for it, for days if
        necessary."""
        known = KnownServers(state.known_servers)
        for server_id, count in agent.worker.outbox.servers().items():
            address = known.address(server_id) or f"a server that is no longer known (id {server_id.hex()[:8]})"
            waiting = pluralize(count, "finished result waits", "finished results wait")
            self._terminal.log(f"{waiting} here for {address}: offered when that server is joined.")

    def _log_kept_data(self, agent: Agent) -> None:
        if waiting := len(agent.worker.outbox):
            self._terminal.log(
                f"{pluralize(waiting, 'finished result waits', 'finished results wait')} here for the server; "
                "start the client again to deliver."
            )


def _cache_policy(options: Options) -> CachePolicy:
    """Return which received data is kept; none by a client that a server started on its own machine."""
    limit, data = options.value("cache_limit"), options.value("keep_data")
    return CachePolicy(
        limit=CACHE_LIMIT if limit is None else int(str(limit)),
        data=bool(data) and not options.child,
        restarts=not options.child,
    )


def _data_folder(options: Options) -> Path | None:
    """Return the folder of the client's own data, if given; in client.toml it may be relative to the workspace.

    Raises:
        InputError: the folder does not exist.
    """
    named = options.value("data")
    if named is None:
        return None
    folder = options.workspace.root / str(named)
    if not folder.is_dir():
        raise lanfit_error("own-data.no-folder", folder=folder)
    return folder


def _allowed(options: Options) -> Allowed:
    """Return the custom objects files that were given: relative to here, or to the workspace.

    Raises:
        InputError: one is missing, or not Python.
    """
    named = options.value("custom_objects")
    folders = (Path.cwd(), options.workspace.root, options.workspace.models)
    texts = named if isinstance(named, tuple) else ()
    return Allowed(Path(file.path) for file in allow_named(texts, folders))


def _first_line() -> tuple[str, bytes]:
    """Return the first line of standard input, and any bytes read beyond it; not through its buffer, which would keep
    more."""
    read = b""
    while b"\n" not in read and (more := os.read(0, 4096)):
        read += more
    line, _, rest = read.partition(b"\n")
    return line.decode().rstrip("\r"), rest


def _follow_input(rest: bytes, allow: Callable[[Path], None]) -> None:
    """Read the lines of the server that started this client; stop as on Ctrl-C when it has ended."""
    while True:
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if (text := line.decode(errors="replace").rstrip("\r")).startswith(ALLOW):
                allow(Path(text.removeprefix(ALLOW)))
        # Not through its buffer: a thread that waits in there aborts a Python that exits.
        if not (more := os.read(0, 4096)):
            break
        rest += more
    _thread.interrupt_main()
