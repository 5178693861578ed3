"""The errors of settings, job files and answers; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

_PATH = "Check the path and the file permissions."

ERRORS: Mapping[str, ErrorText] = {
    # --- values: of flags, at prompts, in files; their place comes first, their meaning last ---
    "value.too-many-digits": ErrorText(
        InputError,
        "the number has thousands of digits",
        "Write a smaller one.",
    ),
    "value.not-whole": ErrorText(
        InputError,
        "{value!r} is not a whole number of at least {least}",
        "Write it in digits.",
    ),
    "value.not-whole-in-range": ErrorText(
        InputError,
        "{value!r} is not a whole number from {least} to {most}",
        "Write it in digits.",
    ),
    "value.not-a-share": ErrorText(
        InputError,
        "{value!r} is not a fraction of the rows: at least 0 and less than 1, such as 0.2",
        "Write it with a decimal point.",
    ),
    "value.not-below-one": ErrorText(
        InputError,
        "{value!r} is not a number of at least 0 and less than 1",
        "Write it with a decimal point, such as 0.9.",
    ),
    "value.not-up-to-one": ErrorText(
        InputError,
        "{value!r} is not a fraction of the clients: above 0 and at most 1",
        "Write it with a decimal point, such as 0.1; 1 means all clients.",
    ),
    "value.no-absence": ErrorText(
        InputError,
        "{value!r} is not a round and a shard, such as 2:1",
        "Leave it out unless it comes from the job.toml of a run.",
    ),
    "value.no-change": ErrorText(
        InputError,
        "{value!r} is not a changed setting, such as 3:learning_rate=0.001, of {settings}",
        "Leave it out unless it comes from the job.toml of a run.",
    ),
    "value.not-positive": ErrorText(
        InputError,
        "{value!r} is not a number above 0",
        "Write it with a decimal point, such as 0.001.",
    ),
    "value.no-choice": ErrorText(
        InputError,
        "{value!r} is not one of: {choices}{guess}",
        "Give one of these numbers or names.",
    ),
    "value.not-yes-or-no": ErrorText(
        InputError,
        "{value!r} is neither Y nor n",
        "Answer Y or n.",
    ),
    "value.control-character": ErrorText(
        InputError,
        "{value} contains a control character",
        "In a TOML file \"C:\\new\" contains a newline: write paths with / or in single quotes: 'C:\\new\\net.h5'.",
    ),
    "value.twice": ErrorText(
        InputError,
        '"{value}" contains a name twice',
        "List each array once.",
    ),
    "value.empty": ErrorText(
        InputError,
        "the value is empty",
        "Give a value, or leave it out.",
    ),
    # --- job files and settings files ---
    "settings.missing": ErrorText(
        InputError,
        "there is no {kind}",
        _PATH,
    ),
    "settings.unreadable": ErrorText(
        InputError,
        "the {kind} can't be read: {reason}",
        _PATH,
    ),
    "settings.not-utf8": ErrorText(
        InputError,
        "the {kind} is neither UTF-8 nor UTF-16 text",
        "Save it as UTF-8.",
    ),
    "settings.not-toml": ErrorText(
        InputError,
        "the {kind} is not valid TOML: {reason}",
        "Write one `key = value` per line, with text in quotes.",
    ),
    "settings.backslash": ErrorText(
        InputError,
        "the {kind} is not valid TOML: {reason}",
        "In double quotes a backslash starts an escape sequence. Write paths with / or in single quotes: "
        "'C:\\Users\\mia\\net.h5'.",
    ),
    "settings.wrong": ErrorText(
        InputError,
        "{count} in the {kind}:{errors}",
        "Correct the file and start again; nothing was changed.",
    ),
    "settings.waits": ErrorText(
        InputError,
        "{file}: heartbeat must be less than suspect, and suspect less than lost; they are {values} seconds",
        "The defaults are 5, 15 and 60.",
    ),
    "settings.passphrase": ErrorText(
        InputError,
        "a settings file can't contain the passphrase",
        "Use --passphrase-file or LANFIT_PASSPHRASE.",
    ),
    "settings.unknown-key": ErrorText(
        InputError,
        "{key} is not a known setting{guess}",
        "The keys are the names of the flags without the leading dashes.",
    ),
    "settings.table": ErrorText(
        InputError,
        "{key} is a table, not a value",
        "Write one `key = value` per line, without [sections].",
    ),
    # --- answers that do not fit together ---
    "job.no-dataset": ErrorText(
        InputError,
        "no dataset is given (--dataset)",
        "With --data keras, give one, e.g. --dataset mnist.",
    ),
    "job.set-without-keras": ErrorText(
        InputError,
        "{flag} {value} is for Keras datasets, but this job uses --data {data}",
        "Leave out {flag}, or use --data keras.",
    ),
    "job.same-signs": ErrorText(
        InputError,
        "the decimal and thousands separators can't be the same: --decimal {sign} and --thousands {sign}",
        "Give only one of them; the other follows from it.",
    ),
    "job.named-without-files": ErrorText(
        InputError,
        "{flag} {value} names arrays of a file, but this job uses --data {data}",
        "Omit it, or use --data files with an npz file in dataset/.",
    ),
    "job.named-and-key": ErrorText(
        InputError,
        "{flag} {value} and --npz-key {key} both name the arrays to read",
        "Omit --npz-key.",
    ),
    "job.samples-on-clients": ErrorText(
        InputError,
        "the data of this job is on its clients, so the server can't limit the number of rows (--samples {samples})",
        "Leave out --samples. To use fewer rows, put fewer into dataset/X and dataset/Y on the clients.",
    ),
    "job.merge-without-fit": ErrorText(
        InputError,
        "models of method {method} can't be merged (--merge {merge})",
        "Models of different folds have different rows and normalizers: leave out --merge, or use --method fit.",
    ),
    "job.other-strategy": ErrorText(
        InputError,
        "{flag} is for {strategies}, but the strategy is {strategy}",
        "Leave it out, or choose another --strategy.",
    ),
    "job.min-above-clients": ErrorText(
        InputError,
        "at least {minimum:client} must take part (--min-clients), but there are {clients} in all (--clients)",
        "Lower --min-clients, or raise --clients.",
    ),
    "job.changes-of-method": ErrorText(
        InputError,
        "the changed setting {entry} is not one of method {method}, which begins with {where}",
        "Use changes of a run with this method, as its job.toml lists them, or leave them out.",
    ),
    "job.more-local-than-clients": ErrorText(
        InputError,
        "there are {local:local client} (--local), but only {clients:client} in all (--clients)",
        "The local clients are part of --clients: raise --clients or lower --local.",
    ),
    "deal.own-files": ErrorText(
        InputError,
        "with --data client, each client has its own data, and the server has no rows to partition (--deal {how})",
        "Leave out --deal, use --deal parts to train on a part of each client's rows, or use --data files.",
    ),
    "deal.other-deal": ErrorText(
        InputError,
        "{flag} {value} is for --deal {wanted}, but this job uses --deal {how}",
        "Leave one of them out.",
    ),
    "parts.no-range": ErrorText(
        InputError,
        '"{value}" is not a part or a range of parts, such as 4, 3-5 or 3 5',
        "Give one number, or the first and the last.",
    ),
    "parts.none-such": ErrorText(
        InputError,
        "there is no part {part}: parts are numbered from {of}",
        "Choose parts within this range.",
    ),
    "parts.no-list": ErrorText(
        InputError,
        '"{value}" is not a client with its parts, such as lab-1:3-5',
        "Write the client's name, a colon, and its parts; separate clients with commas.",
    ),
    "parts.named-twice": ErrorText(
        InputError,
        "{client} is named twice (--parts)",
        "Give each client one range of parts.",
    ),
    "parts.more-clients": ErrorText(
        InputError,
        "parts are given for {named:client} (--parts), but only {clients} take part",
        "Use --clients {named}, or name fewer clients in --parts.",
    ),
}
