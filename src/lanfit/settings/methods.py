"""The methods as far as settings go: how each is described, and which settings are its own.

`METHODS` has one entry for each method. Parsers, help, checks of jobs and the form of the live page are derived from
it, and the server's registry (`lanfit_server.methods.registry`) refers to the same entries. No other module compares
the name of a method with anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lanfit.settings.fields import choice
from lanfit.settings.rounds import KEYS_OF_ROUNDS, check_strategy

if TYPE_CHECKING:
    from lanfit.settings.job import Job


def _nothing(job: Job) -> None:
    """Check nothing: the settings of the method can't contradict each other."""


@dataclass(frozen=True)
class MethodSettings:
    """One method.

    Args:
        name: the value of the setting `method`.
        summary: the models that clients train, for the help of that setting.
        label: the choice on the live page.
        keys: the settings that only this method uses, or this method and a few others.
        keeps: "best" or "last": the default of the setting `keep`.
        place: a regular expression for the tasks or rounds that changes of settings name.
        shown_place: such a place in words.
        check: raises InputError if settings of the method contradict each other.
    """

    name: str
    summary: str
    label: str
    keys: frozenset[str] = frozenset()
    keeps: str = "best"
    place: str = "shard-[0-9]+"
    shown_place: str = "a task such as shard-2"
    check: Callable[[Job], None] = _nothing


KFOLD = MethodSettings(
    "kfold",
    "a new model for each fold of the client's rows",
    "a new model for each fold",
    frozenset({"folds"}),
    place="shard-[0-9]+-fold-[0-9]+",
    shown_place="a task such as shard-2-fold-1",
)
FIT = MethodSettings("fit", "one model per client", "one model per client", frozenset({"merge"}))
FEDERATED = MethodSettings(
    "federated",
    "one model trained by all clients in rounds",
    "one model in rounds",
    KEYS_OF_ROUNDS,
    keeps="last",
    place="[0-9]+",
    shown_place="a round",
    check=check_strategy,
)
#: In the order of the numbers at the prompt, from 1.
METHODS: dict[str, MethodSettings] = {each.name: each for each in (KFOLD, FIT, FEDERATED)}


def method_name(text: str) -> str:
    """Parse the name or the number of a method."""
    return choice({str(number): name for number, name in enumerate(METHODS, 1)})(text)


def numbered() -> str:
    """Return all methods with their numbers, for the prompt."""
    return ", ".join(f"{number} {name}" for number, name in enumerate(METHODS, 1))


def described() -> str:
    """Return all methods with their numbers and summaries, for the help."""
    return "; ".join(f"{number} {each.name}, {each.summary}" for number, each in enumerate(METHODS.values(), 1))


def methods_with(key: str) -> list[str]:
    """Return the methods that use a setting, if others do not; an empty list if all do."""
    return [each.name for each in METHODS.values() if key in each.keys]
