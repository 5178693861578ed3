"""The errors of the Python interface; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError, TrainingError

ERRORS: Mapping[str, ErrorText] = {
    # --- in a Python program ---
    "custom.no-source": ErrorText(
        InputError,
        "{names}: defined in {where}, not in a file that clients can load",
        "Move the definitions to a file, e.g. my_layers.py, import them from it (from my_layers import {first}), and "
        'build the model again. For clients on other machines, also pass custom_objects="my_layers.py".',
    ),
    "custom.not-named": ErrorText(
        InputError,
        "the model uses {names} from {file}, but custom_objects= is not set for clients on other machines",
        "Add custom_objects={file!r} to fit or to the Cluster, and start each client with --custom-objects {name}.",
    ),
    "custom.no-module": ErrorText(
        InputError,
        "custom_objects={given} is not a Python file",
        'Give the path of the file that defines them, as custom_objects="my_layers.py", or the imported module.',
    ),
    "custom.not-serializable": ErrorText(
        InputError,
        "{name}: Keras can't serialize this model: {reason}",
        "Add a get_config() to {name} that returns the arguments of its __init__, in a file named by custom_objects=: "
        "see docs/howto/custom-layers.md.",
    ),
    # --- the cluster ---
    "cluster.one-place": ErrorText(
        InputError,
        "a cluster has exactly one kind of clients, but this one has {given}",
        'Use Cluster("0.0.0.0:8470", clients=3) for machines on the LAN, Cluster(local=2) for this machine, or '
        "Cluster(simulated=100) for simulated clients.",
    ),
    "cluster.no-run": ErrorText(
        InputError,
        "no run is in progress, so there is nothing to {command}",
        "Call it while fit is running: from a callback, or from another thread.",
    ),
    "cluster.no-change": ErrorText(
        InputError,
        "no setting is given to be changed",
        "Pass rounds=, epochs= or learning_rate=, or several of them.",
    ),
    "cluster.clients-of-local": ErrorText(
        InputError,
        "{kind}={own} can't be combined with clients={clients}",
        "Leave out clients=: {kind}= is the number of clients.",
    ),
    "cluster.pool": ErrorText(
        InputError,
        "pool= is for simulated clients, but this cluster has {given}",
        "Leave out pool=, or use simulated=.",
    ),
    "cluster.dashboard": ErrorText(
        InputError,
        "{given} is about the live page, which this cluster does not serve",
        "Add dashboard=True, or leave it out.",
    ),
    "cluster.address": ErrorText(
        InputError,
        "{address!r} is not a valid address to listen on",
        'Give HOST or HOST:PORT, e.g. "0.0.0.0:8470" for all addresses.',
    ),
    "cluster.closed": ErrorText(
        InputError,
        "this cluster is closed",
        "Create a new one: with lanfit.Cluster(...) as cluster.",
    ),
    "cluster.busy": ErrorText(
        InputError,
        "this cluster is already running a fit",
        "Wait for it to return: a cluster runs one fit at a time.",
    ),
    # --- the arguments of fit ---
    "fit.unsupported": ErrorText(
        InputError,
        "a cluster does not support {name}={value}",
        "{instead}.",
    ),
    "fit.unknown-argument": ErrorText(
        InputError,
        "fit has no argument {name!r}{guess}",
        "In addition to the arguments of Keras' fit it accepts the keys of a job file: see docs/reference.md.",
    ),
    "fit.no-model": ErrorText(
        InputError,
        "{kind} is not a Keras model",
        "Give a keras.Model as the first argument.",
    ),
    "fit.not-compiled": ErrorText(
        InputError,
        "the model {model!r} is not compiled",
        "Call model.compile(optimizer, loss) before fit.",
    ),
    "fit.function": ErrorText(
        InputError,
        "the {place} is {what}, which can't be sent to clients",
        "{instead}.",
    ),
    "fit.not-saved": ErrorText(
        InputError,
        "{name} has {what}, which Keras does not save, so clients can't restore it",
        "Compile the model without it.",
    ),
    # --- its callbacks ---
    "fit.weights-at-epochs": ErrorText(
        InputError,
        "the callback {callback} uses the weights of each epoch ({what}), but with method {method} they arrive when "
        "the run ends",
        "{instead}.",
    ),
    "fit.monitor": ErrorText(
        InputError,
        "the callback {callback} has monitor={monitor!r}, and Keras can't infer whether higher is better",
        'Pass mode="max" or mode="min".',
    ),
    "fit.swap-ema": ErrorText(
        InputError,
        "the callback SwapEMAWeights needs the optimizer's averages, which exist only on the clients",
        "Leave it out: with use_ema=True, the weights that clients return are already the averages.",
    ),
    # --- the rows ---
    "fit.no-rows": ErrorText(
        InputError,
        "there is nothing to train on: x is None",
        'Pass x and y, or data="client" for the clients\' own data, or dataset="mnist" for a Keras dataset.',
    ),
    "fit.other-rows-too": ErrorText(
        InputError,
        "both x and {name} are given",
        "Leave one of them out: the rows must come from one source.",
    ),
    "fit.no-targets": ErrorText(
        InputError,
        "there are no targets: y is None",
        'Pass y, or order="XX" to use the normalized input as the target.',
    ),
    "fit.targets-twice": ErrorText(
        InputError,
        "x is a {kind}, which contains the targets, but {name} is also given",
        "Leave out {name}.",
    ),
    "fit.not-rows": ErrorText(
        InputError,
        "{name} is {kind}, which is not an array of rows",
        "{instead}.",
    ),
    "fit.lengths": ErrorText(
        InputError,
        "x has {rows:,row}, but {name} has {others:,}",
        "Pass one value per row: rows are paired by position.",
    ),
    "fit.endless": ErrorText(
        InputError,
        "the {kind} is infinite",
        "Its rows are read into memory once and distributed: pass steps_per_epoch=100, or limit it, e.g. "
        "dataset.take(100).",
    ),
    "fit.too-large": ErrorText(
        InputError,
        "the {kind} has more rows than fit in memory: {rows:,row} of {size} were read, and {free} was free",
        "Rows are read into memory once: limit it, e.g. dataset.take(100), or pass steps_per_epoch=100.",
    ),
    "fit.elements": ErrorText(
        InputError,
        "an element of the {kind} is {what}",
        "It must be inputs and targets, or inputs, targets and sample weights: arrays, or for a model with several "
        "inputs or outputs lists or dicts of arrays.",
    ),
    "fit.two-weights": ErrorText(
        InputError,
        "class_weight and sample_weight are both given",
        "Keras accepts only one of them: multiply the class weights into sample_weight.",
    ),
    "fit.class-weight": ErrorText(
        InputError,
        "class_weight can't be used: {reason}",
        "Pass a dict from class index to weight, for a classification model; or use sample_weight.",
    ),
    "fit.several-arrays": ErrorText(
        InputError,
        "{name} is {given}, but the model has {count} arrays there: {names}",
        "Pass {how}.",
    ),
    "fit.array-missing": ErrorText(
        InputError,
        "{name} has no array {missing}; the model's arrays there are {names}",
        "Pass an array with each of these names.",
    ),
    "fit.subclassed-several": ErrorText(
        InputError,
        "{model} is a subclassed model with several inputs or outputs",
        "Build it with keras.Model(inputs, outputs); your own layers may be in it.",
    ),
    "fit.sample-weight": ErrorText(
        InputError,
        "{name} can't be used: {reason}",
        "Pass one number per row, finite and not negative.",
    ),
    "fit.validation-data": ErrorText(
        InputError,
        "validation_data is {what}",
        "Pass a tuple (x, y) or (x, y, sample_weight), or a dataset.",
    ),
    # --- the run ---
    "fit.ended": ErrorText(
        TrainingError,
        "run {run} ended without a model: {status}{why}",
        "See its log: {log}.",
    ),
    "attach.abandoned": ErrorText(
        InputError,
        "run {run} is unfinished, and its server is not running",
        "Resume it: lanfit server --resume {run} --workspace {workspace}. Then attach to it again.",
    ),
}
