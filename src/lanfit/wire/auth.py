"""The login: SPAKE2 over the stretched passphrase, bound to the server's certificate; two state machines.

Frames in, frames and events out. The tables below define the login: the state machines use them, and docs/protocol.md
is generated from them. This module knows no sockets, no bans, and not what a client may do after the login.
"""

from __future__ import annotations

import enum
import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from lanfit.errors import LocalProtocolError, RemoteProtocolError
from lanfit.wire.exchange import EXCHANGE_BYTES, PROOF_BYTES, Exchange, transcript
from lanfit.wire.exchange import stretch as stretch
from lanfit.wire.frames import Frame, Kind, Size, encode_frame

MAGIC = b"LANFIT\r\n"
VERSION = 1
#: Suite 1: scrypt N=2^15 r=8 p=1, SPAKE2 on Ed25519, HKDF and HMAC with SHA-256.
SUITE = 1
NONCE_BYTES = 32
ID_BYTES = 16

CLIENT_HELLO = struct.Struct("!8sHH32s16s")
SERVER_HELLO = struct.Struct("!HB32s16s16s")
REFUSE = struct.Struct("!BI")
CLIENT_REFUSE = struct.Struct("!B")


def _exactly(size: int) -> Size:
    return Size(size, size)


#: What each side may receive before login; every frame has a fixed size.
LOGIN_TO_SERVER = {
    Kind.CLIENT_HELLO: _exactly(CLIENT_HELLO.size),
    Kind.CLIENT_EXCHANGE: _exactly(EXCHANGE_BYTES),
    Kind.CLIENT_PROOF: _exactly(PROOF_BYTES),
    Kind.CLIENT_REFUSE: _exactly(CLIENT_REFUSE.size),
}
LOGIN_TO_CLIENT = {
    Kind.SERVER_HELLO: _exactly(SERVER_HELLO.size),
    Kind.SERVER_EXCHANGE: _exactly(EXCHANGE_BYTES),
    Kind.SERVER_PROOF: _exactly(PROOF_BYTES),
    Kind.REFUSE: _exactly(REFUSE.size),
}


class Refusal(enum.IntEnum):
    """Why a server refuses a client; the table of errors has a message for each (`join.banned`)."""

    VERSION = 1
    BANNED = 2
    FULL = 3
    NOT_READY = 4
    PASSPHRASE = 5


class Distrust(enum.IntEnum):
    """Why a client does not log in to a server; it sends the reason to the server instead of its hello."""

    FINGERPRINT = 1
    """The client expects another fingerprint."""


def client_refusal(why: Distrust) -> bytes:
    """Return the frame with which a client leaves without a hello; it reveals nothing about the client."""
    return encode_frame(Kind.CLIENT_REFUSE, CLIENT_REFUSE.pack(why))


class State(enum.Enum):
    """The state of a login; each side has its own description of it."""

    HELLO = "waits for the hello"
    DECISION = "waits for its own side"
    EXCHANGE = "waits for the exchange message"
    GUESS = "waits until its guess may begin"
    PROOF = "waits for the proof"
    DONE = "is done"
    REFUSED = "was refused"


class Act(enum.Enum):
    """What changes the state of a login, other than a frame."""

    PASSWORD = "the stretched passphrase is given"
    ADMIT = "the gate admits the client"
    REFUSE = "the gate refuses the client"
    BEGIN = "the gate lets the guess begin"
    NO_COMMON_VERSION = "no version in common"
    WRONG_PROOF = "the proof is wrong"


@dataclass(frozen=True)
class Step:
    """One line of a login's transition table: a state, an input, and the next state."""

    state: State
    on: Kind | Act
    to: State
    does: str


CLIENT_LOGIN = (
    Step(State.HELLO, Kind.SERVER_HELLO, State.DECISION, "checks version and suite, asks for the password"),
    Step(State.DECISION, Act.PASSWORD, State.EXCHANGE, "sends CLIENT_EXCHANGE"),
    Step(State.EXCHANGE, Kind.SERVER_EXCHANGE, State.PROOF, "sends CLIENT_PROOF: the client proves itself first"),
    Step(State.PROOF, Kind.SERVER_PROOF, State.DONE, "the proof is right: sends and takes messages from now on"),
    Step(State.REFUSED, Act.PASSWORD, State.REFUSED, "nothing: it was refused while the passphrase was stretched"),
    Step(State.HELLO, Kind.REFUSE, State.REFUSED, "tells why"),
    Step(State.DECISION, Kind.REFUSE, State.REFUSED, "tells why"),
    Step(State.EXCHANGE, Kind.REFUSE, State.REFUSED, "tells why"),
    Step(State.PROOF, Kind.REFUSE, State.REFUSED, "tells why"),
)
SERVER_LOGIN = (
    Step(State.HELLO, Kind.CLIENT_HELLO, State.DECISION, "checks magic and version, asks the gate"),
    Step(State.HELLO, Kind.CLIENT_REFUSE, State.REFUSED, "the client expects another fingerprint: tells the operator"),
    Step(State.HELLO, Act.NO_COMMON_VERSION, State.REFUSED, "sends REFUSE"),
    Step(State.HELLO, Act.REFUSE, State.REFUSED, "sends REFUSE"),
    Step(State.DECISION, Act.ADMIT, State.EXCHANGE, "sends SERVER_HELLO"),
    Step(State.DECISION, Act.REFUSE, State.REFUSED, "sends REFUSE"),
    Step(State.EXCHANGE, Kind.CLIENT_EXCHANGE, State.GUESS, "asks the gate, which counts a guess from now on"),
    Step(State.GUESS, Act.BEGIN, State.PROOF, "sends SERVER_EXCHANGE"),
    Step(State.GUESS, Act.REFUSE, State.REFUSED, "sends REFUSE"),
    Step(State.PROOF, Kind.CLIENT_PROOF, State.DONE, "the proof is right: sends SERVER_PROOF"),
    Step(State.PROOF, Act.WRONG_PROOF, State.REFUSED, "sends REFUSE; the guess was wrong"),
)


