"""What the operator can change in a run in progress, for all methods. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lanfit.errors import LanfitError, lanfit_error
from lanfit.settings.changes import CHANGEABLE
from lanfit.settings.job import FIELDS
from lanfit_server.run.instructions import Change


def read_change(setting: str, value: object) -> float:
    """Return the value of a setting, read as its flag is.

    Raises:
        InputError: it is not valid.
    """
    read = FIELDS[setting].read(str(value), setting)
    assert isinstance(read, int | float)
    return read


def checked(change: Change, method: str, unchangeable: Mapping[str, LanfitError]) -> Change:
    """Return a change with a valid value.

    Args:
        method: the job's.
        unchangeable: settings that can't be changed in this run, and why.

    Raises:
        InputError: the setting can't be changed, or not to this value.
    """
    setting, value = change.setting, change.value
    if setting not in CHANGEABLE and (setting != "rounds" or method != "federated"):
        raise lanfit_error("command.not-of-method", setting=setting, method=method)
    if setting in unchangeable:
        raise unchangeable[setting]
    return replace(change, value=read_change(setting, int(value) if float(value).is_integer() else value))


def unchangeable(local_steps: int | None, optimizer: Mapping[str, Any] | None) -> dict[str, LanfitError]:
    """Return the settings that can't be changed in a run, and why.

    Args:
        local_steps: batches of a round; None: whole epochs.
        optimizer: its configuration, as Keras writes it.
    """
    found: dict[str, LanfitError] = {}
    if local_steps is not None:
        found["epochs"] = lanfit_error("command.epochs-of-steps", steps=local_steps)
    config = (optimizer or {}).get("config") or {}
    config = (config.get("inner_optimizer") or {}).get("config") or config  # mixed precision puts another around it
    rate = config.get("learning_rate")
    if optimizer is None:
        found["learning_rate"] = lanfit_error("command.no-learning-rate")
    elif isinstance(rate, Mapping):
        found["learning_rate"] = lanfit_error("command.rate-schedule", schedule=rate.get("class_name"))
    return found
