"""A job: all decisions of the operator. One table of its fields serves flags, questions and all files."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from lanfit import backends
from lanfit.errors import lanfit_error
from lanfit.settings.changes import Entry, changes
from lanfit.settings.fields import (
    Field,
    Value,
    array_names,
    choice,
    duration,
    fraction,
    int_range,
    names,
    one_of,
    paths,
    positive,
    samples,
    several,
    text,
    yes_or_no,
)
from lanfit.settings.methods import METHODS, described, method_name, numbered
from lanfit.settings.partition import PARTITION_FIELDS, PARTITION_OF_FIELD
from lanfit.settings.parts import read_list
from lanfit.settings.rounds import FIELDS_OF_ROUNDS, PROXIMAL_MU

#: The optimizer or loss that the model was compiled with.
COMPILED = "compiled"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a run. `None` means off, or the value of the optimizer, the model file or the machine.

    `samples` is a number of rows, 0 for all; `deadline` is in minutes, `start_after` in seconds.
    """

    host: str = "0.0.0.0"
    port: int = 8470
    collect: bool = False
    model: str = ""
    clients: int = 2
    epochs: int = 5
    batch_size: int = 32
    optimizer: str = COMPILED
    loss: str = COMPILED
    data: str = "files"
    dataset: str | None = None
    samples: int = 0
    normalizer: str = "none"
    method: str = "fit"
    order: str = "XY"
    learning_rate: float | None = None
    metrics: tuple[str, ...] | None = None
    validation_split: float = 0.1
    test_split: float = 0.2
    local: int = 0
    threads: int | None = None
    seed: int = 0
    npz_key: str | None = None
    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    decimal: str | None = None
    thousands: str | None = None
    dataset_args: str | None = None
    normalize_targets: str = "none"
    folds: int = 10
    patience: int | None = None
    merge: tuple[str, ...] | None = None
    backend: str | None = None
    device: str = "auto"
    deadline: float = 10.0
    max_weight: float = 10.0
    keep_runs: int | None = None
    deal: str = "stratified"
    alpha: float = 0.5
    classes_per_client: int = 2
    parts_of: int | None = None
    parts: tuple[str, ...] | None = None
    keep: str | None = None
    rounds: int = 10
    local_steps: int | None = None
    strategy: str = "fedavg"
    aggregation: str = "mean"
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    server_beta_1: float | None = None
    server_beta_2: float | None = None
    server_tau: float | None = None
    proximal_mu: float | None = None
    trim: float = 0.2
    byzantine: int = 0
    krum_keep: int = 1
    share: float = 1.0
    min_clients: int | None = None
    start_after: float | None = None
    round_deadline: float | None = None
    norm_limit: float | None = None
    absent: tuple[str, ...] | None = None
    changes: tuple[str, ...] | None = None
    custom_objects: tuple[str, ...] | None = None

    @property
    def keeps_best(self) -> bool:
        """Whether the result has the weights of the best epoch or round, instead of the last."""
        return (self.keep or METHODS[self.method].keeps) == "best"

    @property
    def proximal(self) -> float:
        """The strength of the proximal term of FedProx (Li et al. 2020: mu); 0 for none."""
        if self.strategy != "fedprox":
            return 0.0
        return PROXIMAL_MU if self.proximal_mu is None else self.proximal_mu


NORMALIZER_CHOICES = {"0": "none", "1": "scale", "2": "minmax", "3": "zscore"}
DATA_CHOICES = {"1": "files", "2": "client", "3": "keras"}
#: The source of rows that come from a Python program: `data` in the job of its run; users can't choose it.
ARRAYS = "arrays"
ORDER_CHOICES = {"XY": "XY", "XX": "XX"}
DEVICES = ("auto", "cpu", "gpu")
MERGES = ("average", "ensemble")
KEEPS = ("best", "last")


def backend_name(value: str) -> str:
    """Parse the name of a backend; the known names are looked up when it is parsed."""
    return one_of(backends.names())(value)


