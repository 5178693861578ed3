import json
from pathlib import Path

import pytest

from lanfit.errors import InputError, RefusedError
from lanfit.net.tls import format_fingerprint
from lanfit_client.connect import ServerIdentity
from lanfit_client.store.known_servers import FingerprintChanged, KnownServers

ADDRESS = "192.168.1.20:8470"
SERVER = ServerIdentity(b"s" * 16, b"f" * 32)
OTHER = b"o" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "known_servers"


def test_an_unknown_address_may_show_any_fingerprint(path: Path) -> None:
    KnownServers(path).check(ADDRESS, OTHER)
    assert not path.exists()


def test_a_server_is_remembered_over_a_restart(path: Path) -> None:
    KnownServers(path).remember(ADDRESS, SERVER)
    known = KnownServers(path)
    assert known.fingerprint(ADDRESS) == SERVER.fingerprint.hex()
    known.check(ADDRESS, SERVER.fingerprint)
    known.check("192.168.1.21:8470", OTHER)


def test_another_fingerprint_at_a_known_address_is_refused_naming_the_file_to_edit(path: Path) -> None:
    known = KnownServers(path)
    known.remember(ADDRESS, SERVER)
    with pytest.raises(FingerprintChanged) as changed:
        known.check(ADDRESS, OTHER)
    error = changed.value
    assert isinstance(error, RefusedError)
    assert error.exit_code == 3
    assert (error.address, error.known, error.shown) == (ADDRESS, SERVER.fingerprint.hex(), OTHER)
    assert format_fingerprint(SERVER.fingerprint) in error.message
    assert format_fingerprint(OTHER) in error.message
    assert str(path) in error.hint
    assert ADDRESS in error.hint


def test_the_file_can_be_read_and_edited_by_people(path: Path) -> None:
    known = KnownServers(path)
    known.remember(ADDRESS, SERVER)
    known.remember("lab.example:8470", ServerIdentity(b"t" * 16, OTHER))
    content = json.loads(path.read_text())
    assert content[ADDRESS] == {"server_id": (b"s" * 16).hex(), "fingerprint": (b"f" * 32).hex()}
    assert len(path.read_text().splitlines()) > 4
    del content[ADDRESS]
    path.write_text(json.dumps(content))
    known.check(ADDRESS, OTHER)
    with pytest.raises(FingerprintChanged):
        known.check("lab.example:8470", SERVER.fingerprint)


def test_the_workspaces_of_one_machine_are_one_server_and_each_is_found_by_its_results(path: Path) -> None:
    known, elsewhere = KnownServers(path), ServerIdentity(b"w" * 16, SERVER.fingerprint)
    for server in (SERVER, elsewhere, SERVER, elsewhere):
        known.remember(ADDRESS, server)
    known.check(ADDRESS, SERVER.fingerprint)
    assert known.address(SERVER.server_id) == known.address(elsewhere.server_id) == ADDRESS
    assert known.address(b"x" * 16) is None
    assert len(json.loads(path.read_text())[ADDRESS]["others"]) == 1


def test_whether_a_server_takes_the_place_of_another_is_reported(path: Path) -> None:
    known = KnownServers(path)
    assert not known.remember(ADDRESS, SERVER)
    assert not known.remember(ADDRESS, SERVER)
    assert known.remember(ADDRESS, ServerIdentity(SERVER.server_id, OTHER))
    assert not known.remember(ADDRESS, ServerIdentity(SERVER.server_id, OTHER))


def test_a_server_can_be_forgotten_and_remembered_again(path: Path) -> None:
    known = KnownServers(path)
    known.remember(ADDRESS, SERVER)
    known.forget(ADDRESS)
    known.forget(ADDRESS)
    known.remember(ADDRESS, ServerIdentity(SERVER.server_id, OTHER))
    assert known.fingerprint(ADDRESS) == OTHER.hex()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"a": {"server_id": "x"}}', b'"\xff"', b"\xff\xfe"])
def test_a_damaged_file_trusts_nobody_and_is_named(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match="known_servers") as error:
        KnownServers(path).check(ADDRESS, OTHER)
    assert error.value.hint
    with pytest.raises(InputError, match="known_servers"):
        KnownServers(path).remember(ADDRESS, SERVER)
    assert path.read_bytes() == content


def test_an_edited_fingerprint_that_is_none_trusts_nobody(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({ADDRESS: {"server_id": "00", "fingerprint": "shortened"}}))
    with pytest.raises(InputError, match="not a valid fingerprint"):
        KnownServers(path).check(ADDRESS, OTHER)


def test_a_fingerprint_in_the_file_may_be_as_short_as_servers_show_it(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({ADDRESS: {"server_id": "00", "fingerprint": format_fingerprint(OTHER)}}))
    KnownServers(path).check(ADDRESS, OTHER)
    with pytest.raises(FingerprintChanged):
        KnownServers(path).check(ADDRESS, SERVER.fingerprint)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder must be")
    known = KnownServers(tmp_path / "state" / "known_servers")
    known._read = dict  # type: ignore[method-assign]
    with pytest.raises(InputError, match="known_servers can't be written") as error:
        known.remember(ADDRESS, SERVER)
    assert error.value.code == "known-servers.unwritable"
