"""What a column of text cells holds: each kind, the values behind it, and what can't be told."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lanfit.data.columns import Kind, describe, describe_table
from lanfit.data.dates import FORMS, date_forms, parts_of, read_date
from lanfit.data.quantities import Reading, readings


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("age", ["31", "40", "31.5"], Kind.NUMBER),
        ("Pclass", ["3", "1", "2", "3"], Kind.NUMBER),
        ("weight", ["1e3", "-2", "+.5"], Kind.NUMBER),
        ("change", ["\u221242", "17"], Kind.NUMBER),
        ("price", ["$1,200.50", "$950.00"], Kind.QUANTITY),
        ("share", ["12 %", "7 %"], Kind.QUANTITY),
        ("term", [" 36 months", " 60 months"], Kind.QUANTITY),
        ("population", ["1,234,567", "950"], Kind.QUANTITY),
        ("weight", ["1,5", "2"], Kind.QUANTITY),
        ("city", ["Oslo", "Rome", "Oslo"], Kind.CATEGORY),
        ("married", ["True", "False", "True"], Kind.CATEGORY),
        ("joined", ["2020-01-02", "2021-05-06"], Kind.DATE),
        ("joined", ["13/02/2020", "01/12/2020"], Kind.DATE),
        ("joined", ["01.02.2020", "05.06.2021"], Kind.DATE),
        ("added", ["September 25, 2021", "May 1, 2019"], Kind.DATE),
        ("at", ["10:30", "23:59:59"], Kind.DATE),
        ("date", ["20141013T000000", "20150225T000000"], Kind.DATE),
        ("day", ["20141013", "20150225", "20150226"], Kind.DATE),
        ("customerID", ["7590-VHVEG", "5575-GNVDE", "3668-QPYBK"], Kind.ID),
        ("CustomerId", [str(15634602 + 7 * n) for n in range(30)], Kind.ID),
        ("account", [str(7129300520 + n) for n in range(30)], Kind.ID),
        ("Name", ["Braund, Mr. Owen", "Cumings, Mrs. John", "Heikkinen, Miss. Laina"], Kind.TEXT),
        ("review", [f"a film that was number {n}" for n in range(60)], Kind.TEXT),
        ("", ["0", "1", "2"], Kind.INDEX),
        ("Unnamed: 0", ["1", "2", "3"], Kind.INDEX),
        ("PassengerId", ["1", "2", "3"], Kind.INDEX),
        ("sample", [str(n) for n in range(25)], Kind.INDEX),
        ("year", [str(n) for n in range(25)], Kind.NUMBER),
        ("x", ["3", "1", "2"], Kind.NUMBER),
        ("notes", ["", "NA", "?"], Kind.EMPTY),
    ],
)
def test_each_kind_of_column_is_reported(name: str, cells: list[str], kind: Kind) -> None:
    assert describe(name, cells).kind is kind


@given(st.lists(st.text(alphabet="0123456789+-\u2212 .,'e%$nai\u00a0", max_size=6), min_size=1, max_size=6))
@example(["\u221242", "17"])
@example(["- 42", "17"])
def test_any_cells_are_described(cells: list[str]) -> None:
    assert describe("x", cells).rows == len(cells)


def test_cells_are_counted() -> None:
    column = describe("age", ["31", "", "40", "?", "31", "NaN", " 40 "])
    assert (column.rows, column.missing, column.distinct, column.example) == (7, 3, 2, "31")
    assert column.proposal == "number, 3 missing values filled with the median"


def test_one_reading_of_thousands_is_taken_and_two_are_refused() -> None:
    assert readings(["1,234,567", "950"]) == (Reading(".", ","),)
    assert readings(["1,200.5", "950"]) == (Reading(".", ","),)
    assert readings(["1.200,5", "950"]) == (Reading(",", "."),)
    assert readings(["1,200", "950"]) == (Reading(".", ","), Reading(",", ""))
    doubtful = describe("price", ["1,200", "950"])
    assert doubtful.doubt == '"1,200" may be 1200 or 1.2'
    assert not doubtful.form


def test_a_decimal_point_elsewhere_in_the_table_settles_what_a_comma_is() -> None:
    price, weight = describe_table(["price", "weight"], [["1,200", "950"], ["0.5", "1.25"]])
    assert price.reading.value("1,200") == 1200
    assert not price.doubt
    assert weight.kind is Kind.NUMBER


def test_what_separates_thousands_can_be_said() -> None:
    assert describe("price", ["1,200", "950"], thousands=",").reading.value("1,200") == 1200
    assert describe("price", ["1,200", "950"], decimal=",").reading.value("1,200") == 1.2
    assert describe("price", ["1.200", "950"], thousands=".").reading.value("1.200") == 1200
    assert describe("price", ["1.200", "950"]).reading.value("1.200") == 1.2


def test_points_between_thousands_are_doubtful_where_commas_do_not_separate_cells() -> None:
    price, _ = describe_table(["price", "n"], [["1.200", "950"], ["1", "2"]], points_may_group=True)
    assert price.doubt == '"1.200" may be 1200 or 1.2'
    price, _ = describe_table(["price", "n"], [["1.200", "950"], ["1.5", "2"]], points_may_group=True)
    assert price.reading.value("1.200") == 1.2


@pytest.mark.parametrize(
    "cells", [["C85", "C123"], ["1.2.3.4", "1.2.3.5"], ["555-1234", "555-9876"], ["10-20", "20-30"], ["5 kg", "3 lb"]]
)
def test_codes_and_mixed_units_are_no_numbers(cells: list[str]) -> None:
    assert readings(cells) == ()


def test_a_value_of_another_form_has_no_reading() -> None:
    reading = Reading(".", ",", "$", "")
    assert reading.value("$1,200") == 1200
    assert reading.value("-$5") == -5
    assert reading.value("1,200") is None
    assert reading.value("$1,20") is None


def test_rare_words_among_numbers_count_as_missing_and_are_named() -> None:
    column = describe("charge", [*map(str, range(100, 140)), "unknown", ""])
    assert column.marks == ("unknown",)
    assert column.missing == 2
    assert '"unknown"' in column.proposal
    assert describe("code", ["1", "2", "3", "unknown", "unknown"]).kind is Kind.CATEGORY


def test_day_and_month_that_can_not_be_distinguished_are_doubtful() -> None:
    assert "day first or month first" in describe("on", ["01/02/2020", "03/04/2020"]).doubt
    assert not describe("on", ["01/01/2020", "02/02/2020"]).doubt
    assert describe("on", ["01/13/2020", "03/04/2020"]).form == "mdy"


@pytest.mark.parametrize(
    ("cell", "form", "day"),
    [
        ("2020-02-29", "ymd", (2020, 2, 29)),
        ("2020/2/9 10:30", "ymd", (2020, 2, 9)),
        ("2020-02-29T23:59:59.123Z", "ymd", (2020, 2, 29)),
        ("1/22/20", "mdy", (2020, 1, 22)),
        ("22.1.69", "dmy", (1969, 1, 22)),
        ("Fri, 5 Jan 2018", "d month y", (2018, 1, 5)),
        ("Jan-2018", "month y", (2018, 1, 1)),
        ("2018-03", "ym", (2018, 3, 1)),
    ],
)
def test_a_date_is_read_in_its_form(cell: str, form: str, day: tuple[int, int, int]) -> None:
    assert form in date_forms([cell])
    moment = read_date(cell, form)
    assert moment is not None
    assert moment.day == datetime.date(*day)


def test_times_of_day_are_read() -> None:
    moment = read_date("2020-02-29 11:05:09 PM", "ymd")
    assert moment is not None
    assert [moment.part(part) for part in ("hour", "minute", "second", "weekday")] == [23, 5, 9, 5]


def test_a_day_that_does_not_exist_is_no_date() -> None:
    assert date_forms(["2021-02-29"]) == ()
    assert date_forms(["25:00"]) == ()
    assert set(date_forms(["2021-02-28"])) < set(FORMS)


def test_a_part_that_is_the_same_everywhere_is_no_part() -> None:
    moments = [moment for cell in ("2020-01-05", "2020-02-07") if (moment := read_date(cell, "ymd"))]
    assert parts_of(moments) == ("month", "day", "weekday")
