from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from lanfit.core.gauge import Transfer, bar
from lanfit_server.clusters.roster import Member, label
from lanfit_server.report.short_names import shortened
from lanfit_server.ui.live_table import Facts, Held, share_done, table_lines

STATES = ("waiting", "training", "receiving", "sending", "preparing", "lost", "left", "no file", "scoring")
NOW = 10_000.0


def client(name: str, state: str = "training", **known: object) -> Member:
    member = Member(name, name.encode(), "10.0.0.1", "tensorflow", "cpu", 2, 0)
    member.state, member.last_seen = state, NOW
    member.connected = state not in ("lost", "left")
    for key, value in known.items():
        setattr(member, key, value)
    return member


def at_work(name: str, **known: object) -> Member:
    figures = {"progress": 0.46, "epoch": "3/5", "loss": 0.25, "samples_per_second": 1234.5}
    return client(name, str(known.pop("state", "training")), **{**figures, **known})


def shown(
    members: list[Member], width: int = 80, height: int = 24, facts: Facts | None = None, waiting: str = "",
    notes: tuple[str, ...] = (), left: float | None = None,
) -> list[str]:  # fmt: skip
    return [line for line, _ in table_lines(members, facts or Facts(), waiting, notes, left, width, height, NOW)]


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    names = draw(st.lists(st.text(min_size=1, max_size=70).map(label), max_size=60, unique_by=str.lower))
    if draw(st.booleans()):  # hosts of one image
        names = [f"DESKTOP-{'X' * draw(st.integers(0, 20))}{number}" for number in range(len(names))]
    made = []
    for name in names:
        member = client(name, draw(st.one_of(st.sampled_from(STATES), st.text(max_size=30))))
        member.silent = draw(st.booleans())
        member.progress = draw(st.floats(0, 1))
        member.epoch = draw(st.sampled_from(("", "1/5", "499/500", f"{2**62}/{2**62}")))
        member.loss = draw(st.one_of(st.none(), st.floats()))
        member.samples_per_second = draw(st.one_of(st.none(), st.floats(0, 1e30)))
        member.last_seen = NOW - draw(st.floats(0, 1e6))
        member.transfer = draw(
            st.one_of(st.none(), st.builds(Transfer, st.integers(1, 2**50), st.just(0), st.just(0.0)))
        )
        made.append(member)
    return made


@given(
    members(),
    st.integers(60, 200),
    st.integers(10, 60),
    st.text(max_size=300),
    st.lists(st.text(max_size=300), max_size=3),
    st.booleans(),
)
@example([at_work(f"pc-{number}") for number in range(25)], 80, 24, "Waiting for pc-3.", ["refused: 10.0.0.9"], True)
def test_whoever_is_there_the_table_fits_and_everybody_is_shown_or_counted(
    members: list[Member], width: int, height: int, waiting: str, notes: list[str], is_run: bool
) -> None:
    names = [member.name for member in members]
    held = {name: Held(names[0], 3) for name in names[:5]}
    facts = Facts("20261129-101500", 3, 90, 2, 10, 0, held, frozenset(names)) if is_run else Facts()
    lines = shown(members, width, height, facts, f"Waiting. {waiting}", tuple(notes), 4e6)
    assert len(lines) <= height
    for line in lines:
        assert cell_len(line) <= width, line
    assert any(line.startswith("Waiting.") for line in lines)
    counted = [int(found[1]) for line in lines if (found := re.match(r"and (\d+) more: |(?=)$^", line))]
    all_counted = any(re.match(rf"{len(names)} clients?: ", line) for line in lines)
    header = next((index for index, line in enumerate(lines) if line.startswith("name ")), None)
    ends = (index for index, line in enumerate([*lines, "Waiting"]) if re.match("and .* more: |Waiting", line))
    rows = next(ends) - header - 1 if header is not None else 0
    assert all_counted or not names or rows + sum(counted) == len(names)


def test_twenty_five_clients_fit_a_small_terminal_one_line_each_with_what_is_waited_for() -> None:
    clients = [at_work(f"DESKTOP-7F3K{number:04X}") for number in range(24)] + [client("DESKTOP-AAAA")]
    facts = Facts("20261129-101500", 4, 25, at_work=frozenset(member.name for member in clients))
    lines = shown(clients, facts=facts, waiting="Waiting for pc-3.", notes=("refused: 10.0.0.9",), left=75)
    assert len(lines) <= 18, "there is room for what is said meanwhile"
    assert lines[0] == f"Run 20261129-101500  4 of 25 models  {bar(0.6, 26)} 60%  1:15 left"
    assert lines[1].split() == ["name", "state", "epoch", "loss", "samples/s", "last", "seen"]
    assert lines[2].startswith("DESKTOP-7F3K0000  training")
    assert re.fullmatch(r"and \d+ more: \d+ training", lines[-3])
    assert lines[-2:] == ["Waiting for pc-3.", "refused: 10.0.0.9"]


