import hashlib
import random
import struct
import unicodedata
from collections.abc import Iterator

import pytest

from lanfit.errors import LocalProtocolError, RemoteProtocolError
from lanfit.wire.auth import (
    CLIENT_HELLO,
    CLIENT_LOGIN,
    LOGIN_TO_CLIENT,
    LOGIN_TO_SERVER,
    MAGIC,
    REFUSE,
    SERVER_HELLO,
    SERVER_LOGIN,
    VERSION,
    ClientLogin,
    Distrust,
    Distrusted,
    Guesses,
    Knocks,
    LoggedIn,
    LoginEvent,
    NeedPassword,
    OtherVersion,
    Refusal,
    Refused,
    ServerLogin,
    State,
    WrongProof,
    client_refusal,
    stretch,
    transcript,
)
from lanfit.wire.exchange import Exchange
from lanfit.wire.frames import Frame, FrameReader, Kind, encode_frame, feed

CLIENT_ID, SERVER_ID, SALT = b"c" * 16, b"s" * 16, b"salt" * 4
FINGERPRINT = hashlib.sha256(b"certificate").digest()
PASSWORD = hashlib.sha256(b"stretched").digest()


def arriving(reader: FrameReader, stream: bytes) -> Iterator[Frame]:
    """The frames in a stream; the reader sees nothing of what comes after a frame before that is dealt with."""
    while stream:
        count = min(len(reader.get_buffer()), len(stream))
        yield from (frame for frame in feed(reader, stream[:count]) if isinstance(frame, Frame))
        stream = stream[count:]


def frames(reader: FrameReader, stream: bytes) -> list[Frame]:
    return list(arriving(reader, stream))


def log_in(
    client: ClientLogin, server: ServerLogin, client_password: bytes = PASSWORD, server_password: bytes = PASSWORD
) -> tuple[list[LoginEvent], list[LoginEvent], bytes, bytes]:
    """Join two logins without a socket; return each side's events and what each sent."""
    readers = FrameReader(LOGIN_TO_CLIENT), FrameReader(LOGIN_TO_SERVER)
    client_events: list[LoginEvent] = []
    server_events: list[LoginEvent] = []
    sent = [b"", b""]
    while output := client.take_output():
        sent[0] += output
        for frame in frames(readers[1], output):
            for event in server.receive(frame):
                server_events.append(event)
                if isinstance(event, Knocks):
                    server.admit(server_password)
                if isinstance(event, Guesses):
                    server.begin()
        output = server.take_output()
        sent[1] += output
        for frame in frames(readers[0], output):
            for event in client.receive(frame):
                client_events.append(event)
                if isinstance(event, NeedPassword):
                    client.password(client_password)
    return client_events, server_events, sent[0], sent[1]


def make_pair(client_fp: bytes = FINGERPRINT, server_fp: bytes = FINGERPRINT) -> tuple[ClientLogin, ServerLogin]:
    return ClientLogin(CLIENT_ID, client_fp), ServerLogin(SERVER_ID, SALT, server_fp)


def test_who_knows_the_passphrase_is_in_and_knows_whom_it_talks_to() -> None:
    client, server = make_pair()
    client_events, server_events, _, _ = log_in(client, server)
    assert client_events == [NeedPassword(SALT), LoggedIn(SERVER_ID)]
    assert server_events == [Knocks(CLIENT_ID), Guesses(CLIENT_ID), LoggedIn(CLIENT_ID)]
    assert client.state is server.state is State.DONE


def test_a_wrong_passphrase_is_refused_and_counted() -> None:
    client, server = make_pair()
    client_events, server_events, _, _ = log_in(client, server, client_password=b"x" * 32)
    assert client_events[-1] == Refused(Refusal.PASSPHRASE, 0)
    assert server_events[-1] == WrongProof(CLIENT_ID)
    assert client.state is server.state is State.REFUSED


