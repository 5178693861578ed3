"""What can go wrong on a server beside its answers and its rows: the model it is to train, its clients, the demo.

Part of the table in lanfit.mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError, TrainingError
from lanfit.mistakes.entry import Mistake

MISTAKES: Mapping[str, Mistake] = {
    # --- the model that is chosen ---
    "model.none": Mistake(
        InputError,
        "there is no model in {folder}/",
        "Save one there with Keras' model.save('model/name.keras'), give its path to --model, or let lanfit prepare "
        "make one of a table.",
    ),
    "model.not-found": Mistake(
        InputError,
        "there is no model {name!r}: {folder}/ has {found}",
        "Save one with Keras' model.save('model/name.h5'), or give its path to --model.",
    ),
    "model.changed": Mistake(
        InputError,
        "{file} is not the file any more that was loaded at first",
        "Start again: the model is loaded as it is now.",
    ),
    # --- the process that loads, evaluates and writes models ---
    "model-process.keeps-dying": Mistake(
        TrainingError,
        "the same work has ended the model process {count} times, and is given up: {reason}",
        "{lines}\nIs there too little memory? Close other programs, or use a smaller model. What is done of a run is "
        "kept: go on with it by --resume.",
    ),
    # --- the disk of the workspace ---
    "workspace.no-database": Mistake(
        InputError,
        "{folder} can't hold the database of a run: {reason}",
        "Some network drives can't. Put the workspace on a disk of this machine: --workspace FOLDER.",
    ),
    # --- a run to go on with ---
    "resume.no-run": Mistake(
        InputError,
        "there is no run {run!r}: {folder}/ has {known}",
        "Give the name of a folder in logs/ to --resume.",
    ),
    "resume.other-server": Mistake(
        InputError,
        "run {run} was not begun by this server",
        "Only the server that began a run can go on with it: use its workspace, with its server/state/.",
    ),
    "resume.simulated": Mistake(
        InputError,
        "the clients of run {run} were simulated",
        "Go on with it by lanfit simulate --resume {run}.",
    ),
    "resume.not-simulated": Mistake(
        InputError,
        "the clients of run {run} were not simulated",
        "Go on with it by lanfit server --resume {run}.",
    ),
    "simulation.own-data": Mistake(
        InputError,
        "clients that are simulated have no data of their own (--data client)",
        "Put the rows into dataset/ of this workspace, and take --data files.",
    ),
    "resume.nothing-kept": Mistake(
        InputError,
        "run {run} can't go on: {file} is missing",
        "Start a new run with --job logs/{run}/job.toml: it gives the same models.",
    ),
    "resume.damaged": Mistake(
        InputError,
        "run {run} can't go on: {file} {reason}",
        "Start the same job again: lanfit server --job logs/{run}/job.toml.",
    ),
    "resume.damaged-ledger": Mistake(
        InputError,
        "run {run} can't go on: its ledger {file} is damaged: {reason}",
        "{left} {again}.",
    ),
    "resume.other-data": Mistake(
        InputError,
        "the data is not what run {run} began with",
        "Put the files back as they were, or start a new run.",
    ),
    # --- clients that can't do their part ---
    "client.no-room-for-model": Mistake(
        InputError,
        "{client} has {free} of memory free, but training the model takes {model}",
        "Close other programs there, use a machine with more memory, or a smaller model.",
    ),
    "client.no-room-for-rows": Mistake(
        InputError,
        "{client} has {free} of memory free, but its shard of {rows:,row} takes {size}, and the model {model}",
        "{fit:,row} would fit: use {clients:client} or more, or --samples.",
    ),
    "client.local-gave-up": Mistake(
        TrainingError,
        "the local client {client} ended again and again",
        "The lines above say why.",
    ),
    "client.local-unusable": Mistake(
        TrainingError,
        "the local client {client} can't work on this machine",
        "The lines above say why, and what to do.",
    ),
    # --- how the clients' weights become one ---
    "aggregation.trim": Mistake(
        InputError,
        "a trim of {trim:g} can't be cut from each end of {updates}: from 0.5 on nothing is left",
        "Give 0 or more and less than 0.5, e.g. --trim 0.2.",
    ),
    "aggregation.krum": Mistake(
        InputError,
        "choosing by Krum with f = {byzantine} byzantine updates takes 2f + 3 = {needed}, and there are {updates}",
        "{lower}Let more clients take part, or choose --aggregation median.",
    ),
    "aggregation.krum-keep": Mistake(
        InputError,
        "multi-Krum can't keep {keep} of {updates} updates",
        "Keep from 1 to {updates}.",
    ),
    "server-optimizer.parameter": Mistake(
        InputError,
        "{flag} is {value:g}, not {wanted}",
        "Give a number {wanted}, e.g. {default:g}.",
    ),
    "server-optimizer.not-taken": Mistake(
        InputError,
        "the strategy {strategy} has no {flag}",
        "Leave {flag} out, or choose a strategy that has it: {known}.",
    ),
    # --- the demo ---
    "demo.other-files": Mistake(
        InputError,
        "{folder} holds other files than the digits",
        "Start the demo in another folder.",
    ),
    "demo.no-sample": Mistake(
        InputError,
        "the sample {name} is missing from this installation",
        "Install lanfit again.",
    ),
}
