"""The fields of a job for rounds: method federated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lanfit.errors import lanfit_error
from lanfit.settings.fields import (
    Field,
    absences,
    duration,
    int_range,
    one_of,
    positive,
    share,
    share_of_clients,
)

if TYPE_CHECKING:
    from lanfit.settings.job import Job

STRATEGIES = ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox")
AGGREGATIONS = ("mean", "median", "trimmed-mean", "krum")
#: The strategies that use each parameter of the server optimizer.
SERVER_OPTIMIZERS = {
    "server_learning_rate": ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox"),
    "server_momentum": ("fedavgm",),
    "server_beta_1": ("fedadam", "fedyogi"),
    "server_beta_2": ("fedadam", "fedyogi"),
    "server_tau": ("fedadam", "fedyogi"),
    "proximal_mu": ("fedprox",),
}

#: The default mu of FedProx. Li et al. 2020 tune it over 0.001, 0.01, 0.1 and 1.
PROXIMAL_MU = 0.01

FIELDS_OF_ROUNDS = (
    Field("rounds", int_range(1), "The number of rounds of method federated."),
    Field(
        "local_steps",
        int_range(1),
        "Federated: the number of batches per round, instead of epochs.",
        default="all batches of the epochs",
        example=50,
    ),
    Field(
        "strategy",
        one_of(STRATEGIES),
        "Federated: how the aggregated update is applied to the global model: fedavg, fedavgm, fedadam, fedyogi or "
        "fedprox.",
    ),
    Field(
        "aggregation",
        one_of(AGGREGATIONS),
        "Federated: how the updates of a round are aggregated: mean, median, trimmed-mean or krum.",
    ),
    Field(
        "server_learning_rate",
        positive,
        "Federated: the learning rate of the server optimizer.",
        default="that of the strategy",
        example=0.1,
    ),
    Field(
        "server_momentum",
        share,
        "Federated: the momentum of fedavgm.",
        default="that of the strategy",
        example=0.9,
    ),
    Field(
        "server_beta_1",
        share,
        "Federated: the decay rate of the first moment in fedadam and fedyogi.",
        default="that of the strategy",
        example=0.9,
    ),
    Field(
        "server_beta_2",
        share,
        "Federated: the decay rate of the second moment in fedadam and fedyogi.",
        default="that of the strategy",
        example=0.99,
    ),
    Field(
        "server_tau",
        positive,
        "Federated: the adaptivity of fedadam and fedyogi; smaller is more adaptive.",
        default="that of the strategy",
        example=0.001,
    ),
    Field(
        "proximal_mu",
        positive,
        "Federated: the strength of the proximal term of fedprox.",
        default="0.01",
        example=0.1,
    ),
    Field("trim", share, "Federated: the fraction of updates that trimmed-mean removes at each end."),
    Field("byzantine", int_range(0), "Federated: the number of Byzantine updates that krum tolerates."),
    Field("krum_keep", int_range(1), "Federated: the number of updates that krum selects and averages."),
    Field("share", share_of_clients, "Federated: the fraction of the clients that take part in a round."),
    Field(
        "min_clients",
        int_range(1),
        "The minimum number of clients to start a run without the missing ones (--start-after, or Enter at the "
        "terminal); federated: also the minimum number of updates per round.",
        default="1",
        example=2,
    ),
    Field(
        "round_deadline",
        duration("s"),
        "Federated: how long a round waits for updates before it continues without the missing ones, in seconds or "
        "with a unit, such as 5m.",
        default="none: waits for all",
        example=300,
    ),
    Field(
        "norm_limit",
        positive,
        "Federated: exclude updates whose norm is more than this multiple of the round's median.",
        default="none",
        example=3.0,
    ),
    Field(
        "absent",
        absences,
        "Federated: continue without these clients in these rounds, as ROUND:SHARD; written into a run's job.toml so "
        "that it can be repeated.",
        default="nobody",
        example=("2:1", "2:3"),
    ),
)

#: The settings that only method federated uses; the others also affect how a run starts, or repeat it.
KEYS_OF_ROUNDS = frozenset(each.key for each in FIELDS_OF_ROUNDS) - {"min_clients", "absent"}


def check_strategy(job: Job) -> None:
    """Check that the strategy has the parameters of the server optimizer that are set.

    Raises:
        InputError: it has not.
    """
    flags = {each.key: each.flag for each in FIELDS_OF_ROUNDS}
    for key, strategies in SERVER_OPTIMIZERS.items():
        if getattr(job, key) is not None and job.strategy not in strategies:
            known = " or ".join(strategies)
            raise lanfit_error("job.other-strategy", flag=flags[key], strategy=job.strategy, strategies=known)
