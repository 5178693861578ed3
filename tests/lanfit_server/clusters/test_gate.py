from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.wire.auth import Refusal, Refused
from lanfit_server.clusters.gate import (
    FIRST_BAN,
    GUESSES,
    GUESSES_A_MINUTE,
    GUESSES_OF_A_KNOWN_ID,
    LONGEST_BAN,
    SLOW_SECONDS,
    Ban,
    Gate,
    GateShell,
    subject,
)

STRANGER, FRIEND = b"s" * 16, b"f" * 16
HOME = "192.168.1.7"


def fail(gate: Gate, times: int, address: str = HOME, client_id: bytes = STRANGER, now: float = 0.0) -> None:
    for _ in range(times):
        gate.failed(address, client_id, now)


def test_three_wrong_guesses_get_an_address_banned_for_30_seconds() -> None:
    gate = Gate()
    fail(gate, 2)
    assert gate.admit(HOME, STRANGER, 0.0) is None
    fail(gate, 1)
    refused = gate.admit(HOME, STRANGER, 1.0)
    assert refused == Refused(Refusal.BANNED, 30)
    assert gate.admit("192.168.1.8", STRANGER, 1.0) is None
    assert gate.admit(HOME, STRANGER, 30.0) is None


def test_each_further_ban_lasts_twice_as_long_up_to_a_day() -> None:
    gate, now, lasted = Gate(), 0.0, []
    for _ in range(15):
        fail(gate, GUESSES, now=now)
        [ban] = gate.bans(now)
        lasted.append(ban.seconds)
        now += ban.seconds
    assert lasted[:4] == [30, 60, 120, 240]
    assert lasted[-2:] == [LONGEST_BAN, LONGEST_BAN]


def test_a_success_clears_what_an_address_did() -> None:
    gate = Gate()
    fail(gate, GUESSES)
    fail(gate, 2, now=31.0)
    gate.joined(HOME, STRANGER, 32.0)
    fail(gate, 2, client_id=b"n" * 16, now=33.0)
    assert gate.bans(33.0) == []
    fail(gate, 1, client_id=b"n" * 16, now=33.0)
    assert gate.bans(33.0) == [Ban(HOME, FIRST_BAN)]


def test_an_ipv6_network_is_one_address() -> None:
    gate = Gate()
    for n in range(GUESSES):
        gate.failed(f"2001:db8:0:1::{n:x}", STRANGER, 0.0)
    assert gate.admit("2001:db8:0:1:ffff::9", STRANGER, 1.0)
    assert gate.admit("2001:db8:0:2::1", STRANGER, 1.0) is None
    assert gate.bans(0.0) == [Ban("2001:db8:0:1::/64", FIRST_BAN)]
    assert gate.lift("2001:db8:0:1::/64")
    assert gate.admit("2001:db8:0:1:ffff::9", STRANGER, 1.0) is None


def test_an_ipv4_address_in_ipv6_clothes_is_the_same() -> None:
    assert subject("::ffff:192.168.1.7") == subject(HOME) == HOME
    assert subject("fe80::1%eth0") == "fe80::/64"


def test_all_addresses_together_have_30_wrong_guesses_a_minute() -> None:
    gate = Gate()
    for n in range(GUESSES_A_MINUTE):
        gate.failed(f"10.0.0.{n}", STRANGER, float(n))
    assert gate.admit("10.0.0.7", STRANGER, 40.0) == Refused(Refusal.BANNED, 21)
    assert gate.admit("10.0.1.1", STRANGER, 40.0) is None  # it has not guessed wrong: it is only slowed down
    assert gate.begin("10.0.1.1", STRANGER, 40.0) == SLOW_SECONDS
    assert gate.admit("127.0.0.1", STRANGER, 40.0) is None
    assert gate.admit("10.0.0.7", STRANGER, 60.0) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.5.5.5", "::1"])
def test_loopback_is_never_banned(address: str) -> None:
    gate = Gate()
    fail(gate, 50, address=address)
    assert gate.admit(address, STRANGER, 0.0) is None
    assert gate.begin(address, STRANGER, 0.0) == SLOW_SECONDS
    assert gate.bans(0.0) == []


def test_who_joined_before_is_not_kept_out_by_a_neighbours_guesses() -> None:
    gate = Gate()
    gate.joined(HOME, FRIEND, 0.0)
    fail(gate, GUESSES)
    assert gate.admit(HOME, STRANGER, 0.0)
    assert gate.admit(HOME, FRIEND, 0.0) is None


