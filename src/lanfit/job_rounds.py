"""The part of a job's fields that is about rounds: method federated."""

from __future__ import annotations

from lanfit.fields import (
    Field,
    absences,
    duration,
    one_of,
    positive,
    share,
    share_of_clients,
    whole,
)

STRATEGIES = ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox")
AGGREGATIONS = ("mean", "median", "trimmed-mean", "krum")
#: Which strategies take which parameters of the server's optimizer.
SERVER_OPTIMIZERS = {
    "server_learning_rate": ("fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox"),
    "server_momentum": ("fedavgm",),
    "server_beta_1": ("fedadam", "fedyogi"),
    "server_beta_2": ("fedadam", "fedyogi"),
    "server_tau": ("fedadam", "fedyogi"),
    "proximal_mu": ("fedprox",),
}

#: The mu of FedProx, unless the operator says otherwise. Li et al. 2020 tune it over 0.001, 0.01, 0.1 and 1.
PROXIMAL_MU = 0.01

FIELDS_OF_ROUNDS = (
    Field("rounds", whole(1), "Rounds of method federated."),
    Field(
        "local_steps",
        whole(1),
        "Federated: so many batches in each round, instead of epochs.",
        default="as many as the epochs have",
        example=50,
    ),
    Field(
        "strategy",
        one_of(STRATEGIES),
        "Federated: how a round's updates change the model: fedavg, fedavgm, fedadam, fedyogi or fedprox.",
    ),
    Field(
        "aggregation",
        one_of(AGGREGATIONS),
        "Federated: what is made of a round's updates: mean, median, trimmed-mean or krum.",
    ),
    Field(
        "server_learning_rate",
        positive,
        "Federated: the learning rate of the server's step.",
        default="the strategy's own",
        example=0.1,
    ),
    Field(
        "server_momentum",
        share,
        "Federated: the momentum of fedavgm.",
        default="the strategy's own",
        example=0.9,
    ),
    Field(
        "server_beta_1",
        share,
        "Federated: how slowly fedadam and fedyogi forget the mean of updates.",
        default="the strategy's own",
        example=0.9,
    ),
    Field(
        "server_beta_2",
        share,
        "Federated: how slowly fedadam and fedyogi forget the squares of updates.",
        default="the strategy's own",
        example=0.99,
    ),
    Field(
        "server_tau",
        positive,
        "Federated: how adaptive fedadam and fedyogi are; smaller is more.",
        default="the strategy's own",
        example=0.001,
    ),
    Field(
        "proximal_mu",
        positive,
        "Federated: how strongly fedprox holds clients to the weights of the round.",
        default="0.01",
        example=0.1,
    ),
    Field("trim", share, "Federated: the share of updates that trimmed-mean cuts off at each end."),
    Field("byzantine", whole(0), "Federated: how many wrong updates krum withstands."),
    Field("krum_keep", whole(1), "Federated: of how many of the updates that krum finds best the mean is taken."),
    Field("share", share_of_clients, "Federated: the share of the clients that take part in a round."),
    Field(
        "min_clients",
        whole(1),
        "With fewer clients than that no run begins (--start-after, or Enter at the terminal); federated: nor does a "
        "round count that has fewer updates.",
        default="1",
        example=2,
    ),
    Field(
        "round_deadline",
        duration("s"),
        "Federated: a round goes on without those that have not answered after so many seconds, or as 5m.",
        default="none: all are waited for",
        example=300,
    ),
    Field(
        "norm_limit",
        positive,
        "Federated: leave out updates whose norm is over so many times the median of the round.",
        default="none",
        example=3.0,
    ),
    Field(
        "absent",
        absences,
        "Federated: go on without these clients in these rounds, as ROUND:SHARD; written into a run's job.toml, so "
        "that it can be repeated.",
        default="nobody",
        example=("2:1", "2:3"),
    ),
)
