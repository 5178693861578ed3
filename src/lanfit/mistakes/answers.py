"""What can be wrong with answers: flags, questions, job and settings files, the workspace, the passphrase."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError, LanfitError
from lanfit.mistakes.entry import Mistake

_PATH = "Check the path, and who may read it."

MISTAKES: Mapping[str, Mistake] = {
    # --- values: of flags, at questions, in files; where it stood comes in front, what the value means behind ---
    "value.not-whole": Mistake(
        InputError,
        "{value!r} is not a whole number of at least {least}",
        "Write it in digits.",
    ),
    "value.not-whole-in-range": Mistake(
        InputError,
        "{value!r} is not a whole number from {least} to {most}",
        "Write it in digits.",
    ),
    "value.not-a-share": Mistake(
        InputError,
        "{value!r} is not a share of the rows: 0 or more, less than 1, as in 0.2",
        "Write it with a point.",
    ),
    "value.not-below-one": Mistake(
        InputError,
        "{value!r} is not a number from 0 to less than 1",
        "Write it with a point, as in 0.9.",
    ),
    "value.not-up-to-one": Mistake(
        InputError,
        "{value!r} is not a share of the clients: above 0, and 1 at most",
        "Write it with a point, as in 0.1; 1 is all of them.",
    ),
    "value.no-absence": Mistake(
        InputError,
        "{value!r} is not a round and a shard, as 2:1 is",
        "Leave it out, unless a run's own job.toml has it.",
    ),
    "value.not-positive": Mistake(
        InputError,
        "{value!r} is not a number above 0",
        "Write it with a point, as in 0.001.",
    ),
    "value.no-choice": Mistake(
        InputError,
        "{value!r} is not one of: {choices}{guess}",
        "Give the number or the word.",
    ),
    "value.not-yes-or-no": Mistake(
        InputError,
        "{value!r} is neither Y nor n",
        "Answer Y or n.",
    ),
    "value.control-character": Mistake(
        InputError,
        "{value} holds a control character",
        'In a file of settings "C:\\new" means a newline: write paths with / or between single quotes: '
        "'C:\\new\\net.h5'.",
    ),
    "value.empty": Mistake(
        InputError,
        "it is empty",
        "Give a value, or leave it out.",
    ),
    # --- questions ---
    "question.input-ended": Mistake(
        InputError,
        "the input ended at the question {question!r}",
        "Answer it with {flag}, or with a line more.",
    ),
    "question.no-default": Mistake(
        InputError,
        "the question {question!r} has no default",
        "Answer it with {flag}.",
    ),
    "question.empty": Mistake(
        InputError,
        "{question!r} needs an answer",
        "Type it{example} and press Enter; Ctrl-C ends the program.",
    ),
    # --- job files and settings files ---
    "settings.missing": Mistake(
        InputError,
        "there is no {kind}",
        _PATH,
    ),
    "settings.unreadable": Mistake(
        InputError,
        "the {kind} can't be read: {reason}",
        _PATH,
    ),
    "settings.not-utf8": Mistake(
        InputError,
        "the {kind} is neither UTF-8 nor UTF-16 text",
        "Save it as UTF-8.",
    ),
    "settings.not-toml": Mistake(
        InputError,
        "the {kind} is no TOML: {reason}",
        "Write one `key = value` a line, text in quotes.",
    ),
    "settings.backslash": Mistake(
        InputError,
        "the {kind} is no TOML: {reason}",
        "Between double quotes a backslash begins an escape. Write paths with / or between single quotes: "
        "'C:\\Users\\mia\\net.h5'.",
    ),
    "settings.wrong": Mistake(
        InputError,
        "{count} in the {kind}:{errors}",
        "Correct the file and start again; nothing was changed.",
    ),
    "settings.waits": Mistake(
        InputError,
        "{file}: heartbeat, suspect and lost must grow in this order; they are {told} seconds",
        "The defaults are 5, 15 and 60.",
    ),
    "settings.passphrase": Mistake(
        InputError,
        "a passphrase never stands in a file of settings",
        "Use --passphrase-file or LANFIT_PASSPHRASE.",
    ),
    "settings.unknown-key": Mistake(
        InputError,
        "{key} is no setting{guess}",
        "Its keys are the flags without their dashes.",
    ),
    "settings.table": Mistake(
        InputError,
        "{key}: a table is not a value",
        "Write one `key = value` a line, and no [sections].",
    ),
    # --- answers that do not fit together ---
    "job.no-dataset": Mistake(
        InputError,
        "no data set is named (--dataset)",
        "With --data keras give one, e.g. --dataset mnist.",
    ),
    "job.set-without-keras": Mistake(
        InputError,
        "{flag} {value} is for the data sets of Keras, and this job's data is {data}",
        "Leave out {flag}, or take --data keras.",
    ),
    "job.same-signs": Mistake(
        InputError,
        "a sign can't separate both decimals and thousands: --decimal {sign} and --thousands {sign}",
        "Give one of them; the other follows.",
    ),
    "job.samples-on-clients": Mistake(
        InputError,
        "this job's rows are on its clients: how many are used can't be said here (--samples {samples})",
        "Leave out --samples, and put fewer rows into dataset/X and dataset/Y of the clients.",
    ),
    "job.merge-without-fit": Mistake(
        InputError,
        "models of method {method} can't be merged (--merge {merge})",
        "Models of folds saw different rows and normalizers: leave out --merge, or take --method fit.",
    ),
    "job.other-strategy": Mistake(
        InputError,
        "{flag} is for {strategies}, and the strategy is {strategy}",
        "Leave it out, or choose another --strategy.",
    ),
    "job.min-above-clients": Mistake(
        InputError,
        "at least {minimum:client} are wanted (--min-clients), and {clients} in all (--clients)",
        "Lower --min-clients, or raise --clients.",
    ),
    "job.more-local-than-clients": Mistake(
        InputError,
        "there are {local:local client} (--local), but only {clients:client} in all (--clients)",
        "Local clients count among the clients: raise --clients or lower --local.",
    ),
    # --- where things are ---
    "workspace.is-a-file": Mistake(
        InputError,
        "the workspace {path} is a file",
        "Give a folder to --workspace.",
    ),
    "system.refused": Mistake(
        LanfitError,
        "the system does not allow what is needed: {reason}",
        "Check who may read and write there, and that the disk has room; then start again.",
    ),
    "system.out-of-memory": Mistake(
        LanfitError,
        "there is not enough memory on this machine",
        "Close other programs, use fewer rows (--samples) or a smaller model, or a machine with more memory.",
    ),
    "disk.full": Mistake(
        LanfitError,
        "the disk is full: {file} needs {size:,byte}",
        "Make room, then start again.",
    ),
    # --- the passphrase ---
    "passphrase.unreadable-file": Mistake(
        InputError,
        "the passphrase file {file} can't be read: {reason}",
        "Check its name and its rights.",
    ),
    "passphrase.too-easy": Mistake(
        InputError,
        "the passphrase is too easy for a network: {reason}",
        "Take four words, or leave it empty.",
    ),
    "passphrase.empty-file": Mistake(
        InputError,
        "the first line of the passphrase file {file} is empty",
        "Write the passphrase there.",
    ),
}