def test_a_login_over_another_certificate_fails_though_the_passphrase_is_right() -> None:
    client, server = make_pair(client_fp=hashlib.sha256(b"the relay's certificate").digest())
    client_events, server_events, _, _ = log_in(client, server)
    assert client_events[-1] == Refused(Refusal.PASSPHRASE, 0)
    assert server_events[-1] == WrongProof(CLIENT_ID)


@pytest.mark.parametrize("changed", ["fingerprint", "client id", "server id", "password", "transcript"])
def test_the_proofs_cover_everything_that_both_sides_must_agree_on(changed: str) -> None:
    ours = {"password": PASSWORD, "client id": CLIENT_ID, "server id": SERVER_ID, "fingerprint": FINGERPRINT}
    theirs = {name: value[::-1] + b"!" if name == changed else value for name, value in ours.items()}
    client, server = Exchange(True, *ours.values()), Exchange(False, *theirs.values())
    th = bytes(32)
    assert client.message != server.message
    assert client.proofs(server.message, th) != server.proofs(client.message, th if changed in ours else b"1" * 32)


def test_without_the_binding_the_same_login_would_succeed() -> None:
    # The negative control of the test above: it is the fingerprint that makes it fail.
    client, server = make_pair(client_fp=b"", server_fp=b"")
    client_events, _, _, _ = log_in(client, server)
    assert client_events[-1] == LoggedIn(SERVER_ID)


@pytest.mark.parametrize("part", ["client id", "server id", "nonce of the server", "salt"])
def test_a_hello_changed_on_the_way_makes_the_login_fail(part: str) -> None:
    client, server = make_pair()
    hello = bytearray(client.take_output())
    if part == "client id":
        hello[-1] ^= 1
    server.receive(frames(FrameReader(LOGIN_TO_SERVER), bytes(hello))[0])
    server.admit(PASSWORD)
    answer = bytearray(server.take_output())
    place = {"server id": 45, "nonce of the server": 20, "salt": -1}.get(part)
    if place is not None:
        answer[place] ^= 1
    client.receive(frames(FrameReader(LOGIN_TO_CLIENT), bytes(answer))[0])
    client.password(PASSWORD)
    server.receive(frames(FrameReader(LOGIN_TO_SERVER), client.take_output())[0])
    server.begin()
    client.receive(frames(FrameReader(LOGIN_TO_CLIENT), server.take_output())[0])
    events = server.receive(frames(FrameReader(LOGIN_TO_SERVER), client.take_output())[0])
    assert events == [WrongProof(CLIENT_ID if part != "client id" else CLIENT_ID[:-1] + bytes([CLIENT_ID[-1] ^ 1]))]


def test_a_server_that_does_not_know_the_passphrase_is_found_out() -> None:
    client, server = make_pair()
    log = log_in(client, server, server_password=b"x" * 32)
    assert log[0][-1] == Refused(Refusal.PASSPHRASE, 0)
    # A fake server would not refuse, but go on: its proof can't be right.
    client, server = make_pair()
    server.receive(frames(FrameReader(LOGIN_TO_SERVER), client.take_output())[0])
    server.admit(b"x" * 32)
    client.receive(frames(FrameReader(LOGIN_TO_CLIENT), server.take_output())[0])
    client.password(PASSWORD)
    server.receive(frames(FrameReader(LOGIN_TO_SERVER), client.take_output())[0])
    server.begin()
    client.receive(frames(FrameReader(LOGIN_TO_CLIENT), server.take_output())[0])
    with pytest.raises(RemoteProtocolError, match="proof is wrong"):
        client.receive(Frame(Kind.SERVER_PROOF, server._ours))
    assert client.state is State.PROOF


def test_the_client_proves_itself_before_the_server_does() -> None:
    client, server = make_pair()
    _, _, _, from_server = log_in(client, server, client_password=b"x" * 32)
    assert [frame.kind for frame in frames(FrameReader(LOGIN_TO_CLIENT), from_server)] == [
        Kind.SERVER_HELLO,
        Kind.SERVER_EXCHANGE,
        Kind.REFUSE,
    ]


