"""Where lanfit keeps what belongs to a user of a machine."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lanfit.core.durable import write_new
from lanfit_server.start.machine import machine_state

HOME = Path.home()


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, HOME / ".local/state/lanfit"),
        ("linux", {"XDG_STATE_HOME": "/var/state"}, Path("/var/state/lanfit")),
        ("linux", {"XDG_STATE_HOME": "relative"}, HOME / ".local/state/lanfit"),
        ("darwin", {"XDG_STATE_HOME": "/var/state"}, HOME / "Library/Application Support/lanfit"),
        ("win32", {"LOCALAPPDATA": "/Users/a/AppData/Local"}, Path("/Users/a/AppData/Local/lanfit")),
        ("win32", {}, HOME / "AppData/Local/lanfit"),
        ("linux", {"LANFIT_STATE_DIR": "/named", "XDG_STATE_HOME": "/var/state"}, Path("/named")),
        ("win32", {"LANFIT_STATE_DIR": "/named"}, Path("/named")),
    ],
)
def test_the_folder_is_that_of_the_systems_convention_or_the_named_one(
    platform: str, environment: dict[str, str], folder: Path
) -> None:
    assert machine_state(environment, platform) == folder


def test_a_user_without_a_home_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(OSError, match="home"):
        machine_state({}, "linux")


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_write_a_new_file_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", refuse)
        assert write_new(tmp_path / "file", "mine", mode=0o600)
        assert not write_new(tmp_path / "file", "yours", mode=0o600)
        assert (tmp_path / "file").read_text() == "mine"
        return
    start, wrote = threading.Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        if write_new(tmp_path / "new" / "file", str(number), mode=0o600):
            wrote.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = wrote
    path = tmp_path / "new" / "file"
    assert path.read_text() == str(winner)
    assert [each.name for each in path.parent.iterdir()] == ["file"], "a temporary file was left"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
