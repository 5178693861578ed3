"""The part of a job's fields that is about how rows are dealt."""

from __future__ import annotations

from lanfit.fields import Field, choice, positive, whole
from lanfit.parts import MOST_PARTS, part_list

DEALS = ("equal", "stratified", "dirichlet", "classes", "parts")
#: What is for one deal alone.
DEAL_OF = {"parts_of": "parts", "parts": "parts", "alpha": "dirichlet", "classes_per_client": "classes"}

FIELDS_OF_DEAL = (
    Field(
        "deal",
        choice({name: name for name in DEALS}),
        "How the server deals rows to clients: equal, in shares of one size; stratified, with classes in their "
        "proportions; dirichlet, with labels as skewed as --alpha says; classes, a few to each client; parts, of "
        "which each client says what it takes.",
    ),
    Field("alpha", positive, "With --deal dirichlet: the smaller, the more skewed; above 100 hardly at all."),
    Field("classes_per_client", whole(1), "With --deal classes: how many each client gets."),
    Field(
        "parts_of",
        whole(1, MOST_PARTS),
        "Into how many numbered parts rows are cut, of which each client says what it takes; means --deal parts.",
        default="with --deal parts as many as clients",
        example=12,
    ),
    Field(
        "parts",
        part_list,
        "With --deal parts: who takes which, as in lab-1:1-6,lab-2:7-12; who is named is not asked.",
        default="each client is asked",
        example=("lab-1:1-6", "lab-2:7-12"),
    ),
)
