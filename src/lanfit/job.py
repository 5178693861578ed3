"""A job: all that the operator decides. One table of its fields serves flags, questions and all files."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lanfit.fields import (
    Field,
    Value,
    choice,
    duration,
    fraction,
    names,
    one_of,
    paths,
    positive,
    samples,
    several,
    text,
    whole,
    yes_or_no,
)
from lanfit.job_deal import DEAL_OF, FIELDS_OF_DEAL
from lanfit.job_rounds import FIELDS_OF_ROUNDS, PROXIMAL_MU, SERVER_OPTIMIZERS
from lanfit.mistakes import mistake
from lanfit.parts import read_list

#: The optimizer or loss that the model was compiled with.
COMPILED = "compiled"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does. `None`: not at all, or as the optimizer, the model file or the machine has it.

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
    custom_objects: tuple[str, ...] | None = None

    @property
    def keeps_best(self) -> bool:
        """Whether the outcome has the weights of the best epoch, or of the best round; else of the last."""
        return (self.keep or ("last" if self.method == "federated" else "best")) == "best"

    @property
    def proximal(self) -> float:
        """The strength of the proximal term of FedProx (Li et al. 2020: mu); 0 for none."""
        if self.strategy != "fedprox":
            return 0.0
        return PROXIMAL_MU if self.proximal_mu is None else self.proximal_mu


NORMALIZER_CHOICES = {"0": "none", "1": "scale", "2": "minmax", "3": "zscore"}
METHOD_CHOICES = {"1": "kfold", "2": "fit", "3": "federated"}
DATA_CHOICES = {"1": "files", "2": "client", "3": "keras"}
#: Where rows are that a Python program gave: `data` in the job of its run; nobody can choose it.
ARRAYS = "arrays"
ORDER_CHOICES = {"XY": "XY", "XX": "XX"}
BACKENDS = ("tensorflow", "jax", "torch")
DEVICES = ("auto", "cpu", "gpu")
MERGES = ("average", "ensemble")
KEEPS = ("best", "last")


#: The fields in the order in which they are asked for (see docs/decisions/0002-one-table-of-settings.md).
FIELDS: dict[str, Field] = {
    field.key: field
    for field in (
        Field(
            "host",
            text,
            "The address or name to listen on.",
            "Server IP",
            "0.0.0.0: all addresses of both families",
        ),
        Field("port", whole(0, 65535), "The TCP port to listen on, from 1 to 65535; 0 takes any free one.", "Port"),
        Field(
            "collect",
            yes_or_no,
            "Train nothing: collect finished models (question 3 answered with n).",
            "Start training? n collects finished models (Y/n)",
        ),
        Field(
            "model",
            text,
            "A file in model/, or a path to one: .h5 or .keras.",
            "Model",
            "the only or newest one in model/",
            "digits.h5",
        ),
        Field(
            "clients",
            whole(1),
            "How many clients take part; local ones count.",
            "Number of clients",
            "2, or as many as --local",
        ),
        Field("epochs", whole(1), "How many epochs each client trains; federated: in each round.", "Epochs"),
        Field("batch_size", whole(1), "Rows in a batch.", "Batch size"),
        Field(
            "optimizer",
            text,
            "A Keras optimizer by its name, such as adam or SGD.",
            "Optimizer",
            "the compiled one",
        ),
        Field(
            "loss",
            text,
            "A Keras loss by its name, such as sparse_categorical_crossentropy.",
            "Loss",
            "the compiled one",
        ),
        Field(
            "data",
            lambda text: ARRAYS if text == ARRAYS else choice(DATA_CHOICES)(text),
            "Where the data is: 1 files here, in dataset/X and dataset/Y; 2 such files on each client; "
            "3 a keras data set.",
            "Data (1 files, 2 client, 3 keras)",
        ),
        Field(
            "dataset",
            text,
            "The name of a data set in keras.datasets; given as a flag, it means --data keras.",
            "Data set of Keras",
            example="fashion_mnist",
        ),
        Field(
            "samples",
            samples,
            "With files or a keras data set: use only so many rows, classes in their proportions.",
            "How many rows",
            "all",
            "all",
        ),
        Field(
            "normalizer",
            choice(NORMALIZER_CHOICES),
            "How inputs are normalized: 0 none, 1 scale, 2 minmax, 3 zscore.",
            "Normalizer (0 none, 1 scale, 2 minmax, 3 zscore)",
        ),
        Field(
            "method",
            choice(METHOD_CHOICES),
            "How clients train: 1 kfold, a fresh model for each fold of the client's rows; 2 fit, one model; "
            "3 federated, all clients one model together, in rounds.",
            "Training method (1 kfold, 2 fit, 3 federated)",
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
            "The learning rate, instead of the optimizer's own.",
            default="the optimizer's own",
            example=0.001,
        ),
        Field(
            "metrics",
            names,
            "Keras metrics by their names, such as accuracy,mae.",
            default="the compiled ones",
            example=("accuracy",),
        ),
        Field("validation_split", fraction, "The share of a shard's rows that is kept for validation."),
        Field("test_split", fraction, "The share of all rows that the server keeps for its test."),
        Field("local", whole(0), "How many clients to start on this machine."),
        Field(
            "threads",
            whole(1),
            "Threads of each trainer.",
            default="the machine's cores; for local clients the cores divided by their number",
            example=4,
        ),
        Field(
            "npz_key",
            text,
            "Which array of npz files with several is read: a name, or X_NAME,Y_NAME.",
            default="the only one",
            example="x_train,y_train",
        ),
        Field(
            "decimal",
            one_of(("point", "comma")),
            "The decimal sign in the numbers of csv and other text files: point or comma.",
            default="found out for each file; what can be read in two ways is refused",
            example="comma",
        ),
        Field(
            "thousands",
            one_of(("comma", "point", "space", "none")),
            "What separates thousands in the numbers of csv and other text files: comma, point, space or none.",
            default="nothing; what can be read in two ways is refused",
            example="comma",
        ),
        Field("seed", whole(0, 2**32 - 1), "The seed that splits, shuffles and initial states derive from."),
        Field(
            "dataset_args",
            text,
            "Arguments of the loader of the keras data set, with commas between them.",
            default="its own",
            example="num_words=10000",
        ),
        Field(
            "normalize_targets",
            choice(NORMALIZER_CHOICES),
            "How targets are normalized, for regression; without a value: zscore. final.keras predicts in original "
            "units all the same.",
            bare="zscore",
        ),
        Field("folds", whole(2), "Folds of method kfold."),
        Field(
            "patience",
            whole(1),
            "Stop training after so many epochs without a lower validation loss; federated: after so many rounds "
            "without a lower loss of the model of all.",
            default="never",
            example=3,
        ),
        Field(
            "merge",
            several(MERGES),
            "Make of the clients' models, with method fit: average, ensemble, or average,ensemble.",
            default="nothing",
            example=("average", "ensemble"),
        ),
        Field(
            "backend",
            choice({name: name for name in BACKENDS}),
            "What trains on the clients: tensorflow, jax or torch, all through Keras.",
            default="what each client has",
            example="jax",
        ),
        Field(
            "device",
            choice({name: name for name in DEVICES}),
            "What clients train on: cpu, gpu, or auto for a gpu where there is one.",
        ),
        Field(
            "deadline",
            duration("m"),
            "With --data client: how long the run waits for a lost client, or for one that reads its files or "
            "evaluates a model, in minutes, or as 90s, 2h.",
            default="10 minutes",
        ),
        Field(
            "max_weight",
            positive,
            "With --data client: the rows that a client says it has count at most so many times the median of all "
            "clients, in means of weights, of statistics and of metrics.",
        ),
        Field(
            "start_after",
            duration("s"),
            "How long missing clients are waited for, in seconds, or as 5m: then the run begins with those that are "
            "there, if they are as many as --min-clients says.",
            default="all are waited for; at a terminal Enter begins without the missing",
            example=300,
        ),
        Field(
            "keep_runs",
            whole(1),
            "How many of the newest finished runs to keep when a run ends; older ones are removed, models and all.",
            default="all",
            example=20,
        ),
        Field(
            "custom_objects",
            paths,
            "Python files that define the model's own layers, losses, metrics and activations, with commas between "
            "them. They are executed here and on the clients, which must have and allow the same files.",
            default="none: Keras' own only",
            example=("my_layers.py",),
        ),
        *FIELDS_OF_DEAL,
        Field(
            "keep",
            one_of(KEEPS),
            "Whose weights are the outcome: of a client's best or last epoch, or, with rounds, of the best or last "
            "round, by their evaluation.",
            default="best, with rounds last",
            example="best",
        ),
        *FIELDS_OF_ROUNDS,
    )
}
DEFAULTS = Job()


def default_of(key: str) -> Value:
    """The built-in default of a field; None where the default is not a value but a rule."""
    value: Value = getattr(DEFAULTS, key)
    return None if value == "" else value


def make_job(values: Mapping[str, Value]) -> Job:
    """Return the job of these values, built-in defaults for what is left out.

    Raises:
        InputError: values contradict each other.
    """
    given = {key: value for key, value in values.items() if value is not None}
    if "parts_of" in given:
        given.setdefault("deal", "parts")
    job = Job(**given)  # type: ignore[arg-type]
    if job.deal == "parts" and job.parts_of is None:
        job = msgspec.structs.replace(job, parts_of=job.clients)
    _check_deal(job)
    check_local(job.local, job.clients)
    if job.decimal is not None and job.decimal == job.thousands:
        raise mistake("job.same-signs", sign=job.decimal)
    _check_data(job)
    if job.merge and job.method != "fit":
        raise mistake("job.merge-without-fit", merge=",".join(job.merge), method=job.method)
    if job.min_clients is not None and job.min_clients > job.clients:
        raise mistake("job.min-above-clients", minimum=job.min_clients, clients=job.clients)
    if job.method == "federated":
        _check_rounds(job)
    return job


def _check_rounds(job: Job) -> None:
    for key, strategies in SERVER_OPTIMIZERS.items():
        if getattr(job, key) is not None and job.strategy not in strategies:
            flag = FIELDS[key].flag
            raise mistake("job.other-strategy", flag=flag, strategy=job.strategy, strategies=" or ".join(strategies))


def check_local(local: int, clients: int) -> None:
    """Check that the local clients are not more than all.

    Raises:
        InputError: they are.
    """
    if local > clients:
        raise mistake("job.more-local-than-clients", local=local, clients=clients)


def _check_data(job: Job) -> None:
    if job.data == "keras" and job.dataset is None:
        raise mistake("job.no-dataset")
    for flag, value in (("--dataset", job.dataset), ("--dataset-args", job.dataset_args)):
        if job.data != "keras" and value is not None:
            raise mistake("job.set-without-keras", flag=flag, value=value, data=job.data)
    if job.data == "client" and job.samples:
        raise mistake("job.samples-on-clients", samples=job.samples)
    if job.data == "client" and job.deal not in (DEFAULTS.deal, "parts"):
        raise mistake("deal.own-files", how=job.deal)


def _check_deal(job: Job) -> None:
    """Whether what is said of the deal is for this deal, and parts are parts that there are."""
    for key, wanted in DEAL_OF.items():
        value = getattr(job, key)
        if job.deal != wanted and value != getattr(DEFAULTS, key):
            shown = ",".join(value) if isinstance(value, tuple) else value
            raise mistake("deal.other-deal", flag=FIELDS[key].flag, value=shown, wanted=wanted, how=job.deal)
    if job.parts is not None and job.parts_of is not None:
        named = len(read_list(job.parts, job.parts_of))
        if named > job.clients:
            raise mistake("parts.more-clients", named=named, clients=job.clients)


def to_toml(job: Job) -> str:
    """The job as a file that repeats it; fields that are `None` are left out."""
    import tomli_w

    values = {key: value for key, value in msgspec.structs.asdict(job).items() if value is not None}
    document: str = tomli_w.dumps(
        {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    )
    return document