def test_no_two_logins_look_alike_and_none_shows_the_password() -> None:
    first, second = log_in(*make_pair())[2:], log_in(*make_pair())[2:]
    for one, other in zip(first, second, strict=True):
        assert one != other
        assert PASSWORD not in one


def test_a_client_of_another_version_is_notified() -> None:
    server = ServerLogin(SERVER_ID, SALT, FINGERPRINT)
    hello = CLIENT_HELLO.pack(MAGIC, 2, 9, bytes(32), CLIENT_ID)
    assert server.receive(Frame(Kind.CLIENT_HELLO, hello)) == [OtherVersion(2, 9)]
    client = ClientLogin(CLIENT_ID, FINGERPRINT)
    [refusal] = frames(FrameReader(LOGIN_TO_CLIENT), server.take_output())
    assert client.receive(refusal) == [Refused(Refusal.VERSION, VERSION)]


def test_a_client_that_expects_another_fingerprint_says_so_instead_of_its_hello() -> None:
    server = ServerLogin(SERVER_ID, SALT, FINGERPRINT)
    [frame] = frames(FrameReader(LOGIN_TO_SERVER), client_refusal(Distrust.FINGERPRINT))
    assert CLIENT_ID not in frame.payload
    assert server.receive(frame) == [Distrusted(Distrust.FINGERPRINT)]
    assert server.take_output() == b""
    with pytest.raises(RemoteProtocolError):
        server.receive(frame)


def test_a_client_that_refuses_with_an_unknown_code_or_after_its_hello_breaks_the_protocol() -> None:
    server = ServerLogin(SERVER_ID, SALT, FINGERPRINT)
    with pytest.raises(RemoteProtocolError, match="unknown code 9"):
        server.receive(Frame(Kind.CLIENT_REFUSE, b"\x09"))
    server.receive(Frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, bytes(32), CLIENT_ID)))
    with pytest.raises(RemoteProtocolError):
        server.receive(Frame(Kind.CLIENT_REFUSE, b"\x01"))


def test_a_newer_client_that_still_speaks_our_version_is_let_in() -> None:
    server = ServerLogin(SERVER_ID, SALT, FINGERPRINT)
    hello = CLIENT_HELLO.pack(MAGIC, 1, 9, bytes(32), CLIENT_ID)
    assert server.receive(Frame(Kind.CLIENT_HELLO, hello)) == [Knocks(CLIENT_ID)]


@pytest.mark.parametrize("why", list(Refusal))
def test_every_refusal_arrives_with_its_code_and_seconds(why: Refusal) -> None:
    server, client = ServerLogin(SERVER_ID, SALT, FINGERPRINT), ClientLogin(CLIENT_ID, FINGERPRINT)
    server.refuse(why, 86400)
    [refusal] = frames(FrameReader(LOGIN_TO_CLIENT), server.take_output())
    assert client.receive(refusal) == [Refused(why, 86400)]


def test_a_server_may_refuse_while_the_client_stretches_the_passphrase() -> None:
    client = ClientLogin(CLIENT_ID, FINGERPRINT)
    client.take_output()
    client.receive(Frame(Kind.SERVER_HELLO, SERVER_HELLO.pack(1, 1, bytes(32), SERVER_ID, SALT)))
    assert client.receive(Frame(Kind.REFUSE, REFUSE.pack(Refusal.BANNED, 30))) == [Refused(Refusal.BANNED, 30)]
    client.password(PASSWORD)
    assert client.take_output() == b""


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (Frame(Kind.SERVER_PROOF, bytes(32)), "came while"),
        (Frame(Kind.SERVER_EXCHANGE, bytes(33)), "came while"),
        (Frame(Kind.REFUSE, REFUSE.pack(77, 0)), "unknown code 77"),
        (Frame(Kind.SERVER_HELLO, SERVER_HELLO.pack(2, 1, bytes(32), SERVER_ID, SALT)), "version 2"),
        (Frame(Kind.SERVER_HELLO, SERVER_HELLO.pack(1, 2, bytes(32), SERVER_ID, SALT)), "suite 2"),
    ],
)
def test_a_server_that_breaks_the_login_is_left(frame: Frame, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        ClientLogin(CLIENT_ID, FINGERPRINT).receive(frame)


def test_a_client_that_is_none_or_hurries_ahead_is_cut() -> None:
    server = ServerLogin(SERVER_ID, SALT, FINGERPRINT)
    with pytest.raises(RemoteProtocolError, match="no lanfit client"):
        server.receive(Frame(Kind.CLIENT_HELLO, bytes(CLIENT_HELLO.size)))
    with pytest.raises(RemoteProtocolError, match="came while"):
        server.receive(Frame(Kind.CLIENT_EXCHANGE, bytes(33)))
    server.receive(Frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, bytes(32), CLIENT_ID)))
    with pytest.raises(RemoteProtocolError, match="came while"):  # the gate has not decided yet
        server.receive(Frame(Kind.CLIENT_EXCHANGE, bytes(33)))


