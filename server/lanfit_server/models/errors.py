"""The errors of the models of a workspace and the model process; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError, TrainingError

ERRORS: Mapping[str, ErrorText] = {
    # --- Keras datasets ---
    "set.unknown": ErrorText(
        InputError,
        'there is no Keras dataset "{name}"{guess}',
        "The datasets are: {known}.",
    ),
    "set.unknown-argument": ErrorText(
        InputError,
        '"{argument}" is not an argument of {name}{guess}',
        "Its arguments are: {known}.",
    ),
    "set.wrong-value": ErrorText(
        InputError,
        '{argument}={value}: {name} expects {kind} for {argument}, not "{value}"',
        "Give for example {argument}={default}.",
    ),
    "set.refused-arguments": ErrorText(
        InputError,
        "{name} can't be loaded with {arguments}: {reason}",
        "Change --dataset-args.",
    ),
    "set.not-loaded": ErrorText(
        InputError,
        "{name} can't be loaded: {reason}",
        "If this machine has no internet access or a file is truncated, download it on another machine and copy: "
        "{files}.",
    ),
    "set.no-sequences": ErrorText(
        InputError,
        "{name} consists of sequences of up to {longest:value}, but the model takes rows of {shape}",
        "Use a model that takes one sequence, e.g. Input((200,)).",
    ),
    "model.endless": ErrorText(
        InputError,
        "{file}: reading it took more than {seconds} s of processor time, far more than a valid file of its size needs",
        "Save it with Keras 3: model.save('net.keras') or model.save('net.h5').",
    ),
    "model.out-of-memory": ErrorText(
        InputError,
        "the model process ran out of memory",
        "Use a smaller model or fewer rows.",
    ),
    "model.too-large-to-send": ErrorText(
        InputError,
        "{file} has an architecture of {size:,byte}; at most {most:,} can be sent to clients",
        "Use a model with fewer layers.",
    ),
    # --- the model that is chosen ---
    "model.none": ErrorText(
        InputError,
        "there is no model in {folder}/",
        "Save one there with Keras' model.save('model/name.keras'), give its path with --model, or let lanfit prepare "
        "create one from a table.",
    ),
    "model.not-found": ErrorText(
        InputError,
        "there is no model {name!r}: {folder}/ contains {found}",
        "Save one with Keras' model.save('model/name.h5'), or give its path with --model.",
    ),
    "model.changed": ErrorText(
        InputError,
        "{file} was changed after it had been loaded",
        "Start again to load the file as it is now.",
    ),
    # --- models that are built here ---
    "build.too-large": ErrorText(
        InputError,
        "the model would have {parameters:,parameter}; at most {most:,} can be built here",
        "Use fewer units or smaller inputs.",
    ),
    # --- the process that loads, evaluates and writes models ---
    "model-process.keeps-dying": ErrorText(
        TrainingError,
        "the model process died {count} times at the same step, which is given up: {reason}",
        "{lines}\nThe machine may have too little memory: close other programs, or use a smaller model. Finished work "
        "of the run is kept: continue with --resume.",
    ),
}
