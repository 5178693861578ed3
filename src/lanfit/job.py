"""A job: all that the operator decides. One table of its fields serves flags, questions and all files."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lanfit.errors import InputError
from lanfit.fields import Field, Value, choice, fraction, names, positive, text, whole, yes_or_no

#: The optimizer or loss that the model was compiled with.
COMPILED = "compiled"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does. `None` means: as the optimizer or the model file has it, or as the machine is (threads)."""

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


NORMALIZER_CHOICES = {"0": "none", "1": "scale", "2": "minmax", "3": "zscore"}
METHOD_CHOICES = {"2": "fit"}
DATA_CHOICES = {"1": "files"}
ORDER_CHOICES = {"XY": "XY", "XX": "XX"}

#: The fields in the order in which they are asked for (see docs/decisions/0002-one-table-of-settings.md).
FIELDS: dict[str, Field] = {
    field.key: field
    for field in (
        Field(
            "host",
            text,
            "The address or name to listen on.",
            "Server IP",
            "0.0.0.0: all interfaces",
        ),
        Field("port", whole(1, 65535), "The TCP port to listen on, from 1 to 65535.", "Port"),
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
        Field("epochs", whole(1), "How many epochs each client trains.", "Epochs"),
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
        Field("data", choice(DATA_CHOICES), "Where the data is: 1 files, in dataset/X and dataset/Y.", "Data"),
        Field(
            "normalizer",
            choice(NORMALIZER_CHOICES),
            "How inputs are normalized: 0 none, 1 scale, 2 minmax, 3 zscore.",
            "Normalizer (0 none, 1 scale, 2 minmax, 3 zscore)",
        ),
        Field("method", choice(METHOD_CHOICES), "How clients train: 2 fit.", "Training method (2 fit)"),
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
        Field("seed", whole(0, 2**32 - 1), "The seed that splits, shuffles and initial states derive from."),
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
    job = Job(**{key: value for key, value in values.items() if value is not None})  # type: ignore[arg-type]
    if job.local > job.clients:
        raise InputError(
            f"{job.local} local clients were asked for (--local), but only {job.clients} clients take part (--clients)",
            "local clients count among the clients: raise --clients or lower --local",
        )
    return job


def to_toml(job: Job) -> str:
    """The job as a file that repeats it; fields that are `None` are left out."""
    import tomli_w

    values = {key: value for key, value in msgspec.structs.asdict(job).items() if value is not None}
    document: str = tomli_w.dumps(
        {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    )
    return document
