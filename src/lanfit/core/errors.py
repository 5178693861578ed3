"""The errors of workspaces, values, backends and child processes; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError, LanfitError

ERRORS: Mapping[str, ErrorText] = {
    # --- questions ---
    "question.input-ended": ErrorText(
        InputError,
        "the input ended before the question {question!r} was answered",
        "Answer it with {flag}, or with one more line of input.",
    ),
    "question.no-default": ErrorText(
        InputError,
        "the question {question!r} has no default",
        "Answer it with {flag}.",
    ),
    "question.empty": ErrorText(
        InputError,
        "{question!r} needs an answer",
        "Type it{example} and press Enter; Ctrl-C ends the program.",
    ),
    # --- where things are ---
    "workspace.is-a-file": ErrorText(
        InputError,
        "the workspace {path} is a file",
        "Give a folder to --workspace.",
    ),
    "system.refused": ErrorText(
        LanfitError,
        "the operating system refused an operation: {reason}",
        "Check the file permissions and the free disk space, then start again.",
    ),
    "system.out-of-memory": ErrorText(
        LanfitError,
        "there is not enough memory on this machine",
        "Close other programs, use fewer rows (--samples) or a smaller model, or a machine with more memory.",
    ),
    # --- the passphrase ---
    "passphrase.unreadable-file": ErrorText(
        InputError,
        "the passphrase file {file} can't be read: {reason}",
        "Check the path and the file permissions.",
    ),
    "passphrase.empty-file": ErrorText(
        InputError,
        "the first line of the passphrase file {file} is empty",
        "Write the passphrase there.",
    ),
    # --- what it computes on ---
    "backend.unknown": ErrorText(
        InputError,
        "{name!r} is not a backend",
        "Use one of {known}.",
    ),
    "backend.not-installed": ErrorText(
        InputError,
        "the backend {name} is not installed here",
        'In the clone, with the Python of its .venv: python -m pip install -e ".[{name}]"{others}.',
    ),
    "backend.illegal-instruction": ErrorText(
        InputError,
        "{name} can't run on this machine: the processor lacks a required instruction set, in most cases AVX",
        "{way_out}, or use a machine with a newer processor.",
    ),
    "backend.no-dll": ErrorText(
        InputError,
        "{name} can't be imported on this machine: {reason}",
        "Install the Visual C++ runtime (the Microsoft Visual C++ Redistributable, x64), then start again.",
    ),
}
