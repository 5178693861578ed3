"""Who does not know the passphrase guesses in parallel, by halves, from one place or many: few guesses, and nobody else
is kept out. The real login over loopback; the gate alone, in all orders of events."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import LoginServer, run_script, who

from lanfit.wire.auth import LoggedIn, Refusal, Refused
from lanfit_server.clusters import gate as gate_module
from lanfit_server.clusters.gate import GUESSES, GUESSES_A_MINUTE, GUESSES_OF_A_KNOWN_ID, SLOW_SECONDS, Gate

EVE, LAB, NEWCOMER = "10.9.9.9", "10.0.0.1", "10.0.0.2"
WRONG = bytes(32)


def test_32_guesses_at_once_from_one_address_are_three(tmp_path: Path) -> None:
    async def go() -> None:
        async with LoginServer(tmp_path).listening() as server:
            # Those that may begin have their proofs in hand before the first of them is sent.
            held = asyncio.Barrier(GUESSES)
            guesses = [asyncio.create_task(server.guess(who(EVE, n), WRONG, held)) for n in range(32)]
            ended = await asyncio.gather(*guesses)
            assert [one for one in ended if one == Refused(Refusal.PASSPHRASE, 0)] == [ended[0]] * GUESSES
            refused = [one for one in ended if one != Refused(Refusal.PASSPHRASE, 0)]
            assert {one.why for one in refused if isinstance(one, Refused)} == {Refusal.BANNED}
            assert [ban.address for ban in server.gate.bans()] == [EVE]
            # Nobody else notices.
            assert isinstance(await server.guess(who(NEWCOMER)), LoggedIn)

    run_script(go())


def test_many_who_know_the_passphrase_come_in_at_once_from_one_address(tmp_path: Path) -> None:
    async def go() -> None:
        async with LoginServer(tmp_path).listening() as server:
            ended = await asyncio.gather(*(server.guess(who(LAB, n)) for n in range(25)))
            assert all(isinstance(one, LoggedIn) for one in ended)
            assert server.gate.bans() == []

    run_script(go())


def test_half_logins_count_and_so_they_end(tmp_path: Path) -> None:
    async def go() -> None:
        async with LoginServer(tmp_path).listening() as server:
            answered = [await server.half(who(EVE, n)) for n in range(2 * GUESSES)]
            assert answered == [True] * GUESSES + [False] * GUESSES
            assert [ban.address for ban in server.gate.bans()] == [EVE]

    run_script(go())


def test_guesses_from_this_machine_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "SLOW_SECONDS", 0.001)

    async def go() -> None:
        async with LoginServer(tmp_path).listening() as server:
            for n in range(GUESSES_A_MINUTE + 1):
                assert await server.guess(who("127.0.0.1", n), WRONG) == Refused(Refusal.PASSPHRASE, 0)
            assert server.gate.begin(NEWCOMER, who(NEWCOMER, 1)) == 0.0  # it is not even slowed down
            assert server.gate.bans() == []
            assert isinstance(await server.guess(who(NEWCOMER)), LoggedIn)
            assert isinstance(await server.guess(who("127.0.0.1", 99)), LoggedIn)

    run_script(go())


def test_whoever_deletes_the_file_of_bans_lifts_them_while_the_server_runs(tmp_path: Path) -> None:
    async def go() -> None:
        async with LoginServer(tmp_path).listening() as server:
            assert isinstance(await server.guess(who(LAB)), LoggedIn)
            for _ in range(2):  # it is written again, and can be deleted again
                for n in range(GUESSES):
                    await server.guess(who(EVE, n), WRONG)
                assert [ban.address for ban in server.gate.bans()] == [EVE]
                (tmp_path / "state" / "gate.json").unlink()
                assert server.gate.bans() == []
                # Refused for its passphrase, and no more for its address.
                assert await server.guess(who(EVE), WRONG) == Refused(Refusal.PASSPHRASE, 0)
                for n in range(GUESSES - 1):
                    await server.guess(who(EVE, n), WRONG)
                (tmp_path / "state" / "gate.json").unlink()
            assert (LAB, server.gate.begin(LAB, who(LAB))) == (LAB, 0.0)  # who joined before is still known

    run_script(go())


# --- the decisions, in all orders ---------------------------------------------------------------------------------

ADDRESSES = [EVE, "10.9.9.8", "2001:db8:0:1::7", "127.0.0.1"]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(ADDRESSES),
        st.sampled_from(["begin", "begin", "begin", "wrong", "given up"]),
        st.floats(0, 20),
    ),
    max_size=200,
)


class Scripted:
    """A gate, and what its strangers have under way."""

    def __init__(self) -> None:
        self.gate, self.now = Gate(), 0.0
        self.under_way: dict[str, list[bytes]] = {address: [] for address in ADDRESSES}
        self.begun: list[tuple[float, str]] = []
        self.ids = 0

    def step(self, address: str, what: str, wait: float) -> None:
        self.now += wait
        if what == "begin":
            self.ids += 1
            stranger = self.ids.to_bytes(16)
            if isinstance(self.gate.begin(address, stranger, self.now), float):
                self.under_way[address].append(stranger)
                self.begun.append((self.now, address))
        elif self.under_way[address]:
            stranger = self.under_way[address].pop()
            if what == "wrong":
                self.gate.failed(address, stranger, self.now)
            else:
                self.gate.abandoned(address, stranger)


@given(EVENTS)
def test_an_address_never_has_more_guesses_under_way_than_it_may_still_get_wrong(
    events: list[tuple[str, str, float]],
) -> None:
    scripted = Scripted()
    wrong = dict.fromkeys(ADDRESSES, 0)
    for address, what, wait in events:
        had = len(scripted.under_way[address])
        scripted.step(address, what, wait)
        if what == "wrong" and had:
            wrong[address] = (wrong[address] + 1) % GUESSES  # the third is a ban, and the count starts anew
        if address != "127.0.0.1":
            assert wrong[address] + len(scripted.under_way[address]) <= GUESSES
        assert len(scripted.under_way[address]) <= GUESSES


@given(EVENTS, st.integers(0, 200))
def test_whatever_strangers_do_newcomers_are_not_refused_and_known_clients_notice_nothing(
    events: list[tuple[str, str, float]], flood: int
) -> None:
    scripted = Scripted()
    scripted.gate.joined(LAB, who(LAB), 0.0)
    for event in events:
        scripted.step(*event)
    for n in range(flood):
        scripted.gate.failed(f"10.8.{n}.1", b"x" * 16, scripted.now)
    assert scripted.gate.admit(LAB, who(LAB), scripted.now) is None
    assert scripted.gate.begin(LAB, who(LAB), scripted.now) == 0.0
    assert scripted.gate.admit(NEWCOMER, who(NEWCOMER), scripted.now) is None
    begun = scripted.gate.begin(NEWCOMER, who(NEWCOMER), scripted.now)
    assert begun in (0.0, SLOW_SECONDS)


@given(EVENTS)
def test_a_ban_lasts_and_nothing_begins_meanwhile(events: list[tuple[str, str, float]]) -> None:
    scripted = Scripted()
    for address, what, wait in events:
        before = {ban.address: scripted.now + ban.seconds for ban in scripted.gate.bans(scripted.now)}
        begun = len(scripted.begun)
        scripted.step(address, what, wait)
        if len(scripted.begun) > begun:
            assert before.get(gate_module.subject(address), 0.0) <= scripted.now


def test_over_the_limit_of_all_only_who_has_guessed_wrong_waits_and_everybody_else_is_slowed() -> None:
    gate = Gate()
    for n in range(GUESSES_A_MINUTE):
        assert isinstance(gate.begin(f"10.1.0.{n}", who(EVE), float(n)), float)
        gate.failed(f"10.1.0.{n}", who(EVE), float(n))
    assert gate.admit("10.1.0.7", who(EVE), 40.0) == Refused(Refusal.BANNED, 21)
    assert gate.begin("10.1.0.7", who(EVE), 40.0) == Refused(Refusal.BANNED, 21)
    assert gate.begin(NEWCOMER, who(NEWCOMER), 40.0) == SLOW_SECONDS
    assert gate.begin(NEWCOMER, who(NEWCOMER, 1), 40.0) is None  # one at a time
    gate.joined(NEWCOMER, who(NEWCOMER), 41.0)
    assert gate.begin(NEWCOMER, who(NEWCOMER, 1), 61.0) == 0.0


def test_an_id_that_joined_before_is_not_good_for_many_guesses_at_once() -> None:
    gate = Gate()
    gate.joined(LAB, who(LAB), 0.0)
    begun = [gate.begin(EVE, who(LAB), 1.0) for _ in range(32)]
    assert begun == [0.0] * GUESSES_OF_A_KNOWN_ID + [None] * (32 - GUESSES_OF_A_KNOWN_ID)


def test_what_is_remembered_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "MOST_SUSPECTS", 20)
    gate = Gate()
    for n in range(50):
        gate.failed(f"10.0.0.{n}", who(EVE), n / 1000)
    assert {one.address for one in gate.state().suspects} == {f"10.0.0.{n}" for n in range(30, 50)}
