"""The errors of starting a server; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

ERRORS: Mapping[str, ErrorText] = {
    "passphrase.too-easy": ErrorText(
        InputError,
        "the passphrase is too easy to guess: {reason}",
        "Use four words, or leave it empty to have one generated.",
    ),
    "resume.simulated": ErrorText(
        InputError,
        "the clients of run {run} were simulated",
        "Resume it with lanfit simulate --resume {run}.",
    ),
    "resume.not-simulated": ErrorText(
        InputError,
        "the clients of run {run} were not simulated",
        "Resume it with lanfit server --resume {run}.",
    ),
    "job.arrays": ErrorText(
        InputError,
        "the rows of this job were arrays of a Python program",
        "Run it again from Python with lanfit.Cluster, or save the arrays in dataset/X and dataset/Y and use --data "
        "files.",
    ),
}
