"""What can be wrong in a Python program that uses `lanfit.Cluster`: its arguments, its model, its rows, its run.

Part of the table in lanfit.mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError, TrainingError
from lanfit.mistakes.entry import Mistake

MISTAKES: Mapping[str, Mistake] = {
    # --- the cluster ---
    "cluster.one-place": Mistake(
        InputError,
        "a cluster is in one place, and this one has {given}",
        'Use Cluster("0.0.0.0:8470", clients=3) for machines of the LAN, Cluster(local=2) for this one, or '
        "Cluster(simulated=100) in memory.",
    ),
    "cluster.clients-of-local": Mistake(
        InputError,
        "{kind}={own} and clients={clients} do not go together",
        "Leave clients= out: {kind}= says how many there are.",
    ),
    "cluster.pool": Mistake(
        InputError,
        "pool= is for simulated clients, and this cluster has {given}",
        "Leave pool= out, or use simulated=.",
    ),
    "cluster.address": Mistake(
        InputError,
        "{address!r} is no address to listen on",
        'Give HOST or HOST:PORT, e.g. "0.0.0.0:8470" for all addresses.',
    ),
    "cluster.closed": Mistake(
        InputError,
        "this cluster is closed",
        "Make another one: with lanfit.Cluster(...) as cluster.",
    ),
    "cluster.busy": Mistake(
        InputError,
        "this cluster is in the middle of a fit",
        "Wait for it to return: a cluster does one after another.",
    ),
    # --- the arguments of fit ---
    "fit.unsupported": Mistake(
        InputError,
        "{name}={value} is nothing that a cluster can do",
        "{instead}.",
    ),
    "fit.unknown-argument": Mistake(
        InputError,
        "fit has no argument {name!r}{guess}",
        "Beside those of Keras' fit it takes the keys of a job file: see docs/reference.md.",
    ),
    "fit.no-model": Mistake(
        InputError,
        "{kind} is no Keras model",
        "Give a keras.Model as the first argument.",
    ),
    "fit.not-compiled": Mistake(
        InputError,
        "the model {model!r} is not compiled",
        "Call model.compile(optimizer, loss) before fit.",
    ),
    "fit.function": Mistake(
        InputError,
        "the {place} is {what}, which can't travel",
        "{instead}.",
    ),
    "fit.not-saved": Mistake(
        InputError,
        "{name} has {what}, which Keras does not save, and clients make the model of what Keras saves",
        "Compile the model without it.",
    ),
    # --- its callbacks ---
    "fit.weights-at-epochs": Mistake(
        InputError,
        "the callback {callback} uses the weights of each epoch ({what}), and with method {method} they come when the "
        "run has ended",
        "{instead}.",
    ),
    "fit.monitor": Mistake(
        InputError,
        "the callback {callback} has monitor={monitor!r}, and Keras can't tell whether more of it is better",
        'Give it mode="max" or mode="min".',
    ),
    "fit.swap-ema": Mistake(
        InputError,
        "the callback SwapEMAWeights needs the averages of the optimizer, which the clients have",
        "Leave it out: with use_ema=True the weights that come from the clients are the averages.",
    ),
    # --- the rows ---
    "fit.no-rows": Mistake(
        InputError,
        "there is nothing to train on: x is None",
        'Give x and y; or data="client" for rows of the clients\' own, or dataset="mnist" for a set of Keras.',
    ),
    "fit.other-rows-too": Mistake(
        InputError,
        "x is given, and so is {name}",
        "Leave one of them out: rows come from one place.",
    ),
    "fit.no-targets": Mistake(
        InputError,
        "there are no targets: y is None",
        'Give y; with order="XX" the target is the normalized input itself.',
    ),
    "fit.targets-twice": Mistake(
        InputError,
        "x is a {kind}, which has its targets in it, and {name} is given, too",
        "Leave {name} out.",
    ),
    "fit.not-rows": Mistake(
        InputError,
        "{name} is {kind}, which is no array of rows",
        "{instead}.",
    ),
    "fit.lengths": Mistake(
        InputError,
        "x has {rows:,row}, and {name} has {others:,}",
        "Give one for each row: rows stay paired by their place.",
    ),
    "fit.endless": Mistake(
        InputError,
        "the {kind} has no end",
        "Its rows are read once, into memory, and dealt out: give steps_per_epoch=100, or limit it, e.g. "
        "dataset.take(100).",
    ),
    "fit.too-large": Mistake(
        InputError,
        "the {kind} has more rows than fit in memory: {rows:,row} of {size} were read, and {free} were free",
        "Rows are read once, into memory: limit it, e.g. dataset.take(100), or give steps_per_epoch=100.",
    ),
    "fit.elements": Mistake(
        InputError,
        "an element of the {kind} is {what}",
        "It must be inputs and targets, or inputs, targets and sample weights: one array each, as a model has one "
        "input and one output here.",
    ),
    "fit.two-weights": Mistake(
        InputError,
        "class_weight and sample_weight are both given",
        "Keras takes one of them: multiply them into sample_weight.",
    ),
    "fit.class-weight": Mistake(
        InputError,
        "class_weight can't be used: {reason}",
        "Give a dict from each class (a whole number) to its weight, for a model of classes; or use sample_weight.",
    ),
    "fit.sample-weight": Mistake(
        InputError,
        "{name} can't be used: {reason}",
        "Give one number for each row, finite and not below 0.",
    ),
    "fit.validation-data": Mistake(
        InputError,
        "validation_data is {what}",
        "Give a tuple (x, y), or (x, y, sample_weight), or a dataset.",
    ),
    # --- the run ---
    "fit.ended": Mistake(
        TrainingError,
        "run {run} ended without a model: {status}{why}",
        "Its log is {log}.",
    ),
    "attach.abandoned": Mistake(
        InputError,
        "run {run} is not finished, and nobody works on it any more",
        "Go on with it: lanfit server --resume {run} --workspace {workspace}. Then attach to it again.",
    ),
    "job.arrays": Mistake(
        InputError,
        "the rows of this job were arrays of a Python program",
        "Run it again from Python, with lanfit.Cluster; or save the arrays in dataset/X and dataset/Y and use --data "
        "files.",
    ),
}