@dataclass(frozen=True)
class NeedPassword:
    """Client: stretch the passphrase with this salt (in a thread: it takes 0.1 s) and pass it to `password`."""

    salt: bytes


@dataclass(frozen=True)
class Knocks:
    """Server: a client sent its hello; answer with `admit` or `refuse`."""

    client_id: bytes


@dataclass(frozen=True)
class Guesses:
    """Server: the client has committed to its guess; answer with `begin` or `refuse`. Its proof is still to come."""

    client_id: bytes


@dataclass(frozen=True)
class LoggedIn:
    """The peer knows the passphrase; `peer_id` is the client's id or the server's."""

    peer_id: bytes


@dataclass(frozen=True)
class WrongProof:
    """Server: a guess failed; the refusal is being sent."""

    client_id: bytes


@dataclass(frozen=True)
class Refused:
    """Client: the server refuses."""

    why: Refusal
    seconds: int
    """The time until a new attempt makes sense; for VERSION, the highest version that the server supports, 0 if
    unknown."""


@dataclass(frozen=True)
class OtherVersion:
    """Server: the client supports none of this side's versions, but those from `lowest` to `highest`; it is refused."""

    lowest: int
    highest: int


@dataclass(frozen=True)
class Distrusted:
    """Server: the client does not log in, for its own reason."""

    why: Distrust


LoginEvent = NeedPassword | Knocks | Guesses | LoggedIn | WrongProof | Refused | OtherVersion | Distrusted


