from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from lanfit_server.methods.client_facts import taken_over
from lanfit_server.report.text import lines
from lanfit_server.store.summary import (
    Bytes,
    ClientFacts,
    DataFacts,
    FinalFacts,
    ModelFacts,
    RoundFacts,
    Summary,
    all_seconds,
)

METRICS = {"loss": 0.17, "accuracy": 0.93, "precision": 0.94, "recall": 0.93, "f1": 0.93}


def client(name: str, **known: Any) -> ClientFacts:
    made = ClientFacts(
        name, "tensorflow", "cpu", 2, 719, 1, "done", f"model/{name}.h5", {}, 4, METRICS, all_seconds({"train": 1.5}),
        Bytes(1, 1),
    )  # fmt: skip
    return msgspec.structs.replace(made, **known)


def summary(*clients: ClientFacts, **known: Any) -> Summary:
    made = Summary(
        run="20261129-101500",
        status="done",
        method="fit",
        seed=0,
        metrics_from="server",
        model=ModelFacts("model/digits.h5", 23_946),
        data=DataFacts("files", 1797, 1293, 144, 360, "minmax", None),
        clients=clients,
        final=FinalFacts("model/collected/20261129-101500/final.keras", clients[-1].name, METRICS) if clients else None,
        seconds={"total": 10.2, "train": 8.0},
    )
    return msgspec.structs.replace(made, **known)


def shown(what: Summary, width: int | None = None, height: int | None = None) -> list[str]:
    text = lines(what, "logs/20261129-101500", "model/collected/20261129-101500", "", width, height)
    return [part for line in text for part in line.split("\n")]


def rows_of(text: list[str]) -> list[str]:
    start = next(index for index, line in enumerate(text) if line.startswith("client "))
    return text[start + 1 : text.index("", start)]


def rounds(count: int) -> tuple[RoundFacts, ...]:
    return tuple(
        RoundFacts(number, ("a",), 1.0, 0.1, METRICS, None, {}, {}, {}, {}, {}) for number in range(1, count + 1)
    )


def test_without_a_screen_everything_is_there() -> None:
    text = shown(summary(*(client(f"pc-{number}") for number in range(40))))
    assert len(rows_of(text)) == 40
    assert "f1" in text[2]


def test_who_took_over_what_is_in_the_table() -> None:
    whole = client("lab-03", taken_over=taken_over("lab-03", ["lab-08"]))
    part = client("lab-04", tasks=10, taken_over=taken_over("lab-04", ["lab-04"] * 7 + ["lab-01"] * 3))
    own = client("lab-05", taken_over=taken_over("lab-05", ["lab-05"]))
    rows = rows_of(shown(summary(whole, part, own)))
    assert [re.split("  +", row)[2] for row in rows] == ["done by lab-08", "done, 3 of 10 by lab-01", "done"]
    assert b'"taken_over": {\n        "lab-08": 1' in summary(whole).to_json()


def test_at_the_end_of_a_run_of_a_room_the_summary_fits_a_small_screen() -> None:
    clients = [client(f"DESKTOP-7F3K{number:04X}") for number in range(25)]
    clients[7] = client("DESKTOP-7F3K0007", status="failed", errors=("it was gone", "it was gone again"))
    clients[9] = client("DESKTOP-7F3K0009", taken_over={"DESKTOP-7F3K0001": 1})
    text = shown(summary(*clients), 80, 24)
    assert len(text) < 24
    rows = rows_of(text)
    assert all(len(row) <= 80 for row in rows)
    listed = [row.split()[0] for row in rows[:-1]]
    assert listed == sorted(listed)
    assert any("failed" in row for row in rows)
    assert any("done by DESK" in row for row in rows)
    left = 25 - len(listed)
    assert rows[-1] == f"and {left} more: {left} done (logs/20261129-101500/report.xlsx has all)"
    assert text[-1] == "Logs:   logs/20261129-101500/"


def test_rounds_are_reported_in_one_line_from_the_first_to_the_last_and_who_was_left_out() -> None:
    """Each was told when it ended; a second list of them says nothing new."""
    first, *others = rounds(5)
    left = [msgspec.structs.replace(one, left_out={"pc-2": "it did not deliver in time"}) for one in others]
    better = msgspec.structs.replace(left[-1], metrics={name: 2 * value for name, value in METRICS.items()})
    text = shown(summary(client("pc-1"), client("pc-2"), rounds=(first, *left[:-1], better)))
    (line,) = [each for each in text if "round" in each and "pc-2" not in each]
    name, value = next(iter(METRICS.items()))
    assert line.startswith(f"5 rounds in 5.0 s: {name} {value:.4f} → {2 * value:.4f}")
    assert "  pc-2 was left out of 4 rounds" in text


def test_figures_of_rounds_that_do_not_fit_into_the_line_are_left_out() -> None:
    many = {f"metric {number}": 0.5 for number in range(20)}
    reported = [msgspec.structs.replace(one, metrics=many) for one in rounds(2)]
    (line,) = [each for each in shown(summary(client("a"), rounds=tuple(reported)), 80, 24) if "2 rounds" in each]
    assert 50 < len(line) < 80
    assert line.startswith("2 rounds in 2.0 s: metric 0 0.5000 → 0.5000")


def test_one_round_without_metrics_is_reported_as_one() -> None:
    (one,) = rounds(1)
    assert "1 round in 1.0 s" in shown(summary(client("a"), rounds=(msgspec.structs.replace(one, metrics={}),)))


def test_many_rounds_and_folds_do_not_push_the_table_off_the_screen() -> None:
    folded = [client(f"pc-{n}", mean=METRICS, sd=METRICS, errors=("x",)) for n in range(12)]
    text = shown(summary(*folded, rounds=rounds(200)), 120, 40)
    assert len(text) < 40
    for kept in ("200 rounds in 200.0 s: ", "pc-11", "more clients, in summary.json"):
        assert any(kept in line for line in text), kept


@given(st.integers(0, 60), st.integers(0, 300), st.integers(0, 30), st.integers(60, 200), st.integers(24, 60))
def test_whatever_a_run_was_the_first_line_and_the_files_are_on_the_screen(
    count: int, round_count: int, errors: int, width: int, height: int
) -> None:
    clients = [client(f"pc-{n}", errors=("it was gone",) if n < errors else ()) for n in range(count)]
    text = shown(summary(*clients, rounds=rounds(round_count)), width, height)
    assert sum(max(1, -(-len(line) // width)) for line in text) < height
    assert text[-1].startswith("Logs:")
    assert text[0].startswith("Run ")
