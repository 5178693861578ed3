"""The folders of a workspace, and how it is found. Creates nothing until something is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lanfit.errors import LocalProtocolError, lanfit_error


@dataclass(frozen=True)
class Workspace:
    """A folder with `server/ client/ model/ dataset/ logs/`; missing ones are created when needed."""

    root: Path

    @property
    def models(self) -> Path:
        return self.root / "model"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def inputs(self) -> Path:
        return self.dataset / "X"

    @property
    def targets(self) -> Path:
        return self.dataset / "Y"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def server_state(self) -> Path:
        return self.root / "server" / "state"

    @property
    def client_state(self) -> Path:
        return self.root / "client" / "state"

    @property
    def server_settings(self) -> Path:
        return self.root / "server" / "server.toml"

    @property
    def client_settings(self) -> Path:
        return self.root / "client" / "client.toml"

    def run_folder(self, run: str) -> Path:
        """`logs/<run>`: everything that is written about a run."""
        return self.logs / run

    def collected(self, run: str) -> Path:
        """`model/collected/<run>`: the models that a server collected."""
        return self.models / "collected" / run

    def trained(self, run: str) -> Path:
        """`model/trained/<run>`: the models that clients of this workspace trained."""
        return inside(self.models / "trained", run)

    def trained_logs(self, run: str, name: str) -> Path:
        """`logs/trained/<run>/<name>`: the logs of a client of this workspace."""
        return inside(self.logs / "trained", run, name)

    def relative(self, path: Path) -> str:
        """Return the path for people: relative to the workspace's root if it is inside, with forward slashes."""
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return str(path)


def inside(folder: Path, *names: str) -> Path:
    """Return the path of `names`, each inside the one before, in a folder; for names from a peer.

    They were checked against their patterns when they were decoded: this is the second check.

    Raises:
        LocalProtocolError: a name leads elsewhere: it was not checked.
    """
    for name in names:
        if name in ("", ".", "..") or any(sign in name for sign in "/\\:\0"):
            raise LocalProtocolError(f"{name[:80]!r} was to become the name of a file in {folder}")
    return folder.joinpath(*names)


def find_workspace(given: Path | None, start: Path) -> Workspace:
    """Return the workspace: `given`, else the nearest folder from `start` upward with `model/` and `dataset/`, else
    `start/lanfit`, which is created when something is written to it.

    Raises:
        InputError: `given` is a file.
    """
    if given is not None:
        if given.exists() and not given.is_dir():
            raise lanfit_error("workspace.is-a-file", path=given)
        return Workspace(given.resolve())
    for folder in (start, *start.parents):
        if (folder / "model").is_dir() and (folder / "dataset").is_dir():
            return Workspace(folder.resolve())
    return Workspace((start / "lanfit").resolve())
