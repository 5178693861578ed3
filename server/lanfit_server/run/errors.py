"""The errors of runs; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError, TrainingError

ERRORS: Mapping[str, ErrorText] = {
    # --- a run to resume ---
    "resume.no-run": ErrorText(
        InputError,
        "there is no run {run!r}: {folder}/ contains {known}",
        "Give --resume the name of a folder in logs/.",
    ),
    "report.no-run": ErrorText(
        InputError,
        "there is no finished run {run!r}: {folder}/ contains {known}",
        "Give `lanfit report` the name of a folder in logs/ that has a summary.json.",
    ),
    "resume.damaged-ledger": ErrorText(
        InputError,
        "run {run} can't be resumed: its ledger {file} is damaged: {reason}",
        "{left} {again}.",
    ),
    "resume.other-data": ErrorText(
        InputError,
        "the data has changed since run {run} started",
        "Restore the files, or start a new run.",
    ),
    "summary.damaged": ErrorText(
        InputError,
        "run {run} has ended, but its summary {file} can't be read: {reason}",
        "Its models are in {models}; the rest of the summary is lost unless you have a copy of that file.",
    ),
    # --- commands ---
    "command.run-over": ErrorText(
        InputError,
        "run {run} ended before the command took effect",
        "Start a new run with other settings.",
    ),
    "command.no-client": ErrorText(
        InputError,
        "{client} does not take part in run {run}: it can't be stopped",
        "Name a client that is connected and was not stopped before.",
    ),
    # --- clients that can't do their part ---
    "client.no-room-for-model": ErrorText(
        InputError,
        "{client} has {free} of free memory, but training the model takes {model}",
        "Close other programs there, or use a machine with more memory or a smaller model.",
    ),
    "client.no-room-for-rows": ErrorText(
        InputError,
        "{client} has {free} of free memory, but its shard of {rows:,row} takes {size}, and the model {model}",
        "{fit:,row} would fit: use {clients:client} or more, or --samples.",
    ),
    "own-data.several": ErrorText(
        InputError,
        "the data of {count} can't be used:{faults}",
        "Ask their users to correct the files, and start again; at a terminal without --yes the server waits for that.",
    ),
    "survey.no-answer": ErrorText(
        TrainingError,
        "{client} has not reported the contents of its data for {waited} (--deadline)",
        "Restart that client, raise --deadline, or start without it: --start-after 1m.",
    ),
    "resume.other-server": ErrorText(
        InputError,
        "run {run} was not started by this server",
        "Only the server that started a run can resume it: use its workspace, including server/state/.",
    ),
}
