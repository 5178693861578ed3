"""Whose identity a server has: the key is the machine's, the ids are the workspace's; and what there was before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lanfit.errors import InputError
from lanfit.net.tls import Identity, server_context
from lanfit_server.start.identity import load_identity


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of a machine that has none yet."""
    folder = tmp_path / "machine"
    monkeypatch.setenv("LANFIT_STATE_DIR", str(folder))
    return folder


def load(state: Path, *, resumable: bool = False) -> tuple[Identity, str]:
    identity, note = load_identity(state, lambda: resumable)
    server_context(identity)  # its key and its certificate fit
    return identity, note


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_two_workspaces_of_a_machine_show_one_fingerprint_and_keep_separate_results(
    machine: Path, tmp_path: Path
) -> None:
    (one, note), (other, _) = load(tmp_path / "one"), load(tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    assert one.server_id != other.server_id
    assert note == ""
    assert load(tmp_path / "one") == (one, "")
    assert one.path == machine / "identity.pem"
    assert (mode(one.path), mode(machine), mode(tmp_path / "one" / "server_id")) == (0o600, 0o700, 0o600)


def test_another_machine_has_another_fingerprint_for_a_workspace_that_moves_and_the_same_ids(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = load(tmp_path / "work")
    monkeypatch.setenv("LANFIT_STATE_DIR", str(tmp_path / "another machine"))
    there, _ = load(tmp_path / "work")
    assert there.fingerprint != here.fingerprint
    assert (there.server_id, there.salt) == (here.server_id, here.salt)


def test_the_key_of_the_first_workspace_of_before_becomes_the_machines(machine: Path, tmp_path: Path) -> None:
    before = Identity.load_or_create(tmp_path / "old")
    now, note = load(tmp_path / "old", resumable=True)
    assert (now.fingerprint, now.server_id, now.salt) == (before.fingerprint, before.server_id, before.salt)
    assert note == ""
    assert not before.path.exists(), "the key lies in two places"
    assert load(tmp_path / "new")[0].fingerprint == before.fingerprint
    assert load(tmp_path / "old") == (now, "")


def test_the_machines_key_wins_over_one_of_before_but_not_the_ids_and_that_is_reported_once(
    machine: Path, tmp_path: Path
) -> None:
    shared, _ = load(tmp_path / "new")
    before = Identity.load_or_create(tmp_path / "old")
    now, note = load(tmp_path / "old")
    assert now.fingerprint == shared.fingerprint
    assert (now.server_id, now.salt) == (before.server_id, before.salt)
    assert "now uses the key of this machine" in note
    assert load(tmp_path / "old") == (now, "")


def test_a_key_of_before_stays_while_its_run_is_unfinished(machine: Path, tmp_path: Path) -> None:
    shared, _ = load(tmp_path / "new")
    before = Identity.load_or_create(tmp_path / "old")
    for _ in range(2):
        now, note = load(tmp_path / "old", resumable=True)
        assert now == before
        assert "until its unfinished run is over" in note
    assert load(tmp_path / "old", resumable=False)[0].fingerprint == shared.fingerprint


def test_servers_that_start_at_the_same_time_share_one_identity(machine: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lanfit_server.start.identity import load_identity;"
        "sys.stdin.read(); print(load_identity(Path(sys.argv[1]), lambda: False)[0].fingerprint.hex())"
    )
    folders = [tmp_path / "same", tmp_path / "same", tmp_path / "two", tmp_path / "three"]
    starting = [
        subprocess.Popen([sys.executable, "-P", "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for folder in folders
    ]
    for process in starting:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    shown = [process.communicate()[0] for process in starting]
    assert {process.returncode for process in starting} == {0}
    assert shown == [shown[0]] * 4
    assert load(tmp_path / "same")[0].fingerprint.hex().encode() == shown[0].strip()


def test_a_home_that_cannot_be_written_leaves_the_identity_in_the_workspace_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANFIT_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file" / "state"))
    (tmp_path / "a file").write_text("")
    identity, note = load(tmp_path / "work")
    assert identity.path == tmp_path / "work" / "identity.pem"
    assert "Set LANFIT_STATE_DIR to a folder for it" in note
    assert load(tmp_path / "work")[0] == identity


def test_a_workspace_keeps_its_ids_when_the_home_cannot_be_written_any_more(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = load(tmp_path / "work")
    monkeypatch.delenv("LANFIT_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file" / "state"))
    (tmp_path / "a file").write_text("")
    now, _ = load(tmp_path / "work")
    assert (now.server_id, now.salt) == (before.server_id, before.salt)


def test_a_named_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("LANFIT_STATE_DIR", str(tmp_path / "a file"))
    with pytest.raises(InputError, match=r"identity\.pem can't be read or written"):
        load(tmp_path / "work")


def test_a_damaged_key_of_before_does_not_become_the_machines(machine: Path, tmp_path: Path) -> None:
    one, other = (Identity.load_or_create(tmp_path / name).path for name in ("one", "other"))
    begin = "-----BEGIN CERTIFICATE"
    one.write_text(one.read_text().partition(begin)[0] + begin + other.read_text().partition(begin)[2])
    with pytest.raises(InputError, match="does not match its certificate"):
        load(tmp_path / "one")
    assert not machine.exists()


@pytest.mark.parametrize("content", ["", "server id: 00\nsalt: 11\n"])
def test_damaged_ids_are_refused(machine: Path, tmp_path: Path, content: str) -> None:
    load(tmp_path / "work")
    (tmp_path / "work" / "server_id").write_text(content)
    with pytest.raises(InputError, match="server_id does not contain the ids"):
        load(tmp_path / "work")


def test_the_key_can_be_replaced_by_a_new_one_by_deleting_it(machine: Path, tmp_path: Path) -> None:
    before, _ = load(tmp_path / "work")
    before.path.unlink()
    now, _ = load(tmp_path / "work")
    assert (now.fingerprint == before.fingerprint, now.server_id) == (False, before.server_id)
    shutil.rmtree(machine)