def test_our_own_steps_out_of_order_are_our_own_bug() -> None:
    with pytest.raises(LocalProtocolError):
        ClientLogin(CLIENT_ID, FINGERPRINT).password(PASSWORD)
    with pytest.raises(LocalProtocolError):
        ServerLogin(SERVER_ID, SALT, FINGERPRINT).admit(PASSWORD)


def exchange_state(fingerprint: bytes = FINGERPRINT) -> tuple[ServerLogin, bytes]:
    """A server that waits for the exchange, and the message that would be right."""
    client, server = make_pair(fingerprint, fingerprint)
    server.receive(frames(FrameReader(LOGIN_TO_SERVER), client.take_output())[0])
    server.admit(PASSWORD)
    client.receive(frames(FrameReader(LOGIN_TO_CLIENT), server.take_output())[0])
    client.password(PASSWORD)
    return server, frames(FrameReader(LOGIN_TO_SERVER), client.take_output())[0].payload


def low_order_points() -> list[bytes]:
    p = 2**255 - 19
    return [n.to_bytes(32, "little") for n in (0, 1, p - 1, p, 2**255 - 1)] + [b"\xff" * 32]


@pytest.mark.parametrize("point", low_order_points())
def test_a_point_of_no_use_is_refused(point: bytes) -> None:
    server, _ = exchange_state()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, b"A" + point))
    with pytest.raises(RemoteProtocolError, match="no point of the group"):
        server.begin()


def test_the_message_of_the_wrong_side_is_refused() -> None:
    server, right = exchange_state()
    server.receive(Frame(Kind.CLIENT_EXCHANGE, b"B" + right[1:]))
    with pytest.raises(RemoteProtocolError, match="no point of the group"):
        server.begin()


def test_a_guess_that_may_not_begin_learns_nothing_and_costs_nothing() -> None:
    server, right = exchange_state()
    assert server.receive(Frame(Kind.CLIENT_EXCHANGE, right)) == [Guesses(CLIENT_ID)]
    assert server.take_output() == b""
    with pytest.raises(RemoteProtocolError, match="came while"):  # the gate has not decided yet
        server.receive(Frame(Kind.CLIENT_PROOF, bytes(32)))
    server.refuse(Refusal.BANNED, 30)
    [refusal] = frames(FrameReader(LOGIN_TO_CLIENT), server.take_output())
    assert refusal.kind is Kind.REFUSE
    with pytest.raises(LocalProtocolError):
        server.begin()


def mutated(random_: random.Random, stream: bytes) -> bytes:
    changed = bytearray(stream)
    for _ in range(random_.randint(1, 3)):
        place = random_.randrange(len(changed))
        match random_.randrange(3):
            case 0:
                changed[place] ^= 1 << random_.randrange(8)
            case 1:
                del changed[place : place + random_.randint(1, 9)]
            case 2:
                changed[place:place] = random_.randbytes(random_.randint(1, 9))
    return bytes(changed)


