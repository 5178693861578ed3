"""What a Python program and its service process tell each other, over the pipes of `lanfit.child`. No logic here.

Arrays and models pass through files, named in the messages.
"""

from __future__ import annotations

import msgspec

from lanfit.files import ArrayFile
from lanfit_server.evaluate import Problem
from lanfit_server.given_rows import GivenRows

# --- asked of the service ---------------------------------------------------------------------------------------


class Open(msgspec.Struct, frozen=True, tag="open"):
    """The first message: open an entrance for clients over the LAN, with clients of this machine, or simulate them."""

    workspace: str
    host: str
    port: int
    """0: any free one."""
    clients: int
    """How many take part in a run."""
    local: int
    """So many of them are started here, and stay between runs."""
    threads: int
    """Of each trainer that is started here."""
    passphrase: str | None
    """None: one is made."""
    simulated: bool = False
    """All of them are simulated; nobody listens."""
    pool: int = 0
    """By so many trainers; 0: as many as there are cores."""
    backend: str | None = None
    """What simulated clients train with; None: what is installed."""


class Fit(msgspec.Struct, frozen=True, tag="fit"):
    """Run a job."""

    values: dict[str, str]
    """Of its fields, as a job file has them; what is left out has its default."""
    model: str
    """A .keras file."""
    rows: GivenRows | None
    """None: they are where the job says."""
    folder: str
    """Where model and rows are; removed when the run has ended."""
    hears_rounds: bool
    """Whether rounds come with their weights, and each waits for a `GoOn`."""


class GoOn(msgspec.Struct, frozen=True, tag="go_on"):
    """The answer to a round."""

    stop: bool
    """End the run after this round."""


class Close(msgspec.Struct, frozen=True, tag="close"):
    """End at once, with everything that was started."""


Request = Open | Fit | GoOn | Close

# --- told by it -------------------------------------------------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """Clients can join."""

    how_to_join: str
    """For the operator: where the server listens, and the line to run on a client."""
    passphrase: str | None
    """The one that was made, if it was."""
    scratch: str
    """A folder for models and rows."""


class Said(msgspec.Struct, frozen=True, tag="said"):
    """A line for people."""

    text: str


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The run exists; should this program die, it is finished."""

    run: str


class EpochDone(msgspec.Struct, frozen=True, tag="epoch"):
    """A client finished an epoch, from 0; `fold` is 0 without folds."""

    client: str
    fold: int
    epoch: int
    metrics: dict[str, float]


class RoundDone(msgspec.Struct, frozen=True, tag="round"):
    """A round is over, from 1; when it was asked for, the next one waits for a `GoOn`."""

    round: int
    logs: dict[str, float]
    """As Keras has them: of training, the mean over the clients; of the evaluation, with `val_` in front."""
    weights: ArrayFile | None
    """What the round gave, in the model's order, and the normalizers' constants; None when nobody asked for it."""


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The run has its outcome: its `summary.json`. The next run waits until its report is written, too."""

    summary: bytes


Reply = Opened | Said | Began | EpochDone | RoundDone | Finished | Problem
