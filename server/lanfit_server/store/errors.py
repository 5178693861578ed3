"""The errors of stored runs; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

ERRORS: Mapping[str, ErrorText] = {
    # --- the disk of the workspace ---
    "workspace.no-database": ErrorText(
        InputError,
        "the database of a run can't be created in {folder}: {reason}",
        "Some network drives do not support it. Put the workspace on a local disk: --workspace FOLDER.",
    ),
    "resume.nothing-kept": ErrorText(
        InputError,
        "run {run} can't be resumed: {file} is missing",
        "Start a new run with --job logs/{run}/job.toml: it produces the same models.",
    ),
    "resume.damaged": ErrorText(
        InputError,
        "run {run} can't be resumed: {file} {reason}",
        "Start the same job again: lanfit server --job logs/{run}/job.toml.",
    ),
}