#: The fields in the order of the questions (see docs/decisions/0002-one-table-of-settings.md).
FIELDS: dict[str, Field] = {
    field.key: field
    for field in (
        Field(
            "host",
            text,
            "The address or host name to listen on.",
            "Server IP",
            "0.0.0.0: all addresses of both families",
        ),
        Field("port", int_range(0, 65535), "The TCP port to listen on, from 1 to 65535; 0 takes any free one.", "Port"),
        Field(
            "collect",
            yes_or_no,
            "Do not train, only collect finished models (answer n to question 3).",
            "Start training? n collects finished models (Y/n)",
        ),
        Field(
            "model",
            text,
            "The name of a file in model/, or a path: .h5 or .keras.",
            "Model",
            "the only or newest one in model/",
            "digits.h5",
        ),
        Field(
            "clients",
            int_range(1),
            "The number of clients, including local ones.",
            "Number of clients",
            "2, or as many as --local",
        ),
        Field("epochs", int_range(1), "The number of epochs each client trains; federated: per round.", "Epochs"),
        Field("batch_size", int_range(1), "The number of rows per batch.", "Batch size"),
        Field(
            "optimizer",
            text,
            "The name of a Keras optimizer, such as adam or SGD.",
            "Optimizer",
            "the compiled one",
        ),
        Field(
            "loss",
            text,
            "The name of a Keras loss, such as sparse_categorical_crossentropy.",
            "Loss",
            "the compiled one",
        ),
        Field(
            "data",
            lambda text: ARRAYS if text == ARRAYS else choice(DATA_CHOICES)(text),
            "Where the data is: 1 files here, in dataset/X and dataset/Y; 2 such files on each client; 3 a Keras "
            "dataset.",
            "Data (1 files, 2 client, 3 keras)",
        ),
        Field(
            "dataset",
            text,
            "The name of a dataset in keras.datasets; as a flag it implies --data keras.",
            "Keras dataset",
            example="fashion_mnist",
        ),
        Field(
            "samples",
            samples,
            "With files or a Keras dataset: the number of rows to use, with the same class proportions.",
            "How many rows",
            "all",
            "all",
        ),
        Field(
            "normalizer",
            choice(NORMALIZER_CHOICES),
            "The normalization of inputs: 0 none, 1 scale, 2 minmax, 3 zscore.",
            "Normalizer (0 none, 1 scale, 2 minmax, 3 zscore)",
        ),
        Field(
            "method",
            method_name,
            f"How clients train: {described()}.",
            f"Training method ({numbered()})",
        ),
        Field(
            "order",
            choice(ORDER_CHOICES, upper=True),
            "XY: inputs from dataset/X, targets from dataset/Y. XX: the target is the normalized input.",
            "Order of input and output (XY, XX)",
        ),
        Field(
            "learning_rate",
            positive,
            "The learning rate, which replaces that of the optimizer.",
            default="that of the optimizer",
            example=0.001,
        ),
        Field(
            "metrics",
            names,
            "The names of Keras metrics, such as accuracy,mae.",
            default="the compiled ones",
            example=("accuracy",),
        ),
        Field("validation_split", fraction, "The fraction of a shard's rows to hold out for validation."),
        Field("test_split", fraction, "The fraction of all rows that the server holds out as test rows."),
        Field("local", int_range(0), "The number of clients to start on this machine."),
        Field(
            "threads",
            int_range(1),
            "The number of threads of each trainer.",
            default="the number of cores; for local clients, the cores divided by their number",
            example=4,
        ),
        Field(
            "npz_key",
            text,
            "The array to read from npz files with several arrays: a name, or X_NAME,Y_NAME.",
            default="the only one",
            example="x_train,y_train",
        ),
        Field(
            "inputs",
            array_names,
            "The arrays of the npz file that are the model's inputs, in the order of the model, separated by commas.",
            default="the arrays named like the inputs, for a model with several inputs or outputs",
            example=("left", "right"),
        ),
        Field(
            "targets",
            array_names,
            "The arrays of the npz file that are the targets, in the order of the outputs, separated by commas.",
            default="the arrays named like the outputs, for a model with several inputs or outputs",
            example=("price",),
        ),
        Field(
            "decimal",
            one_of(("point", "comma")),
            "The decimal separator of numbers in csv and other text files: point or comma.",
            default="detected for each file; ambiguous numbers are rejected",
            example="comma",
        ),
        Field(
            "thousands",
            one_of(("comma", "point", "space", "none")),
            "The thousands separator of numbers in csv and other text files: comma, point, space or none.",
            default="none; ambiguous numbers are rejected",
            example="comma",
        ),
        Field("seed", int_range(0, 2**32 - 1), "The seed of splits, shuffling and initial weights."),
        Field(
            "dataset_args",
            text,
            "Arguments for the loader of the Keras dataset, separated by commas.",
            default="its own",
            example="num_words=10000",
        ),
        Field(
            "normalize_targets",
            choice(NORMALIZER_CHOICES),
            "The normalization of regression targets; without a value: zscore. final.keras still predicts in original "
            "units.",
            bare="zscore",
        ),
        Field("folds", int_range(2), "The number of folds of method kfold."),
        Field(
            "patience",
            int_range(1),
            "Stop training after this many epochs without a lower validation loss; federated: after this many rounds "
            "without a lower loss of the global model.",
            default="never",
            example=3,
        ),
        Field(
            "merge",
            several(MERGES),
            "How to merge the clients' models, with method fit: average, ensemble, or average,ensemble.",
            default="not merged",
            example=("average", "ensemble"),
        ),
        Field(
            "backend",
            backend_name,
            f"The backend of the clients: {backends.listed()}.",
            default="that of each client",
            example="jax",
        ),
        Field(
            "device",
            choice({name: name for name in DEVICES}),
            "The device of the clients: cpu, gpu, or auto for a GPU if there is one.",
        ),
        Field(
            "deadline",
            duration("m"),
            "With --data client: how long the run waits for a client that is lost, reads its files or evaluates a "
            "model, in minutes or with a unit, such as 90s or 2h.",
            default="10 minutes",
        ),
        Field(
            "max_weight",
            positive,
            "With --data client: the upper limit on the number of rows that a client reports, as a multiple of the "
            "median of all clients, when weights, statistics and metrics are averaged.",
        ),
        Field(
            "start_after",
            duration("s"),
            "How long to wait for missing clients, in seconds or with a unit, such as 5m: then the run starts with the "
            "clients that have joined, if they are at least --min-clients.",
            default="waits for all; at a terminal, Enter starts without the missing ones",
            example=300,
        ),
        Field(
            "keep_runs",
            int_range(1),
            "How many finished runs to keep when a run ends; older ones are deleted, including their models.",
            default="all",
            example=20,
        ),
        Field(
            "custom_objects",
            paths,
            "Python files that define custom layers, losses, metrics and activations of the model, separated by "
            "commas. They are executed here and on the clients, which must have and allow the same files.",
            default="none: only objects that are built into Keras",
            example=("my_layers.py",),
        ),
        *PARTITION_FIELDS,
        Field(
            "keep",
            one_of(KEEPS),
            "Which weights are the result: those of a client's best or last epoch or, with rounds, of the best or last "
            "round, according to their evaluation.",
            default="best, with rounds last",
            example="best",
        ),
        *FIELDS_OF_ROUNDS,
        Field(
            "changes",
            changes,
            "Settings that change during the run: ROUND:SETTING=VALUE from this round on, with method federated; "
            "TASK:SETTING=VALUE for this task, with the others, and TASK@EPOCH:SETTING=VALUE from an epoch of it on. "
            "SETTING is learning_rate or epochs. Written into a "
            "run's job.toml so that it can be repeated.",
            default="none",
            example=("3:learning_rate=0.0001",),
        ),
    )
}
DEFAULTS = Job()