class _Login:
    """The common part of both state machines: the table, and the frames to send."""

    table: ClassVar[tuple[Step, ...]]

    def __init__(self, fingerprint: bytes) -> None:
        self.state = State.HELLO
        self._fingerprint = fingerprint
        self._output: list[bytes] = []
        self._handlers: dict[Kind, Callable[[bytes], list[LoginEvent]]] = {}

    def receive(self, frame: Frame) -> list[LoginEvent]:
        """Process a frame; return what happened.

        Raises:
            RemoteProtocolError: the frame is not allowed now, or its content is invalid.
        """
        if not any(step.state is self.state and step.on is frame.kind for step in self.table):
            raise RemoteProtocolError(f"{frame.kind.name} came while the login {self.state.value}")
        return self._handlers[frame.kind](frame.payload)

    def take_output(self) -> bytes:
        """Return the bytes to send now; they are returned only once."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _move(self, on: Kind | Act) -> None:
        for step in self.table:
            if step.state is self.state and step.on is on:
                self.state = step.to
                return
        raise LocalProtocolError(f"a login that {self.state.value} can't go on with: {on.name}")

    def _send(self, kind: Kind, payload: bytes) -> None:
        self._output.append(encode_frame(kind, payload))


class ClientLogin(_Login):
    """The client's side: call `hello()` once, then feed frames, and call `password()` when it is requested.

    `fingerprint` is the SHA-256 of the certificate that this side received: it binds the login to its TLS connection.
    """

    table = CLIENT_LOGIN

    def __init__(self, client_id: bytes, fingerprint: bytes) -> None:
        super().__init__(fingerprint)
        self._client_id = client_id
        self._hello = CLIENT_HELLO.pack(MAGIC, VERSION, VERSION, os.urandom(NONCE_BYTES), client_id)
        self._send(Kind.CLIENT_HELLO, self._hello)
        self._handlers = {
            Kind.SERVER_HELLO: self._on_hello,
            Kind.SERVER_EXCHANGE: self._on_exchange,
            Kind.SERVER_PROOF: self._on_proof,
            Kind.REFUSE: self._on_refuse,
        }
        self._th = self._server_id = self._expected = b""
        self._exchange: Exchange | None = None

    def password(self, stretched: bytes) -> None:
        """Continue with the stretched passphrase, after NeedPassword; do nothing if the server has refused in the
        meantime."""
        self._move(Act.PASSWORD)
        if self.state is State.REFUSED:
            return
        self._exchange = Exchange(True, stretched, self._client_id, self._server_id, self._fingerprint)
        self._send(Kind.CLIENT_EXCHANGE, self._exchange.message)

    def _on_hello(self, payload: bytes) -> list[LoginEvent]:
        version, suite, _nonce, self._server_id, salt = SERVER_HELLO.unpack(payload)
        if (version, suite) != (VERSION, SUITE):
            raise RemoteProtocolError(f"the server chose version {version}, suite {suite}, which was not offered")
        self._th = transcript(self._hello, payload, self._fingerprint)
        self._move(Kind.SERVER_HELLO)
        return [NeedPassword(salt)]

    def _on_exchange(self, payload: bytes) -> list[LoginEvent]:
        assert self._exchange is not None
        ours, self._expected = self._exchange.proofs(payload, self._th)
        self._exchange = None
        self._move(Kind.SERVER_EXCHANGE)
        self._send(Kind.CLIENT_PROOF, ours)
        return []

    def _on_proof(self, payload: bytes) -> list[LoginEvent]:
        if not hmac.compare_digest(payload, self._expected):
            raise RemoteProtocolError("the server's proof is wrong: it does not know the passphrase")
        self._move(Kind.SERVER_PROOF)
        return [LoggedIn(self._server_id)]

    def _on_refuse(self, payload: bytes) -> list[LoginEvent]:
        code, seconds = REFUSE.unpack(payload)
        if code not in {member.value for member in Refusal}:
            raise RemoteProtocolError(f"the server refused with the unknown code {code}")
        self._move(Kind.REFUSE)
        return [Refused(Refusal(code), seconds)]


class ServerLogin(_Login):
    """The server's side of one connection: frames in; call `admit` or `refuse` after Knocks, `begin` or `refuse` after
    Guesses."""

    table = SERVER_LOGIN

    def __init__(self, server_id: bytes, salt: bytes, fingerprint: bytes) -> None:
        super().__init__(fingerprint)
        self._server_id, self._salt = server_id, salt
        self._handlers = {
            Kind.CLIENT_HELLO: self._on_hello,
            Kind.CLIENT_EXCHANGE: self._on_exchange,
            Kind.CLIENT_PROOF: self._on_proof,
            Kind.CLIENT_REFUSE: self._on_refuse,
        }
        self._client_hello = self._client_id = self._th = self._password = b""
        self._expected = self._ours = self._guess = b""

    def admit(self, stretched: bytes) -> None:
        """Continue: this client may try to prove that it knows the passphrase, which is given in stretched form."""
        self._move(Act.ADMIT)
        hello = SERVER_HELLO.pack(VERSION, SUITE, os.urandom(NONCE_BYTES), self._server_id, self._salt)
        self._th = transcript(self._client_hello, hello, self._fingerprint)
        self._password = stretched
        self._send(Kind.SERVER_HELLO, hello)

    def begin(self) -> None:
        """Answer the exchange, so that the client can prove its guess. This takes some milliseconds.

        Raises:
            RemoteProtocolError: the exchange message is invalid.
        """
        exchange = Exchange(False, self._password, self._client_id, self._server_id, self._fingerprint)
        self._password = b""
        self._expected, self._ours = exchange.proofs(self._guess, self._th)
        self._move(Act.BEGIN)
        self._send(Kind.SERVER_EXCHANGE, exchange.message)

    def refuse(self, why: Refusal, seconds: int = 0) -> None:
        """Refuse the client, before or after its hello, or before its guess begins."""
        self._move(Act.REFUSE)
        self._send(Kind.REFUSE, REFUSE.pack(why, seconds))

    def _on_hello(self, payload: bytes) -> list[LoginEvent]:
        magic, lowest, highest, _nonce, client_id = CLIENT_HELLO.unpack(payload)
        if magic != MAGIC:
            raise RemoteProtocolError("the peer is no lanfit client")
        if not lowest <= VERSION <= highest:
            self._move(Act.NO_COMMON_VERSION)
            self._send(Kind.REFUSE, REFUSE.pack(Refusal.VERSION, VERSION))
            return [OtherVersion(lowest, highest)]
        self._client_hello, self._client_id = payload, client_id
        self._move(Kind.CLIENT_HELLO)
        return [Knocks(client_id)]

    def _on_exchange(self, payload: bytes) -> list[LoginEvent]:
        self._guess = payload
        self._move(Kind.CLIENT_EXCHANGE)
        return [Guesses(self._client_id)]

    def _on_proof(self, payload: bytes) -> list[LoginEvent]:
        if not hmac.compare_digest(payload, self._expected):
            self._move(Act.WRONG_PROOF)
            self._send(Kind.REFUSE, REFUSE.pack(Refusal.PASSPHRASE, 0))
            return [WrongProof(self._client_id)]
        self._move(Kind.CLIENT_PROOF)
        self._send(Kind.SERVER_PROOF, self._ours)
        return [LoggedIn(self._client_id)]

    def _on_refuse(self, payload: bytes) -> list[LoginEvent]:
        (code,) = CLIENT_REFUSE.unpack(payload)
        if code not in {member.value for member in Distrust}:
            raise RemoteProtocolError(f"the client refused with the unknown code {code}")
        self._move(Kind.CLIENT_REFUSE)
        return [Distrusted(Distrust(code))]
