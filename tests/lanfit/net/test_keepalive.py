from collections.abc import Iterator

import pytest

from lanfit.net.keepalive import Alive, Dead, Keepalive, LinkTimes, Reading

IDLE = Reading(received=0, sent=0, unsent=0, fetched=0, fetching=False)


def seconds(last: float, first: float = 1.0) -> Iterator[float]:
    now = first
    while now <= last:
        yield now
        now += 1.0


def test_a_link_pings_after_5_seconds_in_which_it_said_nothing() -> None:
    keepalive = Keepalive(LinkTimes(), 0.0)
    pinged = [now for now in seconds(20) if keepalive.tick(now, Reading(int(now), 0, 0, 0, False)) == Alive(ping=True)]
    assert pinged[0] == 7  # looked at first at 1, so 5 s are over at 7


def test_a_link_that_speaks_does_not_ping_though_the_peer_is_silent() -> None:
    keepalive = Keepalive(LinkTimes(), 0.0)
    assert all(keepalive.tick(now, Reading(0, int(now), 0, 0, False)) == Alive(ping=False) for now in seconds(50))


def test_a_silent_peer_is_dead_after_60_seconds_and_not_before() -> None:
    keepalive = Keepalive(LinkTimes(), 0.0)
    verdicts = {now: keepalive.tick(now, IDLE) for now in seconds(62)}
    assert isinstance(verdicts[61.0], Alive)
    assert verdicts[62.0] == Dead("nothing was received for 61 s", "silent")


def test_a_byte_a_minute_keeps_a_peer_alive() -> None:
    keepalive = Keepalive(LinkTimes(), 0.0)
    assert all(isinstance(keepalive.tick(now, Reading(int(now) // 59, 0, 0, 0, False)), Alive) for now in seconds(600))


def test_a_peer_that_takes_nothing_is_dead_and_a_slow_one_is_not() -> None:
    stuck, slow = Keepalive(LinkTimes(), 0.0), Keepalive(LinkTimes(), 0.0)
    for now in seconds(61):
        assert isinstance(stuck.tick(now, Reading(int(now), 5000, 1000, 0, False)), Alive)
        assert isinstance(slow.tick(now, Reading(int(now), 5000, 1000 - int(now) // 50, 0, False)), Alive)
    assert stuck.tick(62, Reading(62, 5000, 1000, 0, False)) == Dead("the peer received nothing for 61 s", "stuck")
    assert isinstance(slow.tick(62, Reading(62, 5000, 999, 0, False)), Alive)


def test_a_block_that_stalls_is_given_up_after_10_minutes() -> None:
    keepalive = Keepalive(LinkTimes(), 0.0)
    for now in seconds(1000):
        assert isinstance(keepalive.tick(now, Reading(int(now), int(now), 0, 0, False)), Alive)
    for now in seconds(1600, first=1001.0):
        assert isinstance(keepalive.tick(now, Reading(int(now), int(now), 0, 0, True)), Alive)
    verdict = [keepalive.tick(now, Reading(int(now), int(now), 0, 0, True)) for now in seconds(1603, first=1601.0)][-1]
    assert isinstance(verdict, Dead)
    assert "made no progress" in verdict.reason


@pytest.mark.parametrize("pause", [7.0, 120.0, 86400.0])
def test_time_in_which_we_stood_still_ourselves_counts_against_nobody(pause: float) -> None:
    keepalive = Keepalive(LinkTimes(), 0.0)
    for now in seconds(50):
        keepalive.tick(now, IDLE)
    assert isinstance(keepalive.tick(50 + pause, IDLE), Alive)
    assert isinstance(keepalive.tick(51 + pause, IDLE), Alive)


def test_a_pause_shorter_than_the_gap_is_no_excuse() -> None:
    keepalive = Keepalive(LinkTimes(), 0.0)
    for now in seconds(58):
        keepalive.tick(now, IDLE)
    assert isinstance(keepalive.tick(63.0, IDLE), Dead)