def default_of(key: str) -> Value:
    """Return the built-in default of a field; None if the default is a rule."""
    value: Value = getattr(DEFAULTS, key)
    return None if value == "" else value


def make_job(values: Mapping[str, Value]) -> Job:
    """Return the job with these values and built-in defaults for the others.

    Raises:
        InputError: values contradict each other.
    """
    given = {key: value for key, value in values.items() if value is not None}
    if "parts_of" in given:
        given.setdefault("deal", "parts")
    job = Job(**given)  # type: ignore[arg-type]
    if job.deal == "parts" and job.parts_of is None:
        job = msgspec.structs.replace(job, parts_of=job.clients)
    _check_partition(job)
    check_local(job.local, job.clients)
    if job.decimal is not None and job.decimal == job.thousands:
        raise lanfit_error("job.same-signs", sign=job.decimal)
    _check_data(job)
    if job.merge and "merge" not in METHODS[job.method].keys:
        raise lanfit_error("job.merge-without-fit", merge=",".join(job.merge), method=job.method)
    if job.min_clients is not None and job.min_clients > job.clients:
        raise lanfit_error("job.min-above-clients", minimum=job.min_clients, clients=job.clients)
    METHODS[job.method].check(job)
    _check_changes(job)
    return job


def _check_changes(job: Job) -> None:
    method = METHODS[job.method]
    for entry in job.changes or ():
        if not re.fullmatch(method.place, str(Entry.parse(entry).where)):
            raise lanfit_error("job.changes-of-method", entry=entry, method=job.method, where=method.shown_place)


