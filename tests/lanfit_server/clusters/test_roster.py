from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from lanfit import __version__
from lanfit.models.runtime import keras_version
from lanfit.wire.messages import Join, Progress
from lanfit_server.clusters.roster import Roster, label
from lanfit_server.run.wait_for_clients import joined


def join(name: str) -> Join:
    return Join(name=name, version="0.1", backend="tensorflow", device="cpu", threads=2, free_memory=0)


def test_a_second_client_of_the_same_name_gets_a_number_and_a_returning_one_its_own_name() -> None:
    roster = Roster()
    assert roster.join(b"a", "10.0.0.1", join("lab"), 0).name == "lab"
    assert roster.join(b"b", "10.0.0.2", join("LAB"), 0).name == "LAB-2"
    roster.leave("lab", "lost", 1)
    assert roster.connected == ["LAB-2"]
    assert roster.join(b"a", "10.0.0.9", join("lab"), 2).name == "lab"
    assert roster.connected == ["LAB-2", "lab"] or roster.connected == ["lab", "LAB-2"]
    assert roster["lab"].address == "10.0.0.9"


def test_clients_are_in_natural_order_whoever_came_first() -> None:
    roster = Roster()
    for name in ("pc-10", "pc-2", "pc-1"):
        roster.join(name.encode(), "10.0.0.1", join(name), 0)
    assert roster.connected == ["pc-1", "pc-2", "pc-10"]


@given(st.lists(st.text(max_size=90), max_size=8))
def test_whatever_clients_call_themselves_their_names_are_safe_and_differ_as_file_names(names: list[str]) -> None:
    roster = Roster()
    given_names = [roster.join(bytes([i]), "10.0.0.1", join(name), 0).name for i, name in enumerate(names)]
    assert len({name.lower() for name in given_names}) == len(names)
    for name in given_names:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)
        assert not name.startswith((".", "-"))
        assert not name.endswith(".")


def test_names_that_windows_reserves_and_paths_become_labels() -> None:
    assert label("CON") == "client-CON"
    assert label("nul.txt") == "client-nul.txt"
    assert label("../../etc/passwd") == "etc-passwd"
    assert label("../..") == "client-"
    assert label("Büro 3") == "B-ro-3"


def test_progress_is_a_share_of_all_epochs_and_nothing_of_it_stays_when_the_client_rests() -> None:
    roster = Roster()
    roster.join(b"a", "10.0.0.1", join("lab"), 0)
    roster.progress("lab", Progress("r", "t", 3, 4, 5, 10, 0.25, 1234.5), 10.0)
    member = roster["lab"]
    assert (member.progress, member.epoch, member.loss) == ((2 + 0.5) / 4, "3/4", 0.25)
    roster.rest("lab")
    assert (member.state, member.progress, member.epoch, member.loss) == ("waiting", 0, "", None)
    assert member.samples_per_second is None


def test_a_paused_client_keeps_its_progress_and_has_no_speed() -> None:
    roster = Roster()
    roster.join(b"a", "10.0.0.1", join("lab"), 0)
    roster.progress("lab", Progress("r", "t", 3, 4, 5, 10, 0.25, 1234.5), 10.0)
    roster.progress("lab", Progress("r", "t", 3, 4, 5, 10, 0.25, 0.0, "paused"), 11.0)
    member = roster["lab"]
    assert (member.state, member.progress, member.epoch, member.loss) == ("paused", (2 + 0.5) / 4, "3/4", 0.25)
    assert (member.step, member.steps, member.samples_per_second) == (5, 10, None)


def test_there_is_no_loss_before_a_batch_is_trained_and_none_while_bytes_are_received() -> None:
    roster = Roster()
    roster.join(b"a", "10.0.0.1", join("lab"), 0)
    member = roster["lab"]
    roster.progress("lab", Progress("r", "t", 0, 4, 300, 1000, 0.0, 0.0, "receiving"), 1)
    assert member.loss is None
    assert member.transfer is not None
    assert (member.transfer.done, member.transfer.total, member.progress) == (300, 1000, 0)
    roster.progress("lab", Progress("r", "t", 0, 4, 0, 0, 0.0, 0.0, "preparing"), 2)
    assert (member.loss, member.epoch, member.transfer) == (None, "", None)
    roster.progress("lab", Progress("r", "t", 1, 4, 1, 10, 1e-7, 0.0), 3)
    assert member.loss == 1e-7


def test_who_is_lost_was_last_seen_when_it_was_last_heard_of() -> None:
    roster = Roster()
    roster.join(b"a", "10.0.0.1", join("lab"), 5.0)
    roster.leave("lab", "lost", 65.0)
    assert (roster["lab"].last_seen, roster["lab"].gone_since) == (5.0, 65.0)


def test_no_client_is_called_like_a_file_that_the_run_makes_itself() -> None:
    roster = Roster()
    names = [roster.join(bytes([i]), "10.0.0.1", join(name), 0).name for i, name in enumerate(("average", "lab"))]
    assert names == ["client-average", "lab"]
    assert roster.join(b"x", "10.0.0.1", join("lab-fold-3"), 0).name == "lab_fold-3"


def test_a_client_of_an_earlier_server_is_awaited_under_its_name_and_nobody_else_gets_it() -> None:
    roster = Roster()
    roster.restore("lab", b"a", 5.0)
    assert roster.connected == []
    assert roster["lab"].last_seen == 5.0
    assert roster.join(b"b", "10.0.0.2", join("lab"), 6).name == "lab-2"
    assert roster.join(b"a", "10.0.0.1", join("another"), 7).name == "lab"
    assert roster.connected == ["lab", "lab-2"]


def test_a_client_with_another_keras_joins_with_both_versions_said() -> None:
    """One that has the server's own version, or does not say it, joins without a word about it."""
    cluster: Any = SimpleNamespace(roster=Roster())
    for name, keras in [("other", "3.0.5"), ("same", keras_version()), ("silent", "")]:
        output = msgspec.structs.replace(join(name), keras=keras)
        cluster.roster.join(name.encode(), "10.0.0.1", output, 0)
    assert f"It has Keras 3.0.5, this server {keras_version()}" in joined(cluster, "other")
    for name in ("same", "silent"):
        assert "Keras" not in joined(cluster, name)


def test_a_client_with_another_lanfit_joins_with_both_versions_said_once_for_each() -> None:
    cluster: Any = SimpleNamespace(roster=Roster())

    def output(name: str, version: str) -> str:
        cluster.roster.join(name.encode(), "10.0.0.1", msgspec.structs.replace(join(name), version=version), 0)
        return joined(cluster, name)

    assert f"It has lanfit 0.0.9, this server {__version__}: install the same version on both" in output(
        "other", "0.0.9"
    )
    assert "lanfit" not in output("other", "0.0.9"), "it joined again"
    assert "It has lanfit 0.0.8" in output("other", "0.0.8")
    assert "lanfit" not in output("same", __version__)
