"""The errors of methods and their aggregation; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

ERRORS: Mapping[str, ErrorText] = {
    "command.not-of-method": ErrorText(
        InputError,
        "{setting} can't be changed while a run with method {method} is in progress",
        "Stop the run and start one with the other value. While a run is in progress, learning_rate and epochs can be "
        "changed; with method federated, rounds, too.",
    ),
    "command.no-task-left": ErrorText(
        InputError,
        "{setting} is not changed: all tasks of this run are over",
        "Start another run with the other value.",
    ),
    "command.no-round-left": ErrorText(
        InputError,
        "{setting} is not changed: it would hold from the next round on, but this run has only {rounds:round}",
        "Increase the number of rounds first, with change(rounds=…), or start another run with the other value.",
    ),
    "command.epochs-of-steps": ErrorText(
        InputError,
        "epochs can't be changed in this run: its rounds have {steps:batch} each (local_steps), not epochs",
        "Start another run without local_steps.",
    ),
    "command.rate-schedule": ErrorText(
        InputError,
        "the learning rate can't be changed in this run: it follows a schedule ({schedule})",
        "Start another run with a learning rate: learning_rate=0.001 replaces the schedule.",
    ),
    "command.no-learning-rate": ErrorText(
        InputError,
        "the learning rate can't be changed in this run: its optimizer has none",
        "Compile the model with an optimizer such as Adam, and start another run.",
    ),
    "rounds.no-evaluation": ErrorText(
        InputError,
        "{given} compares rounds, but there are no rows to evaluate them on",
        "Hold some out: --validation-split 0.1 of each client's rows, or --test-split 0.2 of all rows (in Python "
        "validation_split=0.1 or validation_data=). Or leave out {given}.",
    ),
    # --- how the clients' weights become one ---
    "aggregation.trim": ErrorText(
        InputError,
        "a fraction of {trim:g} can't be trimmed from each end of {updates}: nothing would be left",
        "Give at least 0 and less than 0.5, e.g. --trim 0.2.",
    ),
    "aggregation.krum": ErrorText(
        InputError,
        "aggregation by Krum with f = {byzantine} Byzantine updates needs 2f + 3 = {needed}, but there are {updates}",
        "{lower}Let more clients take part, or choose --aggregation median.",
    ),
    "aggregation.krum-keep": ErrorText(
        InputError,
        "multi-Krum can't select {keep} of {updates} updates",
        "Select from 1 to {updates}.",
    ),
    "server-optimizer.parameter": ErrorText(
        InputError,
        "{flag} is {value:g}, not {wanted}",
        "Give a number {wanted}, e.g. {default:g}.",
    ),
    "server-optimizer.not-taken": ErrorText(
        InputError,
        "the strategy {strategy} does not use {flag}",
        "Leave out {flag}, or choose a strategy that uses it: {known}.",
    ),
}
