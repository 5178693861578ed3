"""The curves of a run that is resumed, from the files that its earlier server has written."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lanfit.core.decoding import decode_json
from lanfit.core.logs import ROUND
from lanfit_server.run.events import EVENTS, EpochCompleted, RoundCompleted
from lanfit_server.ui.dashboard.board import Board
from lanfit_server.watchers import RunFacts

#: What a line about a round has beside the figures.
_OF_ROUND = frozenset({"event", "time", *RoundCompleted.__struct_fields__})
_FOLD = re.compile(r"history-fold-(\d+)")


def began(board: Board, facts: RunFacts) -> None:
    """Show what an earlier server has seen of this run; nothing for a new one."""
    for owner in dict.fromkeys(facts.owners):
        for path, fold in histories_of(facts.folder / "clients" / owner):
            for event in epochs_of(path, owner, facts.job.epochs, fold):
                board.epoch(event)
    for completed in rounds_of(facts.folder / EVENTS):
        board.round(completed)


def histories_of(folder: Path) -> list[tuple[Path, int]]:
    """Return the histories in the folder of a client, each with its fold (0: no folds).

    Of a client with folds, history.csv is that of its best one once more.
    """
    found = [(path, _FOLD.fullmatch(path.stem)) for path in sorted(folder.glob("history*.csv"))]
    folds = [(path, int(fold[1])) for path, fold in found if fold]
    return folds or [(path, 0) for path, _ in found]


def epochs_of(path: Path, owner: str, epochs: int, fold: int) -> Iterator[EpochCompleted]:
    """Yield the epochs of a history, as far as it can be read."""
    seen: Counter[int] = Counter()
    with suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            round_ = int(line.get(ROUND) or 0)
            metrics = {name: float(value) for name, value in line.items() if name not in ("epoch", ROUND) and value}
            yield EpochCompleted(owner, owner, seen[round_], epochs, metrics, fold, round_)
            seen[round_] += 1


def rounds_of(path: Path) -> Iterator[RoundCompleted]:
    """Yield the rounds of an events.jsonl, as far as it can be read."""
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                found: dict[str, Any] = decode_json(line, dict)
                if found["event"] == "round":
                    figures = {key: value for key, value in found.items() if key not in _OF_ROUND}
                    times = (int(found["round"]), int(found["rounds"]), int(found["clients"]), float(found["seconds"]))
                    yield RoundCompleted(*times, figures, {}, dict(found.get("logs") or {}))
