"""The form of the live page: its fields are those of the table, and its errors those of the prompts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.dashboards import RIGHT, fake_place
from fakes.models import COMPILED as FAKE_COMPILED
from fakes.places import Place
from hypothesis import given
from hypothesis import strategies as st

from lanfit.core.workspace import Workspace
from lanfit.errors import InputError, lanfit_error
from lanfit.settings.job import FIELDS, make_job
from lanfit_server.models.handle import Inspected, LoadedInput, LoadedOutput, Problem
from lanfit_server.ui.dashboard.form import (
    DIGITS,
    GROUPS,
    KEYS,
    Checked,
    check,
    fields,
    key_of,
    with_defaults,
)

ONE = ((LoadedInput("x", (None, 3)),), (LoadedOutput("y", (None, 3)),))
LOOKED = Inspected(3, "sgd", "mean_squared_error", *ONE, FAKE_COMPILED)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with fake_place(tmp_path, monkeypatch) as made:
        yield made


def checked(place: Place, looked: Inspected | None = LOOKED, **values: object) -> Checked:
    found = check({**RIGHT, **values}, place.workspace, {}, {"host": "127.0.0.1", "port": 1}, lambda name: looked)
    assert (found.job is None) == bool(found.errors)
    return found


def codes(found: Checked) -> dict[str, str]:
    return {key: wrong.code for key, wrong in found.errors.items()}


#: Settings without a field: the server has them already, or they come from the job.toml of a run.
WITHOUT_FIELD = frozenset({"host", "port", "collect", "changes", "absent"})


# --- the fields -------------------------------------------------------------------------------------------------


def test_every_setting_of_a_job_has_one_field_or_a_reason_for_none() -> None:
    assert len(set(KEYS)) == len(KEYS)
    assert set(KEYS) | WITHOUT_FIELD == set(FIELDS)
    assert not set(KEYS) & WITHOUT_FIELD


def test_fields_are_described_as_the_prompts_ask_them_and_their_choices_are_accepted(place: Place) -> None:
    groups = fields(place.workspace, {"epochs": 7, "metrics": ("accuracy", "mae"), "samples": 0})
    assert [group["title"] for group in groups] == list(GROUPS)
    by_key = {each["key"]: each for group in groups for each in group["fields"]}
    assert list(by_key) == list(KEYS)
    for key, each in by_key.items():
        assert each["help"] == FIELDS[key].help or key in ("data", "normalizer", "method")
        assert each["type"] in ("int", "float", "text", "choice", "bool")
        assert (each["type"] == "choice") == ("choices" in each)
        for choice in each.get("choices", ()):
            assert choice["label"]
            if (key, choice["value"]) != ("data", DIGITS):
                FIELDS[key].parse(choice["value"])
        for other, values in each["shown_if"].items():
            known = {choice["value"] for choice in by_key[other]["choices"]}
            assert set(values) <= known, f"{key} would never be shown"
    assert by_key["model"]["choices"] == [{"value": "net.keras", "label": "net.keras"}]
    assert (by_key["epochs"]["default"], by_key["epochs"]["type"]) == (7, "int")
    assert (by_key["learning_rate"]["default"], by_key["learning_rate"]["type"]) == (None, "float")
    assert by_key["learning_rate"]["optional"]
    assert (by_key["metrics"]["default"], by_key["samples"]["default"]) == ("accuracy,mae", "all")
    assert by_key["normalizer"]["help"] == "The normalization of inputs: none, scale, minmax, zscore."
    assert by_key["data"]["help"].startswith("Where the data is: files here, in dataset/X and dataset/Y; such files")
    assert by_key["optimizer"]["choices"][1] == {"value": "adam", "label": "Adam"}


def test_a_form_that_is_right_is_the_job_of_the_prompts(place: Place) -> None:
    found = checked(place, learning_rate=0.5, normalizer="2", method="federated", rounds=3, metrics=["mae"])
    assert found.job == make_job(
        {
            **RIGHT,
            "learning_rate": 0.5,
            "normalizer": "minmax",
            "method": "federated",
            "rounds": 3,
            "metrics": ("mae",),
            "host": "127.0.0.1",
            "port": 1,
        }
    )


# --- what is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("epochs", 0, "value.not-whole"),
        ("epochs", 1.5, "value.not-whole"),
        ("epochs", True, "value.not-whole"),
        ("epochs", [1, 2], "value.not-whole"),
        ("epochs", {"a": 1}, "settings.table"),
        ("epochs", [[1]], "settings.table"),
        ("clients", "many", "value.not-whole"),
        ("seed", 2**32, "value.not-whole-in-range"),
        ("learning_rate", -1, "value.not-positive"),
        ("learning_rate", "1e999", "value.not-positive"),
        ("learning_rate", "nan", "value.not-positive"),
        ("validation_split", 1, "value.not-a-share"),
        ("share", 0, "value.not-up-to-one"),
        ("trim", 1, "value.not-below-one"),
        ("start_after", "soon", "value.not-positive"),
        ("method", "magic", "value.no-choice"),
        ("data", "arrays", "job.arrays"),
        ("dataset", "mnits", "set.unknown"),
        ("inputs", "a,a", "value.twice"),
        ("parts", "1-", "parts.no-list"),
        ("model", "gone.keras", "model.not-found"),
        ("model", "../net.keras", "model.not-found"),
        ("model", "/etc/passwd", "model.not-found"),
        ("model", "net\0.keras", "value.control-character"),
        ("model", "\ud800", "value.control-character"),
        ("model", "x" * 5000, "model.not-found"),
        ("custom_objects", "gone.py", "custom.no-file"),
        ("custom_objects", "../../outside.py", "custom.no-file"),
        ("optimizer", "adamm", "compile.unknown-name"),
        ("loss", "msse", "compile.unknown-name"),
        ("metrics", "acuracy", "compile.unknown-name"),
        ("backend", "abacus", "value.no-choice"),
        ("epoch", 3, "settings.unknown-key"),
        ("passphrase", "open sesame", "settings.passphrase"),
        ("port", 80, "settings.unknown-key"),
    ],
)
def test_a_wrong_value_is_named_beside_its_field(place: Place, key: str, value: object, code: str) -> None:
    found = checked(place, **{key: value})
    assert codes(found) == {key: code}
    shown = found.problems()[key]
    assert shown["error"]
    assert shown["hint"]


def test_the_sentences_are_those_of_the_prompts(place: Place) -> None:
    found = checked(place, epochs="x", local=5, clients=2).problems()
    with pytest.raises(InputError) as prompted:
        FIELDS["epochs"].read("x", "Epochs (--epochs)")
    assert prompted.value.message == f"Epochs (--epochs): {found['epochs']['error']}"
    assert prompted.value.hint == found["epochs"]["hint"]
    wrong = lanfit_error("job.more-local-than-clients", local=5, clients=2)
    assert found["local"] == {"error": wrong.message, "hint": wrong.hint, "code": wrong.code}


def test_all_that_is_wrong_is_reported_at_once_in_any_order(place: Place) -> None:
    wrong: dict[str, object] = {
        "epochs": "x",
        "local": 9,
        "min_clients": 7,
        "merge": "average",
        "method": "kfold",
        "alpha": 3,
        "dataset": "mnist",
        "decimal": "comma",
        "thousands": "comma",
        "server_momentum": 0.5,
        "loss": "msse",
        "nonsense": 1,
    }
    expected = {
        "epochs": "value.not-whole",
        "local": "job.more-local-than-clients",
        "min_clients": "job.min-above-clients",
        "merge": "job.merge-without-fit",
        "alpha": "deal.other-deal",
        "dataset": "job.set-without-keras",
        "decimal": "job.same-signs",
        "loss": "compile.unknown-name",
        "nonsense": "settings.unknown-key",
    }
    for seed in range(5):
        keys = list(wrong)
        random.Random(seed).shuffle(keys)
        assert codes(checked(place, **{key: wrong[key] for key in keys})) == expected


@pytest.mark.parametrize(
    ("values", "key", "code"),
    [
        ({"data": "keras"}, "dataset", "job.no-dataset"),
        ({"data": "client", "samples": 5}, "samples", "job.samples-on-clients"),
        ({"data": "client", "deal": "equal"}, "deal", "deal.own-files"),
        ({"deal": "parts", "parts": "a:1,b:2,c:3", "parts_of": 3}, "parts", "parts.more-clients"),
        ({"method": "federated", "server_momentum": 0.5}, "server_momentum", "job.other-strategy"),
        ({"method": "federated", "aggregation": "krum", "byzantine": 5}, "aggregation", None),
    ],
)
def test_what_does_not_go_together_is_reported_beside_one_of_the_fields(
    place: Place, values: dict[str, Any], key: str, code: str | None
) -> None:
    found = codes(checked(place, **values))
    assert set(found) == {key}
    assert code is None or found[key] == code


def test_what_the_model_and_the_folders_say_is_reported_too(place: Place) -> None:
    bare = Inspected(3, "", "", *ONE, "")
    assert codes(checked(place, bare)) == {"optimizer": "compile.incomplete", "loss": "compile.incomplete"}
    assert codes(checked(place, bare, optimizer="adam", loss="mse")) == {}
    custom = Problem("InputError", "the loss is of its own", "Choose another.", "compile.in-file")
    odd = Inspected(3, "sgd", "", *ONE, FAKE_COMPILED, {"loss": custom})
    assert codes(checked(place, odd)) == {"loss": "compile.in-file"}
    assert codes(checked(place, order="XX", loss="sparse_categorical_crossentropy")) == {
        "order": "targets.classes-with-xx"
    }
    for file in place.workspace.targets.iterdir():
        file.unlink()
    assert set(checked(place).errors) == {"data"}
    assert codes(checked(place, order="XX")) == {}, "no targets are needed"


def test_a_model_file_that_can_not_be_read_is_reported_next_to_it(place: Place) -> None:
    def refuse(name: str) -> Inspected | None:
        raise lanfit_error("model.out-of-memory")

    found = check(RIGHT, place.workspace, {}, {}, refuse)
    assert codes(found) == {"model": "model.out-of-memory"}


def test_without_a_model_the_sentence_is_that_of_the_prompts(place: Place) -> None:
    (place.workspace.models / "net.keras").unlink()
    found = check({"clients": 2}, place.workspace, {}, {})
    assert codes(found) == {"model": "model.none"}


def test_the_newest_model_is_the_default_and_local_clients_share_the_cores(place: Place) -> None:
    found = check({"local": 3}, place.workspace, {}, {})
    assert found.job is not None
    assert (found.job.model, found.job.clients, found.job.local) == ("net.keras", 3, 3)
    assert found.job.threads is not None


def test_settings_of_the_server_are_defaults_where_they_are_shown() -> None:
    defaults = {"data": "keras", "dataset": "mnist", "dataset_args": "a=1", "rounds": 4, "alpha": 2.0, "data_": None}
    assert with_defaults({"data": "files"}, defaults) == {"data": "files"}
    assert with_defaults({"method": "federated"}, defaults)["rounds"] == 4
    assert with_defaults({}, defaults)["dataset"] == "mnist"
    assert with_defaults({"deal": "dirichlet"}, defaults)["alpha"] == 2.0
    assert with_defaults({"alpha": 3.0}, {})["alpha"] == 3.0, "what was given is not left out: it is refused"
    assert with_defaults({}, {"data": "arrays"}) == {}


def test_the_digits_are_offered_until_there_is_other_data(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.models.mkdir()
    (workspace.models / "net.keras").touch()
    found = check({"data": DIGITS}, workspace, {}, {})
    assert (found.job is not None, found.uses_digits) == (True, True)
    workspace.inputs.mkdir(parents=True)
    (workspace.inputs / "mine.csv").touch()
    assert codes(check({"data": DIGITS}, workspace, {}, {})) == {"data": "digits.other-files"}


def test_a_file_with_custom_objects_is_one_in_model(place: Place) -> None:
    (place.workspace.models / "mine.py").write_text("x = 1\n")
    found = checked(place, custom_objects="mine.py", optimizer="adam", loss="mse")
    assert [Path(file.path) for file in found.custom] == [place.workspace.models / "mine.py"]
    assert found.job is not None
    assert str((found.job.custom_objects or ("",))[0]).startswith("model/mine.py#sha256=")
    outside = place.workspace.root / "outside.py"
    outside.write_text("x = 1\n")
    for path in ("../outside.py", str(outside)):
        assert codes(checked(place, custom_objects=path)) == {"custom_objects": "custom.no-file"}


def test_an_error_belongs_to_the_field_whose_flag_it_names_first() -> None:
    assert key_of(InputError("(--min-clients) and (--clients)", "", "x")) == "min_clients"
    assert key_of(InputError("nothing", "Use --normalize-targets.", "x")) == "normalize_targets"
    assert key_of(InputError("nothing", "nothing", "x")) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*KEYS, "host", "?"]), JSON, max_size=12))
def test_whatever_is_sent_gets_sentences_and_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, raw: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "form"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "net.keras").touch()
    found = check(raw, Workspace(folder), {}, {})
    assert (found.job is None) == bool(found.errors)
    assert all(wrong.message and wrong.code for wrong in found.errors.values())
