"""The messages between a Python program and its service process, over the pipes of `lanfit.core.child`. No logic here.

Arrays and models are passed in files, named in the messages.
"""

from __future__ import annotations

import msgspec

from lanfit.transfer.blocks import ArrayFile
from lanfit_server.models.handle import Problem
from lanfit_server.store.array_source import ArraySource

# --- requests ---------------------------------------------------------------------------------------


class Open(msgspec.Struct, frozen=True, tag="open"):
    """The first message: open an endpoint for clients on the LAN, with clients on this machine, or simulate them."""

    workspace: str
    host: str
    port: int
    """0: any free one."""
    clients: int
    """The number of clients in a run."""
    local: int
    """The number of clients that are started here, and stay between runs."""
    threads: int
    """Of each trainer that is started here."""
    passphrase: str | None
    """None: one is generated."""
    simulated: bool = False
    """All clients are simulated; no port is opened."""
    pool: int = 0
    """The number of trainers; 0: the number of cores."""
    backend: str | None = None
    """The backend of simulated clients; None: the one that is installed."""
    dashboard: bool = False
    """Whether the live page is served."""
    dashboard_host: str | None = None
    """None: as server.toml says, or the default; likewise the port."""
    dashboard_port: int | None = None


class Fit(msgspec.Struct, frozen=True, tag="fit"):
    """Run a job."""

    values: dict[str, str]
    """Its fields, as in a job file; the others have their defaults."""
    model: str
    """A .keras file."""
    rows: ArraySource | None
    """None: the data is in the places that the job names."""
    folder: str
    """The folder of model and rows; removed when the run has ended."""
    follows_rounds: bool
    """Whether rounds are sent with their weights, and each waits for a `GoOn`."""


class GoOn(msgspec.Struct, frozen=True, tag="go_on"):
    """The answer to a round."""

    stop: bool
    """End the run after this round."""


class Steer(msgspec.Struct, frozen=True, tag="steer"):
    """The operator's command to the current run: pause, resume, stop, or change a setting."""

    command: str
    setting: str = ""
    value: float = 0.0


class Close(msgspec.Struct, frozen=True, tag="close"):
    """Stop at once, with everything that was started."""


Request = Open | Fit | GoOn | Steer | Close

# --- events -------------------------------------------------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """Clients can join."""

    how_to_join: str
    """For the operator: where the server listens, and the command for a client."""
    passphrase: str | None
    """The passphrase, if one was generated."""
    scratch: str
    """A folder for models and rows."""
    dashboard_url: str | None = None
    """The link to the live page; None: it is not served."""
    class_url: str | None = None
    """The link that allows looking only, if other machines reach the page."""
    dashboard_lines: tuple[str, ...] = ()
    """For the operator: the links, and notes."""


class Notice(msgspec.Struct, frozen=True, tag="said"):
    """A message for the user."""

    text: str
    warns: bool = False
    """A command was refused: the message is a warning, independent of the settings of the display."""


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The run exists; if this program dies, it is finished."""

    run: str


class EpochDone(msgspec.Struct, frozen=True, tag="epoch"):
    """A client finished an epoch, from 0; `fold` is 0 without folds."""

    client: str
    fold: int
    epoch: int
    metrics: dict[str, float]


class RoundDone(msgspec.Struct, frozen=True, tag="round"):
    """A finished round, from 1; if requested, the next one waits for a `GoOn`."""

    round: int
    logs: dict[str, float]
    """As in Keras: the mean over the clients for training; the evaluation with the prefix `val_`."""
    weights: ArrayFile | None
    """The new weights, in the model's order, and the normalizers' constants; None if not requested."""


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The run has its result: its `summary.json`. The next run waits until its report is written, too."""

    summary: bytes


Reply = Opened | Notice | Began | EpochDone | RoundDone | Finished | Problem
