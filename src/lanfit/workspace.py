"""Where things are: the folders of a workspace, and how it is found. Makes nothing until something is to be written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lanfit.mistakes import mistake


@dataclass(frozen=True)
class Workspace:
    """A folder with `server/ client/ model/ dataset/ logs/`; what is missing in it is made when needed."""

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
        """`logs/<run>`: everything written about a run."""
        return self.logs / run

    def collected(self, run: str) -> Path:
        """`model/collected/<run>`: the models that a server collected."""
        return self.models / "collected" / run

    def trained(self, run: str) -> Path:
        """`model/trained/<run>`: the models that clients of this workspace trained."""
        return self.models / "trained" / run

    def trained_logs(self, run: str, name: str) -> Path:
        """`logs/trained/<run>/<name>`: what a client of this workspace logged."""
        return self.logs / "trained" / run / name

    def relative(self, path: Path) -> str:
        """The path as people should read it: from the workspace's root when it lies in it, with forward slashes."""
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return str(path)


def find_workspace(given: Path | None, start: Path) -> Workspace:
    """Return the workspace: `given`, else the nearest folder from `start` upward with `model/` and `dataset/`, else
    `start/lanfit`, which is made when something is written to it.

    Raises:
        InputError: `given` is a file.
    """
    if given is not None:
        if given.exists() and not given.is_dir():
            raise mistake("workspace.is-a-file", path=given)
        return Workspace(given.resolve())
    for folder in (start, *start.parents):
        if (folder / "model").is_dir() and (folder / "dataset").is_dir():
            return Workspace(folder.resolve())
    return Workspace((start / "lanfit").resolve())
