"""Settings that are changed while a run is in progress: how its `job.toml` lists them, so that it repeats the run.

An entry is `WHERE:SETTING=VALUE`. With method federated WHERE is the round from which the value holds; with the other
methods it is the task that has it, such as `shard-2` or `shard-2-fold-3`, or that and the epoch from which it has it,
such as `shard-2@6`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from lanfit.errors import InputError, lanfit_error
from lanfit.settings.fields import int_range, names, positive

#: What can be changed, beside the number of rounds, and how its values are parsed; the same as in the job's fields.
CHANGEABLE: dict[str, Callable[[str], float]] = {"learning_rate": positive, "epochs": int_range(1)}
_NUMBER = "[1-9][0-9]{0,8}"
_ENTRY = re.compile(rf"(?:({_NUMBER})|(shard-{_NUMBER}(?:-fold-{_NUMBER})?)(?:@({_NUMBER}))?):([a-z_]+)=(.+)")


RateChange = tuple[int, float]
"""An epoch, from 1, and the learning rate that holds from it on."""


@dataclass(frozen=True)
class TaskSettings:
    """Settings of one task; None: those of the job."""

    epochs: int | None = None
    learning_rate: float | None = None
    rates: tuple[RateChange, ...] = ()
    """Learning rates that hold from later epochs on, in the order of the epochs."""


AS_IN_JOB = TaskSettings()


@dataclass(frozen=True)
class Entry:
    """One entry."""

    where: int | str
    """A round, or the key of a task."""
    setting: str
    value: float
    epoch: int = 0
    """The epoch of the task, from 1; 0: all of it."""

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Parse an entry.

        Raises:
            InputError: it is not valid.
        """
        found = _ENTRY.fullmatch(text)
        if found is None or found[4] not in CHANGEABLE or (found[3] and found[4] != "learning_rate"):
            raise lanfit_error("value.no-change", value=text, settings=" or ".join(CHANGEABLE))
        round_, task, epoch, setting, value = found.groups()
        try:
            return cls(task or int(round_), setting, CHANGEABLE[setting](value), int(epoch or 0))
        except InputError as error:
            raise error.at(text, "An example: 3:learning_rate=0.001.") from None

    def __str__(self) -> str:
        from_epoch = f"@{self.epoch}" if self.epoch else ""
        return f"{self.where}{from_epoch}:{self.setting}={self.value!r}"


def changes(text: str) -> tuple[str, ...]:
    """Parse entries separated by commas or spaces."""
    return tuple(str(Entry.parse(name)) for name in names(text))


@dataclass(frozen=True)
class Changes:
    """All changes of a run, those of rounds in the order of the rounds."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, listed: Iterable[str] | None) -> Changes:
        """Return the changes that a job lists."""
        found = [Entry.parse(text) for text in listed or ()]
        return cls(tuple(sorted(found, key=lambda each: each.where if isinstance(each.where, int) else 0)))

    def listed(self) -> tuple[str, ...]:
        """Return the entries as a job lists them."""
        return tuple(map(str, self.entries))

    def from_round(self, number: int, setting: str, value: float) -> Changes:
        """Return the changes with another one, which holds from this round on."""
        earlier = [e for e in self.entries if e.setting != setting or (isinstance(e.where, int) and e.where < number)]
        return Changes.of(map(str, (*earlier, Entry(number, setting, value))))

    def for_tasks(self, keys: Iterable[str], setting: str, value: float) -> Changes:
        """Return the changes with another one, which these tasks have."""
        chosen = list(keys)
        others = [each for each in self.entries if each.setting != setting or each.where not in chosen]
        return Changes((*others, *(Entry(key, setting, value) for key in chosen)))

    def as_trained(self, key: str, epochs: int | None, rates: Iterable[RateChange]) -> Changes:
        """Return the changes with those that a task had while it was trained.

        Args:
            epochs: None: they were not changed.
            rates: all that hold from some epoch on.
        """
        changed = self if epochs is None else self.for_tasks([key], "epochs", epochs)
        others = [each for each in changed.entries if not (each.where == key and each.epoch)]
        trained = Changes((*others, *(Entry(key, "learning_rate", rate, epoch) for epoch, rate in rates)))
        return self if trained.of_task(key) == self.of_task(key) else trained

    def of_round(self, number: int) -> TaskSettings:
        """Return the settings of the tasks of a round."""
        return self._settings(each for each in self.entries if isinstance(each.where, int) and each.where <= number)

    def of_task(self, key: str) -> TaskSettings:
        """Return the settings of a task without rounds."""
        return self._settings(each for each in self.entries if each.where == key)

    @staticmethod
    def _settings(entries: Iterable[Entry]) -> TaskSettings:
        settings = AS_IN_JOB
        for each in entries:
            if each.setting == "epochs":
                settings = replace(settings, epochs=int(each.value))
            elif each.epoch:
                settings = replace(settings, rates=tuple(sorted([*settings.rates, (each.epoch, each.value)])))
            else:
                settings = replace(settings, learning_rate=each.value)
        return settings

    def epochs_before(self, number: int, usual: int) -> int:
        """Return how many epochs the rounds before this one have together.

        Args:
            usual: epochs of a round while they are not changed.
        """
        total, begin, epochs = 0, 1, usual
        for each in self.entries:
            if each.setting == "epochs" and isinstance(each.where, int) and each.where < number:
                total += (each.where - begin) * epochs
                begin, epochs = each.where, int(each.value)
        return total + (number - begin) * epochs

    def most_epochs(self, usual: int) -> int:
        """Return how many epochs a task has at most."""
        return max([usual, *(int(each.value) for each in self.entries if each.setting == "epochs")])


NO_CHANGES = Changes()
