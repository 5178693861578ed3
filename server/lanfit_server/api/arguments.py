"""The arguments of `Cluster.fit`: what a cluster can't do is refused by name, the rest becomes the fields of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lanfit.fields import did_you_mean
from lanfit.job import DEFAULTS, FIELDS
from lanfit.mistakes import mistake
from lanfit_server.api.rows import kind_of

#: Arguments of Keras' fit of which only one value can be done, and what to do instead of another one.
ONLY: Mapping[str, tuple[object, str]] = {
    "shuffle": (
        True,
        "Rows are always shuffled, with a seed: leave shuffle out; seed= draws another order",
    ),
    "initial_epoch": (0, "A fit begins at its first epoch: leave it out, and give the model that was trained so far"),
    "steps_per_epoch": (
        None,
        "An epoch is all rows: leave it out, or give a dataset; local_steps= sets the batches of a round",
    ),
    "validation_steps": (None, "All validation rows are taken: leave it out, and give fewer of them"),
    "validation_batch_size": (None, "It makes no difference to the figures: leave it out"),
    "validation_freq": (1, "Every epoch and every round is validated: leave it out"),
}
#: Fields of a job that are the cluster's, or have a name of their own in `fit`.
_OF_CLUSTER = frozenset({"host", "port", "collect", "model", "clients", "local", "threads"})
#: What `fit` and the cluster say in another way than a job file.
_ELSEWHERE = {
    "clients": "It is the cluster's: lanfit.Cluster(address, clients=3)",
    "local": "It is the cluster's: lanfit.Cluster(local=2)",
    "threads": "It is the cluster's: lanfit.Cluster(local=2, threads=1)",
    "host": "It is the cluster's: lanfit.Cluster('0.0.0.0:8470')",
    "port": "It is the cluster's: lanfit.Cluster('0.0.0.0:8470')",
    "collect": "Collecting is done by lanfit server --collect",
    "model": "It is the first argument of fit",
}


def check_supported(given: Mapping[str, object]) -> None:
    """Refuse what would be ignored otherwise.

    Raises:
        InputError: an argument has a value that a cluster can't do; it is named.
    """
    for name, value in given.items():
        only, instead = ONLY[name]
        if isinstance(value, bool) != isinstance(only, bool) or value != only:
            raise mistake("fit.unsupported", name=name, value=repr(value), instead=instead)


def check_rounds(method: str, given: Mapping[str, object]) -> None:
    """Refuse arguments about rounds where there are none.

    Raises:
        InputError: one is not at its default.
    """
    for name, value in given.items():
        if method != "federated" and value not in (None, getattr(DEFAULTS, name)):
            instead = f'Leave it out, or use method="federated": method {method} has no rounds'
            raise mistake("fit.unsupported", name=name, value=repr(value), instead=instead)


def check_steps(steps: object) -> int | None:
    """How many batches are to be read of a dataset; None: all.

    Raises:
        InputError: it is no number of them.
    """
    if steps is None:
        return None
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        instead = "Give how many batches are read of the dataset, or leave it out"
        raise mistake("fit.unsupported", name="steps_per_epoch", value=repr(steps), instead=instead)
    return steps


def in_rounds(rounds: int | None, epochs: int) -> tuple[int, int]:
    """How many rounds, and how many epochs in each: epochs alone are passes over the rows, as in Keras' `fit`.

    Raises:
        InputError: epochs are no number of them.
    """
    FIELDS["epochs"].read(epochs, "epochs")
    return (epochs, 1) if rounds is None else (rounds, epochs)


def loudness(verbose: object) -> int:
    """0, 1 or 2, as Keras has it; "auto" is 1.

    Raises:
        InputError: it is none of them.
    """
    if verbose == "auto":
        return 1
    if not isinstance(verbose, int) or verbose not in (0, 1, 2):
        instead = 'Give "auto", 0 for nothing, 1 for everything, or 2 for a line an epoch or round'
        raise mistake("fit.unsupported", name="verbose", value=repr(verbose), instead=instead)
    return int(verbose)


def job_values(given: Mapping[str, object]) -> dict[str, str]:
    """The fields of a job, as a job file has them; None is left out.

    Raises:
        InputError: there is no such field, or no such value of it.
    """
    values = {}
    for name, value in given.items():
        if name in _ELSEWHERE:
            raise mistake("fit.unsupported", name=name, value=repr(value), instead=_ELSEWHERE[name])
        if name not in FIELDS:
            raise mistake("fit.unknown-argument", name=name, guess=did_you_mean(name, [*FIELDS, *ONLY]))
        if value is None:
            continue
        values[name] = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        FIELDS[name].read(values[name], name)
    return values


def check_model(model: Any) -> None:
    """Refuse what is no model, and one that nobody could train.

    Raises:
        InputError: it is no Keras model, or not compiled.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise mistake("fit.no-model", kind=kind_of(model))
    if not model.compiled:
        raise mistake("fit.not-compiled", model=model.name)
