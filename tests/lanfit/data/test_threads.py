"""Work in threads: at the same time, results and errors in order, and never far ahead of who wants them."""

import threading
import tracemalloc

import pytest

from lanfit.data.threads import TO_BEGIN, ahead, can_start_threads, in_order
from lanfit.errors import InputError


def test_files_are_read_at_the_same_time_and_the_first_error_is_the_one_that_is_reported():
    meet = threading.Barrier(2, timeout=30)

    def work(item):
        if item < 2:
            meet.wait()  # passes only if two are at work
        if item:
            raise InputError(f"file {item}")

    with pytest.raises(InputError, match="file 1"):
        in_order(work, [0, 1, 2, 3])
    assert in_order(lambda item: item * 2, [3, 1, 2]) == [6, 2, 4]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_what_is_done_ahead_comes_in_order_and_stays_a_few_items_ahead(threads):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    for wanted, result in enumerate(ahead(lambda number: number * 2, items(), threads)):
        assert result == wanted * 2
        assert len(taken) <= wanted + (1 if threads == 1 else threads + 2)
    assert len(taken) == 40


def test_chunks_are_worked_on_at_the_same_time():
    meet = threading.Barrier(2, timeout=30)
    assert sorted(ahead(lambda _: meet.wait(), range(2), 2)) == [0, 1]  # passes only if two are at work


def test_an_error_is_reported_where_its_result_would_come_and_ends_the_work():
    def work(number):
        if number == 3:
            raise InputError("piece 3")
        return number

    numbers = iter(range(1000))
    results = ahead(work, numbers, 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="piece 3"):
        next(results)
    assert next(numbers) < 10


def test_all_threads_have_begun_before_one_works() -> None:
    """One that works may take the memory that another needs to begin: Python waits for that one for ever."""

    def there(_: int) -> int:
        pool = threading.current_thread().name.rpartition("_")[0]
        return sum(each.name.rpartition("_")[0] == pool for each in threading.enumerate())

    counts = in_order(there, range(20))
    assert len(set(counts)) == 1
    assert counts[0] > 1


def test_too_little_memory_for_a_thread_is_reported_and_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start
    begun: list[threading.Thread] = []

    def start(self: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(self)
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(MemoryError, match="can't start new thread"):
        in_order(lambda item: item, [1, 2, 3])
    begun[0].join(60)
    assert not begun[0].is_alive()


def test_without_space_for_threads_one_item_is_taken_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanfit.data.threads.TO_BEGIN", 1 << 50)
    assert set(in_order(lambda _: threading.current_thread(), range(3))) == {threading.current_thread()}
    assert set(ahead(lambda _: threading.current_thread(), range(3), 2)) == {threading.current_thread()}


def test_memory_is_requested_as_a_stack_is_and_not_counted_as_used() -> None:
    tracemalloc.start()
    try:
        assert can_start_threads(2)
        assert tracemalloc.get_traced_memory()[1] < TO_BEGIN
    finally:
        tracemalloc.stop()