def check_local(local: int, clients: int) -> None:
    """Check that there are not more local clients than clients.

    Raises:
        InputError: they are.
    """
    if local > clients:
        raise lanfit_error("job.more-local-than-clients", local=local, clients=clients)


def _check_data(job: Job) -> None:
    if job.data == "keras" and job.dataset is None:
        raise lanfit_error("job.no-dataset")
    for flag, value in (("--dataset", job.dataset), ("--dataset-args", job.dataset_args)):
        if job.data != "keras" and value is not None:
            raise lanfit_error("job.set-without-keras", flag=flag, value=value, data=job.data)
    for flag, named in (("--inputs", job.inputs), ("--targets", job.targets)):
        if named and job.data != "files":
            raise lanfit_error("job.named-without-files", flag=flag, value=",".join(named), data=job.data)
        if named and job.npz_key is not None:
            raise lanfit_error("job.named-and-key", flag=flag, value=",".join(named), key=job.npz_key)
    if job.data == "client" and job.samples:
        raise lanfit_error("job.samples-on-clients", samples=job.samples)
    if job.data == "client" and job.deal not in (DEFAULTS.deal, "parts"):
        raise lanfit_error("deal.own-files", how=job.deal)


def _check_partition(job: Job) -> None:
    """Check that the partitioning options fit the chosen partitioning, and that parts exist."""
    for key, wanted in PARTITION_OF_FIELD.items():
        value = getattr(job, key)
        if job.deal != wanted and value != getattr(DEFAULTS, key):
            shown = ",".join(value) if isinstance(value, tuple) else value
            raise lanfit_error("deal.other-deal", flag=FIELDS[key].flag, value=shown, wanted=wanted, how=job.deal)
    if job.parts is not None and job.parts_of is not None:
        named = len(read_list(job.parts, job.parts_of))
        if named > job.clients:
            raise lanfit_error("parts.more-clients", named=named, clients=job.clients)


def to_toml(job: Job) -> str:
    """Return the job as a file that repeats it; fields that are `None` are left out."""
    import tomli_w

    values = {key: value for key, value in msgspec.structs.asdict(job).items() if value is not None}
    document: str = tomli_w.dumps(
        {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    )
    return document
