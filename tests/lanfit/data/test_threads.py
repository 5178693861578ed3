"""Work in threads: at the same time, results and errors in order, and never far ahead of who wants them."""

import threading

import pytest

from lanfit.data.threads import ahead, in_order
from lanfit.errors import InputError


def test_files_are_read_at_the_same_time_and_the_first_error_is_the_one_that_is_told():
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


def test_pieces_are_worked_on_at_the_same_time():
    meet = threading.Barrier(2, timeout=30)
    assert sorted(ahead(lambda _: meet.wait(), range(2), 2)) == [0, 1]  # passes only if two are at work


def test_an_error_is_told_where_its_result_would_come_and_ends_the_work():
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