def outcome(stream: bytes, admit: bool, step: int) -> str:
    """Feed a client's bytes to a server; return how it ended."""
    server, reader = ServerLogin(SERVER_ID, SALT, FINGERPRINT), FrameReader(LOGIN_TO_SERVER)
    ended = "waits"
    try:
        for start in range(0, len(stream), step):
            for frame in arriving(reader, stream[start : start + step]):
                for event in server.receive(frame):
                    if isinstance(event, Knocks):
                        server.admit(PASSWORD) if admit else server.refuse(Refusal.BANNED, 30)
                    if isinstance(event, Guesses):
                        server.begin()
                    ended = type(event).__name__
    except RemoteProtocolError as error:
        ended = error.message
    return ended


def test_2000_mutated_logins_let_nobody_in_and_raise_nothing_but_the_peers_error() -> None:
    random_ = random.Random(21)
    _, _, sent, _ = log_in(*make_pair())
    endings = set()
    for n in range(2000):
        stream = mutated(random_, sent)
        # The group arithmetic of an admitted client takes 20 ms, so only some are admitted.
        admit = n % 10 == 0
        whole = outcome(stream, admit, len(stream) or 1)
        assert whole != "LoggedIn"
        if not admit:
            assert outcome(stream, admit, 1) == whole
        endings.add(whole)
    assert {"WrongProof", "the peer is no lanfit client", "the exchange message is no point of the group"} <= endings


def test_2000_mutated_answers_of_a_server_raise_nothing_but_the_peers_error() -> None:
    random_ = random.Random(22)
    server = ServerLogin(SERVER_ID, SALT, FINGERPRINT)
    server.receive(Frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 1, 1, bytes(32), CLIENT_ID)))
    server.admit(PASSWORD)
    sent = server.take_output() + encode_frame(Kind.REFUSE, REFUSE.pack(Refusal.BANNED, 30))
    endings = set()
    for _ in range(2000):
        stream = mutated(random_, sent)
        results = []
        for step in (len(stream), 1):
            client, reader = ClientLogin(CLIENT_ID, FINGERPRINT), FrameReader(LOGIN_TO_CLIENT)
            ended = "waits"
            try:
                for start in range(0, len(stream), step):
                    for frame in arriving(reader, stream[start : start + step]):
                        ended = type([*client.receive(frame)][-1]).__name__
            except RemoteProtocolError:
                ended = "refused"
            results.append(ended)
        assert results[0] == results[1]
        endings.add(results[0])
    assert endings == {"waits", "NeedPassword", "Refused", "refused"}


def test_the_passphrase_is_stretched_as_the_document_says() -> None:
    passphrase = "Grüße, 4 Wörter"
    composed, decomposed = (unicodedata.normalize(form, passphrase) for form in ("NFC", "NFD"))
    assert composed != decomposed
    expected = hashlib.scrypt(composed.encode(), salt=SALT, n=32768, r=8, p=1, maxmem=2**26, dklen=32)
    assert stretch(composed, SALT) == stretch(decomposed, SALT) == expected
    assert stretch(passphrase + " ", SALT) != expected


def test_the_transcript_has_its_parts_length_prefixed() -> None:
    parts = [b"lanfit/1", b"hello c", b"hello s", FINGERPRINT]
    expected = hashlib.sha256(b"".join(struct.pack("!I", len(part)) + part for part in parts)).digest()
    assert transcript(b"hello c", b"hello s", FINGERPRINT) == expected
    assert transcript(b"hello ", b"chello s", FINGERPRINT) != expected


def test_every_state_of_the_tables_is_reached_and_has_a_way_out() -> None:
    for table in (CLIENT_LOGIN, SERVER_LOGIN):
        reached = {State.HELLO} | {step.to for step in table}
        left = {step.state for step in table if step.to is not step.state}
        assert reached - left == {State.DONE, State.REFUSED}
        assert left <= reached
        assert len({(step.state, step.on) for step in table}) == len(table)


def test_logins_do_not_show_their_secrets() -> None:
    client, server = make_pair()
    log_in(client, server)
    for login in (client, server):
        assert PASSWORD.hex() not in repr(login)
        assert PASSWORD not in vars(login).values()
