"""Data on the clients: what is wrong with a client's own files, with what it tells of them, or with all of it together.

Part of the table in lanfit.mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError, TrainingError
from lanfit.mistakes.entry import Mistake

_SAME_VERSION = "Its lanfit must be of the same version as the server's."

MISTAKES: Mapping[str, Mistake] = {
    "own-data.no-folder": Mistake(
        InputError,
        "there is no folder {folder} (--data)",
        "Name one that has the folders X and Y.",
    ),
    "own-data.not-allowed": Mistake(
        InputError,
        "nobody at this client has allowed the server to use its own data",
        "Start it with the folder that has X and Y in it: lanfit client {server} --data DIR. Or start it at a "
        "terminal, without --data, and say yes when it asks.",
    ),
    "own-data.few-rows": Mistake(
        InputError,
        "there are {rows:row} to train on, and this client gives nothing of fewer than {least} (--min-rows)",
        "Add rows, let the server take fewer of them for tests and folds, or start this client with --min-rows {rows}: "
        "the weights of so few rows give them away.",
    ),
    "own-data.few-to-score": Mistake(
        InputError,
        "there are {rows:row} to score a model on, and this client gives no scores on fewer than {least}, a tenth of "
        "--min-rows",
        "Add rows, let the server take larger shares of them (--test-split, --validation-split) or none, or start this "
        "client with a smaller --min-rows.",
    ),
    "own-data.small-batch": Mistake(
        InputError,
        "steps on {batch:row} are wanted, and this client takes none on fewer than {least}: such a step gives its rows "
        "away",
        "Raise --batch-size at the server.",
    ),
    "own-data.labels-changed": Mistake(
        InputError,
        "the labels in Y are not those that this client told when the run began",
        "Leave the files as they are while a run goes on, and begin a new one.",
    ),
    "own-data.unusable": Mistake(
        InputError,
        "{client}'s own files can't be used: {error}",
        "{hint} The files are on {client}.",
    ),
    "own-data.several": Mistake(
        InputError,
        "the own files of {count} can't be used:{faults}",
        "Have them corrected, and start again; at a terminal, without --yes, the server waits for that.",
    ),
    "survey.no-answer": Mistake(
        TrainingError,
        "{client} has not told for {waited} what its own files hold (--deadline)",
        "Start that client again, raise --deadline, or begin without it: --start-after 1m.",
    ),
    "survey.malformed": Mistake(
        InputError,
        "{client} tells of its own files what can't be: {reason}",
        _SAME_VERSION,
    ),
    "survey.other-targets": Mistake(
        InputError,
        "{client} tells of other targets than this model has",
        _SAME_VERSION,
    ),
    "survey.impossible-labels": Mistake(
        InputError,
        "{client} tells impossible labels: {reason}",
        _SAME_VERSION,
    ),
    "survey.no-numbers": Mistake(
        InputError,
        "{client} tells statistics of its rows that are no numbers",
        _SAME_VERSION,
    ),
    "survey.other-shape": Mistake(
        InputError,
        "{client} tells statistics of another shape than the model's rows have",
        _SAME_VERSION,
    ),
    "survey.impossible-statistics": Mistake(
        InputError,
        "{client} tells statistics that no rows can have",
        _SAME_VERSION,
    ),
    "survey.other-columns": Mistake(
        InputError,
        "{client} has rows of {columns:column}, {first} of {first_columns}",
        "All clients need the same columns in dataset/X.",
    ),
    "survey.other-target-columns": Mistake(
        InputError,
        "the targets of {client} have another shape than those of {first}",
        "All clients need the same columns in dataset/Y.",
    ),
    "survey.words-and-numbers": Mistake(
        InputError,
        "the labels of {words} are words, those of {numbers} are numbers",
        "All clients need one or the other in dataset/Y.",
    ),
}
