"""The fields of a job for partitioning."""

from __future__ import annotations

from lanfit.settings.fields import Field, choice, int_range, positive
from lanfit.settings.parts import MOST_PARTS, part_list

PARTITIONS = ("equal", "stratified", "dirichlet", "classes", "parts")
#: The fields that apply to one kind of partitioning only.
PARTITION_OF_FIELD = {"parts_of": "parts", "parts": "parts", "alpha": "dirichlet", "classes_per_client": "classes"}

PARTITION_FIELDS = (
    Field(
        "deal",
        choice({name: name for name in PARTITIONS}),
        "How the server partitions rows among clients: equal, into shards of equal size; stratified, with the same "
        "class proportions; dirichlet, with label skew set by --alpha; classes, a few classes per client; parts, from "
        "which each client chooses.",
        alias="--partition",
    ),
    Field(
        "alpha",
        positive,
        "With --deal dirichlet: a smaller value means more label skew; above 100 there is hardly any.",
    ),
    Field("classes_per_client", int_range(1), "With --deal classes: the number of classes per client."),
    Field(
        "parts_of",
        int_range(1, MOST_PARTS),
        "The number of parts into which rows are divided, from which each client chooses; implies --deal parts.",
        default="with --deal parts, the number of clients",
        example=12,
    ),
    Field(
        "parts",
        part_list,
        "With --deal parts: the parts of each client, such as lab-1:1-6,lab-2:7-12; clients named here are not asked.",
        default="each client is asked",
        example=("lab-1:1-6", "lab-2:7-12"),
    ),
)
