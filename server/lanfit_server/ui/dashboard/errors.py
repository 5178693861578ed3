"""The errors of the live page; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

_RELOAD = "Reload the page."

ERRORS: Mapping[str, ErrorText] = {
    "page.no-object": ErrorText(
        InputError,
        "the request is not a JSON object: {reason}",
        'Send an object, such as {{"command": "pause"}}.',
    ),
    "page.no-run": ErrorText(
        InputError,
        "no run is in progress",
        "Start one first.",
    ),
    "page.nothing-to-start": ErrorText(
        InputError,
        "no run waits for clients that it could start without",
        "Set up a run, or wait until its data is read.",
    ),
    "page.no-command": ErrorText(
        InputError,
        "{command!r} is not a command",
        "Use pause, resume, stop or change.",
    ),
    "page.no-setting": ErrorText(
        InputError,
        "{setting!r} can't be changed in a run",
        "Change learning_rate, epochs or rounds.",
    ),
    "page.no-ban": ErrorText(
        InputError,
        "{address} is not banned",
        "Reload the list of bans: it may have ended.",
    ),
    "page.no-port": ErrorText(
        InputError,
        "the live page finds no free port from {first} to {last} on {host}",
        "Choose another one: --dashboard-port; or do without the page: --no-dashboard.",
    ),
    # --- runs that are set up on the page ---
    "page.not-queued": ErrorText(
        InputError,
        "run {number} is not queued any more",
        "It has started, or it was withdrawn: look at the list of runs.",
    ),
    "one-machine.no-client": ErrorText(
        InputError,
        "{client!r} is not connected, so it can't be the one machine",
        "Choose this machine, or a client that has joined.",
    ),
    "one-machine.client-data": ErrorText(
        InputError,
        "the rows are on the clients, so no single machine can train on all of them",
        "Use files in dataset/ or a Keras dataset for this comparison.",
    ),
    # --- models that are built ---
    "build.unknown-kind": ErrorText(
        InputError,
        "{kind!r} is not a kind of model that can be built here",
        "The kinds are: {known}.",
    ),
    "build.no-shape": ErrorText(
        InputError,
        "the shape of the rows is not known: {reason}",
        "Give it yourself: the input shape, such as 28x28x1 or 13, and the number of outputs.",
    ),
    "build.not-an-image": ErrorText(
        InputError,
        "a CNN needs images, height × width × channels, but the rows have the shape {shape}",
        "Build an MLP, or give the input shape yourself, such as 8x8x1.",
    ),
    "build.sequences": ErrorText(
        InputError,
        "{name} consists of sequences of words, for which no model can be built here",
        "Save a model with an Embedding layer in model/, and choose it.",
    ),
    "build.wrong-shape": ErrorText(
        InputError,
        "{value!r} is not a shape",
        "Write sizes with x between them, such as 28x28x1 or 13.",
    ),
    "build.wrong-name": ErrorText(
        InputError,
        "{value!r} can't be the name of a model file",
        "Use letters, digits, dots, hyphens and underscores, such as my-model.",
    ),
    "build.name-taken": ErrorText(
        InputError,
        "{file} exists already",
        "Choose another name.",
    ),
    # --- runs that are kept ---
    "page.run-gone": ErrorText(
        InputError,
        "there is no run {run!r}",
        _RELOAD,
    ),
    "page.no-file": ErrorText(
        InputError,
        "run {run} has no file {file!r} to download",
        _RELOAD,
    ),
    "page.no-log": ErrorText(
        InputError,
        "{client!r} took no part in run {run}",
        _RELOAD,
    ),
    "page.run-goes-on": ErrorText(
        InputError,
        "run {run} is in progress or queued, so it can't be deleted",
        "Stop it first, or wait until it ends.",
    ),
    "page.not-confirmed": ErrorText(
        InputError,
        "deleting run {run} was not confirmed",
        "Confirm it with the name of the run.",
    ),
    "page.nothing-to-resume": ErrorText(
        InputError,
        "run {run} can't be resumed: its status is {status}",
        "Only a run that was interrupted, or whose server died, can be resumed.",
    ),
    "page.not-comparable": ErrorText(
        InputError,
        "run {run} has no summary to compare",
        "Choose runs that have ended.",
    ),
}