def test_rows_are_in_natural_order_and_who_is_missing_is_shown_before_others() -> None:
    clients = [at_work(f"pc-{number}") for number in (10, 2, 1)]
    assert [line.split()[0] for line in shown(clients)[1:]] == ["pc-1", "pc-2", "pc-10"]
    many = [at_work(f"pc-{number}") for number in range(1, 60)] + [
        client("pc-99", "lost"),
        at_work("pc-98", silent=True),
    ]
    lines = shown(many)
    assert any(re.match(r"pc-99 +lost", line) for line in lines)
    assert any(re.match(r"pc-98 +silent", line) for line in lines)
    assert lines[-1] == f"and {61 - len(lines) + 2} more: {61 - len(lines) + 2} training"


def test_only_who_works_has_figures() -> None:
    """A waiting client with the progress of its last task would look as if it had stopped in the middle."""
    paused = at_work("e", state="paused", samples_per_second=None)
    rows = shown(
        [at_work("a"), at_work("b", state="waiting"), client("c", "preparing"), at_work("d", state="lost"), paused], 100
    )
    assert rows[1].split() == ["a", "tensorflow/cpu", "training", "████░░░░░░", "46%", "3/5", "0.2500", "1,234", "now"]
    assert rows[2].split() == ["b", "tensorflow/cpu", "waiting", "now"]
    assert rows[3].split() == ["c", "tensorflow/cpu", "preparing", "now"]
    assert ["e", "tensorflow/cpu", "paused", "████░░░░░░", "46%", "3/5", "0.2500", "now"] in [r.split() for r in rows]


def test_small_losses_keep_their_digits() -> None:
    rows = shown([at_work("a", loss=0.000123456), at_work("b", loss=1.98768), at_work("c", loss=45678.9)], 100)
    assert [row.split()[6] for row in rows[1:]] == ["0.000123", "1.9877", "4.57e+04"]


def test_bytes_on_their_way_have_percent_amount_and_time_left() -> None:
    moved = Transfer(33_000_000, 12_000_000, NOW - 10, first=0)
    row = shown([client("pc-1", "receiving", transfer=moved), at_work("pc-2")])[1]
    assert re.fullmatch(r"pc-1 .* receiving +[█░]{10} +36%  12\.0 of 33\.0 MB, 0:18 left +now", row), row


def test_what_was_taken_over_and_which_fold_it_is_stands_in_the_row() -> None:
    facts = Facts("r", 1, 20, folds=10, held={"pc-1": Held("pc-2", 3), "pc-3": Held("", 4)})
    rows = shown([at_work("pc-1"), client("pc-2", "lost"), at_work("pc-3")], 100, facts=facts)
    assert rows[0].startswith("Run r  1 of 20 folds")
    assert "fold 3 for pc-2" in rows[2]
    assert re.search(r"fold 4\b(?! for)", rows[4])


def test_rounds_are_named_and_all_tasks_done_is_not_called_training() -> None:
    head = shown([at_work("a")], facts=Facts("r", 3, 30, 2, 10))[0]
    assert head.startswith("Run r  round 2 of 10")
    assert shown([client("a", "waiting")], facts=Facts("r", 30, 30, 10, 10))[0].endswith("100%  writing")


def test_last_seen_is_exact_only_where_it_matters() -> None:
    def seen(**known: object) -> str:
        return shown([client("a", str(known.pop("state", "training")), **known)])[1].split("  ")[-1].strip()

    assert seen(last_seen=NOW - 8) == "now", "heartbeats come every few seconds"
    assert seen(last_seen=NOW - 20, silent=True) == "20 s ago"
    assert seen(last_seen=NOW - 300, state="lost") == "5 min ago"
    assert seen(last_seen=NOW, state="lost", has_connected=False) == "not yet"


@pytest.mark.parametrize(
    ("names", "width", "cut"),
    [
        (["DESKTOP-7F3KA1B2", "DESKTOP-7F3KC3D4"], 13, ["DESKTOP-…A1B2", "DESKTOP-…C3D4"]),
        (["a-very-long-name-of-a-laptop", "pc-2"], 13, ["a-very…laptop", "pc-2"]),
        (["lab-1.maths.example.org", "lab-2.maths.example.org"], 13, ["lab-1…ple.org", "lab-2…ple.org"]),
        (["pc-1", "pc-2"], 13, ["pc-1", "pc-2"]),
    ],
)
def test_long_names_are_cut_where_they_do_not_differ(names: list[str], width: int, cut: list[str]) -> None:
    assert list(shortened(names, width).values()) == cut


@given(st.lists(st.text("ab-1", min_size=1, max_size=30), unique=True, max_size=20), st.integers(3, 40))
def test_names_that_are_cut_are_no_longer_than_they_may_be(names: list[str], width: int) -> None:
    cut = shortened(names, width)
    assert list(cut) == names
    assert all(len(cut[name]) <= width for name in names)
    assert all(cut[name] == name for name in names if len(name) <= width)


def test_what_is_done_counts_what_is_begun() -> None:
    facts = Facts("r", 1, 4, at_work=frozenset({"a"}))
    assert share_done(facts, [at_work("a", progress=0.5), at_work("b", progress=0.9)]) == 1.5 / 4
    assert share_done(Facts(), []) == 0
