"""The arguments of `Cluster.fit`: unsupported ones are rejected, the others become the fields of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lanfit.errors import lanfit_error
from lanfit.settings.fields import did_you_mean
from lanfit.settings.job import DEFAULTS, FIELDS
from lanfit_server.api.rows import kind_of
from lanfit_server.methods.registry import METHODS

#: Arguments of Keras' fit with a single supported value, and what to do instead of others.
ONLY: Mapping[str, tuple[object, str]] = {
    "shuffle": (
        True,
        "Rows are always shuffled with a seed: leave out shuffle; seed= changes the order",
    ),
    "initial_epoch": (0, "A fit starts at the first epoch: leave it out, and pass the model trained so far"),
    "steps_per_epoch": (
        None,
        "An epoch covers all rows: leave it out, or pass a dataset; local_steps= sets the batches per round",
    ),
    "validation_steps": (None, "All validation rows are used: leave it out, and pass fewer rows"),
    "validation_batch_size": (None, "It does not change the metrics: leave it out"),
    "validation_freq": (1, "Validation runs after every epoch and round: leave it out"),
}
#: Fields of a job that `fit` and the cluster express in another way.
_ELSEWHERE = {
    "clients": "Pass it to the cluster: lanfit.Cluster(address, clients=3)",
    "local": "Pass it to the cluster: lanfit.Cluster(local=2)",
    "threads": "Pass it to the cluster: lanfit.Cluster(local=2, threads=1)",
    "host": "Pass it to the cluster: lanfit.Cluster('0.0.0.0:8470')",
    "port": "Pass it to the cluster: lanfit.Cluster('0.0.0.0:8470')",
    "collect": "Collect with lanfit server --collect",
    "model": "It is the first argument of fit",
}


def check_supported(given: Mapping[str, object]) -> None:
    """Reject arguments that would have no effect.

    Raises:
        InputError: an argument has a value that a cluster can't do; it is named.
    """
    for name, value in given.items():
        only, instead = ONLY[name]
        if isinstance(value, bool) != isinstance(only, bool) or value != only:
            raise lanfit_error("fit.unsupported", name=name, value=repr(value), instead=instead)


def method_of(method: str) -> str:
    """Return the name of a method that is given by its name or number, as a job has it.

    Raises:
        InputError: there is none.
    """
    found = FIELDS["method"].read(str(method), "method")
    assert isinstance(found, str)
    return found


def check_rounds(method: str, given: Mapping[str, object]) -> None:
    """Reject arguments about rounds for methods without rounds.

    Raises:
        InputError: one is not at its default.
    """
    for name, value in given.items():
        if not METHODS[method].in_rounds and value not in (None, getattr(DEFAULTS, name)):
            instead = f'Leave it out, or use method="federated": method {method} has no rounds'
            raise lanfit_error("fit.unsupported", name=name, value=repr(value), instead=instead)


def check_steps(steps: object) -> int | None:
    """Return how many batches of a dataset are read; None: all.

    Raises:
        InputError: the number is not valid.
    """
    if steps is None:
        return None
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        instead = "Pass the number of batches to read from the dataset, or leave it out"
        raise lanfit_error("fit.unsupported", name="steps_per_epoch", value=repr(steps), instead=instead)
    return steps


def rounds_and_epochs(rounds: int | None, epochs: int) -> tuple[int, int]:
    """Return the number of rounds, and of epochs per round. `epochs` alone is the total, as in Keras' `fit`.

    Raises:
        InputError: epochs are no number of them.
    """
    FIELDS["epochs"].read(epochs, "epochs")
    return (epochs, 1) if rounds is None else (rounds, epochs)


def loudness(verbose: object) -> int:
    """Return 0, 1 or 2, as in Keras; "auto" is 1.

    Raises:
        InputError: it is none of them.
    """
    if verbose == "auto":
        return 1
    if not isinstance(verbose, int) or verbose not in (0, 1, 2):
        instead = 'Pass "auto", 0 for silent, 1 for everything, or 2 for one line per epoch or round'
        raise lanfit_error("fit.unsupported", name="verbose", value=repr(verbose), instead=instead)
    return int(verbose)


def job_values(given: Mapping[str, object]) -> dict[str, str]:
    """Return the fields of a job, as in a job file, without None.

    Raises:
        InputError: there is no such field, or no such value of it.
    """
    values = {}
    for name, value in given.items():
        if name in _ELSEWHERE:
            raise lanfit_error("fit.unsupported", name=name, value=repr(value), instead=_ELSEWHERE[name])
        if name not in FIELDS:
            raise lanfit_error("fit.unknown-argument", name=name, guess=did_you_mean(name, [*FIELDS, *ONLY]))
        if value is None:
            continue
        values[name] = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        FIELDS[name].read(values[name], name)
    return values


def check_model(model: Any) -> None:
    """Check that an object is a model that can be trained.

    Raises:
        InputError: it is no Keras model, or not compiled.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise lanfit_error("fit.no-model", kind=kind_of(model))
    if not model.compiled:
        raise lanfit_error("fit.not-compiled", model=model.name)
