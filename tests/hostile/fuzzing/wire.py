"""What comes over the network: frames, messages, names of classes, logins."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import inspect

from fuzzing.base import FINGERPRINT, ID, JSON, MSGPACK, SECRET, Base, Chance, Targets, to_msgpack
from fuzzing.engine import corrupt, rearrange
from fuzzing.models import ARCHITECTURES, COMPILED
from lanfit.data.text_labels import words_from_array
from lanfit.errors import InputError, RemoteProtocolError
from lanfit.models.architecture import check_architecture
from lanfit.models.compiling import read_spec
from lanfit.wire.arrays import BlockSpec, block_size, check_specs, views
from lanfit.wire.auth import ClientLogin, Guesses, Knocks, NeedPassword, Refusal, ServerLogin
from lanfit.wire.frames import Chunk, Kind, encode_frame
from lanfit.wire.messages import EvaluateTask, FromClient, FromServer, Lease, Model, Progress, Surveyed
from lanfit.wire.messages import Survey as SurveyOrder
from lanfit.wire.session import Event, Session, Side
from lanfit_client.model_size import check_size
from lanfit_server.data.survey import ClientSurvey, check_survey

_TEXTS = ("shard-1", "0" * 64, "", "standard", "layers.py", "val_loss", ".h5", "lab-01", "fit", "1.0", "ab\x1bc\n")


def example(kind: inspect.Type, chance: Chance) -> Any:
    """A value of a type, as it stands in a message."""
    match kind:
        case inspect.Metadata(type=inner):
            return example(inner, chance)
        case inspect.StrType(pattern=str() as pattern):
            import re

            return chance.choice([text for text in _TEXTS if re.search(pattern, text)])
        case inspect.StrType():
            return chance.choice((*_TEXTS, "{}", ARCHITECTURES[0], COMPILED[0], "values", "class"))
        case inspect.BoolType():
            return chance.random() < 0.5
        case inspect.IntType():
            return chance.choice((0, 1, 2, 3, 40, 1000, 2**31 - 1))
        case inspect.FloatType():
            return chance.choice((0.0, 0.5, 1.0, 1e300, float("nan"), float("inf")))
        case inspect.BytesType():
            return chance.randbytes(16)
        case inspect.NoneType():
            return None
        case inspect.LiteralType(values=values):
            return chance.choice(values)
        case inspect.VarTupleType(item_type=item):
            return [example(item, chance) for _ in range(chance.choice((0, 1, 1, 2, 5)))]
        case inspect.TupleType(item_types=items):
            return [example(item, chance) for item in items]
        case inspect.DictType(key_type=key, value_type=value):
            return {example(key, chance): example(value, chance) for _ in range(chance.choice((0, 1, 3)))}
        case inspect.UnionType(types=types):
            return example(chance.choice(types), chance)
        case inspect.StructType(cls=cls, fields=fields, tag=tag, tag_field=tag_field, array_like=array_like):
            if cls is BlockSpec and chance.random() < 0.5:
                return _table_of_a_survey(chance)
            found = {each.encode_name: example(each.type, chance) for each in fields}
            if array_like:
                return [*found.values()]
            return {**({tag_field: tag} if tag_field else {}), **found}
        case _:
            raise TypeError(f"no example of {kind}")


def _table_of_a_survey(chance: Chance) -> Any:
    shape = chance.choice(([], [3], [1], [0]))
    targets = chance.choice(((), ("target_",)))
    names = [prefix + name for prefix in ("", *targets) for name in ("mean", "m2", "minimum", "maximum")]
    table = [[name, "float64", shape] for name in names]
    if chance.random() < 0.5:
        table.append(["labels", "uint8", [chance.choice((2, 9, 13))]])
    return {"id": "0" * 64, "arrays": table}


class Messages(Base):
    """Frames and messages to one side after login, in pieces of odd sizes; and what is looked at in them first."""

    fine = (RemoteProtocolError,)

    def __init__(self, folder: Path, side: Side) -> None:
        super().__init__(folder)
        self.side = side
        types: Any = FromServer if side is Side.CLIENT else FromClient
        self.kinds = [inspect.type_info(each) for each in types.__args__]

    def input(self, chance: Chance) -> bytes:
        frames = []
        for _ in range(chance.choice((1, 1, 2, 3, 6))):
            if chance.random() < 0.15:
                offset, size = chance.choice((0, 0, 100, 2**63)), chance.choice((1, 100, 200))
                head = chance.choice((0, 0, 1, 2**32 - 1)).to_bytes(4, "big") + offset.to_bytes(8, "big")
                frames.append(encode_frame(Kind.DATA, head + bytes(size)))
                continue
            message = example(chance.choice(self.kinds), chance)
            if chance.random() < 0.6:
                message = rearrange(chance, message, example(chance.choice(self.kinds), chance))
            payload = to_msgpack(message)
            if chance.random() < 0.4:
                payload = corrupt(chance, payload, to_msgpack(example(chance.choice(self.kinds), chance)), MSGPACK)
            frames.append(encode_frame(chance.choice((Kind.CONTROL,) * 12 + (*Kind,)), payload))
        data = b"".join(frames)
        return corrupt(chance, data, data) if chance.random() < 0.2 else data

    def give(self, data: bytes) -> None:
        chance = Chance(zlib.crc32(data))
        session = Session(self.side, None)
        session.begin_fetch("0" * 64, memoryview(bytearray(200)), 0)
        size = chance.choice((1, 3, 7, 64, 1000, 1 << 20))
        for start in range(0, len(data), size):
            for event in session.receive_bytes(data[start : start + size]):
                if not isinstance(event, Chunk):
                    self.look(event, chance)

    def look(self, message: Event, chance: Chance) -> None:
        """What is done with what a message says before anything is allocated or computed."""
        with contextlib.suppress(InputError, RemoteProtocolError):
            match message:
                case Progress():
                    assert 0 <= message.share <= 1 or message.share != message.share
                case Surveyed():
                    check_survey(message)
                    model = Model(
                        "{}", "{}", (None, 3), (None, 2), chance.choice(("values", "classes")), "none", "none"
                    )
                    ClientSurvey.of("lab-1", model, message, _of_noise(message.block, chance))
                case Lease() | SurveyOrder() | EvaluateTask():
                    model = message.fit.model if isinstance(message, Lease) else message.model
                    weights = message.members if isinstance(message, EvaluateTask) else (message.weights,)
                    for block in weights:
                        check_specs(block.arrays, 1 << 24)
                        check_size(model.architecture, block.arrays)
                    check_architecture(model.architecture)
                    read_spec(model.compile)
                case _:
                    for block in _blocks_in(message):
                        check_specs(block.arrays, 1 << 24)


def _of_noise(block: BlockSpec, chance: Chance) -> Mapping[str, Any]:
    size = block_size(block.arrays)
    if size > 1 << 16:
        raise InputError("large enough")
    numbers = np.array([chance.choice((0.0, 1.0, -2.5, 1e300, np.nan)) for _ in range(size // 8 + 1)])
    memory = bytearray(numbers.tobytes())
    found = views(memoryview(memory), block.arrays)
    if "labels" in found:
        text = corrupt(chance, b'["a","b","c"]') if chance.random() < 0.5 else b'["a","b","c"]'
        found = {**found, "labels": np.frombuffer(text, np.uint8)}
    return found


def _blocks_in(value: Any) -> Iterable[BlockSpec]:
    if isinstance(value, BlockSpec):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _blocks_in(getattr(value, name))
    elif isinstance(value, tuple):
        for each in value:
            yield from _blocks_in(each)


class Words(Base):
    """The names of classes, which travel as JSON."""

    fine = (ValueError,)  # as its docstring says; who calls it names the client

    def input(self, chance: Chance) -> bytes:
        names = sorted(chance.choice(("a", "b", "é", "x" * 50, "1", "\x07")) + str(n) for n in range(5))
        value = rearrange(chance, names) if chance.random() < 0.5 else names
        text = json.dumps(value).encode()
        return corrupt(chance, text, tokens=JSON) if chance.random() < 0.7 else text

    def give(self, data: bytes) -> None:
        words_from_array(np.frombuffer(data, np.uint8))


# --- login ----------------------------------------------------------------------------------------------------------


class Login(Base):
    """One side of a login, against a peer that knows the passphrase or not, and whose frames are spoilt at one step.

    An input is what is done to them: nonces are drawn anew by both sides each time.
    """

    fine = (RemoteProtocolError,)

    def input(self, chance: Chance) -> bytes:
        return to_msgpack([chance.randrange(2), chance.randrange(4), chance.randrange(5), chance.getrandbits(63)])

    def give(self, data: bytes) -> None:
        is_client, step, refuses, seed = msgspec.msgpack.decode(data)
        chance = Chance(seed)
        client = Session(Side.CLIENT, ClientLogin(ID, FINGERPRINT))
        server = Session(Side.SERVER, ServerLogin(b"s" * 16, b"t" * 16, FINGERPRINT))
        tested, peer = (client, server) if is_client else (server, client)
        other = chance.choice((SECRET, SECRET, b"q" * 32))
        for turn in range(4):
            coming = peer.take_output()
            if turn >= step:
                coming = self.corrupted(coming, chance)
            with contextlib.suppress(RemoteProtocolError):
                self.react(peer, peer.receive_bytes(self.output(tested)), other, -1)
            size = chance.choice((1, 3, 1000))
            for start in range(0, len(coming), size):
                self.react(tested, tested.receive_bytes(coming[start : start + size]), SECRET, refuses)

    def output(self, session: Session) -> bytes:
        return session.take_output()

    def corrupted(self, coming: bytes, chance: Chance) -> bytes:
        match chance.randrange(5):
            case 0:
                return coming
            case 1:
                kind = chance.choice([*Kind])
                size = {Kind.CLIENT_HELLO: 60, Kind.SERVER_HELLO: 67, Kind.REFUSE: 5, Kind.CLIENT_REFUSE: 1}
                exchanges = (Kind.CLIENT_EXCHANGE, Kind.SERVER_EXCHANGE)
                return coming + encode_frame(kind, chance.randbytes(size.get(kind, 33 if kind in exchanges else 32)))
            case 2:
                return coming + coming
            case 3 if len(coming) > 5:  # the payload alone: what is behind a right header
                at = chance.randrange(5, len(coming))
                return coming[:at] + chance.randbytes(1) + coming[at + 1 :]
            case _:
                return corrupt(chance, coming, coming)

    def react(self, session: Session, events: Iterable[Event], secret: bytes, refuses: int) -> None:
        """What `connect` and `listen` do."""
        login = session.login
        for event in events:
            match event, login:
                case NeedPassword(), ClientLogin():
                    login.password(secret)
                case Knocks(), ServerLogin():
                    if refuses == 0:
                        login.refuse(Refusal.FULL, 3)
                    else:
                        login.admit(secret)
                case Guesses(), ServerLogin():
                    if refuses == 1:
                        login.refuse(Refusal.BANNED, 3)
                    else:
                        login.begin()


TARGETS: Targets = {
    "to-server": (250_000, lambda folder: Messages(folder, Side.SERVER)),
    "to-client": (250_000, lambda folder: Messages(folder, Side.CLIENT)),
    "class-names": (40_000, Words),
    "login": (20_000, Login),
}