def test_a_stolen_client_id_is_not_good_for_endless_guesses() -> None:
    gate = Gate()
    gate.joined(HOME, FRIEND, 0.0)
    fail(gate, GUESSES_OF_A_KNOWN_ID - 1, address="10.6.6.6", client_id=FRIEND)
    assert gate.admit("10.6.6.6", FRIEND, 0.0) is None
    fail(gate, 1, address="10.6.6.6", client_id=FRIEND)
    assert gate.admit("10.6.6.6", FRIEND, 0.0)
    gate.joined(HOME, FRIEND, 1.0)  # the real one gets in from home and is trusted anew
    fail(gate, GUESSES, now=1.0)
    assert gate.admit(HOME, FRIEND, 1.0) is None


def test_a_ban_can_be_lifted() -> None:
    gate = Gate()
    fail(gate, GUESSES)
    assert gate.lift(HOME)
    assert not gate.lift(HOME)
    assert gate.admit(HOME, STRANGER, 0.0) is None


def test_the_gate_forgets_old_sins_so_that_its_memory_does_not_grow() -> None:
    gate = Gate()
    for n in range(200):
        gate.failed(f"10.0.{n // 100}.{n % 100}", STRANGER, n * 3600.0)
    assert len(gate.state().suspects) < 30


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 4000)), max_size=60))
def test_a_gate_continues_as_if_nothing_happened_after_a_restart(events: list[tuple[int, bool, float]]) -> None:
    gate, now = Gate(), 0.0
    for who, success, wait in events:
        now += wait
        address = f"10.0.0.{who}"
        (gate.joined if success else gate.failed)(address, bytes([who]) * 16, now)
        again = Gate(gate.state())
        assert [ban.address for ban in again.bans(now)] == [ban.address for ban in gate.bans(now)]
    later = Gate(gate.state(shift=5000.0))
    assert [round(ban.seconds) for ban in later.bans(now + 5000)] == [round(ban.seconds) for ban in gate.bans(now)]


# --- the shell


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def shell(path: Path, monotonic: Clock, wall: Clock) -> GateShell:
    return GateShell(path, monotonic, wall)


def test_bans_and_known_clients_outlive_a_restart_and_times_the_reboot(tmp_path: Path) -> None:
    path, monotonic, wall = tmp_path / "state" / "bans.json", Clock(5000.0), Clock(1_700_000_000.0)
    before = shell(path, monotonic, wall)
    before.joined("10.0.0.9", FRIEND)
    for _ in range(2 * GUESSES):
        before.failed(HOME, STRANGER)
    assert before.bans() == [Ban(HOME, 60.0)]
    monotonic.now, wall.now = 3.0, wall.now + 20  # the machine was started anew
    after = shell(path, monotonic, wall)
    after.stretched = b"stretched"
    [ban] = after.bans()
    assert (ban.address, round(ban.seconds)) == (HOME, 40)
    assert isinstance(after.admit(HOME, STRANGER), Refused)
    assert after.admit(HOME, FRIEND) == b"stretched"


def test_the_wall_clock_moves_no_ban_while_the_server_runs(tmp_path: Path) -> None:
    monotonic, wall = Clock(0.0), Clock(1_700_000_000.0)
    gate = shell(tmp_path / "bans.json", monotonic, wall)
    for _ in range(GUESSES):
        gate.failed(HOME, STRANGER)
    wall.now += 86400
    assert [round(ban.seconds) for ban in gate.bans()] == [30]


def test_until_the_passphrase_is_chosen_every_client_must_wait(tmp_path: Path) -> None:
    gate = GateShell(tmp_path / "bans.json")
    answer = gate.admit(HOME, STRANGER)
    assert isinstance(answer, Refused)
    assert answer.why is Refusal.NOT_READY
    gate.stretched = b"stretched passphrase"
    assert gate.admit(HOME, STRANGER) == b"stretched passphrase"
    assert "stretched passphrase" not in repr(gate)


@pytest.mark.parametrize("content", ["", "{", '{"suspects": 5}', '{"clients": {"\\ud800": 1}}', "\x00" * 50])
def test_a_damaged_file_of_bans_keeps_nobody_out(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bans.json"
    path.write_text(content)
    gate = GateShell(path)
    gate.stretched = b"stretched"
    assert gate.admit(HOME, STRANGER) == b"stretched"
    assert "bans.json" in caplog.text
    gate.failed(HOME, STRANGER)
    assert GateShell(path).bans() == []


def test_bans_that_can_not_be_written_keep_nobody_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    gate = GateShell(tmp_path / "state" / "bans.json")
    gate.joined(HOME, FRIEND)
    for _ in range(GUESSES):
        gate.failed(HOME, STRANGER)
    assert "can't be written" in caplog.text
    assert [ban.address for ban in gate.bans()] == [HOME]


def test_a_lifted_ban_stays_lifted_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    gate = GateShell(path)
    for _ in range(GUESSES):
        gate.failed(HOME, STRANGER)
    assert GateShell(path).bans()
    assert gate.lift(HOME)
    assert not GateShell(path).bans()
