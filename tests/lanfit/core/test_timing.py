"""Spans add up wall time, and count no second twice."""

import threading
import time

import pytest

from lanfit.core.timing import Timings


class Clock:
    """A clock that is moved by hand: the edge of the machine."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timings(clock):
    return Timings(clock)


def test_spans_of_one_name_add_up_and_names_keep_their_order(timings, clock):
    for seconds in (1, 2):
        with timings.span("receive"):
            clock.now += seconds
        with timings.span("train"):
            clock.now += 10 * seconds
    assert timings.seconds == {"receive": 3.0, "train": 30.0}
    assert list(timings.seconds) == ["receive", "train"]


def test_a_span_inside_a_span_of_the_same_name_counts_once(timings, clock):
    with timings.span("train"):
        clock.now += 1
        with timings.span("train"), timings.span("validate"):
            clock.now += 2
        clock.now += 4
    assert timings.seconds == {"train": 7.0, "validate": 2.0}


def test_an_error_ends_the_span_and_continues_to_the_caller(timings, clock):
    def fail():
        with timings.span("send"):
            clock.now += 3
            raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        fail()
    clock.now += 100
    assert timings.seconds == {"send": 3.0}


def test_an_open_span_shows_what_it_has_so_far(timings, clock):
    with timings.span("total"):
        clock.now += 5
        assert timings.seconds == {"total": 5.0}
        clock.now += 1
    assert timings.seconds == {"total": 6.0}


def test_many_threads_lose_no_span_and_count_no_second_twice():
    timings = Timings()
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        for _ in range(500):
            with timings.span("step"), timings.span("part"):
                pass

    with timings.span("all"):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (timings.span("step").count, timings.span("part").count) == (4000, 4000)
    assert 0 < timings.seconds["step"] <= timings.seconds["all"]


def test_threads_that_switch_at_every_look_at_the_clock_lose_no_time():
    looks = []

    def clock():
        time.sleep(0)  # lets the other threads run, here of all places
        looks.append(float(len(looks)))
        return looks[-1]

    timings = Timings(clock)

    def work():
        for _ in range(300):
            with timings.span("step"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timings.seconds["step"] == sum(looks[1::2]) - sum(looks[0::2])


def test_merging_adds_seconds_and_counts(timings, clock):
    other = Timings(clock)
    for each in (timings, other):
        with each.span("train"):
            clock.now += 2
    other.add("import", 4.5)
    timings.merge(other)
    assert timings.seconds == {"train": 4.0, "import": 4.5}
    assert timings.span("train").count == 2


def test_the_table_shows_name_count_seconds_and_share_with_the_longest_first(timings, clock):
    for _ in range(3):
        with timings.span("send"):
            clock.now += 0.25
    timings.add("train", 2.25)
    assert timings.table().splitlines() == [
        "name      count     seconds   share",
        "train         1       2.250   75.0%",
        "send          3       0.750   25.0%",
    ]


def test_a_table_of_nothing_is_its_header():
    assert Timings().table().split() == ["name", "count", "seconds", "share"]
