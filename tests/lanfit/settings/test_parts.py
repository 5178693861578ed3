"""Parts of rows: how people write which ones they take, and what is said of who takes what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.errors import InputError
from lanfit.settings.job import FIELDS, make_job
from lanfit.settings.parts import PartRange, notes_on, part_list, read_list, read_range, shares, write_list


@pytest.mark.parametrize("text", ["3 5", "3-5", " 3 - 5 ", "3–5", "3   5"])
def test_a_range_is_two_numbers_with_a_blank_or_a_dash(text: str) -> None:
    assert read_range(text, 12) == PartRange(3, 5)


@pytest.mark.parametrize("text", ["4", " 4 ", "4-4"])
def test_one_number_is_one_part(text: str) -> None:
    assert read_range(text, 4) == PartRange(4, 4)
    assert str(read_range(text)) == "4"


@pytest.mark.parametrize("text", ["", "-", "3-", "-5", "3,5", "a", "5-3", "1 2 3", "3.5", "9999999999"])
def test_anything_else_is_no_range(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_range(text, 12)
    assert caught.value.code == "parts.no-range"


@pytest.mark.parametrize(("text", "part"), [("13", 13), ("0", 0), ("0-3", 0), ("11 14", 14)])
def test_a_part_that_does_not_exist_is_named(text: str, part: int) -> None:
    with pytest.raises(InputError, match=f"there is no part {part}: parts are numbered from 1 to 12") as caught:
        read_range(text, 12)
    assert caught.value.code == "parts.none-such"


@given(st.integers(1, 60), st.integers(1, 20))
def test_shares_take_every_part_and_are_as_equal_as_can_be(of: int, clients: int) -> None:
    taken = shares(of, clients)
    assert len(taken) == clients
    sizes = [len(parts.indices) for parts in taken]
    assert max(sizes) - min(sizes) <= 1
    assert {index for parts in taken for index in parts.indices} == set(range(of))
    assert of < clients or sum(sizes) == of


def test_a_list_is_read_back_as_it_was_written() -> None:
    taken = {"lab-1": PartRange(1, 6), "lab-2": PartRange(4, 4)}
    assert write_list(taken) == ("lab-1:1-6", "lab-2:4")
    assert read_list(write_list(taken), 6) == taken
    assert part_list("lab-1:1 6, lab-2:4") == write_list(taken)


@pytest.mark.parametrize("text", ["lab-1", "lab-1:", ":3", "lab 1:3", "../x:3", "lab-1:3-5-7", ""])
def test_an_entry_that_is_no_client_with_its_parts_is_quoted(text: str) -> None:
    with pytest.raises(InputError) as caught:
        part_list(text)
    assert caught.value.code == "parts.no-list"


def test_what_several_take_and_what_nobody_takes_is_reported() -> None:
    taken = {"a": PartRange(1, 4), "b": PartRange(3, 5), "c": PartRange(4, 4)}
    assert notes_on(8, taken) == [
        "part 3: chosen by a and b, which all train on those rows",
        "part 4: chosen by a, b and c, which all train on those rows",
        "no client trains on parts 6 to 8: those rows are not used",
    ]
    assert notes_on(2, {"a": PartRange(1, 1), "b": PartRange(2, 2)}) == []
    assert notes_on(1, {str(n): PartRange(1, 1) for n in range(9)}) == [
        "part 1: chosen by 0, 1, 2, 3, 4 and 4 more, which all train on those rows"
    ]


# --- in a job ---------------------------------------------------------------------------------------------------


def test_a_number_of_parts_means_to_deal_in_parts_and_without_one_there_are_as_many_as_clients() -> None:
    assert make_job({"parts_of": 12}).deal == "parts"
    assert make_job({"deal": "parts", "clients": 7}).parts_of == 7
    assert make_job({"clients": 7}).parts_of is None


@pytest.mark.parametrize(
    "values",
    [
        {"deal": "equal", "parts_of": 3},
        {"parts": ("a:1",)},
        {"deal": "classes", "parts": ("a:1",)},
        {"alpha": 0.1},
        {"deal": "parts", "alpha": 0.1},
        {"deal": "dirichlet", "classes_per_client": 3},
    ],
)
def test_what_is_for_another_deal_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        make_job(values)  # type: ignore[arg-type]
    assert caught.value.code == "deal.other-deal"


def test_parts_of_a_job_file_are_checked() -> None:
    job = {"deal": "parts", "parts_of": 4, "clients": 2}
    for parts, code in (
        (("a:1-5",), "parts.none-such"),
        (("a:1", "a:2"), "parts.named-twice"),
        (("a:1", "b:2", "c:3"), "parts.more-clients"),
    ):
        with pytest.raises(InputError) as caught:
            make_job({**job, "parts": parts})
        assert caught.value.code == code
    assert make_job({**job, "parts": ("a:1-4",)}).parts == ("a:1-4",)


def test_data_on_clients_can_be_taken_in_parts_but_not_be_partitioned() -> None:
    assert make_job({"data": "client", "parts_of": 3}).deal == "parts"
    with pytest.raises(InputError) as caught:
        make_job({"data": "client", "deal": "equal"})
    assert caught.value.code == "deal.own-files"


def test_the_field_reads_what_a_job_file_holds() -> None:
    assert FIELDS["parts"].read(["lab-1:3-5", "lab-2:1"], "parts") == ("lab-1:3-5", "lab-2:1")
